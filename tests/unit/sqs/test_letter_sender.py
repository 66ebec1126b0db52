from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import pytest
from dramatiq.middleware import SkipMessage
from structlog.testing import capture_logs

from graphnode.errors import GraphNodeError, InvalidDocument, InvalidEnvelope, classify_error
from graphnode.sqs import heartbeat, letter_sender
from graphnode.sqs.deliveries import Delivery, InFlight, State
from graphnode.sqs.letter_sender import LetterHooks, LetterSender
from graphnode.sqs.liveness import last_signs
from graphnode.sqs.queues import DeadLetterQueue, Queue
from graphnode.sqs.settlement import Settlement
from graphnode.sqs.verdicts import Ack, DeadLetter, Nack, Retry, RetryPolicy
from graphnode.steps import subscribed
from graphnode.telemetry import error_reports
from graphnode.telemetry.stacks import stack_of
from tests.unit.conftest import MakeDelivery
from tests.unit.sqs.conftest import Queues, wait_until

#: The task that each body names.
TASK = {"task_id": "t-1", "task_type": "GRAPH_GENERATION_RESULT"}

DEAD = DeadLetter("INVALID_DOCUMENT", "nodes: got 'a name'", 3, InvalidDocument("nodes: got 'a name'", log="nodes"))


class Told(LetterHooks):
    """Who is told of letters: a middleware, the metrics, Sentry and the log. `told` has who, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.reports: list[dict[str, Any]] = []
        self.lines: list[Any] = []
        self.counted: list[tuple[str, dict[str, str]]] = []
        self.before: Callable[[Delivery], None] = lambda _message: None
        self.after: Callable[[], None] = lambda: None

    def before_dead_letter(self, message: Delivery) -> None:
        self.before(message)

    def after_dead_letter(self, message: Delivery, dead: DeadLetter) -> None:
        self.told.append(f"{message.sqs_id} {dead.reason}")
        self.after()

    def report(self, error: GraphNodeError, **fields: Any) -> None:
        self.reports.append({"error": error, **fields})

    def count(self, event: str, amount: float, labels: dict[str, str]) -> None:
        self.counted.append((event, labels))

    def events(self) -> list[str]:
        """The log's lines."""
        return [line["event"] for line in self.lines]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    made = Told()
    monkeypatch.setattr(error_reports, "report_failure", made.report)
    with subscribed(count=made.count), capture_logs() as made.lines:
        yield made


@pytest.fixture
def sender(sqs: Any, in_flight: InFlight, settle: Settlement, told: Told) -> Iterator[LetterSender]:
    """The sender of the results' dead letters."""
    made = LetterSender(
        sqs,
        queue=Queue(url="https://sqs/results", ids_of_body=lambda _body: (TASK["task_id"], TASK["task_type"])),
        dead_letters=DeadLetterQueue("https://sqs/results-dlq", 1 << 20),
        in_flight=in_flight,
        settlement=settle,
        retry=RetryPolicy(backoff_min_s=7, backoff_max_s=7),
        hooks=[told],
    )
    yield made
    sqs.letters_go_on.set()
    made.close()


@pytest.fixture
def received(in_flight: InFlight, make_delivery: MakeDelivery) -> Callable[..., Delivery]:
    """Receives a message, which a thread has handled."""

    def receive(**changes: Any) -> Delivery:
        delivery = make_delivery(**changes)
        in_flight.add(delivery)
        assert in_flight.take(delivery.queue_url, timeout_s=0) is delivery
        return delivery

    return receive


def close(sender: LetterSender, settle: Settlement) -> None:
    sender.close()
    settle.close()


def test_a_dead_letter_is_sent_byte_for_byte_before_the_original_is_deleted(
    sender: LetterSender, settle: Settlement, sqs: Queues, received: Callable[..., Delivery]
) -> None:
    delivery = received(body='{"taskType":  "X" }\n')

    sender.send(delivery, DEAD)
    close(sender, settle)

    assert sqs.calls == ["letter", "delete 1"]
    assert sqs.deleted == [delivery.receipt_handle]
    ((body, attributes),) = sqs.letters
    assert body == '{"taskType":  "X" }\n'
    said = {name: value["StringValue"] for name, value in attributes.items()}
    assert said.items() >= {**TASK, "reason": "INVALID_DOCUMENT", "error": DEAD.error, "attempt": "3"}.items()


def test_a_dead_letter_keeps_its_messages_group(
    sender: LetterSender, sqs: Queues, received: Callable[..., Delivery]
) -> None:
    sender.send(received(group_id="ada"), DEAD)
    sender.send(received(), DEAD)
    sender.close()

    assert sqs.groups == ["ada", ""]


