"""Requests of the AI server: registered, then published once; refused or ended as FAILED where they must be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import replace

from benchmarks.sqs_stub import StubServer
from graphnode.contract.message_groups import message_group
from graphnode.contract.requests import (
    AddNodeRequest,
    AnyRequest,
    GraphGenerationRequest,
    GraphSummaryRequest,
    MicroscopeIngestFromNodeRequest,
    MicroscopeIngestRequest,
    RequestMessage,
)
from graphnode.contract.task_ids import Half
from graphnode.errors import (
    AlreadyRunning,
    GraphNodeError,
    InvalidRequest,
    NotPublished,
    TaskHasFailed,
    WrongOwner,
)
from graphnode.requests.client import Request, Requested, Requests, open_requests, sqs_client
from graphnode.settings import RequestSettings
from graphnode.storage import database, microscope, notifications, tasks
from graphnode.storage.tasks import TaskKey, TaskStatus
from tests.integration.conftest import Query

GRAPH = GraphGenerationRequest(user_id="ada", s3_key="inputs/ada/")
NODES = AddNodeRequest(user_id="ada", s3_key="inputs/new.json")
FILE = MicroscopeIngestRequest(user_id="ada", s3_key="files/a.pdf", group_id="w1", file_name="a.pdf")

#: A request of each kind, by the beginning of its notifications' types.
KINDS: dict[str, AnyRequest] = {
    "GRAPH_GENERATION": GRAPH,
    "GRAPH_SUMMARY": GraphSummaryRequest(user_id="ada", graph_s3_key="graph.json"),
    "ADD_CONVERSATION": NODES,
    "MICROSCOPE_INGEST": FILE,
}

#: A fault of the stub that boto3 does not retry.
DENIED = {"action": "SendMessageBatch", "kind": "denied", "times": 1}


@pytest.fixture
def storage_role() -> str:
    """The API server's role."""
    return "graphnode_api"


@pytest.fixture
def queue() -> str:
    return f"requests-{uuid4().hex}"


@pytest.fixture
def requests(storage: None, stub: StubServer, queue: str) -> Requests:
    known = RequestSettings(
        database_url="postgresql://the.test/has-opened-it",
        aws_region="eu-central-1",
        sqs_request_queue_url=stub.queue_url(queue),
        aws_endpoint_url=stub.url,
    )
    return Requests(sqs_client(known), queue_url=known.sqs_request_queue_url)


class Published:
    """The messages on the request queue."""

    def __init__(self, stub: StubServer, queue: str) -> None:
        self.stub, self.queue = stub, queue

    def __call__(self) -> list[dict[str, Any]]:
        return [json.loads(message["body"]) for message in self.stub.messages(self.queue)]

    def groups(self) -> list[str]:
        """Their message groups."""
        return [message["group"] for message in self.stub.messages(self.queue)]

    def ids(self) -> list[str]:
        return sorted(envelope["taskId"] for envelope in self())


@pytest.fixture
def published(stub: StubServer, queue: str) -> Published:
    return Published(stub, queue)


@contextmanager
def result_of_ada() -> Iterator[None]:
    """A transaction of a worker that applies a result: the API server's role may not."""
    with database.user_transaction("ada"):
        database.database.execute_sql("SET LOCAL ROLE graphnode_worker")
        yield


def finish(task_id: str, status: TaskStatus, *, task_type: str = "GRAPH_GENERATION_RESULT") -> None:
    with result_of_ada():
        tasks.finish(task_id, task_type, user_id="ada", status=status, attempts=1, error="why")


def not_taken(batch: list[RequestMessage]) -> dict[TaskKey, NotPublished]:
    """What `_send` returns when SQS does not answer."""
    return {TaskKey(task.task_id, task.payload.task_type): NotPublished("no answer") for task in batch}


