"""Error reports: what somebody should look at, told to Sentry; nothing at all without `SENTRY_DSN`.

A report is built here, field by field, from what logs may say: no integration of the SDK looks into the process, and
what did not come from here is not sent. The SDK sends in a thread of its own; when it cannot, reports are dropped.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from graphnode import __version__
from graphnode.errors import GraphNodeError, OutageError, SettingsError
from graphnode.telemetry.rate_limit import Storm
from graphnode.telemetry.stacks import chain_of

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

#: What marks a report as one of ours.
LOGGER = "graphnode"

#: Seconds that a stop waits for reports on their way.
FLUSH_S = 2.0

#: Bounds of the SDK's waiting reports; more are dropped.
MOST_WAITING = 100

#: The fields of a report that are ours, and those that the SDK must add.
FIELDS = frozenset(
    {"contexts", "environment", "event_id", "exception", "fingerprint", "level", "logger", "message", "platform"}
    | {"release", "sdk", "server_name", "tags", "timestamp"}
)


class Kind(NamedTuple):
    """Reports alike: Sentry has one issue for them."""

    reason: str
    source: str


_storm = Storm[Kind]()
_lock = threading.Lock()


def open_reports(dsn: str | None) -> None:
    """Start to report. In the process that reports, never before Dramatiq has forked.

    Parameters:
      dsn: where Sentry is; None: nothing is reported.

    Raises SettingsError when the SDK is not installed, or the DSN is none.
    """
    if dsn is None:
        return
    try:
        import sentry_sdk
        from sentry_sdk.utils import BadDsn
    except ModuleNotFoundError:
        raise SettingsError("SENTRY_DSN needs the SDK: pip install 'graphnode-worker[sentry]'.") from None
    try:
        sentry_sdk.init(
            dsn,
            release=f"graphnode@{__version__}",
            before_send=only_ours,
            default_integrations=False,
            auto_enabling_integrations=False,
            auto_session_tracking=False,
            send_client_reports=False,
            include_local_variables=False,
            max_breadcrumbs=0,
            max_request_body_size="never",
            transport_queue_size=MOST_WAITING,
            shutdown_timeout=FLUSH_S,
        )
    except BadDsn:
        raise SettingsError("SENTRY_DSN is not a Sentry DSN, such as https://KEY@HOST/PROJECT.") from None


def close_reports() -> None:
    """Wait for the reports on their way, but not for long."""
    if _is_open():
        import sentry_sdk

        sentry_sdk.flush(timeout=FLUSH_S)


def report_failure(error: GraphNodeError, *, actor: str, attempt: int, task: Mapping[str, Any]) -> None:
    """Report a message that became a dead letter, or an error that nobody foresaw.

    Parameters:
      actor: which actor it was; of a message that reached none, its queue.
      attempt: which attempt failed.
      task: `task_id` and `task_type`, as far as they are known; the rest is left out.
    """
    known = {name: str(task[name]) for name in ("task_id", "task_type") if task.get(name)}
    tags = {"actor": actor, **{name: value for name, value in known.items() if name == "task_type"}}
    _report(
        error, Kind(error.reason, actor), tags=tags, context={"task": {**known, "actor": actor, "attempt": attempt}}
    )


def report_outage(error: OutageError) -> None:
    """Report that an outage has begun."""
    _report(error, Kind(error.reason, error.service), tags={"service": error.service}, context={})


def only_ours(event: Event, _hint: Hint) -> Event | None:
    """The report without what the SDK added to it; None when it is not one of ours."""
    if event.get("logger") != LOGGER:
        return None
    kept: Any = {name: value for name, value in event.items() if name in FIELDS}
    return kept  # type: ignore[no-any-return]


def _is_open() -> bool:
    """Whether `open_reports` was given a DSN. Does not import the SDK: a worker without Sentry does without it."""
    return "sentry_sdk" in sys.modules and sys.modules["sentry_sdk"].is_initialized()


def _report(error: GraphNodeError, kind: Kind, *, tags: Mapping[str, str], context: Mapping[str, Any]) -> None:
    if not _is_open():
        return
    now = time.monotonic()
    with _lock:
        _storm.ended(now=now)
        if not _storm.admits(kind, now=now):
            return
    import sentry_sdk

    sentry_sdk.capture_event(
        {
            "logger": LOGGER,
            "level": "error",
            "tags": {"reason": error.reason, **tags},
            "contexts": dict(context),
            "fingerprint": list(kind),
            "exception": {"values": [_exception(each, error) for each in chain_of(error)]},
        }
    )


def _exception(error: BaseException, reported: GraphNodeError) -> dict[str, Any]:
    """An exception as Sentry shows it: its class and its stack. A text it has only where that quotes nothing."""
    return {
        "type": type(error).__name__,
        "value": reported.log_text if error is reported else "",
        "stacktrace": {
            "frames": [
                {
                    "filename": frame.filename,
                    "function": frame.name,
                    "lineno": frame.lineno,
                    "context_line": frame.line,
                    "in_app": "site-packages" not in frame.filename,
                }
                for frame in traceback.extract_tb(error.__traceback__)
            ]
        },
    }
