"""Lanes: messages in flight that share a key are handled one at a time. How long each will wait for its turn."""

from __future__ import annotations

import math
import random
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphnode.sqs.deliveries import Delivery

#: The most messages that wait in a lane. More go back to their queue until it is about their turn.
LONGEST = 200

#: The same for a message that has gone back twice already: each further time uses up a receive.
LONGEST_FOR_OFTEN_RECEIVED = 1000
OFTEN_RECEIVED = 3

#: Seconds that a message of a lane is thought to take, until the first has ended.
FIRST_PACE_S = 0.05

#: The weight of a new measurement in a lane's pace.
WEIGHT = 0.05

#: Seconds of standstill that count in a lane's pace. After that it is blocked, which says nothing of the next message.
LONGEST_STANDSTILL_S = 5.0

#: A lane that is blocked sends messages back for this share of the time that it has been blocked.
SHARE_OF_BLOCKED = 0.5

#: How much faster than the lane's pace messages come back: the first time, and after that. A lane whose messages come
#: too early gives some back again; a lane whose messages come too late stands still. The first estimate is made while
#: the backlog is being received, when all is slower than later.
HASTE = (4.0, 1.2)

#: The longest that a message goes back for, in seconds.
LONGEST_DEFERRAL_S = 3600


class Lane:
    """The messages in flight of one key: at most one has a thread, the others wait in order.

    It exists while it has messages in flight.

    Parameters:
      key: what the messages share. None: a lane for a message that shares nothing.
      now: monotonic seconds.
    """

    def __init__(self, key: str | None, now: float) -> None:
        self.key = key
        self.waiting: deque[Delivery] = deque()
        self.running: Delivery | None = None
        #: Whether its first message waits for nothing but a thread.
        self.is_ready = False
        #: Until when its first message is parked, in monotonic seconds.
        self.parked_until = 0.0
        self._pace_s = FIRST_PACE_S
        self._progressed = now
        # When the messages that went back will have been handled, as far as one knows.
        self._horizon = now

    @property
    def is_empty(self) -> bool:
        """Whether it has no message in flight."""
        return self.running is None and not self.waiting

    def has_room(self, receive_count: int) -> bool:
        """Whether a message with this receive count may wait in the lane."""
        often = receive_count >= OFTEN_RECEIVED
        return len(self.waiting) < (LONGEST_FOR_OFTEN_RECEIVED if often else LONGEST)

    def progress(self, now: float) -> None:
        """Note that a message has left its thread for good."""
        self._pace_s += WEIGHT * (min(now - self._progressed, LONGEST_STANDSTILL_S) - self._pace_s)
        self._progressed = now

    def deferral(self, now: float, *, receive_count: int, jitter: random.Random | None = None) -> int:
        """Seconds for which one more message goes back: until it is about its turn, behind all that went back before.

        Parameters:
          receive_count: how often SQS has delivered it.
        """
        standstill_s = now - self._progressed
        blocked_s = standstill_s if standstill_s > LONGEST_STANDSTILL_S else 0.0
        behind_lane = now + SHARE_OF_BLOCKED * blocked_s + len(self.waiting) * self._pace_s
        self._horizon = max(self._horizon, behind_lane) + self._pace_s / HASTE[min(receive_count, len(HASTE)) - 1]
        wait_s = (self._horizon - now) * (jitter or random).uniform(0.9, 1.1)
        return max(1, min(LONGEST_DEFERRAL_S, math.ceil(wait_s)))
