"""Everything that is set from outside: the environment, read once, all faults reported together.

A setting is one field of `Settings`. Its type says which values are right, and what is expected where one is wrong. The
text below it goes to docs/settings.md: first what the setting does, then when to set it, and to what.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, field
from msgspec.structs import FieldInfo, fields

from graphnode.contract import object_keys, timeouts
from graphnode.contract.envelopes import REQUEST_QUEUE, RESULT_QUEUE
from graphnode.errors import SettingsError

#: The prefix of this project's own settings; the other names are the existing deployment's.
OWN_PREFIX = "GRAPHNODE_"

#: The setting that has a queue's URL, by the queue's name.
QUEUE_URLS: Mapping[str, str] = {
    RESULT_QUEUE: "SQS_RESULT_QUEUE_URL",
    REQUEST_QUEUE: "SQS_REQUEST_QUEUE_URL",
}

#: Variables whose value is never shown.
SECRETS = frozenset(
    {
        "DATABASE_URL",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "FIREBASE_CREDENTIALS_JSON",
        "SENTRY_DSN",
        "GRAPHNODE_CONSOLE_TOKEN",
        "GRAPHNODE_CONSOLE_VIEWER_TOKEN",
    }
)

#: Release 0.1.0 put the IDs of notifications to push on this queue.
UNUSED_QUEUE = "SQS_NOTIFICATION_QUEUE_URL"

#: Variables that this program does not read itself, or only on a developer's machine: who reads them, and what for.
OTHERS: Mapping[str, str] = {
    "AWS_ACCESS_KEY_ID": "boto3: credentials. Prefer a role of the machine or the task, which needs no variable",
    "AWS_SECRET_ACCESS_KEY": "boto3: the same",
    "AWS_SESSION_TOKEN": "boto3: the same, for temporary credentials",
    "AWS_SHARED_CREDENTIALS_FILE": (
        "boto3: a file of credentials in place of `~/.aws/credentials`. It may be rotated while workers run"
    ),
    UNUSED_QUEUE: "workers of release 0.1.0 ([upgrading.md](upgrading.md)). Nothing reads it any more",
    "dramatiq_prom_port": "the worker: switches metrics on ([metrics.md](metrics.md#scraping))",
    "dramatiq_prom_host": "the worker: the address on which they are served; default 127.0.0.1, for this machine only",
    "dramatiq_prom_db": "the worker: the directory that the processes of a command share for them",
    "OTEL_EXPORTER_OTLP_ENDPOINT": (
        "OpenTelemetry: switches traces on ([metrics.md](metrics.md#traces)); so does "
        "`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`. Its other variables work as well"
    ),
    "SENTRY_ENVIRONMENT": "Sentry's SDK: the environment that its reports name",
    "GRAPHNODE_ENV_FILE": "`graphnode`'s commands: a file of settings, in place of `--env-file`",
    "GRAPHNODE_LOCALSTACK_PYTHON": (
        "`graphnode dev` and `demo`: the Python of LocalStack's environment, where `make install` has not made it"
    ),
}

#: A URL's host and port. A raw @ or / in a password would end it early, and a part of the password would be the host.
HOST = r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s@/?#:\[\],]+)(?::\d{1,5})?"

#: The same for libpq, which takes several, each may be empty; and user and password before it, percent-encoded.
#: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
DATABASE_HOST = r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s@/?#:\[\],]*)(?::\d{0,5})?"
DATABASE_USER = r"(?:[^\s@/%]|%[0-9A-Fa-f]{2})*"

DatabaseUrl = Annotated[
    str,
    Meta(
        pattern=(
            rf"^postgres(?:ql)?://(?:{DATABASE_USER}@)?{DATABASE_HOST}(?:,{DATABASE_HOST})*"
            r"(?:/[^\s@/?#]*)?(?:\?[^\s@#]*)?$"
        ),
        description="a PostgreSQL URL such as postgresql://user:password@host:5432/database "
        "(in user and password, @ is written %40, / is %2F and % is %25)",
    ),
]
AwsRegion = Annotated[str, Meta(pattern=r"^[a-z]{2,}(-[a-z]+)+-\d+$", description="an AWS region such as eu-central-1")]
Bucket = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="an S3 bucket's name")]
Url = Annotated[
    str,
    Meta(
        pattern=rf"^https?://{HOST}(?:[/?#][^\s@]*)?$",
        description="a URL such as https://host:port (without user and password)",
    ),
]
QueueUrl = Annotated[
    str,
    Meta(
        pattern=rf"^https?://{HOST}/[^\s@]*[A-Za-z0-9_-]+$",
        description="a queue's URL such as https://sqs.REGION.amazonaws.com/ACCOUNT/NAME",
    ),
]
FcmUrl = Annotated[Url, Meta(description="a URL such as https://host:port (in place of FCM's own)")]
FirebaseKey = Annotated[
    str, Meta(pattern=r"^\s*\{", description="a Firebase service account's key, the JSON text itself")
]
KeyFile = Annotated[str, Meta(description="the path of a Firebase service account's key file")]
SpoolDirectory = Annotated[
    str, Meta(pattern=r"^/", description="an absolute path of a directory (not set: the system's temporary directory)")
]
KeyPrefixes = Annotated[
    str,
    Meta(
        pattern=object_keys.PATTERN,
        description="prefixes of S3 keys, each with / at its end, such as graph/{user_id}/,summary/{user_id}/ "
        "(a result that names another key is refused; not set: it may name any)",
    ),
]
Port = Annotated[int, Meta(ge=1, le=65_535, description="a port to serve health on (not set: it is not served)")]
Address = Annotated[
    str,
    Meta(
        pattern=r"^[0-9A-Za-z.:-]+$",
        description="an IP address or a host's name (127.0.0.1: for this machine only; 0.0.0.0: for all networks)",
    ),
]
SentryDsn = Annotated[
    str,
    Meta(
        pattern=rf"^https?://[^\s@/]+@{HOST}/[^\s@]+$",
        description="a Sentry DSN such as https://KEY@HOST/PROJECT (where errors are reported)",
    ),
]
RegisteredOnly = Annotated[
    bool, Meta(description="true or false (whether results of tasks that nobody has registered are refused)")
]
TaskTimeout = Annotated[
    str,
    Meta(
        pattern=timeouts.PATTERN,
        description="a duration such as 2h, 90m or 1d, and others for single types: 2h,ADD_NODE=30m "
        "(after so long without news a task has failed)",
    ),
]

ConsoleToken = Annotated[
    str, Meta(pattern=r"^\S{16,}$", description="16 characters or more, such as `openssl rand -hex 24` makes")
]
HeaderName = Annotated[
    str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9-]*$", description="an HTTP header's name, such as X-Forwarded-Email")
]
Networks = Annotated[
    str,
    Meta(
        pattern=r"^[0-9A-Fa-f.:/]+(?:,[0-9A-Fa-f.:/]+)*$",
        description="addresses or networks, such as 10.0.0.7,10.1.0.0/16",
    ),
]
Names = Annotated[
    str, Meta(pattern=r"^[^\s,]+(?:,[^\s,]+)*$", description="names with commas between them, such as ada,grace")
]
HostNames = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z0-9.-]+(?:,[A-Za-z0-9.-]+)*$", description="host names, such as console.example.com"),
]


class ProcessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that one kind of process reads: some of the fields of `Settings`, which says how each is checked."""

    def __repr__(self) -> str:
        """Never the values: some are secrets, and a repr ends up in logs."""
        return f"{type(self).__name__}(…)"


