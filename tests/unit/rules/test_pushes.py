from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.rules.pushes import PushOutcome, PushReport, PushStatus, outcome_if_too_old, push_outcome, retry_after_s

NOW = datetime(2026, 5, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("report", "was_sent", "expected"),
    [
        (PushReport(reached=2), False, PushOutcome(PushStatus.SENT)),
        (PushReport(reached=1, gone=["old"]), False, PushOutcome(PushStatus.SENT)),
        (
            PushReport(reached=1, later={"tablet": "busy"}),
            False,
            PushOutcome(PushStatus.SENT, "1 of the user's devices not reached yet: busy", 5, ["tablet"]),
        ),
        (
            PushReport(later={"tablet": "busy"}),
            True,
            PushOutcome(PushStatus.SENT, "1 of the user's devices not reached yet: busy", 5, ["tablet"]),
        ),
        (PushReport(gone=["old"], later={"tablet": "busy"}), False, PushOutcome(PushStatus.PENDING, "busy", 5)),
        (PushReport(later={"tablet": "busy"}, retry_after_s=60), False, PushOutcome(PushStatus.PENDING, "busy", 60)),
        (PushReport(later={"tablet": "busy"}, retry_after_s=1), False, PushOutcome(PushStatus.PENDING, "busy", 5)),
        (PushReport(gone=["old"]), False, PushOutcome(PushStatus.FAILED, "none of the user's devices exists any more")),
        (PushReport(gone=["old"]), True, PushOutcome(PushStatus.SENT)),
        (PushReport(refused={"tablet": "too big"}, gone=["old"]), False, PushOutcome(PushStatus.FAILED, "too big")),
        (
            PushReport(reached=1, refused={"tablet": "too big"}),
            False,
            PushOutcome(PushStatus.SENT, "1 of the user's devices: too big"),
        ),
        (
            PushReport(later={"tablet": "no access"}, outage="no access", retry_after_s=30),
            False,
            PushOutcome(PushStatus.PENDING, "no access", 30, is_attempt=False),
        ),
    ],
)
def test_fcms_answers_decide_the_outcome(report: PushReport, was_sent: bool, expected: PushOutcome) -> None:
    assert push_outcome(report, was_sent=was_sent, backoff_s=5) == expected


@given(
    st.integers(0, 3),
    st.dictionaries(st.text(min_size=1), st.text(min_size=1), max_size=3),
    st.dictionaries(st.text(min_size=1), st.text(min_size=1), max_size=3),
    st.booleans(),
)
def test_a_device_that_may_still_be_reached_is_tried_again(
    reached: int, later: dict[str, str], refused: dict[str, str], was_sent: bool
) -> None:
    outcome = push_outcome(PushReport(reached, [], refused, later), was_sent=was_sent, backoff_s=5)

    assert (outcome.retry_in_s is not None) == bool(later)
    assert (outcome.status == PushStatus.SENT) == (was_sent or reached > 0)


def outcome_after(
    hours: float, *, attempts: int = 0, error: str | None = None, sent: bool = False
) -> PushOutcome | None:
    created_at = NOW - timedelta(hours=hours)
    return outcome_if_too_old(
        created_at=created_at, now=NOW, max_age_s=86_400, attempts=attempts, error=error, was_sent=sent
    )


def test_a_push_is_tried_until_its_max_age() -> None:
    assert outcome_after(24, attempts=20) is None


def test_a_push_too_old_at_its_first_attempt_is_skipped() -> None:
    skipped = PushOutcome(PushStatus.SKIPPED, "older than 24 h (GRAPHNODE_PUSH_MAX_AGE) when it could first be pushed")
    assert outcome_after(24.1) == skipped


def test_a_push_tried_until_its_max_age_has_failed_with_the_last_reason() -> None:
    failed = PushOutcome(PushStatus.FAILED, "given up after 24 h (GRAPHNODE_PUSH_MAX_AGE): busy")
    assert outcome_after(24.1, attempts=9, error="busy") == failed


def test_a_push_that_reached_one_device_stays_sent_when_too_old() -> None:
    assert outcome_after(24.1, attempts=9, error="1 left", sent=True) == PushOutcome(PushStatus.SENT, "1 left")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("17", 17),
        (" 0 ", 0),
        ("Sun, 24 May 2026 12:00:30 GMT", 30),
        ("Sun, 24 May 2026 11:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
        ("99999999999999999999", 86_400),
        ("soon", 0),
        ("-5", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float) -> None:
    assert retry_after_s(header, now=NOW) == seconds
