from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import dramatiq
import numpy as np
import pytest

from graphnode.operations.show.stored_graph import Cluster, Edge, Node, StoredGraph
from graphnode.sqs.deliveries import Delivery

MakeDelivery = Callable[..., Delivery]
MakeGraph = Callable[..., StoredGraph]


@pytest.fixture
def make_delivery() -> MakeDelivery:
    """Makes deliveries as a poll does."""
    made = 0

    def make(**changes: Any) -> Delivery:
        nonlocal made
        made += 1
        message = dramatiq.Message[None](
            queue_name="results", actor_name="work", args=(), kwargs={}, options={}, message_id=f"m-{made}"
        )
        fields: dict[str, Any] = {
            "queue_url": "https://sqs/results",
            "body": f"body {made}",
            "sqs_id": f"m-{made}",
            "receipt_handle": f"r-{made}",
            "receive_count": 1,
            "sent_at": datetime.now(UTC),
            "visibility_s": 60,
        }
        return Delivery(message, **{**fields, **changes})

    return make


@pytest.fixture(scope="session")
def make_graph() -> MakeGraph:
    """Makes graphs as they are read: clusters of uneven sizes, each node with edges to its nearest nodes."""

    def make(nodes: int, clusters: int, *, without_cluster: int = 0, edges_each: int = 3) -> StoredGraph:
        random = np.random.default_rng(7)
        sizes = np.sqrt(np.arange(clusters, 0, -1))
        belongs = np.sort(random.choice(clusters, size=nodes, p=sizes / sizes.sum()))
        embeddings = random.normal(size=(clusters, 24))[belongs] + random.normal(scale=0.6, size=(nodes, 24))
        likeness = np.atleast_2d(np.corrcoef(embeddings))
        np.fill_diagonal(likeness, -1)
        nearest = np.argsort(-likeness, axis=1, kind="stable")[:, :edges_each]
        pairs = {(min(pair), max(pair)) for one in range(nodes) for pair in [(one, int(two)) for two in nearest[one]]}
        pairs |= {(one, one + nodes // 2) for one in range(0, nodes // 2, 5)}
        pairs = {(one, two) for one, two in pairs if one != two}
        return StoredGraph(
            user_id="ada",
            status="CREATED",
            updated_at=datetime(2026, 5, 24, 12, tzinfo=UTC),
            clusters=[
                Cluster(f"c{number}", f"Cluster number {number}", int((belongs == number).sum()), ["tea", "coffee"])
                for number in range(clusters)
            ],
            nodes=[
                Node(
                    id=place * 2,
                    orig_id=f"conv-{place}",
                    title=f"Conversation {place}",
                    cluster_id=None if place < without_cluster else f"c{belongs[place]}",
                    source_type="chat",
                    num_messages=3,
                    timestamp=datetime(2026, 5, 1, tzinfo=UTC),
                    keywords=[f"keyword {place}", "tea"],
                )
                for place in range(nodes)
            ],
            edges=[Edge(one * 2, two * 2, float(likeness[one, two])) for one, two in sorted(pairs)],
            embeddings={place * 2: embeddings[place].tolist() for place in range(nodes)},
        )

    return make