class Settings(ProcessSettings, frozen=True, kw_only=True, rename=lambda name: OWN_PREFIX + name.upper()):
    """A worker's settings, in the order of docs/settings.md. The other kinds of process read a part of them."""

    database_url: DatabaseUrl = field(name="DATABASE_URL")
    """PostgreSQL, where results are stored. A process has a connection for each thread, and four more at most.

    Give the worker a database user of its own, in the role `graphnode_worker` ([security.md](security.md)), and set
    `sslmode=verify-full` where the network is not yours. Percent-encode user and password
    ([security.md](security.md#secrets)). Behind PgBouncer, leave out `options=` ([scale.md](scale.md#pgbouncer)).
    """

    aws_region: AwsRegion = field(name="AWS_REGION")
    """The region of the queues and of the bucket.

    To their region, wherever the worker runs; `graphnode doctor` finds a queue in another region. See also
    `AWS_ENDPOINT_URL`.
    """

    aws_endpoint_url: Url | None = field(default=None, name="AWS_ENDPOINT_URL")
    """A server for SQS and S3 in place of AWS's own.

    For LocalStack. Leave it unset in production. See also `AWS_REGION`.
    """

    sqs_result_queue_url: QueueUrl = field(name="SQS_RESULT_QUEUE_URL")
    """The queue on which the AI server announces its results: a standard queue that has a dead-letter queue.

    Its `maxReceiveCount` should be three times `GRAPHNODE_MAX_ATTEMPTS` or more
    ([broker.md](broker.md#what-can-be-set)).
    """

    sqs_request_queue_url: QueueUrl | None = field(default=None, name="SQS_REQUEST_QUEUE_URL")
    """The queue of requests for the AI server. A worker does not use it: `graphnode request` and the API server write
    to it, the stand-in AI server reads it, `graphnode status`, `doctor` and `dlq` look at it.

    Where these commands run. It must not be the result queue.
    """

    s3_payload_bucket: Bucket = field(name="S3_PAYLOAD_BUCKET")
    """The bucket of the documents that results name.

    Documents are read from this bucket, whatever bucket a result names. See also `GRAPHNODE_S3_ALLOWED_PREFIXES`.
    """

    visibility_timeout: Annotated[
        int, Meta(ge=2, le=43_200, description="2 to 43200 seconds (how long a message in flight stays ours)")
    ] = 60
    """How long SQS hides a message in flight from other receivers. The heartbeat extends it before half of it is over;
    the messages of a killed worker come back within it.

    Longer where SQS often answers slowly. Below 20 seconds, one slow call is enough to lose the messages in flight to
    another receiver. See also `GRAPHNODE_MAX_ATTEMPTS`.
    """

    poll_wait: Annotated[int, Meta(ge=1, le=20, description="1 to 20 seconds (how long a poll waits for messages)")] = (
        20
    )
    """How long SQS keeps a poll open when there are no messages.

    Leave it at SQS's maximum: shorter polls mean more calls, and each call costs money. 1 makes stops quick while you
    develop. See also `GRAPHNODE_POLL_GRACE`.
    """

    poll_grace: Annotated[
        float, Meta(ge=0, le=30, description="0 to 30 seconds (how long a stop waits for the poll in progress)")
    ] = 20.0
    """How long a stop waits for a poll in progress. SQS may have given it messages already; without the wait they would
    be hidden for a whole visibility timeout.

    Keep it at `GRAPHNODE_POLL_WAIT` or more. What sends SIGTERM must wait longer than this and
    `GRAPHNODE_SHUTDOWN_TIMEOUT` together before SIGKILL: ECS's `stopTimeout`, Compose's `stop_grace_period`.
    """

    shutdown_timeout: Annotated[
        float, Meta(ge=0, le=570, description="0 to 570 seconds (how long a stop waits for running messages)")
    ] = 25.0
    """How long a stop waits for running messages. After that they are interrupted and go back to their queue at once;
    no attempt is counted.

    Longer where big graphs are stored; [deploy/cloudformation.yml](../deploy/cloudformation.yml) sets 90 seconds. See
    also `GRAPHNODE_POLL_GRACE`.
    """

    max_attempts: Annotated[
        int, Meta(ge=1, le=100, description="a number from 1 to 100 (attempts before a message is a dead letter)")
    ] = 8
    """After so many failed attempts a message becomes a dead letter. Deliveries that a stop or an outage gave back do
    not count; after a permanent error it becomes one at once.

    Higher where a document may reach S3 long after its message. Raise the queues' `maxReceiveCount` with it. See also
    `GRAPHNODE_BACKOFF_MIN` and `GRAPHNODE_BACKOFF_MAX`.
    """

    backoff_min: Annotated[float, Meta(ge=0.1, le=900, description="0.1 to 900 seconds (the first back-off)")] = 5.0
    """The longest back-off after the first failed attempt; it doubles with each further one. The real back-off is a
    random time up to it, so that retries spread out. Pushes that FCM refuses are retried the same way.

    Seldom. A much shorter one uses up the attempts before the fault has healed. See also `GRAPHNODE_BACKOFF_MAX` and
    `GRAPHNODE_MAX_ATTEMPTS`.
    """

    backoff_max: Annotated[
        float, Meta(ge=0.1, le=36_000, description="0.1 to 36000 seconds (the longest back-off)")
    ] = 900.0
    """No back-off is longer. Eight attempts that begin with 5 seconds do not reach it.

    With more attempts, to have them at least this often. See also `GRAPHNODE_BACKOFF_MIN` and `GRAPHNODE_MAX_ATTEMPTS`.
    """

    max_document_bytes: Annotated[
        int, Meta(ge=1024, description="a number of bytes, at least 1024 (the largest document that is decoded whole)")
    ] = 64 << 20
    """A larger document is not read, and its message becomes a dead letter (`DOCUMENT_TOO_LARGE`). For a compressed
    document both sizes count, stored and unpacked.

    Higher when such dead letters are valid results, with `GRAPHNODE_DOCUMENT_MEMORY`, which limits them by what is in
    them. See also `GRAPHNODE_MAX_FEATURES_BYTES`.
    """

    max_features_bytes: Annotated[
        int, Meta(ge=1024, description="a number of bytes, at least 1024 (the largest features file that is streamed)")
    ] = 4 << 30
    """The same for files of features, which are streamed: their size costs time, not memory. With a larger file, with
    embeddings that take over a fifth of it in the spool, or when reading takes over 100 s, the graph is stored without
    embeddings.

    Seldom: 10,000 nodes are about 80 MB. See also `GRAPHNODE_SPOOL_DIR` and `GRAPHNODE_MAX_DOCUMENT_BYTES`.
    """

    document_memory: Annotated[
        int,
        Meta(
            ge=1 << 20, description="a number of bytes, at least 1048576 (for all big documents in a process at a time)"
        ),
    ] = 640 << 20
    """The memory for all big documents that a process works on at a time: those that take over 10 MiB, as their
    bytes, values, arrays and objects are counted. A document for which there is no room waits in flight; one that
    would need more than all of it becomes a dead letter (`DOCUMENT_TOO_LARGE`).

    To the memory that each process of a machine may use, minus its memory when idle. Ordinary graphs count as 20 to 29
    bytes for a byte of JSON ([scale.md](scale.md#the-worst-documents)), a features file as 16 MiB. More lets big
    documents run side by side ([broker.md](broker.md#how-a-message-lives)). See also `GRAPHNODE_MAX_DOCUMENT_BYTES`.
    """

    spool_dir: SpoolDirectory | None = None
    """Where the embeddings of a features file wait for their transaction, in a file without a name that is gone with
    its message, or with its process. A worker does not start unless the directory has room for a fifth of
    `GRAPHNODE_MAX_FEATURES_BYTES`.

    Where the root file system is read-only, or `/tmp` is a tmpfs: its files count as memory
    ([operations.md](operations.md#the-spool-directory)). See also `GRAPHNODE_MAX_FEATURES_BYTES`.
    """

    s3_allowed_prefixes: KeyPrefixes | None = None
    """A result that names a key below none of these is refused (`FORBIDDEN_KEY`); `{user_id}` is the result's user.

    In production, to where your AI server writes: without it a result may name any key of the bucket, also
    another user's ([security.md](security.md#what-the-worker-does)). See also `S3_PAYLOAD_BUCKET`.
    """

    registered_only: RegisteredOnly = False
    """Refuse results of tasks without a row, and results that name a workspace without one (`NOT_REGISTERED`); their
    progress is ignored.

    To true where every request goes through `graphnode.requests`, or the API server inserts the rows itself: otherwise
    a task or workspace that is not known belongs to the user of its first result
    ([security.md](security.md#who-can-write-what-and-the-worst-of-it)). See also `GRAPHNODE_S3_ALLOWED_PREFIXES`.
    """

    task_timeout: TaskTimeout = "2h"
    """After so long without news a task is FAILED, and its user gets a notification. A result that comes later still
    counts.

    To a time that your AI server never needs; by task type if they differ much ([requests.md](requests.md)). See also
    `GRAPHNODE_SWEEP_INTERVAL`.
    """

    sweep_interval: Annotated[
        float, Meta(ge=0.1, le=3600, description="0.1 to 3600 seconds (between two looks for what is due)")
    ] = 30.0
    """How often each process looks for what is due: pushes to retry, tasks without news, its own row in `workers`. Each
    interval is up to half longer or shorter, at random.

    Seldom. Where hundreds of processes run, a longer one spares the database. See also `GRAPHNODE_TASK_TIMEOUT` and
    `GRAPHNODE_PUSH_MAX_AGE`.
    """

    push_max_age: Annotated[
        int,
        Meta(
            ge=1,
            le=2_419_200,
            description="1 to 2419200 seconds (how long a notification is news: older ones are not pushed)",
        ),
    ] = 86_400
    """How long a notification may be pushed. After that it is in the app only; a phone that was off all the time does
    not get it.

    To the age up to which your users want a push. See also `GRAPHNODE_SWEEP_INTERVAL`.
    """

    firebase_credentials_json: FirebaseKey | None = field(default=None, name="FIREBASE_CREDENTIALS_JSON")
    """The service account's key with which pushes are sent.

    Without it and `GOOGLE_APPLICATION_CREDENTIALS` no push is sent; notifications are stored all the same (`SKIPPED`,
    [notifications.md](notifications.md)).
    """

    google_application_credentials: KeyFile | None = field(default=None, name="GOOGLE_APPLICATION_CREDENTIALS")
    """The same key as a file. If both are set, the JSON text counts.

    Where your secrets are files. See also `FIREBASE_CREDENTIALS_JSON`.
    """

    fcm_endpoint: FcmUrl | None = None
    """A server in place of FCM's own.

    For a proxy, and for a stub in tests. Tokens still come from the key's `token_uri`. See also
    `FIREBASE_CREDENTIALS_JSON`.
    """

    health_port: Port | None = None
    """Where a `dramatiq` command answers `/live` and `/ready` for all its processes ([metrics.md](metrics.md#health)).

    The image sets it to 8080. See also `GRAPHNODE_HEALTH_HOST`.
    """

    health_host: Address = "127.0.0.1"
    """The address on which health is served. On the default one only this machine can ask: `graphnode health` does.

    `0.0.0.0` where somebody else asks, such as a load balancer or Kubernetes. There is no access control: keep the port
    internal. See also `GRAPHNODE_HEALTH_PORT`.
    """

    console_token: ConsoleToken | None = None
    """What an operator signs in with at the console ([console.md](console.md)). A worker does not use this setting, nor
    the other ones of the console.

    Wherever the console listens on another address than loopback: it does not start there without. See also
    `GRAPHNODE_CONSOLE_VIEWER_TOKEN` and `GRAPHNODE_CONSOLE_TRUSTED_HEADER`.
    """

    console_viewer_token: ConsoleToken | None = None
    """The same for those who may look, and change nothing.

    For people who should see how things are. See also `GRAPHNODE_CONSOLE_TOKEN`.
    """

    console_trusted_header: HeaderName | None = None
    """The header in which a proxy names who has signed in there. It counts only from `GRAPHNODE_CONSOLE_PROXIES`.

    Where a proxy signs people in. It must remove this header from what a browser sends.
    """

    console_proxies: Networks | None = None
    """The addresses from which `GRAPHNODE_CONSOLE_TRUSTED_HEADER` counts.

    To the proxy's own address, and nobody else's. See also `GRAPHNODE_CONSOLE_TRUSTED_HEADER`.
    """

    console_operators: Names | None = None
    """Those of the names in `GRAPHNODE_CONSOLE_TRUSTED_HEADER` who may change something; the others may look.

    With a proxy that signs people in. See also `GRAPHNODE_CONSOLE_TRUSTED_HEADER`.
    """

    console_hosts: HostNames | None = None
    """The host names under which the console answers, beside its IP addresses and `localhost`.

    To the name that people type, where it has one: any other is refused, so that no foreign site can use the console
    under a name of its own. See also `GRAPHNODE_CONSOLE_TOKEN`.
    """

    log_format: Annotated[Literal["json", "console"], Meta(description="json or console")] = "json"
    """How log lines are written ([logs.md](logs.md)).

    `json` for what collects logs. On a terminal `graphnode worker` takes `console` by itself. See also
    `GRAPHNODE_LOG_LEVEL`.
    """

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="debug, info, warning or error")
    ] = "info"
    """The lowest level that is written.

    `debug` while you look for something: it quotes no more of users' data than the others. See also
    `GRAPHNODE_LOG_FORMAT`.
    """

    sentry_dsn: SentryDsn | None = field(default=None, name="SENTRY_DSN")
    """Where dead letters, unexpected errors and the beginnings of outages are reported ([logs.md](logs.md#sentry)).

    If you have Sentry. It needs the extra `sentry`, which the image has.
    """


