"""The API server's queries, as docs/database.md documents them, and their plans in PostgreSQL."""

from __future__ import annotations

import json
import re
from pathlib import Path

from psycopg2.extensions import connection

DOCUMENT = Path(__file__).parents[1] / "docs" / "database.md"

#: A query in the document: a block of SQL whose first line, a comment, is its name. $1 is the user ID, $2 a node ID.
QUERY = re.compile(r"^```sql\n-- (?P<name>.+)\n(?P<query>[^`]+)```", re.MULTILINE)


def documented_queries() -> dict[str, str]:
    """The queries by name."""
    return {found["name"]: found["query"] for found in QUERY.finditer(DOCUMENT.read_text(encoding="utf-8"))}


def explain(
    database: connection, query: str, *, user_id: str, node_id: int, options: str = "ANALYZE, BUFFERS, COSTS OFF"
) -> str:
    """The plan of a query as a prepared statement. https://www.postgresql.org/docs/current/sql-explain.html

    Parameters:
      options: of EXPLAIN. With FORMAT JSON the plan is JSON.
    """
    values = [user_id, node_id] if "$2" in query else [user_id]
    placeholders = ", ".join("%s" for _ in values)
    with database.cursor() as cursor:
        cursor.execute(f"PREPARE documented AS {query}")
        cursor.execute(f"EXPLAIN ({options}) EXECUTE documented ({placeholders})", values)
        shown = [line if isinstance(line, str) else json.dumps(line) for (line,) in cursor.fetchall()]
        cursor.execute("DEALLOCATE documented")
    return "\n".join(shown)
