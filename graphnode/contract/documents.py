"""The types of the JSON documents that the AI server puts in S3.

The contract names the fields and their variants. Only fields that are stored are declared; others are ignored. A field
is required only if it identifies what it belongs to: that is malformed without it. A malformed part is left out and
counted (contract/parts.py).
Decoding is as tolerant as the contract: numbers may be texts, and a missing field, null and "" all mean "not given".
What PostgreSQL cannot store (NUL, lone surrogates, numbers that are not finite) is repaired and counted. If an object
has a key twice, the last one counts.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from graphnode.contract.parts import EVERY_ELEMENT, SOME_ELEMENT
from graphnode.contract.values import MAX_INTEGER, Keyword

#: The longest ID, in characters. PostgreSQL indexes at most 2,704 bytes of a row: this ID and the user's, 4 bytes each.
MAX_ID_LENGTH = 450

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_LENGTH)]
Integer = Annotated[int, msgspec.Meta(ge=-MAX_INTEGER - 1, le=MAX_INTEGER)]
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
NodeId = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
#: The AI server's keys of clusters and subclusters. They are stored as text.
ClusterId = (
    Annotated[str, msgspec.Meta(max_length=MAX_ID_LENGTH)] | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
)
#: ISO 8601, or seconds since 1970. Parsed later, so that an unreadable time costs a warning and not the document.
Moment = str | float | None
#: A value that is only displayed: stored unchanged.
Shown = str | int | float | bool | None


class GraphNode(msgspec.Struct, frozen=True, gc=False):
    """A conversation, note, page or file."""

    id: NodeId
    """Its number in the graph, from 0."""
    orig_id: Id
    """The source conversation, note, page or file. The AI server's prefixes are removed."""
    cluster_id: ClusterId | None = None
    """The cluster it belongs to."""
    cluster_name: str | None = None
    """That cluster's name."""
    cluster_confidence: float | None = None
    """How sure the AI server is of the cluster, 0 to 1."""
    keywords: list[Keyword] = []
    """What it is about: `{term, score}`, `[term, score]`, or the term alone."""
    top_keywords: list[Keyword] = []
    """Read where `keywords` is empty."""
    source_type: str | None = None
    """`chat`, `markdown`, `notion`, `file`, or a raw format such as `pdf`. Missing: as the ID says, else a chat."""
    timestamp: Moment = None
    """When it is from: ISO 8601, or seconds since 1970."""
    create_time: Moment = None
    """When its source was made; 0: unknown. Also read where neither `timestamp` nor `update_time` is given."""
    update_time: Moment = None
    """When its source was last changed; 0: unknown. Also read where `timestamp` is not given."""
    num_sections: Integer | None = None
    """How many sections its source has."""
    num_messages: Integer | None = None
    """How many messages its source has."""
    title: str | None = None
    """Its title."""
    label: str | None = None
    """A short name for pictures of the graph."""
    summary: str | None = None
    """What it says, in a few sentences."""
    metadata: dict[str, Any] = {}
    """Anything else about it: stored unchanged, with the raw format of a file as `ai_raw_source_type`."""


class GraphEdge(msgspec.Struct, frozen=True, gc=False):
    """A connection between two nodes. `confidence` is a word or a number."""

    source: int
    """The `id` of a node. If there is no such node, -1 for example, the edge is dropped."""
    target: int
    """The `id` of another node."""
    weight: float | None = None
    """How close the two are, 0 to 1."""
    is_intra_cluster: bool | None = None
    """Whether both are in one cluster. Missing: the worker looks it up."""
    confidence: Any = None
    """`high` makes the edge `hard`; any other word, and any number, an `insight`."""
    relation: str | None = None
    """How the two relate."""


class GraphSubcluster(msgspec.Struct, frozen=True, gc=False):
    """A dense part of a cluster."""

    id: Id | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    """The AI server's key for it."""
    cluster_id: ClusterId | None = None
    """The cluster it is a part of."""
    node_ids: list[int | None] = []
    """The `id`s of its nodes. Those of no node, and null, are dropped."""
    representative_node_id: int | None = None
    """The `id` of the node that stands for it. If it is none of its nodes, -1 for example, the first one does."""
    density: float | None = None
    """How closely its nodes are connected, 0 to 1."""
    internal_edges: Count | None = None
    """How many edges connect its nodes."""
    cohesion_score: float | None = None
    """How well its nodes belong together."""
    top_keywords: list[Any] = []
    """What it is about."""


class GraphCluster(msgspec.Struct, frozen=True, gc=False):
    """A cluster, as the document's metadata describes it."""

    name: str | None = None
    """Its name."""
    description: str | None = None
    """What it is about, in a sentence."""
    key_themes: list[str] = []
    """What it is about, in words."""


