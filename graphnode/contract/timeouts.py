"""How long a task may be without news, by its type: `2h`, or `2h,ADD_NODE=30m`."""

from __future__ import annotations

import re
from datetime import timedelta

#: Seconds of a unit.
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

#: Types as they are named here, without what they all end with.
TYPES = ("GRAPH_GENERATION", "GRAPH_SUMMARY", "ADD_NODE", "MICROSCOPE_INGEST", "MICROSCOPE_INGEST_FROM_NODE")

_DURATION = r"[1-9]\d{0,5}[smhd]"

#: What a setting of time-outs looks like.
PATTERN = rf"^{_DURATION}(,({'|'.join(TYPES)})={_DURATION})*$"


def task_timeouts(text: str) -> dict[str, timedelta]:
    """The time-out of each task type: the first duration, but for the types that have one of their own.

    Parameters:
      text: of the form of PATTERN.
    """
    first, *own = text.split(",")
    found = dict.fromkeys(TYPES, first) | dict(re.findall(r"(\w+)=(\w+)", ",".join(own)))
    return {f"{name}_RESULT": duration(value) for name, value in found.items()}


def duration(text: str) -> timedelta:
    """A duration such as 90s, 30m, 2h or 1d."""
    return timedelta(seconds=int(text[:-1]) * UNITS[text[-1]])


def duration_text(span: timedelta) -> str:
    """The duration as it is told: in the largest unit that it is a whole number of."""
    seconds = int(span.total_seconds())
    unit = next(unit for unit in reversed(UNITS) if seconds % UNITS[unit] == 0)
    return f"{seconds // UNITS[unit]} {unit}"
