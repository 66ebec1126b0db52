"""Replaces the summary of a user's graph."""

from __future__ import annotations

from collections import Counter

import dramatiq

from graphnode.actors.effects import Effects
from graphnode.actors.results import handle_result
from graphnode.clients.memory import SUMMARY
from graphnode.clients.s3 import read_document
from graphnode.contract.decoding import decode_summary
from graphnode.contract.documents import SummaryDocument
from graphnode.contract.envelopes import RESULT_QUEUE, Envelope, GraphSummaryResult
from graphnode.contract.notifications import SummaryCompleted, SummaryFailed
from graphnode.rules.summary import summary_row
from graphnode.storage import graphs, summaries


@dramatiq.actor(actor_name="graph_summary", queue_name=RESULT_QUEUE)
def graph_summary(envelope: Envelope[GraphSummaryResult]) -> None:
    """Store the summary; or note that there is none."""
    handle_result(envelope, user_id=envelope.payload.user_id, fetch=fetch, store=store, fail=fail)


def fetch(envelope: Envelope[GraphSummaryResult], warnings: Counter[str]) -> SummaryDocument:
    """Read the summary."""
    key = envelope.payload.summary_s3_key
    assert key, "the envelope's decoder requires it"  # noqa: S101
    return decode_summary(read_document(key, SUMMARY), warnings=warnings)


def store(effects: Effects[GraphSummaryResult], summary: SummaryDocument) -> None:
    """Replace the old summary. The stored nodes are counted: the AI server's totals are not trusted."""
    row = summary_row(summary, graphs.sources(effects.user_id))
    if not summaries.replace_summary(effects.user_id, row, source_timestamp=effects.envelope.timestamp):
        effects.supersede("a newer summary is stored")
        return
    effects.finish()
    effects.notify(SummaryCompleted(detail_level=row.detail_level))


def fail(effects: Effects[GraphSummaryResult]) -> None:
    """Keep the old summary, and say that there is no new one."""
    effects.finish()
    effects.notify(SummaryFailed(error=effects.payload.error_text))
