"""Logs: one event a line with its fields, as JSON for machines or readable on a terminal. See docs/logs.md."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from typing import NamedTuple

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from graphnode.errors import log_text
from graphnode.settings import LogSettings
from graphnode.telemetry.log_writer import LogWriter
from graphnode.telemetry.rate_limit import WINDOW_S, RateLimiter, Suppressed
from graphnode.telemetry.stacks import stack_of
from graphnode.text import escaped, escaped_json

#: Dramatiq's worker logs each message and each failure, with arguments and stack, before there is a verdict. The
#: verdict's own line says what an operator needs.
SAID_ELSEWHERE = ("dramatiq.worker.WorkerThread",)

#: Loggers whose lines below a warning are left out: they show SQL, URLs or bodies. Dramatiq logs an actor's arguments,
#: the whole envelope, under the actor's module.
QUIET = (
    "botocore",
    "boto3",
    "firebase_admin",
    "google",
    "graphnode.actors",
    "peewee",
    "requests",
    "s3transfer",
    "sentry_sdk",
    "urllib3",
)

log = structlog.get_logger("graphnode.logs")


#: Fields of our own that may have several lines; `log_text` puts quoted text on one line.
OF_SEVERAL_LINES = frozenset({"event", "stack"})


class LineKind(NamedTuple):
    """What lines of one kind share."""

    logger: str
    event: str
    reason: str | None


class RateLimit(logging.Filter):
    """Suppresses warnings and errors of one kind when too many come, and logs how many it suppressed."""

    def __init__(self) -> None:
        super().__init__()
        self._limiter = RateLimiter[LineKind]()
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        if record.levelno < logging.WARNING or record.name == "graphnode.logs":
            return True
        # Each handler asks; a line counts once.
        if "is_written" not in vars(record):
            now = time.monotonic()
            with self._lock:
                over = self._limiter.ended(now=now)
                vars(record)["is_written"] = self._limiter.admits(_kind(record), now=now)
            _log_suppressed(over)
        return bool(vars(record)["is_written"])

    def log_suppressed(self, *, now: float | None = None) -> None:
        """Log what was suppressed in the windows that have ended by `now` (monotonic seconds; None: in all)."""
        with self._lock:
            over = self._limiter.ended(now=float("inf") if now is None else now)
        _log_suppressed(over)


def _kind(record: logging.LogRecord) -> LineKind:
    """A line's kind. Of another library's line: its text without arguments."""
    if isinstance(record.msg, dict):
        return LineKind(record.name, record.msg["event"], record.msg.get("reason"))
    return LineKind(record.name, str(record.msg), None)


def _log_suppressed(over: list[Suppressed[LineKind]]) -> None:
    for kind, lines in over:
        fields = {"reason": kind.reason} if kind.reason else {}
        log.warning("left out", of=kind.event, of_logger=kind.logger, lines=lines, **fields)


_guard = RateLimit()


_writer = LogWriter()


def configure_logs(known: LogSettings) -> None:
    """Give all log lines one form.

    Parameters:
      known: the form and the lowest level shown.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        stack_instead_of_exception,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: Processor = (
        as_json if known.log_format == "json" else structlog.dev.ConsoleRenderer(colors=False, pad_event_to=44)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *([] if known.log_format == "json" else [with_lines_of_error, escape_controls]),
            renderer,
        ],
    )
    root = logging.getLogger()
    # Dramatiq's own handler writes to the same place, in the thread that logs.
    others = [handler for handler in root.handlers if type(handler) is not logging.StreamHandler and handler != _writer]
    root.handlers[:] = [_writer, *others]
    for handler in root.handlers:
        handler.setFormatter(formatter)
        if _guard not in handler.filters:
            handler.addFilter(_guard)
    root.setLevel(known.log_level.upper())
    for name in SAID_ELSEWHERE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
        # google-auth stops propagation at its first use, unless a level is set.
        logging.getLogger(name).propagate = True


def watch_suppressed_lines() -> None:
    """Start the thread that logs how many lines were suppressed, also when no other line comes. Once a process."""

    def watch() -> None:
        while True:
            time.sleep(WINDOW_S / 2)
            _guard.log_suppressed(now=time.monotonic())

    threading.Thread(target=watch, name="storm-watch", daemon=True).start()


def log_suppressed_lines() -> None:
    """Log how many lines were suppressed so far."""
    _guard.log_suppressed()


def finish_logs() -> None:
    """Log how many lines were suppressed so far, and have each line written at once: the process is about to end."""
    log_suppressed_lines()
    _writer.flush_each_line()


def stack_instead_of_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace a line's exception by its stack and its `log_text`: the exception's own text may quote anything."""
    found = event.pop("exc_info", None)
    if found is True:
        found = sys.exc_info()
    error = found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        event.setdefault("error", log_text(error))
        event["stack"] = stack_of(error)
    return event


def with_lines_of_error(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Show an error of several lines, such as all faults of the settings, as lines."""
    if "\n" in str(event.get("error")):
        event["event"] = f"{event['event']}: {event.pop('error')}"
    return event


def escape_controls(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape what a terminal would obey, and line breaks in fields that outside text could forge a line with."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = escaped(value, but="\n" if name in OF_SEVERAL_LINES else "")
    return event


def as_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """The line as one JSON object."""
    try:
        return escaped_json(_ENCODER.encode(event).decode())
    except (UnicodeEncodeError, TypeError):
        # msgspec refuses half a surrogate pair, and dict keys that JSON does not have.
        return json.dumps(event, default=repr, skipkeys=True)


_ENCODER = msgspec.json.Encoder(enc_hook=repr)
