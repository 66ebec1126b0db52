"""The messages in flight: received from SQS by this process, and not settled yet."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum

import dramatiq

from graphnode.sqs.queues import BATCH_ENTRIES
from graphnode.sqs.verdicts import Verdict

#: Messages are fetched ahead for this many seconds of the worker threads' work.
LOOKAHEAD_S = 0.2

#: The most messages that wait for a thread, as a multiple of the threads.
MOST_WAITING = 4

#: The most messages in flight that are not parked, as a multiple of the threads. It binds while SQS fails to delete.
MOST_IN_FLIGHT = 16

#: The most parked messages, as a multiple of the threads. More would let more small messages pass them, and withhold
#: more messages from other machines.
MOST_PARKED = 32

#: The handling rate is measured over this many finished messages.
RATE_SAMPLE = 64


class State(Enum):
    """Where a message in flight is. The values are the metrics' labels."""

    WAITING = "waiting"
    """For a thread."""
    RUNNING = "running"
    PARKED = "held"
    """It waits without a thread for the end of an outage, or for memory for its documents."""
    DELETING = "deleting"
    """Handled, and kept alive until SQS has deleted it."""
    SETTLING = "settling"
    """On its way back to the queue, and no longer kept alive."""


#: The states of a message that has a thread or will take the next free one.
TAKES_A_THREAD = frozenset({State.WAITING, State.RUNNING, State.PARKED})


class Delivery(dramatiq.MessageProxy):
    """One delivery of one message: Dramatiq's message, and what SQS said of it.

    Parameters:
      message: the decoded message.
      queue_url: the SQS queue it came from.
      body: the SQS message's body, as received.
      receipt_handle: what settles this delivery.
      receive_count: SQS's ApproximateReceiveCount: the attempt.
      sent_at: SQS's SentTimestamp.
      visibility_s: seconds it stays invisible to others, from now.
      attributes: those of its message attributes that the poll asked for.
    """

    def __init__(
        self,
        message: dramatiq.Message[None],
        *,
        queue_url: str,
        body: str,
        receipt_handle: str,
        receive_count: int,
        sent_at: datetime,
        visibility_s: float,
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.queue_url = queue_url
        self.body = body
        self.receipt_handle = receipt_handle
        self.receive_count = receive_count
        self.sent_at = sent_at
        self.received = time.monotonic()
        self.invisible_until = self.received + visibility_s
        self.state = State.WAITING
        self.verdict: Verdict | None = None
        self.lost = False
        self.was_parked = False
        self.extending = False
        self.started = 0.0
        self.thread_id: int | None = None
        self.attributes = attributes or {}
        self.trace_id: str | None = None

    def is_ours(self, now: float) -> bool:
        """Whether SQS still hides it from other workers."""
        return not self.lost and now < self.invisible_until


class InFlight:
    """All messages of a process that are in flight. Thread-safe.

    Parameters:
      threads: the worker threads that take messages.
    """

    def __init__(self, *, threads: int) -> None:
        self.threads = threads
        #: Notified at every change. Pollers wait on it for room.
        self.changed = threading.Condition()
        self._deliveries: dict[int, Delivery] = {}
        self._finished: deque[float] = deque(maxlen=RATE_SAMPLE)

    def __len__(self) -> int:
        return len(self._deliveries)

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Add received messages."""
        with self.changed:
            for delivery in deliveries:
                self._deliveries[id(delivery)] = delivery

    def move(self, delivery: Delivery, state: State) -> None:
        """Give a message another state."""
        with self.changed:
            if delivery.state is State.RUNNING and state is not State.RUNNING:
                self._finished.append(time.monotonic())
            delivery.state = state
            self.changed.notify_all()

    def remove(self, delivery: Delivery) -> None:
        """Forget a message that is settled or abandoned."""
        with self.changed:
            self._deliveries.pop(id(delivery), None)
            self.changed.notify_all()

    def __contains__(self, delivery: Delivery) -> bool:
        return id(delivery) in self._deliveries

    def snapshot(self) -> list[Delivery]:
        """The messages in flight now."""
        with self.changed:
            return list(self._deliveries.values())

    def has_waiting(self, queue_url: str) -> bool:
        """Whether a message of this queue waits for a thread. The caller holds `changed`."""
        return State.WAITING in self._states(queue_url)

    def room(self, queue_url: str, *, thread_share: float) -> int:
        """How many more messages of a queue to fetch. The caller holds `changed`.

        Parameters:
          thread_share: the largest share of the threads that the queue's messages may take, from 0 to 1.
        """
        states = [delivery.state for delivery in self._deliveries.values()]
        found = room(
            threads=self.threads,
            running=states.count(State.RUNNING),
            # A queue with a share has its own bound: a backlog of another queue does not stop its polls.
            waiting=states.count(State.WAITING) if thread_share >= 1 else 0,
            in_flight=len(states) - states.count(State.PARKED),
            parked=states.count(State.PARKED),
            handled_per_s=self._rate(),
        )
        taken = sum(state in TAKES_A_THREAD for state in self._states(queue_url))
        return min(found, room_in_share(threads=self.threads, share=thread_share, taken=taken))

    def _states(self, queue_url: str) -> list[State]:
        return [delivery.state for delivery in self._deliveries.values() if delivery.queue_url == queue_url]

    def _rate(self) -> float:
        if len(self._finished) < 2:
            return 0.0
        return len(self._finished) / max(time.monotonic() - self._finished[0], 1e-6)


def room(*, threads: int, running: int, waiting: int, in_flight: int, parked: int, handled_per_s: float) -> int:
    """How many more messages to fetch: one for each idle thread, and those that the threads will finish soon.

    Fast messages are fetched ahead, so that threads never wait for SQS. Slow ones are not: a message must not wait here
    while another machine is idle.
    """
    if parked >= MOST_PARKED * threads:
        return 0
    soon = threads - running + int(handled_per_s * LOOKAHEAD_S)
    return max(0, min(min(soon, MOST_WAITING * threads) - waiting, MOST_IN_FLIGHT * threads - in_flight))


def room_in_share(*, threads: int, share: float, taken: int) -> int:
    """How many more messages of a queue with a share of the threads may be in flight. A full share is no bound.

    They are not fetched ahead: in the threads' common buffer they would take more than their share.
    """
    if share >= 1:
        return MOST_IN_FLIGHT * threads
    return max(0, max(1, int(share * threads)) - taken)


def batch_to_ask_for(room: int, *, waiting: bool) -> int:
    """How many messages the next poll asks for; 0 when no poll is due.

    Parameters:
      room: how many more messages may be fetched. It is below 0 when another poll has asked for more than is left.
      waiting: whether a message of the queue waits for a thread. Then only a full batch is worth a poll.
    """
    if room >= BATCH_ENTRIES:
        return BATCH_ENTRIES
    return 0 if waiting else max(0, room)