class ListedCluster(GraphCluster, frozen=True, gc=False):
    """A cluster in older files, which have an array of them."""

    cluster_id: ClusterId | None = None
    """Its ID."""
    id: ClusterId | None = None
    """Its ID where `cluster_id` is not given."""


class GraphFile(msgspec.Struct, frozen=True, gc=False):
    """A whole graph, as it is in S3. `nodes` is required: without it, the user's graph would be emptied."""

    nodes: Annotated[list[GraphNode], EVERY_ELEMENT]
    """The nodes. May be empty. Each needs `id` and `orig_id`."""
    edges: list[GraphEdge] = []
    """The edges. Self-loops, repeated ones and those to unknown nodes are dropped."""
    subclusters: list[GraphSubcluster] = []
    """Denser parts of the clusters."""
    metadata: dict[str, Any] = {}
    """How the graph was made. Its `clusters` describes the clusters; the rest is stored unchanged."""


class GraphDocument(GraphFile, frozen=True, gc=False):
    """A whole graph, with the clusters taken out of the metadata."""

    clusters: dict[str, GraphCluster] = {}
    """By cluster ID."""


class Conversation(msgspec.Struct, frozen=True, gc=False):
    """The source of an embedding."""

    orig_id: Any = None
    """The `orig_id` of its node. Without it, the embedding belongs to no node."""


class FeaturesFile(msgspec.Struct, frozen=True, gc=False):
    """What the AI server computed for each source. Read in pieces, by FeaturesReader."""

    conversations: list[Conversation]
    """The sources, in the order of `embeddings`."""
    embeddings: list[list[float | None]] = []
    """Row i is the embedding of `conversations[i]`. All rows have one width."""


class SummaryOverview(msgspec.Struct, frozen=True, gc=False):
    """The graph in a few sentences. Its totals are not read: the worker counts them, and the files."""

    file_counts_by_extension: dict[str, Any] = {}
    """The number of files by extension. The worker replaces it by its own count."""
    time_span: Any = None
    """The time span of the sources."""
    primary_interests: list[Any] = []
    """What the user cares about most."""
    conversation_style: Shown = None
    """How the user talks."""
    most_active_period: Shown = None
    """When the user talks most."""
    summary_text: Shown = None
    """The whole graph, in a few sentences."""


class SummaryCluster(msgspec.Struct, frozen=True, gc=False):
    """The summary of a cluster."""

    cluster_id: Shown = None
    """The cluster's key in the graph."""
    name: Shown = None
    """Its name."""
    size: Shown = None
    """How many nodes it has."""
    density: Shown = None
    """How closely its nodes are connected, 0 to 1."""
    centrality: Shown = None
    """How central it is in the graph, 0 to 1."""
    recency: Shown = None
    """How recent it is."""
    top_keywords: list[Any] = []
    """Its most frequent keywords."""
    key_themes: list[Any] = []
    """What it is about."""
    common_question_types: list[Any] = []
    """What kinds of questions the user asks."""
    insight_text: Shown = None
    """What it says about the user."""
    notable_conversations: list[Any] = []
    """Conversations that stand out."""


class SummaryPattern(msgspec.Struct, frozen=True, gc=False):
    """A pattern that recurs in the graph."""

    pattern_type: Shown = None
    """What kind of pattern it is."""
    description: Shown = None
    """The pattern in a sentence."""
    evidence: list[Any] = []
    """The evidence for it."""
    significance: Shown = None
    """How much it matters."""


class SummaryConnection(msgspec.Struct, frozen=True, gc=False):
    """A connection between two clusters."""

    source_cluster: Shown = None
    """The key of one cluster."""
    target_cluster: Shown = None
    """The key of the other cluster."""
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
    """The clusters."""
    patterns: list[SummaryPattern] = []
    """Patterns across clusters."""
    connections: list[SummaryConnection] = []
    """Connections between clusters."""
    recommendations: list[SummaryRecommendation] = []
    """What the user may want to do next."""
    generated_at: Moment = None
    """When the AI server wrote it."""
    detail_level: str | None = None
    """`brief`, `standard` or `detailed`."""


