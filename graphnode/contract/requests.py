"""The requests that the API server sends to the AI server: one payload class for each type."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args

import msgspec
from msgspec import Meta
from ulid import ULID

from graphnode.contract import object_keys
from graphnode.contract.envelopes import LONGEST_ID, LONGEST_TASK_ID
from graphnode.contract.notifications import (
    DocumentRequested,
    DocumentRequestFailed,
    GraphRequested,
    GraphRequestFailed,
    NodesRequested,
    NodesRequestFailed,
    Notice,
    RequestFailed,
    SummaryRequested,
    SummaryRequestFailed,
)
from graphnode.contract.task_ids import SUFFIXES, Half, parse_task_id
from graphnode.errors import ForbiddenKey, InvalidRequest
from graphnode.text import LONGEST_PROBLEM, excerpt

#: The most bytes of a request as a message: SQS's quota.
LARGEST_REQUEST_BYTES = 1024 * 1024

# PostgreSQL stores no U+0000.
Text = Annotated[str, Meta(min_length=1, pattern=r"^[^\x00]*$")]
Id = Annotated[str, Meta(min_length=1, max_length=LONGEST_ID, pattern=r"^[^\x00]*$")]
Clusters = Annotated[int, Meta(ge=1)]


class RequestPayload(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of a request. A field that is None is not sent.

    Parameters:
      request_type: the type of the request in the contract.
      task_type: the task type of the task's row: the type of the result that ends the task.
      task_id: the prefix of its task IDs.
      requested, not_published: the notifications of a request that was registered, and of one that was not published.
    """

    request_type: ClassVar[str]
    task_type: ClassVar[str]
    task_id: ClassVar[str]
    requested: ClassVar[type[Notice]]
    not_published: ClassVar[type[RequestFailed]]

    @property
    def s3_keys(self) -> list[str]:
        """The S3 keys and key prefixes in this payload."""
        named = (getattr(self, name) for name in self.__struct_fields__ if "s3_key" in name)
        return [key for value in named if value for key in ([value] if isinstance(value, str) else value)]

    def wire(self) -> dict[str, Any]:
        """The payload in the spelling of the contract."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in fields.items() if value is not None}


class GraphGenerationRequest(RequestPayload, frozen=True, kw_only=True, rename="camel"):
    """Make a graph of everything a user has."""

    request_type = "GRAPH_GENERATION_REQUEST"
    task_type = "GRAPH_GENERATION_RESULT"
    task_id = "task_graph"
    requested = GraphRequested
    not_published = GraphRequestFailed

    user_id: Id
    """Whose graph it is."""
    s3_key: Text
    """The input object, or a prefix that ends in `/`."""
    bucket: Text | None = None
    """Where the input is, if not in the payload bucket."""
    include_summary: bool | None = None
    """Whether to make a summary as well."""
    summary_language: Text | None = None
    """The summary's language."""
    language: Text | None = None
    """The language of names and keywords."""
    input_type: Text | None = None
    """What the input objects are."""
    min_clusters: Clusters | None = None
    """The fewest clusters to make."""
    max_clusters: Clusters | None = None
    """The most clusters to make: no fewer than `minClusters`."""
    extra_s3_keys: list[Text] | None = None
    """More input objects."""

    def __post_init__(self) -> None:
        # When the API server makes one, no type has been checked yet.
        least, most = self.min_clusters, self.max_clusters
        if isinstance(least, int) and isinstance(most, int) and least > most:
            raise InvalidRequest(f"minClusters is {excerpt(str(least))}, more than maxClusters, {excerpt(str(most))}")


class GraphSummaryRequest(RequestPayload, frozen=True, kw_only=True, rename="camel"):
    """Summarize a user's graph."""

    request_type = "GRAPH_SUMMARY_REQUEST"
    task_type = "GRAPH_SUMMARY_RESULT"
    task_id = "task_summary"
    requested = SummaryRequested
    not_published = SummaryRequestFailed

    user_id: Id
    """Whose graph it is."""
    graph_s3_key: Text
    """The graph's document."""
    bucket: Text | None = None
    """Where the documents are, if not in the payload bucket."""
    vector_db_s3_key: Text | None = None
    """The graph's embeddings."""
    language: Text | None = None
    """The summary's language."""


