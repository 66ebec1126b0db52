from __future__ import annotations

import threading
import time

import pytest

from graphnode.operations import background
from graphnode.operations.background import NoAnswer


def test_a_call_in_time_answers_with_what_it_returns_or_raises() -> None:
    by = time.monotonic() + 20

    assert background.answer_of(background.start(lambda: 7, name="call"), by=by) == 7
    with pytest.raises(ZeroDivisionError):
        background.answer_of(background.start(lambda: 1 // 0, name="call"), by=by)


def test_a_call_that_hangs_gives_no_answer_and_keeps_no_program_from_ending() -> None:
    ended = threading.Event()
    made = background.start(ended.wait, name="hanging")

    with pytest.raises(NoAnswer):
        background.answer_of(made, by=time.monotonic())

    assert [thread.daemon for thread in threading.enumerate() if thread.name == "hanging"] == [True]
    ended.set()
    assert background.answer_of(made, by=time.monotonic() + 20)


def test_a_timeout_inside_a_call_is_its_own() -> None:
    def time_out() -> None:
        raise TimeoutError("of a socket")

    with pytest.raises(TimeoutError, match="of a socket"):
        background.answer_of(background.start(time_out, name="call"), by=time.monotonic() + 20)
