"""How long storing a graph takes, compared with a bare COPY of the same rows.

Storing starts with the document's bytes in memory and ends with the commit: decode, clean, replace, count, and the rows
of the task and the notification. The bare COPY has its text ready, and the same indexes and foreign keys. Then each
graph is replaced by one that is 90 % the same. The largest is replaced twenty times more, to see how its tables grow.
Rounds alternate, each with its own users, and the medians are printed. The benchmark starts its own PostgreSQL.
"""

from __future__ import annotations

import io
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, NamedTuple
from unittest.mock import patch

from benchmarks.documents import changed_document, graph_document
from benchmarks.output import option_parser, report, tell
from benchmarks.servers import running_postgres
from graphnode.actors import graph_generation as handler
from graphnode.contract.envelopes import Envelope, GraphGenerationResult
from graphnode.settings import Settings
from graphnode.storage import database, graphs, tasks

#: Nodes and edges of the graphs. The printed figures are those of the last, the largest.
SIZES = ((300, 196), (1_000, 10_000), (10_000, 100_000))

ROUNDS = 7

#: How often the largest graph is replaced, to see how its tables grow.
REPLACEMENTS = 20

#: The user ID in the recorded text of a COPY; as long as the IDs that replace it.
USER = "user-00000000"

#: Settings of a deployment. Only their defaults matter here.
SETTINGS = Settings(
    database_url="postgresql://nowhere/none",
    aws_region="us-east-1",
    sqs_result_queue_url="https://nowhere/results",
    s3_payload_bucket="payloads",
)


class Copy(NamedTuple):
    """A COPY that was sent: the statement and its text."""

    statement: str
    text: bytes


def main() -> None:
    """Measure, and print the figures."""
    as_json = option_parser("persist", __doc__).parse_args().json
    with running_database():
        found = [measure(nodes, edges) for nodes, edges in SIZES]
        figures = {**found[-1], "sizes": found[:-1], "mb_by_replacements": replace_often(*SIZES[-1])}
    columns = ("nodes", "edges", "ours_s", "copy_s", "ratio", "replace_s")
    growth = figures["mb_by_replacements"].items()
    lines = [
        "".join(f"{column:>10}" for column in columns),
        *("".join(f"{row[column]:>10}" for column in columns) for row in found),
        *(f"{stage:<24}{share:>6.1%}" for stage, share in found[-1]["stages"].items()),
        *(f"{count:>3} replacements: {megabytes} MB of tables and indexes" for count, megabytes in growth),
    ]
    report(figures, as_json=as_json, lines=lines)


@contextmanager
def running_database() -> Iterator[None]:
    """An embedded PostgreSQL with the newest schema, which the storage of this process uses."""
    with running_postgres() as postgres:
        database.open_database(postgres.url)
        yield
        database.close_database()


def measure(nodes: int, edges: int) -> dict[str, Any]:
    """The figures of one size."""
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
    """Megabytes of all tables and indexes of graphs, by the number of replacements. Autovacuum is on."""
    size = "SELECT sum(pg_total_relation_size(oid)) / 1e6 FROM pg_class WHERE relname LIKE 'graph%%' AND relkind = 'r'"
    document, found = graph_document(nodes, edges), {}
    for number in range(REPLACEMENTS + 1):
        store(document, user_id=user(nodes, 999), task=f"task {number}")
        document = changed_document(document)
        if number % 5 == 0:
            found[number] = round(float(database.database.execute_sql(size).fetchone()[0]), 1)
    return found


def store(document: bytes, *, user_id: str, task: str = "first") -> float:
    """Handle a user's result as the actor does, with its document in memory; the seconds it took."""
    envelope = Envelope(
        task_id=f"{task} of {user_id}",
        task_type="GRAPH_GENERATION_RESULT",
        timestamp=datetime.now(UTC),
        payload=GraphGenerationResult(user_id=user_id, status="COMPLETED", result_s3_key="graph.json"),
        attempt=1,
    )
    with document_in_memory(handler, document):
        began = time.perf_counter()
        handler.graph_generation.fn(envelope)
        return time.perf_counter() - began


@contextmanager
def document_in_memory(actors: ModuleType, document: bytes) -> Iterator[None]:
    """Let the actor of a module run without S3 and SQS: each document that it reads is this one."""
    with (
        patch("graphnode.settings._known", SETTINGS),
        patch.object(actors, "read_document", lambda _key, _weights: document),
    ):
        yield


def copy(copies: list[Copy], *, user_id: str) -> float:
    """COPY the recorded rows for another user and commit; the seconds it took."""
    ready = [(one.statement, io.BytesIO(one.text.replace(USER.encode(), user_id.encode()))) for one in copies]
    graphs.GraphRecord.create(user_id=user_id, status="CREATED", updated_at=datetime.now(UTC))
    began = time.perf_counter()
    with database.database.atomic(), database.database.cursor() as cursor:  # type: ignore[no-untyped-call]
        for statement, text in ready:
            cursor.copy_expert(statement, text, database.COPY_CHUNK_BYTES)
    return time.perf_counter() - began


def recorded_copies(document: bytes, *, user_id: str) -> list[Copy]:
    """The COPY statements that storing the document sends."""
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
    """The seconds that each stage of `store` takes while the block runs."""
    seconds: dict[str, float] = {}
    stages: list[tuple[Any, str, str]] = [
        (handler, "decode_graph", "decode"),
        (handler, "clean_graph", "clean"),
        (graphs, "replace_graph", "replace"),
        (tasks, "finish", "task"),
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


def user(nodes: int, number: int) -> str:
    """The ID of a user, as long as USER; a different one for each size and number."""
    return f"user-{nodes:05}{number:03}"


if __name__ == "__main__":
    main()
