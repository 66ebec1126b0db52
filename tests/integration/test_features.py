"""Documents are read from S3 before their transaction; embeddings wait for it in the spool."""

from __future__ import annotations

import gzip
import json
import random
import struct
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from graphnode import steps
from graphnode.actors import broker, graph_generation
from graphnode.clients import s3 as s3_client
from graphnode.clients.memory import SMALL_STREAM_BYTES, STREAM_BYTES, Admission, Claim, current_claim
from graphnode.clients.s3 import PIECE_BYTES
from graphnode.contract.bodies import to_message
from graphnode.dev.samples import KINDS, packaged_documents, result_of
from graphnode.errors import ObjectChanged, Postponed, SpoolFull
from graphnode.settings import settings
from graphnode.storage import database
from tests.conftest import use_settings
from tests.faults.s3_stub import Object, S3Stub, running_stub, settings_of, use
from tests.integration.conftest import Query


@pytest.fixture(scope="module")
def server() -> Iterator[S3Stub]:
    with running_stub() as stub:
        yield stub


@pytest.fixture
def bucket(
    server: S3Stub, storage: None, aws_credentials: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Object]:
    """The objects of an empty bucket, with the settings to read it and a spool directory."""
    known = settings_of(server, GRAPHNODE_SPOOL_DIR=str(tmp_path))
    use(known, monkeypatch)
    server.objects.clear()
    return server.objects


def handle(body: str) -> None:
    """Run the actor of a result."""
    message = to_message(body, message_id="m-1", sent_at=datetime.now(UTC), receive_count=1)
    broker.get_actor(message.actor_name).fn(*message.args)


def handle_graph(bucket: dict[str, Object], features: bytes | Object, *, nodes: int = 3) -> Counter[str]:
    """Run the actor of a new graph of Ada's; the warnings of its task."""
    graph = {"nodes": [{"id": number, "orig_id": f"conv-{number}"} for number in range(nodes)]}
    documents = {"resultS3Key": json.dumps(graph).encode(), "featuresS3Key": b""}
    result = result_of(KINDS["graph"], user_id="ada", documents=documents)
    bucket.update({key: Object(content) for key, content in result.documents.items()})
    (key,) = (key for key, content in result.documents.items() if not content)
    bucket[key] = features if isinstance(features, Object) else Object(features)
    handle(result.body)
    (warnings,) = database.database.execute_sql(
        "SELECT warnings FROM tasks WHERE task_id = %s", (result.task_id,)
    ).fetchone()
    return Counter(warnings or {})


def features_file(rows: list[Any]) -> bytes:
    conversations = [{"orig_id": f"conv-{number}"} for number in range(len(rows))]
    return json.dumps({"conversations": conversations, "embeddings": rows}).encode()


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED"])
@pytest.mark.parametrize("name", KINDS)
def test_nothing_is_read_from_s3_within_a_transaction(bucket: dict[str, Object], name: str, status: Any) -> None:
    kind = KINDS[name]
    documents = packaged_documents(kind, user_id="ada")
    extra = {"currentStage": "clustering", "progressPercent": 10} if name == "progress" else {}
    result = result_of(kind, user_id="ada", documents=documents, status=status, group_id="ws-1", extra=extra)
    bucket.update({key: Object(content) for key, content in result.documents.items()})
    running: list[steps.Step] = []
    calls: list[tuple[steps.Step, ...]] = []

    @contextmanager
    def around(step: steps.Step) -> Iterator[None]:
        running.append(step)
        if step in ("fetch", "stream"):
            calls.append(tuple(running))
        yield
        running.pop()

    s3_client.client().meta.events.register("before-send.s3", lambda **_: calls.append(tuple(running)))

    with steps.subscribed(around=around):
        handle(result.body)

    assert len(calls) == 2 * len(result.documents)
    assert [call for call in calls if "transaction" in call] == []
    assert all(found.requests == [""] for found in bucket.values())


def test_stored_embeddings_are_those_that_the_text_would_give(bucket: dict[str, Object], query: Query) -> None:
    chance = random.Random(7)
    rows = [
        [chance.uniform(-1, 1) for _ in range(64)],
        [chance.choice((-1, 1)) * 10 ** chance.uniform(-45, 38) for _ in range(64)],
        [0.0, -0.0, 1e-50, 5e-324, 1.401298464324817e-45, 3.402823466e38, 16777217, 0.1, *[1 / 3] * 56],
    ]

    warnings = handle_graph(bucket, features_file(rows))

    stored = query("SELECT embedding::text FROM node_embeddings ORDER BY node_id")
    assert stored == [query("SELECT %s::vector::text", json.dumps(row))[0] for row in rows]
    assert json.loads(stored[0][0]) == pytest.approx(struct.unpack("64f", struct.pack("64f", *rows[0])), rel=1e-6)
    assert warnings == {}


