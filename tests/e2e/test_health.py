"""The health of real workers: not ready while they cannot take messages, not alive when no thread can work."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from graphnode.dev import outcomes
from graphnode.dev.child_processes import Worker
from graphnode.dev.postgres import EmbeddedPostgres, start_postgres
from graphnode.dev.stack import bring_up_to_date
from graphnode.worker.health import Health, ask
from graphnode.worker.middleware import HARD_LIMIT_FACTOR
from tests.e2e.ai_server import PATIENCE_S, AiServer, found
from tests.e2e.conftest import SETTINGS, StartWorker

ACTORS = "tests.e2e.impatient_actors"

#: The row of the one process, as `graphnode status` and `graphnode doctor` read it.
OUTAGE = "SELECT outage_service, outage_error, outage_advice FROM workers"

#: Waits until the worker's health at a path is as expected.
WaitForHealth = Callable[..., Health]


@pytest.fixture
def wait_for_health(health_port: int) -> WaitForHealth:
    def wait(path: str, *, ok: bool) -> Health:
        def look() -> Health | None:
            health = ask(health_port, path=path)
            return health if health.ok == ok else None

        return found(outcomes.wait_for(look, timeout_s=PATIENCE_S), f"{path} to be {ok}")

    return wait


def test_a_worker_whose_queue_is_deleted_is_alive_but_not_ready_and_says_what_mends_it_until_the_queue_is_back(
    ai: AiServer, start_worker: StartWorker, health_port: int, wait_for_health: WaitForHealth
) -> None:
    start_worker(
        actors=ACTORS,
        GRAPHNODE_HEALTH_PORT=str(health_port),
        GRAPHNODE_SWEEP_INTERVAL="0.5",
        IMPATIENT_TIME_LIMIT_MS="60000",
    )
    wait_for_health("/ready", ok=True)

    ai.sqs.delete_queue(QueueUrl=ai.result_queue)

    (problem,) = wait_for_health("/ready", ok=False).problems
    assert "polls of results have failed for" in problem
    assert ask(health_port, path="/live") == Health(True, [])
    ((service, error, advice),) = ai.wait_until(f"{OUTAGE} WHERE outage_service IS NOT NULL")
    assert service == "SQS"
    assert error.startswith("polls of results fail: ReceiveMessage was refused (")
    assert advice == "Create the queue again; or correct its URL and restart the workers."

    ai.sqs.create_queue(QueueName=ai.result_queue.rpartition("/")[2])

    wait_for_health("/ready", ok=True)
    assert ai.ended(ai.send(ai.result("graph"))).status == "COMPLETED"
    ai.wait_until(f"{OUTAGE} WHERE outage_service IS NULL")


def test_a_worker_all_of_whose_threads_are_stuck_in_system_calls_is_not_alive(
    ai: AiServer, start_worker: StartWorker, health_port: int, wait_for_health: WaitForHealth
) -> None:
    worker = start_worker(
        actors=ACTORS, threads=2, GRAPHNODE_HEALTH_PORT=str(health_port), IMPATIENT_TIME_LIMIT_MS="2000"
    )
    wait_for_health("/ready", ok=True)
    stuck = [ai.result("summary", user_id=f"u{each}", documents={"summaryS3Key": b"STUCK"}) for each in range(2)]

    ai.send(stuck[0])
    ai.wait_for_log(worker, "ignores its time limit")
    assert ask(health_port, path="/live").ok
    assert ai.ended(ai.send(ai.result("graph"))).status == "COMPLETED"
    ai.send(stuck[1])

    (problem,) = wait_for_health("/live", ok=False).problems
    assert problem.endswith("all 2 worker threads are stuck or have died")
    assert not ask(health_port, path="/ready").ok


class Freezer:
    """Stops all processes of a server: it accepts connections, and answers nothing."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all its processes."""
        server = psutil.Process(self.server.pid)
        for process in (server, *server.children(recursive=True)):
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)


def test_a_frozen_database_makes_no_worker_dead_although_it_outlasts_the_hard_limit(
    ai: AiServer, stack_env: dict[str, str], open_path: Path, health_port: int, wait_for_health: WaitForHealth
) -> None:
    time_limit_s = 15
    with start_postgres(open_path / "data") as postgres:
        bring_up_to_date(postgres.url)
        ai.environment = {**stack_env, "DATABASE_URL": postgres.url}
        environment = {
            **SETTINGS,
            **ai.environment,
            "GRAPHNODE_HEALTH_PORT": str(health_port),
            "IMPATIENT_TIME_LIMIT_MS": str(1000 * time_limit_s),
        }
        freezer = Freezer(postgres)
        with Worker(environment, threads=2, actors=ACTORS) as worker:
            worker.wait_until_ready()
            ai.ended(ai.send(ai.result("graph", user_id="warm-up")))
            wait_for_health("/ready", ok=True)
            freezer.send(signal.SIGSTOP)
            began = time.monotonic()
            results = [ai.send(ai.result("graph", user_id=f"user-{number}")) for number in range(4)]
            told: list[str] = []

            def has_outlasted() -> bool | None:
                assert ask(health_port, path="/live") == Health(True, [])
                told.extend(ask(health_port, path="/ready").problems)
                return time.monotonic() - began > (HARD_LIMIT_FACTOR + 0.5) * time_limit_s or None

            try:
                found(outcomes.wait_for(has_outlasted, timeout_s=PATIENCE_S), "the hard limit to pass")
                assert "PostgreSQL" in told[-1]
            finally:
                freezer.send(signal.SIGCONT)

            assert {ai.ended(result).status for result in results} == {"COMPLETED"}
            wait_for_health("/ready", ok=True)
    assert outcomes.dead_letters(ai.sqs, ai.dead_letter_queue) == []