#: The fields of `Settings`, by name.
FIELDS: Mapping[str, FieldInfo] = {found.name: found for found in fields(Settings)}


class LogSettings(ProcessSettings, frozen=True, kw_only=True):
    """How log lines look: known before all settings are read."""

    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class RequestSettings(ProcessSettings, frozen=True, kw_only=True):
    """For a process that makes requests of the AI server, such as the API server."""

    database_url: str
    aws_region: str
    sqs_request_queue_url: str
    aws_endpoint_url: str | None = None


class DatabaseSettings(ProcessSettings, frozen=True, kw_only=True):
    """For a command that needs the database."""

    database_url: str


class QueueSettings(ProcessSettings, frozen=True, kw_only=True):
    """For a command that looks at the queues, as many as are set."""

    aws_region: str | None = None
    aws_endpoint_url: str | None = None
    sqs_result_queue_url: str | None = None
    sqs_request_queue_url: str | None = None


class PushSettings(ProcessSettings, frozen=True, kw_only=True):
    """For sending pushes; without credentials none are sent."""

    firebase_credentials_json: str | None = None
    google_application_credentials: str | None = None
    fcm_endpoint: str | None = None


def has_firebase_key(known: Settings | PushSettings) -> bool:
    """Whether pushes can be sent."""
    return bool(known.firebase_credentials_json or known.google_application_credentials)


