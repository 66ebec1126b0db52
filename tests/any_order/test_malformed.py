"""A part costs a part: whatever one place of a message or document holds, the rest is stored, and the task says so."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphnode.storage.database import database
from tests.any_order.delivery import Bench, bench, deliver
from tests.any_value import (
    ANY_VALUE,
    BATCH,
    BLOCK_GRAPH,
    CHUNKS,
    GRAPH,
    LISTED_CLUSTERS,
    LONE_CHUNK,
    PAYLOADS,
    SUMMARY,
    WRAPPED_BLOCK_GRAPH,
    Sample,
)
from tests.chaos.model.state import Message
from tests.conftest import emptying

SENT_AT = datetime(2026, 5, 24, 8, tzinfo=UTC)
DOCUMENT = "task_microscope_file_ada_01J9ZZZZZZZZZZZZZZZZZZZZZA"

#: A few: each is a delivery. The unit tests of the decoders draw many.
FEW = settings(max_examples=8, suppress_health_check=list(HealthCheck))

#: Each sample, with the task type and the payload's field for its key.
DOCUMENTS: list[tuple[str, str, Sample]] = [
    ("GRAPH_GENERATION_RESULT", "resultS3Key", GRAPH),
    ("GRAPH_GENERATION_RESULT", "resultS3Key", LISTED_CLUSTERS),
    ("GRAPH_SUMMARY_RESULT", "summaryS3Key", SUMMARY),
    ("ADD_NODE_RESULT", "resultS3Key", BATCH),
    ("MICROSCOPE_INGEST_RESULT", "standardized_s3_key", CHUNKS),
    ("MICROSCOPE_INGEST_RESULT", "standardized_s3_key", LONE_CHUNK),
    ("MICROSCOPE_INGEST_RESULT", "block_graph_s3_key", BLOCK_GRAPH),
    ("MICROSCOPE_INGEST_RESULT", "block_graph_s3_key", WRAPPED_BLOCK_GRAPH),
]

pytestmark = pytest.mark.usefixtures("in_this_process")


def send(task_type: str, *, task_id: str = DOCUMENT, timestamp: Any = None, **payload: Any) -> None:
    body = {"taskType": task_type, "taskId": task_id, "timestamp": timestamp, "payload": {"userId": "ada", **payload}}
    deliver(Message(body, SENT_AT, {}), attempt=1)


def stored_tasks() -> list[Any]:
    return list(database.execute_sql("SELECT status, warnings FROM tasks"))


def empty() -> None:
    database.cursor().execute(emptying())  # type: ignore[no-untyped-call]
    bench.clear()


@pytest.fixture
def graph(in_this_process: Bench) -> None:
    """Ada's graph."""
    in_this_process.documents["graph"] = GRAPH.value
    send("GRAPH_GENERATION_RESULT", task_id="t0", status="COMPLETED", resultS3Key="graph")


@pytest.mark.parametrize(("task_type", "field", "sample"), DOCUMENTS)
@FEW
@given(data=st.data())
def test_any_value_in_a_place_of_a_document_that_identifies_nothing_is_stored_without_it(
    task_type: str, field: str, sample: Sample, data: st.DataObject
) -> None:
    empty()
    bench.documents["key"] = sample.changed(data.draw(st.sampled_from(sample.places())), data.draw(ANY_VALUE))

    send(task_type, status="COMPLETED", **{field: "key"})

    assert [status for status, _ in stored_tasks()] == ["COMPLETED"]


@pytest.mark.parametrize("task_type", PAYLOADS)
@FEW
@given(data=st.data())
def test_any_value_in_a_place_of_a_message_that_identifies_nothing_is_stored_without_it(
    task_type: str, data: st.DataObject
) -> None:
    empty()
    bench.documents |= {"g": GRAPH.value, "s": SUMMARY.value, "r": BATCH.value, "f": {"conversations": []}}
    bench.documents |= {f"microscope/ada/{name}.json": CHUNKS.value for name in ("standardized", "block_graph")}
    place = data.draw(st.sampled_from(PAYLOADS[task_type].places()))
    # Another key is another object, and another user's result is refused.
    is_name = "s3" in place.lower() or place == "payload.userId"
    values = ANY_VALUE.filter(lambda value: not isinstance(value, str | int | float)) if is_name else ANY_VALUE
    changed = PAYLOADS[task_type].changed(place, data.draw(values))

    deliver(Message({"taskType": task_type, "taskId": DOCUMENT, **changed}, SENT_AT, {}), attempt=1)

    assert {status for status, _ in stored_tasks()} <= {"PROGRESS" if "PROGRESS" in task_type else "COMPLETED"}


