"""The JSON documents that the AI server leaves in S3: their types, and decoding them.

Names and variants are the contract's. A field that nothing is stored from is not declared: it cannot make a
document invalid. Required is only what a document would be meaningless without, or would destroy something.
Decoding is as liberal as the contract: numbers may be written as strings, unknown fields are ignored, and "not
given" is absent, null or "". What PostgreSQL cannot hold (NUL, half a surrogate pair, numbers that are not finite) is
repaired and counted. Of a key that an object has twice, the last one counts.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from graphnode.contract.values import MAX_INTEGER

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


class AddNodeItem(msgspec.Struct, frozen=True, gc=False, rename="camel"):
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

    results: list[AddNodeItem]
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


# msgspec learns a type at its first use, and crashes the process when two threads make it do so at once. The decoders
# above have taught it theirs; these are for what is converted.
for _converted_type in (GraphCluster, BlockGraph):
    msgspec.json.Decoder(_converted_type)
