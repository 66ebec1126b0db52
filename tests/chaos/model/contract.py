"""The contract as plain Python: the tables after a message, from the tables before it.

It is written from the contract alone, for small states where speed does not matter. It shares no code with graphnode,
so that both cannot have the same mistake.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.chaos.model.state import (
    MALFORMED,
    Cluster,
    Document,
    Edge,
    Embedding,
    Graph,
    Message,
    Node,
    Notification,
    State,
    Subcluster,
    Summary,
    Task,
    View,
    Workspace,
)

#: The warnings that count dropped edges.
DROPPED_EDGES = ("edges to unknown nodes", "self-loops", "repeated edges")

#: The warning of a task whose graph has no nodes, and did not replace one that has.
KEPT_GRAPH = "the graph has no nodes: the stored one stays"

#: The type in the row of the task: progress belongs to the task that a result ends.
ENDED_BY = {"GRAPH_GENERATION_PROGRESS": "GRAPH_GENERATION_RESULT"}

#: PostgreSQL's.
LARGEST_INTEGER = 2_147_483_647

#: By the beginning of its notifications' types: the type that a request's task has.
REQUESTS = {
    "GRAPH_GENERATION": "GRAPH_GENERATION_RESULT",
    "GRAPH_SUMMARY": "GRAPH_SUMMARY_RESULT",
    "ADD_CONVERSATION": "ADD_NODE_RESULT",
    "MICROSCOPE_INGEST": "MICROSCOPE_INGEST_RESULT",
}

#: The status of a graph while a task of this type is open.
UNDER_WAY = {"GRAPH_GENERATION_RESULT": "CREATING", "ADD_NODE_RESULT": "UPDATING"}

#: How far a clock is believed to be ahead: a producer's of SQS's, and a stored time of now.
MOST_AHEAD = timedelta(minutes=5)

#: Notifications that are stored but not pushed.
STORED_ONLY = {
    *(f"{kind}_{end}" for kind in REQUESTS for end in ("REQUESTED", "REQUEST_FAILED")),
    "GRAPH_GENERATION_PROGRESS_UPDATED",
    "MICROSCOPE_DOCUMENT_COMPLETED",
    "MICROSCOPE_DOCUMENT_FAILED",
}


#: A task in one of these has not ended.
OPEN = ("PENDING", "PROGRESS")

#: What the user reads of a request that was not published.
NOT_SENT = "The request could not be sent. Please try again."


class Refused(Exception):
    """The message is permanently invalid, and stores nothing."""


def after(state: State, message: Message, *, attempt: int) -> State:
    """The state after a delivery. Raises Refused.

    Parameters:
      attempt: the number of deliveries of the message, including this one.
    """
    delivery = Delivery(state.copy(), message, attempt)
    delivery.run()
    return delivery.state


def after_registration(state: State, task_id: str, task_type: str, *, user_id: str) -> State:
    """The state after the API server has inserted a task's row, unless it is there."""
    state = state.copy()
    _register(state, (task_id, task_type), user_id)
    return state


def _register(state: State, key: tuple[str, str], user_id: str) -> bool:
    """Make a task PENDING that is unknown, or whose request was not published; False for any other task."""
    task = state.tasks.get(key) or Task(*key, user_id, status="", registered=True)
    if task.status and not task.is_not_published:
        return False
    # The rows of tasks are in the order of their registration.
    state.tasks.pop(key, None)
    state.tasks[key] = task._replace(status="PENDING", error=None, is_not_published=False, is_finished=False)
    return True


def after_request(state: State, kind: str, task_id: str, *, user_id: str, refusal: str | None) -> State:
    """The state after the API server has requested a graph, a summary or new nodes.

    Parameters:
      kind: a key of `REQUESTS`.
      refusal: the error of the task if the request queue does not accept the request; None if it does.
    """
    key = task_id, REQUESTS[kind]
    if any(task.user_id != user_id for task in state.tasks.values() if task.task_id == task_id):
        return state
    task = state.tasks.get(key)
    if task and task.status == "FAILED" and not task.is_not_published:
        return state
    state = state.copy()
    if _register(state, key, user_id):
        _derive_status(state, user_id, key[1])
        _tell_once(state, user_id, task_id, f"{kind}_REQUESTED")
    task = state.tasks[key]
    if task.status == "PENDING" and not task.is_published:
        state.tasks[key] = task._replace(is_published=refusal is None)
        if refusal:
            state.tasks[key] = task._replace(status="FAILED", error=refusal, is_not_published=True, is_finished=True)
            _derive_status(state, user_id, key[1])
            _tell_once(state, user_id, task_id, f"{kind}_REQUEST_FAILED", error=NOT_SENT)
    return state


