"""Merges new sources into a user's graph."""

from __future__ import annotations

from collections import Counter

import dramatiq

from graphnode.actors.effects import effects_of, is_repeated
from graphnode.clients.s3 import read_document
from graphnode.contract.decoding import decode_add_node_batch
from graphnode.contract.envelopes import RESULT_QUEUE, AddNodeResult, Envelope
from graphnode.contract.notifications import NodesCompleted, NodesFailed
from graphnode.rules.add_node import merge_batch
from graphnode.storage import graphs


@dramatiq.actor(actor_name="add_node", queue_name=RESULT_QUEUE)
def add_node(envelope: Envelope[AddNodeResult]) -> None:
    """Merge the batch into the graph that is stored now; or note that nothing was added."""
    result = envelope.payload
    if result.status == "FAILED":
        note_failure(envelope)
        return
    if is_repeated(envelope, user_id=result.user_id):
        return

    assert result.result_s3_key, "the envelope's decoder requires it"  # noqa: S101
    warnings = Counter[str]()
    batch = decode_add_node_batch(read_document(result.result_s3_key), warnings=warnings)

    with effects_of(envelope, user_id=result.user_id) as effects:
        if effects.repeated:
            return
        stored = graphs.load_for_merge(result.user_id)
        changes, left_out = merge_batch(stored, batch, user_id=result.user_id)
        warnings.update(left_out)
        graphs.apply_changes(result.user_id, changes)
        effects.finish(warnings=warnings)
        effects.notify(
            NodesCompleted(
                node_count=sum(node.orig_id not in stored.nodes for node in changes.nodes),
                edge_count=sum((edge.source, edge.target) not in stored.edges for edge in changes.edges),
                error=result.error,
            )
        )


def note_failure(envelope: Envelope[AddNodeResult]) -> None:
    """Give the graph's status back as it was, and say that nothing was added."""
    result = envelope.payload
    with effects_of(envelope, user_id=result.user_id) as effects:
        if effects.repeated:
            return
        graphs.add_node_failed(result.user_id)
        effects.finish()
        effects.notify(NodesFailed(error=result.error_text))
