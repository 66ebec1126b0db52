"""The report of a run: the recovery times, and the last line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from tests.chaos.checker import Found, Verdict, repeated_pushes
from tests.chaos.schedule import KINDS

#: The kinds of differences.
WRONG = (
    "lost",
    "applied_twice",
    "wrong_rows",
    "unexpected_dead_letters",
    "wrongly_charged",
    "notifications_missing",
    "notifications_twice",
)


class InjectedFault(NamedTuple):
    """A fault that was injected, with its times."""

    kind: str
    begin: datetime
    end: datetime


def recoveries_s(injected: Sequence[InjectedFault], effects: Sequence[datetime]) -> dict[str, float]:
    """The longest time of each kind from a fault's end to the next effect, in seconds.

    A fault does not count if another fault that stops results lasts longer. If such a fault begins before the next
    effect, the time until its begin counts.
    """
    stopping = [fault for fault in injected if KINDS[fault.kind].stops_results]
    longest: dict[str, float] = {}
    for fault in injected:
        others = [other for other in stopping if other is not fault and other.end > fault.end]
        if any(other.begin <= fault.end for other in others):
            continue
        went_on = [at for at in effects if at > fault.end][:1] + [other.begin for other in others]
        if went_on:
            longest[fault.kind] = max(longest.get(fault.kind, 0.0), (min(went_on) - fault.end).total_seconds())
    return longest


def last_line(verdict: Verdict, found: Found, injected: Sequence[InjectedFault], *, sent: int, seed: int) -> str:
    """The run as one JSON object."""
    recoveries = recoveries_s(injected, sorted(effect.at for effect in found.effects))
    faults = dict(sorted(Counter(fault.kind for fault in injected).items()))
    report = {
        "sent": sent,
        **{kind: verdict.counts[kind] for kind in WRONG},
        "dead_letters": len(found.letters),
        "charged": len(found.attempts),
        "pushes": len(found.takes),
        "pushes_repeated": repeated_pushes(found.takes),
        "effects": len(found.effects),
        "recovery_s_max": round(max(recoveries.values(), default=0.0), 2),
        "recovery_s": {kind: round(seconds, 2) for kind, seconds in sorted(recoveries.items())},
        "faults": faults,
        "seed": seed,
    }
    return json.dumps(report)
