"""What storing a graph costs beside a bare COPY of the same rows into the same tables, in the same run.

From the document's bytes in memory to the commit: decode, clean, replace, count, the task's row and the notification's.
The bare COPY has its text ready, and the same indexes and foreign keys to satisfy. Then each graph is replaced by one
that is 90 % the same; the largest twenty times more, to see how its tables grow. Rounds alternate, each with users of
its own; medians are printed. All of it is on an embedded PostgreSQL, and ends by itself.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from graphnode.actors import broker
from graphnode.actors import graph_generation as handler
from graphnode.clients import s3
from graphnode.contract.envelopes import Envelope, GraphGenerationResult
from graphnode.dev.postgres import start_postgres
from graphnode.dev.stack import bring_up_to_date
from graphnode.settings import Settings
from graphnode.storage import database, graphs, notifications, tasks

#: Nodes and edges of the graphs, the largest last: the figures are its.
SIZES = ((300, 196), (1_000, 10_000), (10_000, 100_000))

ROUNDS = 7

#: How often the largest graph is replaced to see how its tables grow.
REPLACEMENTS = 20

#: The user in the recorded text of a COPY, as long as those that take its place.
USER = "user-00000000"

#: A deployment's, of which nothing is used here but the defaults.
SETTINGS = Settings(
    database_url="postgresql://nowhere/none",
    aws_region="us-east-1",
    sqs_result_queue_url="https://nowhere/results",
    sqs_notification_queue_url="https://nowhere/notifications",
    s3_payload_bucket="payloads",
)


class Copy(NamedTuple):
    """A COPY as it was sent: the statement and its text."""

    statement: str
    text: bytes


def main() -> None:
    """Measure, and print the figures as one line of JSON, or as a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.persist", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures as one line of JSON")
    as_json = parser.parse_args().json
    with running_database():
        found = [measure(nodes, edges) for nodes, edges in SIZES]
        figures = {**found[-1], "sizes": found[:-1], "mb_by_replacements": replace_often(*SIZES[-1])}
    if as_json:
        print(json.dumps(figures))  # noqa: T201
        return
    columns = ("nodes", "edges", "ours_s", "copy_s", "ratio", "replace_s")
    print("\n" + "".join(f"{column:>10}" for column in columns))  # noqa: T201
    for row in found:
        print("".join(f"{row[column]:>10}" for column in columns))  # noqa: T201
    for stage, share in found[-1]["stages"].items():
        print(f"{stage:<24}{share:>6.1%}")  # noqa: T201
    for replacements, megabytes in figures["mb_by_replacements"].items():
        print(f"{replacements:>3} replacements: {megabytes} MB of tables and indexes")  # noqa: T201


@contextmanager
def running_database() -> Iterator[None]:
    """An embedded PostgreSQL with the newest schema, opened as a worker opens it."""
    with start_postgres(Path(tempfile.mkdtemp(prefix="graphnode-benchmark-"))) as server:
        bring_up_to_date(server.url)
        database.open_database(server.url, max_connections=2)
        yield
        database.close_database()


def measure(nodes: int, edges: int) -> dict[str, Any]:
    """One size's figures."""
    document = graph_document(nodes, edges)
    copies = recorded_copies(document, user_id=user(nodes, 0))
    changed = changed_document(document)
    ours, bare, replaced = [], [], []
    stages: dict[str, list[float]] = defaultdict(list)
    for number in range(1, ROUNDS + 1):
        with timed_stages() as seconds:
            ours.append(store(document, user_id=user(nodes, 2 * number)))
        for stage, spent in seconds.items():
            stages[stage].append(spent / ours[-1])
        bare.append(copy(copies, user_id=user(nodes, 2 * number + 1)))
        replaced.append(store(changed, user_id=user(nodes, 2 * number), task="replacement"))
        seen = f"ours {ours[-1]:.3f} s, bare COPY {bare[-1]:.3f} s, replaced {replaced[-1]:.3f} s"
        tell(f"{nodes} nodes, round {number} of {ROUNDS}: {seen}")
    ours_s, copy_s = statistics.median(ours), statistics.median(bare)
    return {
        "nodes": nodes,
        "edges": edges,
        "ours_s": round(ours_s, 4),
        "copy_s": round(copy_s, 4),
        "ratio": round(ours_s / copy_s, 3),
        "replace_s": round(statistics.median(replaced), 4),
        "stages": {stage: round(statistics.median(shares), 3) for stage, shares in stages.items()},
    }


def replace_often(nodes: int, edges: int) -> dict[int, float]:
    """Megabytes of all tables and indexes of graphs after so many replacements, autovacuum as it comes."""
    size = "SELECT sum(pg_total_relation_size(oid)) / 1e6 FROM pg_class WHERE relname LIKE 'graph%%' AND relkind = 'r'"
    document, found = graph_document(nodes, edges), {}
    for number in range(REPLACEMENTS + 1):
        store(document, user_id=user(nodes, 999), task=f"task {number}")
        document = changed_document(document)
        if number % 5 == 0:
            with database.connection():
                found[number] = round(float(database.database.execute_sql(size).fetchone()[0]), 1)
    return found


