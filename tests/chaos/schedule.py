"""The schedule of faults, drawn from a seed. Faults of different lanes overlap, such as a kill during an outage."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

#: The shortest and the longest pause between two faults, in seconds, by lane. Every result needs the `services`.
LANES = {"workers": (2.0, 8.0), "services": (2.0, 8.0), "push": (10.0, 30.0)}

#: Faults that last so many seconds at least are brown-outs. A short run has shorter ones.
BROWN_OUT_S = 60.0

#: Seconds before a fault that is injected alone.
BEFORE_S = 15.0


class Kind(NamedTuple):
    """A kind of fault.

    Parameters:
      lane: one of `LANES`. Faults of one lane do not overlap.
      shortest_s, longest_s: its duration; both 0 if it ends at once.
      error: a text of the errors that it causes, if they are not a message's own: no attempt may be charged for them.
      takes_s: the approximate time that injecting it takes in addition.
    """

    lane: str
    shortest_s: float = 0.0
    longest_s: float = 0.0
    error: str | None = None
    takes_s: float = 0.0

    @property
    def stops_results(self) -> bool:
        """Whether it may stop all workers."""
        return self.lane == "services"


KINDS = {
    "worker killed": Kind("workers"),
    "fork killed": Kind("workers"),
    "worker terminated": Kind("workers"),
    "rolling restart": Kind("workers", takes_s=20),
    "worker frozen": Kind("workers", 8, 11),  # longer than `stack.VISIBILITY_S`
    "PostgreSQL stopped fast": Kind("services", 1, 8),
    "PostgreSQL stopped immediately": Kind("services", 1, 8),
    "PostgreSQL killed": Kind("services", 1, 8),
    # The worker asks after six seconds whether it answers at all.
    "PostgreSQL frozen": Kind("services", 4, 30, error="time limit"),
    "connections cut": Kind("services", 1, 4),
    "statements cancelled": Kind("services", 1, 4),
    "rows locked": Kind("services", 2, 6),
    "table locked": Kind("services", 4, 18),  # may exceed the worker's lock_timeout
    "disk full": Kind("services", 2, 8, error="No space left on device"),
    "right revoked": Kind("services", 2, 8, error="permission denied"),
    "LocalStack paused": Kind("services", 2, 9),
    "AWS answers 500": Kind("services", 2, 8),
    "AWS answers 503": Kind("services", 2, 8),
    "AWS slow": Kind("services", 3, 8),
    "AWS cuts connections": Kind("services", 2, 8),
    "S3 slows down": Kind("services", 60, 120, error="SlowDown"),
    "S3 hangs": Kind("services", 60, 120, error="Read timeout"),
    "S3 denies access": Kind("services", 2, 8, error="AccessDenied"),
    "KMS key disabled": Kind("services", 2, 8, error="KMS.DisabledException"),
    "clock refused": Kind("services", 2, 8, error="RequestTimeTooSkewed"),
    "credentials expired": Kind("services", 2, 8, error="ExpiredToken"),
    "credentials rotated": Kind("services", 2, 8, error="InvalidAccessKeyId"),
    "FCM unavailable": Kind("push", 3, 10),
    "FCM cuts connections": Kind("push", 2, 6),
    "FCM cuts answers": Kind("push", 2, 6),
}


class Fault(NamedTuple):
    """A fault of a run.

    Parameters:
      at_s: its begin, in seconds since the begin of the traffic.
      kind: one of `KINDS`.
      lasts_s: its duration in seconds.
      target: decides which worker or fork is the target.
    """

    at_s: float
    kind: str
    lasts_s: float
    target: int


def draw_schedule(seed: int, *, seconds: float, shorten: float = 1.0) -> list[Fault]:
    """The faults of a run of this length. In each lane, all kinds occur once before one occurs again.

    Parameters:
      shorten: the factor for the longest duration of each kind. The shortest duration stays, except a brown-out's.
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
            shortest_s = kind.shortest_s * (shorten if kind.shortest_s >= BROWN_OUT_S else 1)
            longest_s = max(shortest_s, kind.longest_s * shorten)
            fault = Fault(at_s, name, draw.uniform(shortest_s, longest_s), draw.randrange(1 << 16))
            if fault.at_s + fault.lasts_s + kind.takes_s > seconds:
                break
            faults.append(fault)
            at_s += fault.lasts_s + kind.takes_s + shorten * draw.uniform(*pause_s)
    return sorted(faults)


def lone_fault(kind: str, *, seconds: float) -> list[Fault]:
    """The schedule of a run of this length with one fault, which lasts until its end."""
    return [Fault(BEFORE_S, kind, seconds - BEFORE_S, target=0)]