def after_document_request(
    state: State, document: Document, workspace: Workspace, *, halves: tuple[str, ...], refusals: Mapping[str, str]
) -> State:
    """The state after the API server has requested a microscope document.

    Parameters:
      document: as it is inserted if it is unknown. What it is made of is always written.
      workspace: inserted if it is unknown.
      halves: the endings of its task IDs: ("",) if it is requested whole.
      refusals: by task ID, the error if the request queue does not accept the requests; empty if it does.
    """
    user_id, before = document.user_id, state
    task_type = "MICROSCOPE_INGEST_RESULT" if "_file_" in document.id else "MICROSCOPE_INGEST_FROM_NODE_RESULT"
    keys = [(document.id + half, task_type) for half in halves]
    tasks = [state.tasks[key] for key in keys if key in state.tasks]
    if any(task.user_id != user_id or (task.status == "FAILED" and not task.is_not_published) for task in tasks):
        return before
    state = state.copy()
    for key in keys:
        if _register(state, key, user_id):
            if state.microscope_workspaces.setdefault(workspace.id, workspace).user_id != user_id:
                return before
            requested = state.microscope_documents.get(document.id, document)
            requested = requested._replace(
                workspace_id=requested.workspace_id or workspace.id,
                file_name=document.file_name,
                input_s3_key=document.input_s3_key,
                node_id=document.node_id,
                node_type=document.node_type,
            )
            _set_half(state, requested, key[0], "PROCESSING")
            _tell_once(state, user_id, document.id, "MICROSCOPE_INGEST_REQUESTED")
    for key in keys:
        task = state.tasks[key]
        if task.status != "PENDING" or task.is_published:
            continue
        if not refusals:
            state.tasks[key] = task._replace(is_published=True)
            continue
        error = refusals[task.task_id]
        state.tasks[key] = task._replace(status="FAILED", error=error, is_not_published=True, is_finished=True)
        failed = state.microscope_documents[document.id]._replace(error=error)
        _set_half(state, failed, task.task_id, "FAILED")
        completed = complete_workspace(state, failed.workspace_id)
        if completed:
            _tell_once(state, user_id, document.id, "MICROSCOPE_WORKSPACE_COMPLETED", "PENDING", **completed)
        _tell_once(state, user_id, document.id, "MICROSCOPE_INGEST_REQUEST_FAILED", error=NOT_SENT)
    return state


def _set_half(state: State, document: Document, task_id: str, status: str) -> None:
    """Store a document with the status of a task's half, or of the document as a whole, and what follows."""
    half = {"_block": "block_status", "_nonblock": "non_block_status"}.get(task_id.removeprefix(document.id))
    if half:
        of_halves: dict[str, Any] = {half: status}
        document = document._replace(**of_halves)
        halves = {document.block_status, document.non_block_status}
        status = "FAILED" if "FAILED" in halves else "COMPLETED" if halves == {"COMPLETED"} else "PROCESSING"
    document = document._replace(status=status, error=document.error if status == "FAILED" else None)
    state.microscope_documents[document.id] = document


def complete_workspace(state: State, workspace_id: str | None) -> dict[str, Any] | None:
    """Complete a workspace if all its documents have ended; returns the notification's payload, or None."""
    workspace = state.microscope_workspaces.get(workspace_id or "")
    if workspace is None:
        return None
    ended = Counter(row.status for row in state.microscope_documents.values() if row.workspace_id == workspace_id)
    if ended.keys() - {"COMPLETED", "FAILED"}:
        return None
    state.microscope_workspaces[workspace.id] = workspace._replace(is_completed=True)
    return {
        "groupId": workspace.id,
        "workspaceName": workspace.name or workspace.id,
        "completedCount": ended["COMPLETED"],
        "failedCount": ended["FAILED"],
    }


def after_timeout(state: State, key: tuple[str, str]) -> State:
    """The state after an open task had no news for too long."""
    failure = {"userId": state.tasks[key].user_id, "status": "FAILED", "error": "There was no result within 2 h."}
    message = Message({"taskType": key[1], "taskId": key[0], "payload": failure}, datetime.now(UTC), {})
    return after(state, message, attempt=0)


def after_sweep(state: State, user_id: str) -> State:
    """The state after a user's status was derived without an end of a task."""
    state = state.copy()
    _derive_status(state, user_id)
    return state


def after_earlier_release(state: State, user_id: str, *, at: datetime) -> State:
    """The state in which an earlier release has stored this time of a producer for all that the user has."""
    state = state.copy()
    if user_id in state.graphs and state.graphs[user_id].source_timestamp:
        state.graphs[user_id] = state.graphs[user_id]._replace(source_timestamp=at)
    if user_id in state.graph_summaries:
        state.graph_summaries[user_id] = state.graph_summaries[user_id]._replace(source_timestamp=at)
    for key, task in state.tasks.items():
        if task.user_id == user_id and task.progress_at:
            state.tasks[key] = task._replace(progress_at=at)
    return state


def _derive_status(state: State, user_id: str, task_type: str = "GRAPH_GENERATION_RESULT") -> None:
    """Set the status of a graph: that of the user's newest open task, or else what last changed the content.

    Parameters:
      task_type: of the task that has begun or ended. Most types have nothing to do with the graph.
    """
    if task_type not in UNDER_WAY:
        return
    open_tasks = [
        UNDER_WAY[task.task_type]
        for task in state.tasks.values()
        if task.user_id == user_id and task.status in OPEN and task.task_type in UNDER_WAY
    ]
    settled = state.last_changes.get(user_id, "NOT_CREATED")
    state.graphs[user_id] = state.graphs.get(user_id, Graph(user_id, ""))._replace(
        status=open_tasks[-1] if open_tasks else settled, status_before=settled if open_tasks else None
    )


