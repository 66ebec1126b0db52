"""Replaces a user's graph by the one that the AI server made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import dramatiq

from graphnode.actors.effects import effects_of, is_repeated
from graphnode.actors.optional import left_out_if_faulty, read_optional
from graphnode.clients.s3 import open_features, read_document
from graphnode.contract.decoding import decode_graph, decode_summary, read_conversations, read_embeddings
from graphnode.contract.documents import SummaryDocument
from graphnode.contract.envelopes import RESULT_QUEUE, Envelope, GraphGenerationResult
from graphnode.contract.notifications import GraphCompleted, GraphFailed
from graphnode.rules.features import match_embeddings
from graphnode.rules.graph import clean_graph
from graphnode.rules.rows import GraphRows
from graphnode.rules.summary import recount
from graphnode.storage import graphs, summaries


class Features(NamedTuple):
    """A features file whose embeddings are yet to be read.

    Parameters:
      key: its key in S3.
      etag: which of all that may be under that key it is.
      names: the original ID of each of its conversations.
    """

    key: str
    etag: str
    names: list[str | None]


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
    features = read_features(result.features_s3_key, warnings)
    summary = read_optional(result.summary_s3_key, decode_summary, name="summary", warnings=warnings)

    with effects_of(envelope, user_id=result.user_id) as effects:
        if effects.repeated:
            return
        stored = graphs.stored_source_timestamp(result.user_id)
        if stored and stored > envelope.timestamp:
            effects.supersede(f"a newer graph is stored, of {stored.isoformat()}")
            return
        store(envelope, rows, features, summary, warnings)
        effects.finish(warnings=warnings)
        effects.notify(
            GraphCompleted(
                node_count=len(rows.nodes),
                edge_count=len(rows.edges),
                cluster_count=len(rows.clusters),
                summary_included=summary is not None,
            )
        )


def store(
    envelope: Envelope[GraphGenerationResult],
    rows: GraphRows,
    features: Features | None,
    summary: SummaryDocument | None,
    warnings: Counter[str],
) -> None:
    """Write everything that came."""
    user_id = envelope.payload.user_id
    width_before = graphs.embedding_width(user_id) if features else None
    graphs.replace_graph(user_id, rows, source_timestamp=envelope.timestamp)
    if features:
        node_ids = {node.orig_id: node.id for node in rows.nodes}
        store_features(user_id, features, node_ids, warnings, width_before=width_before)
    if summary:
        row = recount(summary, Counter(node.source_type for node in rows.nodes))
        summaries.replace_summary(user_id, row, source_timestamp=envelope.timestamp)


def read_features(key: str | None, warnings: Counter[str]) -> Features | None:
    """Whose embeddings a features file holds; or add a warning that says why they are left out."""
    features = None
    if key is not None:
        with left_out_if_faulty("features", warnings), open_features(key) as document:
            features = Features(key, document.etag, list(read_conversations(document)))
    return features


def store_features(
    user_id: str, features: Features, node_ids: Mapping[str, int], warnings: Counter[str], *, width_before: int | None
) -> None:
    """Stream the embeddings from S3 into their table; or add a warning that says why they are left out."""
    counted = Counter[str]()
    with left_out_if_faulty("features", warnings), open_features(features.key, etag=features.etag) as document:
        rows = read_embeddings(document)
        matched = match_embeddings(features.names, rows, node_ids, warnings=counted, width_before=width_before)
        graphs.store_embeddings(user_id, matched)
        warnings.update(counted)


def note_failure(envelope: Envelope[GraphGenerationResult]) -> None:
    """Keep the graph the user has, if any, and say that there is no new one."""
    result = envelope.payload
    with effects_of(envelope, user_id=result.user_id) as effects:
        if effects.repeated:
            return
        graphs.generation_failed(result.user_id)
        effects.finish()
        effects.notify(GraphFailed(error=result.error_text))
