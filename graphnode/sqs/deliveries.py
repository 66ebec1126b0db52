"""The messages in flight: received from SQS by this process, and not settled yet. A message waits nowhere else."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any

import dramatiq

from graphnode.sqs.arrivals import UNKNOWN, Arrivals
from graphnode.sqs.lanes import Lane
from graphnode.sqs.queues import BATCH_ENTRIES
from graphnode.sqs.verdicts import Verdict

#: Messages of a queue that are fetched ahead of the threads: two polls' worth, so that threads never wait for SQS. None
#: while no thread gets on: they would wait here in vain.
FETCHED_AHEAD = 2 * BATCH_ENTRIES

#: Seconds after which a first delivery that no thread takes goes back: another machine may have a thread for it.
PATIENCE_S = 2.0

#: Seconds after which a message that an outage has stopped goes back: the outage may be this machine's alone.
PATIENCE_IN_OUTAGE_S = 180.0

#: Seconds without fetching ahead, after messages that were fetched ahead have waited in vain.
SLOW_S = 30.0

#: Up to this receive count, a message tells how old others may be that wait. One that comes again and again does not.
MOST_TELLING_RECEIVES = 3

#: Up to this receive count, a message of a poll that began too early goes back at once.
MOST_LATE_RECEIVES = 3

#: The most messages in flight, and their most bytes.
MOST_IN_FLIGHT = 2000
MOST_BYTES = 24 << 20

#: The share of both that messages behind another one of their lane may take. The rest is for other lanes.
SHARE_OF_LANES = 0.5


class State(Enum):
    """Where a message in flight is. The values are the metrics' labels."""

    WAITING = "waiting"
    """For a thread, or behind another message of its lane."""
    RUNNING = "running"
    PARKED = "held"
    """It waits without a thread until nothing is in its way: an outage, a lock, or memory for its documents."""
    GIVEN_UP = "given_up"
    """Its dead letter waits to be sent. It is kept alive until then."""
    DELETING = "deleting"
    """Handled, and kept alive until SQS has deleted it."""
    SETTLING = "settling"
    """On its way back to the queue, and no longer kept alive."""


#: The states of a message that no thread works on or has worked on to the end.
UNSTARTED = frozenset({State.WAITING, State.PARKED})


