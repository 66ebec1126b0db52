"""One file is one node, however the AI server names it, and where an earlier version stored it by a longer name."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from graphnode.storage.database import database
from tests.any_order.delivery import Bench, deliver
from tests.chaos.model.state import Message

ULID = "01KT1AJS0YPC4C3805641TKH5E"
SPELLINGS = ("{}", "{}_report.pdf", "pdf_{}_report", "pdf_{}", "src0_{}_report.pdf", "src3_pdf_{}_report", "src1_{}")
EVERY_NAME = [spelling.format(file_id) for file_id in ("uf-a", ULID) for spelling in SPELLINGS]

pytestmark = pytest.mark.usefixtures("in_this_process")


@pytest.fixture
def bench(in_this_process: Bench) -> Bench:
    return in_this_process


def file_id_of(name: str) -> str:
    return ULID if ULID in name else "uf-a"


def deliver_result(bench: Bench, task_type: str, task_id: str, document: Any, **documents: Any) -> None:
    """Deliver a COMPLETED result of Ada's with its document, and others by the payload's field."""
    payload = {"userId": "ada", "status": "COMPLETED"}
    for field, content in {"resultS3Key": document, **documents}.items():
        payload[field] = f"{task_id}/{field}"
        bench.documents[payload[field]] = content
    body = {"taskType": task_type, "taskId": task_id, "timestamp": "2026-05-24T08:00:00Z", "payload": payload}
    deliver(Message(body, datetime(2026, 5, 24, 8, tzinfo=UTC), {}), attempt=1)


def add(bench: Bench, task_id: str, *names: str, edges: list[dict[str, str]] | None = None) -> None:
    nodes = [{"id": f"ada_{name}", "origId": name} for name in names]
    item = {"fileId": names[0], "nodes": nodes, "edges": edges or []}
    deliver_result(bench, "ADD_NODE_RESULT", task_id, {"userId": "ada", "results": [item]})


def generate(bench: Bench, task_id: str, *names: str) -> None:
    nodes = [{"id": number, "orig_id": name} for number, name in enumerate(names)]
    features = {"conversations": [{"orig_id": names[0]}], "embeddings": [[1.0, 0.5]]}
    deliver_result(bench, "GRAPH_GENERATION_RESULT", task_id, {"nodes": nodes}, featuresS3Key=features)


def stored_nodes() -> list[tuple[int, str]]:
    return list(database.execute_sql("SELECT id, orig_id FROM graph_nodes ORDER BY id"))


def node_counts_told() -> list[int]:
    rows = database.execute_sql("SELECT payload -> 'nodeCount' FROM notifications ORDER BY id")
    return [count for (count,) in rows]


@pytest.mark.parametrize("name", EVERY_NAME)
def test_a_file_of_a_graph_that_is_added_under_any_name_stays_one_node(bench: Bench, name: str) -> None:
    generate(bench, "graph", file_id_of(name), "conv-1")

    add(bench, "add", name, edges=[{"source": f"ada_{name}", "target": "conv-1"}])

    assert stored_nodes() == [(0, file_id_of(name)), (1, "conv-1")]
    assert list(database.execute_sql("SELECT source, target FROM graph_edges")) == [(0, 1)]


@pytest.mark.parametrize("name", EVERY_NAME)
def test_a_file_of_a_graph_is_stored_by_its_id_with_its_embedding(bench: Bench, name: str) -> None:
    generate(bench, "graph", name)

    assert stored_nodes() == [(0, file_id_of(name))]
    assert list(database.execute_sql("SELECT node_id FROM node_embeddings")) == [(0,)]


@pytest.mark.parametrize("name", EVERY_NAME)
def test_a_file_that_an_earlier_version_stored_by_a_longer_name_is_added_as_the_same_node(
    bench: Bench, name: str
) -> None:
    generate(bench, "graph", "conv-1", "conv-2")
    database.execute_sql("UPDATE graph_nodes SET orig_id = %s WHERE id = 1", (f"{file_id_of(name)}_report.pdf",))

    add(bench, "add", name)

    assert stored_nodes() == [(0, "conv-1"), (1, file_id_of(name))]
    assert node_counts_told() == [2, 0]


@pytest.mark.parametrize("name", EVERY_NAME)
def test_a_graph_replaces_a_file_that_an_earlier_version_stored_by_a_longer_name(bench: Bench, name: str) -> None:
    generate(bench, "graph-1", "conv-1", "conv-2", "conv-3", "conv-4")
    database.execute_sql("UPDATE graph_nodes SET orig_id = %s WHERE id = 3", (f"{file_id_of(name)}_report.pdf",))

    generate(bench, "graph-2", name, "conv-1", "conv-2", "conv-3")

    assert stored_nodes() == [(0, file_id_of(name)), (1, "conv-1"), (2, "conv-2"), (3, "conv-3")]
