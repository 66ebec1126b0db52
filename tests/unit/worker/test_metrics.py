from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from prometheus_client import CollectorRegistry, Counter, generate_latest

from graphnode.rules.pushes import PushStatus
from graphnode.sqs.deliveries import Delivery, State
from graphnode.sqs.verdicts import Ack, DeadLetter, Discard, Retry, Verdict
from graphnode.steps import EVENTS, STEPS, count_event, step, subscribed
from graphnode.storage.notifications import OpenPushes
from graphnode.worker.metrics import OUTCOMES, Instruments, Metrics, forget_ended_processes
from tests.unit.conftest import MakeDelivery

#: The labels that a metric may have. Each has few values, whatever messages arrive.
BOUNDED = {"queue", "state", "actor", "outcome", "step", "reason", "service", "status"}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def instruments(registry: CollectorRegistry) -> Iterator[Instruments]:
    made = Instruments(registry)
    with subscribed(around=made.around, count=made.count):
        yield made


@pytest.fixture
def result(make_delivery: MakeDelivery) -> Delivery:
    """A user's result whose attempt is over."""
    delivery = make_delivery()
    message: dramatiq.Message[Any] = delivery._message
    message.options["log_fields"] = {"task_id": "task-7", "task_type": "ADD_NODE_RESULT", "user_id": "ada"}
    delivery.started = delivery.received
    return delivery


@pytest.mark.parametrize(
    ("verdict", "outcome"),
    [(Ack(), "done"), (Discard(5), "discarded"), (Retry(5), "retried"), (DeadLetter("X", "x", 1), "dead_letter")],
)
def test_an_attempt_is_counted_by_actor_and_outcome(
    verdict: Verdict, outcome: str, instruments: Instruments, registry: CollectorRegistry, result: Delivery
) -> None:
    result.verdict = verdict
    instruments.handled(result)

    labels = {"actor": "work", "outcome": outcome}
    assert registry.get_sample_value("graphnode_messages_handled_total", labels) == 1
    assert registry.get_sample_value("graphnode_message_age_seconds_count", {"queue": "results"}) == 1


def test_dramatiq_counts_a_dead_letter_once_sqs_has_taken_it(registry: CollectorRegistry, result: Delivery) -> None:
    metrics, broker = Metrics(), StubBroker()
    metrics.total_rejected_messages = Counter("rejects", "Dead letters.", ["queue", "actor"], registry=registry)
    result.verdict = DeadLetter("X", "x", 1)

    metrics.after_nack(broker, result)
    assert registry.get_sample_value("rejects_total", {"queue": "results", "actor": "work"}) is None
    metrics.after_dead_letter(result, result.verdict)
    assert registry.get_sample_value("rejects_total", {"queue": "results", "actor": "work"}) == 1


def test_each_kind_of_verdict_has_an_outcome() -> None:
    assert set(OUTCOMES) == {*Verdict.__args__, type(None)}


def test_a_step_is_timed_even_when_it_fails(instruments: Instruments, registry: CollectorRegistry) -> None:
    with pytest.raises(ValueError, match="broke"), step("store"):
        raise ValueError("broke")

    assert registry.get_sample_value("graphnode_step_duration_seconds_count", {"step": "store"}) == 1


def test_each_event_has_a_metric(instruments: Instruments, registry: CollectorRegistry) -> None:
    before = generate_latest(registry)
    for name, labels in EVENTS.items():
        count_event(name, 3, **dict.fromkeys(labels, "some"))
        after = generate_latest(registry)
        assert after != before
        before = after


@pytest.mark.parametrize(
    ("event", "metric", "labels"),
    [
        ("outage", "graphnode_outage_active", {"service": "PostgreSQL"}),
        ("polls_failing", "graphnode_polls_failing", {"queue": "results"}),
    ],
)
def test_a_gauge_is_set_while_an_outage_lasts(
    instruments: Instruments, registry: CollectorRegistry, event: str, metric: str, labels: dict[str, str]
) -> None:
    count_event(event, 1, **labels)
    assert registry.get_sample_value(metric, labels) == 1
    count_event(event, 0, **labels)
    assert registry.get_sample_value(metric, labels) == 0


def test_a_message_that_is_no_longer_in_flight_is_not_counted(
    instruments: Instruments, registry: CollectorRegistry, result: Delivery
) -> None:
    running = {"queue": "results", "state": "running"}
    result.state = State.RUNNING
    instruments.in_flight([result], queues=["results"])
    assert registry.get_sample_value("graphnode_messages_in_hand", running) == 1
    instruments.in_flight([], queues=["results"])
    assert registry.get_sample_value("graphnode_messages_in_hand", running) == 0


def test_metric_names_have_units_and_labels_are_bounded_and_no_id_is_exported(
    instruments: Instruments, registry: CollectorRegistry, result: Delivery
) -> None:
    instruments.handled(result)
    instruments.in_flight([result], queues=["results"])
    instruments.open_pushes(OpenPushes(dict.fromkeys(PushStatus, 1), oldest_age_s=3.0))
    instruments.waiting({"results": 4})
    for name in STEPS:
        with step(name):
            pass

    for metric in registry.collect():
        assert re.fullmatch(r"graphnode_[a-z_]+", metric.name)
        assert metric.type != "histogram" or metric.name.endswith("_seconds")
        for sample in metric.samples:
            assert sample.labels.keys() - {"le"} <= BOUNDED
    text = generate_latest(registry).decode()
    assert not any(known in text for known in ("ada", "task-7", result.message_id, result.body))


def test_the_first_dead_letter_of_a_reason_is_an_increase(
    instruments: Instruments, registry: CollectorRegistry
) -> None:
    for reason in ("INVALID_ENVELOPE", "UNEXPECTED"):
        assert registry.get_sample_value("graphnode_dead_letters_total", {"reason": reason}) == 0


def test_gauges_of_ended_processes_are_removed_and_counters_stay(tmp_path: Path) -> None:
    # No process of Linux has such a high ID.
    for name in ("gauge_livesum_4194305.db", "gauge_livesum_1.db", "counter_4194305.db"):
        (tmp_path / name).touch()

    forget_ended_processes(tmp_path)

    assert sorted(file.name for file in tmp_path.iterdir()) == ["counter_4194305.db", "gauge_livesum_1.db"]


def test_a_worker_writes_its_metrics_into_its_own_directory_only(tmp_path: Path) -> None:
    place = tmp_path / f"graphnode-metrics-{os.geteuid()}"
    booted = "from graphnode.worker.metrics import Metrics; Metrics().after_process_boot(None)"
    environment = {"TMPDIR": str(tmp_path), "dramatiq_prom_port": "9191", "PATH": os.environ["PATH"]}

    subprocess.run([sys.executable, "-c", booted], env=environment, check=True, timeout=60)

    assert list(place.glob("counter_*.db"))
    assert place.stat().st_mode & 0o777 == 0o700
    # Dramatiq makes this one at its import.
    assert {file.parent.name for file in tmp_path.rglob("*.db")} == {place.name}
