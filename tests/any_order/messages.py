"""Random results of the AI server. Users, tasks, sources and times are few, so that messages collide."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from hypothesis import strategies as st

from tests.chaos.documents import ERRORS, Documents, Vocabulary, written
from tests.chaos.model.state import Message
from tests.chaos.traffic import snake_case

#: One user's ID is the other's with `_` behind it, which also separates a user from an original ID.
USERS = ("ada", "ada_b")

#: Original IDs of sources, by the field that names the source in an add-node batch.
SOURCES = {"conversationId": ("c1", "c2", "c3"), "noteId": ("n1",), "fileId": ("uf-1",)}
ORIG_IDS = [orig_id for orig_ids in SOURCES.values() for orig_id in orig_ids]
CLUSTERS = ("x", "y", 3)
FEW = Vocabulary(
    sources={"conversationId": ("c1", "c2", "c3"), "noteId": ("n1",), "fileId": ("uf-1",)},
    clusters=CLUSTERS,
    spare_ids=2,
    edge_type="",
    nodes=0,
    edges=1,
    features=3,
    results=3,
)

#: Minutes after `START`: few, so that messages have equal times or overtake one another.
MINUTES = range(4)
START = datetime(2026, 5, 24, 8, 0, tzinfo=UTC)

#: Ends of document IDs: of documents that are sent whole, and of those that are sent in two halves.
WHOLE = ("01J9ZZZZZZZZZZZZZZZZZZZZZA", "01J9ZZZZZZZZZZZZZZZZZZZZZB")
HALVED = ("01J9ZZZZZZZZZZZZZZZZZZZZZC", "01J9ZZZZZZZZZZZZZZZZZZZZZD")
WORKSPACES = ("w1", "w2")

users = st.sampled_from((*USERS[:1] * 3, *USERS))
times = st.sampled_from(MINUTES).map(lambda minutes: START + timedelta(minutes=minutes))
scores = st.sampled_from((0.0, 0.25, 1.0))
clusters = st.none() | st.sampled_from(CLUSTERS)
cluster_names = st.sampled_from((None, "", "Baking", "Travel"))

#: The forms in which the AI server writes a time.
WRITTEN: tuple[Callable[[datetime], str], ...] = (
    lambda time: time.replace(tzinfo=None).isoformat(),
    lambda time: time.isoformat().replace("+00:00", "Z"),
    lambda time: time.astimezone(timezone(timedelta(hours=9))).isoformat(),
)
written_times = st.builds(lambda write, time: write(time), st.sampled_from(WRITTEN), times)


def optional(**fields: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    """Fields that may be absent, as keyword arguments."""
    return fields

    def __init__(self, draw: st.DrawFn) -> None:
        super().__init__(0)
        self._draw = draw

graph_nodes = st.fixed_dictionaries(
    {
        "id": st.integers(0, 6),
        "orig_id": st.sampled_from(("c1", "src0_c2", "c3", "n1", "pdf_uf-1_report")),
        "cluster_id": clusters,
    },
    optional=optional(
        cluster_name=cluster_names.filter(bool),
        cluster_confidence=scores,
        source_type=st.sampled_from(("chat", "markdown", "notion", "pdf")),
        num_messages=st.integers(0, 9),
        keywords=st.just([{"term": "rye", "score": 0.5}]),
        timestamp=written_times,
        metadata=st.just({"pinned": True}),
    ),
)
graph_edges = st.fixed_dictionaries(
    {"source": st.integers(0, 7), "target": st.integers(0, 6)},
    optional=optional(
        weight=scores,
        is_intra_cluster=st.booleans(),
        confidence=st.sampled_from(("high", "low", 0.9)),
        type=st.just(""),
    ),
)
descriptions = st.fixed_dictionaries(
    {}, optional=optional(name=cluster_names.filter(bool), description=st.just("…"), key_themes=st.just(["rye"]))
)
#: Names of an edge's end: the node's ID with the user (for `USER`), its original ID, or an integer, also as a text.
ends: st.SearchStrategy[str | int] = st.sampled_from(
    (*(f"USER_{orig_id}" for orig_id in ORIG_IDS), *ORIG_IDS, 0, 1, "1", "2", 9, "unknown")
)
add_node_edges = st.fixed_dictionaries(
    {"source": ends, "target": ends},
    optional=optional(weight=scores, type=st.sampled_from(("hard", "insight")), intraCluster=st.booleans()),
)


@st.composite
def graph_documents(draw: st.DrawFn) -> dict[str, Any]:
    """A graph. Each subcluster has all nodes of its cluster, and one that does not exist."""
    nodes = draw(st.lists(graph_nodes, max_size=5, unique_by=(lambda node: node["id"], lambda node: node["orig_id"])))
    described = draw(st.fixed_dictionaries({}, optional={str(cluster): descriptions for cluster in CLUSTERS}))
    subclusters = [
        {
            "id": f"s{cluster}",
            "cluster_id": cluster,
            "node_ids": [*(node["id"] for node in nodes if node["cluster_id"] == cluster), 99],
            "representative_node_id": draw(st.none() | st.integers(0, 6)),
            "density": 0.5,
            "size": 50,
        }
        for cluster in {node["cluster_id"]: None for node in nodes}
        if cluster is not None and draw(st.booleans())
    ]
    return {
        "nodes": nodes,
        "edges": draw(st.lists(graph_edges, max_size=6)),
        "subclusters": subclusters,
        "metadata": {"generated_at": draw(st.none() | written_times), "total_nodes": 77, "clusters": described},
    }


@st.composite
def feature_documents(draw: st.DrawFn) -> dict[str, Any]:
    """Embeddings of some of the sources."""
    orig_ids = draw(st.lists(st.sampled_from((*ORIG_IDS, "src1_c3")), max_size=3, unique_by=lambda name: name[-2:]))
    return {
        "conversations": [{"id": number, "orig_id": orig_id} for number, orig_id in enumerate(orig_ids)],
        "embeddings": [[float(number), 0.5] for number, _ in enumerate(orig_ids)],
    }


summary_documents = st.fixed_dictionaries(
    {
        "overview": st.fixed_dictionaries(
            {"summary_text": st.sampled_from(("Much baking.", "Much travel.")), "total_notes": st.just(99)}
        ),
        "detail_level": st.sampled_from(("brief", "detailed")),
    },
    optional=optional(generated_at=written_times),
)


@st.composite
def add_node_results(draw: st.DrawFn, user_id: str) -> dict[str, Any]:
    """The result of one source, with one or two nodes."""
    kind = draw(st.sampled_from(tuple(SOURCES)))
    orig_ids = draw(st.lists(st.sampled_from(SOURCES[kind]), min_size=1, max_size=2))
    nodes = []
    for orig_id in orig_ids:
        node = {"id": f"{user_id}_{orig_id}", "clusterId": draw(clusters), "clusterName": draw(cluster_names)}
        if draw(st.booleans()):
            node["origId"] = orig_id
        if draw(st.booleans()):
            node |= {"numMessages": draw(st.integers(0, 9)), "timestamp": draw(st.none() | written_times)}
        nodes.append(node)
    assigned = st.fixed_dictionaries(
        {"clusterId": clusters, "name": cluster_names},
        optional=optional(confidence=scores, reasoning=st.just("Alike."), themes=st.just(["rye"])),
    )
    edges = [
        {name: value.replace("USER", user_id) if isinstance(value, str) else value for name, value in edge.items()}
        for edge in draw(st.lists(add_node_edges, max_size=3))
    ]
    outcome: dict[str, Any] = draw(st.sampled_from(({}, {}, {}, {"skipped": True}, {"error": "unreadable"})))
    return {kind: orig_ids[0], "nodes": nodes, "edges": edges, "assignedCluster": draw(st.none() | assigned), **outcome}


@st.composite
def batches(draw: st.DrawFn, user_id: str) -> dict[str, Any]:
    """A batch of new sources."""
    return {"userId": user_id, "results": draw(st.lists(add_node_results(user_id), max_size=3))}


chunk_documents = st.lists(
    st.fixed_dictionaries({"nodes": st.lists(st.fixed_dictionaries({"name": st.sampled_from("ab")}), max_size=2)}),
    min_size=1,
    max_size=3,
)
block_documents = st.fixed_dictionaries(
    {"blocks": st.lists(st.fixed_dictionaries({"id": st.just("b1"), "title": st.sampled_from("tu")}), max_size=2)}
)


class Draft:
    """A message in progress: its payload, and the documents that its keys name.

    Parameters:
      draw: Hypothesis's function.
      user_id: the user of the result.
    """

    def __init__(self, draw: st.DrawFn, user_id: str) -> None:
        self.draw = draw
        self.make = Documents(Drawn(draw), FEW)
        self.user_id = user_id
        self.payload: dict[str, Any] = {"userId": user_id}
        self.documents: dict[str, Any] = {}

    def add_document(self, field: str, document: Any) -> None:
        """Add a document and its key. The key is a hash of the content: another document has another key."""
        key = f"{field}/{hashlib.sha256(json.dumps(document).encode()).hexdigest()[:12]}.json"
        self.payload[field] = key
        self.documents[key] = document

    def add_graph(self) -> dict[str, Any]:
        """Add a graph, and return it."""
        graph = self.make.graph(at=self.draw(times))
        self.add_document("resultS3Key", graph)
        return graph

    def add_summary(self) -> None:
        """Add a summary."""
        self.add_document("summaryS3Key", self.make.summary(at=self.draw(times)))

    def end(self, *, failed_in: int = 3) -> bool:
        """Draw how the task ended: one in `failed_in` FAILED. True if it COMPLETED."""
        failed = self.draw(st.integers(1, failed_in)) == failed_in
        self.payload["status"] = "FAILED" if failed else "COMPLETED"
        if failed:
            self.payload["error"] = self.draw(st.sampled_from(ERRORS))
        return not failed

    def message(self, task_type: str, task_id: str) -> Message:
        """The message, with its payload in either spelling and its time in any form."""
        payload = self.payload
        if self.draw(st.booleans()):
            payload = {snake_case(name): value for name, value in payload.items()}
        body: dict[str, Any] = {"taskType": task_type, "taskId": task_id, "payload": payload}
        sent_at = self.draw(times)
        if self.draw(st.integers(1, 4)) < 4:
            body["timestamp"] = written(self.make.draw, sent_at)
        elif self.draw(st.booleans()):
            body["timestamp"] = None
        return Message(body, sent_at, self.documents)


def snake_case(name: str) -> str:
    """The name in snake_case: `result_s3_key` for `resultS3Key`."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


