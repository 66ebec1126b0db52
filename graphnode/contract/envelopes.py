"""The messages on the result queue: the payload of each task type, and the actor that handles it.

A new task type is one payload class here, one line in ROUTES, and one actor module (docs/add-a-task-type.md).
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from graphnode.contract.parts import ANY_AS_TEXT, ONLY_TEXT
from graphnode.contract.repairs import Warnings
from graphnode.contract.values import MAX_INTEGER

#: The Dramatiq queue for the AI server's envelopes.
RESULT_QUEUE = "results"


#: The queue for requests to the AI server. The worker does not consume it.
REQUEST_QUEUE = "requests"

#: The error text of a failure for which the AI server gave none (the contract).
NO_ERROR_GIVEN = "The AI server gave no reason."

#: The longest IDs, in characters. PostgreSQL indexes at most 2,704 bytes of a row, and the key of a notification holds
#: a task ID and a workspace ID. A microscope task's ID contains its user's ID.
LONGEST_ID = 200
LONGEST_TASK_ID = 400

#: In seconds, about thirty years: longer ones are cut to it.
LONGEST_ETA_S = 1_000_000_000

#: Other names of a payload's field, all in snake_case.
ALIASES = {"workspace_id": "group_id", "images_s3_key": "images_s3_prefix"}

#: Fields that the AI server writes in snake_case instead of camelCase.
SNAKE_CASED = frozenset(
    {
        "chunks_count",
        "schema_name",
        "ingest_stats",
        "standardized_s3_key",
        "block_graph_s3_key",
        "images_s3_prefix",
        "images_s3_key",
    }
)

#: PostgreSQL stores no U+0000. It is removed from other texts, but an ID or a key without it would be another one.
NO_NUL = "^[^\\u0000]*$"

Id = Annotated[str, Meta(min_length=1, max_length=LONGEST_ID, pattern=NO_NUL)]
SourceId = Annotated[str, Meta(pattern=NO_NUL)]
#: A number is no key: the worker would wait for an object that never comes.
S3Key = Annotated[str, Meta(pattern=NO_NUL), ONLY_TEXT]
#: Words for people. Anything else in their place is read as JSON.
Words = Annotated[str, ANY_AS_TEXT]
Status = Literal["COMPLETED", "FAILED"]


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of an envelope. Fields are in snake_case here; on the wire camelCase is read too."""

    @property
    def s3_keys(self) -> list[str]:
        """The S3 keys and key prefixes in this payload."""
        return [key for name in self.s3_fields if (key := getattr(self, name))]

    @property
    def s3_fields(self) -> list[str]:
        """The names of the fields for S3 keys and key prefixes."""
        return [name for name in self.__struct_fields__ if "_s3_" in name]


class ResultPayload(Payload, frozen=True, kw_only=True):
    """The payload of a result, which ends a task.

    Parameters:
      required_when_completed: the field that a COMPLETED result must have.
    """

    required_when_completed: ClassVar[str | None] = None

    status: Status
    """How the task ended."""
    error: Words | None = None
    """On FAILED, the text for the user's app. Beside COMPLETED, a partial failure: still a success."""

    def __post_init__(self) -> None:
        name = self.required_when_completed
        if name and self.status == "COMPLETED" and not getattr(self, name):
            raise ValueError(f"{camel_case(name)}: required when status is COMPLETED, but not given")

    @property
    def error_text(self) -> str:
        """The error as the user's app shows it."""
        return self.error or NO_ERROR_GIVEN


class GraphGenerationResult(ResultPayload, frozen=True, kw_only=True):
    """The AI server made a graph of everything a user has, or failed to."""

    required_when_completed = "result_s3_key"

    user_id: Id
    """Whose graph it is."""
    result_s3_key: S3Key | None = None
    """The graph document. Required when COMPLETED."""
    features_s3_key: S3Key | None = None
    """The features document: the nodes' embeddings."""
    summary_included: bool | None = None
    """Whether a summary was made as well."""
    summary_s3_key: S3Key | None = None
    """The summary document."""


class GraphGenerationProgress(Payload, frozen=True, kw_only=True):
    """How far the AI server is with a graph."""

    user_id: Id
    """Whose graph it is."""
    current_stage: str | None = None
    """What the AI server is doing, in its own words. Without a stage, or without a number of percents, the message
    is ignored."""
    progress_percent: float | None = None
    """How much is done, 0 to 100. It is rounded down, and moved into these bounds."""
    eta_seconds: float | None = None
    """How long it will take from now, in seconds. Less than 0 is 0."""

    @property
    def stage(self) -> str | None:
        """The stage; None if there is none, or a blank one."""
        return self.current_stage if self.current_stage and self.current_stage.strip() else None

    @property
    def percent(self) -> float | None:
        """Whole percents, from 0 to 100; None if there is no number."""
        number = _within(self.progress_percent, 100)
        return None if number is None else float(math.floor(number))

    @property
    def eta_s(self) -> float | None:
        """Seconds from now, 0 or more; None if there is no number."""
        return _within(self.eta_seconds, LONGEST_ETA_S)