class HealthSettings(ProcessSettings, frozen=True, kw_only=True):
    """For serving a worker's health, and asking for it."""

    health_port: int | None = None
    health_host: str = "127.0.0.1"


class ConsoleSettings(ProcessSettings, frozen=True, kw_only=True):
    """For serving the console: who may look, and who may change something."""

    console_token: str | None = None
    console_viewer_token: str | None = None
    console_trusted_header: str | None = None
    console_proxies: str | None = None
    console_operators: str | None = None
    console_hosts: str | None = None


class UploadSettings(ProcessSettings, frozen=True, kw_only=True):
    """For putting a request's input into the payload bucket."""

    aws_region: str
    s3_payload_bucket: str
    aws_endpoint_url: str | None = None


class AiSettings(LogSettings, frozen=True, kw_only=True):
    """For the stand-in AI server, which needs no database."""

    aws_region: str
    sqs_request_queue_url: str
    sqs_result_queue_url: str
    s3_payload_bucket: str
    aws_endpoint_url: str | None = None
    poll_wait: int = 20
    poll_grace: float = 20.0
    shutdown_timeout: float = 25.0


SettingsKind = TypeVar("SettingsKind", bound=ProcessSettings)


#: This process's settings, once they are read.
_known: Settings | None = None


def settings() -> Settings:
    """This process's settings, read at the first call. Raises SettingsError."""
    global _known
    if _known is None:
        _known = read_settings(os.environ, Settings)
    return _known


