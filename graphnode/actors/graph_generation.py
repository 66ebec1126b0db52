"""Replaces a user's graph by the one that the AI server made."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import dramatiq

from graphnode.actors.effects import effects_of, is_repeated
from graphnode.actors.optional import read_optional
from graphnode.documents import (
    FeaturesDocument,
    SummaryDocument,
    decode_features,
    decode_graph,
    decode_summary,
)
from graphnode.envelopes import RESULT_QUEUE, Envelope, GraphGenerationResult
from graphnode.objects import read_document
from graphnode.rules.features import match_embeddings, width_change
from graphnode.rules.graph import clean_graph
from graphnode.rules.notifications import Event
from graphnode.rules.rows import GraphRows
from graphnode.rules.summary import recount
from graphnode.storage import graphs, summaries
from graphnode.storage.tasks import TaskStatus


@dramatiq.actor(actor_name="graph_generation", queue_name=RESULT_QUEUE)
def graph_generation(envelope: Envelope[GraphGenerationResult]) -> None:
    """Store the graph, its embeddings and its summary; or note that there is none."""
    result = envelope.payload
    if result.status == "FAILED":
        note_failure(envelope)
        return
    if is_repeated(envelope, user_id=result.user_id):
        return

    assert result.result_s3_key, "the envelope's decoder requires it"  # noqa: S101
    warnings = Counter[str]()
    rows, repairs = clean_graph(decode_graph(read_document(result.result_s3_key), warnings=warnings))
    warnings.update(repairs)
    features = read_optional(result.features_s3_key, decode_features, name="features", warnings=warnings)
    summary = read_optional(result.summary_s3_key, decode_summary, name="summary", warnings=warnings)

    with effects_of(envelope, user_id=result.user_id, ends=TaskStatus.COMPLETED) as effects:
        if effects.repeated:
            return
        stored = graphs.stored_source_timestamp(result.user_id)
        if stored and stored > envelope.timestamp:
            effects.finish(TaskStatus.SUPERSEDED, warnings={f"a newer graph is stored, of {stored.isoformat()}": 1})
            return
        store(result.user_id, rows, features, summary, warnings, timestamp=envelope.timestamp)
        # Text beside COMPLETED tells of a partial failure: a success all the same (the contract).
        effects.finish(TaskStatus.COMPLETED, error=result.error, warnings=warnings)
        effects.notify(
            Event.GRAPH_COMPLETED,
            nodeCount=len(rows.nodes),
            edgeCount=len(rows.edges),
            clusterCount=len(rows.clusters),
            summaryIncluded=summary is not None,
        )


def store(
    user_id: str,
    rows: GraphRows,
    features: FeaturesDocument | None,
    summary: SummaryDocument | None,
    warnings: Counter[str],
    *,
    timestamp: datetime,
) -> None:
    """Write everything that came."""
    width_before = graphs.embedding_width(user_id)
    graphs.replace_graph(user_id, rows, source_timestamp=timestamp)
    if features:
        embeddings, left_out = match_embeddings(features, {node.orig_id: node.id for node in rows.nodes})
        graphs.store_embeddings(user_id, embeddings)
        warnings.update(left_out)
        warnings.update(width_change(embeddings, width_before))
    if summary:
        row = recount(summary, Counter(node.source_type for node in rows.nodes))
        summaries.replace_summary(user_id, row, source_timestamp=timestamp)


def note_failure(envelope: Envelope[GraphGenerationResult]) -> None:
    """Keep the graph the user has, if any, and say that there is no new one."""
    result = envelope.payload
    with effects_of(envelope, user_id=result.user_id, ends=TaskStatus.FAILED) as effects:
        if effects.repeated:
            return
        graphs.generation_failed(result.user_id)
        effects.finish(TaskStatus.FAILED, error=result.error_text)
        effects.notify(Event.GRAPH_FAILED, error=result.error_text)
