"""How long a task may be without news, by task type: `2h`, or `2h,ADD_NODE=30m`."""

from __future__ import annotations

import re
from datetime import timedelta

from graphnode.contract.requests import REQUESTS

#: Seconds in each unit.
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

#: The types of tasks that can be requested, as the setting names them: without `_RESULT`.
TYPES = tuple(kind.task_type.removesuffix("_RESULT") for kind in REQUESTS.values())

_DURATION = r"[1-9]\d{0,5}[smhd]"

#: The form of the setting.
PATTERN = rf"^{_DURATION}(,({'|'.join(TYPES)})={_DURATION})*$"


def task_timeouts(text: str) -> dict[str, timedelta]:
    """The time-out of each task type: its own, or the first duration.

    Parameters:
      text: the setting; it matches PATTERN.
    """
    first, *own = text.split(",")
    found = dict.fromkeys(TYPES, first) | dict(re.findall(r"(\w+)=(\w+)", ",".join(own)))
    return {f"{name}_RESULT": duration(value) for name, value in found.items()}


def duration(text: str) -> timedelta:
    """A duration such as 90s, 30m, 2h or 1d."""
    return timedelta(seconds=int(text[:-1]) * UNITS[text[-1]])


def typed_duration(text: str) -> timedelta | None:
    """A duration that somebody has typed; None if it is none. It may be 0."""
    return duration(text) if re.fullmatch(r"\d{1,6}[smhd]", text) else None


def duration_text(span: timedelta) -> str:
    """The duration for people, in the largest unit that gives a whole number: `90 s`, `2 h`."""
    seconds = int(span.total_seconds())
    unit = next(unit for unit in reversed(UNITS) if seconds % UNITS[unit] == 0)
    return f"{seconds // UNITS[unit]} {unit}"
