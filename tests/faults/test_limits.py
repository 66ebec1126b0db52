from __future__ import annotations

import threading
import time

import dramatiq
import pytest
from dramatiq.middleware import TimeLimitExceeded
from dramatiq_sqs.exceptions import MessageDelayTooLong, MessageTooLarge
from structlog.testing import capture_logs

from benchmarks.sqs_stub import StubServer
from graphnode.broker import SQSBroker
from graphnode.clients.aws import Aws
from graphnode.errors import SettingsError
from graphnode.sqs.circuit_breaker import CircuitBreaker
from graphnode.sqs.queues import Options, Queue
from graphnode.sqs.verdicts import RetryPolicy
from tests.faults.conftest import StartWorker, wait_until


@pytest.fixture
def own_messages(stub: StubServer) -> SQSBroker:
    """A broker with a queue of Dramatiq's own messages and a queue of another system's messages."""
    queues = {
        "own": Queue(url=stub.queue_url("own")),
        "foreign": Queue(url=stub.queue_url("foreign"), decode=lambda *_, **__: None),  # type: ignore[arg-type]
    }
    return SQSBroker(
        lambda: Options(queues=queues, aws=Aws(region="eu", endpoint_url=stub.url)),
        breaker=CircuitBreaker({}),
        middleware=[],
    )


def message(queue: str, *arguments: str) -> dramatiq.Message[None]:
    return dramatiq.Message(queue_name=queue, actor_name="handle", args=arguments, kwargs={}, options={})


def test_an_enqueued_message_is_on_its_queue(own_messages: SQSBroker, stub: StubServer) -> None:
    own_messages.enqueue(message("own", "hello"), delay=5000)

    assert len(stub.messages("own")) == 1


def test_a_delay_over_the_limit_of_sqs_is_refused(own_messages: SQSBroker, stub: StubServer) -> None:
    with pytest.raises(MessageDelayTooLong, match=r"901 s is over SQS's limit of 900 s \(15 minutes\)"):
        own_messages.enqueue(message("own"), delay=901_000)

    assert stub.messages("own") == []


def test_a_message_over_the_limit_of_sqs_is_refused(own_messages: SQSBroker, stub: StubServer) -> None:
    with pytest.raises(MessageTooLarge, match="over SQS's limit of 1 MiB"):
        own_messages.enqueue(message("own", "x" * 1024 * 1024))

    assert stub.messages("own") == []


def test_no_message_can_be_enqueued_on_another_systems_queue(own_messages: SQSBroker) -> None:
    with pytest.raises(ValueError, match="carries another system's messages"):
        own_messages.enqueue(message("foreign"))


def test_a_native_redrive_that_comes_too_early_is_logged_with_both_counts(start: StartWorker, stub: StubServer) -> None:
    with capture_logs() as lines:
        start(lambda _body: None, retry=RetryPolicy(max_attempts=20))

    (warning,) = (line for line in lines if line["event"].startswith("native redrive comes too early"))
    assert (warning["max_receive_count"], warning["max_attempts"]) == (50, 20)
    assert warning["advice"] == "set maxReceiveCount to 60 or more"


@pytest.mark.parametrize(
    ("target", "said"),
    [("own", r"/own is its own dead-letter queue: .* aws sqs"), ("dead.fifo", r"is a FIFO queue, arn:.*:dead\.fifo: ")],
)
def test_a_queue_whose_dead_letters_would_be_lost_is_refused(
    own_messages: SQSBroker, stub: StubServer, target: str, said: str
) -> None:
    stub.order(dead_letters={"own": target})
    own_messages.declare_queue("own")

    with pytest.raises(SettingsError, match=said):
        own_messages.connect(threads=1)


def test_an_actor_over_its_time_limit_is_interrupted_and_tried_again(start: StartWorker, stub: StubServer) -> None:
    attempts: list[str] = []

    def handle(body: str) -> None:
        attempts.append(body)
        while len(attempts) == 1:
            time.sleep(0.01)

    # Both limits are checked once a second. The hard limit, twice this one, must come after the interruption.
    worker = start(handle, time_limit=2000)
    stub.fill(worker.queue, ["endless"])

    wait_until(lambda: len(attempts) == 2 and not stub.messages(worker.queue), "the second attempt")


def test_an_actor_that_ignores_its_time_limit_is_logged_with_its_stack_and_its_message_goes_to_another_worker(
    start: StartWorker, stub: StubServer
) -> None:
    attempts: list[str] = []
    done = threading.Event()

    def swallow_the_interruption() -> None:
        while not done.is_set():
            try:
                done.wait(0.01)
            except TimeLimitExceeded:
                attempts.append("interruption ignored")

    def handle(body: str) -> None:
        attempts.append(body)
        if attempts == ["stuck"]:
            swallow_the_interruption()

    first = start(handle, threads=1, time_limit=500, visibility_s=2)
    with capture_logs() as lines:
        stub.fill(first.queue, ["stuck"])
        wait_until(lambda: any("ignores its time limit" in line["event"] for line in lines), "the log line")
        start(handle, threads=1, visibility_s=2)
        wait_until(lambda: len(attempts) == 3 and not stub.messages(first.queue), "the other worker")
    done.set()

    assert attempts == ["stuck", "interruption ignored", "stuck"]
    (report,) = (line for line in lines if "ignores its time limit" in line["event"])
    assert "swallow_the_interruption" in report["stack"]
