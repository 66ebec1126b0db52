"""Random messages of the AI server with so few users, tasks, sources and times that they affect one another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from hypothesis import strategies as st

from tests.chaos.documents import ERRORS, Documents, Vocabulary, with_malformed_parts, written
from tests.chaos.model.state import Message, Task
from tests.chaos.traffic import snake_case

#: One user's ID is a prefix of the other's, followed by the separator of an original ID.
USERS = ("ada", "ada_b")

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

#: Minutes after `START`. They are few, so that messages are equally old, or overtake one another.
MINUTES = range(4)
START = datetime(2026, 5, 24, 8, 0, tzinfo=UTC)

#: The ULIDs of microscope documents: the first kind is sent once, the second in two halves.
WHOLE = ("01J9ZZZZZZZZZZZZZZZZZZZZZA", "01J9ZZZZZZZZZZZZZZZZZZZZZB")
HALVED = ("01J9ZZZZZZZZZZZZZZZZZZZZZC", "01J9ZZZZZZZZZZZZZZZZZZZZZD")
WORKSPACES = ("w1", "w2")

#: How far the producer's clock is ahead of SQS's: by up to five minutes it is believed.
CLOCKS = st.sampled_from((*[timedelta()] * 4, timedelta(minutes=1), timedelta(minutes=5), timedelta(hours=9)))

users = st.sampled_from((*USERS[:1] * 3, *USERS))
times = st.sampled_from(MINUTES).map(lambda minutes: START + timedelta(minutes=minutes))


class Drawn(Random):
    """A source of randomness that Hypothesis controls, replays and shrinks."""

    def __init__(self, draw: st.DrawFn) -> None:
        super().__init__(0)
        self._draw = draw

    def random(self) -> float:
        """One of ten values: Hypothesis limits the entropy of an example. The simplest one omits optional fields."""
        return 0.95 - self._draw(st.integers(0, 9)) / 10

    def getrandbits(self, k: int, /) -> int:
        return self._draw(st.integers(0, 2**k - 1))


class Draft:
    """A message that is being made: its payload, and the documents for the payload's keys.

    Parameters:
      user_id: the payload's user.
    """

    def __init__(self, draw: st.DrawFn, user_id: str) -> None:
        self.draw = draw
        self.make = Documents(Drawn(draw), FEW, Drawn(draw))
        self.user_id = user_id
        self.payload: dict[str, Any] = {"userId": user_id}
        self.documents: dict[str, Any] = {}

    def add_document(self, field: str, document: Any) -> None:
        """Add a document. Its key is a digest of its content, so another document has another key."""
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
        """Set the status; returns whether it is COMPLETED. One of `failed_in` tasks is FAILED."""
        failed = self.draw(st.integers(1, failed_in)) == failed_in
        self.payload["status"] = "FAILED" if failed else "COMPLETED"
        if failed:
            self.payload["error"] = self.draw(st.sampled_from(ERRORS))
        return not failed

    def message(self, task_type: str, task_id: str) -> Message:
        """The message, with its payload in camelCase or snake_case, and its timestamp in any format or missing."""
        payload = with_malformed_parts(self.make.faults, "payload", self.payload)
        if self.draw(st.booleans()):
            payload = {snake_case(name): value for name, value in payload.items()}
        if not task_type.startswith("MICROSCOPE") and self.draw(st.integers(1, 8)) == 8:
            task_id = "unknown"
        body: dict[str, Any] = {"taskType": task_type, "taskId": task_id, "payload": payload}
        sent_at = self.draw(times)
        if self.draw(st.integers(1, 4)) < 4:
            body["timestamp"] = written(self.make.draw, sent_at + self.draw(CLOCKS))
        else:
            body["timestamp"] = self.draw(st.sampled_from((None, "", 1776500000.1, "yesterday")))
        return Message(body, sent_at, self.documents)


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
    """The progress of a graph generation."""
    user_id = draw(of)
    draft = Draft(draw, user_id)
    draft.payload |= {
        "currentStage": draw(st.sampled_from(("embedding", "clustering", "naming", " "))),
        "progressPercent": draw(st.sampled_from((10.0, 50.0, 100.9, -1, None, "half"))),
        "etaSeconds": draw(st.sampled_from((30.0, None, -3, "soon"))),
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
    """A microscope document's ID. The ULID decides whether it is a file or a node."""
    ulid = draw(st.sampled_from((*WHOLE, *HALVED)))
    return f"task_microscope_{'file' if ulid[-1] in 'AC' else 'node'}_{user_id}_{ulid}"


def halves_of(document_id: str) -> tuple[str, ...]:
    """The endings of a document's task IDs."""
    return ("_block", "_nonblock") if document_id.endswith(HALVED) else ("",)


def workspace_of(user_id: str, number: str) -> str:
    """The ID of one of a user's workspaces."""
    return f"{number}-{user_id}"


@st.composite
def microscope_results(draw: st.DrawFn, of: st.SearchStrategy[str] = users) -> Message:
    """The result of a microscope document, or of one of its halves."""
    user_id = draw(of)
    draft = Draft(draw, user_id)
    task_id = draw(document_ids(user_id))
    half = draw(st.sampled_from(halves_of(task_id)))
    if draw(st.booleans()):
        # The user is in the task ID as well.
        draft.payload["userId"] = draw(st.sampled_from((None, "")))
    workspace = draw(st.none() | st.sampled_from(WORKSPACES))
    draft.payload[draw(st.sampled_from(("groupId", "workspaceId")))] = workspace and workspace_of(user_id, workspace)
    draft.payload["sourceId"] = draw(st.sampled_from((None, "source-1", "source-2")))
    if draft.end(failed_in=2):
        draft.payload |= draft.make.microscope_fields()
        for field, content in draft.make.microscope(half):
            draft.add_document(field, content)
    kind = "MICROSCOPE_INGEST_RESULT" if "_file_" in task_id else "MICROSCOPE_INGEST_FROM_NODE_RESULT"
    return draft.message(kind, task_id + half)


KINDS = (graphs, progress, new_nodes, microscope_results, summaries)

#: All messages that the AI server may send.
messages = st.one_of(*(kind() for kind in KINDS))


@st.composite
def graph_tasks(draw: st.DrawFn) -> Task:
    """A task of a graph generation or an add-node."""
    user_id = draw(users)
    kind, task_type = draw(
        st.sampled_from((("task_graph", "GRAPH_GENERATION_RESULT"), ("task_add_node", "ADD_NODE_RESULT")))
    )
    return Task(f"{kind}_{user_id}_{draw(st.integers(1, 3))}", task_type, user_id)


@st.composite
def rivals(draw: st.DrawFn) -> list[Message]:
    """Two messages of one kind for one user, the newer one first."""
    user_id, kind = draw(users), draw(st.sampled_from(KINDS))
    both = [draw(kind(st.just(user_id))) for _ in range(2)]
    return sorted(both, key=lambda message: message.sent_at, reverse=True)


@st.composite
def ends_and_late_progress(draw: st.DrawFn) -> list[Message]:
    """The result of a graph generation, then progress of the same task."""
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
    """The same result for another user."""
    payload = {name: value for name, value in message.body["payload"].items() if name not in ("userId", "user_id")}
    return message._replace(body={**message.body, "payload": {**payload, "userId": user_id}})


def in_workspace(message: Message, workspace_id: str) -> Message:
    """The same result for another workspace."""
    payload: Mapping[str, Any] = message.body["payload"]
    others = {name: value for name, value in payload.items() if snake_case(name) not in ("group_id", "workspace_id")}
    return message._replace(body={**message.body, "payload": {**others, "group_id": workspace_id}})
