"""The JSON documents that the AI server leaves in S3: their types, and decoding them.

Names and variants are the contract's. A field that nothing is stored from is not declared: it cannot make a
document invalid. Required is only what a document would be meaningless without, or would destroy something.
Decoding is as liberal as the contract: numbers may be written as strings, unknown fields are ignored, and "not
given" is absent, null or "". What PostgreSQL cannot hold (NUL, half a surrogate pair, numbers that are not finite) is
repaired and counted. Of a key that an object has twice, the last one counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, TypeVar

import msgspec

from graphnode.contract.repairs import Warnings, without_lone_surrogates, without_not_finite, without_nul
from graphnode.contract.streams import BYTE_ORDER_MARK, Source, elements
from graphnode.contract.values import MAX_INTEGER
from graphnode.errors import InvalidDocument
from graphnode.steps import step
from graphnode.text import excerpt

#: Longest ID in characters. PostgreSQL indexes at most 2,704 bytes of a row: this ID and its user's, four bytes each.
MAX_ID_LENGTH = 450

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_LENGTH)]
Integer = Annotated[int, msgspec.Meta(ge=-MAX_INTEGER - 1, le=MAX_INTEGER)]
NodeId = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
#: The AI server's own keys of clusters and subclusters: text for us, whichever it writes.
ClusterId = (
    Annotated[str, msgspec.Meta(max_length=MAX_ID_LENGTH)] | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
)
#: ISO 8601, or seconds since 1970. Left as it comes: an unreadable time is worth a warning, not the document.
Moment = str | float | None
#: A value that is only ever shown: stored as it comes.
Shown = str | int | float | bool | None

#: The most conversations of a features document: their names are all that is in memory of it.
MOST_CONVERSATIONS = 1_000_000

#: Levels below the root that typed objects reach at most (block graph → blocks → block → micro graph).
TYPED_LEVELS = 6


class GraphNode(msgspec.Struct, frozen=True, gc=False):
    """A conversation, note, page or file."""

    id: NodeId
    """The graph's own number for it, from 0."""
    orig_id: Id
    """The source conversation, note, page or file; the AI server's prefixes are taken off."""
    cluster_id: ClusterId | None = None
    """The cluster it belongs to."""
    cluster_name: str | None = None
    """That cluster's name."""
    cluster_confidence: float | None = None
    """How sure the AI server is of the cluster, 0 to 1."""
    keywords: list[dict[str, Any] | str] = []
    """What it is about: `{term, score}`, or the term alone."""
    top_keywords: list[dict[str, Any] | str] = []
    """Stands in for `keywords` where those are empty."""
    source_type: str | None = None
    """`chat`, `markdown`, `notion`, `file`, or a raw format such as `pdf`; absent: a chat."""
    timestamp: Moment = None
    """When it is from: ISO 8601, or seconds since 1970."""
    create_time: Moment = None
    """When its source was made. Read where `timestamp` is not given."""
    update_time: Moment = None
    """When its source was last changed. Read where `timestamp` is not given."""
    num_sections: Integer | None = None
    """How many sections its source has."""
    num_messages: Integer | None = None
    """How many messages its source has."""
    metadata: dict[str, Any] = {}
    """Anything else about it: stored as it comes."""


class GraphEdge(msgspec.Struct, frozen=True, gc=False):
    """Two nodes that have to do with one another. `confidence` is a word or a number."""

    source: NodeId
    """The `id` of a node."""
    target: NodeId
    """The `id` of another node."""
    weight: float | None = None
    """How close the two are, 0 to 1."""
    is_intra_cluster: bool | None = None
    """Whether both are in one cluster; not given: it is looked up."""
    confidence: Any = None
    """`high` makes the edge `hard`; any other word, and any number, an `insight`."""


