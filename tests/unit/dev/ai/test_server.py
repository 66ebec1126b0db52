"""The stand-in as a whole, with its bucket and its queues in memory: what it answers, and how oddly."""

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

from graphnode.contract import envelopes
from graphnode.contract.decoding import (
    decode_add_node_batch,
    decode_block_graph,
    decode_chunks,
    decode_graph,
    decode_summary,
    read_conversations,
    read_embeddings,
)
from graphnode.contract.envelopes import Envelope
from graphnode.contract.original_ids import original_id
from graphnode.contract.requests import (
    AddNodeRequest,
    AnyRequest,
    GraphGenerationRequest,
    GraphSummaryRequest,
    MicroscopeIngestFromNodeRequest,
    MicroscopeIngestRequest,
)
from graphnode.contract.task_ids import parse_task_id
from graphnode.dev.ai import server
from graphnode.dev.ai.asked import Asked
from graphnode.dev.ai.bucket import Bucket
from graphnode.dev.ai.odd import LONGEST_DELAY_S, SIDES, Odd
from graphnode.dev.ai.reading import UnreadableInput
from graphnode.dev.ai.server import AiServer
from graphnode.dev.worker import STAND_IN_READY
from graphnode.errors import InvalidEnvelope, SettingsError
from graphnode.rules.features import match_embeddings
from graphnode.rules.graph import clean_graph
from graphnode.rules.microscope import graph_keys
from tests.unit.dev.ai.conftest import NOW, files

USER = "ada_l"

#: A few of the corpus's files, and how many sources they hold.
FILES = {"conversations.json": 7, "broetchen.txt": 1, "naps.md": 1, "roggenbrot.md": 1, "sauerteig.md": 1}
SOURCES = sum(FILES.values())

TASK_IDS = "01J9ZZZZZZZZZZZZZZZZZZZZZ"


class MemoryBucket(Bucket):
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
    """A result queue that keeps what is sent."""

    def __init__(self, events: list[Any]) -> None:
        self.bodies: list[str] = []
        self.events = events

    def send_message(self, *, QueueUrl: str, MessageBody: str, DelaySeconds: int) -> None:  # noqa: N803
        assert 0 <= DelaySeconds <= LONGEST_DELAY_S
        self.bodies.append(MessageBody)
        self.events.append((undated(MessageBody), DelaySeconds))


@dataclass
class World:
    """A stand-in with what is around it.

    Parameters:
      events: what was written and sent, in order, without times.
    """

    odd: Odd
    bucket: MemoryBucket
    queue: Queue
    events: list[Any]

    def ask(self, task_id: str, payload: AnyRequest) -> list[Envelope[Any]]:
        """Have a request served; what it is answered, but for messages that broke off."""
        before = len(self.queue.bodies)
        stand_in = AiServer(self.queue, "", self.bucket, self.odd)  # type: ignore[arg-type]
        stand_in.serve(Asked(task_id, NOW, payload))
        return [decoded(body) for body in self.queue.bodies[before:] if not is_broken(body)]

    def ask_all(self, number: int = 0) -> dict[str, list[Envelope[Any]]]:
        """Have each type of request served, a microscope document in halves, in the order of their making."""
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
    ingest = MicroscopeIngestRequest(user_id=USER, s3_key="in/sources/sauerteig.md", group_id="w")
    for half in ("block", "nonblock"):
        yield f"task_microscope_file_{USER}_{ulid}_{half}", ingest
    node = MicroscopeIngestFromNodeRequest(user_id=USER, node_id="naps", node_type="note", group_id="w")
    yield f"task_microscope_node_{USER}_{ulid}", node


def is_broken(body: str) -> bool:
    return len(body) == server.BROKEN_LENGTH


def undated(body: str) -> Any:
    """A body, of whose time is left how it is written."""
    if is_broken(body):
        return body
    envelope = json.loads(body)
    if envelope.get("timestamp"):
        envelope["timestamp"] = envelope["timestamp"].endswith("+00:00")
    return envelope


def decoded(body: str) -> Envelope[Any]:
    """What the worker reads; raises if that is a dead letter."""
    found: Envelope[Any] = envelopes.to_message(body, message_id="m", sent_at=NOW, receive_count=1).args[0]
    return found


def check_documents(world: World, envelope: Envelope[Any]) -> None:
    """Read the documents that a result names as the worker does: what it cannot read raises."""
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
            assert [bool(found.error) for found in batch.results].count(False) == 4
        case _:
            task = parse_task_id(envelope.task_id)
            keys = graph_keys(task.half, result.standardized_s3_key, result.block_graph_s3_key)
            assert set(keys) == ({task.half} if task.half else {"block", "non_block"})
            if "non_block" in keys:
                assert decode_chunks(objects[keys["non_block"]])
            if "block" in keys:
                assert all(block.block_id for block in decode_block_graph(objects[keys["block"]]).blocks)


def check_features(content: bytes, node_ids: dict[str, int]) -> None:
    names = list(read_conversations(Bytes(content)))
    warnings = Counter[str]()
    assert len(dict(match_embeddings(names, read_embeddings(Bytes(content)), node_ids, warnings=warnings))) == SOURCES
    assert warnings == {}


