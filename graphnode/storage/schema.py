"""The database schema: apply migrations, and check that this code works with the schema and its grants."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import peewee
from playhouse.migrations import Runner
from psycopg2 import errors
from psycopg2.extras import Json

from graphnode import __version__
from graphnode.errors import SchemaError
from graphnode.storage.database import database, statement_limits
from graphnode.storage.migration_locks import STATEMENT_TIMEOUT_MS, set_bounds, sole_migrator, watched_waits
from graphnode.storage.workers import SEEN_LATELY

MIGRATIONS = Path(__file__).with_name("migrations")

#: The PostgreSQL extension for embeddings. https://github.com/pgvector/pgvector
EXTENSION = "vector"

#: The advisory lock of migrators: "graphnode" in bytes, cut to 64 bits.
MIGRATION_LOCK = int.from_bytes(b"graphnod")

#: Seconds between two attempts to apply a migration whose table is in use.
PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0)

#: The applied migrations, each with its floor: the newest migration that code must know to work with the schema after
#: it. The column exists since 0008.
APPLIED = "SELECT name, to_jsonb(schema_migration) ->> 'floor' FROM schema_migration"

#: The running worker processes, and the newest migration that each knows.
RUNNING = f"""
SELECT host, pid, version, newest_migration FROM workers
WHERE {SEEN_LATELY}
ORDER BY host, pid
"""  # noqa: S608

_ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")
_KEPT = ("SELECT", "INSERT", "UPDATE")

#: Rights that a worker needs, by table; deploy/postgres-grants.sql grants them. Foreign keys need no rights.
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
    "notifications": _KEPT,
    "device_tokens": ("SELECT", "DELETE"),
    "workers": _ALL,
    "forgotten_users": ("SELECT",),
}

#: Those of these rights that the current user lacks.
LACKING = """
SELECT tablename, needed
FROM jsonb_each(%(rights)s) AS given (tablename, rights), jsonb_array_elements_text(rights) AS needed
WHERE NOT has_table_privilege(quote_ident(tablename), needed)
ORDER BY tablename, needed
"""


def migrate(*, tell: Callable[[str], None] = lambda _line: None) -> list[str]:
    """Apply the missing migrations in order, while workers run. Returns their names.

    Each migration is one transaction, unless it says `atomic = False`. If two runs start at once, the second waits and
    then has nothing to do. If a migration fails, the earlier ones stay, and the next run continues from there.

    Parameters:
      tell: gets a line for each applied migration, with its time in seconds, and for each wait.

    Raises:
      SchemaError: The database needs newer code or lacks pgvector; or a migration would break running workers, took too
        long, or did not get its lock. The text says what to do.
    """
    runner = Runner(database, str(MIGRATIONS))
    if not _compare(runner).missing:
        return []
    with sole_migrator(MIGRATION_LOCK, tell=tell) as check_lock:
        # Another run may have applied them meanwhile.
        missing = _compare(runner).missing
        if missing:
            _make_extension()
        for name in missing:
            check_lock()
            _apply(runner, name, tell=tell)
    return missing


def check_schema() -> list[str]:
    """Check that this code works with the schema of the database.

    Returns the applied migrations that are newer than this code; it works with them.

    Raises:
      SchemaError: The schema is missing, too old or too new. The text says what to do.
    """
    found = _compare(Runner(database, str(MIGRATIONS)))
    if found.is_empty:
        raise SchemaError("The database has no schema yet: run `graphnode migrate`.")
    if found.missing:
        raise SchemaError(
            f"The database is older than this worker, it lacks {', '.join(found.missing)}: run `graphnode migrate`."
        )
    return found.newer


def newest_migration() -> str:
    """The name of the newest migration that this code knows."""
    return max(path.stem for path in MIGRATIONS.glob("[0-9]*.py"))


def lacking_rights() -> dict[str, list[str]]:
    """Rights that a worker needs and the current user lacks, by table. All migrations must be applied."""
    lacking: dict[str, list[str]] = {}
    for table, right in database.execute_sql(LACKING, {"rights": Json(WORKER_RIGHTS)}).fetchall():
        lacking.setdefault(table, []).append(right)
    return lacking


def check_rights() -> None:
    """Check that the current user has the rights that a worker needs; without them every message would fail.

    Raises:
      SchemaError: Rights are missing. The text says what to do.
    """
    if lacking := lacking_rights():
        named = "; ".join(f"{', '.join(rights)} on {table}" for table, rights in lacking.items())
        raise SchemaError(
            f"This database user lacks rights that a worker needs ({named}): the owner of the tables must grant "
            "them; the project's deploy/postgres-grants.sql does so for the role graphnode_worker."
        )


class _Comparison(NamedTuple):
    """How the schema differs from what this code knows: names of migrations, in order."""

    is_empty: bool
    missing: list[str]
    newer: list[str]


def _compare(runner: Runner) -> _Comparison:
    """Compare the applied migrations with the known ones. Raises SchemaError if the database needs newer code."""
    known = [migration.name for migration in runner.migrations()]
    applied = dict(database.execute_sql(APPLIED).fetchall()) if runner.History.table_exists() else {}
    newer = sorted(applied.keys() - known)
    floor = max(filter(None, applied.values()), default="")
    if floor and floor not in known:
        raise SchemaError(
            f"The database is too new for this version ({__version__}), which does not know {', '.join(newer)}: "
            f"deploy a version that knows {floor} at least."
        )
    return _Comparison(not applied, [name for name in known if name not in applied], newer)


def _apply(runner: Runner, name: str, *, tell: Callable[[str], None]) -> None:
    """Apply a migration; try again while its table is in use. Raises SchemaError."""
    (migration,) = [migration for migration in runner.migrations() if migration.name == name]
    module = migration.load()
    is_atomic = getattr(module, "atomic", True)
    left = "Nothing of it is left in the database" if is_atomic else "What it did stays, and the next run continues"
    if floor := getattr(module, "FLOOR", None):
        _refuse_while_in_use(name, floor)
    for pause_s in (*PAUSES_S, None):
        waits: list[str] = []
        began = time.monotonic()
        try:
            if is_atomic:
                _run_in_transaction(runner, name, floor=floor, on_wait=waits.append)
            else:
                # PostgreSQL refuses CREATE INDEX CONCURRENTLY in a transaction, and so beside SET LOCAL.
                with (
                    statement_limits(None),
                    watched_waits(lambda wait: tell(f"{name}: {wait}; workers continue meanwhile")),
                ):
                    runner.up(name)
        except peewee.OperationalError as error:
            cause = error.__context__
            if isinstance(cause, errors.QueryCanceled):
                raise SchemaError(
                    f"{name} was not applied, one of its statements took more than {STATEMENT_TIMEOUT_MS / 1000:g} s, "
                    f"and workers would have waited for it. {left}: split it as docs/upgrading.md says."
                ) from error
            if not isinstance(cause, errors.LockNotAvailable | errors.DeadlockDetected):
                raise
            seen = waits[-1] if waits else "waits for a lock"
            if pause_s is None:
                raise SchemaError(
                    f"{name} was not applied, it {seen}, at each of {len(PAUSES_S) + 1} attempts. {left}, and earlier "
                    "migrations stay: wait until that session has ended, or end it, and run `graphnode migrate` again."
                ) from error
            tell(f"{name}: {seen}; workers go first, the next attempt is in {pause_s:g} s")
            time.sleep(pause_s)
        else:
            tell(f"applied {name}: {time.monotonic() - began:.2f} s")
            return


def _run_in_transaction(runner: Runner, name: str, *, floor: str | None, on_wait: Callable[[str], None]) -> None:
    """Run a migration as one transaction with short waits."""
    with database.atomic():
        set_bounds(database)
        with watched_waits(on_wait):
            runner.up(name)
        if floor:
            database.execute_sql("UPDATE schema_migration SET floor = %s WHERE name = %s", (floor, name))


def _refuse_while_in_use(name: str, floor: str) -> None:
    """Raise SchemaError if a running worker still needs what this migration removes."""
    running = database.execute_sql(RUNNING).fetchall()
    needing = [f"{host}:{pid} ({version})" for host, pid, version, newest in running if (newest or "") < floor]
    if needing:
        raise SchemaError(
            f"{name} removes what running workers still need, {', '.join(needing)}: deploy the version that knows "
            f"{floor} first, and run `graphnode migrate` again when these workers have ended."
        )


def _make_extension() -> None:
    """Create the extension. Raises SchemaError if an administrator has to install or create it."""
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
                f"This database user may not create the extension `{EXTENSION}`: an administrator must "
                f"run `CREATE EXTENSION {EXTENSION}` in this database."
            ) from error
        raise
