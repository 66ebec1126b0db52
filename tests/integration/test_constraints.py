"""Constraints of the database: it refuses wrong states, whoever writes them."""

from __future__ import annotations

import psycopg2
import psycopg2.errors
import pytest

from tests.integration.conftest import Query

pytestmark = pytest.mark.usefixtures("storage")

#: Valid rows: Ada's graph of two nodes, and her workspace with one document.
WORLD = """
BEGIN;
INSERT INTO graphs (user_id, status) VALUES ('ada', 'CREATED');
INSERT INTO graph_clusters (user_id, id) VALUES ('ada', 'c1');
INSERT INTO graph_nodes (user_id, id, orig_id, cluster_id) VALUES ('ada', 0, 'a', 'c1'), ('ada', 1, 'b', 'c1');
INSERT INTO graph_edges (user_id, source, target, type, intra_cluster) VALUES ('ada', 0, 1, 'hard', true);
INSERT INTO graph_subclusters (user_id, id, cluster_id, node_ids, representative_node_id, size)
    VALUES ('ada', 's1', 'c1', '[0, 1]', 0, 2);
INSERT INTO node_embeddings (user_id, node_id, embedding) VALUES ('ada', 0, '[1,2]');
INSERT INTO microscope_workspaces (id, user_id) VALUES ('w1', 'ada');
INSERT INTO microscope_documents (id, workspace_id, user_id, status) VALUES ('d1', 'w1', 'ada', 'COMPLETED');
INSERT INTO microscope_graphs (document_id, view, graph) VALUES ('d1', 'block', '{}');
INSERT INTO tasks (task_id, task_type, user_id, status) VALUES ('t1', 'ADD_NODE_RESULT', 'ada', 'PENDING');
COMMIT;
"""


@pytest.fixture(autouse=True)
def world(query: Query) -> None:
    query(WORLD)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO graph_nodes (user_id, id, orig_id) VALUES ('eve', 0, 'a')",
        "INSERT INTO graph_nodes (user_id, id, orig_id, cluster_id) VALUES ('ada', 2, 'c', 'c2')",
        "INSERT INTO graph_edges VALUES ('ada', 0, 7, 1, 'hard', true)",
        "INSERT INTO graph_edges VALUES ('ada', 7, 0, 1, 'hard', true)",
        "INSERT INTO graph_subclusters (user_id, id, cluster_id, size) VALUES ('ada', 's2', 'c2', 1)",
        "UPDATE graph_subclusters SET representative_node_id = 7",
        "INSERT INTO node_embeddings VALUES ('ada', 7, '[1,2]')",
        "INSERT INTO microscope_graphs VALUES ('d7', 'block', '{}')",
        "INSERT INTO microscope_documents (id, workspace_id, user_id, status) VALUES ('d2', 'w7', 'ada', 'PENDING')",
        "DELETE FROM graph_clusters",
    ],
)
def test_nothing_names_what_is_not_there(query: Query, statement: str) -> None:
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        query(statement)


def test_a_document_belongs_to_its_workspaces_owner(query: Query) -> None:
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        query(
            "INSERT INTO microscope_documents (id, workspace_id, user_id, status) VALUES ('d2', 'w1', 'eve', 'PENDING')"
        )


@pytest.mark.parametrize(
    ("statement", "guard"),
    [
        ("INSERT INTO graph_edges VALUES ('ada', 1, 1, 1, 'hard', true)", "connects_two_nodes"),
        ("UPDATE graph_edges SET type = 'semantic'", "type_is_known"),
        ("UPDATE graph_nodes SET id = -1", "counts_from_0"),
        ("UPDATE graphs SET status = 'DONE'", "graphs_status"),
        ("UPDATE graphs SET node_count = -1", "has_counts"),
        ("UPDATE graph_subclusters SET size = 0", "has_nodes"),
        ("UPDATE microscope_documents SET error = 'no'", "completed_without_error"),
        ("UPDATE tasks SET status = 'DONE'", "tasks_status"),
        ("UPDATE tasks SET finished_at = now()", "when_ended"),
        ("UPDATE tasks SET progress_percent = 101", "is_a_percentage"),
    ],
)
def test_no_value_is_stored_that_means_nothing(query: Query, statement: str, guard: str) -> None:
    with pytest.raises(psycopg2.errors.CheckViolation, match=guard):
        query(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO graph_nodes (user_id, id, orig_id) VALUES ('ada', 7, 'a')",
        "INSERT INTO graph_edges VALUES ('ada', 0, 1, 1, 'hard', true)",
        "INSERT INTO microscope_workspaces (id, user_id) VALUES ('w1', 'eve')",
    ],
)
def test_nothing_is_there_twice(query: Query, statement: str) -> None:
    with pytest.raises(psycopg2.errors.UniqueViolation):
        query(statement)


@pytest.mark.parametrize(
    ("statement", "tables"),
    [
        ("DELETE FROM graph_nodes WHERE id = 0", ["graph_edges", "node_embeddings"]),
        (
            "DELETE FROM graphs",
            ["graph_nodes", "graph_edges", "graph_clusters", "graph_subclusters", "node_embeddings"],
        ),
        ("DELETE FROM microscope_workspaces", ["microscope_documents", "microscope_graphs"]),
    ],
)
def test_a_deletion_takes_along_what_belongs_to_it(query: Query, statement: str, tables: list[str]) -> None:
    query("UPDATE graph_subclusters SET representative_node_id = NULL")

    query(statement)

    assert [query(f"SELECT * FROM {table}") for table in tables] == [[]] * len(tables)  # noqa: S608


def test_a_transaction_may_write_its_rows_in_any_order(query: Query) -> None:
    """Workers of the previous release write the parts of a graph before its row, and nodes before clusters."""
    query(
        """
        BEGIN;
        INSERT INTO graph_edges VALUES ('eve', 0, 1, 1, 'insight', false);
        INSERT INTO graph_nodes (user_id, id, orig_id, cluster_id) VALUES ('eve', 0, 'a', 'c1'), ('eve', 1, 'b', NULL);
        INSERT INTO graph_clusters (user_id, id) VALUES ('eve', 'c1');
        INSERT INTO graphs (user_id, status) VALUES ('eve', 'CREATED');
        COMMIT
        """
    )

    assert query("SELECT count(*) FROM graph_nodes WHERE user_id = 'eve'") == [(2,)]
