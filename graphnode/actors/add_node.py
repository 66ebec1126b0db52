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
from graphnode.rules.batch_merge import merge_batch
from graphnode.storage import graphs


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
    stored = graphs.load_for_merge(effects.user_id)
    ids = {node.id for node in stored.nodes.values()}
    changes, left_out = merge_batch(stored, batch, user_id=effects.user_id)
    graphs.apply_changes(effects.user_id, changes)
    effects.warnings.update(left_out)
    effects.finish()
    effects.notify(
        NodesCompleted(
            node_count=sum(node.id not in ids for node in changes.nodes),
            edge_count=sum((edge.source, edge.target) not in stored.edges for edge in changes.edges),
            error=effects.payload.error,
        )
    )


def fail(effects: Effects[AddNodeResult]) -> None:
    """Keep the graph as it is, and say that nothing was added."""
    effects.finish()
    effects.notify(NodesFailed(error=effects.payload.error_text))
