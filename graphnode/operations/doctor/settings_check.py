"""The settings: all faults at once, and right values that do not fit together."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from psycopg2 import ProgrammingError
from psycopg2.extensions import parse_dsn

from graphnode.operations.doctor.aws_answers import region_of
from graphnode.operations.doctor.findings import Finding, broken, command, fine, warning
from graphnode.settings import FIELDS, QUEUE_URLS, SECRETS, UNUSED_QUEUE

#: Seconds of visibility below which one slow call to SQS loses the messages in flight: twice the calls' timeout.
SHORTEST_VISIBILITY_S = 20

SUBJECT = "settings"


def judge_settings(
    values: Mapping[str, Any], faults: list[str], variables: Mapping[str, str] = MappingProxyType({})
) -> list[Finding]:
    """What is wrong with the settings.

    Parameters:
      values: the right values that are set, by field; defaults are not among them.
      faults: a sentence for each wrong or missing one; it begins with the variable's name.
      variables: the environment.
    """
    found = [broken(SUBJECT, fault, mend=_mend(fault)) for fault in faults]
    found += _judge_queues(values)
    if 0 < values.get("visibility_timeout", 0) < SHORTEST_VISIBILITY_S:
        found.append(
            warning(
                SUBJECT,
                f"GRAPHNODE_VISIBILITY_TIMEOUT is {values['visibility_timeout']} s",
                why="During one slow call to SQS the messages in flight become visible: they are handled twice.",
                mend="export GRAPHNODE_VISIBILITY_TIMEOUT=60",
            )
        )
    if variables.get(UNUSED_QUEUE):
        found.append(
            warning(
                SUBJECT,
                f"{UNUSED_QUEUE} is set, and nothing reads it",
                why="Pushes leave from the table notifications. Only workers of release 0.1.0 use that queue.",
                mend=f"unset {UNUSED_QUEUE}  # when they are gone, and delete the queue: its messages are harmless",
            )
        )
    shortest, longest = (values.get(name, FIELDS[name].default) for name in ("backoff_min", "backoff_max"))
    if shortest > longest:
        found.append(
            warning(
                SUBJECT,
                f"GRAPHNODE_BACKOFF_MIN ({shortest:g} s) is over GRAPHNODE_BACKOFF_MAX ({longest:g} s)",
                why="No retry waits longer than the longest back-off: the back-off does not grow.",
                mend=f"export GRAPHNODE_BACKOFF_MAX={shortest:g}",
            )
        )
    return found or [fine(SUBJECT, f"{len(values)} set, all right")]


def secrets_of(environment: Mapping[str, str]) -> set[str]:
    """Texts that no output may contain: the values of secret variables, and the database's password."""
    hidden = {environment.get(name, "") for name in SECRETS | {"AWS_SESSION_TOKEN"}}
    password = ""
    # Of a malformed URL nothing but the whole is known. The settings refuse it without showing it.
    with suppress(ProgrammingError):
        password = parse_dsn(environment.get("DATABASE_URL", "")).get("password", "")
    return (hidden | {password, quote(password, safe="")}) - {""}


def _judge_queues(values: Mapping[str, Any]) -> list[Finding]:
    found = []
    given = {name: url for name in QUEUE_URLS.values() if (url := values.get(name.lower()))}
    for name, url in given.items():
        region = region_of(url)
        if region and values.get("aws_region") not in (None, region):
            found.append(
                broken(
                    SUBJECT,
                    f"{name} is a queue in {region}, AWS_REGION is {values['aws_region']}",
                    why="SQS refuses calls that are signed for another region.",
                    mend=command("export", f"AWS_REGION={region}"),
                )
            )
    return found


def _mend(fault: str) -> str:
    name = fault.split(" ", 1)[0]
    return f"unset {name}" if "is not a setting" in fault else f"export {name}=…"
