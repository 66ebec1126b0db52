"""What the API server asks of the AI server, as the contract spells it: one payload class a request type."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args

import msgspec
from msgspec import Meta
from ulid import ULID

from graphnode.contract import object_keys
from graphnode.contract.envelopes import LONGEST_ID, LONGEST_TASK_ID
from graphnode.contract.task_ids import SUFFIXES, parse_task_id
from graphnode.errors import InvalidRequest
from graphnode.sqs.queues import LARGEST_MESSAGE_BYTES
from graphnode.text import LONGEST_PROBLEM, excerpt

# PostgreSQL stores no U+0000.
Text = Annotated[str, Meta(min_length=1, pattern=r"^[^\x00]*$")]
Id = Annotated[str, Meta(min_length=1, max_length=LONGEST_ID, pattern=r"^[^\x00]*$")]
Clusters = Annotated[int, Meta(ge=1)]


class RequestPayload(msgspec.Struct, frozen=True, kw_only=True):
    """What every request has. A field that is None is not sent.

    Parameters:
      request_type: the contract's name of the request.
      task_type: the type that its task's row is kept under: that of the result which ends it.
      task_id: what its task IDs begin with.
    """

    request_type: ClassVar[str]
    task_type: ClassVar[str]
    task_id: ClassVar[str]

    @property
    def s3_keys(self) -> list[str]:
        """The objects, and prefixes of objects, that it names."""
        named = (getattr(self, name) for name in self.__struct_fields__ if "s3_key" in name)
        return [key for value in named if value for key in ([value] if isinstance(value, str) else value)]

    def wire(self) -> dict[str, Any]:
        """The payload as the AI server reads it."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in fields.items() if value is not None}


class GraphGenerationRequest(RequestPayload, frozen=True, kw_only=True, rename="camel"):
    """Make a graph of all that a user has."""

    request_type = "GRAPH_GENERATION_REQUEST"
    task_type = "GRAPH_GENERATION_RESULT"
    task_id = "task_graph"

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
        # Nothing has checked their types yet, when the API server makes one.
        least, most = self.min_clusters, self.max_clusters
        if isinstance(least, int) and isinstance(most, int) and least > most:
            raise InvalidRequest(f"minClusters is {excerpt(str(least))}, more than maxClusters, {excerpt(str(most))}")


class GraphSummaryRequest(RequestPayload, frozen=True, kw_only=True, rename="camel"):
    """Sum a user's graph up."""

    request_type = "GRAPH_SUMMARY_REQUEST"
    task_type = "GRAPH_SUMMARY_RESULT"
    task_id = "task_summary"

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


class MicroscopeIngestRequest(
    RequestPayload,
    frozen=True,
    kw_only=True,
    rename={"user_id": "userId", "s3_key": "s3Key", "group_id": "groupId"},
):
    """Take a file apart."""

    request_type = "MICROSCOPE_INGEST_REQUEST"
    task_type = "MICROSCOPE_INGEST_RESULT"
    task_id = "task_microscope_file"

    user_id: Id
    """Whose document it is."""
    s3_key: Text
    """The file."""
    group_id: Id
    """The workspace that its document belongs to."""
    type: Text | None = None
    """What kind of file it is."""
    metadata: dict[str, Any] | None = None
    """Anything else about it."""
    bucket: Text | None = None
    """Where the file is, if not in the payload bucket."""
    file_name: Text | None = None
    """What the file is called."""
    schema_name: Text | None = None
    """The schema that the graph is to follow."""
    ingest_mode: Literal["raw_file"] = "raw_file"
    """That it is a file."""
    block_mode: bool | None = None
    """Which half of the document this is, if it is sent in halves."""


