from __future__ import annotations

import os
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from graphnode.broker import SQSBroker
from graphnode.errors import DatabaseOutage
from graphnode.sqs.liveness import LifeSign
from graphnode.sqs.outages import Outages
from graphnode.sqs.queues import Options
from graphnode.worker import health
from graphnode.worker.health import (
    SILENT_S,
    Handler,
    HealthReports,
    Report,
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

    def probe() -> None:
        if not database_is_back.is_set():
            raise ConnectionError("away")

    return SQSBroker(
        lambda: Options(queues={}, region="eu-central-1"),
        outages=Outages({DatabaseOutage.service: probe}),
        middleware=[],
    )


def test_a_worker_whose_threads_all_give_signs_of_life_is_alive_and_ready() -> None:
    assert liveness([report(), report(pid=8)], now=101.0).ok
    assert readiness([report(), report(pid=8)], now=101.0).ok


@pytest.mark.parametrize("thread", ["poller", "heartbeat"])
def test_one_stuck_thread_of_one_process_fails_liveness_and_is_named(thread: str) -> None:
    stuck = report(pid=8, **{thread: 10.0})  # type: ignore[arg-type]

    found = liveness([report(), stuck], now=101.0)

    assert not found.ok
    (problem,) = found.problems
    assert problem.startswith(f"process 8: {thread}")
    assert problem.endswith("has been stuck for 90 s")


def test_a_thread_may_be_silent_for_as_long_as_it_announced() -> None:
    assert liveness([report(poller=21.0)], now=101.0).ok


def test_a_process_that_stops_reporting_is_not_alive() -> None:
    assert liveness([report(at=100.0)], now=100.0 + SILENT_S).ok
    found = liveness([report(at=100.0)], now=100.0 + SILENT_S + 1)
    assert found.problems == [f"process 7: no report for {SILENT_S + 1:.0f} s"]


@pytest.mark.parametrize("state", ["starting", "stopping", "waiting for a service that is away"])
def test_a_process_that_takes_no_messages_is_alive_but_not_ready(state: str) -> None:
    reports = [report(), report(pid=8, state=state)]

    assert liveness(reports, now=101.0).ok
    assert readiness(reports, now=101.0).problems == [f"process 8: {state}"]


def test_a_worker_without_a_process_is_not_ready() -> None:
    assert not readiness([], now=1.0).ok


def test_an_outage_is_reported_while_it_lasts(broker: SQSBroker, database_is_back: threading.Event) -> None:
    reports = HealthReports()
    assert reports.report(broker).state == "starting"
    reports._state = "taking"
    assert reports.report(broker).state == "taking"

    broker.outages.begin(DatabaseOutage("away"))
    assert reports.report(broker).state == "waiting for a service that is away"

    database_is_back.set()
    assert broker.outages.wait_until_open(20)
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


def test_liveness_and_readiness_are_answered_over_http(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(health, "directory", lambda: tmp_path)
    write(tmp_path, report(at=0.0))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.server_address[1]
        try:
            live, ready = ask(port, path="/live"), ask(port, path="/ready")
        finally:
            server.shutdown()
            thread.join()

    assert not live.ok
    assert live.problems[0].startswith("process 7: no report")
    assert not ready.ok
    assert ask(port, path="/live").problems[0].startswith("nothing answers on port")
