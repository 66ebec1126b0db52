"""A backlog of 200,000 messages: whether it is worked off as fast as 4,000 are, to the end, and in the same memory.

The worker and the messages are those of `benchmarks/consume.py`: one process of 8 threads with a no-op actor, and a
stub of SQS that answers after 10 ms: what is measured is the way of a message through the broker, and no database.
First 4,000 are worked off as there, in the same run. All of it is on loopback, and ends by itself.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.consume import LATENCY_MS, QUEUES, ROUNDS, THREADS, bodies, measure_drains, running_worker, tell
from benchmarks.slopes import slope
from benchmarks.sqs_stub import StubServer

MESSAGES = 200_000

#: Messages that the stub is given at a time, and seconds between two looks at it.
FILL = 10_000
LOOK_S = 0.5

#: The shares of a drain whose rates are told, and what its RSS may grow by.
PARTS = 10
LEVEL_SHARE = 0.02

#: Seconds without a message handled after which the drain is given up.
PATIENCE_S = 60.0


class Look(NamedTuple):
    """What was seen of a drain at a moment.

    Parameters:
      seconds: since its first message was received, when its last one was deleted.
      handled: messages by then.
      rss_mb: the worker process's memory.
    """

    seconds: float
    handled: int
    rss_mb: float


def main() -> None:
    """Measure, and print the figures as one line of JSON, or one a line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backlog", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures as one line of JSON")
    parser.add_argument("--messages", type=int, default=MESSAGES, help=f"how many, if not {MESSAGES:,}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="graphnode-benchmark-") as directory, StubServer() as stub:
        few = measure_drains(stub, Path(directory), {"graphnode": ""}, rounds=ROUNDS)
        looks = drain(stub, Path(directory), messages=options.messages)
    rates = rates_by_part(looks, messages=options.messages)
    rate = options.messages / looks[-1].seconds
    # The first tenth is when its memory fills: buffers, and what Python keeps of them.
    settled = [look for look in looks if look.handled >= options.messages / PARTS]
    memory = slope([look.seconds for look in settled], [look.rss_mb for look in settled], share=LEVEL_SHARE)
    figures: dict[str, Any] = {
        "messages": options.messages,
        "latency_ms": LATENCY_MS,
        "threads": THREADS,
        "seconds": round(looks[-1].seconds, 1),
        "messages_per_second": round(rate, 1),
        "consume_messages_per_second": few["messages_per_second"],
        "ratio": round(rate / few["messages_per_second"], 3),
        "messages_per_second_by_tenth": [round(part) for part in rates],
        "last_to_first_tenth": round(rates[-1] / rates[0], 3),
        "rss_mb": [round(looks[0].rss_mb, 1), round(looks[-1].rss_mb, 1)],
        "rss_growth": round(memory.growth, 4),
        "rss": memory.verdict,
    }
    if options.json:
        print(json.dumps(figures))  # noqa: T201
        return
    for name, figure in figures.items():
        print(f"{name:<32}{figure}")  # noqa: T201


def drain(stub: StubServer, directory: Path, *, messages: int) -> list[Look]:
    """What is seen of a worker that finds so many messages waiting. Raises TimeoutError."""
    stub.order(latency_ms=LATENCY_MS, reset=True)
    queue = next(QUEUES)
    waiting = bodies(queue, count=messages)
    for start in range(0, messages, FILL):
        stub.fill(queue, waiting[start : start + FILL])
    tell(f"{messages} messages wait")
    looks: list[Look] = []
    with running_worker("graphnode", stub.url, stub.queue_url(queue), directory) as worker:
        progressed = time.monotonic()
        while not looks or looks[-1].handled < messages:
            time.sleep(LOOK_S)
            state = stub.order()
            look = Look(state["busy_s"], messages - state["undeleted"][queue], worker.memory_info().rss / 1e6)
            if look.handled > (looks[-1].handled if looks else 0):
                progressed = time.monotonic()
                looks.append(look)
                if len(looks) % 20 == 0:
                    tell(f"{look.handled} handled after {look.seconds:.1f} s, {look.rss_mb:.1f} MB")
            elif time.monotonic() - progressed > PATIENCE_S:
                raise TimeoutError(f"{messages - look.handled} messages are left, and none was handled for a minute")
    return looks


def rates_by_part(looks: Sequence[Look], *, messages: int, parts: int = PARTS) -> list[float]:
    """Messages a second in each of equal parts of a drain, straight lines drawn between the looks.

    Parameters:
      looks: in their order; in the last all are handled.
    """
    points = [Look(0.0, 0, 0.0), *looks]
    marks = [messages * part / parts for part in range(parts + 1)]
    at = []
    for mark in marks:
        before, after = next((one, two) for one, two in pairwise(points) if two.handled >= mark)
        share = (mark - before.handled) / (after.handled - before.handled) if after.handled > before.handled else 0.0
        at.append(before.seconds + share * (after.seconds - before.seconds))
    return [messages / parts / (end - begin) for begin, end in pairwise(at)]


if __name__ == "__main__":
    main()
