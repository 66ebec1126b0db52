"""A reading that takes seconds: shown at once, made again while somebody looks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count

import pytest

from graphnode.console.watch import Watched

PATIENCE_S = 10.0


class Slow:
    """Readings that wait until they may go on."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self._numbers = count(1)

    def __call__(self) -> int:
        assert self.may.wait(PATIENCE_S)
        return next(self._numbers)


@pytest.fixture
def slow() -> Iterator[Slow]:
    made = Slow()
    yield made
    made.may.set()


def test_nobody_waits_for_the_first_reading_unless_they_want_to(slow: Slow) -> None:
    watched = Watched(slow, every_s=60, name="test")

    assert watched.latest() is None
    assert watched.is_reading
    slow.may.set()
    assert watched.latest(wait_s=PATIENCE_S) == 1


def test_one_reading_is_made_at_a_time_and_a_new_one_only_when_the_last_is_old(slow: Slow) -> None:
    slow.may.set()
    watched = Watched(slow, every_s=60, name="test")
    watched.latest(wait_s=PATIENCE_S)

    assert [watched.latest() for _ in range(5)] == [1] * 5
    watched.expire()
    assert watched.latest(refresh=False) == 1
    assert not watched.is_reading
    watched.latest()
    assert watched.new(wait_s=PATIENCE_S) == 3


def test_a_new_reading_begins_after_the_call(slow: Slow) -> None:
    slow.may.set()
    watched = Watched(slow, every_s=60, name="test")

    assert watched.new(wait_s=PATIENCE_S) == 1
    assert watched.new(wait_s=PATIENCE_S) == 2


def test_a_reading_that_takes_too_long_leaves_the_last_one(slow: Slow) -> None:
    slow.may.set()
    watched = Watched(slow, every_s=60, name="test")
    watched.latest(wait_s=PATIENCE_S)
    slow.may.clear()

    assert watched.new(wait_s=0.01) == 1


def test_a_fault_leaves_the_last_reading_and_is_tried_again() -> None:
    faulty = {2}
    numbers = count(1)

    def read() -> int:
        number = next(numbers)
        if number in faulty:
            raise ZeroDivisionError
        return number

    watched = Watched(read, every_s=0, name="test")
    assert watched.new(wait_s=PATIENCE_S) == 1
    assert watched.new(wait_s=0.2) == 1
    assert watched.new(wait_s=PATIENCE_S) == 3
