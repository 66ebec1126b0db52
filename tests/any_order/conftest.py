"""The worker in this process: real rules and a real database, with a bucket and a queue that are dicts and lists."""

from __future__ import annotations

import pytest

from tests.any_order.delivery import Bench, bench, set_up


@pytest.fixture
def in_this_process(storage: None, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """What surrounds the worker: the documents it finds, the notifications it puts on their queue."""
    set_up(monkeypatch)
    return bench