class AddNodeNode(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A new node, or new values of a stored one."""

    id: str | None = None
    """`{userId}_{origId}`, or any text beside `origId`. Edges of the batch may refer to it."""
    orig_id: str | None = None
    """The source conversation, note, page or file. Read before `id`."""
    cluster_id: ClusterId | None = None
    """The cluster it goes to."""
    cluster_name: str | None = None
    """That cluster's name."""
    num_messages: Integer | None = None
    """How many messages its source has. A stored number never shrinks."""
    num_sections: Integer | None = None
    """How many sections its source has. Read before `num_messages`."""
    title: str | None = None
    """Its title."""
    label: str | None = None
    """A short name for pictures of the graph."""
    summary: str | None = None
    """What it says, in a few sentences."""
    timestamp: Moment = None
    """When it is from."""
    created_at: Moment = None
    """When its source was made. Also read where neither `timestamp` nor `updatedAt` is given."""
    updated_at: Moment = None
    """When its source was last changed. Also read where `timestamp` is not given."""


class AddNodeEdge(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """An edge between two nodes, new or stored."""

    source: str | int = ""
    """One end: any ID that the batch gives a node, an original ID, or a stored node's integer ID (number or digits).
    Missing: dropped."""
    target: str | int = ""
    """The other end, in the same forms. Missing: dropped."""
    weight: float | None = None
    """How close the two are, 0 to 1. Missing: 1 for a new edge, and a stored one keeps its weight."""
    type: str | None = None
    """`hard` or `insight`. With anything else, a new edge is `hard`, and a stored one keeps its type."""
    intra_cluster: bool = True
    """Whether both are in one cluster."""
    relation: str | None = None
    """How the two relate. Missing: a stored edge keeps it."""


class AssignedCluster(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The cluster that the nodes go to. Of a new cluster, this is the description."""

    cluster_id: ClusterId | None = None
    """Its key, stored or new."""
    confidence: float | None = None
    """How sure the AI server is, 0 to 1."""
    reasoning: str | None = None
    """Why this cluster. It becomes the description of a new cluster."""
    name: str | None = None
    """Its name."""
    themes: list[str] = []
    """What it is about."""


class AddNodeItem(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One source of the batch. The one ID that is given tells what kind of source it is."""

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
    """Whether the AI server skipped it. Then nothing of it is stored."""
    error: Any = None
    """What failed. It is counted; nodes and edges beside it are stored."""


class AddNodeBatch(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """New sources to merge into a user's graph."""

    results: list[AddNodeItem] | None
    """The sources. null: there are none."""
    user_id: str | None = None
    """Whose graph it is for. If given, it must be the envelope's user."""


class ChunkNode(msgspec.Struct, frozen=True, gc=False):
    """A thing that a chunk mentions."""

    name: Shown = None
    """Its name. Edges refer to it."""
    type: Shown = None
    """What kind of thing it is."""
    description: Shown = None
    """What the chunk says about it."""
    source_chunk_id: Shown = None
    """The chunk it was found in."""


class ChunkEdge(msgspec.Struct, frozen=True, gc=False):
    """A relation between two nodes of a chunk, which it refers to by `name`."""

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
    """The words in the chunk that show it."""
    confidence: Shown = None
    """How sure the AI server is, as a word or a number."""


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """The standardized graph of one chunk of a document."""

    nodes: list[ChunkNode] = []
    """The things that it mentions."""
    edges: list[ChunkEdge] = []
    """Their relations."""


class LoneChunk(Chunk, frozen=True, gc=False):
    """A chunk that is the whole document. Only `nodes` tells it from any other object."""

    nodes: list[ChunkNode]
    """The things that it mentions."""


#: The microscope's standardized document.
Chunks = Annotated[list[Chunk], SOME_ELEMENT] | LoneChunk


class MicroGraph(msgspec.Struct, frozen=True, gc=False):
    """The small graph inside a block."""

    nodes: list[Any] = []
    """Its nodes, stored with an `id` if they have none."""
    edges: list[Any] = []
    """Its edges, which begin at `source` or `start`: stored with `start`."""


class Block(msgspec.Struct, frozen=True, gc=False):
    """A passage of a document. Some AI builds write `id` for `block_id`: decode_block_graph renames it."""

    block_id: Shown = None
    """Its ID in the document. Edges refer to it. Missing: the worker makes one."""
    title: Shown = None
    """Its heading. Missing: stored as an empty text."""
    summary: Shown = None
    """What it says, in a sentence or two."""
    key_concepts: list[Any] = []
    """What it is about."""
    order_index: Shown = None
    """Its place in the reading order."""
    turn_range: tuple[int, int] | None = None
    """The first and the last turn of a conversation that it covers. `[]` means the same as null."""
    micro_graph: MicroGraph | None = None
    """The things that it mentions, and their relations. Missing: stored without any."""
    raw_text: Shown = None
    """The passage itself."""


class BlockEdge(msgspec.Struct, frozen=True, gc=False):
    """A relation between two blocks, which it refers to by ID."""

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

    blocks: Annotated[list[Block], SOME_ELEMENT]
    """The blocks."""
    edges: list[BlockEdge] = []
    """The relations of the blocks."""
    paths: Any = None
    """Ways to read the document, stored unchanged."""
    ordering_rationale: Shown = None
    """Why the blocks are in this order."""
