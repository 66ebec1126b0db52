"""All the checks of a deployment, and what each of them needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from graphnode.errors import OutageError, sorted_error
from graphnode.operations.doctor import aws, bucket, clocks, database, environment, firebase, queues
from graphnode.operations.doctor.examination import TIMEOUT_S, Check, examine
from graphnode.operations.doctor.findings import Finding, without
from graphnode.settings import PushSettings, Settings, environment_name, examine_settings
from graphnode.storage.database import close_database, open_database

#: The database's connections: its own check's and the clock's.
CONNECTIONS = 2

#: Failures after which a worker gives a message up, unless it is set.
MAX_ATTEMPTS = 8


def examine_deployment(
    variables: Mapping[str, str],
    *,
    processes: int | None = None,
    threads: int | None = None,
    timeout_s: float = TIMEOUT_S,
) -> list[Finding]:
    """Look at everything that a worker with this environment needs.

    Parameters:
      variables: the environment.
      processes, threads: of the worker, as `dramatiq` is told: their connections are compared with the database's.
      timeout_s: what a check has.
    """
    values, faults = examine_settings(variables, Settings)
    # Of a few variables, an empty one is none: boto3 would take it as given.
    given = {name: value for name, value in variables.items() if value.strip()}
    if "database_url" in values:
        try:
            open_database(values["database_url"], max_connections=CONNECTIONS)
        except Exception as error:
            faults.append(f"DATABASE_URL: {sorted_error(error)}")
            del values["database_url"]
    try:
        checks = _checks(values, faults, given, processes=processes, threads=threads)
        return without(examine(checks, timeout_s=timeout_s), environment.secrets_of(variables))
    finally:
        close_database()


def _checks(
    values: Mapping[str, Any],
    faults: list[str],
    variables: Mapping[str, str],
    *,
    processes: int | None,
    threads: int | None,
) -> list[Check]:
    region = values.get("aws_region", "")
    max_attempts = values.get("max_attempts", MAX_ATTEMPTS)

    def queue(subject: str, field: str, actions: tuple[str, ...]) -> Check:
        def look() -> list[Finding]:
            return queues.look_at_queue(
                aws.sqs_client(variables),
                subject,
                values[field],
                region=region,
                actions=actions,
                max_attempts=max_attempts,
            )

        return Check(subject, look, needs=("AWS credentials",), lacks=_lacks(values, field, "aws_region"))

    consumer, both = queues.CONSUMER_ACTIONS, queues.CONSUMER_ACTIONS + queues.SENDER_ACTIONS
    checks = [
        Check(environment.SUBJECT, lambda: environment.judge_settings(values, faults)),
        Check(
            database.SUBJECT,
            lambda: database.look_at_database(values["database_url"], processes=processes, threads=threads),
            lacks=_lacks(values, "database_url"),
        ),
        Check("AWS credentials", lambda: aws.find_credentials(variables)),
        queue("result queue", "sqs_result_queue_url", consumer),
        queue("notification queue", "sqs_notification_queue_url", both),
    ]
    if "sqs_request_queue_url" in values:
        checks.append(
            Check(
                "request queue",
                lambda: queues.look_at_request_queue(
                    aws.sqs_client(variables), "request queue", values["sqs_request_queue_url"], region=region
                ),
                needs=("AWS credentials",),
                lacks=_lacks(values, "aws_region"),
            )
        )
    push, _ = examine_settings(variables, PushSettings)
    return [
        *checks,
        Check(
            bucket.SUBJECT,
            lambda: bucket.look_at_bucket(aws.s3_client(variables), values["s3_payload_bucket"], region=region),
            needs=("AWS credentials",),
            lacks=_lacks(values, "s3_payload_bucket", "aws_region"),
        ),
        Check(firebase.SUBJECT, lambda: firebase.look_at_firebase(PushSettings(**push))),
        Check(clocks.SUBJECT, lambda: clocks.judge_clocks(_skews(values, variables))),
    ]


def _lacks(values: Mapping[str, Any], *fields: str) -> str:
    lacking = [environment_name(field) for field in fields if field not in values]
    return f"{' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} missing or wrong" if lacking else ""


def _skews(values: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, timedelta]:
    """How far this machine's clock is ahead, by whoever tells the time. Why one does not is its own check's to say."""
    found: dict[str, timedelta] = {}
    if values.get("aws_region"):
        if "s3_payload_bucket" in values:
            s3 = aws.s3_client(variables)
            _note(found, "S3", lambda: s3.head_bucket(Bucket=values["s3_payload_bucket"]))
        if "sqs_result_queue_url" in values:
            sqs = aws.sqs_client(variables)
            _note(found, "SQS", lambda: sqs.get_queue_attributes(QueueUrl=values["sqs_result_queue_url"]))
    if "database_url" in values:
        try:
            found["the database"] = database.ask_skew()
        except Exception as error:
            if not isinstance(sorted_error(error), OutageError):
                raise
    return found


def _note(found: dict[str, timedelta], name: str, ask: Callable[[], Any]) -> None:
    date = None
    with suppress(BotoCoreError):
        try:
            date = aws.date_of(ask())
        except ClientError as error:
            # A refusal has its time, too.
            date = aws.date_of(error.response)
    if skew := clocks.skew_of(date, asked_at=datetime.now(UTC)):
        found[name] = skew
