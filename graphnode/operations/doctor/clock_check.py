"""This machine's clock, compared with those of AWS and of the database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from graphnode.operations.doctor.findings import Finding, broken, fine, unchecked, warning

SUBJECT = "clock"

#: Seconds of difference. AWS refuses signatures after 5 minutes (SQS) or 15 (S3); other services may refuse sooner.
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html
WARNING_S = 30.0
BROKEN_S = 300.0


def judge_clocks(skews: Mapping[str, timedelta]) -> list[Finding]:
    """What is wrong with this machine's clock.

    Parameters:
      skews: how far this machine's clock is ahead of each service's, by service.
    """
    if not skews:
        return [unchecked(SUBJECT, "not checked: neither AWS nor the database gave its time")]
    other, skew = max(skews.items(), key=lambda item: abs(item[1]))
    seconds = abs(skew.total_seconds())
    if seconds < WARNING_S:
        return [fine(SUBJECT, f"within {max(1, round(seconds))} s of {' and '.join(skews)}")]
    length = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    what = f"this machine's clock is {length} {'ahead of' if skew > timedelta() else 'behind'} that of {other}"
    if other == "the database" and len(skews) > 1:
        near = [name for name, value in skews.items() if abs(value.total_seconds()) < WARNING_S]
        if near:
            return [
                warning(
                    SUBJECT,
                    f"the database's clock is {length} off; this machine agrees with {' and '.join(near)}",
                    why="The database's clock decides when tasks time out and when pushes are retried.",
                    mend="sudo chronyc makestep   # on the database's machine",
                )
            ]
    why = "Calls to AWS and tokens for FCM are signed with the time: both are refused when it is too far off."
    return [(broken if seconds >= BROKEN_S else warning)(SUBJECT, what, why=why, mend="sudo chronyc makestep")]


def skew_of(date: str | None, *, asked_at: datetime) -> timedelta | None:
    """How far this machine's clock is ahead of an answer's Date header; None without a header."""
    return asked_at - parsedate_to_datetime(date).astimezone(UTC) if date else None
