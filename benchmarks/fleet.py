"""A simulated day of a queue and of the Fargate tasks that handle its messages, second by second.

Messages are handled in the order of their arrival, at the rate of the running tasks. CloudWatch has one datapoint a
minute, and publishes it a minute later. A task starts some time after its order. It costs money from the order until
its drain has ended.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.target_tracking import TargetTracking

MINUTE_S = 60

#: Seconds from the order of a task to its first message: Fargate, the image, the worker's start. AWS promises no
#: figure; this is typical for an image of 200 MB.
START_S = 60

#: Seconds from the end of a minute to the publication of its datapoint.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/monitoring-using-cloudwatch.html
METRIC_DELAY_S = 60

#: Seconds that a stop waits for a poll in progress and for running messages, as in deploy/cloudformation.yml.
POLL_GRACE_S = 20
SHUTDOWN_TIMEOUT_S = 90

#: Seconds of work that a worker prefetches.
PREFETCHED_S = 0.2

#: Dollars an hour: Fargate, Linux on x86, us-east-1, on demand, as of 2026-03-10.
#: https://aws.amazon.com/fargate/pricing/
VCPU_HOUR = 0.04048
GB_HOUR = 0.004445

#: The size of a task: a worker process uses one core at most; memory for an idle worker and GRAPHNODE_DOCUMENT_MEMORY.
VCPUS = 1
MEMORY_GB = 2


class Load(NamedTuple):
    """The messages of a day.

    Parameters:
      name: of the load.
      arrivals: messages by second of the day.
      message_s: seconds of a task that a message costs: the inverse of a task's highest rate.
      service_s: seconds from the start of a message to its end.
      outage: the seconds in which no message can be handled.
      shown: the seconds that a picture shows.
    """

    name: str
    arrivals: Sequence[int]
    message_s: float
    service_s: float
    outage: range = range(0)
    shown: range = range(86_400)


class Datapoint(NamedTuple):
    """CloudWatch's metrics of a minute: messages of the queue, and running tasks of the service."""

    visible: int
    in_flight: int
    sent: int
    running: int


class Minute(NamedTuple):
    """A minute in a picture: the longest latency in seconds, and the number of tasks."""

    latency_s: float
    tasks: int


class Day(NamedTuple):
    """The result of a simulated day.

    Parameters:
      latencies: the number of messages by their latency in seconds.
      minutes: for a picture.
      task_s: paid seconds of all tasks together.
      scale_ins: tasks that were stopped.
      met_work: stopped tasks with a running message.
      cut_short: messages on them that ran longer than a stop waits.
    """

    latencies: Counter[float]
    minutes: list[Minute]
    task_s: float
    scale_ins: int
    met_work: int
    cut_short: int

    @property
    def cost(self) -> float:
        """The cost of the tasks in dollars."""
        return self.task_s / 3600 * (VCPUS * VCPU_HOUR + MEMORY_GB * GB_HOUR)


def run(load: Load, metric: Callable[[Datapoint], float], policy: TargetTracking, *, seed: int) -> Day:
    """Simulate the day of a load under a policy.

    Parameters:
      metric: the metric of the policy, computed from a datapoint.
      seed: decides which tasks are stopped.
    """
    return _Fleet(load, metric, policy, seed=seed).run()


