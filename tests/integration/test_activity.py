"""What the database says about tasks, notifications and workers, and that many rows do not make it slow."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from graphnode.cli.status import status
from graphnode.operations.status.sources import Status, read_activity
from graphnode.settings import QUEUE_URLS
from graphnode.storage import activity, workers
from graphnode.storage.database import connection, database
from graphnode.storage.workers import Seen
from tests.integration.conftest import Query

TASKS = """
INSERT INTO tasks (task_id, task_type, user_id, status, finished_at, updated_at)
SELECT %s || n, 'ADD_NODE_RESULT', 'ada', %s, now() - %s::interval, now() - %s::interval
FROM generate_series(1, %s) AS n
"""


@pytest.fixture
def put_tasks(query: Query) -> Callable[..., None]:
    """Store `count` tasks of a status whose last news has this age."""

    def put(count: int, status: str, age: str) -> None:
        finished = None if status in ("PENDING", "PROGRESS") else age
        query(TASKS, f"{status}-{age}-", status, finished, age, count)

    return put


def seen(name: str, **changes: Any) -> Seen:
    known: dict[str, Any] = {
        "id": name,
        "host": "alpha",
        "pid": 7,
        "version": "0.1.0",
        "newest_migration": "0008_floor",
        "threads": 8,
        "interval_s": 30.0,
        "started_at": datetime.now(UTC),
        "in_hand": 3,
        "running": 2,
        "outage_service": None,
        "outage_since": None,
        "handled": 100,
        "retried": 5,
        "dead": 1,
    }
    return Seen(**{**known, **changes})


@pytest.mark.usefixtures("storage")
class TestCounts:
    def test_all_counts_of_an_empty_database_are_zero(self) -> None:
        found = read_activity()

        assert (found.open_tasks, found.ended.counts, found.retrying, found.workers) == ([], {}, 0, [])
        assert (found.throughput.last_hour, found.notifications.count) == (0, 0)

    def test_tasks_are_counted_by_state_and_by_when_they_ended(self, put_tasks: Callable[..., None]) -> None:
        put_tasks(3, "PENDING", "10 minutes")
        put_tasks(1, "PROGRESS", "2 minutes")
        put_tasks(2, "COMPLETED", "30 seconds")
        put_tasks(3, "FAILED", "3 minutes")
        put_tasks(4, "COMPLETED", "30 minutes")
        put_tasks(5, "SUPERSEDED", "2 days")

        found = read_activity()

        assert [(open_.status, open_.count) for open_ in found.open_tasks] == [("PENDING", 3), ("PROGRESS", 1)]
        assert found.at - found.open_tasks[0].oldest_news_at >= timedelta(minutes=10)
        assert found.ended.counts == {"COMPLETED": 6, "FAILED": 3, "SUPERSEDED": 5}
        assert found.ended.is_exact
        ended = found.throughput
        assert (ended.last_minute, ended.last_5_minutes, ended.last_hour, ended.failed_in_the_hour) == (2, 5, 9, 3)
        assert ended.since is None

    def test_failed_attempts_and_dead_letters_are_counted_by_reason(self, query: Query) -> None:
        for reason, given_up, age in (
            ("SERVICE_BUSY", False, "1 minute"),
            ("SERVICE_BUSY", False, "2 minutes"),
            ("SERVICE_BUSY", False, "2 hours"),
            ("TIME_LIMIT", False, "1 minute"),
            ("INVALID_DOCUMENT", True, "20 hours"),
            ("INVALID_DOCUMENT", True, "2 days"),
        ):
            query(
                "INSERT INTO task_attempts (task_id, task_type, attempt, reason, error, given_up, failed_at)"
                " VALUES ('t', 'x', 1, %s, '', %s, now() - %s::interval)",
                reason,
                given_up,
                age,
            )
        query("INSERT INTO message_failures (message_id, failures, reason, error) VALUES ('m', 1, 'TIME_LIMIT', '')")

        found = read_activity()

        assert found.failed_attempts == {"SERVICE_BUSY": 2, "TIME_LIMIT": 1}
        assert found.given_up == {"INVALID_DOCUMENT": 1}
        assert found.retrying == 1

    def test_notifications_are_counted_while_their_push_is_open(self, query: Query) -> None:
        for name, due_in in (("due", "-1 minute"), ("later", "1 minute"), ("done", None)):
            query(
                "INSERT INTO notifications (id, user_id, type, payload, event, push_status, created_at, due_at)"
                " VALUES (%s, 'ada', 'T', '{}', %s, 'PENDING', now() - interval '5 minutes', now() + %s::interval)",
                name,
                name,
                due_in,
            )

        found = read_activity()

        assert (found.notifications.count, found.notifications.due) == (2, 1)
        assert found.notifications.oldest_created_at
        assert found.at - found.notifications.oldest_created_at >= timedelta(minutes=5)

    def test_a_bound_ends_a_count(self, put_tasks: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(activity, "MOST_COUNTED", 2)
        put_tasks(3, "PENDING", "1 minute")
        put_tasks(3, "COMPLETED", "1 minute")

        found = read_activity()

        assert [open_.count for open_ in found.open_tasks] == [2]
        assert found.throughput.last_hour == 2
        assert found.throughput.since

    def test_a_large_table_is_counted_by_its_statistics(
        self, put_tasks: Callable[..., None], query: Query, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(activity, "COUNTED_BYTES", 0)
        put_tasks(900, "COMPLETED", "2 days")
        put_tasks(100, "FAILED", "2 days")
        put_tasks(50, "PENDING", "1 minute")
        query("ANALYZE tasks")

        ended = read_activity().ended

        assert not ended.is_exact
        assert set(ended.counts) == {"COMPLETED", "FAILED"}
        assert abs(ended.counts["COMPLETED"] - 900) < 90
        assert abs(ended.counts["FAILED"] - 100) < 10

    def test_no_count_of_many_rows_reads_a_whole_table(self, put_tasks: Callable[..., None], query: Query) -> None:
        put_tasks(30_000, "COMPLETED", "2 days")
        put_tasks(20, "PENDING", "1 minute")
        put_tasks(20, "COMPLETED", "1 minute")
        query(
            "INSERT INTO task_attempts (task_id, task_type, attempt, reason, error, given_up, failed_at)"
            " SELECT 't' || n, 'x', 1, 'TIME_LIMIT', '', false, now() - interval '2 days'"
            " FROM generate_series(1, 30000) AS n"
        )
        query(
            "INSERT INTO notifications (id, user_id, type, payload, event, push_status)"
            " SELECT n, 'ada', 'T', '{}', 'e' || n, 'SENT' FROM generate_series(1, 30000) AS n"
        )
        query("UPDATE notifications SET due_at = NULL")
        query("ANALYZE tasks, task_attempts, notifications")
        most = {"most": 1_000}
        with connection():
            for statement in (activity.OPEN, activity.FINISHED, activity.ATTEMPTS, activity.WAITING):
                rows = database.execute_sql(f"EXPLAIN {statement}", most).fetchall()
                plan = "\n".join(line for (line,) in rows)

                assert re.search(r"Seq Scan on (tasks|task_attempts|notifications)", plan) is None, plan


@pytest.mark.usefixtures("storage")
class TestWorkers:
    def test_a_process_has_one_row_with_its_last_report(self) -> None:
        workers.note(seen("a"))
        workers.note(seen("a", running=7, handled=200, outage_service="AWS", outage_since=datetime.now(UTC)))

        (found,) = read_activity().workers

        assert (found.running, found.handled, found.outage_service, found.is_late) == (7, 200, "AWS", False)

    def test_one_that_is_not_seen_is_late_and_after_an_hour_forgotten(self, query: Query) -> None:
        workers.note(seen("a"))
        workers.note(seen("b"))
        query("UPDATE workers SET seen_at = now() - interval '2 minutes' WHERE id = 'a'")

        late = {row.seen_at < datetime.now(UTC) - timedelta(minutes=1): row.is_late for row in read_activity().workers}
        assert late == {True: True, False: False}

        query("UPDATE workers SET seen_at = now() - interval '61 minutes'")
        workers.note(seen("b"))

        assert [row.id for row in workers.present()] == ["b"]

    def test_one_that_stops_is_gone(self) -> None:
        workers.note(seen("a"))
        workers.remove("a")

        assert workers.present() == []


class TestCommand:
    @pytest.fixture
    def run(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
        """Run `graphnode status` on the test's database, without queues. Returns its exit code and its output."""

        def run(*arguments: str) -> tuple[int, str]:
            for variable in (*QUEUE_URLS.values(), "AWS_REGION"):
                monkeypatch.delenv(variable, raising=False)
            monkeypatch.setenv("DATABASE_URL", database_url)
            ended = CliRunner().invoke(status, arguments)
            assert ended.exception is None or isinstance(ended.exception, SystemExit)
            return ended.exit_code, ended.output

        return run

    def test_shows_the_database_alone_and_names_what_it_does_not_see(
        self, run: Callable[..., tuple[int, str]], put_tasks: Callable[..., None]
    ) -> None:
        put_tasks(3, "PENDING", "10 minutes")

        code, output = run()

        assert code == 0
        assert "Open tasks     PENDING 3 · one without news for 10 min" in output
        assert "Not seen       SQS_RESULT_QUEUE_URL and" in output

    def test_prints_all_of_it_as_json(self, run: Callable[..., tuple[int, str]]) -> None:
        code, output = run("--json")

        read = msgspec.json.decode(output, type=Status)
        assert (code, read.queues) == (0, [])
        assert read.activity is not None

    def test_watches_until_it_is_interrupted(
        self, run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pauses = iter([None, None, KeyboardInterrupt()])

        def pause(_seconds: float) -> None:
            if ended := next(pauses):
                raise ended

        monkeypatch.setattr("graphnode.cli.status.sleep", pause)

        code, output = run("--watch", "--json")

        assert code == 0
        assert len([msgspec.json.decode(line, type=Status) for line in output.splitlines()]) == 3

    def test_an_unreachable_database_is_reported_and_exit_code_1_says_that_nothing_was_seen(
        self, run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Port 1 is tcpmux: nobody listens there.
        url = "postgresql://me:hunter2@127.0.0.1:1/db"
        monkeypatch.setattr("graphnode.cli.status.environment_of", lambda _: {"DATABASE_URL": url})

        code, output = run()

        assert code == 1
        assert "The database is not seen: PostgreSQL cannot be reached" in " ".join(output.split())
        assert "hunter2" not in output
