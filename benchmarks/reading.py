"""The queries that the API server makes, word for word as docs/database.md has them, and how PostgreSQL runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path

from psycopg2.extensions import connection

DOCUMENT = Path(__file__).parents[1] / "docs" / "database.md"

#: A query in the document: a block of SQL that begins with its name, as a comment. $1 is the user, $2 a node's ID.
QUERY = re.compile(r"^```sql\n-- (?P<name>.+)\n(?P<query>[^`]+)```", re.MULTILINE)


def documented_queries() -> dict[str, str]:
    """The queries by their name."""
    return {found["name"]: found["query"] for found in QUERY.finditer(DOCUMENT.read_text(encoding="utf-8"))}


def explain(
    database: connection, query: str, *, user_id: str, node_id: int, options: str = "ANALYZE, BUFFERS, COSTS OFF"
) -> str:
    """How PostgreSQL runs a query as a prepared statement. https://www.postgresql.org/docs/current/sql-explain.html

    Parameters:
      options: EXPLAIN's; with FORMAT JSON it is JSON.
    """
    values = [user_id, node_id] if "$2" in query else [user_id]
    placeholders = ", ".join("%s" for _ in values)
    with database.cursor() as cursor:
        cursor.execute(f"PREPARE documented AS {query}")
        cursor.execute(f"EXPLAIN ({options}) EXECUTE documented ({placeholders})", values)
        shown = [line if isinstance(line, str) else json.dumps(line) for (line,) in cursor.fetchall()]
        cursor.execute("DEALLOCATE documented")
    return "\n".join(shown)