class GraphSubcluster(msgspec.Struct, frozen=True, gc=False):
    """Nodes of one cluster that belong closer together."""

    id: Id | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    """The AI server's key of it."""
    cluster_id: ClusterId | None = None
    """The cluster it is a part of."""
    node_ids: list[NodeId] = []
    """The `id`s of its nodes."""
    representative_node_id: NodeId | None = None
    """The `id` of the node that stands for it."""
    density: float | None = None
    """How closely its nodes are connected, 0 to 1."""
    top_keywords: list[Any] = []
    """What it is about."""


class GraphCluster(msgspec.Struct, frozen=True, gc=False):
    """What the document's metadata say of a cluster."""

    name: str | None = None
    """What it is called."""
    description: str | None = None
    """What it is about, in a sentence."""
    key_themes: list[str] = []
    """What it is about, in words."""


class GraphFile(msgspec.Struct, frozen=True, gc=False):
    """A whole graph as it lies in S3. Without `nodes` it is none: it would empty the user's graph."""

    nodes: list[GraphNode]
    """The nodes. May be empty."""
    edges: list[GraphEdge] = []
    """The edges. Self-loops, repeated ones and those to unknown nodes are dropped."""
    subclusters: list[GraphSubcluster] = []
    """Denser parts of the clusters."""
    metadata: dict[str, Any] = {}
    """How the graph was made. `clusters` in it describes the clusters; the rest is stored as it comes."""


class GraphDocument(GraphFile, frozen=True, gc=False):
    """A whole graph, its clusters taken out of the metadata."""

    clusters: dict[str, GraphCluster] = {}
    """By cluster ID."""


class Conversation(msgspec.Struct, frozen=True, gc=False):
    """What an embedding is of."""

    orig_id: Any = None
    """The `orig_id` of its node. The embedding of a conversation without one belongs to no node."""


class FeaturesFile(msgspec.Struct, frozen=True, gc=False):
    """What the AI server computed of each source. Never decoded whole: read_conversations and read_embeddings do it."""

    conversations: list[Conversation]
    """The sources, in the order of `embeddings`."""
    embeddings: list[list[float | None]] = []
    """Row i is the embedding of `conversations[i]`. All rows have one width."""


class SummaryOverview(msgspec.Struct, frozen=True, gc=False):
    """The graph in a few sentences. Its totals are not read: they are recounted."""

    file_counts_by_extension: dict[str, Any] = {}
    """How many files there are of each extension."""
    time_span: Any = None
    """From when to when the sources are."""
    primary_interests: list[Any] = []
    """What the user cares about most."""
    conversation_style: Shown = None
    """How the user talks."""
    most_active_period: Shown = None
    """When the user talks most."""
    summary_text: Shown = None
    """The whole, in a few sentences."""


class SummaryCluster(msgspec.Struct, frozen=True, gc=False):
    """What a cluster is about."""

    cluster_id: Shown = None
    """The cluster's key in the graph."""
    name: Shown = None
    """What it is called."""
    size: Shown = None
    """How many nodes it has."""
    density: Shown = None
    """How closely its nodes are connected, 0 to 1."""
    centrality: Shown = None
    """How central it is in the graph, 0 to 1."""
    recency: Shown = None
    """How recent it is."""
    top_keywords: list[Any] = []
    """The keywords that are named most."""
    key_themes: list[Any] = []
    """What it is about."""
    common_question_types: list[Any] = []
    """What kinds of questions the user asks."""
    insight_text: Shown = None
    """What it says about the user."""
    notable_conversations: list[Any] = []
    """Conversations that stand out."""


class SummaryPattern(msgspec.Struct, frozen=True, gc=False):
    """Something that recurs."""

    pattern_type: Shown = None
    """What kind of pattern it is."""
    description: Shown = None
    """The pattern in a sentence."""
    evidence: list[Any] = []
    """What shows it."""
    significance: Shown = None
    """How much it matters."""


