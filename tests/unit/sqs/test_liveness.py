from __future__ import annotations

import threading

import pytest

from graphnode.sqs import liveness
from graphnode.sqs.liveness import dead_threads, last_signs, report_alive, report_end


def test_a_thread_that_has_ended_counts_no_longer() -> None:
    def run() -> None:
        report_alive(within_s=5.0)
        assert last_signs()["mayfly"].within_s == 5.0
        report_end()

    thread = threading.Thread(target=run, name="mayfly")
    thread.start()
    thread.join()

    assert "mayfly" not in last_signs()


def test_a_thread_that_has_ended_without_saying_so_has_died_until_another_takes_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(liveness, "_signs", {})
    report_alive(within_s=5.0)
    dead = threading.Thread(target=report_alive, kwargs={"within_s": 5.0}, name="mayfly")
    dead.start()
    dead.join()
    assert dead_threads() == ["mayfly"]

    def replace() -> None:
        report_alive(within_s=5.0)
        assert dead_threads() == []
        report_end()

    alive = threading.Thread(target=replace, name="mayfly")
    alive.start()
    alive.join()

    assert dead_threads() == []
