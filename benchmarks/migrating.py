"""How long workers wait while a large table is migrated. Takes about a minute.

The table of tasks is filled. Then four connections write tasks, one in each transaction, while the migrations of
tests/next_release run, one of each kind. For comparison an index is made without CONCURRENTLY.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2

from graphnode.dev.postgres import start_postgres
from graphnode.storage import schema
from graphnode.storage.database import SETTINGS, close_database, open_database

NEXT_RELEASE = Path(__file__).parents[1] / "tests" / "next_release"

#: Connections that write during the migrations.
WRITERS = 4

#: Seconds of writing without a migration, for comparison.
QUIET_S = 5.0

FILL = """
INSERT INTO tasks (task_id, task_type, user_id, status, finished_at)
SELECT 'task-' || number, 'GRAPH_GENERATION_RESULT', 'user-' || number %% 50000, 'COMPLETED', now()
FROM generate_series(1, %s) AS number;
ANALYZE tasks
"""

#: The placeholders {0} and {1} are for a column that a later release writes as well.
WRITE = """
INSERT INTO tasks (task_id, task_type, user_id, status{0})
VALUES (%(task)s, 'GRAPH_SUMMARY_RESULT', 'ada', 'PENDING'{1});
UPDATE tasks SET status = 'COMPLETED', finished_at = now() WHERE task_id = %(task)s
"""


class Writers:
    """Connections that write tasks as workers do, and measure each transaction."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.write = WRITE.format("", "")
        self.took: list[tuple[float, float]] = []
        self._numbers = itertools.count()
        self._ended = threading.Event()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Write while the block runs."""
        threads = [threading.Thread(target=self._write, daemon=True) for _ in range(WRITERS)]
        for thread in threads:
            thread.start()
        yield
        self._ended.set()
        for thread in threads:
            thread.join()

    def longest_ms(self, *, since: float) -> float:
        """The longest of the transactions that ended after `since`, in milliseconds."""
        return max((seconds for ended, seconds in [*self.took] if ended >= since), default=0.0) * 1000

    def _write(self) -> None:
        with closing(psycopg2.connect(self.url)) as connection, connection.cursor() as cursor:
            while not self._ended.is_set():
                began = time.monotonic()
                cursor.execute(SETTINGS)
                cursor.execute(self.write, {"task": f"new-{next(self._numbers)}"})
                connection.commit()
                self.took.append((time.monotonic(), time.monotonic() - began))


def measure(url: str, *, rows: int, migrations: Path) -> None:
    """Fill the table, migrate it while others write, and print the times."""
    open_database(url)
    schema.migrate()
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(FILL, (rows,))
        writers = Writers(url)
        with writers.at_work():
            began = time.monotonic()
            time.sleep(QUIET_S)
            tell("(nothing)", QUIET_S, writers.longest_ms(since=began))
            for file in sorted(NEXT_RELEASE.glob("[0-9]*.py")):
                shutil.copy(file, migrations)
                began = time.monotonic()
                schema.migrate(tell=lambda line: tell(f"  {line}"))
                tell(file.stem, time.monotonic() - began, writers.longest_ms(since=began))
                writers.write = WRITE.format(", asked_by", ", 'ada'")
            began = time.monotonic()
            cursor.execute("CREATE INDEX made_while_nobody_writes ON tasks (priority, user_id)")
            tell("CREATE INDEX, not CONCURRENTLY", time.monotonic() - began, writers.longest_ms(since=began))
    close_database()


def tell(line: str, took_s: float | None = None, longest_ms: float | None = None) -> None:
    """Print a line with the measured times."""
    print(line if took_s is None else f"{line:<32}{took_s:>8.2f} s{longest_ms:>10.0f} ms", flush=True)  # noqa: T201


def main() -> None:
    """Measure on an embedded PostgreSQL, and print the times."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.migrating", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="tasks before the migrations (default: 1,000,000)")
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory(prefix="graphnode-bench-", ignore_cleanup_errors=True) as made:
        place = Path(made)
        place.chmod(0o755)
        schema.MIGRATIONS = Path(shutil.copytree(schema.MIGRATIONS, place / "migrations"))
        tell(f"{rows:,} tasks; the seconds of each change, and the longest transaction of {WRITERS} writers during it")
        with start_postgres(place / "data") as postgres:
            measure(postgres.url, rows=rows, migrations=schema.MIGRATIONS)


if __name__ == "__main__":
    main()
