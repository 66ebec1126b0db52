"""The message contract, and the thin adapter: the AI server's envelope to a Dramatiq message for the right actor.

A new task type is one payload class here, one actor module, and one line in ROUTES (docs/add-a-task-type.md).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar, get_args

import dramatiq
import msgspec
from msgspec import Meta

from graphnode.contract.values import MAX_INTEGER
from graphnode.errors import InvalidEnvelope, MisplacedRequest, UnknownTaskType
from graphnode.text import LONGEST_PROBLEM, excerpt

#: The Dramatiq queue that carries the AI server's envelopes.
RESULT_QUEUE = "results"

#: The Dramatiq queue that carries the worker's own messages.
NOTIFICATION_QUEUE = "notifications"

#: The queue that carries requests to the AI server. The worker does not consume it.
REQUEST_QUEUE = "requests"

#: Longest excerpt of a refused value in an error's text, in characters.
EXCERPT = 80

#: What a failure says when the AI server said nothing (the contract).
NO_ERROR_GIVEN = "The AI server gave no reason."

#: Longest IDs in characters. PostgreSQL indexes at most 2,704 bytes of a row, and a notification's key names a task and
#: a workspace. A microscope task's ID has its user's inside.
LONGEST_ID = 200
LONGEST_TASK_ID = 400

#: Seconds, some thirty years: nobody waits that long, and "inf" is no number.
LONGEST_ETA_S = 1_000_000_000

#: Characters of the longest name of a field, with room to spare: longer ones are nobody's.
LONGEST_FIELD_NAME = 64

Text = Annotated[str, Meta(min_length=1)]
Id = Annotated[str, Meta(min_length=1, max_length=LONGEST_ID)]
Status = Literal["COMPLETED", "FAILED"]


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """What a task type's envelope carries. Fields are named in snake_case; the wire may spell them either way."""

    @property
    def s3_keys(self) -> list[str]:
        """The objects, and prefixes of objects, that it names."""
        named = {name: getattr(self, name) for name in self.__struct_fields__ if "_s3_" in name}
        return [key for key in named.values() if key]


class ResultPayload(Payload, frozen=True, kw_only=True):
    """What the payload of every result carries.

    Parameters:
      required_when_completed: the field without which a result cannot be COMPLETED.
    """

    required_when_completed: ClassVar[str | None] = None

    status: Status
    """How the task ended."""
    error: str | None = None
    """On FAILED, the text for the user's app. Beside COMPLETED, a partial failure: still a success."""

    def __post_init__(self) -> None:
        name = self.required_when_completed
        if name and self.status == "COMPLETED" and not getattr(self, name):
            raise ValueError(f"{_camel_case(name)}: required when status is COMPLETED, but not given")

    @property
    def error_text(self) -> str:
        """What the user's app shows of a failure."""
        return self.error or NO_ERROR_GIVEN


class GraphGenerationResult(ResultPayload, frozen=True, kw_only=True):
    """The AI server made a graph of everything a user has, or failed to."""

    required_when_completed = "result_s3_key"

    user_id: Id
    """Whose graph it is."""
    result_s3_key: str | None = None
    """The graph document. Required when COMPLETED."""
    features_s3_key: str | None = None
    """The features document: the nodes' embeddings."""
    summary_included: bool | None = None
    """Whether a summary was made as well."""
    summary_s3_key: str | None = None
    """The summary document."""


class GraphGenerationProgress(Payload, frozen=True, kw_only=True):
    """How far the AI server is with a graph."""

    user_id: Id
    """Whose graph it is."""
    current_stage: Text
    """What the AI server is doing, in its own words."""
    progress_percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    """How much is done, 0 to 100."""
    eta_seconds: Annotated[float, Meta(ge=0, le=LONGEST_ETA_S)] | None = None
    """How long it will take from now, in seconds."""


class GraphSummaryResult(ResultPayload, frozen=True, kw_only=True):
    """The AI server summed a user's graph up, or failed to."""

    required_when_completed = "summary_s3_key"

    user_id: Id
    """Whose graph it is."""
    summary_s3_key: str | None = None
    """The summary document. Required when COMPLETED."""


