"""Merges new sources into a user's graph."""

from __future__ import annotations

from collections import Counter

import dramatiq

from graphnode.actors.effects import Effects
from graphnode.actors.results import handle_result
from graphnode.clients.memory import ADD_NODE_BATCH
from graphnode.clients.s3 import read_document
from graphnode.contract.decoding import decode_add_node_batch
from graphnode.contract.documents import AddNodeBatch
from graphnode.contract.envelopes import RESULT_QUEUE, AddNodeResult, Envelope
from graphnode.contract.notifications import NodesCompleted, NodesFailed
from graphnode.contract.repairs import Warnings
from graphnode.rules.batch_merge import merge_batch, named_in, touched_by
from graphnode.rules.rows import GraphChanges, MergeTarget
from graphnode.storage import graph_merges


@dramatiq.actor(actor_name="add_node", queue_name=RESULT_QUEUE)
def add_node(envelope: Envelope[AddNodeResult]) -> None:
    """Merge the batch into the stored graph; or note that nothing was added."""
    handle_result(envelope, user_id=envelope.payload.user_id, fetch=fetch, store=merge, fail=fail)


def fetch(envelope: Envelope[AddNodeResult], warnings: Counter[str]) -> AddNodeBatch:
    """Read the batch."""
    key = envelope.payload.result_s3_key
    assert key, "the envelope's decoder requires it"  # noqa: S101
    return decode_add_node_batch(read_document(key, ADD_NODE_BATCH), warnings=warnings)


def merge(effects: Effects[AddNodeResult], batch: AddNodeBatch) -> None:
    """Merge the batch into the graph, and say how much is new."""
    stored, changes, left_out = merged(effects.user_id, batch)
    graph_merges.apply_changes(effects.user_id, changes)
    effects.warnings.update(left_out)
    effects.finish()
    ids = {node.id for node in stored.nodes.values()}
    effects.notify(
        NodesCompleted(
            node_count=sum(node.id not in ids for node in changes.nodes),
            edge_count=sum((edge.source, edge.target) not in stored.edges for edge in changes.edges),
            error=effects.payload.error,
        )
    )


def merged(user_id: str, batch: AddNodeBatch) -> tuple[MergeTarget, GraphChanges, Warnings]:
    """The part of the user's graph that the batch concerns, what the batch changes, and counts of what is left out.

    What the batch names shows which nodes move and which stored nodes it connects: only then more is read.
    """
    stored = graph_merges.load_named(user_id, named_in(batch, user_id=user_id))
    changes, left_out = merge_batch(stored, batch, user_id=user_id)
    touched = touched_by(changes, stored)
    if touched.pairs or touched.moved:
        stored = graph_merges.load_touched(user_id, stored, touched)
        changes, left_out = merge_batch(stored, batch, user_id=user_id)
    return stored, changes, left_out


def fail(effects: Effects[AddNodeResult]) -> None:
    """Keep the graph as it is, and say that nothing was added."""
    effects.finish()
    effects.notify(NodesFailed(error=effects.payload.error_text))
