"""The messages on the result queue: the payload of each task type, and the actor that handles it.

A new task type is one payload class here, one line in ROUTES, and one actor module (docs/add-a-task-type.md).
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from graphnode.contract.repairs import Warnings
from graphnode.contract.values import MAX_INTEGER

#: The Dramatiq queue for the AI server's envelopes.
RESULT_QUEUE = "results"

#: The Dramatiq queue for the worker's own messages.
NOTIFICATION_QUEUE = "notifications"

#: The queue for requests to the AI server. The worker does not consume it.
REQUEST_QUEUE = "requests"

#: The error text of a failure for which the AI server gave none (the contract).
NO_ERROR_GIVEN = "The AI server gave no reason."

#: The longest IDs, in characters. PostgreSQL indexes at most 2,704 bytes of a row, and the key of a notification holds
#: a task ID and a workspace ID. A microscope task's ID contains its user's ID.
LONGEST_ID = 200
LONGEST_TASK_ID = 400

#: In seconds, about thirty years. It rules out "inf", which no column holds.
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

Text = Annotated[str, Meta(min_length=1)]
Id = Annotated[str, Meta(min_length=1, max_length=LONGEST_ID)]
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
    error: str | None = None
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
    """The AI server summarized a user's graph, or failed to."""

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
    """The AI server analyzed one document, or failed to."""

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
    """Anything the AI server counted: stored unchanged."""
    standardized_s3_key: str | None = None
    """The microscope's standardized document. It may be the block graph: the task ID or the content tells."""
    block_graph_s3_key: str | None = None
    """The microscope's block graph. It may be the standardized document: the task ID or the content tells."""
    images_s3_prefix: str | None = None
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


def camel_case(name: str) -> str:
    """A name in snake_case, written in camelCase."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
