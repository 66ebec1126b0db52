"""A backlog of 200,000 messages: is the worker as fast as with 4,000, until the end, and does its memory stay the same?

The worker and the messages are those of `benchmarks/consume.py`: one process of 8 threads with a no-op actor, on a stub
of SQS that answers after 10 ms. So the broker is measured, and no database. The 4,000 messages are drained first.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.consume import LATENCY_MS, QUEUES, ROUNDS, THREADS, bodies, measure_drains, running_worker
from benchmarks.output import option_parser, report, tell
from benchmarks.slopes import slope
from benchmarks.sqs_stub import StubServer

MESSAGES = 200_000

#: Messages in one call that fills the stub, and seconds between two samples.
FILL = 10_000
LOOK_S = 0.5

#: The equal parts of a drain whose rates are printed, and the share by which its RSS may grow.
PARTS = 10
LEVEL_SHARE = 0.02

#: Seconds without a handled message until the drain fails.
PATIENCE_S = 60.0


class Look(NamedTuple):
    """One sample of a drain.

    Parameters:
      seconds: from the first receive to the last delete so far.
      handled: messages so far.
      rss_mb: the resident set of the worker process.
    """

    seconds: float
    handled: int
    rss_mb: float


def main() -> None:
    """Measure, and print the figures."""
    parser = option_parser("backlog", __doc__)
    parser.add_argument("--messages", type=int, default=MESSAGES, help=f"size of the backlog (default: {MESSAGES:,})")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="graphnode-benchmark-") as directory, StubServer() as stub:
        few = measure_drains(stub, Path(directory), {"graphnode": ""}, rounds=ROUNDS)
        looks = drain(stub, Path(directory), messages=options.messages)
    rates = rates_by_part(looks, messages=options.messages)
    rate = options.messages / looks[-1].seconds
    # In the first tenth the process still grows, because its buffers fill.
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
    report(figures, as_json=options.json)


def drain(stub: StubServer, directory: Path, *, messages: int) -> list[Look]:
    """The samples of a worker that starts with this many messages on its queue. Raises TimeoutError."""
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
                left = messages - look.handled
                raise TimeoutError(f"{left} messages are left; none was handled for {PATIENCE_S:.0f} s")
    return looks


def rates_by_part(looks: Sequence[Look], *, messages: int, parts: int = PARTS) -> list[float]:
    """Messages a second in each of the equal parts of a drain, interpolated between the samples.

    Parameters:
      looks: in order of time; at the last, all messages are handled.
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
