from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from graphnode.errors import DatabaseOutage
from graphnode.sqs import circuit_breaker
from graphnode.sqs.circuit_breaker import CircuitBreaker


class Service:
    """A service that is away until `back` is set."""

    def __init__(self) -> None:
        self.back = threading.Event()
        self.asked = threading.Event()
        self.probes = 0

    def probe(self) -> None:
        self.probes += 1
        self.asked.set()
        if not self.back.is_set():
            raise ConnectionError("away")


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr(circuit_breaker, "PROBE_MIN_S", 0.001)
    monkeypatch.setattr(circuit_breaker, "PROBE_MAX_S", 0.01)
    service = Service()
    yield service
    service.back.set()


@pytest.fixture
def gate(service: Service) -> CircuitBreaker:
    return CircuitBreaker({DatabaseOutage.service: service.probe})


def test_the_gate_is_open_until_an_outage_begins(gate: CircuitBreaker) -> None:
    assert not gate.closed
    assert gate.wait_until_open(0)


def test_an_outage_closes_the_gate_until_a_probe_succeeds(gate: CircuitBreaker, service: Service) -> None:
    gate.begin(DatabaseOutage())
    assert service.asked.wait(5)
    assert gate.closed

    service.back.set()

    assert gate.wait_until_open(5)


def test_an_outage_is_logged_once_when_it_begins_and_once_when_it_ends(gate: CircuitBreaker, service: Service) -> None:
    with capture_logs() as lines:
        for _ in range(20):
            gate.begin(DatabaseOutage("connection refused"))
        assert service.asked.wait(5)
        service.back.set()
        assert gate.wait_until_open(5)

    logged = [(line["log_level"], line["event"]) for line in lines if line["log_level"] != "debug"]
    assert logged == [
        ("error", "outage began: no messages are taken"),
        ("warning", "outage over: taking messages"),
    ]
    assert lines[0]["service"] == "PostgreSQL"
