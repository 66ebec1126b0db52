from __future__ import annotations

import math
import threading

import dramatiq
import pytest
from dramatiq.middleware import Shutdown, TimeLimit, TimeLimitExceeded
from structlog.testing import capture_logs

from graphnode.broker import SQSBroker
from graphnode.clients.aws import Aws
from graphnode.clients.memory import SMALL_BYTES, SMALL_STREAM_BYTES, admit, admit_stream
from graphnode.errors import (
    DatabaseFault,
    GraphNodeError,
    NoMemoryYet,
    ObjectNotFound,
    ServiceFault,
    SettingsError,
    UserLocked,
    WrongOwner,
)
from graphnode.sqs.circuit_breaker import CircuitBreaker
from graphnode.sqs.deliveries import Delivery, InFlight
from graphnode.sqs.heartbeat import due
from graphnode.sqs.queues import Options
from graphnode.sqs.verdicts import PARKED_MAX_S, PARKED_MIN_S, Ack, DeadLetter, Nack, Park, Retry, RetryPolicy
from graphnode.worker.middleware import (
    AdmissionControl,
    HardLimit,
    Preparation,
    Verdicts,
    worker_middleware,
)
from tests.ledgers import MemoryLedger
from tests.unit.conftest import MakeDelivery


@pytest.fixture
def broker(database_is_back: threading.Event) -> SQSBroker:
    """A broker whose middleware the test calls. It never calls SQS."""

    def probe(_fault: ServiceFault | None) -> None:
        if not database_is_back.is_set():
            raise ConnectionError("away")

    made = SQSBroker(
        lambda: Options(queues={}, aws=Aws(region="eu-central-1"), retry=RetryPolicy(max_attempts=3)),
        breaker=CircuitBreaker({DatabaseFault.service: probe}),
        middleware=[Verdicts(MemoryLedger())],
    )
    made.in_flight = InFlight(threads=8)
    made.in_flight.open("https://sqs/results")
    return made


@pytest.fixture
def control() -> AdmissionControl:
    """The admission control of a worker with 8 threads, of which one may work on big documents."""

    class Worker:
        worker_threads = 8

    made = AdmissionControl(1 << 30)
    made.before_worker_boot(None, Worker())  # type: ignore[arg-type]
    return made


def test_a_message_is_acked_when_its_handler_returns(broker: SQSBroker, make_delivery: MakeDelivery) -> None:
    delivery = make_delivery()

    broker.emit_after("process_message", delivery, result=None)

    assert delivery.verdict == Ack()
    assert not delivery.failed


def test_a_permanent_error_makes_a_dead_letter(broker: SQSBroker, make_delivery: MakeDelivery) -> None:
    delivery = make_delivery()

    broker.emit_after("process_message", delivery, exception=WrongOwner("task t belongs to u"))

    assert delivery.verdict == DeadLetter("WRONG_OWNER", "task t belongs to u", 1)
    assert delivery.failed


def test_of_a_dead_letter_nothing_is_told_before_sqs_has_taken_it(
    broker: SQSBroker, make_delivery: MakeDelivery
) -> None:
    (verdicts,) = (middleware for middleware in broker.middleware if isinstance(middleware, Verdicts))
    ledger = verdicts.ledger = MemoryLedger()

    with capture_logs() as lines:
        broker.emit_after("process_message", make_delivery(), exception=WrongOwner("task t belongs to u"))

    assert (lines, ledger.letters) == ([], [])


@pytest.mark.parametrize("error", [ObjectNotFound("busy"), TimeLimitExceeded(), ZeroDivisionError()])
def test_a_transient_error_is_tried_again_until_the_attempts_are_used_up(
    error: BaseException, broker: SQSBroker, database_is_back: threading.Event, make_delivery: MakeDelivery
) -> None:
    database_is_back.set()
    delivery = make_delivery()
    verdicts = []

    for _ in range(3):
        broker.emit_after("process_message", delivery, exception=error)
        verdicts.append(type(delivery.verdict))

    assert verdicts == [Retry, Retry, DeadLetter]


def test_neither_deliveries_nor_outages_nor_stops_use_up_attempts(
    broker: SQSBroker, make_delivery: MakeDelivery
) -> None:
    delivery = make_delivery(receive_count=40)

    broker.emit_after("process_message", delivery, exception=Shutdown())
    assert delivery.verdict == Nack()
    for _ in range(3):
        broker.emit_after("process_message", delivery, exception=DatabaseFault("connection refused"))
    broker.emit_after("process_message", delivery, exception=ObjectNotFound("its first failure"))

    assert isinstance(delivery.verdict, Retry)