class Delivery(dramatiq.MessageProxy):
    """One delivery of one message. It is decoded only while a thread works on it: decoded, it takes far more memory.

    Parameters:
      undecoded: stands for the Dramatiq message until `begin`.
      queue_url: the SQS queue it came from.
      body: the SQS message's body, as received.
      sqs_id: SQS's MessageId.
      receipt_handle: what settles this delivery.
      receive_count: SQS's ApproximateReceiveCount.
      sent_at: SQS's SentTimestamp.
      visibility_s: seconds it stays invisible to others, from now.
      lane: the key of its lane; None: it shares nothing with other messages.
      group_id: SQS's MessageGroupId, if the sender set one.
      attributes: those of its message attributes that the poll asked for.
    """

    def __init__(
        self,
        undecoded: dramatiq.Message[None],
        *,
        queue_url: str,
        body: str,
        sqs_id: str,
        receipt_handle: str,
        receive_count: int,
        sent_at: datetime,
        visibility_s: float,
        lane: str | None = None,
        group_id: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(undecoded)
        self._undecoded = undecoded
        self.queue_url = queue_url
        self.body = body
        self.sqs_id = sqs_id
        self.receipt_handle = receipt_handle
        self.receive_count = receive_count
        self.sent_at = sent_at
        self.received = time.monotonic()
        self.invisible_until = self.received + visibility_s
        self.lane_key = lane
        self.group_id = group_id
        self.attributes = attributes or {}
        self.trace_id: str | None = None
        self.state = State.WAITING
        self.verdict: Verdict | None = None
        self.lost = False
        #: When it was first and last handed to a thread; 0: never.
        self.started = 0.0
        self.thread_id: int | None = None
        #: Seconds that its actor may run.
        self.time_limit_s = math.inf
        #: Since when it waits for nothing but a thread.
        self.ready_since = math.inf
        self.parked_since = math.inf
        #: How often it was parked in a row, and whether because a service failed.
        self.parks = 0
        self.met_outage = False
        #: When a service last failed it, and how often others have succeeded between two such failures.
        self.faulted_at = -math.inf
        self.suspicion = 0
        #: Whether it is parked until `InFlight.resume`, and whether that has come before it was parked.
        self.awaits_resume = False
        self.resumed = False

    # Two deliveries are never the same one, whatever their messages are.
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def is_ours(self, now: float) -> bool:
        """Whether SQS still hides it from other workers."""
        return not self.lost and now < self.invisible_until

    @property
    def is_decoded(self) -> bool:
        """Whether it has its message, and not only a body."""
        return self._message is not self._undecoded

    @property
    def log_fields(self) -> dict[str, Any]:
        """Fields of its log lines, once it is decoded: task, user, actor, attempt, trace."""
        fields = self.options.get("log_fields")
        if fields is None:
            # A message of ours. Only IDs: others who can write to its queue may put anything into other arguments.
            fields = {name: value for name, value in self.kwargs.items() if name.endswith("_id")}
        trace = {"trace_id": self.trace_id} if self.trace_id else {}
        return {**fields, "actor": self.actor_name, "attempt": self.receive_count, **trace}

    def begin(self, message: dramatiq.Message[None]) -> None:
        """Take the decoded message, for the thread that works on it."""
        self._message = message

    def reset(self) -> None:
        """Be as before the start: undecoded and without a verdict."""
        self._message = self._undecoded
        self.verdict, self.failed, self.thread_id = None, False, None


def goes_back(delivery: Delivery, now: float, *, paused: bool) -> bool:
    """Whether a message that no thread works on goes back to its queue, where another machine may take it.

    Once: each further round would use up a receive. One behind a message of its own lane is blocked everywhere.

    Parameters:
      paused: whether nothing is started, because of an outage.
    """
    if delivery.met_outage:
        return paused and delivery.receive_count <= 2 and now - delivery.parked_since > PATIENCE_IN_OUTAGE_S
    if delivery.receive_count > 1:
        return False
    if delivery.awaits_resume:
        return now - delivery.parked_since > PATIENCE_S
    return now - (delivery.received if paused else delivery.ready_since) > PATIENCE_S


class _Line:
    """A queue's lanes: those with a message that waits for a thread alone, in order, and those that are parked."""

    def __init__(self, lock: threading.RLock, *, thread_share: float, lately_s: float) -> None:
        self.thread_share = thread_share
        self.arrivals = Arrivals(lately_s=lately_s, now=time.monotonic())
        self.lanes: dict[str, Lane] = {}
        self.ready: deque[Lane] = deque()
        self.parked: list[tuple[float, int, Lane]] = []
        self.running = 0
        self.asked = 0
        self.slow_until = 0.0
        #: Notified when there may be a message to take; when there may be room for more.
        self.work = threading.Condition(lock)
        self.room = threading.Condition(lock)


class InFlight:
    """All messages of a process that are in flight. Thread-safe.

    Parameters:
      threads: the worker threads that take messages.
    """

    def __init__(self, *, threads: int) -> None:
        self.threads = threads
        self._lock = threading.RLock()
        self._lines: dict[str, _Line] = {}
        self._deliveries: dict[Delivery, Lane] = {}
        self._bytes = 0
        self._running = 0
        self._moved = -math.inf
        self._order = itertools.count()

    def open(self, queue_url: str, *, thread_share: float = 1.0, lately_s: float = 200.0) -> None:
        """Begin with a queue, before its first message.

        Parameters:
          thread_share: the largest share of the threads that its messages may take, from 0 to 1; one thread always.
          lately_s: as in `Arrivals`.
        """
        with self._lock:
            self._lines.setdefault(queue_url, _Line(self._lock, thread_share=thread_share, lately_s=lately_s))

    def __len__(self) -> int:
        return len(self._deliveries)

    def __contains__(self, delivery: Delivery) -> bool:
        return delivery in self._deliveries

    def snapshot(self, queue_url: str | None = None) -> list[Delivery]:
        """The messages in flight, of one queue or all."""
        with self._lock:
            return [each for each in self._deliveries if queue_url in (None, each.queue_url)]

    def note_poll(self, queue_url: str) -> None:
        """Note a poll that has succeeded, before its messages are added."""
        with self._lock:
            self._lines[queue_url].arrivals.note_poll(time.monotonic())

    def oldest_sent(self, queue_url: str) -> datetime | None:
        """When the oldest message was sent of those that came lately or are in flight; None if there is none.

        UNKNOWN if the queue was not polled for long enough.
        """
        with self._lock:
            line = self._lines.get(queue_url)
            lately = line.arrivals.oldest(time.monotonic()) if line else UNKNOWN
            in_flight = [each.sent_at for each in self._deliveries if each.queue_url == queue_url]
            return min([*in_flight, *([lately] if lately else [])], default=None)

    def add(self, delivery: Delivery, *, paused: bool = False) -> int | None:
        """Add a received message to its lane; or the seconds for which it goes back.

        It goes back if its lane has no room, and from a poll that began before an outage or before threads got slow.

        Parameters:
          paused: whether nothing is received, because of an outage.
        """
        now = time.monotonic()
        with self._lock:
            line = self._lines[delivery.queue_url]
            if delivery.receive_count <= MOST_TELLING_RECEIVES:
                line.arrivals.add(delivery.sent_at, now)
            lane = self._lane(line, delivery.lane_key, now)
            is_behind, is_crowded = not lane.is_empty, self.is_crowded
            self._deliveries[delivery] = lane
            self._bytes += len(delivery.body)
            is_late = paused or (now < line.slow_until and self._idle(line) <= 0)
            if is_late and delivery.receive_count <= MOST_LATE_RECEIVES:
                return 0
            if is_behind and (is_crowded or not lane.has_room(delivery.receive_count)):
                return lane.deferral(now, receive_count=delivery.receive_count)
            lane.waiting.append(delivery)
            self._make_ready(line, lane, now)
            return None

    def take(self, queue_url: str, *, timeout_s: float) -> Delivery | None:
        """The next message for an idle thread, whose message it is from then on; None after the timeout.

        It may be lost already: look at `is_ours`.
        """
        with self._lock:
            if not self.has_work(queue_url, timeout_s=timeout_s):
                return None
            line = self._lines[queue_url]
            return self._start(line, line.ready.popleft(), time.monotonic())

    def has_work(self, queue_url: str, *, timeout_s: float) -> bool:
        """Whether there is a message to take. It waits for one at most this many seconds."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            line = self._lines[queue_url]
            while True:
                now = time.monotonic()
                self._end_parking(line, now)
                if line.ready and self._idle(line) > 0:
                    return True
                wake = min(deadline, line.parked[0][0]) if line.parked else deadline
                if now >= deadline:
                    return False
                line.work.wait(wake - now)

    def park(self, delivery: Delivery, after_s: float) -> None:
        """Let a running message wait in its lane without a thread, undecoded.

        Parameters:
          after_s: seconds until it may start again; infinity: until `resume`.
        """
        now = time.monotonic()
        with self._lock:
            if delivery not in self._deliveries:
                return
            line, lane = self._lines[delivery.queue_url], self._deliveries[delivery]
            delivery.reset()
            lane.running = None
            self._leave_thread(line)
            delivery.state, delivery.parked_since, delivery.parks = State.PARKED, now, delivery.parks + 1
            delivery.awaits_resume = math.isinf(after_s) and not delivery.resumed
            delivery.resumed = False
            lane.waiting.appendleft(delivery)
            if 0 < after_s < math.inf:
                lane.parked_until = now + after_s
                heapq.heappush(line.parked, (lane.parked_until, next(self._order), lane))
                line.work.notify()
            self._make_ready(line, lane, now)

    def resume(self, delivery: Delivery) -> None:
        """Let a message that is parked until now start again, if it is still in flight."""
        with self._lock:
            lane = self._deliveries.get(delivery)
            if lane and delivery.state is State.RUNNING:
                delivery.resumed = True
            elif lane and delivery.awaits_resume:
                delivery.awaits_resume = False
                self._make_ready(self._lines[delivery.queue_url], lane, time.monotonic())

    def free_lane(self, delivery: Delivery) -> None:
        """Let a lane go on whose message is stuck in its thread, and is another worker's from now on."""
        with self._lock:
            delivery.lost = True
            lane = self._deliveries.get(delivery)
            if lane and lane.running is delivery:
                lane.running = None
                self._make_ready(self._lines[delivery.queue_url], lane, time.monotonic())

    def leave(self, delivery: Delivery, state: State) -> None:
        """Take a message out of its lane, on its way to be settled."""
        with self._lock:
            lane = self._deliveries.get(delivery)
            if lane is not None:
                self._leave_lane(delivery, lane)
                delivery.state = state

    def remove(self, delivery: Delivery) -> None:
        """Forget a message that is settled, abandoned or lost."""
        with self._lock:
            was_full = self._is_full()
            lane = self._deliveries.pop(delivery, None)
            if lane is not None:
                self._bytes -= len(delivery.body)
                self._leave_lane(delivery, lane)
                if was_full:
                    self._offer_room()

    @property
    def is_crowded(self) -> bool:
        """Whether so many messages are in flight that none should be kept without need."""
        return self._is_full(SHARE_OF_LANES)

    def impatient(self, queue_url: str, *, paused: bool) -> list[Delivery]:
        """The messages of a queue that go back now, as `goes_back` says. Then none is fetched ahead for a while."""
        now = time.monotonic()
        with self._lock:
            found = [
                each
                for each in self._deliveries
                if each.queue_url == queue_url and each.state in UNSTARTED and goes_back(each, now, paused=paused)
            ]
            if not paused and any(math.isfinite(each.ready_since) for each in found):
                self._lines[queue_url].slow_until = now + SLOW_S
            return found

    def ask(self, queue_url: str, *, timeout_s: float, for_trial: bool = False) -> int:
        """How many messages a poll should ask for; 0 after the timeout. Follow it by `answered`.

        Parameters:
          for_trial: whether it is for one message that may try whether an outage is over, beside those that failed.
        """
        with self._lock:
            line = self._lines[queue_url]
            look = self._wanted_for_trial if for_trial else self._wanted
            wanted = look(line)
            if not wanted:
                line.room.wait(timeout_s)
                wanted = look(line)
            line.asked += wanted
            return wanted

    def answered(self, queue_url: str, asked: int) -> None:
        """Note that a poll that asked for that many messages has ended."""
        with self._lock:
            self._lines[queue_url].asked -= asked

    def _wanted(self, line: _Line) -> int:
        if self._is_full() or len(line.ready) > FETCHED_AHEAD:
            return 0
        now = time.monotonic()
        ahead = FETCHED_AHEAD if now >= line.slow_until and now - self._moved < PATIENCE_S else 0
        return batch_to_ask_for(self._idle(line) + ahead - len(line.ready) - line.asked, waiting=bool(line.ready))

    def _wanted_for_trial(self, line: _Line) -> int:
        return int(not self._is_full() and len(line.ready) + line.asked < FETCHED_AHEAD)

    def _is_full(self, share: float = 1.0) -> bool:
        return len(self._deliveries) >= share * MOST_IN_FLIGHT or self._bytes >= share * MOST_BYTES

    def _idle(self, line: _Line) -> int:
        """The threads that could take a message of this queue now."""
        share = self.threads if line.thread_share >= 1 else max(1, int(line.thread_share * self.threads))
        return min(self.threads - self._running, share - line.running)

    @staticmethod
    def _lane(line: _Line, key: str | None, now: float) -> Lane:
        if key is None:
            return Lane(None, now)
        if key not in line.lanes:
            line.lanes[key] = Lane(key, now)
        return line.lanes[key]

    def _start(self, line: _Line, lane: Lane, now: float) -> Delivery:
        lane.is_ready = False
        lane.running = delivery = lane.waiting.popleft()
        delivery.state, delivery.started, delivery.ready_since = State.RUNNING, now, math.inf
        line.running += 1
        self._running += 1
        if self._wanted(line):
            line.room.notify()
        return delivery

    def _make_ready(self, line: _Line, lane: Lane, now: float) -> None:
        """Put a lane with a message that nothing blocks behind the others."""
        if lane.is_ready or lane.running or not lane.waiting or lane.parked_until > now:
            return
        first = lane.waiting[0]
        if first.awaits_resume:
            return
        first.state = State.PARKED if first.met_outage else State.WAITING
        first.ready_since = now
        lane.is_ready = True
        line.ready.append(lane)
        if self._idle(line) > 0:
            line.work.notify()

    def _end_parking(self, line: _Line, now: float) -> None:
        while line.parked and line.parked[0][0] <= now:
            self._make_ready(line, heapq.heappop(line.parked)[2], now)

    def _leave_lane(self, delivery: Delivery, lane: Lane) -> None:
        line, now = self._lines[delivery.queue_url], time.monotonic()
        if delivery.state is State.RUNNING:
            self._leave_thread(line)
        if lane.running is delivery:
            lane.running = None
            lane.progress(now)
            self._make_ready(line, lane, now)
        elif delivery in lane.waiting:
            if lane.waiting[0] is delivery:
                lane.parked_until = 0.0
                if lane.is_ready:
                    lane.is_ready = False
                    line.ready.remove(lane)
            lane.waiting.remove(delivery)
            self._make_ready(line, lane, now)
        if lane.key is not None and lane.is_empty and line.lanes.get(lane.key) is lane:
            del line.lanes[lane.key]

    def _leave_thread(self, line: _Line) -> None:
        line.running -= 1
        self._running -= 1
        self._moved = time.monotonic()
        for other in self._lines.values():
            if other.ready and self._idle(other) > 0:
                other.work.notify()
        self._offer_room()

    def _offer_room(self) -> None:
        for line in self._lines.values():
            if self._wanted(line):
                line.room.notify()


def batch_to_ask_for(room: int, *, waiting: bool) -> int:
    """How many messages the next poll asks for; 0 when no poll is due.

    Parameters:
      room: how many more messages may be fetched. It is below 0 when another poll has asked for more than is left.
      waiting: whether a message of the queue waits for a thread. Then only a full batch is worth a poll.
    """
    if room >= BATCH_ENTRIES:
        return BATCH_ENTRIES
    return 0 if waiting else max(0, room)