class SummaryConnection(msgspec.Struct, frozen=True, gc=False):
    """What ties two clusters together."""

    source_cluster: Shown = None
    """One cluster's key."""
    target_cluster: Shown = None
    """The other's."""
    connection_strength: Shown = None
    """How close they are, as a word or a number."""
    bridge_keywords: list[Any] = []
    """The keywords they share."""
    description: Shown = None
    """The connection in a sentence."""


class SummaryRecommendation(msgspec.Struct, frozen=True, gc=False):
    """Something the user may want to do next."""

    type: Shown = None
    """What kind of recommendation it is."""
    title: Shown = None
    """The recommendation in a few words."""
    description: Shown = None
    """The recommendation in a sentence."""
    related_nodes: list[Any] = []
    """The nodes it is about."""
    priority: Shown = None
    """How urgent it is, as a word or a number."""


class SummaryDocument(msgspec.Struct, frozen=True, gc=False):
    """A graph's summary."""

    overview: SummaryOverview
    """The graph as a whole."""
    clusters: list[SummaryCluster] = []
    """Cluster by cluster."""
    patterns: list[SummaryPattern] = []
    """What recurs across clusters."""
    connections: list[SummaryConnection] = []
    """What ties clusters together."""
    recommendations: list[SummaryRecommendation] = []
    """What the user may want to do next."""
    generated_at: Moment = None
    """When the AI server wrote it."""
    detail_level: str | None = None
    """`brief`, `standard` or `detailed`."""


