"""The API server's queries in docs/database.md use an index, and every index is documented."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection

from benchmarks import crowd
from benchmarks.queries import DOCUMENT, documented_queries, explain
from tests.integration.conftest import Query

#: Number of users; the last one has embeddings.
USERS = 100
READER = "user-00000100-crowd"

QUERIES = documented_queries()

#: The rows of the table of indexes in the document.
INDEXES = re.findall(r"^\| `(\w+)` \| (.+) \|$", DOCUMENT.read_text().partition("\n## Its indexes\n")[2], re.MULTILINE)


@pytest.fixture
def crowded(database_url: str) -> Iterator[connection]:
    """A session on a database with graphs of many users and fresh statistics."""
    with closing(psycopg2.connect(database_url)) as session, session.cursor() as cursor:
        cursor.execute(crowd.USERS.replace("UNLOGGED", "TEMPORARY"), (USERS,))
        for statement in crowd.ROWS.values():
            cursor.execute(statement)
        cursor.execute("ANALYZE graph_nodes, graph_edges, graph_clusters, graph_subclusters, node_embeddings")
        # The tables are small: make PostgreSQL use an index where there is one.
        cursor.execute("SET LOCAL enable_seqscan = off")
        yield session
        session.rollback()


def parts_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from parts_of(below)


def test_the_document_has_queries() -> None:
    assert len(QUERIES) >= 6


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("name", QUERIES)
def test_each_documented_query_reads_only_the_users_rows_by_an_index(crowded: connection, name: str, mode: str) -> None:
    with crowded.cursor() as cursor:
        cursor.execute(f"SET LOCAL plan_cache_mode = {mode}")

    shown = explain(crowded, QUERIES[name], user_id=READER, node_id=7, options="ANALYZE, FORMAT JSON")

    parts = list(parts_of(json.loads(shown)[0]["Plan"]))
    lookups = [part for part in parts if part["Node Type"] in ("Index Scan", "Index Only Scan", "Bitmap Index Scan")]
    assert lookups
    assert [part["Index Cond"] for part in lookups if "user_id = " not in part.get("Index Cond", "")] == []
    assert [part for part in parts if part["Node Type"] == "Seq Scan"] == []
    # Rows of a wrong index are removed by a filter. One row is allowed: the node itself, which is not near itself.
    assert sum(part.get("Rows Removed by Filter", 0) for part in parts) <= 1


def test_each_index_is_documented_with_its_readers(query: Query) -> None:
    found = query(
        "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema AND tablename <> 'schema_migration'"
    )

    assert sorted(name for name, _ in INDEXES) == sorted(name for (name,) in found)
