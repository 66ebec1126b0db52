"""The traffic of a run, drawn from a seed: results of all types, repeats, wrong order, and poison messages.

The same seed and number of results give the same traffic.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NamedTuple

from tests.chaos.documents import ERRORS, MANY, Documents, with_malformed_parts, written
from tests.chaos.model.state import Document, Message, Task, Workspace

#: The start of the producer's clock. Only the order of its times matters.
START = datetime(2026, 5, 24, 8, 0, tzinfo=UTC)

#: The jumps of the producer's clock in seconds, and the average number of results between two jumps.
CLOCK_STEPS_S = (-86_400, -3_600, -90, -1, 90, 3_600, 86_400)
RESULTS_BETWEEN_STEPS = 40

#: The times of a clock that is ahead, and the share of the graphs and summaries that have one.
FAR_AHEAD = (datetime(2097, 1, 1, tzinfo=UTC), datetime(2099, 12, 31, tzinfo=UTC))
WRONG_CLOCK = 0.05

#: Stands for SQS's SentTimestamp, which the model cannot know: later than all times of the producer's other clock.
DURING_THE_RUN = START + timedelta(days=60)

#: The average number of results of a user.
RESULTS_OF_A_USER = 25

#: What a user reads of a result that cannot be used (the contract).
UNREADABLE = "The result could not be read."
UNUSABLE = "The result could not be stored."

#: The average number of results between two poison messages.
RESULTS_TO_A_POISON = 35

#: The shares of results that are repeated and delayed, and the longest delay, in results.
REPEATED = 0.2
DELAYED = 0.2
LATEST = 60

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

#: The forms of user IDs.
USER_FORMS = ("ada-{}", "ada_b{}", "user_{}_x", "김민수{}", "o'hara.{}")


class Delivery(NamedTuple):
    """A message for the result queue.

    Parameters:
      position: its place in the order of sending, in results since the begin of the run.
      body: of the SQS message.
      user_id: whose result it is.
      documents: its documents in S3, by key.
      message: the input of the model; None for poison that ends no task.
      reason: for poison, the reason of the expected dead letter.
      late_s: seconds from the message to its documents.
      after: the ID of a task that must have ended first.
      repeats: whether the message was sent before.
    """

    position: float
    body: str
    user_id: str
    documents: Mapping[str, bytes] = {}
    message: Message | None = None
    reason: str | None = None
    late_s: float = 0.0
    after: str | None = None
    repeats: bool = False


class Traffic(NamedTuple):
    """The traffic of a run.

    Parameters:
      deliveries: in the order of sending.
      users: their IDs.
      devices: registration tokens by user ID. FCM no longer knows those that begin with `gone`.
      workspaces, documents: rows that the API server has written before the run.
      requests: tasks that it has registered before the run, in order. Some get no result.
    """

    deliveries: list[Delivery]
    users: list[str]
    devices: dict[str, list[str]]
    workspaces: list[Workspace]
    documents: list[Document]
    requests: list[Task] = []


def draw_traffic(seed: int, *, results: int) -> Traffic:
    """The traffic of a run with at least this many different results."""
    draw, also, faults = (Random(f"{name} {seed}") for name in ("traffic", "requests", "faults"))
    return _Producer(draw, also, faults, results).traffic()


class _Producer:
    """The AI server with its clock.

    Parameters:
      also: draws the API server's requests and the results of a wrong clock. A kept seed has the same other traffic.
      faults: draws malformed parts, and so on.
    """

    def __init__(self, draw: Random, also: Random, faults: Random, results: int) -> None:
        self.draw = draw
        self.also = also
        self.faults = faults
        self.make = Documents(draw, MANY, faults)
        self.results = results
        count = max(2, results // RESULTS_OF_A_USER)
        self.users = [draw.choice(USER_FORMS).format(number) for number in range(count)]
        self.deliveries: list[Delivery] = []
        self.workspaces: list[Workspace] = []
        self.documents: list[Document] = []
        self.requests: list[Task] = []
        #: The users who had a result of the clock that is ahead. Of two, the model would not know which was sent first.
        self.with_wrong_clock: set[str] = set()
        self.produced = 0
        self.skew_s = 0.0

    def traffic(self) -> Traffic:
        open_documents = [document for user_id in self.users for document in self._workspaces_of(user_id)]
        self.draw.shuffle(open_documents)
        kinds = [self._graph, self._graph, self._summary, self._add_nodes, self._add_nodes]
        for user_id in self.users:
            self._request(f"task_{self.also.choice(('graph', 'add_node'))}_{user_id}_without_result", user_id, 0.2)
        while self.produced < self.results:
            user_id = self.draw.choice(self.users)
            if open_documents and self.draw.random() < 0.35:
                self._document(open_documents.pop())
            elif self.draw.random() < 0.05:
                self._document(self._unknown_document(user_id))
            else:
                self.draw.choice(kinds)(user_id)
            if self.draw.randrange(RESULTS_TO_A_POISON) == 0:
                self._poison(user_id)
        for document in open_documents:
            self._document(document)
        devices = {user_id: self._devices_of(user_id) for user_id in self.users}
        deliveries = sorted(self.deliveries, key=lambda delivery: delivery.position)
        return Traffic(deliveries, self.users, devices, self.workspaces, self.documents, self.requests)

    def _request(self, task_id: str, user_id: str, share: float) -> None:
        """Register a task of a graph or of new nodes, with this probability."""
        if self.also.random() < share:
            task_type = "GRAPH_GENERATION_RESULT" if task_id.startswith("task_graph_") else "ADD_NODE_RESULT"
            self.requests.append(Task(task_id, task_type, user_id))

    # Results.

    def _graph(self, user_id: str) -> None:
        task_id = f"task_graph_{user_id}_{self._ulid()}"
        self._request(task_id, user_id, 0.4)
        for number in range(self.draw.choice((0, 0, 1, 2, 3))):
            progress = {
                "userId": user_id,
                "currentStage": f"stage {number}",
                "progressPercent": self.draw.choice((None, 10.0 * number)),
                "etaSeconds": self.draw.choice((None, 30.0)),
            }
            self._send("GRAPH_GENERATION_PROGRESS", task_id, progress, user_id=user_id)
        draft = _Draft(self, user_id)
        if self._fails(user_id, "GRAPH_GENERATION_RESULT", task_id):
            return
        draft.add("resultS3Key", self.make.graph(at=self._now()))
        if self.draw.random() < 0.5:
            draft.add("featuresS3Key", self.make.features())
        if self.draw.random() < 0.5:
            draft.add("summaryS3Key", self.make.summary(at=self._now()))
        if self.draw.random() < 0.1:
            draft.payload["featuresS3Key"] = draft.payload["summaryS3Key"] = f"never/came/{self._ulid()}.json"
        self._send("GRAPH_GENERATION_RESULT", task_id, draft.payload, user_id=user_id, of=draft.documents)

    def _summary(self, user_id: str) -> None:
        task_id = f"task_summary_{user_id}_{self._ulid()}"
        if self._fails(user_id, "GRAPH_SUMMARY_RESULT", task_id):
            return
        draft = _Draft(self, user_id)
        draft.add("summaryS3Key", self.make.summary(at=self._now()))
        self._send("GRAPH_SUMMARY_RESULT", task_id, draft.payload, user_id=user_id, of=draft.documents)

    def _add_nodes(self, user_id: str) -> None:
        task_id = f"task_add_node_{user_id}_{self._ulid()}"
        self._request(task_id, user_id, 0.4)
        if self._fails(user_id, "ADD_NODE_RESULT", task_id):
            return
        draft = _Draft(self, user_id)
        draft.add("resultS3Key", self.make.batch(user_id, at=self._now()))
        draft.payload["error"] = self.draw.choice((None, None, "1 of 3 failed"))
        self._send("ADD_NODE_RESULT", task_id, draft.payload, user_id=user_id, of=draft.documents, timeless=True)

    def _document(self, document: Document) -> None:
        """The result of a microscope document, or of each of its halves."""
        kind = "FROM_NODE_" if "_node_" in document.id.removesuffix(document.id[-26:]) else ""
        task_type = f"MICROSCOPE_INGEST_{kind}RESULT"
        for half in self.draw.choice((("",), ("",), ("_block", "_nonblock"), ("_nonblock", "_block"))):
            task_id = document.id + half
            source = {"sourceId": self.draw.choice((None, f"source-{self.draw.randint(1, 9)}"))}
            if document.workspace_id is None or self.draw.random() < 0.5:
                source[self.draw.choice(("groupId", "workspaceId"))] = document.workspace_id
            if self._fails(document.user_id, task_type, task_id, **source):
                continue
            draft = _Draft(self, document.user_id)
            if self.draw.random() < 0.3:
                draft.payload["userId"] = self.draw.choice((None, ""))
            draft.payload |= source
            draft.payload |= self.make.microscope_fields()
            for field, content in self.make.microscope(half):
                draft.add(field, content)
            self._send(task_type, task_id, draft.payload, user_id=document.user_id, of=draft.documents, timeless=True)

    def _fails(self, user_id: str, task_type: str, task_id: str, **payload: Any) -> bool:
        """Let the task fail with some probability; whether no other result follows."""
        if self.draw.random() > 0.2:
            return False
        error = self.draw.choice(ERRORS)
        failure = {"userId": user_id, "status": "FAILED", "error": error, **payload}
        self._send(task_type, task_id, failure, user_id=user_id, timeless=True)
        return self.draw.random() < 0.7

    # Poison messages.

    def _poison(self, user_id: str) -> None:
        task_id = f"task_graph_{user_id}_{self._ulid()}"
        graph = {"userId": user_id, "status": "COMPLETED"}
        key = f"poison/{self._ulid()}.json"
        named = graph | {"resultS3Key": key}
        at = written(self.draw, self._now())
        kind = self.draw.randrange(8)

        def envelope(task_type: str, payload: Any, task_id: str = task_id) -> str:
            return json.dumps({"taskType": task_type, "taskId": task_id, "timestamp": at, "payload": payload})

        def failure(task_type: str, error: str, *, timestamp: str | None = at) -> Message:
            """What the worker makes of poison that names its task and its user."""
            payload = {"userId": user_id, "status": "FAILED", "error": error}
            body = {"taskType": task_type, "taskId": task_id, "timestamp": timestamp, "payload": payload}
            return Message(body, self._now(), {})

        if kind == 0:
            cut = envelope("GRAPH_GENERATION_RESULT", graph)
            self._put(cut[: self.draw.randint(1, len(cut) - 1)], user_id, reason="INVALID_ENVELOPE")
        elif kind == 1:
            self._put(envelope("VIDEO_INGEST_RESULT", graph), user_id, reason="UNKNOWN_TASK_TYPE")
        elif kind == 2:
            self._put(envelope("GRAPH_GENERATION_REQUEST", named), user_id, reason="REQUEST_ON_RESULT_QUEUE")
        elif kind == 3:
            body = envelope("GRAPH_GENERATION_RESULT", graph)
            ended = failure("GRAPH_GENERATION_RESULT", UNREADABLE, timestamp=None)
            self._put(body, user_id, reason="INVALID_ENVELOPE", ended=ended)
        elif kind in (4, 5):
            body, ended = envelope("GRAPH_GENERATION_RESULT", named), failure("GRAPH_GENERATION_RESULT", UNREADABLE)
            broken = {key: b'{"nodes": [{"id": ' if kind == 4 else b'{"nodes": "none", "edges": 7}'}
            self._put(body, user_id, of=broken, reason="INVALID_DOCUMENT", ended=ended)
        elif kind == 6:
            other = json.dumps(self.make.batch("somebody-else", at=self._now())).encode()
            body, ended = envelope("ADD_NODE_RESULT", named), failure("ADD_NODE_RESULT", UNUSABLE)
            self._put(body, user_id, of={key: other}, reason="WRONG_OWNER", ended=ended)
        else:
            sent = [delivery.message for delivery in self.deliveries if delivery.message]
            victim = self.draw.choice(sent) if sent else None
            if victim is None or victim.body["taskType"] != "GRAPH_SUMMARY_RESULT":
                return
            theirs = victim.body["taskId"]
            body = envelope("GRAPH_SUMMARY_RESULT", {"userId": f"not-{user_id}", "status": "FAILED"}, task_id=theirs)
            self._put(body, user_id, reason="WRONG_OWNER", after=theirs)

    def _put(
        self,
        body: str,
        user_id: str,
        *,
        reason: str,
        of: Mapping[str, bytes] | None = None,
        after: str | None = None,
        ended: Message | None = None,
    ) -> None:
        self.deliveries.append(
            Delivery(self.produced + 0.5, body, user_id, of or {}, message=ended, reason=reason, after=after)
        )

    # Sending.

    def _send(
        self,
        task_type: str,
        task_id: str,
        payload: dict[str, Any],
        *,
        user_id: str,
        of: Mapping[str, Any] | None = None,
        timeless: bool = False,
    ) -> None:
        """Send a result, with some probability late or more than once.

        Parameters:
          of: its documents, by key.
          timeless: whether it may lack the timestamp, because no stored value depends on it.
        """
        draw, sent_at = self.draw, self._tick()
        payload = with_malformed_parts(self.faults, "payload", payload)
        timestamp = written(draw, sent_at)
        has_wrong_clock = task_type.endswith("_RESULT") and not timeless and self.also.random() < WRONG_CLOCK
        if has_wrong_clock and user_id not in self.with_wrong_clock:
            self.with_wrong_clock.add(user_id)
            timestamp, sent_at = written(self.also, self.also.choice(FAR_AHEAD)), DURING_THE_RUN
        stamped = {} if timeless and draw.random() < 0.3 else {"timestamp": timestamp}
        message = Message(
            {"taskType": task_type, "taskId": task_id, **stamped, "payload": payload}, sent_at, dict(of or {})
        )
        contents = {key: json.dumps(document).encode() for key, document in message.documents.items()}
        position: float = self.produced
        if draw.random() < DELAYED:
            position += draw.uniform(1, LATEST)
        late_s = draw.uniform(0.2, 2.0) if len(contents) == 1 and draw.random() < 0.1 else 0.0
        first = Delivery(position, self._body(message), user_id, contents, message, late_s=late_s)
        self.deliveries.append(first)
        while draw.random() < REPEATED:
            again = draw.choice((0.0, draw.uniform(0, LATEST), draw.uniform(0, self.results)))
            body = draw.choice((first.body, self._body(message)))
            self.deliveries.append(
                first._replace(
                    position=min(position + again, self.results + 1), body=body, documents={}, late_s=0.0, repeats=True
                )
            )

    def _body(self, message: Message) -> str:
        """The envelope. Its payload has either spelling, and sometimes an unknown field."""
        payload = dict(message.body["payload"])
        if self.draw.random() < 0.5:
            payload = {snake_case(name): value for name, value in payload.items()}
        if self.draw.random() < 0.2:
            payload["aiBuild"] = {"version": 7}
        return json.dumps({**message.body, "payload": payload}, ensure_ascii=self.draw.random() < 0.5)

    def _tick(self) -> datetime:
        """The next time of the producer's clock, which jumps sometimes. No two results have the same time."""
        self.produced += 1
        if self.draw.randrange(RESULTS_BETWEEN_STEPS) == 0:
            self.skew_s += self.draw.choice(CLOCK_STEPS_S)
        return self._now()

    def _now(self) -> datetime:
        return START + timedelta(seconds=self.produced + self.skew_s, microseconds=self.produced)

    # Users, workspaces, documents, devices.

    def _workspaces_of(self, user_id: str) -> list[Document]:
        """Make the workspaces of a user; returns their documents."""
        made = []
        for number in range(self.draw.randint(0, 2)):
            workspace = Workspace(f"w{number}-{user_id}", user_id, self.draw.choice(("Thesis", "박사 논문")))
            self.workspaces.append(workspace)
            made += [self._new_document(user_id, workspace.id) for _ in range(self.draw.randint(1, 4))]
        self.documents += made
        return made

    def _unknown_document(self, user_id: str) -> Document:
        """A document that the API server did not store, in a new workspace or without one."""
        workspace_id = self.draw.choice((None, f"w-new-{self._ulid()}"))
        return self._new_document(user_id, workspace_id)

    def _new_document(self, user_id: str, workspace_id: str | None) -> Document:
        kind = self.draw.choice(("file", "node"))
        return Document(f"task_microscope_{kind}_{user_id}_{self._ulid()}", workspace_id, user_id, "PENDING")

    def _devices_of(self, user_id: str) -> list[str]:
        """The registration tokens of a user: up to two, and sometimes one more that FCM no longer knows."""
        good = [f"device-{number}-{user_id}" for number in range(self.draw.choice((0, 1, 1, 2)))]
        return [*good, *([f"gone-{user_id}"] if good and self.draw.random() < 0.3 else [])]

    def _ulid(self) -> str:
        return "01" + "".join(self.draw.choices(CROCKFORD, k=24))


class _Draft:
    """A payload in progress, with the documents of its keys."""

    def __init__(self, producer: _Producer, user_id: str) -> None:
        self._producer = producer
        self.payload: dict[str, Any] = {"userId": user_id, "status": "COMPLETED"}
        self.documents: dict[str, Any] = {}

    def add(self, field: str, document: Any) -> None:
        """Add a document under a new key."""
        key = f"{field}/{self._producer._ulid()}.json"
        self.payload[field] = key
        self.documents[key] = document


def snake_case(name: str) -> str:
    """`resultS3Key` as `result_s3_key`."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