class AddNodeNode(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A new node, or new values of a stored one. `id` is `{userId}_{origId}`."""

    id: str | None = None
    """`{userId}_{origId}`."""
    orig_id: str | None = None
    """The source conversation, note, page or file. Read before `id`."""
    cluster_id: ClusterId | None = None
    """The cluster it goes to."""
    cluster_name: str | None = None
    """That cluster's name."""
    num_messages: Integer | None = None
    """How many messages its source has."""
    num_sections: Integer | None = None
    """How many sections its source has."""
    timestamp: Moment = None
    """When it is from."""
    created_at: Moment = None
    """When its source was made. Read where `timestamp` is not given."""
    updated_at: Moment = None
    """When its source was last changed. Read where `timestamp` is not given."""


class AddNodeEdge(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """An edge. Its ends are named by string ID, by original ID, or by a stored node's integer ID."""

    source: str | int = ""
    """One end: a string ID, an original ID, or a stored node's integer (as number or digits). Without it: dropped."""
    target: str | int = ""
    """The other end, named in the same ways. Without it: dropped."""
    weight: float | None = None
    """How close the two are, 0 to 1."""
    type: str | None = None
    """`hard` or `insight`; anything else leaves a stored edge's type as it is."""
    intra_cluster: bool = True
    """Whether both are in one cluster."""


class AssignedCluster(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The cluster that a result's nodes go to; a new one is described here."""

    cluster_id: ClusterId | None = None
    """Its key: a stored cluster's, or a new one."""
    confidence: float | None = None
    """How sure the AI server is, 0 to 1."""
    reasoning: str | None = None
    """Why this cluster: a new one's description."""
    name: str | None = None
    """What it is called."""
    themes: list[str] = []
    """What it is about."""


class AddNodeResult(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What became of one source. Which of the three IDs names it says what it is."""

    conversation_id: Shown = None
    """The source, if it is a conversation."""
    note_id: Shown = None
    """The source, if it is a note."""
    file_id: Shown = None
    """The source, if it is a file."""
    nodes: list[AddNodeNode] = []
    """The nodes made of it."""
    edges: list[AddNodeEdge] = []
    """Their edges, among themselves and to stored nodes."""
    assigned_cluster: AssignedCluster | None = None
    """The cluster the nodes go to."""
    skipped: bool = False
    """Whether the AI server passed it over: nothing of it is stored."""
    error: Any = None
    """What went wrong with it: nothing of it is stored, and the others are."""


class AddNodeBatch(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """New sources to merge into a user's graph."""

    results: list[AddNodeResult]
    """One entry a source."""
    user_id: str | None = None
    """Whose graph it is for: the envelope's user, if it is given."""


class ChunkNode(msgspec.Struct, frozen=True, gc=False):
    """Something that a chunk speaks of."""

    name: Shown = None
    """What it is called; edges name it so."""
    type: Shown = None
    """What kind of thing it is."""
    description: Shown = None
    """What is said of it."""
    source_chunk_id: Shown = None
    """The chunk it was found in."""


class ChunkEdge(msgspec.Struct, frozen=True, gc=False):
    """How two things of a chunk, named by `name`, relate."""

    start: Shown = None
    """The `name` of the node it begins at."""
    target: Shown = None
    """The `name` of the node it leads to."""
    type: Shown = None
    """How they relate."""
    description: Shown = None
    """How they relate, in a sentence."""
    source_chunk_id: Shown = None
    """The chunk it was found in."""
    evidence: Shown = None
    """The words that show it."""
    confidence: Shown = None
    """How sure the AI server is, as a word or a number."""


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """The graph of one chunk of a document, as the microscope standardized it."""

    nodes: list[ChunkNode]
    """What it speaks of."""
    edges: list[ChunkEdge] = []
    """How these relate."""


class MicroGraph(msgspec.Struct, frozen=True, gc=False):
    """The small graph inside a block."""

    nodes: list[Any] = []
    """Its nodes, as they come."""
    edges: list[Any] = []
    """Its edges, as they come."""


class Block(msgspec.Struct, frozen=True, gc=False):
    """A passage of a document. Some builds name it by `id`: decode_block_graph makes that a `block_id`."""

    block_id: Shown = None
    """Its ID in the document; edges name it so."""
    title: Shown = None
    """Its heading."""
    summary: Shown = None
    """What it says, in a sentence or two."""
    key_concepts: list[Any] = []
    """What it is about."""
    order_index: Shown = None
    """Its place in the reading order."""
    turn_range: tuple[int, int] | None = None
    """The first and the last turn of a conversation that it covers."""
    micro_graph: MicroGraph | None = None
    """What it speaks of, and how that relates."""
    raw_text: Shown = None
    """The passage itself."""


class BlockEdge(msgspec.Struct, frozen=True, gc=False):
    """How two blocks, named by their IDs, relate."""

    source: Shown = None
    """The ID of one block."""
    target: Shown = None
    """The ID of the other."""
    type: Shown = None
    """`PREREQUISITE_OF`, `FOLLOWS`, `ELABORATES`, `CONTRASTS` or `PARALLEL`."""
    description: Shown = None
    """How they relate, in a sentence."""
    confidence: Shown = None
    """How sure the AI server is, as a word or a number."""


class BlockGraph(msgspec.Struct, frozen=True, gc=False):
    """A document as blocks that build on one another."""

    blocks: list[Block]
    """The blocks."""
    edges: list[BlockEdge] = []
    """How the blocks relate."""
    paths: Any = None
    """Ways to read the document, as they come."""
    ordering_rationale: Shown = None
    """Why the blocks are in this order."""


T = TypeVar("T")

_GRAPH_FILE = msgspec.json.Decoder(GraphFile, strict=False)
_SUMMARY = msgspec.json.Decoder(SummaryDocument, strict=False)
_ADD_NODE_BATCH = msgspec.json.Decoder(AddNodeBatch, strict=False)
_CHUNKS: msgspec.json.Decoder[list[Chunk] | Chunk] = msgspec.json.Decoder(list[Chunk] | Chunk, strict=False)
_OBJECT = msgspec.json.Decoder(dict[str, Any])

# msgspec learns a type at its first use, and crashes the process when two threads make it do so at once. The decoders
# above have taught it theirs; these are for what is converted.
for _converted_type in (GraphCluster, BlockGraph):
    msgspec.json.Decoder(_converted_type)


def decode_graph(raw: bytes, *, warnings: Warnings | None = None) -> GraphDocument:
    """Decode the graph document of a graph generation.

    Parameters:
      raw: the object's bytes: UTF-8 JSON, with or without byte order mark.
      warnings: repairs of the text are counted here.

    Raises InvalidDocument with the path in the document, what was expected there and what was found.
    """
    file = _read(raw, _GRAPH_FILE, warnings)
    metadata = dict(file.metadata)
    clusters = _converted(metadata.pop("clusters", None) or {}, dict[str, Any], at="metadata.clusters")
    return GraphDocument(
        nodes=file.nodes,
        edges=file.edges,
        subclusters=file.subclusters,
        metadata=metadata,
        clusters={
            cluster_id: _converted(
                cluster, GraphCluster, at=f"metadata.clusters.{excerpt(cluster_id)}", log_at="metadata.clusters[…]"
            )
            for cluster_id, cluster in clusters.items()
            if cluster is not None and cluster != ""
        },
    )


def read_conversations(source: Source) -> Iterator[str | None]:
    """The original IDs of a features document's conversations, in order, read as they come.

    It reads no further than it must: whoever writes `conversations` first, as the AI server does, spares the rest.
    None stands for an ID that is not given, or that no node can have.

    Raises InvalidDocument.
    """
    for index, conversation in enumerate(elements(source, "conversations", required=True)):
        if not isinstance(conversation, dict):
            raise InvalidDocument(f"conversations[{index}]: expected object, got {_described(conversation)}")
        if index == MOST_CONVERSATIONS:
            raise InvalidDocument(f"conversations: expected at most {MOST_CONVERSATIONS}, got more")
        name = conversation.get("orig_id")
        if name is None or isinstance(name, dict | list) or len(name := str(name).replace("\0", "")) > MAX_ID_LENGTH:
            yield None
        else:
            yield name


def read_embeddings(source: Source) -> Iterator[list[float | None]]:
    """The rows of a features document, read as they come; a row that is not given is empty.

    Raises InvalidDocument.
    """
    for index, row in enumerate(elements(source, "embeddings")):
        try:
            yield msgspec.convert(row or [], list[float | None], strict=False)
        except msgspec.ValidationError as error:
            raise _explained(str(error), row, f"embeddings[{index}]") from None


def decode_summary(raw: bytes, *, warnings: Warnings | None = None) -> SummaryDocument:
    """Decode a summary document. Parameters and errors are those of decode_graph."""
    return _read(raw, _SUMMARY, warnings)


def decode_add_node_batch(raw: bytes, *, warnings: Warnings | None = None) -> AddNodeBatch:
    """Decode an add-node batch. Parameters and errors are those of decode_graph."""
    return _read(raw, _ADD_NODE_BATCH, warnings)


def decode_chunks(raw: bytes, *, warnings: Warnings | None = None) -> list[Chunk]:
    """Decode a microscope's standardized document: an array of chunks, or one chunk.

    Parameters and errors are those of decode_graph.
    """
    chunks = _read(raw, _CHUNKS, warnings)
    return chunks if isinstance(chunks, list) else [chunks]


def decode_block_graph(raw: bytes, *, warnings: Warnings | None = None) -> BlockGraph:
    """Decode a microscope's block graph, bare or inside `block_graph`.

    Parameters and errors are those of decode_graph.
    """
    document = _read(raw, _OBJECT, warnings)
    graph = document.get("block_graph") or document
    if isinstance(graph, dict) and isinstance(graph.get("blocks"), list):
        for block in graph["blocks"]:
            if isinstance(block, dict) and block.get("block_id") in (None, ""):
                block["block_id"] = block.pop("id", None)
    return _converted(graph, BlockGraph, at="" if graph is document else "block_graph")


def _read(raw: bytes, decoder: msgspec.json.Decoder[T], warnings: Warnings | None) -> T:
    """Decode. What fails is read a second time: slower, but that forgives more and can say what is wrong."""
    warnings = {} if warnings is None else warnings
    text = without_nul(raw.removeprefix(BYTE_ORDER_MARK), warnings)
    try:
        with step("decode"):
            try:
                return decoder.decode(text)
            except (msgspec.DecodeError, UnicodeDecodeError):
                return _converted(_parsed(text, warnings), decoder.type)
    except RecursionError:
        raise InvalidDocument("not a document: arrays or objects are nested too deep") from None


def _parsed(text: bytes, warnings: Warnings) -> Any:
    """The JSON value of a text. Raises InvalidDocument, naming the byte, if it is none."""
    if not text.strip():
        raise InvalidDocument("not JSON: empty")
    try:
        text.decode()
    except UnicodeDecodeError as error:
        found = text[error.start]
        raise InvalidDocument(f"not UTF-8: byte 0x{found:02x} at byte {error.start}") from None
    text = without_lone_surrogates(text, warnings)
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        finite = without_not_finite(text, warnings)
        if finite != text:
            return _parsed(finite, warnings)
        raise _malformed(str(error), text) from None


def _malformed(problem: str, text: bytes) -> InvalidDocument:
    if not (found := re.search(r"\(byte (\d+)\)$", problem)):
        problem = problem.partition(" - at ")[0]
        return InvalidDocument(f"not JSON: {problem[0].lower()}{problem[1:]} ({len(text)} bytes)")
    position = int(found[1])
    surroundings = text[max(0, position - 20) : position + 20].decode(errors="ignore")
    said = f"not JSON: {problem.removeprefix('JSON is malformed: ')}"
    return InvalidDocument(f"{said}, near {surroundings!r}", log=said)


def _converted(value: Any, kind: type[T], *, at: str = "", log_at: str | None = None) -> T:
    """Give a parsed value its type; if need be without the fields that are there but not given, which it then loses.

    Parameters:
      at: the value's path in the document.
      log_at: the path as logs name it, if `at` holds a name of the document's own.

    Raises InvalidDocument.
    """
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        pass
    _drop_not_given(value, TYPED_LEVELS)
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _explained(str(error), value, at, log_at=log_at) from None


def _drop_not_given(value: Any, levels: int) -> None:
    """Take out what is null or "", in the value itself: the contract's other ways to say "absent"."""
    if levels < 0:
        return
    if isinstance(value, dict):
        for name in [name for name, field in value.items() if field is None or field == ""]:
            del value[name]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inside:
        _drop_not_given(item, levels - 1)


def _explained(problem: str, document: Any, at: str, *, log_at: str | None = None) -> InvalidDocument:
    """What msgspec found wrong with a document: the path, what was expected, what is there."""
    problem, _, path = problem.partition(" - at `$")
    path = path.removesuffix("`")
    value = document
    for name, index in re.findall(r"\.([^.\[]+)|\[(\d+)\]", path):
        value = value[name] if name else value[int(index)]
    place, log_place = (f"{start}{path}" if start else path.removeprefix(".") for start in (at, log_at or at))
    if missing := re.fullmatch("Object missing required field `(.+)`", problem):
        said = f".{missing[1]}: required, but not given"
        return InvalidDocument(f"{place}{said}".removeprefix("."), log=f"{log_place}{said}".removeprefix("."))
    expected = problem.partition(", got ")[0].replace(" | null", "").replace(" | ", " or ").replace("`", "")
    said = f": {expected[0].lower()}{expected[1:]}"
    return InvalidDocument(
        f"{place or 'the document'}{said}, got {_described(value)}",
        log=f"{log_place or 'the document'}{said}",
    )


def _described(value: Any) -> str:
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "array"
    return excerpt(msgspec.json.encode(value).decode())
