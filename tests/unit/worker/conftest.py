from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest


@pytest.fixture
def database_is_back() -> Iterator[threading.Event]:
    """Set it, and the test's probe of the database succeeds. It is set at the end: no probe goes on."""
    event = threading.Event()
    yield event
    event.set()