class MicroscopeIngestFromNodeRequest(RequestPayload, frozen=True, kw_only=True):
    """Take a note or a conversation apart that is a node of the user's graph."""

    request_type = "MICROSCOPE_INGEST_FROM_NODE_REQUEST"
    task_type = "MICROSCOPE_INGEST_FROM_NODE_RESULT"
    task_id = "task_microscope_node"

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
    """That it is a node."""
    block_mode: bool | None = None
    """Which half of the document this is, if it is sent in halves."""


#: The requests that are about a document of a workspace.
MicroscopeRequest = MicroscopeIngestRequest | MicroscopeIngestFromNodeRequest

#: Any request.
AnyRequest = GraphGenerationRequest | GraphSummaryRequest | AddNodeRequest | MicroscopeRequest

#: The class of each request.
KINDS: tuple[type[AnyRequest], ...] = get_args(AnyRequest)

# msgspec learns a type at its first use, and crashes the process when two threads make it do so at once.
for _kind in KINDS:
    msgspec.json.Decoder(_kind)


def new_task_id(kind: type[RequestPayload], *, user_id: str) -> str:
    """A task's ID, or a microscope document's, as the contract has them."""
    return f"{kind.task_id}_{user_id}_{ULID()}"


def checked(payload: AnyRequest) -> AnyRequest:
    """The payload, if it is what the contract says. Raises InvalidRequest, which names the field."""
    try:
        found = msgspec.convert(msgspec.to_builtins(payload), type(payload))
    except (msgspec.ValidationError, UnicodeEncodeError, TypeError, RecursionError) as error:
        raise InvalidRequest(f"{payload.request_type}: {problem_of(error)}") from None
    check_keys(found)
    return found


def problem_of(error: Exception) -> str:
    """What is wrong with a payload, and in which field: msgspec quotes a value whole, however long it is."""
    problem, at, path = str(error).partition(" - at ")
    return f"{excerpt(problem, most=LONGEST_PROBLEM)}{at}{path}"


def check_keys(payload: AnyRequest) -> None:
    """See that what the payload names in S3 are keys. Raises InvalidRequest."""
    for key in payload.s3_keys:
        if fault := object_keys.fault_of(key):
            raise InvalidRequest(f"{payload.request_type}: the S3 key {excerpt(key, most=LONGEST_PROBLEM)!r} {fault}")


def check_name(name: str) -> None:
    """See that a workspace's name is one that PostgreSQL can hold. Raises InvalidRequest."""
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in name):
        raise InvalidRequest(f"The workspace's name {excerpt(name)!r} has U+0000, or a surrogate: it can be no text")


class Message(NamedTuple):
    """The message that asks for a task.

    Parameters:
      body: the envelope.
    """

    task_id: str
    payload: AnyRequest
    body: str

    @property
    def user_id(self) -> str:
        """Whose task it is."""
        return self.payload.user_id


def message_of(task_id: str, payload: AnyRequest) -> Message:
    """The message that asks for a task, now. Raises InvalidRequest for what cannot be one.

    Parameters:
      payload: a checked one.
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
    if len(body) > LARGEST_MESSAGE_BYTES:
        raise InvalidRequest(
            f"{payload.request_type} has {len(body)} bytes as a message; SQS takes {LARGEST_MESSAGE_BYTES}: "
            "put what is large into S3"
        )
    return Message(task_id, payload, body.decode())


def halves_of(document_id: str, payload: AnyRequest) -> list[Message]:
    """The two messages that ask for a microscope document in halves: block, non-block (the contract).

    Raises InvalidRequest for another request, and for one that is of a half already.
    """
    if not isinstance(payload, MicroscopeRequest):
        raise InvalidRequest(f"{payload.request_type}: only a microscope document is sent in halves")
    if payload.block_mode is not None or parse_task_id(document_id).half:
        raise InvalidRequest(
            f"{payload.request_type}: in halves, both are made here: block_mode is not given, nor the half in the ID"
        )
    return [
        message_of(f"{document_id}{suffix}", msgspec.structs.replace(payload, block_mode=half == "block"))
        for suffix, half in SUFFIXES.items()
    ]