class Bytes:
    """A document's bytes as they come."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self, size: int, /) -> bytes:
        chunk, self._content = self._content[:size], self._content[size:]
        return chunk


MakeWorld = Callable[..., World]


@pytest.fixture
def make_world(monkeypatch: pytest.MonkeyPatch) -> MakeWorld:
    monkeypatch.setattr(server, "LATE_DOCUMENT_S", 0)
    some = {key: content for key, content in files("sources").items() if key.rpartition("/")[2] in FILES}
    inputs = {**some, **files("later")}

    def make(**odd: Any) -> World:
        events: list[Any] = []
        return World(Odd(**odd), MemoryBucket(dict(inputs), events), Queue(events), events)

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


def test_the_same_requests_have_the_same_documents_and_odd_sides(make_world: MakeWorld) -> None:
    first, second = make_world(rate=0.4, seed=7), make_world(rate=0.4, seed=7)
    first.ask_all()
    second.ask_all()

    assert first.events == second.events


def test_another_seed_has_other_odd_sides(make_world: MakeWorld) -> None:
    first, second = make_world(rate=0.4, seed=7), make_world(rate=0.4, seed=8)
    first.ask_all()
    second.ask_all()

    assert first.events != second.events


def test_with_every_odd_side_there_is_nothing_that_the_worker_refuses_but_what_broke_off(make_world: MakeWorld) -> None:
    shown = set[str]()
    for number in range(6):
        world = make_world(rate=1, seed=number)
        for task_id, found in world.ask_all(number).items():
            assert found, task_id
            for envelope in found:
                if getattr(envelope.payload, "status", None) == "COMPLETED":
                    check_documents(world, envelope)
        shown |= {
            side for task_id, payload in requests(f"{TASK_IDS}{number}") for side in drawn(world, task_id, payload)
        }
        for body in filter(is_broken, world.queue.bodies):
            with pytest.raises(InvalidEnvelope):
                decoded(body)
    assert shown == SIDES.keys()


def drawn(world: World, task_id: str, payload: AnyRequest) -> list[str]:
    odd = world.odd.of(task_id, payload.task_type)
    return [side for side in SIDES if odd.shows(side)]


@pytest.fixture(scope="module")
def plain_events() -> list[Any]:
    """What is written and sent without an odd side, once a test has asked."""
    return []


@pytest.mark.parametrize("side", SIDES)
def test_each_odd_side_by_itself_changes_something_and_is_read(
    make_world: MakeWorld, plain_events: list[Any], side: str
) -> None:
    if not plain_events:
        plain = make_world()
        plain.ask_all()
        plain_events += plain.events
    # A rare side does not show in each task: one is enough.
    tasks = [(task_id, payload.task_type) for task_id, payload in requests(f"{TASK_IDS}0")]
    tasks = tasks if SIDES[side].share == 1 else tasks[:1]
    seed = next(
        seed for seed in range(100) if all(Odd(rate=1, seed=seed, names=[side]).of(*task).shows(side) for task in tasks)
    )
    world = make_world(rate=1, seed=seed, names=[side])

    for found in world.ask_all().values():
        for envelope in found:
            if getattr(envelope.payload, "status", None) == "COMPLETED":
                check_documents(world, envelope)

    assert world.events != plain_events, f"{side} changes nothing"


@pytest.mark.parametrize(
    ("payload", "told"),
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
def test_what_cannot_be_answered_has_failed_with_the_reason(
    make_world: MakeWorld, payload: AnyRequest, told: str
) -> None:
    *_, result = make_world().ask("task_1", payload)

    assert result.payload.status == "FAILED"
    assert told in result.payload.error


def test_an_input_that_cannot_be_read_is_told_beside_the_success(make_world: MakeWorld) -> None:
    world = make_world()
    world.bucket.objects["in/later/scan.pdf"] = b"%PDF\xff"

    *_, result = world.ask("task_1", AddNodeRequest(user_id=USER, s3_key="in/later/"))

    assert result.payload.status == "COMPLETED"
    assert result.payload.error == "scan.pdf is no text: byte 4 is not utf-8."


def test_extra_inputs_are_merged(make_world: MakeWorld) -> None:
    world = make_world()
    payload = GraphGenerationRequest(user_id=USER, s3_key="in/later/", extra_s3_keys=["in/sources/naps.md"])

    *_, result = world.ask("task_1", payload)

    graph = msgspec.json.decode(world.bucket.objects[result.payload.result_s3_key])
    assert [node["orig_id"].partition("_")[0] for node in graph["nodes"]] == [f"src{number}" for number in range(5)]


def test_a_file_of_the_apps_keeps_its_id_behind_its_type_and_its_name(make_world: MakeWorld) -> None:
    world = make_world(rate=1, names=["raw-types"])
    world.bucket.objects["in/sources/uf-51c7b0ae-plan.txt"] = b"Bake rye bread, then the rolls."

    *_, result = world.ask("task_1", GraphGenerationRequest(user_id=USER, s3_key="in/sources/"))

    content = world.bucket.objects[result.payload.result_s3_key]
    assert b'"src5_txt_uf-51c7b0ae-plan_a file"' in content
    node_ids = {node.orig_id: node.id for node in clean_graph(decode_graph(content))[0].nodes}
    assert "uf-51c7b0ae-plan" in node_ids
    names = read_conversations(Bytes(world.bucket.objects[result.payload.features_s3_key]))
    assert {original_id(name or "") for name in names} == node_ids.keys()


def test_an_unknown_odd_side_is_told() -> None:
    with pytest.raises(SettingsError, match="There is no odd side upside-down; there are duplicates, "):
        Odd(names=["upside-down"])


def test_the_documentation_lists_every_odd_side() -> None:
    document = (Path(__file__).parents[4] / "docs" / "ai.md").read_text()

    rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \| ([0-9.]+) \|$", document, re.MULTILINE)
    assert {name: (about, float(share)) for name, about, share in rows} == SIDES


def test_who_waits_for_it_to_be_ready_waits_for_what_it_logs() -> None:
    assert server.READY == STAND_IN_READY
