"""Each type of result, from the AI server's message to the stored rows and the notification."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e.ai_server import AiServer


@pytest.fixture
def ai(shared_ai: AiServer) -> AiServer:
    """That of the shared stack: no test here needs another worker."""
    return shared_ai


def notifications(ai: AiServer, user_id: str = "ada") -> list[str]:
    query = "SELECT type FROM notifications WHERE user_id = %(user_id)s ORDER BY id"
    return [row[0] for row in ai.rows(query, user_id=user_id)]


def test_a_graph_is_stored_with_its_embeddings_and_its_summary(ai: AiServer) -> None:
    task = ai.ended(ai.send(ai.result("graph")))

    assert task.status == "COMPLETED"
    assert task.warnings == {"self-loops": 1, "repeated edges": 1, "edges to unknown nodes": 1}
    assert ai.rows("SELECT status, node_count, edge_count, cluster_count FROM graphs WHERE user_id = 'ada'") == [
        ("CREATED", 36, 67, 6)
    ]
    tables = ("graph_nodes", "graph_edges", "graph_clusters", "graph_subclusters", "node_embeddings")
    assert [ai.rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables] == [36, 67, 6, 12, 36]  # noqa: S608
    totals = "overview -> 'total_conversations', overview -> 'total_notes', overview -> 'total_files'"
    assert ai.rows(f"SELECT {totals} FROM graph_summaries") == [(23, 5, 3)]  # noqa: S608
    assert ai.wait_until("SELECT payload FROM notifications WHERE push_status = 'SKIPPED'")[0][0]["nodeCount"] == 36


def test_a_failed_generation_keeps_the_graph_and_tells_the_user(ai: AiServer) -> None:
    ai.ended(ai.send(ai.result("graph")))

    task = ai.ended(ai.send(ai.result("graph", status="FAILED", error="Out of memory")))

    assert (task.status, task.error) == ("FAILED", "Out of memory")
    assert ai.rows("SELECT status, node_count FROM graphs") == [("CREATED", 36)]
    assert notifications(ai) == ["GRAPH_GENERATION_COMPLETED", "GRAPH_GENERATION_FAILED"]


def test_a_failed_generation_of_a_user_without_a_graph_creates_no_graph(ai: AiServer) -> None:
    task = ai.ended(ai.send(ai.result("graph", status="FAILED")))

    assert task.error == "The AI server gave no reason."
    assert ai.rows("SELECT status, node_count FROM graphs") == [("NOT_CREATED", 0)]


def test_a_missing_features_file_causes_a_warning_and_the_graph_is_stored(ai: AiServer) -> None:
    result = ai.result("graph")
    for key in [key for key in result.documents if "features" in key]:
        del result.documents[key]

    task = ai.ended(ai.send(result))

    assert task.status == "COMPLETED"
    assert any(warning.startswith("features left out") for warning in task.warnings or {})
    assert ai.rows("SELECT node_count FROM graphs") == [(36,)]


def test_an_invalid_summary_file_causes_a_warning_and_the_graph_is_stored(ai: AiServer) -> None:
    result = ai.result("graph")
    (key,) = [key for key in result.documents if "summary" in key]
    result.documents[key] = b'{"overview": 7}'

    task = ai.ended(ai.send(result))

    assert task.status == "COMPLETED"
    assert "summary left out: overview: expected object, got 7" in (task.warnings or {})
    assert ai.rows("SELECT node_count FROM graphs") == [(36,)]
    assert ai.rows("SELECT * FROM graph_summaries") == []


def test_embeddings_of_another_width_are_stored_with_a_warning(ai: AiServer) -> None:
    ai.ended(ai.send(ai.result("graph")))
    (width,) = ai.rows("SELECT DISTINCT vector_dims(embedding) FROM node_embeddings")[0]
    result = ai.result("graph")
    (key,) = [key for key in result.documents if "features" in key]
    features = json.loads(result.documents[key])
    features["embeddings"] = [[*row, 0.5] for row in features["embeddings"]]
    result.documents[key] = json.dumps(features).encode()

    task = ai.ended(ai.send(result))

    assert f"embeddings are {width + 1} wide, and were {width}" in (task.warnings or {})
    assert ai.rows("SELECT vector_dims(embedding), count(*) FROM node_embeddings GROUP BY 1") == [(width + 1, 36)]


@pytest.mark.parametrize("name", ["graph", "summary", "add-node", "microscope"])
def test_an_error_beside_completed_is_kept_and_the_result_is_a_success(ai: AiServer, name: str) -> None:
    task = ai.ended(ai.send(ai.result(name, error="Two of five sources could not be read.")))

    assert (task.status, task.error) == ("COMPLETED", "Two of five sources could not be read.")
    assert not any(name.endswith("_FAILED") for name in notifications(ai))


def test_progress_is_stored_with_a_notification_but_without_a_push(ai: AiServer) -> None:
    extra = {"currentStage": "clustering", "progressPercent": 40}
    ai.send(ai.result("progress", task_id="t-1", extra=extra))

    assert ai.wait_until("SELECT task_type, status, current_stage, progress_percent FROM tasks") == [
        ("GRAPH_GENERATION_RESULT", "PROGRESS", "clustering", 40.0)
    ]
    assert ai.rows("SELECT type, push_status FROM notifications") == [("GRAPH_GENERATION_PROGRESS_UPDATED", "SKIPPED")]


def test_a_summary_replaces_the_previous_one(ai: AiServer) -> None:
    ai.ended(ai.send(ai.result("graph")))

    task = ai.ended(ai.send(ai.result("summary")))

    assert task.status == "COMPLETED"
    assert ai.rows("SELECT detail_level, overview -> 'total_source_nodes' FROM graph_summaries") == [("detailed", 36)]
    assert notifications(ai) == ["GRAPH_GENERATION_COMPLETED", "GRAPH_SUMMARY_COMPLETED"]


def test_new_nodes_are_merged_into_the_graph(ai: AiServer) -> None:
    ai.ended(ai.send(ai.result("graph")))

    task = ai.ended(ai.send(ai.result("add-node")))

    assert task.status == "COMPLETED"
    assert ai.rows("SELECT status, node_count, edge_count, cluster_count FROM graphs") == [("UPDATED", 39, 76, 7)]
    counted = "SELECT (SELECT count(*) FROM graph_nodes), (SELECT count(*) FROM graph_edges)"
    assert ai.rows(counted) == [(39, 76)]
    assert ai.rows("SELECT cluster_id FROM graph_nodes WHERE id = 12") == [("cluster_3",)]
    counts = "SELECT payload -> 'nodeCount', payload -> 'edgeCount' FROM notifications WHERE type LIKE 'ADD%%'"
    assert ai.rows(counts) == [(3, 9)]


def test_new_nodes_of_a_user_without_a_graph_create_one(ai: AiServer) -> None:
    task = ai.ended(ai.send(ai.result("add-node", user_id="new_user")))

    assert task.status == "COMPLETED"
    assert ai.rows("SELECT status, node_count FROM graphs WHERE user_id = 'new_user'") == [("UPDATED", 4)]


def test_a_failed_add_node_restores_the_graphs_status(ai: AiServer) -> None:
    ai.ended(ai.send(ai.result("graph")))
    ai.execute("UPDATE graphs SET status = 'UPDATING', status_before = 'CREATED'")

    ai.ended(ai.send(ai.result("add-node", status="FAILED", error="no")))

    assert ai.rows("SELECT status FROM graphs") == [("CREATED",)]
    assert notifications(ai)[-1] == "ADD_CONVERSATION_FAILED"


@pytest.mark.parametrize("order", [("block", "nonblock"), ("nonblock", "block")])
def test_a_document_sent_in_halves_is_complete_with_the_second_one(ai: AiServer, order: tuple[str, str]) -> None:
    document_id = "task_microscope_file_ada_01J9ZZZZZZZZZZZZZZZZZZZZZZ"
    first, second = (ai.result("microscope", task_id=document_id, half=half, group_id="ws-1") for half in order)

    ai.ended(ai.send(first))
    assert ai.rows("SELECT id, status FROM microscope_documents") == [(document_id, "PROCESSING")]
    assert notifications(ai) == []

    ai.ended(ai.send(second))
    assert ai.rows("SELECT status, block_status, non_block_status, chunks_count FROM microscope_documents") == [
        ("COMPLETED", "COMPLETED", "COMPLETED", 3)
    ]
    assert ai.rows("SELECT view FROM microscope_graphs ORDER BY view") == [("block",), ("non_block",)]
    assert notifications(ai) == ["MICROSCOPE_DOCUMENT_COMPLETED", "MICROSCOPE_WORKSPACE_COMPLETED"]


def test_a_workspace_is_complete_when_its_last_document_has_ended(ai: AiServer) -> None:
    ai.execute("INSERT INTO microscope_workspaces (id, user_id, name) VALUES ('ws-1', 'ada', 'Brot')")
    documents = [f"task_microscope_node_ada_01J9ZZZZZZZZZZZZZZZZZZZZZ{end}" for end in "AB"]
    for document in documents:
        ai.execute(
            "INSERT INTO microscope_documents (id, workspace_id, user_id, status)"
            " VALUES (%s, 'ws-1', 'ada', 'PENDING')",
            document,
        )

    ai.ended(ai.send(ai.result("microscope-from-node", task_id=documents[0])))
    assert ai.rows("SELECT completed_at FROM microscope_workspaces") == [(None,)]

    ai.ended(ai.send(ai.result("microscope-from-node", task_id=documents[1], status="FAILED", error="unreadable")))
    ((payload,),) = ai.rows("SELECT payload FROM notifications WHERE type = 'MICROSCOPE_WORKSPACE_COMPLETED'")
    assert (payload["groupId"], payload["completedCount"], payload["failedCount"]) == ("ws-1", 1, 1)
    assert payload["workspaceName"] == "Brot"


def test_a_microscope_result_may_name_its_user_in_the_task_id_alone(ai: AiServer) -> None:
    result = ai.result("microscope", user_id="ada_of_london", group_id="ws-1", extra={"userId": None})

    ai.ended(ai.send(result))

    assert ai.rows("SELECT user_id FROM microscope_documents") == [("ada_of_london",)]


def test_the_same_result_twice_has_one_effect(ai: AiServer) -> None:
    ai.ended(ai.send(ai.result("graph")))
    result = ai.result("add-node")

    for _ in range(3):
        ai.send(result)
    ai.ended(result)
    ai.wait_until_drained()

    assert ai.rows("SELECT node_count, edge_count FROM graphs") == [(39, 76)]
    assert notifications(ai) == ["GRAPH_GENERATION_COMPLETED", "ADD_CONVERSATION_COMPLETED"]
    assert ai.rows("SELECT push_attempts FROM notifications WHERE type LIKE 'ADD%%'") == [(0,)]


def test_an_older_graph_does_not_replace_a_newer_one(ai: AiServer) -> None:
    now = datetime.now(UTC)
    ai.ended(ai.send(ai.result("graph", sent_at=now)))

    task = ai.ended(ai.send(ai.result("graph", sent_at=now - timedelta(hours=1))))

    assert task.status == "SUPERSEDED"
    assert notifications(ai) == ["GRAPH_GENERATION_COMPLETED"]


def test_a_failed_task_can_complete_but_a_completed_one_cannot_fail(ai: AiServer) -> None:
    failed = ai.send(ai.result("graph", task_id="t-1", status="FAILED", error="no"))
    assert ai.ended(failed).status == "FAILED"

    ai.send(ai.result("graph", task_id="t-1"))
    ai.wait_until("SELECT 1 FROM tasks WHERE task_id = 't-1' AND status = 'COMPLETED'")
    ai.send(failed)
    ai.wait_until_drained()

    assert ai.rows("SELECT status FROM tasks") == [("COMPLETED",)]
    assert ai.rows("SELECT status FROM graphs") == [("CREATED",)]


def test_results_of_many_users_are_kept_apart(ai: AiServer) -> None:
    users = [f"user-{number}" for number in range(12)]

    results = [ai.send(ai.result("graph", user_id=user)) for user in users]

    assert {ai.ended(result).status for result in results} == {"COMPLETED"}
    assert sorted(ai.rows("SELECT user_id, node_count FROM graphs")) == sorted((user, 36) for user in users)