def _within(number: float | None, most: float) -> float | None:
    """The number, at least 0 and at most `most`; None for none, NaN and infinity."""
    return None if number is None or not math.isfinite(number) else min(max(number, 0.0), float(most))


class GraphSummaryResult(ResultPayload, frozen=True, kw_only=True):
    """The AI server summarized a user's graph, or failed to."""

    required_when_completed = "summary_s3_key"

    user_id: Id
    """Whose graph it is."""
    summary_s3_key: S3Key | None = None
    """The summary document. Required when COMPLETED."""


class AddNodeResult(ResultPayload, frozen=True, kw_only=True):
    """The AI server placed new sources in a user's graph; `error` beside COMPLETED is a partial failure."""

    required_when_completed = "result_s3_key"

    user_id: Id
    """Whose graph it is."""
    result_s3_key: S3Key | None = None
    """The add-node batch. Required when COMPLETED."""


class MicroscopeIngestResult(ResultPayload, frozen=True, kw_only=True):
    """The AI server analyzed one document, or failed to."""

    user_id: Id | None = None
    """Whose document it is. May be missing: the task ID names the user."""
    group_id: Id | None = None
    """The workspace. May be missing: the document's row names it."""
    source_id: SourceId | None = None
    """What the document was made of."""
    chunks_count: Annotated[int, Meta(ge=0, le=MAX_INTEGER)] | None = None
    """How many chunks there are."""
    schema_name: str | None = None
    """The schema that the graph follows."""
    ingest_stats: Any = None
    """Anything the AI server counted: stored unchanged."""
    standardized_s3_key: S3Key | None = None
    """The microscope's standardized document. It may be the block graph: the task ID or the content tells."""
    block_graph_s3_key: S3Key | None = None
    """The microscope's block graph. It may be the standardized document: the task ID or the content tells."""
    images_s3_prefix: S3Key | None = None
    """Where the document's images are: a prefix of S3 keys."""


class Route(NamedTuple):
    """How a task type is handled: its payload, its actor, and the task type that its row has."""

    payload: type[Payload]
    actor: str
    task_type: str


#: The routing table. A row has the type of the result that ends the task, so that progress updates the same row.
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

# msgspec analyzes a type at its first use. If two threads do that at once, the process crashes: so do it here.
for _route in ROUTES.values():
    msgspec.json.Decoder(_route.payload)

P_co = TypeVar("P_co", bound=Payload, covariant=True)


class Envelope(msgspec.Struct, Generic[P_co], frozen=True, kw_only=True):
    """A message of the AI server, decoded.

    Parameters:
      task_id: the correlation ID.
      task_type: the task type of the task's row.
      timestamp: when the producer sent it, in UTC, as far as its clock is believed.
      payload: the part that depends on the task type.
      attempt: how often SQS has delivered it, this time included.
      warnings: what was repaired in it; its task gets them.
      no_news_since: only where the worker itself ends an overdue task: when it last heard of the task. If there is
        later news, the envelope has no effect. None: the AI server sent the envelope.
      is_rejected: only where the worker itself ends a task whose result cannot be used.
    """

    task_id: str
    task_type: str
    timestamp: datetime
    payload: P_co
    attempt: int
    warnings: Warnings = {}
    no_news_since: datetime | None = None
    is_rejected: bool = False


def failed_payload(task_type: str, *, user_id: str, error: str) -> ResultPayload:
    """The payload of a FAILED result.

    Parameters:
      task_type: one whose messages end a task.
      error: for the user's app.
    """
    payload = ROUTES[task_type].payload(status="FAILED", user_id=user_id, error=error)
    assert isinstance(payload, ResultPayload), "progress ends no task"  # noqa: S101
    return payload


def spellings(name: str) -> list[str]:
    """Every name of a field on the wire; the first is the AI server's."""
    names = [name, *(alias for alias, field in ALIASES.items() if field == name)]
    usual = [each if each in SNAKE_CASED else camel_case(each) for each in names]
    return list(dict.fromkeys([*usual, *map(camel_case, names), *names]))


@lru_cache(maxsize=1024)
def field_name(key: str) -> str:
    """The field that a key of an envelope or payload means, in snake_case."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower()
    return ALIASES.get(name, name)


def is_exact(name: str) -> bool:
    """Whether a field, by its name in snake_case, is an ID or an S3 key: never repaired."""
    return name.endswith("_id") or "_s3_" in name


def camel_case(name: str) -> str:
    """A name in snake_case, written in camelCase."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
