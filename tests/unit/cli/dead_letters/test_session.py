"""Ctrl-C while letters are read."""

from __future__ import annotations

import signal

from graphnode.cli.dead_letters.session import interruptible


def test_the_first_ctrl_c_asks_to_stop_and_restores_the_handler_for_the_second() -> None:
    before = signal.getsignal(signal.SIGINT)

    with interruptible() as stopping:
        assert not stopping()
        signal.raise_signal(signal.SIGINT)
        assert stopping()
        assert signal.getsignal(signal.SIGINT) is before

    assert signal.getsignal(signal.SIGINT) is before
