"""The worker's actors, in processes that kill themselves on a notification's way: at each of these points once.

A user named after a point is the one whose notification dies there.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from graphnode.actors import broker, effects
from graphnode.actors.notifications import enqueue
from graphnode.storage import notifications
from graphnode.storage.database import connection
from graphnode.storage.notifications import NotificationRecord

BEFORE_COMMIT = "killed-before-commit"
BEFORE_ENQUEUE = "killed-after-commit-before-enqueue"
AFTER_ENQUEUE = "killed-after-enqueue"
BEFORE_SENT = "killed-after-fcm-accepted-before-sent"

POINTS = (BEFORE_COMMIT, BEFORE_ENQUEUE, AFTER_ENQUEUE, BEFORE_SENT)

__all__ = ["broker"]


def die_at(point: str, user_id: str) -> None:
    """End this process as a machine that loses its power does, if nobody has died there before."""
    if user_id == point:
        try:
            Path(os.environ["DOOMED_MARKS"], point).touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


def write_and_die(**row: Any) -> str | None:
    """Write the row in the handler's transaction, which does not get to its commit."""
    written = write(**row)
    die_at(BEFORE_COMMIT, row["user_id"])
    return written


def enqueue_and_die(notification_id: str) -> None:
    """Die on either side of the enqueuing."""
    with connection():
        user_id = NotificationRecord.get_by_id(notification_id).user_id
    die_at(BEFORE_ENQUEUE, user_id)
    enqueue(notification_id)
    die_at(AFTER_ENQUEUE, user_id)


def die_and_settle(claimed: NotificationRecord, settled: Any) -> bool:
    """Die when FCM has answered and the row does not say so yet."""
    die_at(BEFORE_SENT, claimed.user_id)
    return settle_push(claimed, settled)


write, settle_push = notifications.write, notifications.settle_push
notifications.write, notifications.settle_push = write_and_die, die_and_settle
effects.enqueue = enqueue_and_die  # type: ignore[attr-defined]
