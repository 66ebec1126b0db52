"""What is told of a run: how long things took to go on, and the last line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from chaos.checker import Found, Verdict, repeated_pushes

#: What is counted of what is wrong.
WRONG = (
    "lost",
    "applied_twice",
    "wrong_rows",
    "unexpected_dead_letters",
    "notifications_missing",
    "notifications_twice",
)


class Struck(NamedTuple):
    """A fault that was there: its kind, and when."""

    kind: str
    begin: datetime
    end: datetime


def recoveries_s(struck: Sequence[Struck], effects: Sequence[datetime]) -> dict[str, float]:
    """How long after a fault's end results went through again, the longest of each kind, in seconds.

    A fault that ends while another goes on is not asked: that one is.
    """
    longest: dict[str, float] = {}
    for fault in struck:
        if any(other is not fault and other.begin <= fault.end < other.end for other in struck):
            continue
        next_at = next((at for at in effects if at > fault.end), None)
        if next_at and not any(fault.end < other.begin < next_at for other in struck):
            longest[fault.kind] = max(longest.get(fault.kind, 0.0), (next_at - fault.end).total_seconds())
    return longest


def last_line(verdict: Verdict, found: Found, struck: Sequence[Struck], *, sent: int, seed: int) -> str:
    """The run as one JSON object."""
    recoveries = recoveries_s(struck, sorted(effect.at for effect in found.effects))
    faults = dict(sorted(Counter(fault.kind for fault in struck).items()))
    report = {
        "sent": sent,
        **{kind: verdict.counts[kind] for kind in WRONG},
        "dead_letters": len(found.letters),
        "pushes": len(found.takes),
        "pushes_repeated": repeated_pushes(found.takes),
        "effects": len(found.effects),
        "recovery_s_max": round(max(recoveries.values(), default=0.0), 2),
        "faults": faults,
        "seed": seed,
    }
    return json.dumps(report)
