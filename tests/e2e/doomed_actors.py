"""The worker's actors with fault injection: processes kill themselves while they handle a notification.

Each point kills once. It kills for the user who has the point's name.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from graphnode.actors import broker
from graphnode.rules.pushes import PushOutcome
from graphnode.storage import notifications, tasks
from graphnode.storage.notifications import ClaimedPush, NotificationRecord
from graphnode.worker import outbox

BEFORE_COMMIT = "killed-before-commit"
BEFORE_WAKE = "killed-after-commit-before-wake"
AFTER_CLAIM = "killed-after-claim"
BEFORE_SENT = "killed-after-fcm-accepted-before-sent"

POINTS = (BEFORE_COMMIT, BEFORE_WAKE, AFTER_CLAIM, BEFORE_SENT)

__all__ = ["broker"]


def die_at(point: str, user_id: str) -> None:
    """Kill this process as a power failure does, unless another one was killed at this point before."""
    if user_id == point:
        try:
            Path(os.environ["DOOMED_MARKS"], point).touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


def finish_and_die(*key: Any, user_id: str, **row: Any) -> list[str]:
    """Write task and notification, and die before the transaction's commit."""
    to_push = finish(*key, user_id=user_id, **row)
    die_at(BEFORE_COMMIT, user_id)
    return to_push


def wake_and_die(ids: list[str]) -> None:
    """Die before the pushes are woken."""
    for notification_id in ids:
        die_at(BEFORE_WAKE, NotificationRecord.get_by_id(notification_id).user_id)
    wake(ids)


def claim_and_die(*arguments: Any, **options: Any) -> list[ClaimedPush]:
    """Die after a claim, before anything is sent."""
    found = claim_pushes(*arguments, **options)
    for claimed in found:
        die_at(AFTER_CLAIM, claimed.user_id)
    return found


def die_and_settle(outcomes: list[tuple[ClaimedPush, PushOutcome]]) -> set[str]:
    """Die after FCM's answer, before it is stored."""
    for claimed, _ in outcomes:
        die_at(BEFORE_SENT, claimed.user_id)
    return settle_pushes(outcomes)


finish, claim_pushes, settle_pushes = tasks.finish, notifications.claim_pushes, notifications.settle_pushes
tasks.finish, notifications.claim_pushes = finish_and_die, claim_and_die
notifications.settle_pushes = die_and_settle  # type: ignore[assignment]
wake = outbox.wake
outbox.wake = wake_and_die  # type: ignore[assignment]
