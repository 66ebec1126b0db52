"""What consuming costs: this project's broker and dramatiq_sqs's, side by side in one run.

One process, 8 threads, a no-op actor, 4,000 messages. First on the stub, which answers after 10 ms as a queue in the
same region does; then on LocalStack. Rounds alternate, medians are printed. All of it is on loopback, and ends by
itself. With `--observed`: what metrics and traces cost, on the stub alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import runpy
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
from dramatiq import Message

from benchmarks.sqs_stub import StubServer
from graphnode.dev.aws import sqs_client
from graphnode.dev.guard import GuardedProcess
from graphnode.dev.localstack import HOOK, REGION, LocalStack
from graphnode.dev.outcomes import is_empty

#: This project's broker, and what it is compared with: the prefix of each one's figures.
BROKERS = {"graphnode": "", "dramatiq_sqs": "baseline_"}

#: This project's broker, and the same with metrics, and with traces of each message.
OBSERVED = {"graphnode": "", "metrics": "metrics_", "traces": "traces_"}

#: Names of SQS queues, a new one for each worker: a poll that the last one left behind would swallow messages.
QUEUES = (f"benchmark-{number}-results" for number in itertools.count(1))

MESSAGES = 4000
LATENCY_MS = 10
THREADS = 8
ROUNDS = 3
OBSERVED_ROUNDS = 5

#: Seconds that an idle worker is watched for: more than six long polls.
IDLE_S = 125.0

#: Seconds after which the benchmark gives up on what it waits for.
PATIENCE_S = 300.0

#: Seconds between two looks. Looking costs the server something, which is not to be the brokers'.
LOOK_S = 0.1

Figures = dict[str, float]


def main() -> None:
    """Measure, and print the figures as one line of JSON, or as a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.consume", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures as one line of JSON")
    parser.add_argument("--observed", action="store_true", help="measure what metrics and traces cost, and no more")
    asked = parser.parse_args()
    figures: dict[str, Any] = {"messages": MESSAGES, "latency_ms": LATENCY_MS}
    if asked.observed:
        with tempfile.TemporaryDirectory(prefix="graphnode-benchmark-") as directory, StubServer() as stub:
            figures |= measure_drains(stub, Path(directory), OBSERVED, rounds=OBSERVED_ROUNDS)
        show(figures, OBSERVED, as_json=asked.json)
        return
    with tempfile.TemporaryDirectory(prefix="graphnode-benchmark-") as directory:
        with StubServer() as stub:
            figures |= measure_stub(stub, Path(directory))
        with LocalStack() as localstack:
            localstack.wait_until_ready()
            figures["localstack"] = measure_localstack(localstack, Path(directory))
    show(figures, BROKERS, as_json=asked.json)


def show(figures: dict[str, Any], brokers: Mapping[str, str], *, as_json: bool) -> None:
    """Print the figures."""
    if as_json:
        print(json.dumps(figures))  # noqa: T201
        return
    for place, found in ((f"stub at {LATENCY_MS} ms", figures), ("LocalStack", figures.get("localstack", {}))):
        names = [name for name in found if all(prefix + name in found for prefix in brokers.values())]
        if names:
            print(f"\n{place:<24}" + "".join(f"{broker:>14}" for broker in brokers))  # noqa: T201
        for name in names:
            print(f"{name:<24}" + "".join(f"{found[prefix + name]:>14}" for prefix in brokers.values()))  # noqa: T201


def measure_stub(stub: StubServer, directory: Path) -> Figures:
    """All figures on the stub."""
    return {**measure_drains(stub, directory, BROKERS, rounds=ROUNDS), **measure_idle(directory)}


def measure_drains(stub: StubServer, directory: Path, brokers: Mapping[str, str], *, rounds: int) -> Figures:
    """What working off a full queue of the stub costs."""
    stub.order(latency_ms=LATENCY_MS)

    def drain(broker: str) -> Figures:
        queue = next(QUEUES)
        with running_worker(broker, stub.url, stub.queue_url(queue), directory) as worker:
            stub.order(reset=True)
            cpu = cpu_s(worker)
            stub.fill(queue, bodies(queue))
            wait_until(lambda: not stub.order()["undeleted"][queue])
            cpu = cpu_s(worker) - cpu
            state = stub.order()
        return {
            "calls_per_message": sum(state["calls"].values()) / MESSAGES,
            "messages_per_second": MESSAGES / state["busy_s"],
            "cpu_ms_per_message": cpu * 1000 / MESSAGES,
        }

    return medians(drain, brokers, rounds=rounds, place="the stub")


