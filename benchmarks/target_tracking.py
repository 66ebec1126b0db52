"""A model of target tracking, the policy of AWS Application Auto Scaling, minute by minute.

https://docs.aws.amazon.com/autoscaling/application/userguide/target-tracking-scaling-policy-overview.html
documents the proportional step, the 10 % below the target, the rounding and the cooldowns. The number of datapoints is
visible in the alarms that the policy creates: three above the target, fifteen below it, one a minute.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

#: How many datapoints must be above the target before tasks are added, and below it before tasks are removed.
OUT_DATAPOINTS = 3
IN_DATAPOINTS = 15

#: A metric is low if it is below this share of its target.
LOW = 0.9


class TargetTracking:
    """A scaling policy, and the times of its last steps.

    AWS does not document the size of a step down ("more gradually"). Here it goes down to the target at once, which is
    the hardest case for a worker.

    Parameters:
      target: of the metric.
      least, most: the bounds of the capacity, in tasks.
      out_cooldown_s, in_cooldown_s: seconds from a step up, or down, to the next one.
    """

    def __init__(self, *, target: float, least: int, most: int, out_cooldown_s: float, in_cooldown_s: float) -> None:
        self.target = target
        self.least = least
        self.most = most
        self._out_cooldown_s = out_cooldown_s
        self._in_cooldown_s = in_cooldown_s
        self._out_at = self._in_at = -math.inf
        #: The capacity before the last step up. During its cooldown, a larger step is computed from this.
        self._base = least

    def decide(self, now: float, capacity: int, datapoints: Sequence[float]) -> int:
        """The new capacity, in tasks.

        Parameters:
          now: seconds.
          capacity: the capacity until now, in tasks.
          datapoints: the published values of the metric, one a minute, the newest last.
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
