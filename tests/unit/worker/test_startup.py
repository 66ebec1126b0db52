from __future__ import annotations

from collections.abc import Callable

import pytest

from graphnode.errors import AwsFault, DatabaseFault, SchemaError
from graphnode.worker import startup
from graphnode.worker.startup import wait_for


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "PROBE_MAX_S", 0.001)


def failing(*errors: Exception) -> Callable[[], None]:
    """A step that raises these errors, one a call, and then succeeds."""
    left = list(errors)

    def step() -> None:
        if left:
            raise left.pop(0)

    return step


def test_a_worker_waits_for_a_service_that_is_away_when_it_starts() -> None:
    wait_for(failing(DatabaseFault("connection refused"), AwsFault("HTTP 503")))


@pytest.mark.parametrize("error", [AwsFault("HeadBucket was refused", is_refusal=True), SchemaError("no schema")])
def test_a_worker_does_not_wait_for_what_only_an_operator_can_mend(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        wait_for(failing(error))

    assert raised.value is error
