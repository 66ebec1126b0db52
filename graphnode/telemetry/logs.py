"""Logs: one event a line with its fields, as JSON for machines or readable on a terminal. See docs/logs.md."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from typing import NamedTuple, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from graphnode.errors import log_text
from graphnode.settings import LogSettings
from graphnode.telemetry.rate_limit import WINDOW_S, LeftOut, Storm
from graphnode.telemetry.stacks import stack_of
from graphnode.text import TURNING, escaped

#: Dramatiq's worker logs each message it takes and each failure, with arguments and stack, before we know what becomes
#: of it; the verdict's own line says what is to be said.
SAID_ELSEWHERE = ("dramatiq.worker.WorkerThread",)

#: Loggers whose chatter below a warning helps nobody, and shows what they send or get: SQL, URLs, bodies. Dramatiq logs
#: an actor's arguments, the whole envelope, under the actor's own module.
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

#: What this program says of itself, as foreign lines have it in their fields.
log = structlog.get_logger("graphnode.logs")


#: Texts of our own that have several lines; `log_text` leaves none in what is quoted.
OF_SEVERAL_LINES = frozenset({"event", "stack"})

#: What JSON leaves as it is, and a terminal on which the line is read may obey: C1 controls, and what turns the
#: direction of the text that follows.
OBEYED = re.compile(f"[\\x7f-\\x9f{''.join(sorted(TURNING))}]")


class Kind(NamedTuple):
    """Lines alike: of one event, for one reason."""

    logger: str
    event: str
    reason: str | None


class StormGuard(logging.Filter):
    """Leaves warnings and errors out when too many alike come, and says how many it left out."""

    def __init__(self) -> None:
        super().__init__()
        self._storm = Storm[Kind]()
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is told."""
        if record.levelno < logging.WARNING or record.name == "graphnode.logs":
            return True
        # Each handler asks, and a line is one line however many there are.
        if "is_told" not in vars(record):
            now = time.monotonic()
            with self._lock:
                over = self._storm.ended(now=now)
                vars(record)["is_told"] = self._storm.admits(_kind(record), now=now)
            _tell(over)
        return bool(vars(record)["is_told"])

    def tell_ended(self, *, now: float | None = None) -> None:
        """Tell what was left out of the windows that have ended by now (monotonic; None: of all)."""
        with self._lock:
            over = self._storm.ended(now=float("inf") if now is None else now)
        _tell(over)


def _kind(record: logging.LogRecord) -> Kind:
    """A foreign line's kind is its text before its arguments are put in."""
    if isinstance(record.msg, dict):
        return Kind(record.name, record.msg["event"], record.msg.get("reason"))
    return Kind(record.name, str(record.msg), None)


def _tell(over: list[LeftOut[Kind]]) -> None:
    for kind, lines in over:
        fields = {"reason": kind.reason} if kind.reason else {}
        log.warning("left out", of=kind.event, of_logger=kind.logger, lines=lines, **fields)


_guard = StormGuard()


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is at the time: Dramatiq puts a pipe there in its worker processes."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        """Where to write."""
        return sys.stderr

    @stream.setter
    def stream(self, _stream: TextIO) -> None:
        raise AttributeError("the stream is what sys.stderr is")


def configure_logs(known: LogSettings) -> None:
    """Give all log lines one form; where the output goes stays as it is.

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
            *([] if known.log_format == "json" else [with_lines_of_error, nothing_to_obey]),
            renderer,
        ],
    )
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(StderrHandler())
    for handler in root.handlers:
        handler.setFormatter(formatter)
        if _guard not in handler.filters:
            handler.addFilter(_guard)
    root.setLevel(known.log_level.upper())
    for name in SAID_ELSEWHERE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
        # google-auth turns its own off at its first use, where nobody has set a level by then.
        logging.getLogger(name).propagate = True


def watch_for_storms() -> None:
    """Have a thread tell what was left out when a storm is over and nothing else is logged. Once a process."""

    def watch() -> None:
        while True:
            time.sleep(WINDOW_S / 2)
            _guard.tell_ended(now=time.monotonic())

    threading.Thread(target=watch, name="storm-watch", daemon=True).start()


def tell_left_out() -> None:
    """Tell what was left out so far: the process is about to end."""
    _guard.tell_ended()


def stack_instead_of_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Give a line its exception's stack, and what logs may say of it: its own text may quote anything."""
    found = event.pop("exc_info", None)
    if found is True:
        found = sys.exc_info()
    error = found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        event.setdefault("error", log_text(error))
        event["stack"] = stack_of(error)
    return event


def with_lines_of_error(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Show a reader an error of several lines, such as all faults of the settings, as lines."""
    if "\n" in str(event.get("error")):
        event["event"] = f"{event['event']}: {event.pop('error')}"
    return event


def nothing_to_obey(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape what a terminal would obey, and line breaks where a text from outside could forge a line with them."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = escaped(value, but="\n" if name in OF_SEVERAL_LINES else "")
    return event


def as_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """The line as one JSON object."""
    try:
        return OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", _ENCODER.encode(event).decode())
    except (UnicodeEncodeError, TypeError):
        # Half a surrogate pair is no text for msgspec, and a dict may have keys that JSON has not.
        return json.dumps(event, default=repr, skipkeys=True)


_ENCODER = msgspec.json.Encoder(enc_hook=repr)