def _tell_once(
    state: State, user_id: str, task_id: str, type_: str, push_status: str = "SKIPPED", **payload: Any
) -> None:
    """Write a notification of a request, unless its task has it already."""
    event = task_id, type_, payload.get("groupId")
    state.notifications.setdefault(
        event, Notification(user_id, type_, {"taskId": task_id, **payload}, push_status, None)
    )


def after_new_document(state: State, document: Document, workspace: Workspace) -> State:
    """The state after the API server has added a new document to a workspace."""
    state = state.copy()
    state.microscope_workspaces.setdefault(workspace.id, workspace)
    if state.microscope_workspaces[workspace.id].user_id == document.user_id:
        state.microscope_documents.setdefault(document.id, document)
    return state


def after_longer_name(state: State, user_id: str, *, file_id: str, name: str) -> State:
    """The state after an earlier version has stored a file by a longer name."""
    state = state.copy()
    for key, node in state.graph_nodes.items():
        if node.user_id == user_id and node.orig_id == file_id:
            state.graph_nodes[key] = node._replace(orig_id=name)
    return state


def given(wire: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an object by name, in lower case without underscores. Absent, null and "" all mean missing."""
    return {name.replace("_", "").lower(): value for name, value in wire.items() if value not in (None, "")}


def readable(value: Any) -> tuple[Any, int]:
    """The value without its malformed parts, and their number."""
    if isinstance(value, dict):
        fields = {name: readable(field) for name, field in value.items() if field != MALFORMED}
        kept: Any = {name: field for name, (field, _) in fields.items()}
        left_out = sum(number for _, number in fields.values())
    elif isinstance(value, list):
        elements = [readable(element) for element in value if element != MALFORMED]
        kept = [element for element, _ in elements]
        left_out = sum(number for _, number in elements)
    else:
        return value, 0
    return kept, left_out + len(value) - len(kept)


def moment(text: Any) -> datetime | None:
    """A time in UTC. A time without a zone is in UTC. An unreadable one is None."""
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def since_1970(seconds: float | None) -> datetime | None:
    """The time of so many seconds since 1970. 0 means missing."""
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def original(name: str, user_id: str = "") -> str:
    """The source ID in an ID that the AI server writes."""
    if user_id and name.startswith(user_id + "_"):
        name = name[len(user_id) + 1 :]
    name = re.sub(r"^src\d+_", "", name)
    files = [part for part in name.split("_")[:2] if re.fullmatch("uf-[a-z0-9-]+|[0-7][0-9A-Z]{25}", part)]
    return files[0] if files else name


def source(kind: str | None, name: str) -> tuple[str, dict[str, str]]:
    """A node's source type, and the raw format that its metadata has.

    Parameters:
      kind: the AI server's source type.
      name: the source ID as the AI server writes it.
    """
    kind = (kind or "").lower()
    is_named_as_file = original(name).startswith("uf-") or original(name) != re.sub(r"^src\d+_", "", name)
    if kind in ("chat", "markdown", "notion") or not (kind or is_named_as_file):
        return kind or "chat", {}
    raw_format = kind if kind not in ("", "file") else "pdf" if "pdf" in name else None
    return "file", {"ai_raw_source_type": raw_format} if raw_format else {}


def text(value: Any) -> str | None:
    """A cluster ID, which the AI server may write as a number."""
    return None if value in (None, "") else str(value)


def _first_given(new: float | None, old: float | None) -> float | None:
    return old if new is None else new


class Delivery:
    """The delivery of one message, which changes a state.

    Parameters:
      state: the stored rows; changed by `run`.
      message: the delivered message.
      attempt: the number of deliveries of the message, including this one.
    """

    def __init__(self, state: State, message: Message, attempt: int) -> None:
        self.state = state
        self.attempt = attempt
        self.type: str = message.body["taskType"]
        self.task_id: str = message.body["taskId"]
        self.is_of_no_task = self.task_id == "unknown"
        if self.is_of_no_task:
            self.task_id = message.id
        self.task_type = ENDED_BY.get(self.type, self.type)
        self.at = moment(message.body.get("timestamp")) or message.sent_at
        self.is_ahead = self.at > message.sent_at + MOST_AHEAD
        if self.is_ahead:
            self.at = message.sent_at
        payload, self.malformed_fields = readable(message.body["payload"])
        self.payload = given(payload)
        self.documents: dict[str, Any] = {}
        self.malformed_parts = 0
        for key, document in message.documents.items():
            self.documents[key], left_out = readable(document)
            if key in self.payload.values():
                self.malformed_parts += left_out
        self.status: str | None = self.payload.get("status")
        self.user_id: str = self.payload.get("userid") or self._user_in_task_id()

    def run(self) -> None:
        """Apply the message, unless it was applied before. Raises Refused if the task is another user's."""
        if self.type == "GRAPH_GENERATION_PROGRESS" and (self.is_of_no_task or self._says_nothing()):
            return
        if any(task.user_id != self.user_id for task in self.state.tasks.values() if task.task_id == self.task_id):
            raise Refused("the task is another user's")
        if self.type.startswith("MICROSCOPE_INGEST") and self._user_in_task_id() != self.user_id:
            raise Refused("the task ID names another user")
        task = self.state.tasks.get((self.task_id, self.task_type))
        if task and (task.status in ("COMPLETED", "SUPERSEDED") or (task.status == self.status == "FAILED")):
            return
        kind = self.type.removesuffix("_RESULT")
        if kind == "GRAPH_GENERATION_PROGRESS":
            self._progress(task)
        elif kind.startswith("MICROSCOPE_INGEST"):
            self._document()
        elif self.status == "FAILED":
            self._failed(kind)
        elif kind == "GRAPH_GENERATION":
            self._graph()
        elif kind == "GRAPH_SUMMARY":
            self._summary()
        else:
            self._add_nodes()

    # All results.

    def _finish(
        self,
        status: str,
        *,
        error: str | None = None,
        dropped: Mapping[str, int] | None = None,
        left_out: frozenset[str] = frozenset(),
        kept_graph: bool = False,
    ) -> None:
        key = self.task_id, self.task_type
        self.state.tasks[key] = self.state.tasks.get(key, Task(*key, self.user_id))._replace(
            status=status,
            attempts=self.attempt,
            error=error,
            dropped_edges={name: count for name, count in (dropped or {}).items() if count},
            left_out=left_out,
            is_not_published=False,
            kept_graph=kept_graph,
            is_ahead=self.is_ahead,
            malformed=self.malformed_fields + (self.malformed_parts if status != "SUPERSEDED" else 0),
            is_finished=True,
        )
        _derive_status(self.state, self.user_id, self.task_type)

    def _is_older(self, stored_at: datetime | None) -> bool:
        """Whether what is stored was sent later than the message. A stored time in the future says nothing."""
        return stored_at is not None and self.at < stored_at <= datetime.now(UTC) + MOST_AHEAD

    def _notify(self, type_: str, *, at: datetime | None = None, **payload: Any) -> None:
        push_status = "SKIPPED" if type_ in STORED_ONLY else "PENDING"
        fields = {name: value for name, value in payload.items() if value is not None}
        row = Notification(self.user_id, type_, {"taskId": self.task_id, **fields}, push_status, at)
        self.state.notifications[len(self.state.notifications)] = row

    def _error(self) -> str:
        return self.payload.get("error") or "The AI server gave no reason."

    # Graphs.

    def _failed(self, kind: str) -> None:
        """Keep the stored graph and summary."""
        self._finish("FAILED", error=self._error())
        notification_type = "ADD_CONVERSATION_FAILED" if kind == "ADD_NODE" else f"{kind}_FAILED"
        self._notify(notification_type, error=self._error())

    def _says_nothing(self) -> bool:
        """Whether progress has no stage or no number: it is ignored, whosever task it names."""
        stage, percent = self.payload.get("currentstage"), self.payload.get("progresspercent")
        return not stage or not stage.strip() or not isinstance(percent, int | float)

    def _progress(self, task: Task | None) -> None:
        """Store progress, unless it is older than the stored one, or the task has failed."""
        stage, eta = self.payload["currentstage"], self.payload.get("etaseconds")
        percent = min(max(float(self.payload["progresspercent"] // 1), 0.0), 100.0)
        eta = max(eta, 0) if isinstance(eta, int | float) else None
        task = task or Task(self.task_id, self.task_type, self.user_id)
        is_late = task.progress_at == self.at or self._is_older(task.progress_at)
        if task.status == "FAILED" or is_late:
            return
        self.state.tasks[self.task_id, self.task_type] = task._replace(
            status="PROGRESS", current_stage=stage, progress_percent=percent, eta_seconds=eta, progress_at=self.at
        )
        progress = {"currentStage": stage, "progressPercent": percent, "etaSeconds": eta}
        told_at = {row.created_at for row in self.state.notifications.values() if row.payload["taskId"] == self.task_id}
        if self.at not in told_at:
            self._notify("GRAPH_GENERATION_PROGRESS_UPDATED", at=self.at, **progress)

    def _graph(self) -> None:
        """Replace the graph, unless a newer one is stored."""
        state, user_id = self.state, self.user_id
        stored = state.graphs.get(user_id)
        if stored and self._is_older(stored.source_timestamp):
            self._finish("SUPERSEDED")
            return
        document = self.documents[self.payload["results3key"]]
        if not document["nodes"] and self._nodes():
            self._keep_graph()
            return
        content_before = self._content()
        before = {node.orig_id: node for node in self._nodes().values()}
        state.remove_graph(user_id)
        described = document["metadata"]["clusters"]
        for wire in document["nodes"]:
            cluster_id = text(wire.get("cluster_id"))
            name = wire.get("cluster_name") or described.get(cluster_id or "", {}).get("name")
            source_type, raw_format = source(wire.get("source_type"), wire["orig_id"])
            created_at, updated_at = (since_1970(wire.get(name)) for name in ("create_time", "update_time"))
            node = Node(
                user_id,
                wire["id"],
                original(wire["orig_id"]),
                cluster_id,
                name,
                wire.get("cluster_confidence"),
                source_type,
                wire.get("num_messages"),
                wire.get("keywords", []),
                moment(wire.get("timestamp")) or updated_at or created_at,
                wire.get("metadata", {}) | raw_format,
                wire.get("title"),
                created_at,
                updated_at,
            )
            if old := before.get(node.orig_id):
                node = node._replace(created_at=created_at or old.created_at)
                if not updated_at and node == old._replace(updated_at=None):
                    node = node._replace(updated_at=old.updated_at)
            state.graph_nodes[user_id, node.id] = node
        dropped = self._new_edges(document["edges"])
        self._new_clusters(document)
        left_out = self._features_and_summary()
        self._count(source_timestamp=self.at)
        self._note_content("CREATED", is_changed=not before or self._content() != content_before)
        metadata = {name: value for name, value in document["metadata"].items() if name != "clusters"}
        state.graphs[user_id] = state.graphs[user_id]._replace(
            metadata=metadata, generated_at=moment(metadata.get("generated_at"))
        )
        self._finish("COMPLETED", dropped=dropped, left_out=left_out)
        self._notify("GRAPH_GENERATION_COMPLETED", nodeCount=len(document["nodes"]))

    def _keep_graph(self) -> None:
        """End the task of a graph without nodes, which does not replace one that has nodes."""
        keys = {"features": self.payload.get("featuress3key"), "summary": self.payload.get("summarys3key")}
        left_out = frozenset(name for name, key in keys.items() if key and key not in self.documents)
        self._finish("COMPLETED", left_out=left_out, kept_graph=True)
        self._notify("GRAPH_GENERATION_COMPLETED", nodeCount=len(self._nodes()))

    def _new_edges(self, edges: list[dict[str, Any]]) -> Counter[str]:
        dropped = Counter[str]()
        nodes = self._nodes()
        for wire in edges:
            source, target = wire["source"], wire["target"]
            if source not in nodes or target not in nodes:
                dropped["edges to unknown nodes"] += 1
            elif source == target:
                dropped["self-loops"] += 1
            elif self._stored_edge(source, target):
                dropped["repeated edges"] += 1
            else:
                together = nodes[source].cluster_id is not None and nodes[source].cluster_id == nodes[target].cluster_id
                self.state.graph_edges[self.user_id, source, target] = Edge(
                    self.user_id,
                    source,
                    target,
                    wire.get("weight"),
                    "hard" if wire.get("confidence") == "high" else "insight",
                    wire.get("is_intra_cluster", together),
                    wire.get("relation"),
                )
        return dropped

    def _new_clusters(self, document: dict[str, Any]) -> None:
        user_id, nodes = self.user_id, self._nodes()
        described = document["metadata"]["clusters"]
        for node in nodes.values():
            if node.cluster_id and (user_id, node.cluster_id) not in self.state.graph_clusters:
                cluster = described.get(node.cluster_id, {})
                names = [other.cluster_name for other in nodes.values() if other.cluster_id == node.cluster_id]
                name = cluster.get("name") or next(filter(None, names), None)
                self.state.graph_clusters[user_id, node.cluster_id] = Cluster(
                    user_id, node.cluster_id, name, cluster.get("description"), 0, cluster.get("key_themes", [])
                )
        for wire in document["subclusters"]:
            members = [node_id for node_id in wire["node_ids"] if node_id in nodes]
            cluster_id, representative = text(wire["cluster_id"]) or "", wire.get("representative_node_id")
            # A node whose cluster is malformed has none, so a cluster may be left without nodes.
            if members and (not cluster_id or (user_id, cluster_id) in self.state.graph_clusters):
                if representative is not None and representative not in members:
                    representative = members[0]
                self.state.graph_subclusters[user_id, wire["id"]] = Subcluster(
                    user_id,
                    wire["id"],
                    cluster_id,
                    members,
                    representative,
                    len(members),
                    wire.get("density"),
                    wire.get("top_keywords", []),
                    wire.get("internal_edges"),
                    wire.get("cohesion_score"),
                )

    def _features_and_summary(self) -> frozenset[str]:
        """Store the features and the summary that exist; returns those whose key names no object."""
        left_out = set()
        features_key, summary_key = self.payload.get("featuress3key"), self.payload.get("summarys3key")
        if features_key in self.documents:
            features = self.documents[features_key]
            ids = {node.orig_id: node.id for node in self._nodes().values()}
            for conversation, embedding in zip(features["conversations"], features["embeddings"], strict=True):
                node_id = ids.get(original(conversation["orig_id"]))
                if node_id is not None:
                    self.state.node_embeddings[self.user_id, node_id] = Embedding(self.user_id, node_id, embedding)
        elif features_key:
            left_out.add("features")
        if summary_key in self.documents:
            self._replace_summary(self.documents[summary_key])
        elif summary_key:
            left_out.add("summary")
        return frozenset(left_out)

    def _summary(self) -> None:
        """Replace the summary, unless a newer one is stored."""
        document = self.documents[self.payload["summarys3key"]]
        if self._replace_summary(document):
            self._finish("COMPLETED")
            self._notify("GRAPH_SUMMARY_COMPLETED")
        else:
            self._finish("SUPERSEDED")

    def _replace_summary(self, document: dict[str, Any]) -> bool:
        stored = self.state.graph_summaries.get(self.user_id)
        if stored and self._is_older(stored.source_timestamp):
            return False
        totals = {"total_conversations": 0, "total_notes": 0, "total_notions": 0, "total_files": 0}
        kinds = {"chat": "conversations", "markdown": "notes", "notion": "notions", "file": "files"}
        for node in self._nodes().values():
            totals["total_" + kinds[node.source_type or ""]] += 1
        files = [node.metadata for node in self._nodes().values() if node.source_type == "file"]
        self.state.graph_summaries[self.user_id] = Summary(
            self.user_id,
            document["overview"]["summary_text"],
            totals,
            dict(Counter(metadata.get("ai_raw_source_type", "other") for metadata in files)),
            document.get("detail_level"),
            moment(document.get("generated_at")),
            self.at,
        )
        return True

    # New nodes.

    def _add_nodes(self) -> None:
        """Merge the batch into the stored graph, or into an empty one."""
        batch = self.documents[self.payload["results3key"]]
        if batch["userId"] != self.user_id:
            raise Refused("the batch is another user's")
        results = [result for result in batch["results"] if not result.get("skipped")]
        nodes_before, edges_before = self._nodes(), len(self._edges())
        content_before = self._content()
        self._merge_nodes(results)
        self._remove_empty_clusters(nodes_before)
        self._update_edges_of_moved_nodes(nodes_before)
        dropped = self._merge_edges(results, nodes_before)
        self._count()
        self._note_content("UPDATED", is_changed=self._content() != content_before)
        self._finish("COMPLETED", error=self.payload.get("error"), dropped=dropped)
        new_nodes, new_edges = len(self._nodes()) - len(nodes_before), len(self._edges()) - edges_before
        self._notify("ADD_CONVERSATION_COMPLETED", nodeCount=new_nodes, edgeCount=new_edges)

    def _merge_nodes(self, results: list[dict[str, Any]]) -> None:
        state, user_id = self.state, self.user_id
        names = self._cluster_names(results)
        before = self._nodes()
        dated = set()
        for result in results:
            assigned = result.get("assignedCluster") or {}
            for wire in result["nodes"]:
                orig_id = original(wire.get("origId") or wire["id"], user_id)
                old = {original(node.orig_id): node for node in self._nodes().values()}.get(orig_id)
                old = old or Node(user_id, self._next_id(), orig_id)
                if old.id not in before:
                    kinds = {"conversationId": "chat", "noteId": "markdown", "fileId": "file"}
                    kind = next(type_ for name, type_ in kinds.items() if name in result)
                    source_type, raw_format = source(kind, wire.get("origId") or wire["id"])
                    old = old._replace(source_type=source_type, metadata=raw_format or old.metadata)
                old = old._replace(orig_id=orig_id)
                state.graph_nodes[user_id, old.id] = self._merged(old, wire, assigned, names)
                if wire.get("updatedAt"):
                    dated.add(old.id)
        for old in before.values():
            node = state.graph_nodes[user_id, old.id]
            if node.cluster_id == old.cluster_id:
                # The batch may have moved it away and back.
                state.graph_nodes[user_id, old.id] = node._replace(
                    cluster_name=node.cluster_name or old.cluster_name,
                    cluster_confidence=_first_given(node.cluster_confidence, old.cluster_confidence),
                )
            if old.id not in dated and state.graph_nodes[user_id, old.id] != old:
                state.graph_nodes[user_id, old.id] = state.graph_nodes[user_id, old.id]._replace(updated_at=None)
        for node in self._nodes().values():
            if node.cluster_id and (user_id, node.cluster_id) not in state.graph_clusters:
                described = [result.get("assignedCluster") or {} for result in results]
                cluster = next((found for found in described if text(found.get("clusterId")) == node.cluster_id), {})
                state.graph_clusters[user_id, node.cluster_id] = Cluster(
                    user_id,
                    node.cluster_id,
                    names.get(node.cluster_id),
                    cluster.get("reasoning"),
                    0,
                    cluster.get("themes", []),
                )

    @staticmethod
    def _merged(old: Node, wire: dict[str, Any], assigned: dict[str, Any], names: Mapping[str, str]) -> Node:
        """A node updated by a batch. If it moves, it loses the name and the confidence of its old cluster."""
        cluster_id = text(wire.get("clusterId")) or text(assigned.get("clusterId"))
        if cluster_id and cluster_id != old.cluster_id:
            old = old._replace(cluster_id=cluster_id, cluster_name=None, cluster_confidence=None)
        is_assigned = cluster_id is not None and cluster_id == text(assigned.get("clusterId"))
        confidence = assigned.get("confidence") if is_assigned else None
        counts = [count for count in (wire.get("numMessages"), old.num_messages) if count is not None]
        created_at, updated_at = (moment(wire.get(name)) for name in ("createdAt", "updatedAt"))
        return old._replace(
            cluster_name=names.get(cluster_id or "") or old.cluster_name,
            cluster_confidence=_first_given(confidence, old.cluster_confidence),
            num_messages=max(counts) if counts else None,
            timestamp=moment(wire.get("timestamp")) or updated_at or created_at or old.timestamp,
            title=wire.get("title") or old.title,
            created_at=created_at or old.created_at,
            updated_at=updated_at or old.updated_at,
        )

    def _next_id(self) -> int:
        """The integer ID of a new node: the next one; or the smallest free one, if a column holds no larger one."""
        nodes = self._nodes()
        largest = max(nodes, default=-1)
        return largest + 1 if largest < LARGEST_INTEGER else min(set(range(len(nodes) + 1)) - nodes.keys())

    def _cluster_names(self, results: list[dict[str, Any]]) -> dict[str, str]:
        """The names of clusters: the stored name, else that in `assignedCluster`, else that of a node."""
        assigned = [result.get("assignedCluster") or {} for result in results]
        candidates = [(cluster.get("clusterId"), cluster.get("name")) for cluster in assigned]
        candidates += [
            (node.get("clusterId"), node.get("clusterName")) for result in results for node in result["nodes"]
        ]
        names = {cluster.id: cluster.name for cluster in self._clusters().values() if cluster.name}
        for cluster_id, name in candidates:
            if name and text(cluster_id):
                names.setdefault(str(cluster_id), name)
        return names

    def _remove_empty_clusters(self, nodes_before: Mapping[int, Node]) -> None:
        """Remove clusters without nodes, and members of subclusters that moved to another cluster.

        A member whose own cluster was malformed has none, and stays.
        """
        user_id, nodes = self.user_id, self._nodes()
        moved = {node.id for node in nodes_before.values() if nodes[node.id].cluster_id != node.cluster_id}
        inhabited = {node.cluster_id for node in nodes.values()}
        for cluster in self._clusters().values():
            if cluster.id not in inhabited:
                del self.state.graph_clusters[user_id, cluster.id]
        for key, row in list(self.state.graph_subclusters.items()):
            if key[0] != user_id:
                continue
            members = [
                member for member in row.node_ids if member not in moved or nodes[member].cluster_id == row.cluster_id
            ]
            if not members or (row.cluster_id and (user_id, row.cluster_id) not in self.state.graph_clusters):
                del self.state.graph_subclusters[key]
                continue
            representative = row.representative_node_id
            if representative is not None and representative not in members:
                representative = members[0]
            self.state.graph_subclusters[key] = row._replace(
                node_ids=members, size=len(members), representative_node_id=representative
            )

    def _update_edges_of_moved_nodes(self, nodes_before: Mapping[int, Node]) -> None:
        """Update `intra_cluster` of stored edges whose node has moved to another cluster."""
        nodes = self._nodes()
        moved = {node.id for node in nodes_before.values() if nodes[node.id].cluster_id != node.cluster_id}
        for edge in self._edges():
            if moved & {edge.source, edge.target}:
                clusters = {nodes[edge.source].cluster_id, nodes[edge.target].cluster_id}
                together = len(clusters) == 1 and None not in clusters
                key = self.user_id, edge.source, edge.target
                self.state.graph_edges[key] = edge._replace(intra_cluster=together)

    def _merge_edges(self, results: list[dict[str, Any]], nodes_before: Mapping[int, Node]) -> Counter[str]:
        dropped = Counter[str]()
        done: set[frozenset[int]] = set()
        for wire, its in [(edge, result) for result in results for edge in result["edges"]]:
            source, target = (self._named(wire[end], [its, *results], nodes_before) for end in ("source", "target"))
            if source is None or target is None:
                dropped["edges to unknown nodes"] += 1
            elif source == target:
                dropped["self-loops"] += 1
            elif {source, target} in done:
                dropped["repeated edges"] += 1
            else:
                done.add(frozenset({source, target}))
                stored = self._stored_edge(source, target)
                edge = stored or Edge(self.user_id, source, target, 1.0, "hard", True)
                self.state.graph_edges[self.user_id, edge.source, edge.target] = edge._replace(
                    weight=wire.get("weight", edge.weight),
                    type=wire["type"] if wire.get("type") in ("hard", "insight") else edge.type,
                    intra_cluster=wire.get("intraCluster", True),
                    relation=wire.get("relation", edge.relation),
                )
        return dropped

    def _named(self, name: str | int, results: list[dict[str, Any]], nodes_before: Mapping[int, Node]) -> int | None:
        """The ID of the node that an edge names: by an ID that a result gives it, its source ID, or a stored ID."""
        ids = {original(node.orig_id): node.id for node in self._nodes().values()}
        if isinstance(name, str):
            for wire in [node for result in results for node in result["nodes"]]:
                given_ids = [each for each in (wire.get("origId"), wire["id"]) if each]
                if {name, original(name, self.user_id)} & {
                    *given_ids,
                    *(original(each, self.user_id) for each in given_ids),
                }:
                    return ids[original(given_ids[0], self.user_id)]
            if original(name, self.user_id) in ids:
                return ids[original(name, self.user_id)]
        if isinstance(name, int) or name.isdigit():
            return int(name) if int(name) in nodes_before else None
        return None

    # Parts of the user's graph.

    def _nodes(self) -> dict[int, Node]:
        return {node.id: node for node in self.state.graph_nodes.values() if node.user_id == self.user_id}

    def _edges(self) -> list[Edge]:
        return [edge for edge in self.state.graph_edges.values() if edge.user_id == self.user_id]

    def _clusters(self) -> dict[str, Cluster]:
        return {row.id: row for row in self.state.graph_clusters.values() if row.user_id == self.user_id}

    def _content(self) -> list[dict[Any, Any]]:
        """The rows of the graph's parts by their keys, but not their embeddings, which do not count."""
        state = self.state
        parts: tuple[dict[Any, Any], ...]
        parts = (state.graph_nodes, state.graph_edges, state.graph_clusters, state.graph_subclusters)
        return [{key: row for key, row in part.items() if row.user_id == self.user_id} for part in parts]

    def _note_content(self, change: str, *, is_changed: bool = True) -> None:
        """Note what last changed the graph; the time of its content moves if it has really changed."""
        state, user_id = self.state, self.user_id
        state.last_changes[user_id] = change
        if is_changed:
            state.content_changes[user_id] = state.content_changes.get(user_id, 0) + 1
            state.graphs[user_id] = state.graphs[user_id]._replace(has_content_time=True)

    def _stored_edge(self, source: int, target: int) -> Edge | None:
        """The stored edge between two nodes, in either direction."""
        edges, user_id = self.state.graph_edges, self.user_id
        return edges.get((user_id, source, target)) or edges.get((user_id, target, source))

    def _count(self, **graph: Any) -> None:
        sizes = Counter(node.cluster_id for node in self._nodes().values())
        for cluster in self._clusters().values():
            self.state.graph_clusters[self.user_id, cluster.id] = cluster._replace(size=sizes[cluster.id])
        self.state.graphs[self.user_id] = self.state.graphs.get(self.user_id, Graph(self.user_id, ""))._replace(
            node_count=len(self._nodes()),
            edge_count=len(self._edges()),
            cluster_count=len(self._clusters()),
            **graph,
        )

    # Microscope documents.

    def _user_in_task_id(self) -> str:
        found = re.match(r"task_microscope_(?:file|node)_(.+)_[0-9A-Z]{26}", self.task_id)
        assert found, "every drawn message names its user, in the payload or in the task ID"
        return found.group(1)

    def _document(self) -> None:
        """Store the result of a document or of one of its halves. The last document completes its workspace."""
        state, payload = self.state, self.payload
        document_id = re.sub("_(non)?block$", "", self.task_id)
        half = {"_block": "block", "_nonblock": "non_block"}.get(self.task_id.removeprefix(document_id))
        document = state.microscope_documents.get(document_id) or Document(document_id, None, self.user_id, "")
        workspace_id = document.workspace_id or payload.get("groupid") or payload.get("workspaceid")
        self._check_owner(document)
        if workspace_id:
            state.microscope_workspaces.setdefault(workspace_id, Workspace(workspace_id, self.user_id, None))
        failed = self.status == "FAILED"
        views = {} if failed else self._views(half)
        chunks = len(self.documents[views["non_block"]]) if "non_block" in views else None
        images_s3_prefix = payload.get("imagess3prefix") or payload.get("imagess3key")
        new = document._replace(
            workspace_id=workspace_id,
            source_id=payload.get("sourceid", document.source_id),
            chunks_count=payload.get("chunkscount", chunks or document.chunks_count),
            schema_name=payload.get("schemaname", document.schema_name),
            ingest_stats=payload.get("ingeststats", document.ingest_stats),
            standardized_s3_key=views.get("non_block", document.standardized_s3_key),
            block_graph_s3_key=views.get("block", document.block_graph_s3_key),
            images_s3_prefix=images_s3_prefix or document.images_s3_prefix,
            error=self._error() if failed else document.error,
        )
        if half:
            of_halves: dict[str, Any] = {f"{half}_status": self.status}
            new = new._replace(**of_halves)
            halves = {new.block_status, new.non_block_status}
            new = new._replace(
                status="FAILED" if "FAILED" in halves else "COMPLETED" if halves == {"COMPLETED"} else "PROCESSING"
            )
        else:
            new = new._replace(status=str(self.status))
        if new.status == "COMPLETED":
            new = new._replace(error=None)
        state.microscope_documents[document_id] = new
        for view, key in views.items():
            wire = self.documents[key]
            if view == "non_block":
                names = [node["name"] for chunk in wire for node in chunk["nodes"]]
            else:
                names = [block.get("title") or "" for block in wire.get("block_graph", wire)["blocks"]]
            state.microscope_graphs[document_id, view] = View(document_id, view, names)
        self._finish(str(self.status), error=self._error() if failed else payload.get("error"))
        if new.status != document.status and new.status in ("COMPLETED", "FAILED"):
            self._document_ended(new)

    def _check_owner(self, document: Document) -> None:
        named = {document.workspace_id, self.payload.get("groupid"), self.payload.get("workspaceid")}
        owners = {row.user_id for row in self.state.microscope_workspaces.values() if row.id in named}
        if {document.user_id, *owners} != {self.user_id}:
            raise Refused("the document or the workspace is another user's")

    def _views(self, half: str | None) -> dict[str, str]:
        """The key of each view: a half's in either field; of a document sent once, the content tells them apart."""
        keys = [key for name in ("standardizeds3key", "blockgraphs3key") if (key := self.payload.get(name))]
        return {half or ("non_block" if isinstance(self.documents[key], list) else "block"): key for key in keys}

    def _document_ended(self, document: Document) -> None:
        if document.status == "COMPLETED":
            outcome: dict[str, Any] = {"chunksCount": document.chunks_count}
        else:
            outcome = {"error": document.error}
        self._notify(f"MICROSCOPE_DOCUMENT_{document.status}", sourceId=document.source_id, **outcome)
        completed = complete_workspace(self.state, document.workspace_id)
        if completed:
            self._notify("MICROSCOPE_WORKSPACE_COMPLETED", **completed)
