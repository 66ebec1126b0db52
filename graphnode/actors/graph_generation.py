"""Replaces a user's graph by the one that the AI server made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import dramatiq

from graphnode.actors.effects import Effects
from graphnode.actors.results import handle_result
from graphnode.clients.memory import GRAPH, SUMMARY
from graphnode.clients.s3 import open_features, read_document
from graphnode.clients.spool import Spool, in_time
from graphnode.contract.decoding import FeaturesReader, decode_graph, decode_summary
from graphnode.contract.documents import SummaryDocument
from graphnode.contract.envelopes import RESULT_QUEUE, Envelope, GraphGenerationResult
from graphnode.contract.notifications import GraphCompleted, GraphFailed
from graphnode.errors import DocumentTooLarge, InvalidDocument, ObjectNotFound, RefusedByDatabase
from graphnode.rules.features import FLOAT_BYTES, Embeddings
from graphnode.rules.graph import clean_graph
from graphnode.rules.rows import GraphRows
from graphnode.rules.summary import summary_row
from graphnode.storage import graphs, summaries
from graphnode.storage.graphs import GraphCounts

#: Seconds in which a features file must be read, and its embeddings be stored. An allowed graph takes half of the
#: actor's time limit at most: so there is time left to commit it. A free core reads 4 GiB in 95 s.
MOST_READ_S = 100.0
MOST_STORE_S = 30.0


class Features(NamedTuple):
    """A features file whose embeddings are in the spool.

    Parameters:
      width: numbers in each embedding.
      owners: the node ID of each embedding in the spool; NO_NODE if it is not stored.
      spool: has the embeddings.
    """

    width: int
    owners: Sequence[int]
    spool: Spool


class Documents(NamedTuple):
    """What a result brings. Features and summary are optional."""

    rows: GraphRows
    features: Features | None
    summary: SummaryDocument | None


@dramatiq.actor(actor_name="graph_generation", queue_name=RESULT_QUEUE)
def graph_generation(envelope: Envelope[GraphGenerationResult]) -> None:
    """Store the graph, its embeddings and its summary; or note that there is none."""
    with Spool() as spool:
        handle_result(
            envelope, user_id=envelope.payload.user_id, fetch=partial(fetch, spool=spool), store=store, fail=fail
        )


def fetch(envelope: Envelope[GraphGenerationResult], warnings: Counter[str], *, spool: Spool) -> Documents:
    """Read the graph, and what came with it; the embeddings go to the spool."""
    result = envelope.payload
    assert result.result_s3_key, "the envelope's decoder requires it"  # noqa: S101
    rows, repairs = clean_graph(decode_graph(read_document(result.result_s3_key, GRAPH), warnings=warnings))
    warnings.update(repairs)
    return Documents(
        rows,
        features=read_features(result.features_s3_key, rows, warnings, spool=spool),
        summary=read_summary(result.summary_s3_key, warnings),
    )


def store(effects: Effects[GraphGenerationResult], documents: Documents) -> None:
    """Replace the user's graph, unless a newer one is stored, or the new one would leave no node."""
    user_id, timestamp, rows = effects.user_id, effects.envelope.timestamp, documents.rows
    if newer := graphs.newer_source_timestamp(user_id, timestamp):
        effects.supersede(f"a newer graph is stored, of {newer.isoformat()}")
        return
    if not rows.nodes and (kept := graphs.graph_counts(user_id)).nodes:
        keep_graph(effects, kept)
        return
    width_before = graphs.embedding_width(user_id) if documents.features else None
    graphs.replace_graph(user_id, rows, source_timestamp=timestamp)
    if documents.features:
        store_features(user_id, documents.features, effects.warnings, width_before=width_before)
    if documents.summary:
        summary = summary_row(documents.summary, graphs.sources(user_id))
        summaries.replace_summary(user_id, summary, source_timestamp=timestamp)
    effects.finish()
    effects.notify(
        GraphCompleted(
            node_count=len(rows.nodes),
            edge_count=len(rows.edges),
            cluster_count=len(rows.clusters),
            summary_included=documents.summary is not None,
        )
    )


def keep_graph(effects: Effects[GraphGenerationResult], kept: GraphCounts) -> None:
    """End the task without its graph, which has no node, and say that the stored graph is ready."""
    effects.warnings["the graph has no nodes: the stored one stays"] = 1
    effects.finish()
    effects.notify(
        GraphCompleted(
            node_count=kept.nodes, edge_count=kept.edges, cluster_count=kept.clusters, summary_included=False
        )
    )


def fail(effects: Effects[GraphGenerationResult]) -> None:
    """Keep the graph that the user has, if any, and say that there is no new one."""
    effects.finish()
    effects.notify(GraphFailed(error=effects.payload.error_text))


def read_features(key: str | None, rows: GraphRows, warnings: Counter[str], *, spool: Spool) -> Features | None:
    """Spool the embeddings of a features file; None when it was not sent, or is left out with a warning."""
    features = None
    if key is not None:
        with left_out_if_faulty("features", warnings), open_features(key) as document:
            reader, embeddings = FeaturesReader(), Embeddings({node.orig_id: node.id for node in rows.nodes})
            for piece in in_time(document.pieces(), most_s=MOST_READ_S, what="reading it"):
                for row in reader.feed(piece):
                    if packed := embeddings.packed(row):
                        spool.append(packed)
                embeddings.take_names(reader.names)
            spool.complete()
            owners = embeddings.match()
            warnings.update(embeddings.warnings)
            features = Features(embeddings.width, owners, spool)
    return features


def store_features(user_id: str, features: Features, warnings: Counter[str], *, width_before: int | None) -> None:
    """Copy the embeddings from the spool into their table; or leave them out with a warning."""
    with left_out_if_faulty("features", warnings):
        embeddings = features.spool.records(features.width * FLOAT_BYTES)
        rows = zip(features.owners, embeddings, strict=True)
        stored = graphs.store_embeddings(user_id, in_time(rows, most_s=MOST_STORE_S, what="storing its embeddings"))
        if stored and width_before not in (None, features.width):
            warnings[f"embeddings are {features.width} wide, and were {width_before}"] = 1


def read_summary(key: str | None, warnings: Counter[str]) -> SummaryDocument | None:
    """The summary; None when it was not sent, or is left out with a warning."""
    summary = None
    if key is not None:
        with left_out_if_faulty("summary", warnings):
            summary = decode_summary(read_document(key, SUMMARY), warnings=warnings)
    return summary


@contextmanager
def left_out_if_faulty(name: str, warnings: Counter[str]) -> Iterator[None]:
    """End the block when the document is missing, too large, invalid or refused, and count a warning.

    Parameters:
      name: what the warning calls the document.
    """
    try:
        yield
    except (ObjectNotFound, DocumentTooLarge, InvalidDocument, RefusedByDatabase) as error:
        warnings[f"{name} left out: {error}"] = 1
