"""The process that serves the metrics: Dramatiq's own, which ends with Dramatiq's main process."""

from __future__ import annotations

from dramatiq.middleware.prometheus import _run_exposition_server

from graphnode.worker.parent import end_with_parent


def serve() -> int:
    """Serve until SIGTERM, in the process that Dramatiq forks."""
    end_with_parent()
    code: int = _run_exposition_server()
    return code
