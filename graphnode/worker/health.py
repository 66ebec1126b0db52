"""Health over HTTP: whether the worker processes of a `dramatiq` command are alive, and whether they take messages.

Each process writes a report into the command's directory, once a second. A process that Dramatiq forks reads the
reports and answers:

- `/live`: 200, or 503 when a process has stopped reporting, or when one of its pollers or its heartbeat is stuck. A
  report that is gone or cannot be read is no report: it counts as stopped after a while, unless the process has ended.
- `/ready`: 200, or 503 while a process is starting or stopping, or a service that it needs is away.

An outage makes a worker unready, never dead: it heals by itself, and a restart would only delay the messages in flight.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

import msgspec
import structlog
from dramatiq import Broker, Middleware, Worker

from graphnode.broker import SQSBroker
from graphnode.errors import SettingsError, log_text
from graphnode.settings import HealthSettings, read_settings
from graphnode.sqs.liveness import LifeSign, is_running, last_signs
from graphnode.worker.parent import end_with_parent

#: Seconds between two reports of a process, and seconds without a report after which it counts as stuck.
REPORT_S = 1.0
SILENT_S = 15.0

#: Seconds that `ask` waits for an answer.
ASK_TIMEOUT_S = 3.0

log = structlog.get_logger("graphnode.health")


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker process says of itself.

    Parameters:
      pid: its process ID.
      at: when it said so (monotonic).
      state: `starting`, `taking`, `stopping`, or `waiting` while a service is away.
      last_signs: its threads' last signs of life, by the thread's name.
    """

    pid: int
    at: float
    state: str
    last_signs: dict[str, LifeSign]


class Health(msgspec.Struct, frozen=True):
    """The answer: whether all is well, and a line for each problem."""

    ok: bool
    problems: list[str]


def liveness(reports: Sequence[Report], *, now: float, since: float) -> Health:
    """Whether all processes report, and none of their threads is stuck.

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
        if report.at - sign.at > sign.within_s
    ]
    return Health(not problems, problems)


def readiness(reports: Sequence[Report], *, now: float, since: float) -> Health:
    """Whether all processes take messages. Parameters as for `liveness`."""
    problems = list(liveness(reports, now=now, since=since).problems)
    problems += [f"process {report.pid}: {report.state}" for report in reports if report.state != "taking"]
    if not reports:
        problems.append("no worker process has started yet")
    return Health(not problems, problems)


def is_silent(report: Report, now: float) -> bool:
    """Whether a process has not reported for too long."""
    return now - report.at > SILENT_S


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

    @property
    def forks(self) -> list[Callable[[], int]]:
        """The process that serves health, for Dramatiq to fork."""
        return [serve] if port() else []

    def after_process_boot(self, broker: Broker) -> None:
        """Start to report. The worker's own start may wait long for services that are away."""
        if port():
            self._thread = threading.Thread(target=self._run, args=(broker, directory()), name="health", daemon=True)
            self._thread.start()

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Report that the process takes messages."""
        self._state = "taking"

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Remove the report: a process that has ended is not silent."""
        self._ended.set()
        if self._thread:
            self._thread.join(SILENT_S)

    def _run(self, broker: SQSBroker, place: Path) -> None:
        with suppress(OSError):
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
        state = self._state
        if state == "taking" and not broker.breaker.is_closed:
            state = "waiting for a service that is away"
        if broker.stop.requested:
            state = "stopping"
        return Report(pid=os.getpid(), at=time.monotonic(), state=state, last_signs=last_signs())


def port() -> int | None:
    """The port to serve on. None when it is not set or wrong; the worker's start reports a wrong one."""
    try:
        return read_settings(os.environ, HealthSettings).health_port
    except SettingsError:
        return None


def write(place: Path, report: Report) -> None:
    """Replace the process's report at once as a whole. Makes the directory if it is missing. Raises OSError."""
    place.mkdir(mode=0o700, exist_ok=True)
    new = place / f".{report.pid}"
    new.write_bytes(msgspec.json.encode(report))
    new.replace(place / str(report.pid))


def forget_ended_processes(place: Path) -> None:
    """Remove the reports of killed processes: an earlier command may have had this one's process ID."""
    for file in place.glob("[0-9]*"):
        if not is_running(int(file.name)):
            file.unlink(missing_ok=True)


def read(place: Path) -> list[Report]:
    """The reports that can be read."""
    found = []
    with suppress(OSError):
        for file in sorted(place.glob("[0-9]*")):
            # The process may have ended meanwhile.
            with suppress(OSError, msgspec.DecodeError):
                found.append(msgspec.json.decode(file.read_bytes(), type=Report))
    return found


class Server(ThreadingHTTPServer):
    """Answers by the latest report of each process. It keeps those that are gone while their process runs.

    Parameters:
      port: where it serves.
      place: the directory of the reports.
    """

    def __init__(self, port: int, place: Path) -> None:
        super().__init__(("", port), Handler)
        self.since = time.monotonic()
        self._place = place
        self._latest: dict[int, Report] = {}

    def reports(self) -> list[Report]:
        """The latest report of each process."""
        latest = {pid: report for pid, report in self._latest.items() if is_running(pid)}
        latest.update({report.pid: report for report in read(self._place)})
        self._latest = latest
        return list(latest.values())


class Handler(BaseHTTPRequestHandler):
    """Answers `/live` and `/ready`."""

    server: Server

    #: Seconds that a thread waits for a client.
    timeout = 5

    def do_GET(self) -> None:
        """Answer."""
        judge = {"/live": liveness, "/ready": readiness}.get(self.path.partition("?")[0])
        if judge is None:
            self.send_error(404)
            return
        health = judge(self.server.reports(), now=time.monotonic(), since=self.server.since)
        body = msgspec.json.encode(health)
        self.send_response(200 if health.ok else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing: a request every few seconds is no event."""


def serve() -> int:
    """Serve until SIGTERM, in the process that Dramatiq forks."""
    end_with_parent()
    number = port()
    assert number, "forked only with a port"  # noqa: S101
    try:
        with Server(number, directory()) as server:
            server.serve_forever()
    except OSError as error:
        log.error("health is not served", port=number, error=log_text(error))
        return 1
    return 0


def ask(number: int, *, path: str) -> Health:
    """The answer of the worker on this machine."""
    # Without the environment's proxies.
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{number}{path}", timeout=ASK_TIMEOUT_S) as answer:
            return msgspec.json.decode(answer.read(), type=Health)
    except HTTPError as error:
        return msgspec.json.decode(error.read(), type=Health)
    except (URLError, OSError) as error:
        return Health(False, [f"nothing answers on port {number}: {error}"])
