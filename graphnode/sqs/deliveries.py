"""The messages in a process's hands: received from SQS, not yet settled."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum, auto

import dramatiq

from graphnode.sqs.verdicts import Verdict

#: The most messages that one ReceiveMessage call brings, and that one batch call takes (an SQS quota).
BATCH = 10

#: Seconds ahead for which messages are fetched: what the worker threads will take within this time.
LOOKAHEAD_S = 0.2

#: The most messages that wait for a thread, as a multiple of the threads.
MOST_WAITING = 4

#: The most messages in hand that are not held, as a multiple of the threads: the brake when SQS does not delete.
MOST_IN_HAND = 16

#: The most messages that are held, as a multiple of the threads. More would help the small ones behind them, and keep
#: more from the machines that are started to help.
MOST_HELD = 32

#: How many finished messages the handling rate is measured over.
RATE_SAMPLE = 64


class State(Enum):
    """Where a message in hand is."""

    WAITING = auto()
    RUNNING = auto()
    HELD = auto()
    """Waiting for the end of an outage, or for room for its documents."""
    DELETING = auto()
    """Handled; kept alive until SQS has deleted it."""
    SETTLING = auto()
    """On its way back: no longer kept alive."""


#: The states in which a message has a thread, or will take the next that is free.
TAKES_A_THREAD = frozenset({State.WAITING, State.RUNNING, State.HELD})


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
      attributes: the message attributes that were asked for, and that it has.
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
        self.was_held = False
        self.extending = False
        self.started = 0.0
        self.thread_id: int | None = None
        self.attributes = attributes or {}
        self.trace_id: str | None = None

    def is_ours(self, now: float) -> bool:
        """Whether SQS still hides it from everybody else."""
        return not self.lost and now < self.invisible_until


class InHand:
    """All messages of a process, for the heartbeat, the pollers and the stop. Thread-safe.

    Parameters:
      threads: the worker threads that take messages.
    """

    def __init__(self, *, threads: int) -> None:
        self.threads = threads
        #: Notified at every change; pollers wait on it for room.
        self.changed = threading.Condition()
        self._deliveries: dict[int, Delivery] = {}
        self._finished: deque[float] = deque(maxlen=RATE_SAMPLE)

    def __len__(self) -> int:
        return len(self._deliveries)

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Messages were received."""
        with self.changed:
            for delivery in deliveries:
                self._deliveries[id(delivery)] = delivery

    def move(self, delivery: Delivery, state: State) -> None:
        """A message changed its state."""
        with self.changed:
            if delivery.state is State.RUNNING and state is not State.RUNNING:
                self._finished.append(time.monotonic())
            delivery.state = state
            self.changed.notify_all()

    def remove(self, delivery: Delivery) -> None:
        """A message is settled, or given up."""
        with self.changed:
            self._deliveries.pop(id(delivery), None)
            self.changed.notify_all()

    def __contains__(self, delivery: Delivery) -> bool:
        return id(delivery) in self._deliveries

    def snapshot(self) -> list[Delivery]:
        """All of them, as they are now."""
        with self.changed:
            return list(self._deliveries.values())

    def has_waiting(self, queue_url: str) -> bool:
        """Whether a message of this queue waits for a thread. Call it with `changed` held."""
        return State.WAITING in self._states(queue_url)

    def room(self, queue_url: str, *, thread_share: float) -> int:
        """How many more messages of a queue the worker threads will take soon. Call it with `changed` held.

        Parameters:
          thread_share: the most of the threads that the queue's messages may take, from 0 to 1.
        """
        states = [delivery.state for delivery in self._deliveries.values()]
        found = room(
            threads=self.threads,
            running=states.count(State.RUNNING),
            # A backlog of other queues' fast messages is no reason not to poll a queue that has its bounds anyway.
            waiting=states.count(State.WAITING) if thread_share >= 1 else 0,
            in_hand=len(states) - states.count(State.HELD),
            held=states.count(State.HELD),
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


def room(*, threads: int, running: int, waiting: int, in_hand: int, held: int, handled_per_s: float) -> int:
    """How many more messages to fetch: those that idle threads take now, and those that will be done with soon.

    Fast messages are fetched ahead, so that threads never wait for SQS; slow ones are not, so that no message waits
    here while another machine is idle.
    """
    if held >= MOST_HELD * threads:
        return 0
    soon = threads - running + int(handled_per_s * LOOKAHEAD_S)
    return max(0, min(min(soon, MOST_WAITING * threads) - waiting, MOST_IN_HAND * threads - in_hand))


def room_in_share(*, threads: int, share: float, taken: int) -> int:
    """How many more messages of a queue with a share of the threads may be in hand; no bound for one that has them all.

    They are not fetched ahead: in the threads' common buffer they would take more than their share.
    """
    if share >= 1:
        return MOST_IN_HAND * threads
    return max(0, max(1, int(share * threads)) - taken)


def batch_to_ask_for(room: int, *, waiting: bool) -> int:
    """How many messages the next poll asks for: a full batch, or what there is room for once none of its queue waits.

    0 means that no poll is due. Room is below 0 when less is left than another poll has asked for.
    """
    if room >= BATCH:
        return BATCH
    return 0 if waiting else max(0, room)