def test_a_failure_that_an_outage_keeps_from_being_counted_parks_the_message(
    broker: SQSBroker, make_delivery: MakeDelivery
) -> None:
    class AwayLedger(MemoryLedger):
        def count(self, delivery: Delivery, error: GraphNodeError) -> int:
            raise DatabaseFault("connection refused")

    (verdicts,) = (middleware for middleware in broker.middleware if isinstance(middleware, Verdicts))
    verdicts.ledger = AwayLedger()
    delivery = make_delivery()

    broker.emit_after("process_message", delivery, exception=ObjectNotFound("S3 is slow"))

    assert delivery.verdict == Park()
    assert not broker.breaker.is_closed


def test_an_outage_stops_the_polls_and_parks_the_message_at_any_attempt(
    broker: SQSBroker, make_delivery: MakeDelivery
) -> None:
    delivery = make_delivery(receive_count=99)

    broker.emit_after("process_message", delivery, exception=DatabaseFault("connection refused"))

    assert delivery.verdict == Park()
    assert not broker.breaker.is_closed


def test_a_failure_is_logged_once_with_its_reason_and_only_an_unexpected_one_with_a_stack(
    broker: SQSBroker, database_is_back: threading.Event, make_delivery: MakeDelivery
) -> None:
    database_is_back.set()
    with pytest.raises(ZeroDivisionError) as raised:
        _ = 1 / 0

    with capture_logs() as lines:
        broker.emit_after("process_message", make_delivery(), exception=ObjectNotFound("throttled"))
        broker.emit_after("process_message", make_delivery(), exception=raised.value)

    expected, unexpected = lines
    assert (expected["event"], expected["reason"], expected["error"]) == (
        "failed, will be tried again",
        "OBJECT_NOT_FOUND",
        "throttled",
    )
    assert "stack" not in expected
    assert "ZeroDivisionError" in unexpected["stack"]


def test_a_worker_that_must_not_start_ends_with_one_plain_line(broker: SQSBroker) -> None:
    def prepare(_broker: SQSBroker, _worker: dramatiq.Worker) -> None:
        raise SettingsError("1 setting is wrong:\n  - AWS_REGION is missing")

    broker.add_middleware(Preparation(prepare))

    with capture_logs() as lines, pytest.raises(SystemExit) as ended:
        dramatiq.Worker(broker, worker_threads=1).start()

    assert ended.value.code == 1
    assert [(line["event"], line["error"]) for line in lines] == [
        ("the worker does not start", "1 setting is wrong:\n  - AWS_REGION is missing")
    ]


def test_a_message_that_must_wait_for_memory_is_parked_until_it_is_resumed(
    broker: SQSBroker, make_delivery: MakeDelivery
) -> None:
    delivery = make_delivery()

    broker.emit_after("process_message", delivery, exception=NoMemoryYet())

    assert delivery.verdict == Park(math.inf)


def test_a_locked_user_parks_the_message_for_longer_and_longer_without_an_attempt_or_a_log_line(
    broker: SQSBroker, make_delivery: MakeDelivery
) -> None:
    delivery, waits = make_delivery(receive_count=9), []

    with capture_logs() as lines:
        for delivery.parks in range(12):
            broker.emit_after("process_message", delivery, exception=UserLocked())
            assert isinstance(delivery.verdict, Park)
            waits.append(delivery.verdict.after_s)

    assert PARKED_MIN_S / 2 <= waits[0] <= PARKED_MIN_S
    assert all(PARKED_MAX_S / 2 <= wait <= PARKED_MAX_S for wait in waits[6:])
    assert {line["log_level"] for line in lines} == {"debug"}


def test_the_verdict_is_decided_after_the_time_limit_is_lifted() -> None:
    order = [
        type(middleware).__name__
        for middleware in worker_middleware(
            prepare=lambda _broker, _worker: None,
            ledger=MemoryLedger(),
            document_memory=1,
        )
    ]

    assert order.index("Verdicts") < order.index("TimeLimit")
    assert order.index("LogContext") < order.index("Verdicts")
    assert order.index("AdmissionControl") < order.index("Verdicts")


def test_a_message_whose_actor_ignores_its_time_limit_is_no_longer_kept_alive(
    broker: SQSBroker, make_delivery: MakeDelivery
) -> None:
    broker.add_middleware(TimeLimit())
    dramatiq.actor(actor_name="work", queue_name="results", broker=broker, time_limit=1000)(lambda: None)
    limit = HardLimit()
    stuck, fresh = make_delivery(visibility_s=1), make_delivery(visibility_s=1)
    for delivery, seconds_ago in ((stuck, 3), (fresh, 0)):
        broker.in_flight.add(delivery)
        assert broker.in_flight.take(delivery.queue_url, timeout_s=0) is delivery
        limit.before_process_message(broker, delivery)
        delivery.started -= seconds_ago

    limit.check(broker)

    assert stuck.thread_id == threading.get_ident()
    assert (stuck.lost, fresh.lost) == (True, False)
    assert due([stuck, fresh], now=stuck.received + 0.9, visibility_s=1) == [fresh]