class AddNodeRequest(RequestPayload, frozen=True, kw_only=True, rename="camel"):
    """Place new sources in a user's graph."""

    request_type = "ADD_NODE_REQUEST"
    task_type = "ADD_NODE_RESULT"
    task_id = "task_add_node"
    requested = NodesRequested
    not_published = NodesRequestFailed

    user_id: Id
    """Whose graph it is."""
    s3_key: Text
    """The input object, or a prefix that ends in `/`."""
    bucket: Text | None = None
    """Where the input is, if not in the payload bucket."""
    input_type: Text | None = None
    """What the input objects are."""
    language: Text | None = None
    """The language of names and keywords."""


class MicroscopeIngestRequest(RequestPayload, frozen=True, kw_only=True):
    """Analyze a file."""

    request_type = "MICROSCOPE_INGEST_REQUEST"
    task_type = "MICROSCOPE_INGEST_RESULT"
    task_id = "task_microscope_file"
    requested = DocumentRequested
    not_published = DocumentRequestFailed

    user_id: Id
    """Whose document it is."""
    s3_key: Text
    """The file."""
    group_id: Id
    """The workspace that its document belongs to."""
    file_name: Text
    """What the file is called."""
    bucket: Text | None = None
    """Where the file is, if not in the payload bucket."""
    schema_name: Text | None = None
    """The schema that the graph is to follow."""
    ingest_mode: Literal["raw_file"] = "raw_file"
    """Says that the source is a file."""
    block_mode: bool | None = None
    """Which half of the document this is, if it is sent in halves."""
    generate_micro_graphs: bool | None = None
    """Whether each block is to have a micro graph: true in the block half."""
    type: Text | None = None
    """What kind of file it is."""
    metadata: dict[str, Any] | None = None
    """Anything else about it."""


class MicroscopeIngestFromNodeRequest(RequestPayload, frozen=True, kw_only=True):
    """Analyze a note or a conversation that is a node of the user's graph."""

    request_type = "MICROSCOPE_INGEST_FROM_NODE_REQUEST"
    task_type = "MICROSCOPE_INGEST_FROM_NODE_RESULT"
    task_id = "task_microscope_node"
    requested = DocumentRequested
    not_published = DocumentRequestFailed

    user_id: Id
    """Whose document it is."""
    node_id: Text
    """The node's original ID."""
    node_type: Literal["note", "conversation"]
    """What the node is."""
    group_id: Id
    """The workspace that its document belongs to."""
    schema_name: Text | None = None
    """The schema that the graph is to follow."""
    language: Text | None = None
    """The language of the graph."""
    ingest_mode: Literal["from_graphnode"] = "from_graphnode"
    """Says that the source is a node."""
    block_mode: bool | None = None
    """Which half of the document this is, if it is sent in halves."""
    generate_micro_graphs: bool | None = None
    """Whether each block is to have a micro graph: true in the block half."""


#: The requests for a document of a workspace.
MicroscopeRequest = MicroscopeIngestRequest | MicroscopeIngestFromNodeRequest

#: Any request.
AnyRequest = GraphGenerationRequest | GraphSummaryRequest | AddNodeRequest | MicroscopeRequest

#: The payload class of each request, by its type.
REQUESTS: dict[str, type[AnyRequest]] = {kind.request_type: kind for kind in get_args(AnyRequest)}

# msgspec analyzes a type at its first use. If two threads do that at once, the process crashes: so do it here.
for _kind in REQUESTS.values():
    msgspec.json.Decoder(_kind)


def new_task_id(kind: type[RequestPayload], *, user_id: str) -> str:
    """A new ID for a task or a microscope document, in the form of the contract."""
    return f"{kind.task_id}_{user_id}_{ULID()}"