class TestAGraph:
    def test_is_registered_and_published(self, requests: Requests, published: Published, query: Query) -> None:
        requested = requests.graph(GRAPH)

        (envelope,) = published()
        assert requested == Requested(envelope["taskId"], (envelope["taskId"],), published=True)
        assert envelope["taskType"] == "GRAPH_GENERATION_REQUEST"
        assert envelope["payload"] == {"userId": "ada", "s3Key": "inputs/ada/"}
        assert query(
            "SELECT task_id, task_type, user_id, status, registered, s3_keys, published_at IS NOT NULL FROM tasks"
        ) == [(requested.id, "GRAPH_GENERATION_RESULT", "ada", "PENDING", True, ["inputs/ada/"], True)]
        assert query("SELECT status, status_before FROM graphs") == [("CREATING", "NOT_CREATED")]

    def test_is_the_one_that_its_result_ends(self, requests: Requests, query: Query) -> None:
        requested = requests.graph(GRAPH)

        finish(requested.id, TaskStatus.COMPLETED)

        assert query("SELECT status, registered, s3_keys FROM tasks") == [("COMPLETED", True, ["inputs/ada/"])]

    def test_is_not_asked_for_while_another_is_made(
        self, requests: Requests, published: Published, query: Query
    ) -> None:
        first = requests.graph(GRAPH)

        with pytest.raises(AlreadyRunning, match=rf"'ada' \({first.id}\)"):
            requests.graph(GRAPH)
        with pytest.raises(AlreadyRunning):
            requests.add_node(NODES)
        requests.summary(GraphSummaryRequest(user_id="ada", graph_s3_key="graph.json"))
        requests.graph(GraphGenerationRequest(user_id="eve", s3_key="inputs/eve/"))

        assert len(published()) == 3
        assert query("SELECT count(*) FROM tasks") == [(3,)]

    def test_may_be_asked_for_all_the_same(self, requests: Requests, published: Published) -> None:
        requests.graph(GRAPH)
        requests.graph(GRAPH, even_if_running=True)
        requests.add_node(NODES, even_if_running=True)
        assert len(published()) == 3

    @pytest.mark.parametrize(("user_id", "group"), [("ada", "ada"), ("작업" * 100, message_group("작업" * 100))])
    def test_is_in_its_users_message_group(
        self, requests: Requests, published: Published, user_id: str, group: str
    ) -> None:
        requests.graph(GraphGenerationRequest(user_id=user_id, s3_key="inputs/"))

        assert published.groups() == [group]

    @pytest.mark.parametrize("status", ["CREATED", "UPDATED"])
    def test_keeps_the_settled_status_before_it_however_many_come(
        self, requests: Requests, query: Query, status: str
    ) -> None:
        query("INSERT INTO graphs (user_id, status) VALUES ('ada', %s)", status)

        requests.graph(GRAPH)
        requests.add_node(NODES, even_if_running=True)

        assert query("SELECT status, status_before FROM graphs") == [("UPDATING", status)]


