"""The worker's actors, and one without a route."""

from __future__ import annotations

import dramatiq

from graphnode.actors import broker
from graphnode.contract.envelopes import RESULT_QUEUE

__all__ = ["broker"]


@dramatiq.actor(actor_name="forgotten", queue_name=RESULT_QUEUE)
def forgotten() -> None:
    """Never called."""