class AddNodeResult(ResultPayload, frozen=True, kw_only=True):
    """The AI server placed new sources in a user's graph; `error` beside COMPLETED is a partial failure."""

    required_when_completed = "result_s3_key"

    user_id: Id
    """Whose graph it is."""
    result_s3_key: str | None = None
    """The add-node batch. Required when COMPLETED."""


class MicroscopeIngestResult(ResultPayload, frozen=True, kw_only=True):
    """The AI server took one document apart, or failed to."""

    user_id: Id | None = None
    """Whose document it is. May be missing: the task ID names the user."""
    group_id: Id | None = None
    """The workspace. May be missing: the document's row names it."""
    source_id: str | None = None
    """What the document was made of."""
    chunks_count: Annotated[int, Meta(ge=0, le=MAX_INTEGER)] | None = None
    """How many chunks there are."""
    schema_name: str | None = None
    """The schema that the graph follows."""
    ingest_stats: dict[str, Any] | None = None
    """Anything the AI server counted: stored as it comes."""
    standardized_s3_key: str | None = None
    """The microscope's standardized document."""
    block_graph_s3_key: str | None = None
    """The microscope's block graph."""
    images_s3_prefix: str | None = None
    """Where the document's images are: a prefix of S3 keys."""


class Route(NamedTuple):
    """Where a task type goes: its payload, the actor, and the task its row is kept under."""

    payload: type[Payload]
    actor: str
    task_type: str


#: The routing table. A task's type is the type of the result that ends it, so that its progress lands on the same row.
ROUTES: dict[str, Route] = {
    "GRAPH_GENERATION_RESULT": Route(GraphGenerationResult, "graph_generation", "GRAPH_GENERATION_RESULT"),
    "GRAPH_GENERATION_PROGRESS": Route(GraphGenerationProgress, "graph_progress", "GRAPH_GENERATION_RESULT"),
    "GRAPH_SUMMARY_RESULT": Route(GraphSummaryResult, "graph_summary", "GRAPH_SUMMARY_RESULT"),
    "ADD_NODE_RESULT": Route(AddNodeResult, "add_node", "ADD_NODE_RESULT"),
    "MICROSCOPE_INGEST_RESULT": Route(MicroscopeIngestResult, "microscope_ingest", "MICROSCOPE_INGEST_RESULT"),
    "MICROSCOPE_INGEST_FROM_NODE_RESULT": Route(
        MicroscopeIngestResult, "microscope_ingest", "MICROSCOPE_INGEST_FROM_NODE_RESULT"
    ),
}

# msgspec learns a type at its first use, and crashes the process when two threads make it do so at once.
for _route in ROUTES.values():
    msgspec.json.Decoder(_route.payload)

#: What the API server sends to the AI server. On the result queue it is a mistake, not a result.
REQUESTS = frozenset(
    {
        "GRAPH_GENERATION_REQUEST",
        "GRAPH_SUMMARY_REQUEST",
        "ADD_NODE_REQUEST",
        "MICROSCOPE_INGEST_REQUEST",
        "MICROSCOPE_INGEST_FROM_NODE_REQUEST",
    }
)

#: Other names a payload's field may bear, in snake_case.
ALIASES = {"workspace_id": "group_id"}

#: Fields that the AI server spells in snake_case by itself, and not in camelCase. Either way is read.
SNAKE_CASED = frozenset(
    {
        "chunks_count",
        "schema_name",
        "ingest_stats",
        "standardized_s3_key",
        "block_graph_s3_key",
        "images_s3_prefix",
    }
)

P_co = TypeVar("P_co", bound=Payload, covariant=True)


class Envelope(msgspec.Struct, Generic[P_co], frozen=True, kw_only=True):
    """One message of the AI server.

    Parameters:
      task_id: the correlation ID.
      task_type: the type that the task's row is kept under.
      timestamp: when the producer sent it, in UTC.
      payload: the task type's own part.
      attempt: how often SQS has delivered it, this time included.
      no_news_since: of the end that the worker itself puts to an overdue task: when there was news of it last. With
        later news it means nothing. None: the message is the AI server's.
    """

    task_id: str
    task_type: str
    timestamp: datetime
    payload: P_co
    attempt: int
    no_news_since: datetime | None = None


