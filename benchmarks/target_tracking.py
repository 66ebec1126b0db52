"""Application Auto Scaling's target tracking, as AWS documents it, minute by minute.

https://docs.aws.amazon.com/autoscaling/application/userguide/target-tracking-scaling-policy-overview.html
has the proportional step, the 10 % below the target, the rounding and the cooldowns. How many datapoints its alarms ask
for is not written there but in the alarms that it makes: three of a minute above the target, fifteen below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

#: Datapoints of a minute that must all lie above the target before tasks are added, and below before they are removed.
OUT_DATAPOINTS = 3
IN_DATAPOINTS = 15

#: A metric is low when it is below this share of its target.
LOW = 0.9


class TargetTracking:
    """A scaling policy, and what it remembers of its last decisions.

    How large a step down is, AWS does not say ("more gradually"): here it is the whole way, the hardest for a worker.

    Parameters:
      target: what the metric should be.
      least, most: bounds of the capacity, in tasks.
      out_cooldown_s, in_cooldown_s: seconds after a step up, or down, before the next one.
    """

    def __init__(self, *, target: float, least: int, most: int, out_cooldown_s: float, in_cooldown_s: float) -> None:
        self.target = target
        self.least = least
        self.most = most
        self._out_cooldown_s = out_cooldown_s
        self._in_cooldown_s = in_cooldown_s
        self._out_at = self._in_at = -math.inf
        #: What was there before the step up that the cooldown is of: a larger step within it counts from here.
        self._base = least

    def decide(self, now: float, capacity: int, datapoints: Sequence[float]) -> int:
        """How many tasks there shall be.

        Parameters:
          now: seconds.
          capacity: how many there shall be until now.
          datapoints: of the metric, one a minute, those that are published by now; the newest last.
        """
        if _all(datapoints[-OUT_DATAPOINTS:], OUT_DATAPOINTS, above=self.target):
            return self._step_up(now, capacity, datapoints[-1])
        if _all(datapoints[-IN_DATAPOINTS:], IN_DATAPOINTS, below=self.target * LOW):
            return self._step_down(now, capacity, datapoints[-1])
        return capacity

    def _step_up(self, now: float, capacity: int, value: float) -> int:
        cools = now < self._out_at + self._out_cooldown_s
        base = self._base if cools else capacity
        wanted = min(self.most, math.ceil(base * value / self.target))
        if wanted <= capacity:
            return capacity
        if not cools:
            self._base, self._out_at = capacity, now
        return wanted

    def _step_down(self, now: float, capacity: int, value: float) -> int:
        if now < max(self._in_at + self._in_cooldown_s, self._out_at + self._out_cooldown_s):
            return capacity
        wanted = max(self.least, math.ceil(capacity * value / self.target))
        if wanted < capacity:
            self._in_at = now
        return min(wanted, capacity)


def _all(values: Sequence[float], count: int, *, above: float = -math.inf, below: float = math.inf) -> bool:
    return len(values) == count and all(above < value < below for value in values)
