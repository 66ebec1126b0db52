"""Sends a notification that is stored to its user's devices."""

from __future__ import annotations

import dramatiq
import structlog

from graphnode.envelopes import NOTIFICATION_QUEUE
from graphnode.errors import TransientError
from graphnode.push import firebase
from graphnode.rules.notifications import push_data, push_text
from graphnode.storage import notifications
from graphnode.storage.notifications import PushStatus

#: Milliseconds a push may take, all devices together.
TIME_LIMIT_MS = 60_000

log = structlog.get_logger("graphnode.notifications")


@dramatiq.actor(actor_name="deliver_notification", queue_name=NOTIFICATION_QUEUE, time_limit=TIME_LIMIT_MS)
def deliver_notification(notification_id: str) -> None:
    """Push one notification, unless somebody else does or did."""
    notification = notifications.claim_push(notification_id)
    if notification is None:
        return
    text = push_text(notification.type, notification.payload)
    if not firebase().has_credentials:
        log.info("push skipped: no Firebase credentials", type=notification.type, title=text.title)
        notifications.settle_push(notification_id, status=PushStatus.SKIPPED, error="no Firebase credentials")
        return
    tokens = notifications.device_tokens(notification.user_id)
    if not tokens:
        notifications.settle_push(notification_id, status=PushStatus.SKIPPED, error="the user has no device")
        return
    try:
        report = firebase().send(tokens, text, push_data(notification.type, notification_id, notification.payload))
    except TransientError as error:
        notifications.settle_push(notification_id, status=PushStatus.PENDING, error=str(error))
        raise
    notifications.remove_tokens(report.dead_tokens)
    if report.reached:
        notifications.settle_push(notification_id, status=PushStatus.SENT)
    else:
        notifications.settle_push(
            notification_id, status=PushStatus.FAILED, error="none of the user's devices exists any more"
        )
