"""How long one more node takes in small and large graphs.

An add-node result brings one node of a stored cluster with edges to three stored nodes, and one edge that is stored
already. Handling starts with the document's bytes in memory and ends with the commit. The floor is a hand-written
transaction of psycopg2 that reads the ends of the edges and writes the same rows. Both take turns, each with its own
user. Medians are printed, and the mean CPU of the thread and of PostgreSQL's session, which depends less on what else
runs. The benchmark starts its own PostgreSQL.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import psutil
import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 # it is a class

from benchmarks.documents import graph_document
from benchmarks.output import option_parser, report, tell
from benchmarks.persist import document_in_memory, running_database, store, user
from graphnode.actors import add_node
from graphnode.contract.envelopes import AddNodeResult, Envelope
from graphnode.storage.database import database

#: Nodes and edges of the graphs.
SIZES = ((300, 196), (3_000, 30_000), (10_000, 100_000))

ROUNDS = 60

#: The first rounds, which are not counted: statements are written and caches filled.
WARM_UP = 10

FLOOR = (
    """
BEGIN;
SELECT pg_advisory_xact_lock(hashtextextended(%(user)s, 0));
SELECT orig_id, id, cluster_id, (SELECT max(id) FROM graph_nodes WHERE user_id = %(user)s)
FROM graph_nodes WHERE user_id = %(user)s AND orig_id = ANY(%(ends)s)
""",
    """
INSERT INTO graph_nodes (user_id, id, orig_id, cluster_id) VALUES (%(user)s, %(id)s, %(orig_id)s, 'cluster_0');
INSERT INTO graph_edges (user_id, source, target, weight, type, intra_cluster)
SELECT %(user)s, %(id)s, target, 1, 'hard', false FROM unnest(%(targets)s) AS target;
UPDATE graph_clusters SET size = size + 1 WHERE user_id = %(user)s AND id = 'cluster_0';
UPDATE graphs SET status = 'UPDATED', node_count = node_count + 1, edge_count = edge_count + 3, updated_at = now(),
    content_updated_at = now() WHERE user_id = %(user)s;
INSERT INTO tasks (task_id, task_type, user_id, status, finished_at)
VALUES (%(orig_id)s, 'floor', %(user)s, 'COMPLETED', now());
INSERT INTO notifications (id, user_id, type, payload, event, push_status)
VALUES (%(orig_id)s, %(user)s, 'ADD_CONVERSATION_COMPLETED', '{}', %(orig_id)s, 'SKIPPED');
COMMIT
""",
)


def main() -> None:
    """Measure, and print the figures."""
    as_json = option_parser("growth", __doc__).parse_args().json
    with running_database():
        found = [measure(nodes, edges) for nodes, edges in SIZES]
    growth = {name: round(found[-1][name] / found[0][name], 2) for name in ("ours_ms", "ours_cpu_ms")}
    figures = {"sizes": found, "largest_beside_smallest": growth}
    lines = [
        "".join(f"{name:>14}" for name in found[0]),
        *("".join(f"{figure:>14}" for figure in row.values()) for row in found),
        f"the largest beside the smallest: {growth['ours_ms']}, CPU {growth['ours_cpu_ms']}",
    ]
    report(figures, as_json=as_json, lines=lines)


def measure(nodes: int, edges: int) -> dict[str, Any]:
    """The figures of one size."""
    document, ours_of, floor_of = graph_document(nodes, edges), user(nodes, 1), user(nodes, 2)
    for user_id in (ours_of, floor_of):
        store(document, user_id=user_id)
    with closing(psycopg2.connect(dbname=database.database, **database.connect_params)) as connection:
        connection.autocommit = True
        ours, floor = Rounds(database.connection()), Rounds(connection)  # type: ignore[no-untyped-call]
        for number in range(ROUNDS + WARM_UP):
            with ours.timed(counts=number >= WARM_UP):
                ours.seconds.append(add(number, nodes, user_id=ours_of))
            with floor.timed(counts=number >= WARM_UP):
                floor.seconds.append(add_by_hand(connection, number, nodes, user_id=floor_of))
    tell(f"{nodes} nodes: ours {ours.median_ms:.2f} ms, by hand {floor.median_ms:.2f} ms")
    return {
        "nodes": nodes,
        "edges": edges,
        "ours_ms": round(ours.median_ms, 2),
        "floor_ms": round(floor.median_ms, 2),
        "ratio": round(ours.median_ms / floor.median_ms, 2),
        "ours_cpu_ms": round(ours.cpu_ms, 2),
        "floor_cpu_ms": round(floor.cpu_ms, 2),
    }


class Rounds:
    """The times of rounds, and the CPU that they take here and in PostgreSQL's session.

    Parameters:
      connection: the session.
    """

    def __init__(self, connection: Connection) -> None:
        self.seconds: list[float] = []
        self._session = psutil.Process(connection.info.backend_pid)
        self._cpu_s = 0.0

    @property
    def median_ms(self) -> float:
        """The median of the counted rounds."""
        return 1000 * statistics.median(self.seconds[WARM_UP:])

    @property
    def cpu_ms(self) -> float:
        """The mean of the counted rounds."""
        return 1000 * self._cpu_s / ROUNDS

    @contextmanager
    def timed(self, *, counts: bool) -> Iterator[None]:
        """Add the CPU that the block takes, if it counts."""
        before = self._cpu()
        yield
        self._cpu_s += (self._cpu() - before) * counts

    def _cpu(self) -> float:
        session = self._session.cpu_times()
        return time.thread_time() + session.user + session.system


def add(number: int, nodes: int, *, user_id: str) -> float:
    """Handle an add-node result as the actor does; the seconds it took."""
    ends = ends_of(number, nodes)
    edges = [{"source": f"new-{number}", "target": end} for end in ends]
    if number:
        edges.append({"source": f"new-{number - 1}", "target": ends_of(number - 1, nodes)[0]})
    node = {"id": f"{user_id}_new-{number}", "origId": f"new-{number}", "numMessages": 3, "timestamp": 1780000000}
    item = {
        "conversationId": f"new-{number}",
        "nodes": [node],
        "edges": edges,
        "assignedCluster": {"clusterId": "cluster_0", "confidence": 0.9},
    }
    document = json.dumps({"userId": user_id, "results": [item]}).encode()
    envelope = Envelope(
        task_id=f"add {number} to {user_id}",
        task_type="ADD_NODE_RESULT",
        timestamp=datetime.now(UTC),
        payload=AddNodeResult(user_id=user_id, status="COMPLETED", result_s3_key="batch.json"),
        attempt=1,
    )
    with document_in_memory(add_node, document):
        began = time.perf_counter()
        add_node.add_node.fn(envelope)
        return time.perf_counter() - began


def add_by_hand(connection: Connection, number: int, nodes: int, *, user_id: str) -> float:
    """Write the same rows with as few statements; the seconds it took."""
    read, write = FLOOR
    began = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute(read, {"user": user_id, "ends": ends_of(number, nodes)})
        rows = cursor.fetchall()
        node_id, targets = rows[0][3] + 1, [row[1] for row in rows]
        given = {"user": user_id, "id": node_id, "orig_id": f"{user_id} new-{number}", "targets": targets}
        cursor.execute(write, given)
    return time.perf_counter() - began


def ends_of(number: int, nodes: int) -> list[str]:
    """The original IDs of the stored nodes that a new node is connected with; others for each number."""
    return [f"conv-{(3 * number + end) % nodes:08}" for end in range(3)]


if __name__ == "__main__":
    main()