@st.composite
def graphs(draw: st.DrawFn, of: st.SearchStrategy[str] = users) -> Message:
    """The result of a graph generation."""
    user_id = draw(of)
    draft = Draft(draw, user_id)
    if draft.end():
        draft.add_graph()
        if draw(st.booleans()):
            draft.add_document("featuresS3Key", draft.make.features())
        if draw(st.booleans()):
            draft.add_summary()
        if draw(st.integers(1, 6)) == 6:
            draft.payload["featuresS3Key"] = draft.payload["summaryS3Key"] = "never/came.json"
    return draft.message("GRAPH_GENERATION_RESULT", f"task_graph_{user_id}_{draw(st.integers(1, 3))}")


@st.composite
def progress(draw: st.DrawFn, of: st.SearchStrategy[str] = users) -> Message:
    """Progress of a graph generation."""
    user_id = draw(of)
    draft = Draft(draw, user_id)
    draft.payload |= {
        "currentStage": draw(st.sampled_from(("embedding", "clustering"))),
        "progressPercent": draw(st.none() | st.sampled_from((10.0, 50.0))),
        "etaSeconds": draw(st.none() | st.just(30.0)),
    }
    return draft.message("GRAPH_GENERATION_PROGRESS", f"task_graph_{user_id}_{draw(st.integers(1, 3))}")


