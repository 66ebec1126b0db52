"""Stops, kills and outages lose no message, handle none twice and make no dead letter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psutil
import pytest

from graphnode.dev import outcomes
from graphnode.dev.child_log import Log
from graphnode.dev.child_processes import READY, Worker, worker_environment
from graphnode.dev.postgres import start_postgres
from graphnode.dev.stack import bring_up_to_date
from graphnode.worker.health import Health, ask
from tests.e2e.ai_server import PATIENCE_S, WAITING, AiServer, found
from tests.e2e.conftest import SETTINGS, StartWorker, as_worker

#: Seconds after which a killed worker's messages are delivered again.
SHORT_VISIBILITY = "4"

#: The number of waiting messages during an outage.
BACKLOG = 3000


def test_a_message_that_runs_for_five_visibility_timeouts_is_handled_once(
    ai: AiServer, start_worker: StartWorker
) -> None:
    workers = [start_worker(GRAPHNODE_VISIBILITY_TIMEOUT="2") for _ in range(2)]
    with ai.locked_graphs():
        result = ai.send(ai.result("graph"))
        ai.wait_until(f"{WAITING} AND waitstart < now() - interval '10 s'")
        assert len(ai.rows(WAITING)) == 1

    assert ai.ended(result).attempts == 1
    assert not any("visibility ran out" in worker.log.text() for worker in workers)


def test_a_killed_workers_messages_are_delivered_again_within_the_visibility_timeout(
    ai: AiServer, start_worker: StartWorker
) -> None:
    worker = start_worker(threads=2, GRAPHNODE_VISIBILITY_TIMEOUT=SHORT_VISIBILITY)
    with ai.locked_user("ada"):
        results = [ai.send(ai.result("graph")) for _ in range(5)]
        ai.wait_until_in_flight(5)
        for process in [*psutil.Process(worker.pid).children(), psutil.Process(worker.pid)]:
            process.kill()
    start_worker(GRAPHNODE_VISIBILITY_TIMEOUT=SHORT_VISIBILITY)

    assert {ai.ended(result).status for result in results} <= {"COMPLETED", "SUPERSEDED"}
    ai.wait_until_drained()
    assert outcomes.dead_letters(ai.sqs, ai.dead_letter_queue) == []


def test_a_sigterm_lets_running_messages_finish_and_leaves_the_others_to_the_next_worker(
    ai: AiServer, start_worker: StartWorker
) -> None:
    worker = start_worker(threads=1, GRAPHNODE_SHUTDOWN_TIMEOUT="60", GRAPHNODE_VISIBILITY_TIMEOUT="600")
    with ai.locked_graphs():
        running = ai.send(ai.result("graph"))
        ai.wait_until(WAITING)
        waiting = ai.send(ai.result("graph", user_id="eve"))
        ai.terminate(worker)
        ai.wait_for_log(worker, "Shutting down")

    assert ai.ended(running).status == "COMPLETED"
    assert ai.wait_until_ended(worker) == 0
    start_worker()
    # If the first worker had kept it, it would be invisible for ten minutes.
    assert ai.ended(waiting).status == "COMPLETED"


@pytest.fixture
def unguarded_log(tmp_path: Path) -> Log:
    """The log of `unguarded_worker`."""
    return Log(tmp_path / "worker.log")


@pytest.fixture
def unguarded_worker(
    stack_env: dict[str, str], unguarded_log: Log, health_port: int, metrics_port: int, tmp_path: Path
) -> Iterator[psutil.Process]:
    """A worker of two processes, with health and metrics, that no guard ends when its main process dies."""
    environment = {
        **SETTINGS,
        **as_worker(stack_env),
        "GRAPHNODE_HEALTH_PORT": str(health_port),
        "GRAPHNODE_SHUTDOWN_TIMEOUT": "60",
        "GRAPHNODE_VISIBILITY_TIMEOUT": "600",
        "dramatiq_prom_port": str(metrics_port),
        "dramatiq_prom_db": str(tmp_path / "metrics"),
    }
    command = [sys.executable, "-m", "dramatiq", "graphnode.actors", "--processes", "2", "--threads", "1"]
    with unguarded_log.path.open("ab") as output:
        started = subprocess.Popen(
            command,
            env=worker_environment(environment, inherited=os.environ),
            stderr=output,
            start_new_session=True,
        )

    def has_started() -> bool | None:
        assert started.poll() is None, unguarded_log.tail()
        text = unguarded_log.text()
        return (text.count(READY) == 2 and text.count("is ready for action") == 4) or None

    try:
        found(outcomes.wait_for(has_started, timeout_s=PATIENCE_S), "the worker to start")
        yield psutil.Process(started.pid)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def test_processes_whose_main_process_was_killed_finish_their_messages_and_end(
    ai: AiServer, unguarded_worker: psutil.Process, unguarded_log: Log, start_worker: StartWorker
) -> None:
    orphans = unguarded_worker.children()
    assert len(orphans) == 4
    with ai.locked_graphs():
        running = ai.send(ai.result("graph"))
        ai.wait_until(WAITING)
        unguarded_worker.kill()

        def have_noticed() -> bool | None:
            return unguarded_log.text().count("the main process has died: this process stops") == 4 or None

        found(outcomes.wait_for(have_noticed, timeout_s=PATIENCE_S), "the processes to notice")
        waiting = ai.send(ai.result("graph", user_id="eve"))

    assert ai.ended(running).status == "COMPLETED"

    def have_ended() -> bool | None:
        return not any(is_alive(process) for process in orphans) or None

    found(outcomes.wait_for(have_ended, timeout_s=PATIENCE_S), "the processes to end")
    assert unguarded_log.text().count("Worker has been shut down.") == 2
    start_worker()
    # If an orphan had taken it, it would be invisible for ten minutes.
    assert ai.ended(waiting).status == "COMPLETED"


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs: one that has ended may still be in the system's table."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_messages_are_handled_while_nobody_reads_the_log(ai: AiServer, start_worker: StartWorker) -> None:
    worker = start_worker()
    # The main process reads the pipe of each worker process. A pipe has room for 64 KiB, some 300 lines.
    main = psutil.Process(worker.pid)
    main.suspend()
    try:
        ai.send_progress(tasks=1000)
        ai.wait_until("SELECT 1 FROM tasks WHERE status = 'PROGRESS' HAVING count(*) = 1000")
        ai.wait_until_drained()
        unread = worker.log.text().count("done")
    finally:
        main.resume()

    def is_written() -> bool | None:
        return worker.log.text().count("[graphnode.worker]") >= 1000 or None

    assert unread < 1000
    found(outcomes.wait_for(is_written, timeout_s=PATIENCE_S), "the lines of the whole log")
    assert "left out" not in worker.log.text()


def test_a_long_outage_with_thousands_of_messages_and_native_redrive_after_five_receives_makes_no_dead_letter(
    ai: AiServer, stack_env: dict[str, str], open_path: Path
) -> None:
    policy = {"deadLetterTargetArn": ai.arn(ai.dead_letter_queue), "maxReceiveCount": 5}
    ai.sqs.set_queue_attributes(QueueUrl=ai.result_queue, Attributes={"RedrivePolicy": json.dumps(policy)})
    with start_postgres(open_path / "data") as postgres, ExitStack() as running:
        bring_up_to_date(postgres.url)
        ai.environment = {**stack_env, "DATABASE_URL": postgres.url}
        environment = {
            **SETTINGS,
            **ai.environment,
            "GRAPHNODE_VISIBILITY_TIMEOUT": "2",
            "GRAPHNODE_LOG_LEVEL": "debug",
        }
        workers = [running.enter_context(Worker(environment, processes=2)) for _ in range(2)]
        for worker in workers:
            worker.wait_until_ready()
        ai.ended(ai.send(ai.result("graph", user_id="warm-up")))
        postgres.stop()
        results = [ai.send(ai.result("graph", user_id=f"user-{number}")) for number in range(20)]
        ai.send_progress(tasks=BACKLOG)
        for worker in workers:
            ai.wait_for_log(worker, "outage began")

        def has_lasted() -> bool | None:
            # Eight probes of four processes each: more than ten visibility timeouts.
            return all(worker.log.text().count("still away") >= 16 for worker in workers) or None

        found(outcomes.wait_for(has_lasted, timeout_s=PATIENCE_S), "the outage to last")
        postgres.start()

        assert {ai.ended(result).status for result in results} == {"COMPLETED"}
        ai.wait_until_drained()
        assert ai.rows("SELECT count(*) FROM tasks WHERE status = 'PROGRESS'") == [(BACKLOG,)]
    assert outcomes.dead_letters(ai.sqs, ai.dead_letter_queue) == []


@pytest.fixture
def limited_url(ai: AiServer) -> Iterator[str]:
    """The URL of the stack's database for a worker's role that may have two connections."""
    role, url = f"limited_{uuid4().hex}", urlsplit(ai.environment["DATABASE_URL"])
    ai.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret' CONNECTION LIMIT 2 IN ROLE graphnode_worker")
    yield url._replace(netloc=f"{role}:secret@{url.netloc.rpartition('@')[2]}").geturl()
    ai.execute(f"DROP ROLE {role}")


def test_a_worker_with_fewer_connections_than_threads_goes_on_with_those(
    ai: AiServer, limited_url: str, start_worker: StartWorker
) -> None:
    worker = start_worker(threads=8, DATABASE_URL=limited_url)
    results = [ai.send(ai.result("graph", user_id=f"user-{number}")) for number in range(50)]

    assert {ai.ended(result).status for result in results} == {"COMPLETED"}
    ai.wait_until_drained()
    assert outcomes.dead_letters(ai.sqs, ai.dead_letter_queue) == []
    assert worker.log.text().count("threads share those that they get") == 1
    assert "outage began" not in worker.log.text()


def test_a_worker_survives_a_database_outage_alive_but_not_ready_and_makes_no_dead_letter(
    ai: AiServer, stack_env: dict[str, str], open_path: Path, health_port: int
) -> None:
    with start_postgres(open_path / "data") as postgres:
        bring_up_to_date(postgres.url)
        ai.environment = {**stack_env, "DATABASE_URL": postgres.url}
        environment = {**SETTINGS, **ai.environment, "GRAPHNODE_VISIBILITY_TIMEOUT": "2", "GRAPHNODE_MAX_ATTEMPTS": "2"}
        environment["GRAPHNODE_LOG_LEVEL"] = "debug"
        environment["GRAPHNODE_HEALTH_PORT"] = str(health_port)
        with Worker(environment) as worker:
            worker.wait_until_ready()
            ai.ended(ai.send(ai.result("graph", user_id="warm-up")))
            postgres.stop()
            results = [ai.send(ai.result("graph", user_id=f"user-{number}")) for number in range(20)]
            ai.wait_for_log(worker, "outage began")
            still_waiting = lambda: worker.log.text().count("still away") >= 3 or None  # noqa: E731
            found(outcomes.wait_for(still_waiting, timeout_s=PATIENCE_S), "three probes")
            assert ask(health_port, path="/live") == Health(True, [])
            assert not ask(health_port, path="/ready").ok

            postgres.start()

            assert {ai.ended(result).status for result in results} == {"COMPLETED"}
            log = worker.log.text()
            assert log.count("outage began") == log.count("outage over") == 1
            is_ready = lambda: ask(health_port, path="/ready").ok or None  # noqa: E731
            found(outcomes.wait_for(is_ready, timeout_s=PATIENCE_S), "readiness")
        assert outcomes.dead_letters(ai.sqs, ai.dead_letter_queue) == []


def test_four_processes_of_eight_threads_share_the_work(ai: AiServer, start_worker: StartWorker) -> None:
    worker = start_worker(processes=4, threads=8)

    results = [ai.send(ai.result("graph", user_id=f"user-{number}")) for number in range(40)]

    assert {ai.ended(result).status for result in results} == {"COMPLETED"}
    ai.wait_until_drained()
    assert "UNEXPECTED" not in worker.log.text()
