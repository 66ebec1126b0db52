"""Everything that is set from outside: the environment, read once, checked as a whole.

A field's metadata is its documentation: what it is, and what is expected when it is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from graphnode.contract import object_keys, timeouts
from graphnode.contract.envelopes import NOTIFICATION_QUEUE, REQUEST_QUEUE, RESULT_QUEUE
from graphnode.errors import SettingsError

#: The prefix of this project's own settings; all other names are the existing deployment's.
OWN_PREFIX = "GRAPHNODE_"

#: The setting that has a queue's URL, by the queue's name.
QUEUE_URLS: Mapping[str, str] = {
    RESULT_QUEUE: "SQS_RESULT_QUEUE_URL",
    NOTIFICATION_QUEUE: "SQS_NOTIFICATION_QUEUE_URL",
    REQUEST_QUEUE: "SQS_REQUEST_QUEUE_URL",
}

#: Settings whose value is never shown.
SECRETS = frozenset(
    {"DATABASE_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "FIREBASE_CREDENTIALS_JSON", "SENTRY_DSN"}
)

#: Variables with our prefix that are read elsewhere: by the development stack, before there is a deployment.
FOREIGN_SETTINGS = frozenset({"GRAPHNODE_LOCALSTACK_PYTHON"})

Url = Annotated[str, Meta(pattern=r"^https?://[^\s/]+", description="a URL such as https://host:port")]
QueueUrl = Annotated[
    str,
    Meta(
        pattern=r"^https?://[^\s/]+/.*[A-Za-z0-9_-]+$",
        description="a queue's URL such as https://sqs.REGION.amazonaws.com/ACCOUNT/NAME",
    ),
]
DatabaseUrl = Annotated[
    str,
    Meta(
        pattern=r"^postgres(ql)?://\S+$",
        description="a PostgreSQL URL such as postgresql://user:password@host:5432/database",
    ),
]
AwsRegion = Annotated[str, Meta(pattern=r"^[a-z]{2,}(-[a-z]+)+-\d+$", description="an AWS region such as eu-central-1")]
LogFormat = Annotated[Literal["json", "console"], Meta(description="json or console")]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], Meta(description="debug, info, warning or error")]
Port = Annotated[int, Meta(ge=1, le=65_535, description="a port to serve health on (not set: it is not served)")]
Bucket = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="an S3 bucket's name")]
PollWait = Annotated[int, Meta(ge=1, le=20, description="1 to 20 seconds (how long a poll waits for messages)")]
PollGrace = Annotated[
    float, Meta(ge=0, le=30, description="0 to 30 seconds (how long a stop waits for the poll in progress)")
]
ShutdownTimeout = Annotated[
    float, Meta(ge=0, le=900, description="0 to 900 seconds (how long a stop waits for running messages)")
]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One deployment's settings. Own settings are named here without their prefix `GRAPHNODE_`."""

    database_url: DatabaseUrl
    aws_region: AwsRegion
    sqs_result_queue_url: QueueUrl
    sqs_notification_queue_url: QueueUrl
    s3_payload_bucket: Bucket
    sqs_request_queue_url: QueueUrl | None = None
    aws_endpoint_url: Url | None = None
    firebase_credentials_json: (
        Annotated[
            str,
            Meta(pattern=r"^\s*\{", description="a Firebase service account's key, the JSON text itself"),
        ]
        | None
    ) = None
    google_application_credentials: (
        Annotated[str, Meta(description="the path of a Firebase service account's key file")] | None
    ) = None
    sentry_dsn: (
        Annotated[
            str,
            Meta(
                pattern=r"^https?://[^\s@/]+@[^\s/]+/\S+$",
                description="a Sentry DSN such as https://KEY@HOST/PROJECT (where errors are reported)",
            ),
        ]
        | None
    ) = None

    visibility_timeout: Annotated[
        int, Meta(ge=2, le=43_200, description="2 to 43200 seconds (how long a message in hand stays ours)")
    ] = 60
    poll_wait: PollWait = 20
    poll_grace: PollGrace = 20.0
    shutdown_timeout: ShutdownTimeout = 25.0
    max_attempts: Annotated[
        int,
        Meta(ge=1, le=100, description="a number from 1 to 100 (attempts before a message is a dead letter)"),
    ] = 8
    backoff_min: Annotated[float, Meta(ge=0.1, le=900, description="0.1 to 900 seconds (the first back-off)")] = 5.0
    backoff_max: Annotated[
        float, Meta(ge=0.1, le=36_000, description="0.1 to 36000 seconds (the longest back-off)")
    ] = 900.0
    max_document_bytes: Annotated[
        int, Meta(ge=1024, description="a number of bytes, at least 1024 (the largest document that is decoded whole)")
    ] = 64 << 20
    max_features_bytes: Annotated[
        int, Meta(ge=1024, description="a number of bytes, at least 1024 (the largest features file that is streamed)")
    ] = 4 << 30
    document_memory: Annotated[
        int,
        Meta(
            ge=1 << 20, description="a number of bytes, at least 1048576 (for all big documents in a process at a time)"
        ),
    ] = 640 << 20
    push_max_age: Annotated[
        int,
        Meta(
            ge=1,
            le=2_419_200,
            description="1 to 2419200 seconds (how long a notification is news: older ones are not pushed)",
        ),
    ] = 86_400
    sweep_interval: Annotated[
        float, Meta(ge=0.1, le=3600, description="0.1 to 3600 seconds (between two looks for what is due)")
    ] = 30.0
    task_timeout: Annotated[
        str,
        Meta(
            pattern=timeouts.PATTERN,
            description="a duration such as 2h, 90m or 1d, and others for single types: 2h,ADD_NODE=30m "
            "(after so long without news a task has failed)",
        ),
    ] = "2h"
    s3_allowed_prefixes: (
        Annotated[
            str,
            Meta(
                pattern=object_keys.PATTERN,
                description="prefixes of S3 keys, each with / at its end, such as graph/{user_id}/,summary/{user_id}/ "
                "(a result that names another key is refused; not set: it may name any)",
            ),
        ]
        | None
    ) = None
    health_port: Port | None = None
    fcm_endpoint: Annotated[Url, Meta(description="a URL such as https://host:port (in place of FCM's own)")] | None = (
        None
    )
    log_format: LogFormat = "json"
    log_level: LogLevel = "info"

    def __repr__(self) -> str:
        """Never the values: some are secrets, and a repr ends up in logs."""
        return "Settings(…)"


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How log lines look, for what is told before all settings are read."""

    log_format: LogFormat = "json"
    log_level: LogLevel = "info"


class RequestSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to make requests of the AI server: less than a worker needs, for the API server is none."""

    database_url: DatabaseUrl
    aws_region: AwsRegion
    sqs_request_queue_url: QueueUrl
    aws_endpoint_url: Url | None = None

    __repr__ = Settings.__repr__


class PushSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to send pushes; without credentials none are sent."""

    firebase_credentials_json: str | None = None
    google_application_credentials: str | None = None
    fcm_endpoint: str | None = None

    __repr__ = Settings.__repr__


class HealthSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to ask a worker how it is."""

    health_port: Port | None = None


class UploadSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to put a request's input into the payload bucket."""

    aws_region: AwsRegion
    s3_payload_bucket: Bucket
    aws_endpoint_url: Url | None = None


class AiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the stand-in for the AI server needs: no database."""

    aws_region: AwsRegion
    sqs_request_queue_url: QueueUrl
    sqs_result_queue_url: QueueUrl
    s3_payload_bucket: Bucket
    aws_endpoint_url: Url | None = None
    poll_wait: PollWait = 20
    poll_grace: PollGrace = 20.0
    shutdown_timeout: ShutdownTimeout = 25.0
    log_format: LogFormat = "json"
    log_level: LogLevel = "info"

    __repr__ = Settings.__repr__


#: Fields that carry the existing deployment's names, as they stand; the others take OWN_PREFIX.
DEPLOYMENT_NAMES = frozenset(
    {
        "database_url",
        "aws_region",
        "sqs_result_queue_url",
        "sqs_notification_queue_url",
        "sqs_request_queue_url",
        "s3_payload_bucket",
        "aws_endpoint_url",
        "firebase_credentials_json",
        "google_application_credentials",
        "sentry_dsn",
    }
)


def environment_name(field: str) -> str:
    """The environment variable of a field of Settings."""
    return field.upper() if field in DEPLOYMENT_NAMES else OWN_PREFIX + field.upper()


@cache
def settings() -> Settings:
    """This process's settings, read at the first call. Raises SettingsError."""
    return read_settings(os.environ)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read and check all settings; an empty variable counts as one that is not set.

    Raises SettingsError that names every fault at once: the variable, what was given, what is expected.
    """
    values, faults = examine_settings(environment)
    _refuse(faults)
    return Settings(**values)


def examine_settings(environment: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The settings that are right, by field, and a sentence for each fault; it begins with the variable's name."""
    values, faults = _read(environment, Settings)
    known = {environment_name(field.name) for field in msgspec.structs.fields(Settings)}
    faults += [
        f"{name} is not a setting of this program: correct the name or unset it."
        for name in sorted(environment)
        if name.startswith(OWN_PREFIX) and name not in known | FOREIGN_SETTINGS
    ]
    return values, faults


