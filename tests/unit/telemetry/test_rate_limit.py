from __future__ import annotations

import pytest

from graphnode.telemetry.rate_limit import RateLimiter, Suppressed


@pytest.fixture
def limiter() -> RateLimiter[str]:
    return RateLimiter(most=3, window_s=10)


def test_the_first_lines_of_each_kind_are_admitted_and_the_others_counted(limiter: RateLimiter[str]) -> None:
    admitted = [limiter.admits(kind, now=0) for kind in "aaaaabaa"]

    assert admitted == [True, True, True, False, False, True, False, False]
    assert limiter.ended(now=9.9) == []
    assert limiter.ended(now=10) == [Suppressed("a", 4)]
    assert limiter.ended(now=20) == []


def test_a_line_is_admitted_again_after_its_window(limiter: RateLimiter[str]) -> None:
    for _ in range(5):
        limiter.admits("a", now=0)
    limiter.ended(now=10)

    assert limiter.admits("a", now=10)


def test_each_kind_has_a_window_of_its_own(limiter: RateLimiter[str]) -> None:
    for kind, now in (("a", 0.0), ("b", 5.0)):
        for _ in range(4):
            limiter.admits(kind, now=now)

    assert limiter.ended(now=12) == [Suppressed("a", 1)]
    assert limiter.ended(now=15) == [Suppressed("b", 1)]


def test_ended_windows_take_no_memory(limiter: RateLimiter[str]) -> None:
    for number in range(100):
        limiter.admits(str(number), now=number)
        limiter.ended(now=number)

    assert len(limiter._windows) <= 10


def test_every_window_has_ended_at_infinity(limiter: RateLimiter[str]) -> None:
    for _ in range(4):
        limiter.admits("a", now=0)

    assert limiter.ended(now=float("inf")) == [Suppressed("a", 1)]
