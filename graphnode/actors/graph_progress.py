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
    """Keep the task's newest progress. Older progress, or that of an ended task or of none, changes nothing.

    So does progress that says nothing: without a stage, or without a number.
    """
    progress = envelope.payload
    stage, percent = progress.stage, progress.percent
    if envelope.task_id == NO_TASK or stage is None or percent is None:
        return
    # Progress becomes no dead letter: its result does.
    with suppress(NotRegistered), effects_of(envelope, user_id=progress.user_id) as effects:
        if effects.repeated:
            return
        effects.notify(
            GraphProgress(current_stage=stage, progress_percent=percent, eta_seconds=progress.eta_s),
            key=envelope.timestamp.isoformat(),
            at=envelope.timestamp,
        )
        tasks.record_progress(
            envelope.task_id,
            envelope.task_type,
            user_id=progress.user_id,
            stage=stage,
            percent=percent,
            eta_seconds=progress.eta_s,
            at=envelope.timestamp,
            notifications=effects.notifications,
        )
