"""`graphnode status` on a real database, without queues."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec
import pytest
from click.testing import CliRunner

from graphnode.cli.status import status
from graphnode.operations.status import sources
from graphnode.operations.status.sources import Status
from graphnode.settings import QUEUE_URLS
from tests.integration.conftest import PutTasks

#: Runs `graphnode status` with these arguments; gives its exit code and its output.
Run: TypeAlias = Callable[..., tuple[int, str]]


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `graphnode status` on the test's database, without queues."""

    def run(*arguments: str) -> tuple[int, str]:
        for variable in (*QUEUE_URLS.values(), "AWS_REGION"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("DATABASE_URL", database_url)
        ended = CliRunner().invoke(status, arguments)
        assert ended.exception is None or isinstance(ended.exception, SystemExit)
        return ended.exit_code, ended.output

    return run


def test_shows_the_database_and_says_which_queues_it_cannot_see(run: Run, put_tasks: PutTasks) -> None:
    put_tasks(3, "PENDING", "10 minutes")

    code, output = run()

    assert code == 0
    assert "Open tasks     PENDING 3 · one without news for 10 min" in output
    assert "Not seen       SQS_RESULT_QUEUE_URL and SQS_REQUEST_QUEUE_URL" in output


def test_prints_everything_as_json(run: Run) -> None:
    code, output = run("--json")

    read = msgspec.json.decode(output, type=Status)
    assert (code, read.queues) == (0, [])
    assert read.activity is not None


def test_says_what_it_waits_for_and_then_what_it_has_not_seen(
    run: Run, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql://me@127.0.0.1:{silent_port}/db"
    monkeypatch.setattr("graphnode.cli.status.environment_of", lambda _: {"DATABASE_URL": url})
    monkeypatch.setattr(sources, "FIRST_S", 0.1)
    monkeypatch.setattr(sources, "TIMEOUT_S", 0.2)

    code, output = run()

    assert code == 1
    assert output.startswith("Waiting for PostgreSQL …\nGraphNode")
    assert "The database is not seen: PostgreSQL gave no answer within 0.2 s" in output


def test_watches_until_it_is_interrupted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = iter([None, None, KeyboardInterrupt()])

    def pause(_seconds: float) -> None:
        if ended := next(pauses):
            raise ended

    monkeypatch.setattr("graphnode.cli.status.sleep", pause)

    code, output = run("--watch", "--json")

    assert code == 0
    assert len([msgspec.json.decode(line, type=Status) for line in output.splitlines()]) == 3


def test_an_unreachable_database_is_reported_with_exit_code_1_and_no_password(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Port 1 is tcpmux: nobody listens there.
    url = "postgresql://me:hunter2@127.0.0.1:1/db"
    monkeypatch.setattr("graphnode.cli.status.environment_of", lambda _: {"DATABASE_URL": url})

    code, output = run()

    assert code == 1
    assert "The database is not seen: PostgreSQL cannot be reached" in " ".join(output.split())
    assert "hunter2" not in output
