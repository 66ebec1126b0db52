from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from graphnode.broker import SQSBroker
from graphnode.clients.aws import Aws
from graphnode.sqs import poll_failures
from graphnode.sqs.circuit_breaker import CircuitBreaker, Ongoing
from graphnode.sqs.deliveries import Delivery, InFlight, State
from graphnode.sqs.liveness import LifeSign
from graphnode.sqs.poll_failures import ALARM_S, FailingPolls
from graphnode.sqs.queues import Options
from graphnode.worker import health
from graphnode.worker.endpoint import Endpoint
from graphnode.worker.health import (
    SILENT_S,
    HealthReports,
    Report,
    Reports,
    WorkerThreads,
    ask,
    forget_ended_processes,
    liveness,
    read,
    readiness,
    write,
)
from tests.serving import serving
from tests.unit.conftest import MakeDelivery


def report(
    *,
    pid: int = 7,
    at: float = 100.0,
    state: str = "taking",
    poller: float = 99.0,
    heartbeat: float = 99.0,
    **more: Any,
) -> Report:
    signs = {"poller-results-0": LifeSign(poller, 80.0), "heartbeat": LifeSign(heartbeat, 66.0)}
    return Report(pid=pid, at=at, state=state, last_signs=signs, **more)


@pytest.fixture
def broker() -> SQSBroker:
    """A broker that never calls SQS, with a running worker's messages."""
    broker = SQSBroker(
        lambda: Options(queues={}, aws=Aws(region="eu-central-1")), breaker=CircuitBreaker({}), middleware=[]
    )
    broker.in_flight = InFlight(threads=4)
    broker.in_flight.open("https://sqs/results")
    return broker


class Thread:
    """A worker thread, or a consumer's, as far as its health is concerned."""

    def __init__(self, ident: int, *, alive: bool = True) -> None:
        self.ident, self.alive = ident, alive

    def is_alive(self) -> bool:
        return self.alive


class Worker:
    """A worker of two threads and two consumers."""

    def __init__(self) -> None:
        self.workers = [Thread(1), Thread(2)]
        self.consumers = {"results": Thread(3), "notifications": Thread(4)}


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def health_reports(broker: SQSBroker, worker: Any) -> HealthReports:
    """The reports of a process that takes messages."""
    reports = HealthReports()
    reports.after_worker_boot(broker, worker)
    return reports


def refused_polls(queue_name: str, *, since: float) -> FailingPolls:
    """Polls that have been refused since then (monotonic) until now."""
    return FailingPolls(queue_name, since, datetime.now(UTC), time.monotonic(), "refused", "Mend it.")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> dict[str, FailingPolls]:
    """The process's queues whose polls fail, by name: empty."""
    queues: dict[str, FailingPolls] = {}
    monkeypatch.setattr(poll_failures, "_failing", queues)
    return queues


def test_a_worker_whose_threads_all_give_signs_of_life_is_alive_and_ready() -> None:
    assert liveness([report(), report(pid=8)], now=101.0, since=0.0).ok
    assert readiness([report(), report(pid=8)], now=101.0, since=0.0).ok


@pytest.mark.parametrize("thread", ["poller", "heartbeat"])
def test_one_stuck_thread_of_one_process_fails_liveness_and_is_named(thread: str) -> None:
    stuck = report(pid=8, **{thread: 10.0})  # type: ignore[arg-type]

    found = liveness([report(), stuck], now=101.0, since=0.0)

    assert not found.ok
    (problem,) = found.problems
    assert problem.startswith(f"process 8: {thread}")
    assert problem.endswith("has been stuck for 90 s")


def test_a_thread_may_be_silent_for_as_long_as_it_announced() -> None:
    assert liveness([report(poller=21.0)], now=101.0, since=0.0).ok


def test_a_process_that_stops_reporting_is_not_alive() -> None:
    assert liveness([report(at=100.0)], now=100.0 + SILENT_S, since=0.0).ok
    found = liveness([report(at=100.0)], now=100.0 + SILENT_S + 1, since=0.0)
    assert found.problems == [f"process 7: no report for {SILENT_S + 1:.0f} s"]


