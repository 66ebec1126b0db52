"""The cost of consuming messages: this project's broker compared with dramatiq_sqs's in one run.

A worker of one process and 8 threads handles 4,000 messages with a no-op actor. First on the stub of SQS, which answers
after 10 ms as a queue in the same region does; then on LocalStack. Rounds alternate, and the medians are printed.
`--observed` measures the cost of metrics and traces instead, on the stub.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import statistics
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import psutil
from dramatiq import Message

from benchmarks.local_server import LocalServer
from benchmarks.output import option_parser, report, tell
from benchmarks.servers import cpu_s, make_queues_and_bucket, send
from benchmarks.sqs_stub import StubServer
from graphnode.dev.guard import GuardedProcess
from graphnode.dev.local_aws import sqs_client
from graphnode.dev.localstack import REGION, LocalStack
from graphnode.dev.outcomes import is_empty

#: The brokers that are compared, and the prefix of each one's figures.
BROKERS = {"graphnode": "", "dramatiq_sqs": "baseline_"}

#: This project's broker alone, with metrics, and with traces of each message.
OBSERVED = {"graphnode": "", "metrics": "metrics_", "traces": "traces_"}

#: Credentials that no server here checks.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}

#: A new queue name for each worker: an open poll of an earlier worker could take messages away.
QUEUES = (f"benchmark-{number}-results" for number in itertools.count(1))

MESSAGES = 4000
LATENCY_MS = 10
THREADS = 8
ROUNDS = 3
OBSERVED_ROUNDS = 5

#: Seconds for which an idle worker is measured: more than six long polls.
IDLE_S = 125.0

#: Seconds that the benchmark waits for an effect.
PATIENCE_S = 300.0

#: Seconds between two queries while it waits. Each query costs the server time that a broker could use.
LOOK_S = 0.1

Figures = dict[str, float]


def main() -> None:
    """Measure, and print the figures."""
    parser = option_parser("consume", __doc__)
    parser.add_argument("--observed", action="store_true", help="measure only the cost of metrics and traces")
    options = parser.parse_args()
    brokers = OBSERVED if options.observed else BROKERS
    figures: dict[str, Any] = {"messages": MESSAGES, "latency_ms": LATENCY_MS}
    with tempfile.TemporaryDirectory(prefix="graphnode-benchmark-") as made:
        directory = Path(made)
        with StubServer() as stub:
            rounds = OBSERVED_ROUNDS if options.observed else ROUNDS
            figures |= measure_drains(stub, directory, brokers, rounds=rounds)
        if not options.observed:
            figures |= measure_idle(directory)
            with LocalStack() as localstack:
                localstack.wait_until_ready()
                figures["localstack"] = measure_localstack(localstack, directory)
    report(figures, as_json=options.json, lines=table(figures, brokers))


def table(figures: dict[str, Any], brokers: Mapping[str, str]) -> Iterator[str]:
    """The figures as lines: a column for each broker, on the stub and on LocalStack."""
    for place, found in ((f"stub at {LATENCY_MS} ms", figures), ("LocalStack", figures.get("localstack", {}))):
        names = [name for name in found if all(prefix + name in found for prefix in brokers.values())]
        if names:
            yield f"\n{place:<24}" + "".join(f"{broker:>14}" for broker in brokers)
        for name in names:
            yield f"{name:<24}" + "".join(f"{found[prefix + name]:>14}" for prefix in brokers.values())


def measure_drains(stub: StubServer, directory: Path, brokers: Mapping[str, str], *, rounds: int) -> Figures:
    """The cost of draining a full queue of the stub."""
    stub.order(latency_ms=LATENCY_MS)

    def drain(broker: str) -> Figures:
        queue = next(QUEUES)
        with running_worker(broker, stub.url, stub.queue_url(queue), directory) as worker:
            stub.order(reset=True)
            cpu = cpu_s(worker.pid)
            stub.fill(queue, bodies(queue))
            wait_until(lambda: not stub.order()["undeleted"][queue])
            cpu = cpu_s(worker.pid) - cpu
            state = stub.order()
        return {
            "calls_per_message": sum(state["calls"].values()) / MESSAGES,
            "messages_per_second": MESSAGES / state["busy_s"],
            "cpu_ms_per_message": cpu * 1000 / MESSAGES,
        }

    return medians(drain, brokers, rounds=rounds, place="the stub")


def measure_idle(directory: Path) -> Figures:
    """Calls a minute of an idle worker, and the seconds of its stop. Both brokers run at once, each on its own stub."""
    tell(f"measuring both idle for {IDLE_S:.0f} s")
    figures: Figures = {}
    with ExitStack() as running:
        watched = []
        for broker, prefix in BROKERS.items():
            stub = running.enter_context(StubServer())
            stub.order(latency_ms=LATENCY_MS)
            worker = running.enter_context(running_worker(broker, stub.url, stub.queue_url(next(QUEUES)), directory))
            stub.order(reset=True)
            watched.append((prefix, stub, worker))
        time.sleep(IDLE_S)
        for prefix, stub, worker in watched:
            calls = sum(stub.order()["calls"].values())
            figures[f"{prefix}idle_calls_per_minute"] = round(calls * 60 / IDLE_S, 3)
            figures[f"{prefix}stop_idle_s"] = round(stop_s(worker), 3)
    return figures


def measure_localstack(localstack: LocalStack, directory: Path) -> Figures:
    """The figures on LocalStack, which does not count calls."""
    environment = {"AWS_ENDPOINT_URL": localstack.endpoint, "AWS_REGION": REGION, **CREDENTIALS}
    sqs = sqs_client(environment)

    def drain(broker: str) -> Figures:
        queue = next(QUEUES)
        make_queues_and_bucket(environment, queue.removesuffix("-results"))
        url = localstack.queue_url(queue)
        send(sqs, url, bodies(queue))
        with running_worker(broker, localstack.endpoint, url, directory) as worker:
            began, cpu = time.monotonic(), cpu_s(worker.pid)
            wait_until(lambda: is_empty(sqs, url))
            return {
                "messages_per_second": MESSAGES / (time.monotonic() - began),
                "cpu_ms_per_message": (cpu_s(worker.pid) - cpu) * 1000 / MESSAGES,
            }

    return medians(drain, BROKERS, rounds=ROUNDS, place="LocalStack")


def medians(measure: Callable[[str], Figures], brokers: Mapping[str, str], *, rounds: int, place: str) -> Figures:
    """Measure the brokers in turn; the median of each figure, under the broker's prefix."""
    found: dict[str, list[Figures]] = {broker: [] for broker in brokers}
    for number in range(1, rounds + 1):
        for broker in brokers:
            figures = measure(broker)
            found[broker].append(figures)
            tell(f"round {number} of {rounds} on {place}: {broker} {figures['messages_per_second']:.0f} messages/s")
    return {
        prefix + name: round(statistics.median(figures[name] for figures in found[broker]), 3)
        for broker, prefix in brokers.items()
        for name in found[broker][0]
    }