@st.composite
def summaries(draw: st.DrawFn, of: st.SearchStrategy[str] = users) -> Message:
    """The result of a graph summary."""
    user_id = draw(of)
    draft = Draft(draw, user_id)
    if draft.end():
        draft.add_summary()
    return draft.message("GRAPH_SUMMARY_RESULT", f"task_summary_{user_id}_{draw(st.integers(1, 2))}")


@st.composite
def new_nodes(draw: st.DrawFn, of: st.SearchStrategy[str] = users) -> Message:
    """The result of an add-node task."""
    user_id = draw(of)
    draft = Draft(draw, user_id)
    if draft.end(failed_in=5):
        draft.add_document("resultS3Key", draft.make.batch(user_id, at=draw(times)))
        draft.payload["error"] = draw(st.sampled_from((None, None, "1 of 3 failed")))
    return draft.message("ADD_NODE_RESULT", f"task_add_node_{user_id}_{draw(st.integers(1, 4))}")


@st.composite
def document_ids(draw: st.DrawFn, user_id: str) -> str:
    """A microscope document's ID. Its ULID decides whether it is a file or a node."""
    ulid = draw(st.sampled_from((*WHOLE, *HALVED)))
    return f"task_microscope_{'file' if ulid[-1] in 'AC' else 'node'}_{user_id}_{ulid}"


def workspace_of(user_id: str, number: str) -> str:
    """The ID of a user's workspace."""
    return f"{number}-{user_id}"