def store(document: bytes, *, user_id: str, task: str = "first") -> float:
    """Handle the result of a user, its document in memory, as the actor does; the seconds it took."""
    envelope = Envelope(
        task_id=f"{task} of {user_id}",
        task_type="GRAPH_GENERATION_RESULT",
        timestamp=datetime.now(UTC),
        payload=GraphGenerationResult(user_id=user_id, status="COMPLETED", result_s3_key="graph.json"),
        attempt=1,
    )
    with (
        patch.object(s3, "settings", lambda: SETTINGS),
        patch.object(handler, "read_document", lambda _key: document),
        patch.object(broker, "enqueue", lambda message, **_: message),
    ):
        began = time.perf_counter()
        handler.graph_generation.fn(envelope)
        return time.perf_counter() - began


def copy(copies: list[Copy], *, user_id: str) -> float:
    """COPY the recorded rows for another user, and commit; the seconds it took."""
    ready = [(one.statement, io.BytesIO(one.text.replace(USER.encode(), user_id.encode()))) for one in copies]
    with database.connection():
        graphs.GraphRecord.create(user_id=user_id, status="CREATED", updated_at=datetime.now(UTC))
        began = time.perf_counter()
        with database.database.atomic(), database.database.cursor() as cursor:
            for statement, text in ready:
                cursor.copy_expert(statement, text, database.COPY_CHUNK_BYTES)
        return time.perf_counter() - began


def recorded_copies(document: bytes, *, user_id: str) -> list[Copy]:
    """What storing the document sends by COPY."""
    copies: list[Copy] = []
    copy_rows = database.copy_rows

    def record(table: type[database.Record], columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        kept = list(rows)
        text = b"".join(database.copy_lines(kept))
        copies.append(Copy(f"COPY {table._meta.table_name} ({', '.join(columns)}) FROM STDIN", text))
        return copy_rows(table, columns, kept)

    with patch.object(graphs, "copy_rows", record):
        store(document, user_id=user_id)
    return [one._replace(text=one.text.replace(user_id.encode(), USER.encode())) for one in copies]


@contextmanager
def timed_stages() -> Iterator[dict[str, float]]:
    """The seconds that each stage of `store` takes, within the block."""
    seconds: dict[str, float] = {}
    stages: list[tuple[Any, str, str]] = [
        (handler, "decode_graph", "decode"),
        (handler, "clean_graph", "clean"),
        (graphs, "replace_graph", "replace"),
        (tasks, "finish", "task"),
        (notifications, "write", "notification"),
        (database.database, "commit", "commit"),
    ]

    def timed(function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*given, **named)
            finally:
                seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - began

        return call

    with ExitStack() as patches:
        for place, name, stage in stages:
            patches.enter_context(patch.object(place, name, timed(getattr(place, name), stage)))
        yield seconds


def graph_document(nodes: int, edges: int) -> bytes:
    """A graph as the AI server writes it, the same at each run."""
    chance = random.Random(nodes)  # noqa: S311
    words = [f"word{number}" for number in range(500)]
    clusters = max(2, nodes // 100)
    pairs: set[tuple[int, int]] = set()
    while len(pairs) < edges:
        source, target = chance.randrange(nodes), chance.randrange(nodes)
        if source < target:
            pairs.add((source, target))
    document = {
        "nodes": [
            {
                "id": number,
                "orig_id": f"src{number % 3}_conv-{number:08}",
                "cluster_id": f"cluster_{number % clusters}",
                "cluster_name": f"Cluster {number % clusters}",
                "cluster_confidence": round(chance.random(), 4),
                "keywords": [{"term": chance.choice(words), "score": round(chance.random(), 4)} for _ in range(5)],
                "source_type": "chat",
                "timestamp": "2026-05-24T08:02:08",
                "num_sections": chance.randrange(1, 40),
                "metadata": {"title": " ".join(chance.choices(words, k=6))},
            }
            for number in range(nodes)
        ],
        "edges": [
            {
                "source": source,
                "target": target,
                "weight": round(chance.random(), 6),
                "type": "semantic",
                "is_intra_cluster": source % clusters == target % clusters,
                "confidence": chance.choice(["high", "medium", "low"]),
            }
            for source, target in sorted(pairs, key=lambda _: chance.random())
        ],
        "subclusters": [
            {
                "id": f"sub_{number}",
                "cluster_id": f"cluster_{number}",
                "node_ids": [number, number + clusters],
                "representative_node_id": number,
                "size": 2,
                "density": 0.5,
                "top_keywords": chance.choices(words, k=3),
            }
            for number in range(clusters)
            if number + clusters < nodes
        ],
        "metadata": {
            "generated_at": "2026-05-24T08:02:08",
            "total_nodes": nodes,
            "total_edges": edges,
            "clusters": {
                f"cluster_{number}": {"name": f"Cluster {number}", "description": "", "key_themes": ["a", "b"]}
                for number in range(clusters)
            },
        },
    }
    return json.dumps(document).encode()


def changed_document(document: bytes) -> bytes:
    """A graph made again from much the same: other values in a tenth of its nodes and of its edges."""
    chance = random.Random(document[-1000:])  # noqa: S311
    graph = json.loads(document)
    for node in chance.sample(graph["nodes"], len(graph["nodes"]) // 10):
        node["cluster_confidence"] = round(chance.random(), 4)
    for edge in chance.sample(graph["edges"], len(graph["edges"]) // 10):
        edge["weight"] = round(chance.random(), 6)
    graph["metadata"]["seed"] = chance.random()
    return json.dumps(graph).encode()


def user(nodes: int, number: int) -> str:
    """A user's ID, as long as USER, for each size and number another."""
    return f"user-{nodes:05}{number:03}"


def tell(line: str) -> None:
    """Progress, beside the figures."""
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