def environment_name(field: str) -> str:
    """The environment variable of a field of `Settings`."""
    return FIELDS[field].encode_name


def is_secret(name: str, value: str) -> bool:
    """Whether a variable's value is never shown. With an @ it may be a URL with a password."""
    return name in SECRETS or "@" in value


def read_settings(environment: Mapping[str, str], kind: type[SettingsKind]) -> SettingsKind:
    """Read and check the settings of a kind of process.

    Raises SettingsError, which names every fault at once: the variable, its value and what is expected.
    """
    values, faults = examine_settings(environment, kind)
    if faults:
        count = "1 setting is wrong" if len(faults) == 1 else f"{len(faults)} settings are wrong"
        raise SettingsError(f"{count}:\n" + "\n".join(f"  - {fault}" for fault in faults))
    return kind(**values)


def read_log_settings(environment: Mapping[str, str]) -> LogSettings:
    """Read how log lines look. For a wrong value the default is taken: to report the fault, logs are needed."""
    values, _ = examine_settings(environment, LogSettings)
    return LogSettings(**values)


def examine_settings(environment: Mapping[str, str], kind: type[ProcessSettings]) -> tuple[dict[str, Any], list[str]]:
    """The right values that are set, by field, and a sentence for each fault; it begins with the variable's name.

    An empty variable counts as not set. For a worker (`Settings`) an unknown GRAPHNODE_ variable is a fault.
    """
    values: dict[str, Any] = {}
    faults: list[str] = []
    for found in fields(kind):
        name, expected = environment_name(found.name), FIELDS[found.name].type
        given = environment.get(name, "").strip()
        if given:
            try:
                values[found.name] = msgspec.convert(given, expected, strict=False)
            except msgspec.ValidationError:
                shown = "a value that is not shown here" if is_secret(name, given) else repr(given)
                faults.append(f"{name} is {shown}; expected {expected_of(expected)}.")
        elif found.required:
            faults.append(f"{name} is missing: set it to {expected_of(expected)}.")
    faults += _queue_faults(values)
    if kind is Settings:
        known = {environment_name(name) for name in FIELDS} | OTHERS.keys()
        faults += [
            f"{name} is not a setting of this program: correct the name or unset it."
            for name in sorted(environment)
            if name.startswith(OWN_PREFIX) and name not in known
        ]
    return values, faults


def _queue_faults(values: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with queues whose URLs are well-formed."""
    urls = {name: url for name in QUEUE_URLS.values() if (url := values.get(name.lower()))}
    for name, url in urls.items():
        if url.endswith(".fifo") and name != QUEUE_URLS[REQUEST_QUEUE]:
            yield (
                f"{name} is {url!r}, a FIFO queue: one message that is tried again would hold up those behind it. "
                "Create a standard queue, and set its URL."
            )
    for name, twin in combinations(urls, 2):
        if urls[name] == urls[twin]:
            yield (
                f"{name} and {twin} are the same queue, {urls[name]!r}: each carries messages that the other's reader "
                "cannot decode. Create a queue for each."
            )


def expected_of(kind: Any) -> str:
    """What a value must be, as the type of a field of `Settings` says; of an optional type, what it may be if set."""
    for found in getattr(kind, "__metadata__", ()):
        if isinstance(found, Meta) and found.description:
            return found.description
    return expected_of(kind.__args__[0])
