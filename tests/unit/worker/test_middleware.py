from __future__ import annotations

import threading

import dramatiq
import pytest
from dramatiq.middleware import Shutdown, SkipMessage, TimeLimit, TimeLimitExceeded
from structlog.testing import capture_logs

from graphnode.broker import SQSBroker
from graphnode.clients.memory import SMALL_BYTES, admit, admit_stream
from graphnode.errors import DatabaseOutage, GraphNodeError, Postponed, ServiceBusy, SettingsError, WrongOwner
from graphnode.sqs.deliveries import Delivery, State
from graphnode.sqs.heartbeat import due
from graphnode.sqs.outages import Outages
from graphnode.sqs.queues import Options
from graphnode.sqs.verdicts import Abandon, Ack, DeadLetter, Nack, Park, Retry, RetryPolicy
from graphnode.worker.middleware import (
    AdmissionControl,
    HardLimit,
    Preparation,
    StartCheck,
    Verdicts,
    worker_middleware,
)
from tests.ledgers import MemoryLedger
from tests.unit.conftest import MakeDelivery


@pytest.fixture
def broker(database_is_back: threading.Event) -> SQSBroker:
    """A broker whose middleware the test calls. It never calls SQS."""

    def probe() -> None:
        if not database_is_back.is_set():
            raise ConnectionError("away")

    return SQSBroker(
        lambda: Options(queues={}, region="eu-central-1", retry=RetryPolicy(max_attempts=3)),
        outages=Outages({DatabaseOutage.service: probe}),
        middleware=[StartCheck(), Verdicts(MemoryLedger())],
    )


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


def test_a_dead_letter_is_recorded_in_the_ledger_and_stays_one_if_that_fails(
    broker: SQSBroker, make_delivery: MakeDelivery
) -> None:
    recorded: list[DeadLetter] = []

    class AwayLedger(MemoryLedger):
        def give_up(self, delivery: Delivery, dead: DeadLetter, error: GraphNodeError) -> None:
            recorded.append(dead)
            raise DatabaseOutage("connection refused")

    (verdicts,) = (middleware for middleware in broker.middleware if isinstance(middleware, Verdicts))
    verdicts.ledger = AwayLedger()
    delivery = make_delivery()

    broker.emit_after("process_message", delivery, exception=WrongOwner("task t belongs to u"))

    assert recorded == [delivery.verdict] == [DeadLetter("WRONG_OWNER", "task t belongs to u", 1)]


@pytest.mark.parametrize("error", [ServiceBusy("busy"), TimeLimitExceeded(), ZeroDivisionError()])
def test_a_transient_error_is_tried_again_until_the_attempts_are_used_up(
    error: BaseException, broker: SQSBroker, make_delivery: MakeDelivery
) -> None:
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
        broker.emit_after("process_message", delivery, exception=DatabaseOutage("connection refused"))
    broker.emit_after("process_message", delivery, exception=ServiceBusy("its first failure"))

    assert isinstance(delivery.verdict, Retry)


def test_a_failure_that_an_outage_keeps_from_being_counted_parks_the_message(
    broker: SQSBroker, make_delivery: MakeDelivery
) -> None:
    class AwayLedger(MemoryLedger):
        def count(self, delivery: Delivery, error: GraphNodeError) -> int:
            raise DatabaseOutage("connection refused")

    (verdicts,) = (middleware for middleware in broker.middleware if isinstance(middleware, Verdicts))
    verdicts.ledger = AwayLedger()
    delivery = make_delivery()

    broker.emit_after("process_message", delivery, exception=ServiceBusy("S3 is slow"))

    assert delivery.verdict == Park()
    assert broker.outages.closed


def test_an_outage_stops_the_polls_and_parks_the_message_at_any_attempt(
    broker: SQSBroker, make_delivery: MakeDelivery
) -> None:
    delivery = make_delivery(receive_count=99)

    broker.emit_after("process_message", delivery, exception=DatabaseOutage("connection refused"))

    assert delivery.verdict == Park()
    assert broker.outages.closed


def test_a_message_whose_visibility_ran_out_is_not_started(broker: SQSBroker, make_delivery: MakeDelivery) -> None:
    delivery = make_delivery(visibility_s=0)

    with pytest.raises(SkipMessage):
        broker.emit_before("process_message", delivery)

    assert delivery.verdict == Abandon()