def test_small_documents_and_those_outside_a_worker_need_no_claim(
    control: AdmissionControl, broker: SQSBroker, make_delivery: MakeDelivery
) -> None:
    admit("outside", 1 << 40)
    big, small = make_delivery(), make_delivery()

    control.before_process_message(broker, big)
    admit("big", 2 * SMALL_BYTES)
    control.before_process_message(broker, small)
    admit("small", SMALL_BYTES)
    with pytest.raises(NoMemoryYet):
        admit_stream("another big one", 2 * SMALL_STREAM_BYTES)


@pytest.fixture
def two_big(control: AdmissionControl, broker: SQSBroker, make_delivery: MakeDelivery) -> tuple[Delivery, Delivery]:
    """Two running messages with big documents: the first has memory, the second is parked until it has."""
    first, second = make_delivery(), make_delivery()
    for delivery in (first, second):
        broker.in_flight.add(delivery)
        broker.in_flight.take(delivery.queue_url, timeout_s=0)
    control.before_process_message(broker, first)
    admit("big", 2 * SMALL_BYTES)
    control.before_process_message(broker, second)
    with pytest.raises(NoMemoryYet) as waits:
        admit("big", 2 * SMALL_BYTES)
    second.verdict = Park(math.inf)
    control.after_process_message(broker, second, exception=waits.value)
    broker.in_flight.park(second, math.inf)
    return first, second


def test_a_message_that_waits_for_memory_starts_when_another_has_ended(
    control: AdmissionControl, broker: SQSBroker, two_big: tuple[Delivery, Delivery]
) -> None:
    first, second = two_big
    assert broker.in_flight.take(second.queue_url, timeout_s=0) is None

    control.after_process_message(broker, first)

    assert broker.in_flight.take(second.queue_url, timeout_s=0) is second
    control.before_process_message(broker, second)
    admit("big", 2 * SMALL_BYTES)


def test_a_message_that_a_lock_parks_gives_its_memory_to_the_next(
    control: AdmissionControl, broker: SQSBroker, two_big: tuple[Delivery, Delivery]
) -> None:
    first, second = two_big
    first.verdict = Park(0.1)

    control.after_process_message(broker, first, exception=UserLocked())

    assert broker.in_flight.take(second.queue_url, timeout_s=0) is second


def test_a_message_that_has_gone_back_meanwhile_takes_no_memory(
    control: AdmissionControl, broker: SQSBroker, two_big: tuple[Delivery, Delivery], make_delivery: MakeDelivery
) -> None:
    first, second = two_big
    broker.in_flight.remove(second)

    control.after_process_message(broker, first)

    control.before_process_message(broker, make_delivery())
    admit("big", 2 * SMALL_BYTES)


def test_a_message_that_goes_back_after_its_turn_has_come_gives_its_memory_to_the_next(
    control: AdmissionControl, broker: SQSBroker, two_big: tuple[Delivery, Delivery], make_delivery: MakeDelivery
) -> None:
    first, second = two_big
    control.after_process_message(broker, first)
    # It may start, and goes back before a thread has taken it.
    broker.in_flight.remove(second)

    small, big = make_delivery(), make_delivery()
    for delivery in (small, big):
        broker.in_flight.add(delivery)
    control.before_process_message(broker, small)
    control.after_process_message(broker, small)

    control.before_process_message(broker, big)
    admit("big", 2 * SMALL_BYTES)


def test_the_first_time_that_a_service_fails_a_message_does_not_count_if_the_service_answers(
    broker: SQSBroker, database_is_back: threading.Event, make_delivery: MakeDelivery
) -> None:
    database_is_back.set()
    delivery = make_delivery()

    broker.emit_after("process_message", delivery, exception=DatabaseFault("connection lost"))
    assert isinstance(delivery.verdict, Park)
    assert 0 < delivery.verdict.after_s <= 1
    broker.emit_after("process_message", delivery, exception=DatabaseFault("connection lost"))
    assert isinstance(delivery.verdict, Retry)


def test_a_message_that_fails_services_while_others_succeed_counts_as_the_cause(
    broker: SQSBroker, make_delivery: MakeDelivery
) -> None:
    cause, other = make_delivery(), make_delivery()
    verdicts = []

    for _ in range(4):
        broker.emit_after("process_message", cause, exception=DatabaseFault("server closed the connection"))
        verdicts.append(type(cause.verdict))
        broker.emit_after("process_message", other, result=None)

    assert verdicts == [Park, Park, Retry, Retry]


def test_a_message_that_fails_with_everybody_never_counts_as_the_cause(
    broker: SQSBroker, make_delivery: MakeDelivery
) -> None:
    delivery = make_delivery()

    for _ in range(20):
        broker.emit_after("process_message", delivery, exception=DatabaseFault("connection refused"))
        assert delivery.verdict == Park()