@pytest.mark.parametrize("state", ["starting", "stopping"])
def test_a_process_that_takes_no_messages_is_alive_but_not_ready(state: str) -> None:
    reports = [report(), report(pid=8, state=state)]

    assert liveness(reports, now=101.0, since=0.0).ok
    assert readiness(reports, now=101.0, since=0.0).problems == [f"process 8: {state}"]


def test_a_worker_without_a_process_is_not_ready() -> None:
    assert not readiness([], now=1.0, since=0.0).ok


def test_a_process_is_starting_until_it_takes_messages_and_stopping_from_its_stop_on(
    broker: SQSBroker, worker: Any
) -> None:
    reports = HealthReports()
    assert reports.report(broker).state == "starting"
    reports.after_worker_boot(broker, worker)
    assert reports.report(broker).state == "taking"
    broker.stop.request()
    assert reports.report(broker).state == "stopping"


def test_an_open_circuit_breaker_makes_a_process_unready_and_not_dead_and_names_service_and_error(
    broker: SQSBroker, health_reports: HealthReports
) -> None:
    since = datetime.now(UTC) - timedelta(seconds=70)
    broker.breaker.ongoing = Ongoing("S3", since, "GetObject was refused", "Allow it.")

    reported = [health_reports.report(broker)]

    now = time.monotonic()
    assert liveness(reported, now=now, since=0.0).ok
    (problem,) = readiness(reported, now=now, since=0.0).problems
    assert re.sub(r"7\d s", "70 s", problem) == (
        f"process {os.getpid()}: the circuit breaker has been open for 70 s, S3: GetObject was refused"
    )
    broker.breaker.ongoing = None
    assert readiness([health_reports.report(broker)], now=now, since=0.0).ok


def test_a_minute_of_failed_polls_makes_a_process_unready_and_not_dead_and_names_queue_and_error(
    broker: SQSBroker, health_reports: HealthReports, failing: dict[str, FailingPolls]
) -> None:
    now = time.monotonic()
    failing["results"] = refused_polls("results", since=now - ALARM_S - 10)
    failing["notifications"] = refused_polls("notifications", since=now - ALARM_S / 2)

    reported = [health_reports.report(broker)]

    assert liveness(reported, now=now, since=0.0).ok
    (problem,) = readiness(reported, now=now, since=0.0).problems
    assert re.sub(r"7\d s", "70 s", problem) == f"process {os.getpid()}: polls of results have failed for 70 s: refused"


def test_an_open_circuit_breaker_says_why_nothing_is_polled(
    broker: SQSBroker, health_reports: HealthReports, failing: dict[str, FailingPolls]
) -> None:
    failing["results"] = refused_polls("results", since=time.monotonic() - ALARM_S - 10)
    broker.breaker.ongoing = Ongoing("S3", datetime.now(UTC), "refused", "Mend it.")

    (outage,) = health_reports.report(broker).outages

    assert "circuit breaker" in outage


@pytest.mark.parametrize(
    ("threads", "live", "ready"),
    [
        (WorkerThreads(), True, True),
        (WorkerThreads(all=4, late=3), True, True),
        (WorkerThreads(all=4, late=4), True, False),
        (WorkerThreads(all=4, late=4, stuck=3), True, False),
        (WorkerThreads(all=4, late=4, stuck=4), False, False),
    ],
)
def test_a_process_is_unready_when_all_threads_are_late_and_dead_when_none_can_work_any_more(
    threads: WorkerThreads, live: bool, ready: bool
) -> None:
    reports = [report(), report(pid=8, threads=threads)]

    assert liveness(reports, now=101.0, since=0.0).ok == live
    found = readiness(reports, now=101.0, since=0.0)
    assert found.ok == ready
    assert len(found.problems) == (not ready)
    assert all(problem.startswith("process 8: all 4 worker threads") for problem in found.problems)


def test_a_thread_that_has_died_fails_liveness_at_once_and_is_named_once() -> None:
    dead = report(pid=8, poller=10.0, dead=["poller-results-0"])

    assert liveness([report(), dead], now=101.0, since=0.0).problems == ["process 8: poller-results-0 has died"]


