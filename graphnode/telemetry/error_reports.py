"""Error reports to Sentry of what somebody should look at. Without `SENTRY_DSN` there are none.

Each report is built here from what logs may say. The SDK's integrations are off, and no other report is sent. The SDK
sends in a thread of its own; when it cannot, it drops reports.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from graphnode import __version__
from graphnode.errors import GraphNodeError, SettingsError
from graphnode.telemetry.rate_limit import RateLimiter
from graphnode.telemetry.stacks import chain_of

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

#: The logger that marks a report as ours.
LOGGER = "graphnode"

#: Seconds that a stop waits for unsent reports.
FLUSH_S = 2.0

#: The most unsent reports; more are dropped.
MOST_WAITING = 100

#: The fields of a report that are sent: ours, and those that the SDK must add.
FIELDS = frozenset(
    {"contexts", "environment", "event_id", "exception", "fingerprint", "level", "logger", "message", "platform"}
    | {"release", "sdk", "server_name", "tags", "timestamp"}
)


class ReportKind(NamedTuple):
    """What reports of one Sentry issue share."""

    reason: str
    source: str


_limiter = RateLimiter[ReportKind]()
_lock = threading.Lock()


def open_reports(dsn: str | None) -> None:
    """Start to report, in the worker process, after Dramatiq has forked.

    Parameters:
      dsn: Sentry's address; None: nothing is reported.

    Raises SettingsError when the SDK is not installed, or the DSN is invalid.
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
    """Wait briefly for unsent reports."""
    if _is_open():
        import sentry_sdk

        sentry_sdk.flush(timeout=FLUSH_S)


def report_failure(error: GraphNodeError, *, actor: str, attempt: int, task: Mapping[str, Any]) -> None:
    """Report a dead letter or an unexpected error.

    Parameters:
      actor: the actor's name; of an undecodable message, its queue.
      attempt: the number of the failed attempt.
      task: `task_id` and `task_type`, if known. Other fields are left out.
    """
    known = {name: str(task[name]) for name in ("task_id", "task_type") if task.get(name)}
    tags = {"actor": actor, **{name: value for name, value in known.items() if name == "task_type"}}
    _report(
        error,
        ReportKind(error.reason, actor),
        tags=tags,
        context={"task": {**known, "actor": actor, "attempt": attempt}},
    )


def report_outage(error: GraphNodeError, *, service: str) -> None:
    """Report that an outage has begun.

    Parameters:
      error: the failure that is everybody's.
      service: what is away.
    """
    _report(error, ReportKind(error.reason, service), tags={"service": service}, context={})


def only_ours(event: Event, _hint: Hint) -> Event | None:
    """The report with our fields only; None for a report that is not ours."""
    if event.get("logger") != LOGGER:
        return None
    kept: Any = {name: value for name, value in event.items() if name in FIELDS}
    return kept  # type: ignore[no-any-return]


def _is_open() -> bool:
    """Whether `open_reports` was given a DSN. It does not import the SDK: a worker without Sentry has none."""
    return "sentry_sdk" in sys.modules and sys.modules["sentry_sdk"].is_initialized()


def _report(error: GraphNodeError, kind: ReportKind, *, tags: Mapping[str, str], context: Mapping[str, Any]) -> None:
    if not _is_open():
        return
    now = time.monotonic()
    with _lock:
        _limiter.ended(now=now)
        if not _limiter.admits(kind, now=now):
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
    """An exception for Sentry: its class and its stack. Only the reported error has a text, which quotes nothing."""
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