@st.composite
def microscope_results(draw: st.DrawFn, of: st.SearchStrategy[str] = users) -> Message:
    """The result of a microscope document, or of one of its halves."""
    user_id = draw(of)
    draft = Draft(draw, user_id)
    task_id = draw(document_ids(user_id))
    halves = ("_block", "_nonblock") if task_id.endswith(HALVED) else ("",)
    half = draw(st.sampled_from(halves))
    if draw(st.booleans()):
        # Only the task ID names the user.
        draft.payload["userId"] = draw(st.sampled_from((None, "")))
    workspace = draw(st.none() | st.sampled_from(WORKSPACES))
    draft.payload[draw(st.sampled_from(("groupId", "workspaceId")))] = workspace and workspace_of(user_id, workspace)
    draft.payload["sourceId"] = draw(st.sampled_from((None, "source-1", "source-2")))
    if draft.end(failed_in=2):
        draft.payload["error"] = draw(st.sampled_from((None, "an image was unreadable")))
        draft.payload["chunks_count"] = draw(st.none() | st.integers(0, 5))
        draft.payload["schema_name"] = draw(st.none() | st.just("science"))
        draft.payload["ingest_stats"] = draw(st.none() | st.just({"pages": 3}))
        # A half's key may be in the other half's field.
        own, other = ("standardized_s3_key", "block_graph_s3_key")[:: -1 if half == "_block" else 1]
        if half != "_block" and draw(st.booleans()):
            draft.add_document(draw(st.sampled_from((own, other) if half else (own,))), draw(chunk_documents))
        if half != "_nonblock" and draw(st.booleans()):
            name = draw(st.sampled_from((own, other))) if half else "block_graph_s3_key"
            draft.add_document(name, draw(block_documents))
    kind = "MICROSCOPE_INGEST_RESULT" if "_file_" in task_id else "MICROSCOPE_INGEST_FROM_NODE_RESULT"
    return draft.message(kind, task_id + half)


KINDS = (graphs, progress, new_nodes, microscope_results, summaries)

#: Any message that the AI server may send.
messages = st.one_of(*(kind() for kind in KINDS))


@st.composite
def rivals(draw: st.DrawFn) -> list[Message]:
    """Two messages of one kind for one user. The one that was sent later comes first."""
    user_id, kind = draw(users), draw(st.sampled_from(KINDS))
    both = [draw(kind(st.just(user_id))) for _ in range(2)]
    return sorted(both, key=lambda message: message.sent_at, reverse=True)


@st.composite
def ends_and_late_progress(draw: st.DrawFn) -> list[Message]:
    """The result of a graph generation, followed by progress of the same task."""
    user_id = draw(users)
    end, late = draw(graphs(st.just(user_id))), draw(progress(st.just(user_id)))
    return [end, late._replace(body={**late.body, "taskId": end.body["taskId"]})]


@st.composite
def graphs_and_moves(draw: st.DrawFn) -> list[Message]:
    """A graph, and a batch that moves most of its nodes into one cluster, so that other clusters become empty."""
    user_id = draw(users)
    graph, batch = Draft(draw, user_id), Draft(draw, user_id)
    document = graph.add_graph()
    graph.payload["status"] = batch.payload["status"] = "COMPLETED"
    cluster = draw(st.sampled_from(CLUSTERS))
    moved = [node for node in document["nodes"] if draw(st.integers(1, 4)) < 4]
    nodes = [{"id": f"{user_id}_{node['orig_id']}", "clusterId": cluster} for node in moved]
    result = {"conversationId": "c1", "nodes": nodes, "edges": []}
    batch.add_document("resultS3Key", {"userId": user_id, "results": [result]})
    return [
        graph.message("GRAPH_GENERATION_RESULT", f"task_graph_{user_id}_{draw(st.integers(1, 3))}"),
        batch.message("ADD_NODE_RESULT", f"task_add_node_{user_id}_{draw(st.integers(1, 4))}"),
    ]


def of_another_user(message: Message, *, user_id: str) -> Message:
    """The same result with another user in its payload."""
    payload = {name: value for name, value in message.body["payload"].items() if name not in ("userId", "user_id")}
    return message._replace(body={**message.body, "payload": {**payload, "userId": user_id}})


def in_workspace(message: Message, workspace_id: str) -> Message:
    """The same result with another workspace in its payload."""
    payload: Mapping[str, Any] = message.body["payload"]
    others = {name: value for name, value in payload.items() if snake_case(name) not in ("group_id", "workspace_id")}
    return message._replace(body={**message.body, "payload": {**others, "group_id": workspace_id}})
