"""Notes how far the AI server is with a user's graph."""

from __future__ import annotations

from contextlib import suppress

import dramatiq

from graphnode.actors.effects import effects_of
from graphnode.contract.envelopes import RESULT_QUEUE, Envelope, GraphGenerationProgress
from graphnode.contract.notifications import GraphProgress
from graphnode.contract.task_ids import NO_TASK
from graphnode.errors import NotRegistered
from graphnode.storage import tasks


@dramatiq.actor(actor_name="graph_progress", queue_name=RESULT_QUEUE)
def graph_progress(envelope: Envelope[GraphGenerationProgress]) -> None:
    """Keep the task's newest progress. Older progress, or that of an ended task or of none, changes nothing."""
    if envelope.task_id == NO_TASK:
        return
    # Progress becomes no dead letter: its result does.
    with suppress(NotRegistered):
        note(envelope)


def note(envelope: Envelope[GraphGenerationProgress]) -> None:
    """Write the progress into its task's row, and the notification."""
    progress = envelope.payload
    with effects_of(envelope, user_id=progress.user_id) as effects:
        is_news = tasks.record_progress(
            envelope.task_id,
            envelope.task_type,
            user_id=progress.user_id,
            stage=progress.current_stage,
            percent=progress.progress_percent,
            eta_seconds=progress.eta_seconds,
            at=envelope.timestamp,
        )
        if is_news:
            effects.notify(
                GraphProgress(
                    current_stage=progress.current_stage,
                    progress_percent=progress.progress_percent,
                    eta_seconds=progress.eta_seconds,
                ),
                key=envelope.timestamp.isoformat(),
                at=envelope.timestamp,
            )
