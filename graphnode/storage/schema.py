"""The database's schema: bring it to the newest state, or say how it differs from what this code knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import peewee
from playhouse.migrations import Runner
from psycopg2 import errors
from psycopg2.extras import Json

from graphnode.errors import SchemaError
from graphnode.storage.database import connection, database

MIGRATIONS = Path(__file__).with_name("migrations")

#: What the embeddings need of PostgreSQL. https://github.com/pgvector/pgvector
EXTENSION = "vector"

#: The advisory lock of whoever migrates: "graphnode" in bytes, cut to 64 bits.
MIGRATION_LOCK = int.from_bytes(b"graphnod")

_ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")
_KEPT = ("SELECT", "INSERT", "UPDATE")

#: By table, what a worker does with it. deploy/postgres-grants.sql grants it; a foreign key works in its owner's name.
WORKER_RIGHTS: Mapping[str, Sequence[str]] = {
    "schema_migration": ("SELECT",),
    "graphs": _KEPT,
    "graph_nodes": _ALL,
    "graph_edges": _ALL,
    "graph_clusters": _ALL,
    "graph_subclusters": _ALL,
    "node_embeddings": ("SELECT", "INSERT", "DELETE"),
    "graph_summaries": _KEPT,
    "microscope_workspaces": _KEPT,
    "microscope_documents": _KEPT,
    "microscope_graphs": _KEPT,
    "tasks": _KEPT,
    "task_attempts": ("SELECT", "INSERT", "DELETE"),
    "message_failures": _ALL,
    "notifications": _KEPT,
    "device_tokens": ("SELECT", "DELETE"),
    "workers": _ALL,
    "forgotten_users": ("SELECT",),
}

#: Those of them that the user lacks.
LACKING = """
SELECT tablename, needed
FROM jsonb_each(%(rights)s) AS given (tablename, rights), jsonb_array_elements_text(rights) AS needed
WHERE NOT has_table_privilege(quote_ident(tablename), needed)
ORDER BY tablename, needed
"""


def migrate() -> list[str]:
    """Apply the migrations that are missing, in order, all or none. Returns their names.

    They run in one transaction under a lock: of two at once, the second finds nothing to do. So a migration cannot hold
    what PostgreSQL allows outside a transaction only (CREATE INDEX CONCURRENTLY).

    Raises:
      SchemaError: The database has migrations this code does not know, or lacks pgvector.
    """
    with connection(), database.atomic():
        database.execute_sql("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
        runner = Runner(database, str(MIGRATIONS))
        _refuse_newer(runner)
        _make_extension()
        names: list[str] = runner.up()
        return names


def check_schema() -> None:
    """See that the database has exactly this code's migrations.

    Raises:
      SchemaError: It is empty, older or newer; the text says what to do.
    """
    with connection():
        runner = Runner(database, str(MIGRATIONS))
        applied = runner.applied()
        if not applied:
            raise SchemaError("The database has no schema yet: run `graphnode migrate`.")
        _refuse_newer(runner)
        pending = [migration.name for migration in runner.migrations() if migration.name not in applied]
        if pending:
            raise SchemaError(
                f"The database is older than this worker, it lacks {_listed(pending)}: run `graphnode migrate`."
            )


def lacking_rights() -> dict[str, list[str]]:
    """By table, the rights that a worker needs and this user lacks; the schema is this code's."""
    lacking: dict[str, list[str]] = {}
    with connection():
        for table, right in database.execute_sql(LACKING, {"rights": Json(WORKER_RIGHTS)}).fetchall():
            lacking.setdefault(table, []).append(right)
    return lacking


def check_rights() -> None:
    """See that this user may do with the tables what a worker does: otherwise each message would fail.

    Raises:
      SchemaError: It may not; the text says what to do.
    """
    if lacking := lacking_rights():
        named = "; ".join(f"{', '.join(rights)} on {table}" for table, rights in lacking.items())
        raise SchemaError(
            f"This database user lacks rights that a worker needs ({named}): have the owner of the "
            "tables grant them; the project's deploy/postgres-grants.sql does so for the role graphnode_worker."
        )


def _refuse_newer(runner: Runner) -> None:
    unknown = sorted(set(runner.applied()) - {migration.name for migration in runner.migrations()})
    if unknown:
        raise SchemaError(
            f"The database is newer than this worker, which does not know {_listed(unknown)}: deploy the newer worker."
        )


def _make_extension() -> None:
    """Make the extension, which is the administrator's to install and may be theirs to create."""
    available = database.execute_sql("SELECT 1 FROM pg_available_extensions WHERE name = %s", (EXTENSION,)).fetchone()
    if not available:
        raise SchemaError(
            f"PostgreSQL has no extension `{EXTENSION}`: install pgvector on its server "
            "(Debian and Ubuntu: `apt install postgresql-NN-pgvector`, with the server's version for NN)."
        )
    try:
        database.execute_sql(f"CREATE EXTENSION IF NOT EXISTS {EXTENSION}")
    except peewee.ProgrammingError as error:
        if isinstance(error.__context__, errors.InsufficientPrivilege):
            raise SchemaError(
                f"This database user may not create the extension `{EXTENSION}`: have an administrator run "
                f"`CREATE EXTENSION {EXTENSION}` in this database."
            ) from error
        raise


def _listed(names: list[str]) -> str:
    return ", ".join(names)
