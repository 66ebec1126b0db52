"""Receives one queue's messages, hands them to Dramatiq's worker, and settles them."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dramatiq
import structlog

from graphnode.clients.aws import CallLimits
from graphnode.clients.credentials import is_refusal
from graphnode.errors import GraphNodeError, PermanentError, classify_error
from graphnode.sqs import dramatiq_messages
from graphnode.sqs.circuit_breaker import Breaker, CircuitBreaker
from graphnode.sqs.deliveries import UNSTARTED, Delivery, InFlight
from graphnode.sqs.letter_sender import LetterHooks, LetterSender
from graphnode.sqs.liveness import report_alive, report_end
from graphnode.sqs.poll_failures import PollFailures
from graphnode.sqs.queues import BATCH_ENTRIES, DeadLetterQueue, Options
from graphnode.sqs.settlement import STUCK_AFTER_S, Settlement
from graphnode.sqs.verdicts import Abandon, Ack, DeadLetter, Nack, Park, Retry, Verdict
from graphnode.steps import count_event, step
from graphnode.telemetry import error_reports

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

#: Seconds that a poll may take beyond its wait before it is given up.
POLL_MARGIN_S = 10

#: Pollers of a queue. The second one polls only while the queue returns full batches.
POLLERS = 2

#: The longest that a waiting thread does not notice a stop, in seconds.
ATTENTION_S = 0.25

#: Seconds that a stop takes after its last poll. They are part of the poll grace.
TEARDOWN_S = 0.15

#: Seconds that a poll waits for a message that may try whether an outage is over. If none comes, none is waiting.
TRIAL_POLL_S = 1

#: Seconds between two looks for messages that wait here in vain.
LOOK_S = 0.5

#: Back-off in seconds of a message without a verdict: a fault in a middleware must not delete it.
UNDECIDED_BACKOFF_S = 60

#: Seconds for which a message that waits for memory goes back at most when too many are in flight.
CROWDED_BACKOFF_S = 60

#: How many visibility timeouts an arrival counts as lately: what a worker had when it died is back after two.
LATELY_TIMEOUTS = 3

log = structlog.get_logger("graphnode.broker")


class Stop:
    """Whether the process is stopping. Safe in a signal handler: it takes no lock.

    Parameters:
      requested: whether a stop has begun; no poll starts any more.
      began: when, in monotonic seconds.
    """

    def __init__(self) -> None:
        self.requested = False
        self.began = float("inf")

    def request(self) -> None:
        """Begin the stop, unless it has begun."""
        if not self.requested:
            self.began = time.monotonic()
            self.requested = True


class SQSConsumer(dramatiq.Consumer):
    """Consumes one queue.

    Parameters:
      queue_name: the Dramatiq queue.
      options: how SQS is used.
      dead_letters: where the queue's dead letters go.
      actors: the broker's actors, by name.
      client: an SQS client for the dead letters.
      settling: one that tries each call once, for the settlement.
      in_flight: the process's messages.
      breaker: the process's circuit breaker.
      stop: whether the process is stopping.
      letter_hooks: what takes part in the sending of dead letters.
      timeout_s: seconds that `next` waits for a message.
    """

    def __init__(
        self,
        queue_name: str,
        *,
        options: Options,
        dead_letters: DeadLetterQueue,
        actors: Mapping[str, dramatiq.Actor[Any, Any]],
        client: SQSClient,
        settling: SQSClient,
        in_flight: InFlight,
        breaker: CircuitBreaker,
        stop: Stop,
        letter_hooks: Sequence[LetterHooks],
        timeout_s: float,
    ) -> None:
        self.queue_name = queue_name
        self.queue = options.queues[queue_name]
        self.options = options
        self.actors = actors
        self.in_flight = in_flight
        self.breaker = breaker
        self.stop = stop
        self.timeout_s = timeout_s
        self.closed = False
        self._undecoded = dramatiq.Message[None](
            queue_name=queue_name, actor_name="", args=(), kwargs={}, options={}, message_id=""
        )
        self._backlog = threading.Event()
        self._next_look = time.monotonic() + LOOK_S
        # A poller may be silent for a poll, and then for the calls that settle what the poll brought.
        self._longest_silence_s = options.poll_wait_s + STUCK_AFTER_S
        # One attempt: SQS may have given messages to a failed poll, and another attempt would not bring them.
        self._polling = options.aws.sqs(CallLimits(read_timeout_s=options.poll_wait_s + POLL_MARGIN_S, attempts=1))
        in_flight.open(
            self.queue.url,
            thread_share=self.queue.thread_share,
            lately_s=LATELY_TIMEOUTS * options.visibility_s + options.poll_wait_s,
        )
        self.settlement = Settlement(
            settling, queue_url=self.queue.url, in_flight=in_flight, visibility_s=options.visibility_s
        )
        self.letters = LetterSender(
            client,
            queue=self.queue,
            dead_letters=dead_letters,
            in_flight=in_flight,
            settlement=self.settlement,
            retry=options.retry,
            hooks=letter_hooks,
        )
        self._pollers = [
            threading.Thread(target=self._poll, args=(index > 0,), name=f"poller-{queue_name}-{index}", daemon=True)
            for index in range(POLLERS)
        ]
        for poller in self._pollers:
            poller.start()

    def __next__(self) -> Delivery | None:
        """The next message, decoded, once a thread is idle; None after the timeout, or while the breaker is open."""
        if time.monotonic() >= self._next_look:
            self.requeue(self.in_flight.impatient(self.queue.url, paused=not self.breaker.is_closed))
            self._next_look = time.monotonic() + LOOK_S
        if not self.breaker.is_closed and not self.in_flight.has_work(self.queue.url, timeout_s=self.timeout_s):
            # A queue without a message must not keep another queue's from trying.
            return None
        if not self.breaker.may_start(self.timeout_s):
            return None
        delivery = self.in_flight.take(self.queue.url, timeout_s=self.timeout_s)
        if delivery and self._may_start(delivery):
            return delivery
        self.breaker.end_trial()
        return None

    def ack(self, message: dramatiq.MessageProxy) -> None:
        """Settle a message by its verdict. Without a verdict it is not deleted."""
        assert isinstance(message, Delivery)  # noqa: S101
        verdict = message.verdict or Retry(UNDECIDED_BACKOFF_S)
        if isinstance(verdict, Park) and self.stop.requested:
            verdict = Nack()
        if message.lost and not isinstance(verdict, Ack):
            # Another worker has it by now. Only a deletion can still help.
            verdict = Abandon()
        if isinstance(verdict, Park) and math.isinf(verdict.after_s) and self.in_flight.is_crowded:
            # So many that wait for memory would keep the others from being received.
            verdict = Nack(round(random.uniform(0.5, 1) * CROWDED_BACKOFF_S))  # noqa: S311
        if isinstance(verdict, Park):
            self.in_flight.park(message, verdict.after_s)
            if self.stop.requested:
                # The stop has given back what was parked, and may have missed this one.
                self.requeue([message])
        else:
            with step("acknowledge"):
                self._settle(message, verdict)

    #: Dramatiq distinguishes success and failure; the verdict says more.
    nack = ack

    def requeue(self, messages: Iterable[dramatiq.MessageProxy]) -> None:
        """Give unstarted messages back to the queue, to be delivered again at once."""
        for message in messages:
            assert isinstance(message, Delivery)  # noqa: S101
            self.settlement.settle(message, Nack())

    def release_unstarted(self) -> None:
        """Give back all messages that no thread works on."""
        self.requeue(each for each in self.in_flight.snapshot(self.queue.url) if each.state in UNSTARTED)

    def close(self) -> None:
        """Wait for the polls in progress during the poll grace, give back what they bring, and settle everything."""
        if self.closed:
            return
        self.closed = True
        grace_s = max(0.0, self.options.poll_grace_s - TEARDOWN_S)
        deadline = min(self.stop.began, time.monotonic()) + grace_s
        for poller in self._pollers:
            poller.join(max(0.0, deadline - time.monotonic()))
            if poller.is_alive():
                log.info("poll left behind: what SQS gave it returns with its visibility", queue=self.queue_name)
        self.release_unstarted()
        self.letters.close()
        self.settlement.close()

    def _may_start(self, delivery: Delivery) -> bool:
        """Decode a message for its thread. If it cannot start, it is settled or waits on."""
        if not delivery.is_ours(time.monotonic()):
            log.warning("not started: its visibility ran out, SQS delivers it again", message_id=delivery.sqs_id)
            self.settlement.settle(delivery, Abandon())
        elif self._is_ending():
            self.settlement.settle(delivery, Nack())
        elif self.breaker.state is Breaker.OPEN:
            self.in_flight.park(delivery, 0.0)
        else:
            return self._is_decoded(delivery)
        return False

    def _settle(self, delivery: Delivery, verdict: Verdict) -> None:
        if isinstance(verdict, DeadLetter):
            self.letters.send(delivery, verdict)
        else:
            self.settlement.settle(delivery, verdict)

    def _is_ending(self) -> bool:
        return self.closed or self.stop.requested

    def _poll(self, extra: bool) -> None:
        failures = PollFailures(self.queue_name)
        while wanted := self._wait_for_room(extra=extra):
            try:
                messages = self._receive(wanted)
            except Exception as error:
                self._pause(failures.backoff_after(error))
                if is_refusal(error):
                    self.options.aws.renew_credentials()
                continue
            finally:
                self.in_flight.answered(self.queue.url, wanted)
            failures.end()
            if not messages and not self.breaker.is_closed and not self._has_unstarted():
                self.breaker.find_none(self.queue_name, queues=len(self.options.queues))
            if len(messages) == BATCH_ENTRIES:
                self._backlog.set()
            else:
                self._backlog.clear()
        report_end()

    def _has_unstarted(self) -> bool:
        """Whether a message of any queue waits here for its start."""
        return any(each.state in UNSTARTED for each in self.in_flight.snapshot())

    def _receive(self, wanted: int) -> list[MessageTypeDef]:
        """Poll once, and accept the messages that come."""
        with step("receive"):
            answer = self._polling.receive_message(
                QueueUrl=self.queue.url,
                MaxNumberOfMessages=wanted,
                WaitTimeSeconds=self.options.poll_wait_s if self.breaker.is_closed else TRIAL_POLL_S,
                VisibilityTimeout=self.options.visibility_s,
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp", "MessageGroupId"],
                MessageAttributeNames=self.options.message_attributes,
            )
            messages = answer.get("Messages", [])
            count_event("received", len(messages), queue=self.queue_name)
            self.in_flight.note_poll(self.queue.url)
        for message in messages:
            try:
                self._accept(message)
            except Exception as error:
                # One odd entry must not cost the others. It returns with its visibility.
                log.error("received, but not understood", queue=self.queue_name, exc_info=error)
        return messages

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._is_ending() and (left := deadline - time.monotonic()) > 0:
            report_alive(within_s=self._longest_silence_s)
            time.sleep(min(left, ATTENTION_S))

    def _wait_for_room(self, *, extra: bool) -> int:
        """Wait until a poll is due; how many messages it asks for. 0 at the end."""
        while not self._is_ending():
            report_alive(within_s=self._longest_silence_s)
            if extra and not self._backlog.wait(ATTENTION_S):
                continue
            if not self.breaker.may_poll(self.queue_name, ATTENTION_S):
                continue
            if wanted := self.in_flight.ask(
                self.queue.url, timeout_s=ATTENTION_S, for_trial=not self.breaker.is_closed
            ):
                if not self._is_ending():
                    return wanted
                # The stop began during the wait, and frees threads.
                self.in_flight.answered(self.queue.url, wanted)
        return 0

    def _accept(self, message: MessageTypeDef) -> None:
        """Put a received message into its lane, or give it back for as long as it would wait there."""
        attributes = message.get("Attributes", {})
        delivery = Delivery(
            self._undecoded,
            queue_url=self.queue.url,
            body=message["Body"],
            sqs_id=message["MessageId"],
            receipt_handle=message["ReceiptHandle"],
            receive_count=int(attributes.get("ApproximateReceiveCount", 1)),
            sent_at=datetime.fromtimestamp(int(attributes.get("SentTimestamp", time.time() * 1000)) / 1000, UTC),
            visibility_s=self.options.visibility_s,
            lane=self.queue.lane_of_body(message["Body"]),
            group_id=attributes.get("MessageGroupId"),
            attributes={
                name: found.get("StringValue", "") for name, found in message.get("MessageAttributes", {}).items()
            },
        )
        wait_s = self.in_flight.add(delivery, paused=self.breaker.state is Breaker.OPEN)
        if self._is_ending() and delivery.state in UNSTARTED:
            self.settlement.settle(delivery, Nack())
        elif wait_s is not None:
            if wait_s:
                count_event("deferred", queue=self.queue_name)
            log.debug("back to the queue unstarted", message_id=delivery.sqs_id, seconds=wait_s)
            self.settlement.settle(delivery, Nack(wait_s))

    def _is_decoded(self, delivery: Delivery) -> bool:
        """Decode a message for its actor. If that fails, the message is settled."""
        try:
            with step("envelope"):
                delivery.begin(self._decode(delivery))
        except Exception as error:
            self._settle(delivery, self._undecodable(delivery, classify_error(error)))
            return False
        return True

    def _decode(self, delivery: Delivery) -> dramatiq.Message[None]:
        """Decode a body into a message for an actor of this queue. Raises PermanentError."""
        if self.queue.decode:
            return self.queue.decode(
                delivery.body,
                message_id=delivery.sqs_id,
                sent_at=delivery.sent_at,
                receive_count=delivery.receive_count,
            )
        return dramatiq_messages.decode(delivery.body, queue_name=self.queue_name, actors=self.actors)

    def _undecodable(self, delivery: Delivery, error: GraphNodeError) -> DeadLetter | Retry:
        """The verdict on a message whose body cannot be decoded."""
        if isinstance(error, PermanentError):
            return DeadLetter(error.reason, str(error), delivery.receive_count, error)
        # A fault in a decoder must not stop the consumer: it costs its own message a back-off.
        task = self.queue.task_of_body(delivery.body)
        fields = {**task, "message_id": delivery.sqs_id, "reason": error.reason, "error": error.log_text}
        log.error("failed to decode, will be tried again", **fields, exc_info=error)
        error_reports.report_failure(error, actor=self.queue_name, attempt=delivery.receive_count, task=task)
        count_event("retried", reason=error.reason)
        return Retry(UNDECIDED_BACKOFF_S)
