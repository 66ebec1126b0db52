"""Health over HTTP: whether the worker processes of a `dramatiq` command are alive, and whether they take messages.

Each process writes a report into the command's directory, once a second. A process that Dramatiq forks reads the
reports and answers:

- `/live`: 200, or 503 when a process has stopped reporting, when a thread that it needs is stuck or has died, or when
  none of its worker threads can work any more. A report that is gone or cannot be read is no report: it counts as
  stopped after a while, unless the process has ended.
- `/ready`: 200, or 503 when it is not alive, or while a process is starting or stopping, its circuit breaker is open,
  its polls have failed for a minute, or all its worker threads are over their time limits.

A service's fault makes a worker unready, never dead: it heals by itself, and a restart would only delay the messages in
flight.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPException
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import msgspec
import structlog
from dramatiq import Broker, Middleware, Worker
from msgspec.structs import replace

from graphnode.broker import SQSBroker
from graphnode.errors import SettingsError, log_text
from graphnode.private import check_private, private_directory
from graphnode.settings import HealthSettings, read_settings
from graphnode.sqs.deliveries import Delivery, State
from graphnode.sqs.liveness import LifeSign, dead_threads, is_running, last_signs
from graphnode.sqs.poll_failures import failing_polls
from graphnode.worker import endpoint
from graphnode.worker.endpoint import Response
from graphnode.worker.middleware import HARD_LIMIT_FACTOR

#: Seconds between two reports of a process, and seconds without a report after which it counts as stuck.
REPORT_S = 1.0
SILENT_S = 15.0

#: Seconds that `ask` waits for an answer.
ASK_TIMEOUT_S = 3.0

#: The version of an address with four numbers.
IPV4 = 4

log = structlog.get_logger("graphnode.health")


class WorkerThreads(NamedTuple):
    """The number of a process's worker threads.

    Parameters:
      all: of them all.
      late: of those whose message has run for longer than its actor's time limit.
      stuck: of those whose message has run for longer than the hard limit, or that have died; they count as late, too.
    """

    all: int = 0
    late: int = 0
    stuck: int = 0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker process says of itself.

    Parameters:
      pid: its process ID.
      at: when it said so (monotonic).
      state: `starting`, `taking` or `stopping`.
      last_signs: its threads' last signs of life, by the thread's name.
      dead: the names of threads that an exception has ended.
      threads: its worker threads. None are counted unless it takes messages.
      outages: what keeps it from taking messages, a line each.
    """

    pid: int
    at: float
    state: str
    last_signs: dict[str, LifeSign]
    dead: list[str] = []
    threads: WorkerThreads = WorkerThreads()
    outages: list[str] = []


class Health(msgspec.Struct, frozen=True):
    """The answer: whether all is well, and a line for each problem."""

    ok: bool
    problems: list[str]


def liveness(reports: Sequence[Report], *, now: float, since: float) -> Health:
    """Whether all processes report and can work.

    Parameters:
      reports: the latest one of each process.
      now: monotonic seconds.
      since: when reports were first looked for. Without any for a while, the worker is not alive.
    """
    problems = [] if reports or now - since <= SILENT_S else [f"no process has reported for {now - since:.0f} s"]
    problems += [
        f"process {report.pid}: no report for {now - report.at:.0f} s" for report in reports if is_silent(report, now)
    ]
    problems += [
        f"process {report.pid}: {name} has been stuck for {report.at - sign.at:.0f} s"
        for report in reports
        for name, sign in sorted(report.last_signs.items())
        if name not in report.dead and report.at - sign.at > sign.within_s
    ]
    problems += [f"process {report.pid}: {name} has died" for report in reports for name in report.dead]
    problems += [
        f"process {report.pid}: all {report.threads.all} worker threads are stuck or have died"
        for report in reports
        if report.threads.stuck >= report.threads.all > 0
    ]
    return Health(not problems, problems)


