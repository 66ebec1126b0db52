"""What a worker of two processes tells of itself: metrics, and health."""

from __future__ import annotations

import os
import signal
import urllib.request
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from graphnode.dev import outcomes
from graphnode.dev.worker import Worker
from graphnode.health import Health, ask
from tests.e2e.ai_server import PATIENCE_S, AiServer, found
from tests.e2e.conftest import StartWorker


class Observed(NamedTuple):
    """A worker, and where it is observed."""

    worker: Worker
    metrics_port: int
    health_port: int

    def sample(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def health(self, path: str, *, ok: bool) -> Health:
        """What it answers, once that is as expected."""

        def look() -> Health | None:
            health = ask(self.health_port, path=path)
            return health if health.ok == ok else None

        return found(outcomes.wait_for(look, timeout_s=PATIENCE_S), f"{path} to be {ok}")


@pytest.fixture
def observed(start_worker: StartWorker, tmp_path: Path, health_port: int, metrics_port: int) -> Observed:
    worker = start_worker(
        processes=2,
        dramatiq_prom_port=str(metrics_port),
        dramatiq_prom_db=str(tmp_path / "metrics"),
        GRAPHNODE_HEALTH_PORT=str(health_port),
        GRAPHNODE_SWEEP_INTERVAL="0.5",
    )
    return Observed(worker, metrics_port, health_port)


def test_two_processes_tell_what_they_did_and_a_suspended_one_is_not_alive(ai: AiServer, observed: Observed) -> None:
    assert observed.health("/ready", ok=True).problems == []
    results = [ai.send(ai.result("graph", user_id=f"user-{number}")) for number in range(4)]
    ai.send_body("no envelope")
    assert {ai.ended(result).status for result in results} == {"COMPLETED"}
    ai.dead_letters(1)
    ai.wait_until_drained()

    def counted(name: str, **labels: str) -> float:
        look = lambda: observed.sample(name, **labels) or None  # noqa: E731
        return found(outcomes.wait_for(look, timeout_s=PATIENCE_S), f"{name} {labels}")

    assert counted("graphnode_messages_handled_total", actor="graph_generation", outcome="done") == 4
    assert counted("graphnode_dead_letters_total", reason="INVALID_ENVELOPE") == 1
    assert counted("graphnode_messages_received_total", queue="results") >= 5
    assert counted("graphnode_step_duration_seconds_count", step="fetch") == 8
    assert counted("graphnode_message_age_seconds_count", queue="results") == 4
    assert counted("graphnode_queue_messages", queue="results-dead-letters") == 1

    process = next(child for child in psutil.Process(observed.worker.pid).children() if len(child.threads()) > 8)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        (problem,) = observed.health("/live", ok=False).problems
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert problem.startswith(f"process {process.pid}: no report for")
    observed.health("/live", ok=True)
