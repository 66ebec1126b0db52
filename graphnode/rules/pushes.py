"""What becomes of a notification after FCM has answered, or when it has waited too long: decided without any I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import NamedTuple

#: The most seconds that a Retry-After is heeded for. FCM asks for minutes; a proxy may say anything.
LONGEST_RETRY_AFTER_S = 86_400.0


class PushStatus(StrEnum):
    """How far the push of a notification is."""

    PENDING = "PENDING"
    SENDING = "SENDING"
    SENT = "SENT"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"


class PushReport(NamedTuple):
    """What FCM answered for each of a user's devices.

    Parameters:
      reached: how many devices FCM took the push for.
      gone: the tokens of devices that FCM no longer knows.
      refused: by token, why FCM will never take this push.
      later: by token, why FCM did not take it now.
      retry_after_s: seconds for which FCM asks to be left alone.
      outage: why FCM does not accept our credentials, if it does not.
    """

    reached: int = 0
    gone: Sequence[str] = ()
    refused: Mapping[str, str] = {}
    later: Mapping[str, str] = {}
    retry_after_s: float = 0.0
    outage: str | None = None


class PushOutcome(NamedTuple):
    """What a notification's row says after an attempt.

    Parameters:
      status: how far the push is.
      error: why it is no further.
      retry_in_s: seconds until the next attempt; None when there is none.
      remaining: the devices that the next attempt is for; None for all that the user has by then.
      is_attempt: whether FCM looked at it. An attempt that our credentials failed is none.
    """

    status: PushStatus
    error: str | None = None
    retry_in_s: float | None = None
    remaining: list[str] | None = None
    is_attempt: bool = True


NO_CREDENTIALS = PushOutcome(PushStatus.SKIPPED, "no Firebase credentials")
NO_DEVICE = PushOutcome(PushStatus.SKIPPED, "the user has no device")


def push_outcome(report: PushReport, *, was_sent: bool, backoff_s: float) -> PushOutcome:
    """What FCM's answers mean for the row: one device reached is SENT, and only the others are tried again.

    Parameters:
      report: the answers.
      was_sent: whether an earlier attempt reached a device.
      backoff_s: seconds until the next attempt, if FCM does not ask for more.
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


def outcome_if_too_old(
    *, created_at: datetime, now: datetime, max_age_s: float, attempts: int, error: str | None, was_sent: bool
) -> PushOutcome | None:
    """How a notification ends that is no news any more; None while it is.

    Parameters:
      max_age_s: seconds for which it is news.
      attempts: how often FCM was asked before.
      error: why the last attempt was not the last.
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
    """Why a push is no further, without FCM's own words after its code: they may quote the push."""
    return re.sub(r"\b([A-Z][A-Z_]+): .*", r"\1", error, count=1, flags=re.DOTALL) if error else None


def retry_after_s(header: str | None, *, now: datetime) -> float:
    """Seconds that a Retry-After header asks for, as a number or as a date, a day at most; 0 when it says nothing.

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
