"""All the checks of a deployment, and what each of them needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from graphnode.clients.aws import QUICK, Aws
from graphnode.errors import ServiceFault, classify_error
from graphnode.operations.doctor import (
    aws_answers,
    bucket_check,
    clock_check,
    database_check,
    firebase_check,
    queue_check,
    settings_check,
    spool_check,
    workers_check,
)
from graphnode.operations.doctor.checks import TIMEOUT_S, Check, run_checks
from graphnode.operations.doctor.findings import Finding, with_place, without_secrets
from graphnode.settings import FIELDS, PushSettings, Settings, environment_name, examine_settings
from graphnode.storage.database import close_database, open_database


def examine_deployment(
    variables: Mapping[str, str],
    *,
    processes: int | None = None,
    threads: int | None = None,
    timeout_s: float = TIMEOUT_S,
    on_slow: Callable[[list[str]], None] = lambda _names: None,
) -> list[Finding]:
    """Check everything that a worker with this environment needs.

    Parameters:
      variables: the environment.
      processes, threads: of the worker, as `dramatiq` takes them: their connections are compared with the database's.
      timeout_s: seconds that each check may take.
      on_slow: called with the names of checks that take long.
    """
    values, faults = examine_settings(variables, Settings)
    # boto3 would take an empty variable as a value.
    given = {name: value for name, value in variables.items() if value.strip()}
    if "database_url" in values:
        try:
            open_database(values["database_url"])
        except Exception as error:
            faults.append(f"DATABASE_URL: {classify_error(error)}")
            del values["database_url"]
    try:
        checks = _checks(values, faults, given, processes=processes, threads=threads)
        found = with_place(
            run_checks(checks, timeout_s=timeout_s, on_slow=on_slow),
            region=values.get("aws_region"),
            endpoint_url=values.get("aws_endpoint_url"),
        )
        return without_secrets(found, settings_check.secrets_of(variables))
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
    # A wrong address is not called: the error would quote it. AWS's own is another deployment.
    has_address = "AWS_ENDPOINT_URL" not in variables or "aws_endpoint_url" in values
    aws = Aws.of_environment(variables, limits=QUICK)

    max_attempts = values.get("max_attempts", FIELDS["max_attempts"].default)

    def queue(subject: str, field: str, actions: tuple[str, ...]) -> Check:
        def check() -> list[Finding]:
            return queue_check.check_queue(
                aws.sqs(),
                subject,
                values[field],
                region=region,
                actions=actions,
                max_attempts=max_attempts,
            )

        name = subject.removesuffix(" queue")
        return Check(
            subject,
            check,
            needs=("AWS credentials",),
            missing=_missing(values, field, "aws_region"),
            covers=(f"{name} rights", f"{name} DLQ"),
        )

    checks = [
        Check(settings_check.SUBJECT, lambda: settings_check.judge_settings(values, faults, variables)),
        Check(
            database_check.SUBJECT,
            lambda: database_check.check_database(values["database_url"], processes=processes, threads=threads),
            missing=_missing(values, "database_url"),
            covers=database_check.FURTHER_SUBJECTS,
        ),
        Check(
            workers_check.SUBJECT,
            workers_check.check_workers,
            needs=(database_check.SUBJECT,),
            missing=_missing(values, "database_url"),
        ),
        Check(
            "AWS credentials",
            lambda: aws_answers.find_credentials(variables),
            missing="" if has_address else "AWS_ENDPOINT_URL is wrong",
        ),
        queue("result queue", "sqs_result_queue_url", queue_check.CONSUMER_ACTIONS),
        Check(
            "request queue",
            lambda: queue_check.check_request_queue(
                aws.sqs(), "request queue", values["sqs_request_queue_url"], region=region, max_attempts=max_attempts
            ),
            needs=("AWS credentials",),
            missing=_missing(values, "sqs_request_queue_url", "aws_region"),
        ),
    ]
    push, _ = examine_settings(variables, PushSettings)
    return [
        *checks,
        Check(
            bucket_check.SUBJECT,
            lambda: bucket_check.check_bucket(aws.s3(), values["s3_payload_bucket"], region=region),
            needs=("AWS credentials",),
            missing=_missing(values, "s3_payload_bucket", "aws_region"),
        ),
        Check(
            spool_check.SUBJECT,
            lambda: spool_check.check_spool(
                values.get("spool_dir"),
                max_features_bytes=values.get("max_features_bytes", FIELDS["max_features_bytes"].default),
            ),
        ),
        Check(firebase_check.SUBJECT, lambda: firebase_check.check_firebase(PushSettings(**push))),
        Check(clock_check.SUBJECT, lambda: clock_check.judge_clocks(_skews(values, aws if has_address else None))),
    ]


def _missing(values: Mapping[str, Any], *fields: str) -> str:
    missing = [environment_name(field) for field in fields if field not in values]
    return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing or wrong" if missing else ""


def _skews(values: Mapping[str, Any], aws: Aws | None) -> dict[str, timedelta]:
    """How far this machine's clock is ahead of each service's. Services that do not answer have their own checks."""
    found: dict[str, timedelta] = {}
    if aws and values.get("aws_region"):
        if "s3_payload_bucket" in values:
            s3 = aws.s3()
            _add_skew(found, "S3", lambda: s3.head_bucket(Bucket=values["s3_payload_bucket"]))
        if "sqs_result_queue_url" in values:
            sqs = aws.sqs()
            _add_skew(found, "SQS", lambda: sqs.get_queue_attributes(QueueUrl=values["sqs_result_queue_url"]))
    if "database_url" in values:
        try:
            found["the database"] = database_check.ask_skew()
        except Exception as error:
            if not isinstance(classify_error(error), ServiceFault):
                raise
    return found


def _add_skew(found: dict[str, timedelta], service: str, ask: Callable[[], Any]) -> None:
    date = None
    with suppress(BotoCoreError):
        try:
            date = aws_answers.date_of(ask())
        except ClientError as error:
            # A refusal has a date, too.
            date = aws_answers.date_of(error.response)
    if skew := clock_check.skew_of(date, asked_at=datetime.now(UTC)):
        found[service] = skew