def test_embeddings_stay_with_their_nodes_when_others_are_left_out(bucket: dict[str, Object], query: Query) -> None:
    warnings = handle_graph(bucket, features_file([[1], [None], [3], [4], [5, 6]]), nodes=4)

    assert query("SELECT node_id, embedding::text FROM node_embeddings ORDER BY node_id") == [
        (0, "[1]"),
        (2, "[3]"),
        (3, "[4]"),
    ]
    assert warnings == {
        "embeddings that are not finite": 1,
        "embeddings of another width": 1,
        "nodes without an embedding": 1,
    }


def test_another_width_than_before_is_a_warning(bucket: dict[str, Object]) -> None:
    handle_graph(bucket, features_file([[1]] * 3))

    assert handle_graph(bucket, features_file([[1]] * 3)) == {}
    assert handle_graph(bucket, features_file([[1, 2]] * 3)) == {"embeddings are 2 wide, and were 1": 1}
    assert "wide" not in "".join(handle_graph(bucket, features_file([[None]] * 3)))


def test_a_features_file_that_is_overwritten_while_it_is_read_is_not_stored(
    bucket: dict[str, Object], query: Query
) -> None:
    body = features_file([[number] * 1000 for number in range(100)])
    overwritten = Object(body, breaks_at=[PIECE_BYTES], replaced_by=body[::-1])

    with pytest.raises(ObjectChanged):
        handle_graph(bucket, overwritten)

    assert query("SELECT count(*) FROM graphs") == [(0,)]


def test_without_memory_for_a_features_file_the_message_waits_and_its_spool_is_gone(
    bucket: dict[str, Object], tmp_path: Path
) -> None:
    admission = Admission(memory_bytes=STREAM_BYTES, most=1)
    Claim(admission).take("another's", 1)
    current_claim.set(Claim(admission))
    try:
        with pytest.raises(Postponed):
            handle_graph(bucket, features_file([[0.5] * 10_000] * (SMALL_STREAM_BYTES // 40_000)))
    finally:
        current_claim.set(None)

    assert list(tmp_path.iterdir()) == []


def test_a_full_spool_directory_loses_no_graph(
    bucket: dict[str, Object], query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(tempfile, "TemporaryFile", lambda **_: Path("/dev/full").open("w+b"))  # noqa: SIM115
        with pytest.raises(SpoolFull):
            handle_graph(bucket, features_file([[1]] * 3))
    assert query("SELECT count(*) FROM graphs") == [(0,)]

    handle_graph(bucket, features_file([[1]] * 3))

    assert query("SELECT count(*) FROM node_embeddings") == [(3,)]


def test_embeddings_that_take_too_many_bytes_are_left_out_and_the_graph_is_stored(
    bucket: dict[str, Object], query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = features_file([[1] * 200] * 3)
    use_settings(msgspec.structs.replace(settings(), max_features_bytes=len(features)), monkeypatch)

    (warning,) = handle_graph(bucket, features)

    assert warning.startswith(f"features left out: its embeddings take over {len(features) // 5} bytes in the spool")
    assert query("SELECT count(*) FROM graph_nodes") == [(3,)]
    assert query("SELECT count(*) FROM node_embeddings") == [(0,)]


@pytest.mark.parametrize("what", ["reading it", "storing its embeddings"])
def test_a_features_file_that_takes_too_long_is_left_out_and_the_graph_is_stored(
    bucket: dict[str, Object], query: Query, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(graph_generation, "MOST_READ_S" if what == "reading it" else "MOST_STORE_S", -1.0)

    (warning,) = handle_graph(bucket, features_file([[1]] * 3))

    assert warning == f"features left out: {what} took over -1 s"
    assert query("SELECT count(*) FROM graph_nodes") == [(3,)]
    assert query("SELECT count(*) FROM node_embeddings") == [(0,)]


def test_a_features_file_that_gzip_shortens_too_much_is_left_out_and_the_graph_is_stored(
    bucket: dict[str, Object], query: Query
) -> None:
    file = features_file([[0.5] * 8000] * 400)

    (warning,) = handle_graph(bucket, Object(gzip.compress(file), encoding="gzip"))

    assert warning.endswith("its gzip unpacks to over 100 times its bytes")
    assert query("SELECT count(*) FROM graph_nodes") == [(3,)]
