"""What a check has found."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from enum import IntEnum

import msgspec


class Severity(IntEnum):
    """How bad a finding is; the worst one is the exit code."""

    FINE = 0
    UNCHECKED = -1
    WARNING = 1
    BROKEN = 2


class Finding(msgspec.Struct, frozen=True):
    """One thing that a check has found.

    Parameters:
      subject: what was checked, in a few words.
      severity: how bad it is.
      what: what was found, in one sentence.
      why: its consequence or its cause.
      mend: the commands, SQL statement or IAM statement that repair it; a command a line.
    """

    subject: str
    severity: Severity
    what: str
    why: str = ""
    mend: str = ""


def fine(subject: str, what: str) -> Finding:
    """A finding that nothing is wrong."""
    return Finding(subject, Severity.FINE, what)


def unchecked(subject: str, what: str) -> Finding:
    """A finding that the subject could not be checked."""
    return Finding(subject, Severity.UNCHECKED, what)


def warning(subject: str, what: str, *, why: str = "", mend: str = "") -> Finding:
    """A finding that the worker works, but not as well as it could, or not for ever."""
    return Finding(subject, Severity.WARNING, what, why, mend)


def broken(subject: str, what: str, *, why: str = "", mend: str = "") -> Finding:
    """A finding that the worker does not start, or cannot do part of its work."""
    return Finding(subject, Severity.BROKEN, what, why, mend)


def worst(findings: Iterable[Finding]) -> Severity:
    """The worst severity. UNCHECKED does not count: what prevented the check is a finding of its own."""
    return max((finding.severity for finding in findings if finding.severity > 0), default=Severity.FINE)


def without_secrets(findings: Iterable[Finding], secrets: Iterable[str]) -> list[Finding]:
    """The same findings with `***` for each secret, also where a library has put it into a text."""
    hidden = sorted({secret for secret in secrets if len(secret) > 3}, key=len, reverse=True)

    def clean(text: str) -> str:
        for secret in hidden:
            text = text.replace(secret, "***")
        return text

    return [
        msgspec.structs.replace(found, what=clean(found.what), why=clean(found.why), mend=clean(found.mend))
        for found in findings
    ]


def with_place(findings: Iterable[Finding], *, region: str | None, endpoint_url: str | None) -> list[Finding]:
    """The same findings; each `aws` command in them names the region and the endpoint that were checked.

    Parameters:
      endpoint_url: a server in place of AWS's own; None without one.
    """
    options = {"--region": region, "--endpoint-url": endpoint_url}

    def place(line: str) -> str:
        if not line.startswith("aws "):
            return line
        missing = [word for name, value in options.items() if value and name not in line for word in (name, value)]
        return f"{line} {command(*missing)}" if missing else line

    return [msgspec.structs.replace(found, mend="\n".join(map(place, found.mend.split("\n")))) for found in findings]


def command(*words: str) -> str:
    """A command line; each word is quoted as the shell needs it."""
    return shlex.join(words)


def statement(actions: Iterable[str], *resources: str) -> str:
    """An IAM statement that allows these actions, to add to the worker's policy."""
    allowed = {
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": resources[0] if len(resources) == 1 else resources,
    }
    return msgspec.json.format(msgspec.json.encode(allowed), indent=0).decode()