def test_a_letter_is_told_of_once_sqs_has_taken_it(
    sender: LetterSender, sqs: Queues, told: Told, received: Callable[..., Delivery]
) -> None:
    delivery = received(receive_count=5)
    options = {"log_fields": {**TASK, "user_id": "ada"}}
    message = dramatiq.Message[None]("results", "graph_generation", (), {}, options, message_id="m")
    delivery.begin(message)
    sqs.letters_go_on.clear()

    sender.send(delivery, DEAD)
    wait_until(lambda: sqs.calls == ["letter"])
    assert delivery.state is State.GIVEN_UP
    assert (told.told, told.lines, told.reports, told.counted) == ([], [], [], [])
    sqs.letters_go_on.set()
    sender.close()

    assert told.told == [f"{delivery.sqs_id} INVALID_DOCUMENT"]
    (line,) = told.lines
    assert line == {
        **TASK,
        "event": "dead letter",
        "log_level": "error",
        "user_id": "ada",
        "actor": "graph_generation",
        "attempt": 5,
        "message_id": delivery.sqs_id,
        "reason": "INVALID_DOCUMENT",
        "error": "nodes",
    }
    (report,) = told.reports
    assert (report["error"], report["actor"], report["attempt"]) == (DEAD.cause, "graph_generation", 3)
    assert report["task"].items() >= TASK.items()
    assert ("dead_letter", {"reason": "INVALID_DOCUMENT"}) in told.counted


def test_a_letter_of_an_undecodable_body_is_told_of_with_the_task_that_it_names(
    sender: LetterSender, told: Told, received: Callable[..., Delivery]
) -> None:
    delivery = received()

    sender.send(delivery, DeadLetter("INVALID_ENVELOPE", "…", 1, InvalidEnvelope("no JSON")))
    sender.close()

    (line,) = told.lines
    assert line == {
        **TASK,
        "event": "dead letter",
        "log_level": "error",
        "message_id": delivery.sqs_id,
        "reason": "INVALID_ENVELOPE",
        "error": "no JSON",
    }
    assert told.told == [f"{delivery.sqs_id} INVALID_ENVELOPE"]
    (report,) = told.reports
    assert (report["actor"], report["task"]) == ("results", TASK)


def test_only_a_letter_of_an_unexpected_error_is_told_of_with_its_stack(
    sender: LetterSender, told: Told, received: Callable[..., Delivery]
) -> None:
    try:
        _ = 1 / 0
    except ZeroDivisionError as error:
        unexpected = classify_error(error)

    sender.send(received(), DeadLetter("UNEXPECTED", "…", 8, unexpected))
    sender.close()

    assert "ZeroDivisionError" in told.lines[0]["stack"]


def test_of_refused_letters_nothing_is_told_but_one_line_at_the_beginning_and_one_at_the_end(
    sender: LetterSender, settle: Settlement, sqs: Queues, told: Told, received: Callable[..., Delivery]
) -> None:
    sqs.letters_fail = True
    for _ in range(3):
        sender.send(received(), DEAD)
    wait_until(lambda: told.counted.count(("letter_refused", {})) == 3)
    sqs.letters_fail = False
    for _ in range(2):
        sender.send(received(), DEAD)
    close(sender, settle)

    first = told.lines[0]
    assert (first["log_level"], first["queue"]) == ("error", "results-dlq")
    assert "EndpointConnectionError" in first["error"]
    assert "graphnode doctor" in first["advice"]
    assert told.events() == [
        "dead letter not sent: the message stays on its queue",
        "dead letters are taken again",
        "dead letter",
        "dead letter",
    ]
    assert len(told.told) == len(told.reports) == len(sqs.deleted) == 2
    assert [event for event, _ in told.counted if event != "extended"] == ["letter_refused"] * 3 + ["dead_letter"] * 2


def test_the_message_of_a_refused_letter_goes_back_with_a_back_off(
    sender: LetterSender, settle: Settlement, sqs: Queues, in_flight: InFlight, received: Callable[..., Delivery]
) -> None:
    sqs.letters_fail = True
    delivery = received()

    sender.send(delivery, DEAD)
    close(sender, settle)

    assert sqs.visibility == [(delivery.receipt_handle, 7)]
    assert sqs.deleted == []
    assert delivery not in in_flight


def test_no_letter_is_sent_of_a_message_that_is_another_workers(
    sender: LetterSender,
    settle: Settlement,
    sqs: Queues,
    told: Told,
    in_flight: InFlight,
    received: Callable[..., Delivery],
) -> None:
    delivery = received()
    delivery.lost = True

    sender.send(delivery, DEAD)
    close(sender, settle)

    assert sqs.calls == []
    assert told.told == []
    assert delivery not in in_flight


def test_a_message_whose_letter_was_sent_is_only_deleted(
    sender: LetterSender, settle: Settlement, sqs: Queues, told: Told, received: Callable[..., Delivery]
) -> None:
    def skip(_message: Delivery) -> None:
        raise SkipMessage

    told.before = skip
    delivery = received()

    sender.send(delivery, DEAD)
    close(sender, settle)

    assert sqs.calls == ["delete 1"]
    assert (told.told, told.lines) == ([], [])


