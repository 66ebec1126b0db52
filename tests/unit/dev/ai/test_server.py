"""The stand-in AI server as a whole, with bucket and queues in memory: its answers and its faults."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from graphnode.contract.bodies import to_message
from graphnode.contract.decoding import (
    decode_add_node_batch,
    decode_graph,
    decode_microscope,
    decode_summary,
)
from graphnode.contract.envelopes import Envelope
from graphnode.contract.message_groups import message_group
from graphnode.contract.original_ids import original_id
from graphnode.contract.requests import (
    AddNodeRequest,
    AnyRequest,
    GraphGenerationRequest,
    GraphSummaryRequest,
    MicroscopeIngestFromNodeRequest,
    MicroscopeIngestRequest,
    halves_of,
)
from graphnode.contract.task_ids import parse_task_id
from graphnode.dev.ai import server
from graphnode.dev.ai.fault_injection import FAULTS, LONGEST_DELAY_S, FaultInjection
from graphnode.dev.ai.payload_bucket import PayloadBucket
from graphnode.dev.ai.request_decoding import ReceivedRequest
from graphnode.dev.ai.server import AiServer
from graphnode.dev.ai.text_sources import UnreadableInput
from graphnode.dev.child_processes import STAND_IN_READY
from graphnode.errors import InvalidEnvelope, SettingsError
from graphnode.rules.batch_merge import merge_batch
from graphnode.rules.graph import clean_graph
from graphnode.rules.microscope_documents import view_keys
from graphnode.rules.microscope_views import stored_view, view_of
from graphnode.rules.rows import MergeTarget
from tests.features import match_features, read_features
from tests.unit.dev.ai.conftest import NOW, files

USER = "ada_l"

#: Some files of the corpus, and the number of sources in each.
FILES = {"conversations.json": 7, "broetchen.txt": 1, "naps.md": 1, "roggenbrot.md": 1, "sauerteig.md": 1}
SOURCES = sum(FILES.values())

TASK_IDS = "01J9ZZZZZZZZZZZZZZZZZZZZZ"


class MemoryBucket(PayloadBucket):
    """A bucket in memory."""

    def __init__(self, objects: dict[str, bytes], events: list[Any]) -> None:
        self.name = "payloads"
        self.objects = objects
        self.events = events

    def read(self, key: str, *, bucket: str | None = None) -> bytes:
        if key not in self.objects:
            raise UnreadableInput(f"There is no object s3://{bucket or self.name}/{key}.")
        return self.objects[key]

    def keys(self, prefix: str, *, bucket: str | None = None) -> list[str]:
        found = sorted(key for key in self.objects if key.startswith(prefix))
        if not found:
            raise UnreadableInput(f"There are no objects under s3://{bucket or self.name}/{prefix}.")
        return found

    def write(self, key: str, content: bytes) -> None:
        self.objects[key] = content
        self.events.append((key, content))


class Queue:
    """A result queue in memory."""

    def __init__(self, events: list[Any]) -> None:
        self.bodies: list[str] = []
        self.groups: set[str] = set()
        self.events = events

    def send_message(
        self,
        *,
        QueueUrl: str,  # noqa: N803
        MessageBody: str,  # noqa: N803
        DelaySeconds: int,  # noqa: N803
        MessageGroupId: str,  # noqa: N803
    ) -> None:
        assert 0 <= DelaySeconds <= LONGEST_DELAY_S
        self.bodies.append(MessageBody)
        self.groups.add(MessageGroupId)
        self.events.append((undated(MessageBody), DelaySeconds))


@dataclass
class World:
    """A stand-in with its bucket and queue.

    Parameters:
      events: all written objects and sent messages in order, without times.
    """

    faults: FaultInjection
    bucket: MemoryBucket
    queue: Queue
    events: list[Any]

    def ask(self, task_id: str, payload: AnyRequest) -> list[Envelope[Any]]:
        """Serve a request; returns the messages, without truncated ones."""
        before = len(self.queue.bodies)
        stand_in = AiServer(self.queue, "", self.bucket, self.faults)  # type: ignore[arg-type]
        stand_in.serve(ReceivedRequest(task_id, NOW, payload))
        return [decoded(body) for body in self.queue.bodies[before:] if not is_broken(body)]

    def ask_all(self, number: int = 0) -> dict[str, list[Envelope[Any]]]:
        """Serve a request of each type, and a microscope document in halves."""
        ulid = f"{TASK_IDS}{number}"
        answers = {}
        for task_id, payload in requests(ulid):
            answers[task_id] = self.ask(task_id, payload)
        return answers


def requests(ulid: str) -> Iterable[tuple[str, AnyRequest]]:
    graph = f"task_graph_{USER}_{ulid}"
    yield graph, GraphGenerationRequest(user_id=USER, s3_key="in/sources/", include_summary=True)
    key = f"ai/graph_generation_result/{USER}/{graph}/graph.json"
    yield f"task_summary_{USER}_{ulid}", GraphSummaryRequest(user_id=USER, graph_s3_key=key, language="ko")
    yield f"task_add_node_{USER}_{ulid}", AddNodeRequest(user_id=USER, s3_key="in/later/")
    ingest = MicroscopeIngestRequest(
        user_id=USER, s3_key="in/sources/sauerteig.md", group_id="w", file_name="sauerteig.md"
    )
    for half in halves_of(f"task_microscope_file_{USER}_{ulid}", ingest):
        yield half.task_id, half.payload
    node = MicroscopeIngestFromNodeRequest(user_id=USER, node_id="naps", node_type="note", group_id="w")
    yield f"task_microscope_node_{USER}_{ulid}", node


def is_broken(body: str) -> bool:
    return len(body) == server.BROKEN_LENGTH


def undated(body: str) -> Any:
    """A body whose timestamp is replaced by its format."""
    if is_broken(body):
        return body
    envelope = json.loads(body)
    if isinstance(envelope.get("timestamp"), float):
        envelope["timestamp"] = None
    elif envelope.get("timestamp"):
        envelope["timestamp"] = envelope["timestamp"].endswith("+00:00")
    return envelope


def decoded(body: str) -> Envelope[Any]:
    """The message as the worker decodes it; raises if it would be a dead letter."""
    found: Envelope[Any] = to_message(body, message_id="m", sent_at=NOW, receive_count=1).args[0]
    return found


def check_documents(world: World, envelope: Envelope[Any]) -> None:
    """Decode the documents of a result as the worker does; raises if it would refuse them."""
    result, objects = envelope.payload, world.bucket.objects
    match envelope.task_type:
        case "GRAPH_GENERATION_RESULT":
            rows, _ = clean_graph(decode_graph(objects[result.result_s3_key]))
            assert len(rows.nodes) == SOURCES
            decode_summary(objects[result.summary_s3_key])
            if result.features_s3_key in objects:
                check_features(objects[result.features_s3_key], {node.orig_id: node.id for node in rows.nodes})
        case "GRAPH_SUMMARY_RESULT":
            assert decode_summary(objects[result.summary_s3_key]).clusters
        case "ADD_NODE_RESULT":
            batch = decode_add_node_batch(objects[result.result_s3_key])
            changes, _ = merge_batch(MergeTarget({}, {}, {}, []), batch, user_id=USER)
            assert len(changes.nodes) == 4
        case _:
            task = parse_task_id(envelope.task_id)
            keys = view_keys(task.half, result.standardized_s3_key, result.block_graph_s3_key)
            views = {}
            for key in keys:
                document = decode_microscope(objects[key], half=task.half)
                views[view_of(document)] = stored_view(document, document_id=task.document_id, warnings=Counter())
            assert set(views) == ({task.half} if task.half else {"block", "non_block"})
            assert views.get("non_block", [True])
            blocks = views.get("block", {"blocks": []})["blocks"]
            assert all(block["block_id"] for block in blocks)
            # Only the request of a block half asks for micro graphs.
            assert task.half == "block" or not any(block["micro_graph"]["nodes"] for block in blocks)


def check_features(content: bytes, node_ids: dict[str, int]) -> None:
    matched, warnings = match_features(*read_features(content), node_ids)
    assert len(dict(matched)) == SOURCES
    assert warnings == {}


MakeWorld = Callable[..., World]


@pytest.fixture
def make_world(monkeypatch: pytest.MonkeyPatch) -> MakeWorld:
    monkeypatch.setattr(server, "LATE_DOCUMENT_S", 0)
    some = {key: content for key, content in files("sources").items() if key.rpartition("/")[2] in FILES}
    inputs = {**some, **files("later")}

    def make(**faults: Any) -> World:
        events: list[Any] = []
        return World(FaultInjection(**faults), MemoryBucket(dict(inputs), events), Queue(events), events)

    return make


def test_each_type_of_request_is_answered(make_world: MakeWorld) -> None:
    world = make_world()

    answers = world.ask_all()

    for found in answers.values():
        *progress, result = found
        assert result.payload.status == "COMPLETED"
        assert result.payload.user_id == USER
        check_documents(world, result)
        assert bool(progress) == (result.task_type == "GRAPH_GENERATION_RESULT")
    assert not any(map(is_broken, world.queue.bodies))
    assert world.queue.groups == {message_group(USER)}


def test_the_same_requests_have_the_same_documents_and_faults(make_world: MakeWorld) -> None:
    first, second = make_world(rate=0.4, seed=7), make_world(rate=0.4, seed=7)
    first.ask_all()
    second.ask_all()

    assert first.events == second.events


def test_another_seed_has_other_faults(make_world: MakeWorld) -> None:
    first, second = make_world(rate=0.4, seed=7), make_world(rate=0.4, seed=8)
    first.ask_all()
    second.ask_all()

    assert first.events != second.events


def test_with_all_faults_the_worker_refuses_only_truncated_messages(make_world: MakeWorld) -> None:
    shown = set[str]()
    for number in range(6):
        world = make_world(rate=1, seed=number)
        for task_id, found in world.ask_all(number).items():
            assert found, task_id
            for envelope in found:
                if getattr(envelope.payload, "status", None) == "COMPLETED":
                    check_documents(world, envelope)
        shown |= {
            fault for task_id, payload in requests(f"{TASK_IDS}{number}") for fault in drawn(world, task_id, payload)
        }
        for body in filter(is_broken, world.queue.bodies):
            with pytest.raises(InvalidEnvelope):
                decoded(body)
    assert shown == FAULTS.keys()


def drawn(world: World, task_id: str, payload: AnyRequest) -> list[str]:
    faults = world.faults.of(task_id, payload.task_type)
    return [fault for fault in FAULTS if faults.injects(fault)]


@pytest.fixture(scope="module")
def plain_events() -> list[Any]:
    """The events without faults. The first test that uses this list fills it."""
    return []


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_alone_changes_something_and_is_accepted(
    make_world: MakeWorld, plain_events: list[Any], fault: str
) -> None:
    if not plain_events:
        plain = make_world()
        plain.ask_all()
        plain_events += plain.events
    # A rare fault is not in each task: one task is enough.
    tasks = [(task_id, payload.task_type) for task_id, payload in requests(f"{TASK_IDS}0")]
    tasks = tasks if FAULTS[fault].share == 1 else tasks[:1]
    seed = next(
        seed
        for seed in range(100)
        if all(FaultInjection(rate=1, seed=seed, names=[fault]).of(*task).injects(fault) for task in tasks)
    )
    world = make_world(rate=1, seed=seed, names=[fault])

    for found in world.ask_all().values():
        for envelope in found:
            if getattr(envelope.payload, "status", None) == "COMPLETED":
                check_documents(world, envelope)

    assert world.events != plain_events, f"{fault} changes nothing"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (GraphGenerationRequest(user_id=USER, s3_key="gone/"), "There are no objects under s3://payloads/gone/."),
        (AddNodeRequest(user_id=USER, s3_key="gone.md"), "There is no object s3://payloads/gone.md."),
        (GraphSummaryRequest(user_id=USER, graph_s3_key="in/sources/naps.md"), "not JSON"),
        (
            MicroscopeIngestFromNodeRequest(user_id=USER, node_id="naps", node_type="note", group_id="w"),
            "There is no note naps in the graph of ada_l.",
        ),
    ],
    ids=lambda value: getattr(value, "request_type", ""),
)
def test_an_invalid_request_has_a_failed_result_with_the_reason(
    make_world: MakeWorld, payload: AnyRequest, reason: str
) -> None:
    *_, result = make_world().ask("task_1", payload)

    assert result.payload.status == "FAILED"
    assert reason in result.payload.error


def test_an_unreadable_input_is_named_in_a_completed_result(make_world: MakeWorld) -> None:
    world = make_world()
    world.bucket.objects["in/later/scan.pdf"] = b"%PDF\xff"

    *_, result = world.ask("task_1", AddNodeRequest(user_id=USER, s3_key="in/later/"))

    assert result.payload.status == "COMPLETED"
    assert result.payload.error == "scan.pdf is not text: byte 4 is not utf-8."


def test_extra_inputs_are_merged(make_world: MakeWorld) -> None:
    world = make_world()
    payload = GraphGenerationRequest(user_id=USER, s3_key="in/later/", extra_s3_keys=["in/sources/naps.md"])

    *_, result = world.ask("task_1", payload)

    graph = msgspec.json.decode(world.bucket.objects[result.payload.result_s3_key])
    assert [node["orig_id"].partition("_")[0] for node in graph["nodes"]] == [f"src{number}" for number in range(5)]


@pytest.mark.parametrize(
    ("seed", "name"), [(1, "src5_txt_uf-51c7b0ae-plan_a file"), (0, "src5_uf-51c7b0ae-plan_a file.txt")]
)
def test_the_worker_finds_the_file_id_in_its_name(make_world: MakeWorld, seed: int, name: str) -> None:
    world = make_world(rate=1, names=["raw-types"], seed=seed)
    world.bucket.objects["in/sources/uf-51c7b0ae-plan.txt"] = b"Bake rye bread, then the rolls."

    *_, result = world.ask("task_1", GraphGenerationRequest(user_id=USER, s3_key="in/sources/"))

    content = world.bucket.objects[result.payload.result_s3_key]
    assert f'"{name}"'.encode() in content
    node_ids = {node.orig_id: node.id for node in clean_graph(decode_graph(content))[0].nodes}
    assert "uf-51c7b0ae-plan" in node_ids
    names, _ = read_features(world.bucket.objects[result.payload.features_s3_key])
    assert {original_id(name or "") for name in names} == node_ids.keys()


def test_an_unknown_fault_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"Unknown fault: upside-down\. The faults are duplicates, "):
        FaultInjection(names=["upside-down"])


def test_the_documentation_lists_every_fault() -> None:
    document = (Path(__file__).parents[4] / "docs" / "ai.md").read_text()

    rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \| ([0-9.]+) \|$", document, re.MULTILINE)
    assert {name: (about, float(share)) for name, about, share in rows} == FAULTS


def test_the_event_that_others_wait_for_is_the_one_it_logs() -> None:
    assert server.READY == STAND_IN_READY
