"""What each setting does, when to set it and what goes with it: docs/settings.md, and `graphnode settings`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from textwrap import fill
from typing import Any, NamedTuple

import msgspec

from graphnode.settings import SECRETS, Settings, environment_name, expected_of
from graphnode.text import printable

#: Columns of the document's text.
WIDTH = 120

#: The user and password in a URL.
USER_INFO = re.compile(r"(?<=://)[^/@\s]*@")


class Guide(NamedTuple):
    """What an operator wants to know of a setting.

    Parameters:
      does: what it does.
      setting: when to set it, and to what.
      related: the fields of Settings that go with it.
    """

    does: str
    setting: str
    related: tuple[str, ...] = ()


#: What the document begins with.
BEGINNING = """
Each variable that a worker reads from its environment: what it does, and when to change it.
`graphnode settings --markdown` writes this page from `graphnode/settings.py` and `graphnode/operations/settings_guide.py`; a test
fails while they differ.

Required are {required}; all others may stay as they are. The worker looks at all of them before it starts, and tells
every fault at once. A variable that is empty counts as not set; one that begins with `GRAPHNODE_` and is not on this
page is a fault. Secrets ({secrets}) are never printed. `graphnode settings` tells what a process would see, and from
where:
"""

EXAMPLE = """```console
$ graphnode settings --env-file .graphnode.env
Where everything is
  DATABASE_URL                    file         not shown
  AWS_REGION                      file         us-east-1
[…]
Taking messages
  GRAPHNODE_VISIBILITY_TIMEOUT    default      60
  GRAPHNODE_POLL_WAIT             environment  1
[…]
```"""

#: By subject, then by field of Settings.
SUBJECTS: Mapping[str, Mapping[str, Guide]] = {
    "Where everything is": {
        "database_url": Guide(
            "PostgreSQL, where results are stored. A process has as many connections as threads at most, and two.",
            "Give the worker a user of its own, in the role `graphnode_worker` ([security.md](security.md)), and a "
            "`sslmode=verify-full` where the network is not yours. Behind PgBouncer, without `options=` "
            "([scale.md](scale.md#pgbouncer)).",
        ),
        "aws_region": Guide(
            "The region of the queues and of the bucket.",
            "It is theirs, wherever the worker runs; `graphnode doctor` finds a queue in another region.",
            ("aws_endpoint_url",),
        ),
        "aws_endpoint_url": Guide(
            "Another server than AWS's own for SQS and S3.",
            "Set it for LocalStack, and for nothing in production.",
            ("aws_region",),
        ),
        "sqs_result_queue_url": Guide(
            "The queue on which the AI server announces its results. It must have a dead-letter queue.",
            "Its `maxReceiveCount` wants to be three times `GRAPHNODE_MAX_ATTEMPTS` or more "
            "([broker.md](broker.md#what-can-be-set)).",
            ("max_attempts",),
        ),
        "sqs_notification_queue_url": Guide(
            "The queue of the worker's own messages: which notification is to be pushed now. It must have a "
            "dead-letter queue.",
            "Nobody else writes to it or reads it: never share it with another deployment.",
            ("sweep_interval",),
        ),
        "sqs_request_queue_url": Guide(
            "The queue on which work is asked for. A worker never reads it: `graphnode request`, the API server and "
            "the stand-in AI server do; `graphnode status`, `doctor` and `dlq` look at it.",
            "Set it where these commands run. It is never the result queue.",
        ),
        "s3_payload_bucket": Guide(
            "The bucket of the documents that results name.",
            "It is this one, whatever a result says of a bucket.",
            ("s3_allowed_prefixes",),
        ),
    },
    "Taking messages": {
        "visibility_timeout": Guide(
            "For so long SQS shows a message in hand to nobody else. The heartbeat extends it before half of it is "
            "gone; the messages of a worker that was killed are back within it.",
            "Longer where SQS often answers slowly; shorter than 20 seconds one slow call loses what is in hand.",
            ("max_attempts",),
        ),
        "poll_wait": Guide(
            "For so long SQS keeps a poll open when there are no messages.",
            "Leave it at SQS's most: a shorter one only makes more calls, which are paid for. 1 makes stops quick "
            "while you develop.",
            ("poll_grace",),
        ),
    },
    "Stopping": {
        "poll_grace": Guide(
            "A stop waits so long for a poll that is under way: SQS may have given it messages already, which would "
            "otherwise be hidden for a whole visibility timeout.",
            "Keep it at `GRAPHNODE_POLL_WAIT` or more. Whoever sends SIGTERM must wait for longer than this and "
            "`GRAPHNODE_SHUTDOWN_TIMEOUT` together before SIGKILL: ECS's `stopTimeout`, Compose's `stop_grace_period`.",
            ("poll_wait", "shutdown_timeout"),
        ),
        "shutdown_timeout": Guide(
            "What runs when a stop begins has so long to end; then it is interrupted, its message goes back at once, "
            "and no attempt is counted.",
            "Longer where big graphs are stored; [deploy/cloudformation.yml](../deploy/cloudformation.yml) gives them "
            "90 seconds.",
            ("poll_grace",),
        ),
    },
    "Trying again": {
        "max_attempts": Guide(
            "After so many failed attempts a message becomes a dead letter. Deliveries that a stop or an outage gave "
            "back are none; permanent errors are dead letters at the first.",
            "Higher where a document may come to S3 long after its message. Raise the queues' `maxReceiveCount` with "
            "it.",
            ("backoff_min", "backoff_max"),
        ),
        "backoff_min": Guide(
            "The longest pause after the first failed attempt. It doubles with each one; the pause is drawn between "
            "nothing and that, so that a herd spreads out. FCM's refusals are tried again in the same way.",
            "Seldom. Much shorter ones use up the attempts before what is wrong has healed.",
            ("backoff_max", "max_attempts"),
        ),
        "backoff_max": Guide(
            "No pause is longer. With eight attempts of 5 seconds and doubling none comes near.",
            "With more attempts, to have them come at least so often.",
            ("backoff_min", "max_attempts"),
        ),
    },
    "Documents": {
        "max_document_bytes": Guide(
            "A larger document is not read, and its message becomes a dead letter (`DOCUMENT_TOO_LARGE`). Compressed "
            "ones count unpacked.",
            "Higher when such letters are rightful, and the machine has ten times as much memory for each of them.",
            ("document_memory", "max_features_bytes"),
        ),
        "max_features_bytes": Guide(
            "The same for files of features, which are streamed: their size costs time and no memory. A larger one "
            "costs the embeddings, not the graph.",
            "Seldom: 10,000 nodes are about 80 MB.",
            ("max_document_bytes",),
        ),
        "document_memory": Guide(
            "What all documents of over 1 MiB that a process works on may take together, counted as ten bytes for a "
            "byte of JSON. What finds no room waits in hand, and nothing fails by it.",
            "To the memory that each process of a machine may use, less what it takes when idle. More lets big "
            "documents pass side by side ([broker.md](broker.md#how-a-message-lives)).",
            ("max_document_bytes",),
        ),
        "s3_allowed_prefixes": Guide(
            "A result that names a key below none of these is refused (`FORBIDDEN_KEY`); `{user_id}` is the user whom "
            "it names.",
            "Set it in production, to where your AI server writes: without it a result may name any key of the bucket,"
            " another user's among them ([security.md](security.md#what-the-worker-does)).",
            ("s3_payload_bucket",),
        ),
    },
    "Tasks and pushes": {
        "task_timeout": Guide(
            "A task of which no news came for so long has FAILED, and its user is told; a result that comes after all "
            "still counts.",
            "To a time that your AI server never needs, by type if they differ much ([requests.md](requests.md)).",
            ("sweep_interval",),
        ),
        "sweep_interval": Guide(
            "How often each process looks for what is due: pushes to try again, tasks without news, its own row in "
            "`workers`. Each round comes up to half sooner or later.",
            "Seldom; where hundreds of processes run, longer spares the database.",
            ("task_timeout", "push_max_age"),
        ),
        "push_max_age": Guide(
            "How long a notification is news: what could not be pushed by then is in the app alone. A phone that is "
            "off gets it within that time or not at all.",
            "To what your users still want to be woken for.",
            ("sweep_interval",),
        ),
        "firebase_credentials_json": Guide(
            "The service account's key with which pushes are sent.",
            "Without it and `GOOGLE_APPLICATION_CREDENTIALS` no phone is told; notifications are stored all the same "
            "(`SKIPPED`, [notifications.md](notifications.md)).",
            ("google_application_credentials",),
        ),
        "google_application_credentials": Guide(
            "The same key as a file. The JSON text counts if both are given.",
            "Where a secret comes as a file.",
            ("firebase_credentials_json",),
        ),
        "fcm_endpoint": Guide(
            "Another server than FCM's own.",
            "For a proxy, and for a stub in tests; tokens come from where the key's `token_uri` says.",
            ("firebase_credentials_json",),
        ),
    },
    "Being watched": {
        "health_port": Guide(
            "Where a `dramatiq` command answers `/live` and `/ready` for all its processes "
            "([metrics.md](metrics.md#health)).",
            "The image sets it to 8080. The port is unprotected: keep it inside.",
        ),
        "log_format": Guide(
            "How log lines are written ([logs.md](logs.md)).",
            "`console` on a terminal; what collects logs wants `json`.",
            ("log_level",),
        ),
        "log_level": Guide(
            "The least important lines that are written.",
            "`debug` while you look for something: it quotes no more of users' data than the others.",
            ("log_format",),
        ),
        "sentry_dsn": Guide(
            "Where dead letters, unforeseen errors and the beginnings of outages are reported "
            "([logs.md](logs.md#sentry)).",
            "If you have Sentry; it takes the extra `sentry`, which the image has.",
        ),
    },
}

#: Variables that this program does not read itself, or before there is a deployment: who does, and what for.
OTHERS: Mapping[str, str] = {
    "AWS_ACCESS_KEY_ID": "boto3: credentials. Prefer a role of the machine or the task, which needs no variable",
    "AWS_SECRET_ACCESS_KEY": "boto3: the same",
    "AWS_SESSION_TOKEN": "boto3: the same, of credentials that are lent",
    "dramatiq_prom_port": "Dramatiq: switches metrics on ([metrics.md](metrics.md#scraping))",
    "dramatiq_prom_host": "Dramatiq: the address on which they are served",
    "dramatiq_prom_db": "Dramatiq: the directory where the processes of a command meet",
    "OTEL_EXPORTER_OTLP_ENDPOINT": (
        "OpenTelemetry: switches traces on ([metrics.md](metrics.md#traces)); so does "
        "`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, and its other variables hold as well"
    ),
    "SENTRY_ENVIRONMENT": "Sentry's SDK: what its reports say of where they come from",
    "GRAPHNODE_LOCALSTACK_PYTHON": (
        "`graphnode dev` and `demo`: the Python of LocalStack's environment, where `make install` has not made it"
    ),
}


class Seen(NamedTuple):
    """A setting as a process sees it.

    Parameters:
      name: the variable.
      value: as it may be shown; empty where there is none.
      source: where it comes from.
    """

    name: str
    value: str
    source: str


def fields() -> dict[str, msgspec.structs.FieldInfo]:
    """The fields of Settings by their names."""
    return {field.name: field for field in msgspec.structs.fields(Settings)}


def seen_settings(environment: Mapping[str, str], file: Mapping[str, str]) -> Iterator[tuple[str, list[Seen]]]:
    """Each subject's settings as a process with this environment sees them; what is in the file counts first."""
    known = fields()
    for subject, guides in SUBJECTS.items():
        yield subject, [_seen(known[field], environment, file) for field in guides]


