"""Stops, kills and outages: nothing lost, nothing twice, no dead letter."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import psycopg2
import pytest
from psycopg2.extensions import connection

from graphnode.dev import outcomes
from graphnode.dev.postgres import start_postgres
from graphnode.dev.stack import bring_up_to_date
from graphnode.dev.worker import Worker
from tests.e2e.ai_server import PATIENCE_S, AiServer, found
from tests.e2e.conftest import SETTINGS, StartWorker

#: Seconds; the shortest that leaves the heartbeat time to beat.
SHORT_VISIBILITY = "4"


def lock_user(ai: AiServer, user_id: str) -> connection:
    """Hold a user's lock until the connection is closed, so that their messages stay running."""
    held: connection = psycopg2.connect(ai.environment["DATABASE_URL"])
    held.cursor().execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (user_id,))
    return held


def wait_until_in_hand(ai: AiServer, count: int) -> None:
    look = lambda: ai.in_hand() == count or None  # noqa: E731
    found(outcomes.wait_for(look, timeout_s=PATIENCE_S), f"{count} messages in hand")


def test_a_message_that_runs_for_many_visibility_timeouts_is_handled_once(
    ai: AiServer, start_worker: StartWorker
) -> None:
    first = start_worker(GRAPHNODE_VISIBILITY_TIMEOUT="2")
    second = start_worker(GRAPHNODE_VISIBILITY_TIMEOUT="2")
    lock = lock_user(ai, "ada")
    result = ai.send(ai.result("graph"))
    wait_until_in_hand(ai, 1)
    waiting_for_lock = "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"
    ai.wait_until(waiting_for_lock + " AND waitstart < now() - interval '10 s'")

    assert ai.rows("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'") == [(1,)]
    lock.close()

    assert ai.ended(result).attempts == 1
    assert "visibility ran out" not in first.log.text() + second.log.text()


def test_a_killed_workers_messages_are_back_within_the_visibility_timeout(
    ai: AiServer, start_worker: StartWorker
) -> None:
    worker = start_worker(threads=2, GRAPHNODE_VISIBILITY_TIMEOUT=SHORT_VISIBILITY)
    lock = lock_user(ai, "ada")
    results = [ai.send(ai.result("graph")) for _ in range(5)]
    wait_until_in_hand(ai, 2)

    for process in [*psutil.Process(worker.pid).children(), psutil.Process(worker.pid)]:
        process.kill()
    lock.close()
    start_worker(GRAPHNODE_VISIBILITY_TIMEOUT=SHORT_VISIBILITY)

    assert {ai.ended(result).status for result in results} <= {"COMPLETED", "SUPERSEDED"}
    ai.wait_until_drained()
    assert outcomes.dead_letters(ai.sqs, ai.dead_letter_queue) == []


def test_a_sigterm_lets_running_messages_finish_and_leaves_the_others_to_the_next_worker(
    ai: AiServer, start_worker: StartWorker
) -> None:
    worker = start_worker(threads=1, GRAPHNODE_SHUTDOWN_TIMEOUT="60", GRAPHNODE_VISIBILITY_TIMEOUT="600")
    lock = lock_user(ai, "ada")
    running = ai.send(ai.result("graph"))
    wait_until_in_hand(ai, 1)
    waiting = ai.send(ai.result("graph", user_id="eve"))

    os.kill(worker.pid, signal.SIGTERM)
    ai.wait_for_log(worker, "Shutting down")
    lock.close()

    assert ai.ended(running).status == "COMPLETED"
    assert found(outcomes.wait_for(worker.returncode, timeout_s=PATIENCE_S), "the worker to end") == 0
    start_worker()
    # With a visibility of ten minutes it would not come in time, had the first worker kept it.
    assert ai.ended(waiting).status == "COMPLETED"


def test_an_outage_of_the_database_makes_no_dead_letter_and_heals_by_itself(
    ai: AiServer, stack_env: dict[str, str], tmp_path: Path
) -> None:
    with start_postgres(tmp_path / "data") as postgres:
        bring_up_to_date(postgres.url)
        ai.environment = {**stack_env, "DATABASE_URL": postgres.url}
        environment = {**SETTINGS, **ai.environment, "GRAPHNODE_VISIBILITY_TIMEOUT": "2", "GRAPHNODE_MAX_ATTEMPTS": "2"}
        environment["GRAPHNODE_LOG_LEVEL"] = "debug"
        with Worker(environment) as worker:
            worker.wait_until_ready()
            ai.ended(ai.send(ai.result("graph", user_id="warm-up")))
            postgres.stop()
            results = [ai.send(ai.result("graph", user_id=f"user-{number}")) for number in range(20)]
            ai.wait_for_log(worker, "outage began")
            still_waiting = lambda: worker.log.text().count("still away") >= 3 or None  # noqa: E731
            found(outcomes.wait_for(still_waiting, timeout_s=PATIENCE_S), "three probes")

            postgres.start()

            assert {ai.ended(result).status for result in results} == {"COMPLETED"}
            log = worker.log.text()
            assert log.count("outage began") == log.count("outage over") == 1
        assert outcomes.dead_letters(ai.sqs, ai.dead_letter_queue) == []


@pytest.mark.parametrize("processes", [2])
def test_several_processes_share_the_work(ai: AiServer, start_worker: StartWorker, processes: int) -> None:
    start_worker(processes=processes)

    results = [ai.send(ai.result("graph", user_id=f"user-{number}")) for number in range(10)]

    assert {ai.ended(result).status for result in results} == {"COMPLETED"}
    ai.wait_until_drained()
