"""Replaces the summary of a user's graph."""

from __future__ import annotations

import dramatiq

from graphnode.actors.effects import effects_of, is_repeated
from graphnode.clients.s3 import read_document
from graphnode.contract.decoding import decode_summary
from graphnode.contract.envelopes import RESULT_QUEUE, Envelope, GraphSummaryResult
from graphnode.contract.notifications import SummaryCompleted, SummaryFailed
from graphnode.contract.repairs import Warnings
from graphnode.rules.summary import recount
from graphnode.storage import graphs, summaries


@dramatiq.actor(actor_name="graph_summary", queue_name=RESULT_QUEUE)
def graph_summary(envelope: Envelope[GraphSummaryResult]) -> None:
    """Store the summary, its totals counted anew from the nodes that are stored; or note that there is none."""
    result = envelope.payload
    if result.status == "FAILED":
        note_failure(envelope)
        return
    if is_repeated(envelope, user_id=result.user_id):
        return

    assert result.summary_s3_key, "the envelope's decoder requires it"  # noqa: S101
    warnings: Warnings = {}
    summary = decode_summary(read_document(result.summary_s3_key), warnings=warnings)

    with effects_of(envelope, user_id=result.user_id) as effects:
        if effects.repeated:
            return
        row = recount(summary, graphs.source_types(result.user_id))
        if not summaries.replace_summary(result.user_id, row, source_timestamp=envelope.timestamp):
            effects.supersede("a newer summary is stored")
            return
        effects.finish(warnings=warnings)
        effects.notify(SummaryCompleted(detail_level=row.detail_level))


def note_failure(envelope: Envelope[GraphSummaryResult]) -> None:
    """Keep the old summary, and say that there is no new one."""
    result = envelope.payload
    with effects_of(envelope, user_id=result.user_id) as effects:
        if effects.repeated:
            return
        effects.finish()
        effects.notify(SummaryFailed(error=result.error_text))