def _seen(field: msgspec.structs.FieldInfo, environment: Mapping[str, str], file: Mapping[str, str]) -> Seen:
    name = environment_name(field.name)
    # An empty variable of the file hides the environment's.
    given = (file if name in file else environment).get(name, "").strip()
    if given:
        shown = "not shown" if name in SECRETS else printable(USER_INFO.sub("…@", given))
        return Seen(name, shown, "file" if name in file else "environment")
    if field.required:
        return Seen(name, "", "missing")
    return Seen(name, "", "not set") if field.default is None else Seen(name, str(field.default), "default")


def markdown() -> str:
    """The document."""
    known = fields()
    required = ", ".join(_link(name) for name, field in known.items() if field.required)
    secrets = ", ".join(_link(name) for name in known if environment_name(name) in SECRETS)
    parts = ["# Settings", _text(BEGINNING.format(required=required, secrets=secrets)), EXAMPLE]
    for subject, guides in SUBJECTS.items():
        parts.append(f"## {subject}")
        for name, guide in guides.items():
            parts += _section(known[name], guide)
    rows = [f"| `{name}` | {text} |" for name, text in OTHERS.items()]
    parts += ["## What others read", "\n".join(["| variable | who reads it |", "|---|---|", *rows])]
    return "\n\n".join(parts) + "\n"


def _section(field: msgspec.structs.FieldInfo, guide: Guide) -> Iterator[str]:
    yield f"### {environment_name(field.name)}"
    yield _text(f"*{_default(field)}. Expected: {expected_of(field.type)}.*")
    yield _text(guide.does)
    related = f" See also {', '.join(map(_link, guide.related))}." if guide.related else ""
    yield _text(f"**Setting it:** {guide.setting}{related}")


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "Required"
    if field.default is None:
        return "Not set by default"
    return f"Default `{field.default}`{_in_words(field.name, field.default)}"


def _in_words(name: str, value: Any) -> str:
    """A large number once more, in a unit that one can grasp."""
    if name.endswith(("_bytes", "_memory")):
        return f" ({value >> 30} GiB)" if value >= 1 << 30 else f" ({value >> 20} MiB)"
    return " (a day)" if value == 86_400 else ""


def _link(field: str) -> str:
    name = environment_name(field)
    return f"[`{name}`](#{name.lower()})"


def _text(text: str) -> str:
    """Paragraphs, of lines that are as long as they may be."""
    paragraphs = text.strip().split("\n\n")
    return "\n\n".join(fill(one, WIDTH, break_long_words=False, break_on_hyphens=False) for one in paragraphs)