class _Fleet:
    def __init__(self, load: Load, metric: Callable[[Datapoint], float], policy: TargetTracking, *, seed: int) -> None:
        self.load = load
        self.metric = metric
        self.policy = policy
        self.random = np.random.default_rng(seed)
        self.wanted = self.tasks = max(1, policy.least)
        self.starting: deque[int] = deque()  # the second in which each of these tasks is ready
        self.waiting: deque[tuple[int, int]] = deque()  # second of arrival, messages
        self.visible = 0
        self.running: deque[tuple[float, int]] = deque()  # end, messages
        self.running_count = 0
        self.taken = 0  # messages started in the last second
        self.credit = 0.0  # messages that the tasks may start now
        self.latencies: Counter[float] = Counter()
        self.datapoints: list[Datapoint] = []
        self.minutes: list[Minute] = []
        self.values: list[float] = []
        self.sent = 0
        self.longest = 0.0
        self.task_s = 0.0
        self.scale_ins = self.met_work = self.cut_short = 0

    def run(self) -> Day:
        for now, arrived in enumerate(self.load.arrivals):
            self._arrive(now, arrived)
            self._start_tasks(now)
            self._take(now)
            self.task_s += self.tasks + len(self.starting)
            if (now + 1) % MINUTE_S == 0:
                self._measure(now + 1)
                self._scale(now + 1)
        return Day(self.latencies, self.minutes, self.task_s, self.scale_ins, self.met_work, self.cut_short)

    def _arrive(self, now: int, arrived: int) -> None:
        if arrived:
            self.waiting.append((now, arrived))
            self.visible += arrived
            self.sent += arrived

    def _start_tasks(self, now: int) -> None:
        while self.starting and self.starting[0] <= now:
            self.starting.popleft()
            self.tasks += 1

    def _take(self, now: int) -> None:
        while self.running and self.running[0][0] <= now:
            self.running_count -= self.running.popleft()[1]
        self.taken = 0
        if now in self.load.outage:
            return
        rate = self.tasks / self.load.message_s
        # An idle task starts one message at once. It does not save up time.
        self.credit = min(self.credit + rate, max(rate, float(self.tasks)))
        count = min(self.visible, int(self.credit))
        self.credit -= count
        self.visible -= count
        self.taken = count
        if count and self.load.service_s >= 1:
            self.running.append((now + self.load.service_s, count))
            self.running_count += count
        while count:
            since, there = self.waiting.popleft()
            part = min(there, count)
            if part < there:
                self.waiting.appendleft((since, there - part))
            latency = now - since + self.load.service_s
            self.latencies[latency] += part
            self.longest = max(self.longest, latency)
            count -= part

    def _in_flight(self) -> int:
        if self.load.service_s >= 1:
            return self.running_count
        return round(self.taken * (self.load.service_s + (PREFETCHED_S if self.visible else 0)))

    def _measure(self, now: int) -> None:
        oldest = now - self.waiting[0][0] if self.waiting else 0
        self.minutes.append(Minute(max(self.longest, oldest), self.tasks))
        self.datapoints.append(Datapoint(self.visible, self._in_flight(), self.sent, self.tasks))
        self.values.append(self.metric(self.datapoints[-1]))
        self.sent, self.longest = 0, 0.0

    def _scale(self, now: int) -> None:
        published = len(self.values) - METRIC_DELAY_S // MINUTE_S
        if published <= 0:
            return
        if self.wanted == 0:
            # Target tracking multiplies the tasks, so it cannot start the first one. Another policy does.
            wanted = int(self.datapoints[published - 1].visible > 0)
        else:
            wanted = self.policy.decide(now, self.wanted, self.values[:published][-20:])
        if wanted > self.wanted:
            self.starting.extend([now + START_S] * (wanted - self.wanted))
        elif wanted < self.wanted:
            self._stop_tasks(now, self.wanted - wanted)
        self.wanted = wanted

    def _stop_tasks(self, now: int, count: int) -> None:
        while count and self.starting:
            self.starting.pop()
            count -= 1
        if not count:
            return
        busy = min(self.tasks, self.running_count if self.load.service_s >= 1 else self.taken)
        met = int(self.random.hypergeometric(busy, self.tasks - busy, count))
        self.scale_ins += count
        self.met_work += met
        self.cut_short += met if self.load.service_s > SHUTDOWN_TIMEOUT_S else 0
        self.task_s += count * POLL_GRACE_S + met * min(self.load.service_s, SHUTDOWN_TIMEOUT_S)
        self.tasks -= count