def validated(payload: AnyRequest) -> AnyRequest:
    """The payload, if it keeps the contract. Raises InvalidRequest, which names the field."""
    try:
        found = msgspec.convert(msgspec.to_builtins(payload), type(payload))
    except (msgspec.ValidationError, UnicodeEncodeError, TypeError, RecursionError) as error:
        raise InvalidRequest(f"{payload.request_type}: {problem_of(error)}") from None
    try:
        object_keys.check_keys(found.s3_keys)
    except ForbiddenKey as error:
        raise InvalidRequest(f"{payload.request_type}: {error}") from None
    return found


def problem_of(error: Exception) -> str:
    """An error's text with its field. Shortened: msgspec quotes a value whole, however long it is."""
    problem, at, path = str(error).partition(" - at ")
    return f"{excerpt(problem, most=LONGEST_PROBLEM)}{at}{path}"


def check_name(name: str) -> None:
    """Raise InvalidRequest if PostgreSQL cannot store a workspace's name."""
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in name):
        raise InvalidRequest(
            f"The workspace's name {excerpt(name)!r} has U+0000 or a surrogate: no text may have these"
        )


class RequestMessage(NamedTuple):
    """A request as a message.

    Parameters:
      body: the envelope in JSON.
    """

    task_id: str
    payload: AnyRequest
    body: str

    @property
    def user_id(self) -> str:
        """Whose task it is."""
        return self.payload.user_id

    @property
    def shown_id(self) -> str:
        """The ID by which the app knows the request: of a half, that of its document."""
        if isinstance(self.payload, MicroscopeRequest):
            return parse_task_id(self.task_id).document_id
        return self.task_id


def message_of(task_id: str, payload: AnyRequest) -> RequestMessage:
    """A request with the current time. Raises InvalidRequest if it cannot be a message.

    Parameters:
      payload: a validated one.
    """
    if not 0 < len(task_id) <= LONGEST_TASK_ID or "\0" in task_id:
        raise InvalidRequest(f"The task ID has {len(task_id)} characters: 1 to {LONGEST_TASK_ID}, and no U+0000")
    if isinstance(payload, MicroscopeRequest) and parse_task_id(task_id).user_id not in (None, payload.user_id):
        raise InvalidRequest(f"The task ID {task_id!r} names another user than {payload.user_id!r}")
    envelope = {
        "taskType": payload.request_type,
        "taskId": task_id,
        "timestamp": datetime.now(UTC).isoformat(),
        "payload": payload.wire(),
    }
    try:
        body = msgspec.json.encode(envelope)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{payload.request_type}: {error}") from None
    if len(body) > LARGEST_REQUEST_BYTES:
        raise InvalidRequest(
            f"{payload.request_type} has {len(body)} bytes as a message; SQS takes {LARGEST_REQUEST_BYTES}: "
            "put large values into S3"
        )
    return RequestMessage(task_id, payload, body.decode())


def halves_of(document_id: str, payload: AnyRequest) -> list[RequestMessage]:
    """The two messages of a microscope document that is sent in halves, block and non-block (the contract).

    Raises InvalidRequest for any other request, and for a request of one half.
    """
    if not isinstance(payload, MicroscopeRequest):
        raise InvalidRequest(f"{payload.request_type}: only a microscope document is sent in halves")
    if (payload.block_mode, payload.generate_micro_graphs) != (None, None) or parse_task_id(document_id).half:
        raise InvalidRequest(
            f"{payload.request_type}: to send it in halves, leave out block_mode, generate_micro_graphs "
            "and the half in the task ID"
        )
    return [message_of(f"{document_id}{suffix}", _half_of(payload, half)) for suffix, half in SUFFIXES.items()]


def _half_of(payload: MicroscopeRequest, half: Half) -> MicroscopeRequest:
    """The payload of one half."""
    is_block = half == "block"
    return msgspec.structs.replace(payload, block_mode=is_block, generate_micro_graphs=True if is_block else None)