def read_log_settings(environment: Mapping[str, str]) -> LogSettings:
    """Read how log lines look. A value that is wrong is the default here: to tell that takes logs."""
    values, _ = _read(environment, LogSettings)
    return LogSettings(**values)


def read_request_settings(environment: Mapping[str, str]) -> RequestSettings:
    """Read and check the settings of a process that makes requests, as `read_settings` does a worker's."""
    values, faults = _read(environment, RequestSettings)
    _refuse(faults)
    return RequestSettings(**values)


def read_upload_settings(environment: Mapping[str, str]) -> UploadSettings:
    """Read and check the settings of a process that puts inputs into S3, as `read_settings` does a worker's."""
    values, faults = _read(environment, UploadSettings)
    _refuse(faults)
    return UploadSettings(**values)


def read_ai_settings(environment: Mapping[str, str]) -> AiSettings:
    """Read and check the settings of the stand-in for the AI server, as `read_settings` does a worker's."""
    values, faults = _read(environment, AiSettings)
    _refuse(faults)
    return AiSettings(**values)


def read_health_settings(environment: Mapping[str, str]) -> HealthSettings:
    """Read and check the settings of a process that asks for a worker's health, as `read_settings` does a worker's."""
    values, faults = _read(environment, HealthSettings)
    _refuse(faults)
    return HealthSettings(**values)


def _read(environment: Mapping[str, str], kind: type[msgspec.Struct]) -> tuple[dict[str, Any], list[str]]:
    """The values of a struct's fields, and what is wrong with those that have none."""
    values: dict[str, Any] = {}
    faults: list[str] = []
    for field in msgspec.structs.fields(kind):
        name = environment_name(field.name)
        given = environment.get(name, "").strip()
        if not given:
            if field.required:
                faults.append(f"{name} is missing: set it to {expected_of(field.type)}.")
            continue
        try:
            values[field.name] = msgspec.convert(given, field.type, strict=False)
        except msgspec.ValidationError:
            shown = "a value that is not shown here" if name in SECRETS else repr(given)
            faults.append(f"{name} is {shown}; expected {expected_of(field.type)}.")
    return values, faults


def _refuse(faults: list[str]) -> None:
    if faults:
        count = "1 setting is wrong" if len(faults) == 1 else f"{len(faults)} settings are wrong"
        raise SettingsError(f"{count}:\n" + "\n".join(f"  - {fault}" for fault in faults))


def expected_of(kind: Any) -> str:
    """What the metadata of a field's type say is expected; of a union, what its first member says."""
    metadata = getattr(kind, "__metadata__", ())
    for meta in metadata:
        if isinstance(meta, Meta) and meta.description:
            return meta.description
    return expected_of(kind.__args__[0])
