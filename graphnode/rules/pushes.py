"""Decides the outcome of a push from FCM's answers and the notification's age."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import NamedTuple

#: The longest Retry-After that is respected, in seconds. FCM asks for minutes; a proxy may ask for anything.
LONGEST_RETRY_AFTER_S = 86_400.0


class PushStatus(StrEnum):
    """The status of a notification's push."""

    PENDING = "PENDING"
    SENDING = "SENDING"
    SENT = "SENT"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"


class PushReport(NamedTuple):
    """FCM's answers for a user's devices.

    Parameters:
      reached: the number of devices for which FCM accepted the push.
      gone: the tokens of devices that FCM no longer knows.
      refused: by token, why FCM will never accept this push.
      later: by token, why FCM did not accept it now.
      retry_after_s: FCM's Retry-After, in seconds.
      outage: why FCM does not accept our credentials; None: it does.
    """

    reached: int = 0
    gone: Sequence[str] = ()
    refused: Mapping[str, str] = {}
    later: Mapping[str, str] = {}
    retry_after_s: float = 0.0
    outage: str | None = None


class PushOutcome(NamedTuple):
    """The outcome of an attempt to push a notification, as its row stores it.

    Parameters:
      status: the new status.
      error: why the push is not complete.
      retry_in_s: seconds until the next attempt; None: there is no other attempt.
      remaining: the tokens for the next attempt; None: all devices that the user has then.
      is_attempt: whether it counts as an attempt. It does not if FCM refused our credentials.
    """

    status: PushStatus
    error: str | None = None
    retry_in_s: float | None = None
    remaining: list[str] | None = None
    is_attempt: bool = True


NO_CREDENTIALS = PushOutcome(PushStatus.SKIPPED, "no Firebase credentials")
NO_DEVICE = PushOutcome(PushStatus.SKIPPED, "the user has no device")


def push_outcome(report: PushReport, *, was_sent: bool, backoff_s: float) -> PushOutcome:
    """The outcome that follows from FCM's answers. One reached device makes it SENT; only the others are tried again.

    Parameters:
      report: the answers.
      was_sent: whether an earlier attempt reached a device.
      backoff_s: the back-off in seconds, used if Retry-After is shorter.
    """
    reached = was_sent or report.reached > 0
    retry_in_s = max(backoff_s, report.retry_after_s)
    is_attempt = report.outage is None or report.reached > 0
    if report.later and not reached:
        error = report.outage or _first(report.later)
        return PushOutcome(PushStatus.PENDING, error, retry_in_s, is_attempt=is_attempt)
    if report.later:
        error = f"{len(report.later)} of the user's devices not reached yet: {_first(report.later)}"
        return PushOutcome(PushStatus.SENT, error, retry_in_s, list(report.later), is_attempt)
    if reached:
        error = f"{len(report.refused)} of the user's devices: {_first(report.refused)}" if report.refused else None
        return PushOutcome(PushStatus.SENT, error)
    return PushOutcome(PushStatus.FAILED, _first(report.refused) or "none of the user's devices exists any more")


def unsent_outcome(error: str | None, *, was_sent: bool, remaining: list[str] | None) -> PushOutcome:
    """The outcome of a push that was claimed and not sent: it is due again at once. Parameters: as the row has them."""
    status = PushStatus.SENT if was_sent else PushStatus.PENDING
    return PushOutcome(status, error, retry_in_s=0, remaining=remaining, is_attempt=False)


def outcome_if_too_old(
    *, created_at: datetime, now: datetime, max_age_s: float, attempts: int, error: str | None, was_sent: bool
) -> PushOutcome | None:
    """The final outcome of a notification older than its maximum age; None if it is not.

    Parameters:
      max_age_s: the maximum age in seconds.
      attempts: the number of attempts before.
      error: the error of the last attempt.
      was_sent: whether a device was reached.
    """
    if now - created_at <= timedelta(seconds=max_age_s):
        return None
    age = f"{max_age_s / 3600:g} h (GRAPHNODE_PUSH_MAX_AGE)"
    if was_sent:
        return PushOutcome(PushStatus.SENT, error)
    if attempts:
        return PushOutcome(PushStatus.FAILED, f"given up after {age}: {error or 'the worker ended during the attempt'}")
    return PushOutcome(PushStatus.SKIPPED, f"older than {age} when it could first be pushed")


def without_fcm_message(error: str | None) -> str | None:
    """The error with FCM's code but without its message, which may quote the push."""
    return re.sub(r"\b([A-Z][A-Z_]+): .*", r"\1", error, count=1, flags=re.DOTALL) if error else None


def retry_after_s(header: str | None, *, now: datetime) -> float:
    """Seconds in a Retry-After header, a number or a date; at most a day, and 0 if it cannot be read.

    https://www.rfc-editor.org/rfc/rfc9110.html#name-retry-after
    """
    if not header:
        return 0.0
    if header.strip().isdecimal():
        return min(float(header), LONGEST_RETRY_AFTER_S)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - now).total_seconds()), LONGEST_RETRY_AFTER_S)


def _first(reasons: Mapping[str, str]) -> str | None:
    return next(iter(reasons.values()), None)
