"""A worker that must not start says why, and what to do. A worker without its database waits for it."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import psycopg2
import pytest

from graphnode.dev.child_processes import DEPLOYMENT_PREFIXES, Worker, WorkerError
from graphnode.dev.postgres import start_postgres
from graphnode.dev.stack import bring_up_to_date
from tests.e2e.ai_server import PATIENCE_S, AiServer
from tests.e2e.conftest import SETTINGS

Refusal = Callable[..., str]


@pytest.fixture
def refusal(stack_env: dict[str, str]) -> Refusal:
    """Starts a worker with these changes of its environment; returns the message with which it refuses."""

    def start(*, actors: str = "graphnode.actors", **changes: str) -> str:
        environment = {**SETTINGS, **stack_env, **changes}
        with Worker(environment, actors=actors) as worker, pytest.raises(WorkerError) as caught:
            worker.wait_until_ready()
        return str(caught.value)

    return start


def test_all_faults_of_the_settings_are_reported_at_once_and_without_a_stack(refusal: Refusal) -> None:
    said = refusal(DATABASE_URL="mysql://ada:hunter2@db/x", GRAPHNODE_MAX_ATTEMPTS="many", SQS_RESULT_QUEUE_URL="")

    assert "the worker does not start: 3 settings are wrong:\n" in said
    assert "DATABASE_URL is a value that is not shown here; expected a PostgreSQL URL" in said
    assert "GRAPHNODE_MAX_ATTEMPTS is 'many'; expected a number from 1 to 100" in said
    assert "SQS_RESULT_QUEUE_URL is missing" in said
    assert "hunter2" not in said
    assert "Traceback" not in said


def test_an_actor_that_gets_no_message_is_reported_before_any_other_fault(refusal: Refusal) -> None:
    said = refusal(actors="tests.e2e.misdeclared_actors", DATABASE_URL="")

    assert "the worker does not start: 1 declaration is wrong:\n" in said
    assert "tests.e2e.misdeclared_actors: the actor 'forgotten' gets no message. Add a line to ROUTES in" in said
    assert "Traceback" not in said


def test_an_unusable_spool_directory_is_reported(refusal: Refusal) -> None:
    said = refusal(GRAPHNODE_SPOOL_DIR="/nowhere")

    assert "the worker does not start" in said
    assert "GRAPHNODE_SPOOL_DIR is /nowhere: no file can be made there (No such file or directory). Set it to" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("key", ["{", "{}", '{"type": "service_account", "private_key": "hunter2"}'])
def test_malformed_firebase_credentials_are_refused_and_not_shown(refusal: Refusal, key: str) -> None:
    said = refusal(FIREBASE_CREDENTIALS_JSON=key)

    assert "the worker does not start" in said
    assert "FIREBASE_CREDENTIALS_JSON is not" in said
    assert "hunter2" not in said
    assert "Traceback" not in said


def test_a_worker_on_a_database_without_a_schema_says_what_to_run(refusal: Refusal, empty_database_url: str) -> None:
    assert "The database has no schema yet: run `graphnode migrate`." in refusal(DATABASE_URL=empty_database_url)


def test_a_worker_that_is_too_old_for_the_schema_asks_for_a_newer_one(
    refusal: Refusal, empty_database_url: str
) -> None:
    bring_up_to_date(empty_database_url)
    with closing(psycopg2.connect(empty_database_url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO schema_migration (name, applied, floor) VALUES ('9999_of_tomorrow', now(), '9999_of_tomorrow')"
        )

    said = refusal(DATABASE_URL=empty_database_url)

    assert "does not know 9999_of_tomorrow: deploy a version that knows 9999_of_tomorrow at least" in said


def test_a_queue_without_a_dead_letter_queue_is_refused(refusal: Refusal, ai: AiServer) -> None:
    assert "has no dead-letter queue" in refusal(SQS_RESULT_QUEUE_URL=ai.dead_letter_queue)


def turn_away_one_client(url: SplitResult) -> None:
    """Listen for one connection, close it, and stop listening."""
    with socket.create_server((url.hostname or "", url.port or 0)) as server:
        server.settimeout(PATIENCE_S)
        server.accept()[0].close()


def test_a_worker_waits_for_a_database_that_is_not_running_yet(stack_env: dict[str, str], open_path: Path) -> None:
    with start_postgres(open_path / "data") as postgres:
        bring_up_to_date(postgres.url)
        postgres.stop()
        with Worker({**SETTINGS, **stack_env, "DATABASE_URL": postgres.url}) as worker:
            # A connection shows that the worker has begun. Its log line comes later: Dramatiq forwards the output of a
            # process when it is ready, or after 30 s.
            turn_away_one_client(urlsplit(postgres.url))
            postgres.start()
            worker.wait_until_ready()
            assert worker.log.text().count("waiting to start") == 1


def on_a_terminal(environment: dict[str, str]) -> str:
    """What `graphnode worker` writes on a terminal, on which it does not start."""
    ours, its = pty.openpty()
    general = {name: value for name, value in os.environ.items() if not name.startswith(DEPLOYMENT_PREFIXES)}
    with os.fdopen(ours, errors="replace") as screen:
        command = [sys.executable, "-c", "from graphnode.cli import main; main()", "worker", "--processes", "2"]
        ended = subprocess.run(command, env={**general, **environment}, stderr=its, timeout=PATIENCE_S)
        os.close(its)
        written = ""
        # The end of a terminal is an error on Linux.
        with suppress(OSError):
            while line := screen.readline():
                written += line
    assert ended.returncode == 1
    return written


def test_on_a_terminal_missing_settings_are_told_once_and_in_plain_text() -> None:
    said = on_a_terminal({})

    assert said.startswith("graphnode: 4 settings are wrong:\n  - DATABASE_URL is missing: set it to a PostgreSQL URL")
    assert said.count("DATABASE_URL") == 1
    assert "--env-file FILE" in said


def test_on_a_terminal_a_missing_schema_is_told_once_and_in_plain_text(
    stack_env: dict[str, str], empty_database_url: str
) -> None:
    said = on_a_terminal({**stack_env, "DATABASE_URL": empty_database_url})

    assert said == "graphnode: The database has no schema yet: run `graphnode migrate`.\n"
