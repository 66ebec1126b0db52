"""All actors. Importing this package declares them on the worker's broker: `dramatiq graphnode.actors`."""

from __future__ import annotations

import dramatiq

from graphnode.startup import worker_broker

broker = worker_broker()
dramatiq.set_broker(broker)

# The decorators of these modules declare their actors on the broker just set.
from graphnode.actors import (  # noqa: E402
    add_node,
    graph_generation,
    graph_progress,
    graph_summary,
    microscope_ingest,
    notifications,
)

__all__ = [
    "add_node",
    "broker",
    "graph_generation",
    "graph_progress",
    "graph_summary",
    "microscope_ingest",
    "notifications",
]