def readiness(reports: Sequence[Report], *, now: float, since: float) -> Health:
    """Whether all processes take messages. Parameters as for `liveness`."""
    problems = list(liveness(reports, now=now, since=since).problems)
    problems += [f"process {report.pid}: {report.state}" for report in reports if report.state != "taking"]
    problems += [f"process {report.pid}: {outage}" for report in reports for outage in report.outages]
    problems += [
        f"process {report.pid}: all {report.threads.all} worker threads are over their time limits"
        for report in reports
        if report.threads.late >= report.threads.all > report.threads.stuck
    ]
    if not reports:
        problems.append("no worker process has started yet")
    return Health(not problems, problems)


def is_silent(report: Report, now: float) -> bool:
    """Whether a process has not reported for too long."""
    return now - report.at > SILENT_S


def count_threads(threads: Iterable[threading.Thread], deliveries: Iterable[Delivery], *, now: float) -> WorkerThreads:
    """How many worker threads there are, are late, and are stuck.

    Parameters:
      threads: the worker threads.
      deliveries: the messages in flight.
      now: monotonic seconds.
    """
    running = {delivery.thread_id: delivery for delivery in deliveries if delivery.state is State.RUNNING}
    total = late = stuck = 0
    for thread in threads:
        total += 1
        delivery = running.get(thread.ident)
        if not thread.is_alive():
            late, stuck = late + 1, stuck + 1
        elif delivery:
            limits = (now - delivery.started) / delivery.time_limit_s
            late, stuck = late + (limits > 1), stuck + (limits > HARD_LIMIT_FACTOR)
    return WorkerThreads(total, late, stuck)


def outages(broker: SQSBroker) -> list[str]:
    """What keeps a process from taking messages now, a line each."""
    if ongoing := broker.breaker.ongoing:
        seconds = (datetime.now(UTC) - ongoing.since).total_seconds()
        return [f"the circuit breaker has been open for {seconds:.0f} s, {ongoing.service}: {ongoing.error}"]
    now = time.monotonic()
    return [
        f"polls of {polls.queue_name} have failed for {now - polls.began:.0f} s: {polls.error}"
        for polls in failing_polls()
    ]


def directory() -> Path:
    """The directory that the processes of one `dramatiq` command share: they have the same parent."""
    return Path(tempfile.gettempdir(), f"graphnode-health-{os.getuid()}-{os.getppid()}")


class HealthReports(Middleware):
    """Writes the process's reports. With a port, Dramatiq forks the process that serves them."""

    def __init__(self) -> None:
        self._state = "starting"
        self._is_reported = True
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._worker: Worker | None = None

    @property
    def forks(self) -> list[Callable[[], int]]:
        """The process that serves health, for Dramatiq to fork."""
        return [serve] if serving_address().health_port else []

    def after_process_boot(self, broker: Broker) -> None:
        """Start to report. The worker's own start may wait long for services that are away."""
        if serving_address().health_port:
            self._thread = threading.Thread(target=self._run, args=(broker, directory()), name="health", daemon=True)
            self._thread.start()

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Report that the process takes messages."""
        self._worker = worker
        self._state = "taking"

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Remove the report: a process that has ended is not silent."""
        self._ended.set()
        if self._thread:
            self._thread.join(SILENT_S)

    def _run(self, broker: SQSBroker, place: Path) -> None:
        with suppress(OSError):
            check_private(place)
            forget_ended_processes(place)
        while not self._ended.wait(REPORT_S):
            self.write(place, self.report(broker))
        with suppress(OSError):
            (place / str(os.getpid())).unlink(missing_ok=True)
            # Only the last process can.
            place.rmdir()

    def write(self, place: Path, report: Report) -> None:
        """Write a report. Log once that it cannot be written, and once that it can again."""
        try:
            write(place, report)
        except OSError as error:
            if self._is_reported:
                log.error("health not reported", error=log_text(error))
            self._is_reported = False
        else:
            if not self._is_reported:
                log.warning("health reported again")
            self._is_reported = True

    def report(self, broker: SQSBroker) -> Report:
        """The process's present report."""
        now = time.monotonic()
        known = Report(pid=os.getpid(), at=now, state=self._state, last_signs=last_signs(), dead=dead_threads())
        # Threads end in a stop, and some end before this is known.
        if broker.stop.requested:
            return replace(known, state="stopping", dead=[])
        if self._worker is None:
            return known
        consumers = self._worker.consumers.items()
        return replace(
            known,
            dead=known.dead + [f"the consumer of {name}" for name, thread in consumers if not thread.is_alive()],
            threads=count_threads(self._worker.workers, broker.in_flight.snapshot(), now=now),
            outages=outages(broker),
        )


