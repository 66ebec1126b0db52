from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from graphnode.broker import SQSBroker
from graphnode.clients.aws import Aws
from graphnode.errors import DatabaseFault, ServiceFault
from graphnode.sqs.circuit_breaker import CircuitBreaker
from graphnode.sqs.liveness import LifeSign
from graphnode.sqs.queues import Options
from graphnode.worker.health import (
    SILENT_S,
    HealthReports,
    Report,
    Server,
    ask,
    forget_ended_processes,
    liveness,
    read,
    readiness,
    write,
)


def report(
    *, pid: int = 7, at: float = 100.0, state: str = "taking", poller: float = 99.0, heartbeat: float = 99.0
) -> Report:
    return Report(
        pid=pid,
        at=at,
        state=state,
        last_signs={"poller-results-0": LifeSign(poller, 80.0), "heartbeat": LifeSign(heartbeat, 66.0)},
    )


@pytest.fixture
def broker(database_is_back: threading.Event) -> SQSBroker:
    """A broker that never calls SQS. Its database is away until `database_is_back` is set."""

    def probe(_fault: ServiceFault | None) -> None:
        if not database_is_back.is_set():
            raise ConnectionError("away")

    return SQSBroker(
        lambda: Options(queues={}, aws=Aws(region="eu-central-1")),
        breaker=CircuitBreaker({DatabaseFault.service: probe}),
        middleware=[],
    )


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


@pytest.mark.parametrize("state", ["starting", "stopping", "waiting for a service that is away"])
def test_a_process_that_takes_no_messages_is_alive_but_not_ready(state: str) -> None:
    reports = [report(), report(pid=8, state=state)]

    assert liveness(reports, now=101.0, since=0.0).ok
    assert readiness(reports, now=101.0, since=0.0).problems == [f"process 8: {state}"]


def test_a_worker_without_a_process_is_not_ready() -> None:
    assert not readiness([], now=1.0, since=0.0).ok


def test_an_outage_is_reported_while_it_lasts(broker: SQSBroker, database_is_back: threading.Event) -> None:
    reports = HealthReports()
    assert reports.report(broker).state == "starting"
    reports._state = "taking"
    assert reports.report(broker).state == "taking"

    assert broker.breaker.is_to_blame(DatabaseFault("away"), since=time.monotonic(), user="ada")
    assert reports.report(broker).state == "waiting for a service that is away"

    database_is_back.set()
    assert broker.breaker.may_poll("results", 20)
    broker.breaker.find_none("results", queues=1)
    assert reports.report(broker).state == "taking"
    broker.stop.request()
    assert reports.report(broker).state == "stopping"


def test_reports_are_read_as_written_and_those_of_ended_processes_are_removed(tmp_path: Path) -> None:
    # No process of Linux has such a high ID.
    ours, ended = report(pid=os.getpid()), report(pid=4194305)
    write(tmp_path, ours)
    write(tmp_path, ended)
    assert {each.pid for each in read(tmp_path)} == {ours.pid, ended.pid}

    forget_ended_processes(tmp_path)

    assert read(tmp_path) == [ours]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of health on a free port, whose reports are in `tmp_path / "health"`."""
    with Server(0, tmp_path / "health") as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def ended_pid() -> int:
    """The ID of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_liveness_and_readiness_are_answered_over_http(server: Server, tmp_path: Path) -> None:
    write(tmp_path / "health", report(at=time.monotonic() - SILENT_S - 1))

    live, ready = (ask(server.server_port, path=path) for path in ("/live", "/ready"))

    assert not live.ok
    assert live.problems[0].startswith("process 7: no report")
    assert not ready.ok


def test_a_port_without_a_server_is_a_problem(tmp_path: Path) -> None:
    with Server(0, tmp_path) as closed:
        port = closed.server_port

    assert ask(port, path="/live").problems[0].startswith("nothing answers on port")


def test_a_worker_without_any_report_is_alive_until_its_processes_have_had_the_time_for_one() -> None:
    assert liveness([], now=100.0 + SILENT_S, since=100.0).ok
    found = liveness([], now=100.0 + SILENT_S + 1, since=100.0)
    assert found.problems == [f"no process has reported for {SILENT_S + 1:.0f} s"]


@pytest.mark.parametrize("loss", ["directory", "contents"])
def test_a_running_process_whose_report_is_lost_is_not_alive_after_a_while(
    server: Server, tmp_path: Path, loss: str
) -> None:
    place = tmp_path / "health"
    last = report(pid=os.getpid(), at=100.0)
    write(place, last)
    assert server.reports() == [last]

    if loss == "directory":
        shutil.rmtree(place)
    else:
        (place / str(last.pid)).write_bytes(b"")

    assert server.reports() == [last]
    assert liveness(server.reports(), now=100.0 + SILENT_S, since=0.0).ok
    assert not liveness(server.reports(), now=100.0 + SILENT_S + 1, since=0.0).ok


def test_a_process_that_has_ended_is_not_missed(server: Server, tmp_path: Path, ended_pid: int) -> None:
    write(tmp_path / "health", report(pid=ended_pid))
    assert [each.pid for each in server.reports()] == [ended_pid]

    shutil.rmtree(tmp_path / "health")

    assert server.reports() == []


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
