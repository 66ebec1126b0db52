"""Pushes stored notifications to their users' devices. A row says what to push; its message only says when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import dramatiq
import structlog
from msgspec import Meta

from graphnode.broker import SQSBroker
from graphnode.clients.fcm import Push, firebase
from graphnode.contract.envelopes import LONGEST_ID, NOTIFICATION_QUEUE
from graphnode.errors import log_text
from graphnode.rules.push_texts import push_data, push_text, truncate_to_fcm_limit
from graphnode.rules.pushes import (
    NO_CREDENTIALS,
    NO_DEVICE,
    PushOutcome,
    PushReport,
    outcome_if_too_old,
    push_outcome,
    without_fcm_message,
)
from graphnode.settings import settings
from graphnode.steps import count_event, step
from graphnode.storage import notifications
from graphnode.storage.notifications import NotificationRecord
from graphnode.worker.options import retry_policy
from graphnode.worker.sweeps import sweep

#: The most notifications that a sweep puts on their queue: about what a process pushes until the next sweep.
MOST_SWEPT = 500

#: Milliseconds that a push to all devices of a user may take.
TIME_LIMIT_MS = 60_000

#: Bounded: others may be able to write to the queue.
NotificationId = Annotated[str, Meta(min_length=1, max_length=LONGEST_ID, pattern=r"^[^\x00]*$")]

log = structlog.get_logger("graphnode.notifications")


@dramatiq.actor(actor_name="deliver_notification", queue_name=NOTIFICATION_QUEUE, time_limit=TIME_LIMIT_MS)
def deliver_notification(notification_id: NotificationId) -> None:
    """Push one notification, unless another worker does or did. If FCM does not accept it now, a sweep tries again."""
    if pause_s := firebase().pause.left_s():
        notifications.postpone(notification_id, seconds=pause_s)
        return
    notification = notifications.claim_push(notification_id)
    if notification is None:
        return
    outcome = outcome_if_expired(notification) or push(notification)
    fields = {"type": notification.type, "status": outcome.status, "reason": without_fcm_message(outcome.error)}
    if notifications.settle_push(notification, outcome):
        count_event("push_settled", status=outcome.status)
        log.info("push settled", **fields, retry_in_s=outcome.retry_in_s)
    else:
        log.warning("push took longer than its claim: the row is another worker's", **fields)


def outcome_if_expired(notification: NotificationRecord) -> PushOutcome | None:
    """How the push ends without another attempt if its notification is too old; otherwise None."""
    return outcome_if_too_old(
        created_at=notification.created_at,
        now=datetime.now(UTC),
        max_age_s=settings().push_max_age,
        attempts=notification.push_attempts - 1,
        error=notification.push_error,
        was_sent=notification.pushed_at is not None,
    )


def push(notification: NotificationRecord) -> PushOutcome:
    """Push to the user's devices that earlier attempts have not reached."""
    if not firebase().has_credentials:
        return NO_CREDENTIALS
    devices = notifications.devices(notification.user_id)
    was_sent = notification.pushed_at is not None
    if was_sent:
        devices = [device for device in devices if device.token in (notification.remaining_tokens or ())]
    if not devices:
        return push_outcome(PushReport(), was_sent=True, backoff_s=0) if was_sent else NO_DEVICE
    report = firebase().send([device.token for device in devices], message_of(notification))
    notifications.remove_devices(device for device in devices if device.token in report.gone)
    backoff_s = retry_policy().backoff(notification.push_attempts)
    return push_outcome(report, was_sent=was_sent, backoff_s=backoff_s)


def message_of(notification: NotificationRecord) -> Push:
    """The push of a notification. FCM keeps it for a phone that is off until the notification is too old."""
    text = push_text(notification.type, notification.payload)
    text, data = truncate_to_fcm_limit(text, push_data(notification.type, notification.id, notification.payload))
    expires = notification.created_at + timedelta(seconds=settings().push_max_age)
    return Push(notification.id, text, data, ttl_s=max(0.0, (expires - datetime.now(UTC)).total_seconds()))


def enqueue(notification_id: str) -> None:
    """Put a stored notification on its queue. If that fails, a sweep does it: the result is committed."""
    try:
        with step("enqueue"):
            deliver_notification.send(notification_id=notification_id)
    except Exception as error:
        log.warning("notification left to the sweep", notification_id=notification_id, error=log_text(error))


@sweep("pushes")
def sweep_pushes(_broker: SQSBroker) -> None:
    """Put the due notifications on their queue: those that a crash left, and those to try again."""
    if firebase().pause.left_s():
        return
    for notification_id in notifications.claim_due(limit=MOST_SWEPT):
        deliver_notification.send(notification_id=notification_id)
