"""`python -m benchmarks.worst`: no document takes more than is booked for it. The command finds one that does."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from benchmarks.worst import KINDS, MOST_TIMES_ORDINARY

#: Seconds of a search beside the known shapes.
SECONDS = 1


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_no_shape_takes_more_memory_or_time_than_it_may(kind: str) -> None:
    command = [sys.executable, "-m", "benchmarks.worst", "--json", "--only", kind, "--seconds", str(SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found: dict[str, Any] = json.loads(done.stdout)[kind]

    assert found["memory"]["measured_by_booked"] <= 1, found["memory"]
    assert found["time"]["times_ordinary"] <= MOST_TIMES_ORDINARY, found["time"]
    assert found["ordinary"]["measured_by_booked"] <= 1
    assert found["shapes"] >= len(next(each.worst for each in KINDS if each.name == kind))
