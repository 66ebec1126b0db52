"""When the nodes of a new graph were made and changed, where its document does not say so."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from graphnode.rules.rows import NodeRow


def with_times(nodes: Iterable[NodeRow], stored: Iterable[NodeRow], *, now: datetime) -> list[NodeRow]:
    """The nodes with the document's times; else those of the stored node of the same source; else now.

    A stored node's time of an earlier release may be None. A node with other values than the stored one was changed
    now.
    """
    before = {node.orig_id: node for node in stored}
    return [_with_times(node, before.get(node.orig_id), now) for node in nodes]


def _with_times(node: NodeRow, stored: NodeRow | None, now: datetime) -> NodeRow:
    if stored is None:
        return node._replace(created_at=node.created_at or now, updated_at=node.updated_at or now)
    kept = node._replace(
        created_at=node.created_at or stored.created_at, updated_at=node.updated_at or stored.updated_at
    )
    # 1 and True are equal to Python: in a node's JSON, nobody sees the difference.
    return kept if node.updated_at or kept == stored else kept._replace(updated_at=now)