class TestTheApp:
    """What the app reads of requests: stored only, once per task, in the transaction that writes the task."""

    @pytest.fixture
    def told(self, query: Query) -> Callable[[], list[tuple[Any, ...]]]:
        """The notifications in their order, without the time."""
        rows = "SELECT type, payload - 'timestamp', push_status, push_error, due_at FROM notifications ORDER BY id"
        return lambda: query(rows)

    @pytest.mark.parametrize(("payload", "kind"), [(payload, kind) for kind, payload in KINDS.items()])
    def test_is_told_of_each_request_and_that_it_could_not_be_sent_once(
        self,
        requests: Requests,
        stub: StubServer,
        told: Callable[[], list[tuple[Any, ...]]],
        payload: AnyRequest,
        kind: str,
    ) -> None:
        requested = (f"{kind}_REQUESTED", {"taskId": "t1"}, "SKIPPED", "stored only", None)
        text = {"taskId": "t1", "error": "The request could not be sent. Please try again."}
        failed = (f"{kind}_REQUEST_FAILED", text, "SKIPPED", "stored only", None)

        stub.order(faults=[DENIED, DENIED])
        for _ in range(2):
            with pytest.raises(NotPublished):
                requests._one(Request(payload, "t1"))
        assert [row for row in told() if "WORKSPACE" not in row[0]] == [requested, failed]

        requests._one(Request(payload, "t2"))
        requests._one(Request(payload, "t2"))
        assert told()[-1] == (f"{kind}_REQUESTED", {"taskId": "t2"}, "SKIPPED", "stored only", None)
        assert len([row for row in told() if row[1]["taskId"] == "t2"]) == 1

    def test_is_told_of_a_document_in_halves_once(
        self, requests: Requests, stub: StubServer, told: Callable[[], list[tuple[Any, ...]]]
    ) -> None:
        requests.microscope(FILE, document_id="d1", in_halves=True)
        stub.order(faults=[DENIED])
        with pytest.raises(NotPublished):
            requests.microscope(replace(FILE, group_id="w2"), document_id="d2", in_halves=True)

        assert [(row[0], row[1]["taskId"]) for row in told()] == [
            ("MICROSCOPE_INGEST_REQUESTED", "d1"),
            ("MICROSCOPE_INGEST_REQUESTED", "d2"),
            ("MICROSCOPE_WORKSPACE_COMPLETED", "d2"),
            ("MICROSCOPE_INGEST_REQUEST_FAILED", "d2"),
        ]

    def test_is_told_nothing_of_a_request_that_is_refused(
        self, requests: Requests, told: Callable[[], list[tuple[Any, ...]]]
    ) -> None:
        requests.graph(GRAPH, task_id="t1")
        finish("t1", TaskStatus.FAILED)
        first = told()
        for task_id in ("t1", ""):
            with pytest.raises(GraphNodeError):
                requests.graph(GRAPH, task_id=task_id or "t" * 401)
        requests.graph(GRAPH, task_id="t2")
        with pytest.raises(AlreadyRunning):
            requests.graph(GRAPH, task_id="t3")

        assert [row[1]["taskId"] for row in told()] == [first[0][1]["taskId"], "t2"]

    @pytest.mark.parametrize("fails_at", ["register", "mark_not_published"])
    def test_is_told_nothing_that_is_rolled_back(
        self,
        requests: Requests,
        stub: StubServer,
        told: Callable[[], list[tuple[Any, ...]]],
        monkeypatch: pytest.MonkeyPatch,
        query: Query,
        fails_at: str,
    ) -> None:
        write = notifications.write

        def fail(**row: Any) -> None:
            write(**row)
            if row["type"].endswith("FAILED") == (fails_at == "mark_not_published"):
                raise ZeroDivisionError

        monkeypatch.setattr(notifications, "write", fail)
        stub.order(faults=[DENIED])

        with pytest.raises(GraphNodeError, match="ZeroDivisionError"):
            requests.graph(GRAPH, task_id="t1")

        statuses = query("SELECT status FROM tasks")
        if fails_at == "register":
            assert (told(), statuses) == ([], [])
        else:
            assert [row[0] for row in told()] == ["GRAPH_GENERATION_REQUESTED"]
            assert statuses == [("PENDING",)]

    def test_is_not_told_of_a_failure_if_another_caller_has_published_it_meanwhile(
        self, requests: Requests, told: Callable[[], list[tuple[Any, ...]]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(requests, "_send", not_taken)
        monkeypatch.setattr(tasks, "mark_not_published", lambda *_, **__: False)

        requests.graph(GRAPH, task_id="t1")

        assert [row[0] for row in told()] == ["GRAPH_GENERATION_REQUESTED"]


class TestTheSameTaskAgain:
    def test_is_published_once(self, requests: Requests, published: Published, query: Query) -> None:
        requests.graph(GRAPH, task_id="t1")
        assert requests.graph(GRAPH, task_id="t1") == Requested("t1", ("t1",), published=False)
        assert published.ids() == ["t1"]
        assert query("SELECT status_before FROM graphs") == [("NOT_CREATED",)]

    def test_is_published_once_by_callers_at_the_same_time(self, requests: Requests, published: Published) -> None:
        start = Barrier(4)

        def ask(_: int) -> Requested:
            start.wait()
            return requests.graph(GRAPH, task_id="t1")

        with ThreadPoolExecutor(4) as threads:
            requested = list(threads.map(ask, range(4)))

        assert published.ids() == ["t1"]
        assert sum(one.published for one in requested) == 1

    def test_is_published_now_if_the_first_caller_died_before(
        self, requests: Requests, published: Published, monkeypatch: pytest.MonkeyPatch, query: Query
    ) -> None:
        def die(*_: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as dying:
            dying.setattr(requests, "_send", die)
            with pytest.raises(KeyboardInterrupt):
                requests.graph(GRAPH, task_id="t1")
        assert query("SELECT status, published_at FROM tasks") == [("PENDING", None)]

        assert requests.graph(GRAPH, task_id="t1").published
        assert published.ids() == ["t1"]

    @pytest.mark.parametrize("status", [TaskStatus.COMPLETED, TaskStatus.SUPERSEDED])
    def test_changes_nothing_when_it_has_ended(
        self, requests: Requests, published: Published, query: Query, status: TaskStatus
    ) -> None:
        finish("t1", status)
        assert not requests.graph(GRAPH, task_id="t1").published
        assert published() == []
        assert query("SELECT status FROM tasks") == [(status,)]

    def test_is_refused_when_it_has_failed(self, requests: Requests, published: Published, query: Query) -> None:
        requests.graph(GRAPH, task_id="t1")
        finish("t1", TaskStatus.FAILED)

        with pytest.raises(TaskHasFailed, match=r"t1 has failed \(why\): .* a new task ID"):
            requests.graph(GRAPH, task_id="t1")

        assert published.ids() == ["t1"]

    def test_is_refused_when_it_belongs_to_another_user(self, requests: Requests, query: Query) -> None:
        requests.graph(GRAPH, task_id="t1")
        with pytest.raises(WrongOwner):
            requests.graph(GraphGenerationRequest(user_id="eve", s3_key="k"), task_id="t1")
        assert query("SELECT user_id FROM graphs") == [("ada",)]


class TestAQueueThatDoesNotTakeIt:
    def test_leaves_a_failed_task_and_the_status_that_was(
        self, requests: Requests, stub: StubServer, query: Query
    ) -> None:
        query("INSERT INTO graphs (user_id, status) VALUES ('ada', 'UPDATED')")
        stub.order(faults=[DENIED, DENIED])

        with pytest.raises(NotPublished, match=r"GRAPH_GENERATION_REQUEST t1 .*AccessDenied"):
            requests.graph(GRAPH, task_id="t1")
        with pytest.raises(NotPublished):
            requests.add_node(NODES, task_id="t2")

        assert query("SELECT status, reason, published_at FROM tasks") == [("FAILED", "NOT_PUBLISHED", None)] * 2
        assert query("SELECT status, status_before FROM graphs") == [("UPDATED", None)]

    def test_leaves_the_status_to_another_task_that_is_running(
        self, requests: Requests, stub: StubServer, query: Query
    ) -> None:
        requests.graph(GRAPH)
        stub.order(faults=[DENIED])

        with pytest.raises(NotPublished):
            requests.graph(GRAPH, even_if_running=True)

        assert query("SELECT status, status_before FROM graphs") == [("CREATING", "NOT_CREATED")]

    def test_may_be_tried_again_with_the_same_task(
        self, requests: Requests, stub: StubServer, published: Published, query: Query
    ) -> None:
        stub.order(faults=[DENIED])
        with pytest.raises(NotPublished):
            requests.graph(GRAPH, task_id="t1")

        assert requests.graph(GRAPH, task_id="t1").published

        assert published.ids() == ["t1"]
        assert query("SELECT status, reason, error, finished_at FROM tasks") == [("PENDING", None, None, None)]
        assert query("SELECT status FROM graphs") == [("CREATING",)]

    def test_may_have_accepted_it_nevertheless(
        self, requests: Requests, query: Query, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        send = requests._send

        def lose_the_answer(batch: Any) -> Any:
            send(batch)
            return not_taken(batch)

        monkeypatch.setattr(requests, "_send", lose_the_answer)
        with pytest.raises(NotPublished):
            requests.graph(GRAPH, task_id="t1")
        finish("t1", TaskStatus.COMPLETED)

        assert query("SELECT status, reason FROM tasks") == [("COMPLETED", None)]

    def test_is_no_failure_if_another_caller_has_published_it_meanwhile(
        self, requests: Requests, published: Published, query: Query, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mark_not_published = tasks.mark_not_published

        def publish_first(*arguments: Any, **options: Any) -> bool:
            query("UPDATE tasks SET published_at = now()")
            return mark_not_published(*arguments, **options)

        monkeypatch.setattr(requests, "_send", not_taken)
        monkeypatch.setattr(tasks, "mark_not_published", publish_first)

        assert not requests.graph(GRAPH, task_id="t1").published

        assert query("SELECT status FROM tasks") == [("PENDING",)]
        assert query("SELECT status FROM graphs") == [("CREATING",)]


class TestADocument:
    def test_is_one_task(self, requests: Requests, published: Published, query: Query) -> None:
        requested = requests.microscope(FILE, workspace_name="Thesis")

        (envelope,) = published()
        assert envelope["taskId"] == requested.id
        assert envelope["payload"] == {
            "user_id": "ada",
            "s3_key": "files/a.pdf",
            "group_id": "w1",
            "file_name": "a.pdf",
            "ingest_mode": "raw_file",
        }
        assert query("SELECT id, user_id, name FROM microscope_workspaces") == [("w1", "ada", "Thesis")]
        assert query(
            "SELECT id, workspace_id, user_id, status, block_status, non_block_status FROM microscope_documents"
        ) == [(requested.id, "w1", "ada", "PROCESSING", None, None)]

    @pytest.mark.parametrize("in_halves", [False, True])
    def test_says_what_it_is_made_of(self, requests: Requests, query: Query, in_halves: bool) -> None:
        node = MicroscopeIngestFromNodeRequest(user_id="ada", node_id="n1", node_type="note", group_id="w1")

        requests.microscope(FILE, document_id="of-a-file", in_halves=in_halves)
        requests.microscope(node, document_id="of-a-node", in_halves=in_halves)

        assert query(
            "SELECT id, file_name, input_s3_key, node_id, node_type FROM microscope_documents ORDER BY id"
        ) == [
            ("of-a-file", "a.pdf", "files/a.pdf", None, None),
            ("of-a-node", None, None, "n1", "note"),
        ]

    def test_is_two_tasks_in_halves(self, requests: Requests, published: Published, query: Query) -> None:
        node = MicroscopeIngestFromNodeRequest(user_id="ada", node_id="n1", node_type="note", group_id="w1")

        requested = requests.microscope_from_node(node, in_halves=True)

        assert requested.task_ids == (f"{requested.id}_block", f"{requested.id}_nonblock")
        assert requested.id.startswith("task_microscope_node_ada_")
        halves = {envelope["taskId"]: envelope["payload"] for envelope in published()}
        whole = {
            "user_id": "ada",
            "node_id": "n1",
            "node_type": "note",
            "group_id": "w1",
            "ingest_mode": "from_graphnode",
        }
        assert halves == {
            f"{requested.id}_block": {**whole, "block_mode": True, "generate_micro_graphs": True},
            f"{requested.id}_nonblock": {**whole, "block_mode": False},
        }
        assert query("SELECT id, status, block_status, non_block_status FROM microscope_documents") == [
            (requested.id, "PROCESSING", "PROCESSING", "PROCESSING")
        ]

    def test_of_which_one_half_is_refused_has_failed_until_it_is_requested_again(
        self, requests: Requests, stub: StubServer, published: Published, query: Query
    ) -> None:
        query("INSERT INTO microscope_workspaces (id, user_id) VALUES ('w1', 'ada')")
        query("INSERT INTO microscope_documents VALUES ('d', 'w1', 'ada', 'COMPLETED')")
        # The stub refuses every second entry, the first among them.
        stub.order(faults=[{"action": "SendMessageBatch", "kind": "partial"}])

        with pytest.raises(NotPublished, match="_block was not put on the request queue: InternalError"):
            requests.microscope(FILE, document_id="doc", in_halves=True)

        statuses = "SELECT status, block_status, non_block_status, error FROM microscope_documents WHERE id = 'doc'"
        ((status, block, non_block, error),) = query(statuses)
        assert (status, block, non_block) == ("FAILED", "FAILED", "PROCESSING")
        assert "InternalError" in error
        assert query("SELECT type, payload ->> 'failedCount' FROM notifications ORDER BY id") == [
            ("MICROSCOPE_INGEST_REQUESTED", None),
            ("MICROSCOPE_WORKSPACE_COMPLETED", "1"),
            ("MICROSCOPE_INGEST_REQUEST_FAILED", None),
        ]

        assert requests.microscope(FILE, document_id="doc", in_halves=True).published

        assert published.ids() == ["doc_block", "doc_nonblock"]
        assert query(statuses) == [("PROCESSING", "PROCESSING", "PROCESSING", None)]

    def test_of_another_user_or_in_their_workspace_is_refused(self, requests: Requests, query: Query) -> None:
        requests.microscope(FILE, document_id="doc", in_halves=True)
        eves = MicroscopeIngestRequest(user_id="eve", s3_key="k", group_id="w2", file_name="f")

        with pytest.raises(WrongOwner, match="Document doc"):
            requests.microscope(eves, document_id="doc")
        with pytest.raises(WrongOwner, match="Workspace w1"):
            requests.microscope(replace(eves, group_id="w1"))

        assert query("SELECT DISTINCT user_id FROM tasks") == [("ada",)]

    def test_that_names_another_user_in_its_id_is_refused(self, requests: Requests) -> None:
        with pytest.raises(InvalidRequest, match="names another user"):
            requests.microscope(FILE, document_id="task_microscope_file_eve_01J9ZZZZZZZZZZZZZZZZZZZZZZ")

    @pytest.mark.parametrize("name", ["a\0b", "\ud800"])
    def test_whose_new_workspace_has_a_malformed_name_is_refused(
        self, requests: Requests, query: Query, name: str
    ) -> None:
        with pytest.raises(InvalidRequest, match="workspace's name"):
            requests.microscope(FILE, workspace_name=name)
        assert query("SELECT * FROM tasks") == []

    def test_in_halves_is_refused_for_a_half_or_the_id_of_a_half(self, requests: Requests) -> None:
        for part in ({"block_mode": True}, {"generate_micro_graphs": False}):
            with pytest.raises(InvalidRequest, match="leave out block_mode"):
                requests.microscope(replace(FILE, **part), in_halves=True)
        with pytest.raises(InvalidRequest, match="leave out block_mode"):
            requests.microscope(FILE, document_id="doc_block", in_halves=True)


class TestMany:
    def test_go_in_batches_of_ten_and_each_has_its_own_outcome(
        self, requests: Requests, stub: StubServer, published: Published, query: Query
    ) -> None:
        asked = [
            Request(GraphGenerationRequest(user_id=f"u{n}", s3_key="k", extra_s3_keys=["e"]), f"t{n:02}")
            for n in range(23)
        ]
        asked[3] = Request(GraphGenerationRequest(user_id="u1", s3_key="k"), "t03")
        asked[5] = Request(GraphGenerationRequest(user_id="", s3_key="k"), "t05")
        stub.order(faults=[{"action": "SendMessageBatch", "kind": "partial"}])

        outcomes = requests.many(asked)

        kinds = [type(outcome).__name__ for outcome in outcomes]
        assert (kinds[3], kinds[5]) == ("AlreadyRunning", "InvalidRequest")
        refused = [n for n, kind in enumerate(kinds) if kind == "NotPublished"]
        # Every second entry of the first call, which has ten of the requests that are registered.
        assert refused == [0, 2, 6, 8, 10]
        assert stub.calls("SendMessageBatch") == 3
        accepted = [n for n in range(23) if n not in {3, 5, *refused}]
        assert published.ids() == [f"t{n:02}" for n in accepted]
        assert query("SELECT count(*) FROM tasks WHERE status = 'PENDING'") == [(16,)]
        assert query("SELECT count(*) FROM tasks WHERE status = 'FAILED'") == [(5,)]

    def test_that_are_the_same_are_published_once(self, requests: Requests, published: Published) -> None:
        outcomes = requests.many([Request(GRAPH, "t1"), Request(GRAPH, "t1")])
        assert [isinstance(outcome, Requested) for outcome in outcomes] == [True, True]
        assert published.ids() == ["t1"]

    def test_never_exceed_a_batchs_size(self, requests: Requests, stub: StubServer, published: Published) -> None:
        large = {"text": "x" * 400_000}
        asked = [Request(replace(FILE, metadata=large)) for _ in range(3)]
        assert all(isinstance(outcome, Requested) for outcome in requests.many(asked))
        assert stub.calls("SendMessageBatch") == 2
        assert len(published()) == 3

    def test_end_with_an_outage_of_the_database(self, stub: StubServer, requests: Requests) -> None:
        database.close_database()
        database.open_database("postgresql://me@127.0.0.1:1/db")

        outcomes = requests.many([Request(GRAPH), Request(GRAPH)])

        assert [isinstance(one, GraphNodeError) and one.reason for one in outcomes] == ["DATABASE_FAULT"] * 2
        assert stub.calls("SendMessageBatch") == 0


@pytest.fixture
def environment(database_url: str, stub: StubServer, queue: str) -> dict[str, str]:
    """What the API server needs, and a variable of its own."""
    return {
        "DATABASE_URL": database_url,
        "AWS_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": stub.url,
        "SQS_REQUEST_QUEUE_URL": stub.queue_url(queue),
        "GRAPHNODE_OF_THE_API_SERVER": "its own",
    }


def test_requests_open_with_a_few_settings(environment: dict[str, str], published: Published) -> None:
    with open_requests(environment) as requests:
        requests.graph(GRAPH, task_id="t1")
    assert published.ids() == ["t1"]


def test_the_documented_example_does_what_it_says(
    environment: dict[str, str], published: Published, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    document = Path(__file__).parents[2] / "docs" / "requests.md"
    (example,) = re.findall(r"^```python\n(.+?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)

    names: dict[str, Any] = {}
    exec(example, names)  # noqa: S102

    assert names["failed"] == []
    assert len(published()) == 5
    assert query("SELECT user_id, status FROM graphs ORDER BY user_id") == [
        ("ada", "CREATING"),
        ("ben", "CREATING"),
        ("cleo", "CREATING"),
    ]


def test_a_result_finds_the_rows_of_a_document_that_was_asked_for(requests: Requests, query: Query) -> None:
    requested = requests.microscope(FILE, in_halves=True)

    halves: tuple[Half, ...] = ("block", "non_block")
    for half in halves:
        with result_of_ada():
            recorded = microscope.record_result(
                requested.id, user_id="ada", workspace_id=None, half=half, status="COMPLETED"
            )

    assert (recorded.status_before, recorded.status, recorded.workspace_id) == ("PROCESSING", "COMPLETED", "w1")


def test_a_document_that_is_complete_may_be_asked_for_in_halves(requests: Requests, query: Query) -> None:
    whole = requests.microscope(FILE)
    with result_of_ada():
        microscope.record_result(whole.id, user_id="ada", workspace_id=None, half=None, status="COMPLETED")

    requests.microscope(FILE, document_id=whole.id, in_halves=True)

    assert query("SELECT status FROM microscope_documents") == [("COMPLETED",)]