def serving_address() -> HealthSettings:
    """Where to serve. Without a port if a setting is wrong; the worker's start reports that."""
    try:
        return read_settings(os.environ, HealthSettings)
    except SettingsError:
        return HealthSettings()


def write(place: Path, report: Report) -> None:
    """Replace the process's report at once as a whole. Makes the directory if it is missing. Raises OSError."""
    private_directory(place)
    new = place / f".{report.pid}"
    new.write_bytes(msgspec.json.encode(report))
    new.replace(place / str(report.pid))


def forget_ended_processes(place: Path) -> None:
    """Remove the reports of killed processes: an earlier command may have had this one's process ID."""
    for file in place.glob("[0-9]*"):
        if not is_running(int(file.name)):
            file.unlink(missing_ok=True)


def read(place: Path) -> list[Report]:
    """The reports that can be read. Those in a directory that others may write are nobody's."""
    found = []
    with suppress(OSError):
        check_private(place)
        for file in sorted(place.glob("[0-9]*")):
            # The process may have ended meanwhile.
            with suppress(OSError, msgspec.DecodeError):
                found.append(msgspec.json.decode(file.read_bytes(), type=Report))
    return found


class Reports:
    """The latest report of each process. One whose file is gone stays while its process runs.

    Parameters:
      place: the directory of the reports.
    """

    def __init__(self, place: Path) -> None:
        self.since = time.monotonic()
        self._place = place
        self._latest: dict[int, Report] = {}

    def latest(self) -> list[Report]:
        """The latest report of each process."""
        latest = {pid: report for pid, report in self._latest.items() if is_running(pid)}
        latest.update({report.pid: report for report in read(self._place)})
        self._latest = latest
        return list(latest.values())

    def answer(self, path: str) -> Response | None:
        """The answer at `/live` and `/ready`."""
        judge = {"/live": liveness, "/ready": readiness}.get(path)
        if judge is None:
            return None
        health = judge(self.latest(), now=time.monotonic(), since=self.since)
        status = HTTPStatus.OK if health.ok else HTTPStatus.SERVICE_UNAVAILABLE
        return Response(status, "application/json", msgspec.json.encode(health))


def serve() -> int:
    """Serve until SIGTERM, in the process that Dramatiq forks."""
    known = serving_address()
    assert known.health_port, "forked only with a port"  # noqa: S101
    return endpoint.serve("health", host=known.health_host, port=known.health_port, answer=Reports(directory()).answer)


def ask(number: int, *, path: str, host: str = "127.0.0.1") -> Health:
    """The answer of the worker on this machine.

    Parameters:
      host: the address on which it listens.
    """
    # One that listens everywhere is asked on loopback. A host's name is no address.
    with suppress(ValueError):
        if (address := ip_address(host)).is_unspecified:
            host = "127.0.0.1" if address.version == IPV4 else "::1"
    where = f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
    # Without the environment's proxies.
    opener = build_opener(ProxyHandler({}))
    try:
        try:
            answered = opener.open(f"http://{where}{path}", timeout=ASK_TIMEOUT_S)
        except HTTPError as error:
            answered = error
        with answered:
            return msgspec.json.decode(answered.read(), type=Health)
    except (OSError, HTTPException, msgspec.DecodeError) as error:
        return Health(False, [f"no worker answers at {where}: {error}"])
