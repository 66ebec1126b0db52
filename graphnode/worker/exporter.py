"""The process that serves the metrics of a `dramatiq` command, from the files that its worker processes share."""

from __future__ import annotations

import os
import tempfile
from http import HTTPStatus
from pathlib import Path

import structlog

from graphnode.errors import SettingsError
from graphnode.private import private_directory
from graphnode.worker import endpoint
from graphnode.worker.endpoint import Response

#: Metrics are on when they have a port.
SWITCH = "dramatiq_prom_port"

#: The variable with the address on which they are served, and the one with the directory of their files.
HOST = "dramatiq_prom_host"
DIRECTORY = "dramatiq_prom_db"

log = structlog.get_logger("graphnode.exporter")


def metrics_directory() -> Path:
    """The directory of the files: Dramatiq's variable, or one that is this user's. It is made if it is missing.

    Raises SettingsError unless it is this user's alone.
    """
    path = Path(os.environ.get(DIRECTORY) or Path(tempfile.gettempdir(), f"graphnode-metrics-{os.geteuid()}"))
    try:
        return private_directory(path)
    except OSError as error:
        raise SettingsError(
            f"The directory of the metrics, {path}, is not this user's alone ({error}). "
            f"Remove it, or set {DIRECTORY} to a directory that is."
        ) from None


def metrics_at(path: str, directory: Path) -> Response | None:
    """The metrics of all processes, in Prometheus' format."""
    if path != "/metrics":
        return None
    # Imported here: at its import prometheus_client decides whether it works for many processes.
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(directory))  # type: ignore[no-untyped-call]
    return Response(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry))


def serve() -> int:
    """Serve until SIGTERM, in the process that Dramatiq forks."""
    try:
        directory = metrics_directory()
    except SettingsError as error:
        # The worker processes say so, too, and end.
        log.error("metrics not served", error=str(error))
        return 1
    return endpoint.serve(
        "metrics",
        host=os.environ.get(HOST) or "127.0.0.1",
        port=int(os.environ[SWITCH]),
        answer=lambda path: metrics_at(path, directory),
    )