def test_a_message_that_the_heartbeat_lost_is_not_started(broker: SQSBroker, make_delivery: MakeDelivery) -> None:
    delivery = make_delivery()
    delivery.lost = True

    with pytest.raises(SkipMessage):
        broker.emit_before("process_message", delivery)

    assert delivery.verdict == Abandon()


def test_a_message_is_running_once_it_is_started(broker: SQSBroker, make_delivery: MakeDelivery) -> None:
    delivery = make_delivery()

    broker.emit_before("process_message", delivery)

    assert delivery.state is State.RUNNING
    assert delivery.thread_id == threading.get_ident()


def test_nothing_is_started_once_a_stop_has_begun(broker: SQSBroker, make_delivery: MakeDelivery) -> None:
    delivery = make_delivery()
    broker.stop.request()

    with pytest.raises(SkipMessage):
        broker.emit_before("process_message", delivery)

    assert delivery.verdict == Nack()


def test_during_an_outage_a_message_goes_back_once_and_is_parked_after_that(
    broker: SQSBroker, make_delivery: MakeDelivery
) -> None:
    fresh, returned = make_delivery(receive_count=1), make_delivery(receive_count=2)
    broker.outages.begin(DatabaseOutage())

    for delivery in (fresh, returned):
        with pytest.raises(SkipMessage):
            broker.emit_before("process_message", delivery)

    assert fresh.verdict == Nack()
    assert returned.verdict == Park()


def test_a_failure_is_logged_once_with_its_reason_and_only_an_unexpected_one_with_a_stack(
    broker: SQSBroker, make_delivery: MakeDelivery
) -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        _ = 1 / 0

    with capture_logs() as lines:
        broker.emit_after("process_message", make_delivery(), exception=ServiceBusy("throttled"))
        broker.emit_after("process_message", make_delivery(), exception=raised.value)

    expected, unexpected = lines
    assert (expected["event"], expected["reason"], expected["error"]) == (
        "failed, will be tried again",
        "SERVICE_BUSY",
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


def test_a_message_that_must_wait_for_memory_goes_back_once_and_is_parked_after_that(
    broker: SQSBroker, make_delivery: MakeDelivery
) -> None:
    first, second = make_delivery(receive_count=1), make_delivery(receive_count=2)
    turn_has_come = threading.Event()

    for delivery in (first, second):
        broker.emit_after("process_message", delivery, exception=Postponed(until=turn_has_come.is_set))

    assert first.verdict == Nack()
    assert isinstance(second.verdict, Park)
    assert not second.verdict.until()
    turn_has_come.set()
    assert second.verdict.until()


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
    stuck, fresh = make_delivery(visibility_s=1), make_delivery(visibility_s=1)
    broker.in_flight.add([stuck, fresh])
    for delivery, seconds_ago in ((stuck, 3), (fresh, 0)):
        broker.emit_before("process_message", delivery)
        delivery.started -= seconds_ago

    HardLimit(factor=2.0).check(broker)

    assert (stuck.lost, fresh.lost) == (True, False)
    assert due([stuck, fresh], now=stuck.received + 0.9, visibility_s=1) == [fresh]


def test_small_documents_and_those_outside_a_worker_need_no_claim(
    control: AdmissionControl, make_delivery: MakeDelivery
) -> None:
    admit("outside", 1 << 40)
    big, small = make_delivery(), make_delivery()

    control.before_process_message(None, big)  # type: ignore[arg-type]
    admit("big", 2 * SMALL_BYTES)
    control.before_process_message(None, small)  # type: ignore[arg-type]
    admit("small", SMALL_BYTES)
    with pytest.raises(Postponed):
        admit_stream("another big one", 2 * SMALL_BYTES)


def test_a_parked_message_keeps_its_claim_until_it_is_settled(
    control: AdmissionControl, make_delivery: MakeDelivery
) -> None:
    first, second = make_delivery(), make_delivery()
    control.before_process_message(None, first)  # type: ignore[arg-type]
    admit("big", 2 * SMALL_BYTES)
    control.before_process_message(None, second)  # type: ignore[arg-type]
    with pytest.raises(Postponed) as postponed:
        admit("big", 2 * SMALL_BYTES)

    second.verdict = Park(postponed.value.until)
    control.after_process_message(None, second, exception=postponed.value)  # type: ignore[arg-type]
    assert not second.verdict.until()

    first.verdict = Ack()
    control.after_process_message(None, first)  # type: ignore[arg-type]
    assert second.verdict.until()