def test_its_deletion_is_tried_once_a_delivery(
    sender: LetterSender,
    settle: Settlement,
    sqs: Queues,
    told: Told,
    in_flight: InFlight,
    received: Callable[..., Delivery],
) -> None:
    def skip(_message: Delivery) -> None:
        raise SkipMessage

    told.before = skip
    sqs.failures = [lambda _: {"Failed": [{"Id": "0", "Code": "AccessDenied", "SenderFault": False}]}]
    delivery = received()

    sender.send(delivery, DEAD)

    wait_until(lambda: delivery not in in_flight)
    assert sqs.calls == ["delete 1", "visibility 1"]
    assert sqs.visibility == [(delivery.receipt_handle, 7)]


def test_a_slow_letter_delays_no_deletion_and_its_message_is_kept_alive(
    sender: LetterSender, settle: Settlement, sqs: Queues, received: Callable[..., Delivery]
) -> None:
    sqs.letters_go_on.clear()
    dead, second, handled = received(visibility_s=30), received(visibility_s=30), received()

    sender.send(dead, DEAD)
    sender.send(second, DEAD)
    settle.settle(handled, Ack())

    wait_until(lambda: sqs.deleted == [handled.receipt_handle])
    wait_until(lambda: all(each.is_ours(each.received + 55) for each in (dead, second)))
    assert sqs.letters == []
    assert heartbeat.due([dead], now=dead.received + 55, visibility_s=60) == [dead]


def test_a_fault_in_a_middleware_neither_keeps_the_message_nor_stops_the_letters(
    sender: LetterSender, settle: Settlement, sqs: Queues, told: Told, received: Callable[..., Delivery]
) -> None:
    def fail(*_: object) -> None:
        raise OverflowError

    first, second = received(), received()
    told.after = fail
    sender.send(first, DEAD)
    wait_until(lambda: "fault around a dead letter" in told.events())
    told.before = fail
    sender.send(second, DEAD)
    close(sender, settle)

    assert sqs.deleted == [first.receipt_handle]
    assert sqs.visibility == []
    assert told.events().count("fault around a dead letter") == 2


def test_a_message_has_one_letter_whatever_verdicts_come(
    sender: LetterSender, settle: Settlement, sqs: Queues, received: Callable[..., Delivery]
) -> None:
    sqs.letters_go_on.clear()
    delivery, returned = received(), received()

    sender.send(delivery, DEAD)
    sender.send(delivery, DEAD)
    settle.settle(returned, Retry(40))
    sender.send(returned, DEAD)
    sqs.letters_go_on.set()
    close(sender, settle)

    assert sqs.calls.count("letter") == 1
    assert sqs.deleted == [delivery.receipt_handle]


def test_a_stop_sends_the_waiting_letters(
    sender: LetterSender, settle: Settlement, sqs: Queues, received: Callable[..., Delivery]
) -> None:
    deliveries = [received() for _ in range(4)]
    for delivery in deliveries:
        sender.send(delivery, DEAD)

    close(sender, settle)

    assert len(sqs.letters) == 4
    assert sorted(sqs.deleted) == sorted(delivery.receipt_handle for delivery in deliveries)


def test_a_stop_gives_back_what_it_cannot_send_in_time(
    sender: LetterSender,
    settle: Settlement,
    sqs: Queues,
    received: Callable[..., Delivery],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(letter_sender, "CLOSING_S", 0)
    sqs.letters_go_on.clear()
    sent, waiting = received(), received()
    sender.send(sent, DEAD)
    sender.send(waiting, DEAD)
    wait_until(lambda: sqs.calls == ["letter"])

    closing = threading.Thread(target=close, args=(sender, settle))
    closing.start()
    wait_until(lambda: sender._closes_at < float("inf"))
    sqs.letters_go_on.set()
    closing.join(20)

    assert sqs.deleted == [sent.receipt_handle]
    assert sqs.visibility == [(waiting.receipt_handle, 0)]


def test_a_letter_that_comes_after_the_stop_sends_its_message_back(
    sender: LetterSender, settle: Settlement, sqs: Queues, received: Callable[..., Delivery]
) -> None:
    delivery = received()
    close(sender, settle)

    sender.send(delivery, DEAD)

    assert sqs.calls == ["visibility 1"]
    assert sqs.visibility == [(delivery.receipt_handle, Nack().after_s)]


def test_a_waiting_letter_keeps_no_document_in_memory(
    sender: LetterSender, sqs: Queues, received: Callable[..., Delivery]
) -> None:
    class Document:
        """A document that an actor has decoded."""

    seen: list[weakref.ref[Document]] = []

    def handle() -> None:
        document = Document()
        seen.append(weakref.ref(document))
        raise InvalidDocument("nodes: missing")

    sqs.letters_go_on.clear()
    try:
        handle()
    except InvalidDocument as error:
        dead = DeadLetter("INVALID_DOCUMENT", "nodes: missing", 1, error)
    (document,) = seen
    assert document()

    sender.send(received(), dead)

    assert document() is None
    assert "in handle" in (stack_of(dead.cause) or "")


def test_the_thread_gives_signs_of_life(sender: LetterSender) -> None:
    wait_until(lambda: "letters-results" in last_signs())
    sender.close()

    assert "letters-results" not in last_signs()