def to_message(body: str, *, message_id: str, sent_at: datetime, receive_count: int) -> dramatiq.Message[None]:
    """Turn an SQS message's body into a Dramatiq message for the actor that handles it.

    Parameters:
      body: the envelope as it stands on the queue.
      message_id: SQS's own ID, for the logs.
      sent_at: SQS's SentTimestamp; stands in for a timestamp that the producer left out.
      receive_count: SQS's ApproximateReceiveCount.

    Raises InvalidEnvelope, UnknownTaskType or MisplacedRequest, all permanent.
    """
    fields, _ = _given(_decode_object(body))
    task_type = _required_text(fields, "task_type")
    if task_type in REQUESTS:
        raise MisplacedRequest(
            f"taskType is {task_type}: a request belongs on the request queue, not on the result queue"
        )
    if task_type not in ROUTES:
        raise UnknownTaskType(
            f"taskType is {_excerpt(task_type)}: no actor handles it (known: {', '.join(ROUTES)})",
            log="no actor handles this taskType",
        )
    route = ROUTES[task_type]
    envelope = Envelope(
        task_id=_task_id(fields),
        task_type=route.task_type,
        timestamp=_timestamp(fields.get("timestamp"), sent_at),
        payload=decode_payload(fields.get("payload"), route.payload),
        attempt=receive_count,
    )
    return dramatiq.Message(
        queue_name=RESULT_QUEUE,
        actor_name=route.actor,
        args=(envelope,),
        kwargs={},
        options={"log_fields": _log_fields(envelope)},
        message_id=message_id,
        message_timestamp=int(sent_at.timestamp() * 1000),
    )


def _log_fields(envelope: Envelope[Any]) -> dict[str, str]:
    fields = {"task_id": envelope.task_id, "task_type": envelope.task_type}
    user_id = envelope.payload.user_id
    return {**fields, "user_id": user_id} if user_id else fields


class BodySummary(NamedTuple):
    """What a body names, as far as it can be read; whether it keeps the contract, it does not say.

    Parameters:
      s3_keys: the objects, and prefixes of objects, that its payload names.
      bucket: where they are, if not in the payload bucket.
      notification_id: of the worker's own messages.
    """

    task_id: str | None = None
    task_type: str | None = None
    user_id: str | None = None
    s3_keys: tuple[str, ...] = ()
    bucket: str | None = None
    notification_id: str | None = None


def summarize_body(body: str) -> BodySummary:
    """What the body of a result or request names: for a dead letter, which must not fail."""
    try:
        fields, _ = _given(_decode_object(body))
    except InvalidEnvelope:
        return BodySummary()
    payload = fields.get("payload")
    named, _ = _given(payload) if isinstance(payload, dict) else ({}, {})
    keys = [key for name, value in named.items() if "s3_" in name for key in _texts(value)]
    task_id, task_type, user_id, bucket = (
        next(iter(_texts(value)), None)
        for value in (fields.get("task_id"), fields.get("task_type"), named.get("user_id"), named.get("bucket"))
    )
    return BodySummary(task_id, task_type, user_id, tuple(keys), bucket)


def ids_of_body(body: str) -> tuple[str | None, str | None]:
    """The task ID and task type of a body, as far as it has them."""
    found = summarize_body(body)
    return found.task_id, found.task_type


def _texts(value: Any) -> list[str]:
    """A text, or those of a list."""
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]


def decode_payload(fields: Any, kind: type[Payload]) -> Payload:
    """Decode a payload in either spelling; null and "" mean that a field was not given. Raises InvalidEnvelope."""
    if not isinstance(fields, dict):
        raise InvalidEnvelope(f"payload: expected an object, got {_excerpt(fields)}", log="payload: expected an object")
    given, spelt = _given(fields)
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _payload_fault(str(error), given, spelt) from None