@contextmanager
def running_worker(broker: str, endpoint: str, queue_url: str, directory: Path) -> Iterator[psutil.Process]:
    """A `dramatiq` command that is ready; yields its one worker process."""
    log = directory / f"{broker}-{time.monotonic_ns()}.log"
    environment = {
        **os.environ,
        **CREDENTIALS,
        "BENCHMARK_BROKER": broker,
        "BENCHMARK_ENDPOINT": endpoint,
        "BENCHMARK_QUEUE": queue_url.rpartition("/")[2],
        "BENCHMARK_QUEUE_URL": queue_url,
    }
    command = [sys.executable, "-m", "dramatiq", "benchmarks.consume_worker", "-p", "1", "-t", str(THREADS)]
    environment |= {"dramatiq_prom_db": str(directory / "metrics"), "dramatiq_prom_port": str(free_port())}
    with (
        LocalServer(SpanCollector) as collector,
        GuardedProcess(command, log=log, env={**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}) as process,
    ):
        wait_until(lambda: "Worker process is ready" in log.read_text())
        yield next(
            child
            for child in psutil.Process(process.pid).children()
            if "resource_tracker" not in " ".join(child.cmdline())
        )


class SpanCollector(BaseHTTPRequestHandler):
    """A collector of traces that drops them."""

    def do_POST(self) -> None:
        """Accept spans."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing."""


def free_port() -> int:
    """A free port on loopback."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def stop_s(worker: psutil.Process) -> float:
    """Seconds from SIGTERM until the whole `dramatiq` command has ended."""
    command = worker.parent()
    assert command  # noqa: S101
    began = time.monotonic()
    command.send_signal(signal.SIGTERM)
    while command.is_running() and command.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.005)
    return time.monotonic() - began


def bodies(queue: str, *, count: int = MESSAGES) -> list[str]:
    """Messages for the no-op actor, encoded as both brokers encode them."""
    messages = (
        Message[None](queue_name=queue, actor_name="no_op", args=(number,), kwargs={}, options={})
        for number in range(count)
    )
    return [b64encode(message.encode()).decode() for message in messages]


def wait_until(condition: Callable[[], Any]) -> None:
    """Wait until the condition is true. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the condition is still false after {PATIENCE_S:.0f} s")
        time.sleep(LOOK_S)


if __name__ == "__main__":
    main()
