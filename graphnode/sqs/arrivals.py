"""When the messages were sent that a queue has brought lately: whether older ones may still wait on it."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime

#: Older than every message.
UNKNOWN = datetime.min.replace(tzinfo=UTC)

#: The parts of the time that counts as lately. Of the messages of each only the oldest is kept.
SLICES = 60


class Arrivals:
    """The oldest of the messages that a queue has brought lately.

    SQS keeps no order, and messages that went back come again. So one new message says little about older ones; but if
    none of them has come for a while, none waits.

    Parameters:
      lately_s: how long an arrival counts, in seconds; longer than a poll.
      now: monotonic seconds.
    """

    def __init__(self, *, lately_s: float, now: float) -> None:
        self.lately_s = lately_s
        self._polled = now
        self._oldest = deque([(now, UNKNOWN)])

    def note_poll(self, now: float) -> None:
        """Note a poll that has succeeded, before its messages. After a time without polls all is unknown again."""
        if now - self._polled > self.lately_s:
            self._oldest = deque([(now, UNKNOWN)])
        self._polled = now

    def add(self, sent_at: datetime, now: float) -> None:
        """Note a message that came now, with its SentTimestamp."""
        if self._oldest and now - self._oldest[-1][0] < self.lately_s / SLICES:
            began, oldest = self._oldest.pop()
            self._oldest.append((began, min(oldest, sent_at)))
        else:
            self._oldest.append((now, sent_at))
            self._leave_out_old(now)

    def oldest(self, now: float) -> datetime | None:
        """When the oldest of them was sent; None if none has come; UNKNOWN without polls during all that time."""
        self._leave_out_old(now)
        if now - self._polled > self.lately_s:
            return UNKNOWN
        return min((sent_at for _, sent_at in self._oldest), default=None)

    def _leave_out_old(self, now: float) -> None:
        while self._oldest and now - self._oldest[0][0] > self.lately_s * (1 + 1 / SLICES):
            self._oldest.popleft()