def measure_idle(directory: Path) -> Figures:
    """Calls a minute of an idle worker, and seconds until it has stopped: both at once, each on a stub of its own."""
    tell(f"watching both idle for {IDLE_S:.0f} s")
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
    """The figures that LocalStack can give: it does not tell its calls."""
    environment = {"AWS_ENDPOINT_URL": localstack.endpoint, "AWS_REGION": REGION, **credentials()}
    sqs = sqs_client(environment)
    make_queues = runpy.run_path(str(HOOK))["make_queues"]

    def drain(broker: str) -> Figures:
        queue = next(QUEUES)
        make_queues(sqs, queue.removesuffix("-results"))
        url = localstack.queue_url(queue)
        prepared = bodies(queue)
        for start in range(0, MESSAGES, 10):
            some = prepared[start : start + 10]
            entries: Any = [{"Id": str(index), "MessageBody": body} for index, body in enumerate(some)]
            sqs.send_message_batch(QueueUrl=url, Entries=entries)
        with running_worker(broker, localstack.endpoint, url, directory) as worker:
            began, cpu = time.monotonic(), cpu_s(worker)
            wait_until(lambda: is_empty(sqs, url))
            return {
                "messages_per_second": MESSAGES / (time.monotonic() - began),
                "cpu_ms_per_message": (cpu_s(worker) - cpu) * 1000 / MESSAGES,
            }

    return medians(drain, BROKERS, rounds=ROUNDS, place="LocalStack")


def medians(measure: Callable[[str], Figures], brokers: Mapping[str, str], *, rounds: int, place: str) -> Figures:
    """Measure the brokers in turn, and give the median of each figure, each broker's with its prefix."""
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
    """A `dramatiq` command that takes messages; yields its one worker process."""
    log = directory / f"{broker}-{time.monotonic_ns()}.log"
    environment = {
        **os.environ,
        **credentials(),
        "BENCHMARK_BROKER": broker,
        "BENCHMARK_ENDPOINT": endpoint,
        "BENCHMARK_QUEUE": queue_url.rpartition("/")[2],
        "BENCHMARK_QUEUE_URL": queue_url,
    }
    command = [sys.executable, "-m", "dramatiq", "benchmarks.consume_worker", "-p", "1", "-t", str(THREADS)]
    environment |= {"dramatiq_prom_db": str(directory / "metrics"), "dramatiq_prom_port": str(free_port())}
    with (
        collector() as endpoint,
        GuardedProcess(command, log=log, env={**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}) as process,
    ):
        wait_until(lambda: "Worker process is ready" in log.read_text())
        yield next(
            child
            for child in psutil.Process(process.pid).children()
            if "resource_tracker" not in " ".join(child.cmdline())
        )


class TakeAll(BaseHTTPRequestHandler):
    """Takes spans, and leaves them be."""

    def do_POST(self) -> None:
        """Say that all is well."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing."""


@contextmanager
def collector() -> Iterator[str]:
    """Where traces go; its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), TakeAll) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def free_port() -> int:
    """A port that nobody listens on."""
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
    """Messages for the no-op actor, encoded as both brokers do."""
    messages = (
        Message[None](queue_name=queue, actor_name="no_op", args=(number,), kwargs={}, options={})
        for number in range(count)
    )
    return [b64encode(message.encode()).decode() for message in messages]


def credentials() -> dict[str, str]:
    """Credentials that no server here looks at."""
    return {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def wait_until(look: Callable[[], Any]) -> None:
    """Look until there is something to see. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE_S
    while not look():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE_S:.0f} s in vain")
        time.sleep(LOOK_S)


def tell(line: str) -> None:
    """Progress, beside the figures."""
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
