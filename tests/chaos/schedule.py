"""Which fault strikes when: drawn by a seed, in lanes, so that what happens to workers meets what services do."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

#: Whom faults strike, and the seconds between two of them: workers, the services that every result needs, and FCM.
LANES = {"workers": (2.0, 8.0), "services": (2.0, 8.0), "push": (10.0, 30.0)}


class Kind(NamedTuple):
    """A kind of fault.

    Parameters:
      lane: one of `LANES`. Faults of a lane come one after the other.
      shortest_s, longest_s: how long it lasts; both 0: it is over at once.
      takes_s: how long its doing takes besides, about.
    """

    lane: str
    shortest_s: float = 0.0
    longest_s: float = 0.0
    takes_s: float = 0.0

    @property
    def stops_results(self) -> bool:
        """Whether no worker may get on while it lasts."""
        return self.lane == "services"


KINDS = {
    "worker killed": Kind("workers"),
    "fork killed": Kind("workers"),
    "worker terminated": Kind("workers"),
    "rolling restart": Kind("workers", takes_s=20),
    "worker frozen": Kind("workers", 8, 11),  # longer than `chaos.stack.VISIBILITY_S`
    "PostgreSQL stopped fast": Kind("services", 1, 8),
    "PostgreSQL stopped immediately": Kind("services", 1, 8),
    "PostgreSQL killed": Kind("services", 1, 8),
    "connections cut": Kind("services", 1, 4),
    "statements cancelled": Kind("services", 1, 4),
    "rows locked": Kind("services", 2, 6),
    "table locked": Kind("services", 4, 18),  # up to longer than the worker's lock_timeout
    "disk full": Kind("services", 2, 8),
    "LocalStack paused": Kind("services", 2, 9),
    "AWS answers 500": Kind("services", 2, 8),
    "AWS answers 503": Kind("services", 2, 8),
    "AWS slow": Kind("services", 3, 8),
    "AWS cuts connections": Kind("services", 2, 8),
    "FCM unavailable": Kind("push", 3, 10),
    "FCM cuts connections": Kind("push", 2, 6),
    "FCM cuts answers": Kind("push", 2, 6),
}


class Fault(NamedTuple):
    """A fault of a run.

    Parameters:
      at_s: when it begins, in seconds since the traffic did.
      kind: one of `KINDS`.
      lasts_s: how long it lasts.
      target: decides whom it strikes, where there are several.
    """

    at_s: float
    kind: str
    lasts_s: float
    target: int


def draw_schedule(seed: int, *, seconds: float, shorten: float = 1.0) -> list[Fault]:
    """The faults of so many seconds, each kind once before any comes again.

    Parameters:
      shorten: of the longest duration of each kind, the part that is used; the shortest stays.
    """
    faults = []
    for lane, pause_s in LANES.items():
        draw = Random(f"schedule {seed} {lane}")
        deck: list[str] = []
        at_s = shorten * draw.uniform(*pause_s)
        while True:
            if not deck:
                deck = [name for name, kind in KINDS.items() if kind.lane == lane]
                draw.shuffle(deck)
            name = deck.pop()
            kind = KINDS[name]
            longest_s = max(kind.shortest_s, kind.longest_s * shorten)
            fault = Fault(at_s, name, draw.uniform(kind.shortest_s, longest_s), draw.randrange(1 << 16))
            if fault.at_s + fault.lasts_s + kind.takes_s > seconds:
                break
            faults.append(fault)
            at_s += fault.lasts_s + kind.takes_s + shorten * draw.uniform(*pause_s)
    return sorted(faults)