class TestWorkerThreads:
    @pytest.fixture
    def run(self, broker: SQSBroker, make_delivery: MakeDelivery) -> Callable[..., Delivery]:
        """Let a thread run a message."""

        def run(thread: Any, *, for_s: float, time_limit_s: float) -> Delivery:
            broker.in_flight.add(make_delivery())
            delivery = broker.in_flight.take("https://sqs/results", timeout_s=0)
            assert delivery
            delivery.thread_id, delivery.time_limit_s = thread.ident, time_limit_s
            delivery.started -= for_s
            return delivery

        return run

    def test_are_late_over_the_limit_of_their_own_actor_and_stuck_over_the_hard_one(
        self, broker: SQSBroker, health_reports: HealthReports, worker: Worker, run: Callable[..., Delivery]
    ) -> None:
        first, second = worker.workers
        run(first, for_s=90, time_limit_s=60)
        running = run(second, for_s=90, time_limit_s=300)
        assert health_reports.report(broker).threads == WorkerThreads(all=2, late=1, stuck=0)

        running.time_limit_s = 40

        assert health_reports.report(broker).threads == WorkerThreads(all=2, late=2, stuck=1)

    def test_are_as_stuck_when_their_message_is_left_to_another_worker(
        self, broker: SQSBroker, health_reports: HealthReports, worker: Worker, run: Callable[..., Delivery]
    ) -> None:
        for thread in worker.workers:
            broker.in_flight.free_lane(run(thread, for_s=200, time_limit_s=60))

        assert health_reports.report(broker).threads == WorkerThreads(all=2, late=2, stuck=2)

    def test_that_have_ended_a_message_are_neither(
        self, broker: SQSBroker, health_reports: HealthReports, worker: Worker, run: Callable[..., Delivery]
    ) -> None:
        broker.in_flight.leave(run(worker.workers[0], for_s=200, time_limit_s=60), State.DELETING)

        assert health_reports.report(broker).threads == WorkerThreads(all=2)

    def test_that_have_died_are_stuck(self, broker: SQSBroker, health_reports: HealthReports, worker: Worker) -> None:
        worker.workers[1].alive = False

        assert health_reports.report(broker).threads == WorkerThreads(all=2, late=1, stuck=1)

    def test_may_end_in_a_stop_and_so_may_consumers(
        self, broker: SQSBroker, health_reports: HealthReports, worker: Worker
    ) -> None:
        for thread in (*worker.workers, *worker.consumers.values()):
            thread.alive = False
        broker.stop.request()

        reported = health_reports.report(broker)

        assert liveness([reported], now=reported.at, since=0.0).ok


def test_a_consumer_that_has_died_is_named(broker: SQSBroker, health_reports: HealthReports, worker: Worker) -> None:
    worker.consumers["results"].alive = False

    assert health_reports.report(broker).dead == ["the consumer of results"]


def test_reports_are_read_as_written_and_those_of_ended_processes_are_removed(tmp_path: Path) -> None:
    # No process of Linux has such a high ID.
    ours, ended = report(pid=os.getpid()), report(pid=4194305)
    write(tmp_path, ours)
    write(tmp_path, ended)
    assert {each.pid for each in read(tmp_path)} == {ours.pid, ended.pid}

    forget_ended_processes(tmp_path)

    assert read(tmp_path) == [ours]


@pytest.fixture
def reports(tmp_path: Path) -> Reports:
    """The reports in `tmp_path / "health"`."""
    return Reports(tmp_path / "health")


