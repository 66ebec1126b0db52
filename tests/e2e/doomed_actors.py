"""The worker's actors with fault injection: processes kill themselves while they handle a notification.

Each point kills once. It kills for the user who has the point's name.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from graphnode.actors import broker, effects
from graphnode.actors.notifications import enqueue
from graphnode.storage import notifications, tasks
from graphnode.storage.notifications import NotificationRecord

BEFORE_COMMIT = "killed-before-commit"
BEFORE_ENQUEUE = "killed-after-commit-before-enqueue"
AFTER_ENQUEUE = "killed-after-enqueue"
BEFORE_SENT = "killed-after-fcm-accepted-before-sent"

POINTS = (BEFORE_COMMIT, BEFORE_ENQUEUE, AFTER_ENQUEUE, BEFORE_SENT)

__all__ = ["broker"]


def die_at(point: str, user_id: str) -> None:
    """Kill this process as a power failure does, unless another one was killed at this point before."""
    if user_id == point:
        try:
            Path(os.environ["DOOMED_MARKS"], point).touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


def finish_and_die(*key: Any, user_id: str, **row: Any) -> None:
    """Write task and notification, and die before the transaction's commit."""
    finish(*key, user_id=user_id, **row)
    die_at(BEFORE_COMMIT, user_id)


def enqueue_and_die(notification_id: str) -> None:
    """Enqueue the notification; die before or after it."""
    user_id = NotificationRecord.get_by_id(notification_id).user_id
    die_at(BEFORE_ENQUEUE, user_id)
    enqueue(notification_id)
    die_at(AFTER_ENQUEUE, user_id)


def die_and_settle(claimed: NotificationRecord, settled: Any) -> bool:
    """Die after FCM's answer, before it is stored."""
    die_at(BEFORE_SENT, claimed.user_id)
    return settle_push(claimed, settled)


finish, settle_push = tasks.finish, notifications.settle_push
tasks.finish, notifications.settle_push = finish_and_die, die_and_settle
effects.enqueue = enqueue_and_die  # type: ignore[attr-defined]