@pytest.mark.parametrize(
    ("task_type", "field", "document", "warnings"),
    [
        ("GRAPH_GENERATION_RESULT", "resultS3Key", '{"nodes": [{"id": 0, "orig_id": "a"}], "edges": [7]}', 1),
        (
            "GRAPH_GENERATION_RESULT",
            "resultS3Key",
            '{"nodes":[{"id":0,"orig_id":"a"}],"edges":[{"source":0,"target":-1}]}',
            1,
        ),
        (
            "GRAPH_GENERATION_RESULT",
            "resultS3Key",
            '{"nodes":[],"subclusters":[{"id":"s","node_ids":[null],"representative_node_id":-1}]}',
            1,
        ),
        (
            "GRAPH_GENERATION_RESULT",
            "resultS3Key",
            '{"nodes":[],"metadata":{"clusters":{"total_clusters":1,"clusters":[]}}}',
            0,
        ),
        ("ADD_NODE_RESULT", "resultS3Key", '{"results":null}', 0),
        ("MICROSCOPE_INGEST_RESULT", "standardized_s3_key", '[{"nodes":[]},{}]', 0),
        ("MICROSCOPE_INGEST_RESULT", "block_graph_s3_key", '{"blocks":[{"block_id":"b","turn_range":[]}]}', 0),
    ],
)
def test_what_was_left_out_is_counted_on_the_task(
    task_type: str, field: str, document: str, warnings: int, in_this_process: Bench
) -> None:
    in_this_process.documents["key"] = json.loads(document)

    send(task_type, status="COMPLETED", **{field: "key"})

    ((status, counted),) = stored_tasks()
    assert (status, sum((counted or {}).values())) == ("COMPLETED", warnings)


def test_the_task_of_a_message_counts_what_was_malformed_in_it() -> None:
    send("MICROSCOPE_INGEST_RESULT", status="FAILED", timestamp=1776500000.1, sourceId=17, error={"code": 1})

    assert stored_tasks() == [
        (
            "FAILED",
            {
                "unreadable timestamp: replaced by SQS's": 1,
                "payload.source_id read as text": 1,
                "payload.error read as text": 1,
            },
        )
    ]
    assert list(database.execute_sql("SELECT source_id, error FROM microscope_documents")) == [("17", '{"code":1}')]


@pytest.mark.usefixtures("graph")
def test_a_batch_keeps_what_is_readable_of_each_source(in_this_process: Bench) -> None:
    nodes = [{"origId": "new-1", "numMessages": {}, "clusterId": []}, 7]
    edges = [{"source": "new-1", "target": "note-1", "weight": "x"}, {"source": "new-1"}, None]
    in_this_process.documents["batch"] = {"results": [{"nodes": nodes, "edges": edges}, "skipped"]}

    send("ADD_NODE_RESULT", task_id="t1", status="COMPLETED", resultS3Key="batch")

    assert list(database.execute_sql("SELECT source, target, weight FROM graph_edges WHERE source = 2")) == [
        (2, 0, 1.0)
    ]
    ((counted,),) = database.execute_sql("SELECT warnings FROM tasks WHERE task_id = 't1'")
    assert counted == {
        "malformed results[]": 1,
        "malformed results[].nodes[]": 1,
        "malformed results[].nodes[].numMessages": 1,
        "malformed results[].nodes[].clusterId": 1,
        "malformed results[].edges[]": 1,
        "malformed results[].edges[].weight": 1,
        "edges to unknown nodes": 1,
    }


@pytest.mark.parametrize(
    ("payload", "stored"),
    [
        ({"currentStage": "s", "progressPercent": 100.9, "etaSeconds": -3}, [("s", 100.0, 0.0)]),
        ({"currentStage": "s", "progressPercent": -1, "etaSeconds": "soon"}, [("s", 0.0, None)]),
        ({"currentStage": 3, "progressPercent": "40.7"}, [("3", 40.0, None)]),
        ({"currentStage": " ", "progressPercent": 40}, []),
        ({"currentStage": [], "progressPercent": 40}, []),
        ({"currentStage": "s", "progressPercent": "half"}, []),
        ({"currentStage": "s"}, []),
    ],
)
def test_progress_is_moved_into_its_bounds_or_ignored(payload: dict[str, Any], stored: list[Any]) -> None:
    send("GRAPH_GENERATION_PROGRESS", task_id="t1", **payload)

    progress = "SELECT current_stage, progress_percent, eta_seconds FROM tasks"
    assert list(database.execute_sql(progress)) == stored
    told = "SELECT payload ->> 'currentStage', payload -> 'progressPercent', payload -> 'etaSeconds' FROM notifications"
    assert list(database.execute_sql(told)) == stored