@pytest.fixture
def ended_pid() -> int:
    """The ID of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_liveness_and_readiness_are_answered_over_http(reports: Reports, tmp_path: Path) -> None:
    write(tmp_path / "health", report(at=time.monotonic() - SILENT_S - 1))

    with serving(Endpoint("127.0.0.1", 0, reports.answer)) as port:
        live, ready = (ask(port, path=path) for path in ("/live", "/ready"))
        other = ask(port, path="/other")

    assert not live.ok
    assert live.problems[0].startswith("process 7: no report")
    assert not ready.ok
    assert not other.ok


@pytest.mark.parametrize(("host", "asked"), [("::1", "::1"), ("0.0.0.0", "127.0.0.1"), ("::", "::1")])  # noqa: S104
def test_health_is_asked_where_it_is_served(reports: Reports, host: str, asked: str) -> None:
    with serving(Endpoint(host, 0, reports.answer)) as port:
        assert ask(port, path="/live", host=host).ok
        with socket.create_connection((asked, port), timeout=5):
            pass


def test_health_is_served_to_this_machine_only_unless_a_setting_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[str] = []

    def serve(_subject: str, *, host: str, **_more: Any) -> int:
        served.append(host)
        return 0

    monkeypatch.setattr("graphnode.worker.endpoint.serve", serve)
    monkeypatch.setenv("GRAPHNODE_HEALTH_PORT", "8080")

    health.serve()
    monkeypatch.setenv("GRAPHNODE_HEALTH_HOST", "10.0.0.1")
    health.serve()

    assert served == ["127.0.0.1", "10.0.0.1"]


def test_a_port_without_a_server_is_a_problem(reports: Reports) -> None:
    with serving(Endpoint("127.0.0.1", 0, reports.answer)) as port:
        pass

    assert ask(port, path="/live").problems[0].startswith(f"no worker answers at 127.0.0.1:{port}")


@pytest.mark.parametrize("kind", ["link", "open to others"])
def test_reports_are_neither_written_nor_believed_where_another_user_could_have_put_them(
    tmp_path: Path, reports: Reports, kind: str
) -> None:
    place, others = tmp_path / "health", tmp_path / "others"
    others.mkdir()
    (others / "7").write_bytes(msgspec.json.encode(report()))
    if kind == "link":
        place.symlink_to(others)
    else:
        others.rename(place)
        place.chmod(0o777)
    before = (place / "7").read_bytes()

    with pytest.raises(OSError, match="health"):
        write(place, report(state="stopping"))

    assert (place / "7").read_bytes() == before
    assert reports.latest() == []


def test_a_worker_without_any_report_is_alive_until_its_processes_have_had_the_time_for_one() -> None:
    assert liveness([], now=100.0 + SILENT_S, since=100.0).ok
    found = liveness([], now=100.0 + SILENT_S + 1, since=100.0)
    assert found.problems == [f"no process has reported for {SILENT_S + 1:.0f} s"]


@pytest.mark.parametrize("loss", ["directory", "contents"])
def test_a_running_process_whose_report_is_lost_is_not_alive_after_a_while(
    reports: Reports, tmp_path: Path, loss: str
) -> None:
    place = tmp_path / "health"
    last = report(pid=os.getpid(), at=100.0)
    write(place, last)
    assert reports.latest() == [last]

    if loss == "directory":
        shutil.rmtree(place)
    else:
        (place / str(last.pid)).write_bytes(b"")

    assert reports.latest() == [last]
    assert liveness(reports.latest(), now=100.0 + SILENT_S, since=0.0).ok
    assert not liveness(reports.latest(), now=100.0 + SILENT_S + 1, since=0.0).ok


def test_a_process_that_has_ended_is_not_missed(reports: Reports, tmp_path: Path, ended_pid: int) -> None:
    write(tmp_path / "health", report(pid=ended_pid))
    assert [each.pid for each in reports.latest()] == [ended_pid]

    shutil.rmtree(tmp_path / "health")

    assert reports.latest() == []


def test_a_directory_that_is_gone_is_made_again(tmp_path: Path) -> None:
    place = tmp_path / "health"
    write(place, report())
    shutil.rmtree(place)

    write(place, report())

    assert read(place) == [report()]


def test_reports_that_cannot_be_written_are_logged_once_and_their_return_too(tmp_path: Path) -> None:
    place, reports = tmp_path / "health", HealthReports()
    place.write_text("a file is in the way")
    with capture_logs() as lines:
        for _ in range(3):
            reports.write(place, report())
        place.unlink()
        for _ in range(3):
            reports.write(place, report())

    assert [line["event"] for line in lines] == ["health not reported", "health reported again"]
    assert read(place) == [report()]