def _given(fields: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields that are given, by their name in snake_case, and how the producer spelt each."""
    given: dict[str, Any] = {}
    spelt: dict[str, str] = {}
    for key, value in fields.items():
        if len(key) > LONGEST_FIELD_NAME:
            # Not even remembered: _snake_case would keep a thousand of them, of a megabyte each.
            continue
        name = _snake_case(key)
        name = ALIASES.get(name, name)
        if value not in (None, "") and name not in given:
            given[name], spelt[name] = value, key
    return given, spelt


def spellings(name: str) -> list[str]:
    """The names that a field may bear on the wire: first the one that the AI server uses."""
    names = [name, *(alias for alias, field in ALIASES.items() if field == name)]
    usual = [each if each in SNAKE_CASED else _camel_case(each) for each in names]
    return list(dict.fromkeys([*usual, *map(_camel_case, names), *names]))


def _payload_fault(text: str, given: dict[str, Any], spelt: dict[str, str]) -> InvalidEnvelope:
    """Say which field is wrong by the name the producer used, and what it held."""
    if missing := re.search(r"missing required field `(\w+)`", text):
        name = missing[1]
        return InvalidEnvelope(f"payload.{_camel_case(name)}: required, but not given")
    if found := re.match(r"(.*) - at `\$\.(\w+)", text):
        expectation, name = found[1], found[2]
        if expectation.startswith("Invalid enum value"):
            expectation = f"Expected {' or '.join(get_args(Status))}"
        text = f"payload.{spelt[name]}: {expectation}"
        return InvalidEnvelope(f"{text}; it holds {_excerpt(given[name])}", log=text)
    return InvalidEnvelope(f"payload.{text.removesuffix(' - at `$`')}")


def _decode_object(body: str) -> dict[str, Any]:
    try:
        fields = msgspec.json.decode(body.removeprefix("\ufeff"))
        holds_nul = "\\u0000" in body and _holds_nul(fields)
    except (msgspec.DecodeError, RecursionError) as error:
        text = f"the body is not JSON ({excerpt(str(error), most=LONGEST_PROBLEM)})"
        raise InvalidEnvelope(f"{text}; it begins {_excerpt(body)}", log=text) from None
    except UnicodeEncodeError as error:
        raise InvalidEnvelope(f"the body is not UTF-8 text: {error.reason}") from None
    if not isinstance(fields, dict):
        text = "the body is not a JSON object"
        raise InvalidEnvelope(f"{text}; it is {_excerpt(fields)}", log=text)
    if holds_nul:
        raise InvalidEnvelope("a text in the envelope holds the character U+0000, which PostgreSQL cannot store")
    return fields


def _holds_nul(value: Any) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(_holds_nul(key) or _holds_nul(item) for key, item in value.items())
        case list():
            return any(map(_holds_nul, value))
    return False


def _required_text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        found = f"it holds {_excerpt(value)}" if value is not None else "it is not given"
        text = f"{_camel_case(name)}: expected a text"
        raise InvalidEnvelope(f"{text}; {found}", log=text)
    return value


def _task_id(fields: dict[str, Any]) -> str:
    value = _required_text(fields, "task_id")
    if len(value) > LONGEST_TASK_ID:
        raise InvalidEnvelope(f"taskId: expected at most {LONGEST_TASK_ID} characters; it has {len(value)}")
    return value


def _timestamp(value: Any, sent_at: datetime) -> datetime:
    """The producer's timestamp in UTC: without a zone it is UTC already, and left out it is SQS's (the contract)."""
    if value is None:
        return sent_at
    try:
        moment = datetime.fromisoformat(value)
        # Near the ends of the calendar a zone leads out of it: OverflowError.
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        text = "timestamp: expected ISO 8601 or null"
        raise InvalidEnvelope(f"{text}; it holds {_excerpt(value)}", log=text) from None


def _excerpt(value: Any) -> str:
    shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return repr(shown if len(shown) <= EXCERPT else shown[:EXCERPT] + "…")


def _camel_case(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


@lru_cache(maxsize=1024)
def _snake_case(key: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower()
