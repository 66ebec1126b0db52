"""The ordinary mix of results, and what handling it costs each part of the system.

Of 100 results 60 are progress, 20 add nodes, 10 are summaries, 5 are graphs of 300 nodes (without features), and 5 are
microscope documents. As many are sent as are handled, their pushes included: nothing piles up. Users have a graph each,
but for those whose first graph comes. There are no Firebase credentials: a push ends as SKIPPED, after the same
transactions.
"""

from __future__ import annotations

import itertools
import json
import random
import runpy
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
import psycopg2
from psycopg2.extensions import connection

from benchmarks.persist import graph_document, store, tell
from graphnode.dev import samples
from graphnode.dev.aws import s3_client, sqs_client
from graphnode.dev.localstack import HOOK, LocalStack
from graphnode.dev.outcomes import reading, rows
from graphnode.dev.postgres import EmbeddedPostgres, start_postgres
from graphnode.dev.samples import KINDS
from graphnode.dev.stack import bring_up_to_date, environment_of
from graphnode.dev.worker import Worker
from graphnode.storage import database
from graphnode.storage.graphs import PARTS, GraphRecord

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

#: Of 100 results, how many are of each kind.
SHARES = {"progress": 60, "add-node": 20, "summary": 10, "graph": 5, "microscope": 5}

#: Worker processes, one measurement each a round, and the threads of each.
PROCESSES = (1, 2, 4)
ROUNDS = 3
THREADS = 8

#: For each process: results before the measurement begins, and results and pushes that are in the system at a time.
WARM_UP = 300
IN_SYSTEM = 100

#: Seconds that are measured.
MEASURED_S = 12.0

#: Users who have a graph already, and the size of a graph.
USER_IDS = [f"mix-user-{number}" for number in range(500)]
NODES, EDGES = 300, 196

#: The user whose graph they have.
TEMPLATE = "template"

#: What an add-node batch has.
NEW_NODES, EDGES_EACH = 4, 4

#: How much of the CPU may be idle where the CPU is what limits.
IDLE_AT_MOST = 0.15

#: Seconds after which a measurement is given up, and between two looks.
PATIENCE_S = 180.0
LOOK_S = 0.2

#: Names of queues and tasks, new ones for each measurement.
NUMBERS = itertools.count(1)

#: The results that had their effect, the pushes that wait, and the workers' connections.
SO_FAR = """
SELECT (SELECT count(*) FROM tasks WHERE task_id LIKE %(tasks)s),
       (SELECT count(*) FROM notifications WHERE due_at IS NOT NULL AND event LIKE %(tasks)s),
       (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'graphnode')
"""

#: What the last measurement left unpushed would be swept up in this one.
FORGET_PUSHES = "UPDATE notifications SET due_at = NULL WHERE due_at IS NOT NULL"

#: Give each user the template's graph.
COPY_GRAPH = """
INSERT INTO {table} (user_id, {columns})
SELECT another, {columns} FROM {table}, unnest(%(users)s) AS another WHERE user_id = %(template)s
"""


class Rate(NamedTuple):
    """What was measured with so many processes.

    Parameters:
      results_per_second: results whose effect was committed.
      cpu_s: CPU seconds in the time measured, of all cores together: by part of the system, and those nobody used.
      seconds: the time measured.
      results: the results in that time.
      connections: the database connections that the workers had.
    """

    results_per_second: float
    cpu_s: Mapping[str, float]
    seconds: float
    results: int
    connections: int


class Sample(NamedTuple):
    """What had happened by a moment."""

    at: float
    results: int
    pushes_waiting: int
    connections: int
    cpu_s: dict[str, float]


def measure_rates() -> dict[str, Any]:
    """Results a second by the number of worker processes, and who used the CPU meanwhile."""
    found: dict[int, list[Rate]] = {processes: [] for processes in PROCESSES}
    with running_servers() as (localstack, postgres):
        for _ in range(ROUNDS):
            for processes, rates in found.items():
                rates.append(measure(localstack, postgres, processes=processes))
    median = {processes: middle(rates) for processes, rates in found.items()}
    best = max(median.values(), key=lambda rate: rate.results_per_second)
    used = {part: seconds for part, seconds in best.cpu_s.items() if part != "idle"}
    cores = psutil.cpu_count() or 1
    busiest = max(used, key=lambda part: used[part])
    idle = best.cpu_s["idle"] / best.seconds / cores
    return {
        "threads": THREADS,
        "results_per_second": {processes: round(rate.results_per_second, 1) for processes, rate in median.items()},
        "connections": {processes: rate.connections for processes, rate in median.items()},
        "cores": cores,
        "first_ceiling": f"CPU, most of it the {busiest}'s" if idle < IDLE_AT_MOST else "not the CPU",
        # How many cores' time each part used, and nobody.
        "cores_used": [
            {"processes": processes} | {part: round(seconds / rate.seconds, 2) for part, seconds in rate.cpu_s.items()}
            for processes, rate in median.items()
        ],
        "cpu_ms_per_result": {part: round(1000 * seconds / best.results, 2) for part, seconds in used.items()},
        **{f"{part}_cpu_share": round(seconds / sum(used.values()), 3) for part, seconds in used.items()},
    }


@contextmanager
def running_servers() -> Iterator[tuple[LocalStack, EmbeddedPostgres]]:
    """The servers, with the users of the mix."""
    with (
        LocalStack() as localstack,
        start_postgres(Path(tempfile.mkdtemp(prefix="graphnode-benchmark-"))) as postgres,
    ):
        bring_up_to_date(postgres.url)
        seed_users(postgres.url)
        localstack.wait_until_ready()
        yield localstack, postgres


def middle(rates: list[Rate]) -> Rate:
    """The measurement that is the median."""
    return sorted(rates, key=lambda rate: rate.results_per_second)[len(rates) // 2]


def measure(
    localstack: LocalStack, postgres: EmbeddedPostgres, *, processes: int, settings: Mapping[str, str] | None = None
) -> Rate:
    """Keep so many processes busy with the mix for a while, and give the figures of that time. Raises TimeoutError.

    Parameters:
      settings: of the worker, beside its deployment's.
    """
    prefix = f"mix-{next(NUMBERS)}"
    environment = environment_of(localstack, database_url=postgres.url, prefix=prefix) | dict(settings or {})
    prepare(environment, prefix)
    sqs, mix, sent = sqs_client(environment), batches(bodies(prefix)), 0
    with (
        Worker(environment, processes=processes, threads=THREADS) as worker,
        reading(postgres.url) as session,
        session.cursor() as cursor,
    ):
        cursor.execute(FORGET_PUSHES)
        worker.wait_until_ready()
        parts = {"worker": worker.pid, "database": postgres.pid, "localstack": localstack.pid}
        begin = end = look(session, prefix, parts)
        deadline = begin.at + PATIENCE_S
        while end.at - begin.at < MEASURED_S:
            # What is not handled yet never ends, nor grows: neither results nor the pushes that follow on them.
            while sent - end.results + end.pushes_waiting < IN_SYSTEM * processes:
                sent += send(sqs, environment["SQS_RESULT_QUEUE_URL"], next(mix))
            time.sleep(LOOK_S)
            end = look(session, prefix, parts)
            if end.results < WARM_UP * processes:
                begin = end
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {PATIENCE_S:.0f} s {end.results} of {sent} results had their effect")
    seconds, results = end.at - begin.at, end.results - begin.results
    tell(f"{processes} processes: {results / seconds:.0f} results/s, {end.connections} connections")
    cpu_s = {part: end.cpu_s[part] - begin.cpu_s[part] for part in end.cpu_s}
    return Rate(results / seconds, cpu_s, seconds, results, end.connections)


def look(session: connection, prefix: str, parts: Mapping[str, int]) -> Sample:
    """What has happened by now."""
    ((results, pushes_waiting, connections),) = rows(session, SO_FAR, tasks=f"{prefix}-%")
    cpu_s = {part: tree_cpu_s(pid) for part, pid in parts.items()}
    of_all = psutil.cpu_times()
    cpu_s["idle"] = of_all.idle + of_all.iowait
    return Sample(time.monotonic(), results, pushes_waiting, connections, cpu_s)


def seed_users(database_url: str) -> None:
    """Store a graph, and give it to each user of USER_IDS."""
    database.open_database(database_url, max_connections=1)
    store(graph_document(NODES, EDGES), user_id=TEMPLATE)
    database.close_database()
    with closing(psycopg2.connect(database_url)) as session:
        session.autocommit = True
        with session.cursor() as cursor:
            # The copies are as consistent as the template: nothing is left to check.
            cursor.execute("SET session_replication_role = replica")
            tables: tuple[type[database.Record], ...] = (GraphRecord, *PARTS)
            for table in tables:
                columns = ", ".join(name for name in table._meta.columns if name != "user_id")
                statement = COPY_GRAPH.format(table=table._meta.table_name, columns=columns)
                cursor.execute(statement, {"users": USER_IDS, "template": TEMPLATE})
            cursor.execute("VACUUM ANALYZE")


def prepare(environment: Mapping[str, str], prefix: str) -> None:
    """Make the queues, and a bucket with the documents."""
    s3 = s3_client(environment)
    definition = runpy.run_path(str(HOOK))
    definition["make_queues"](sqs_client(environment), prefix)
    definition["make_bucket"](s3, prefix)
    for key, content in documents(prefix).items():
        s3.put_object(Bucket=environment["S3_PAYLOAD_BUCKET"], Key=key, Body=content)


def send(sqs: SQSClient, queue_url: str, some: Sequence[str]) -> int:
    """Put ten results or fewer on the queue; how many."""
    entries: Any = [{"Id": str(index), "MessageBody": body} for index, body in enumerate(some)]
    sqs.send_message_batch(QueueUrl=queue_url, Entries=entries)
    return len(some)


def documents(prefix: str) -> dict[str, bytes]:
    """The documents that the mix names, by key."""
    packaged = {
        KINDS[name].documents[field]: content
        for name in ("summary", "microscope")
        for field, content in samples.packaged_documents(KINDS[name], user_id="mix-user").items()
    }
    batches_of_users = {f"{user_id}/add_node.json": add_node_document(user_id, prefix) for user_id in USER_IDS}
    return {**packaged, **batches_of_users, "graph.json": graph_document(NODES, EDGES)}


def add_node_document(user_id: str, prefix: str) -> bytes:
    """A user's batch of new conversations, each with edges to stored nodes."""
    chance = random.Random(user_id)  # noqa: S311
    results = [
        {
            "conversationId": source,
            "nodes": [
                {"id": source, "origId": source, "clusterId": "cluster_0", "clusterName": "Cluster 0", "numMessages": 9}
            ],
            "edges": [
                {"source": source, "target": target, "weight": round(chance.random(), 4), "type": "insight"}
                for target in chance.sample(range(NODES), EDGES_EACH)
            ],
            "assignedCluster": {"clusterId": "cluster_0", "isNewCluster": False, "confidence": 0.9},
            "skipped": False,
            "error": None,
        }
        for source in (f"{prefix}-conv-{number}" for number in range(NEW_NODES))
    ]
    return json.dumps({"userId": user_id, "processedCount": len(results), "results": results}).encode()


def bodies(prefix: str) -> Iterator[str]:
    """The envelopes of the mix without end, in an order that is the same at each run."""
    names = [name for name, share in SHARES.items() for _ in range(share)]
    chance = random.Random(0)  # noqa: S311
    for number in itertools.count():
        if number % len(names) == 0:
            chance.shuffle(names)
        name, user_id = names[number % len(names)], USER_IDS[number % len(USER_IDS)]
        extra: dict[str, Any] = dict(KINDS[name].documents)
        match name:
            case "progress":
                extra = {"currentStage": "clustering", "progressPercent": number % 100, "etaSeconds": 30}
            case "add-node":
                extra = {"resultS3Key": f"{user_id}/add_node.json"}
            case "graph":
                # A first graph is a new user's.
                extra, user_id = {"resultS3Key": "graph.json"}, f"{prefix}-user-{number}"
        yield samples.result_of(
            KINDS[name],
            user_id=user_id,
            task_id=f"{prefix}-{name}-{number}",
            documents={},
            group_id=f"{prefix}-workspace-{number}" if name == "microscope" else None,
            extra=extra,
        ).body


def batches(bodies: Iterator[str]) -> Iterator[list[str]]:
    """Ten at a time, as many as one call takes."""
    while some := list(itertools.islice(bodies, 10)):
        yield some


def tree_cpu_s(pid: int) -> float:
    """CPU seconds of a process and of all that descend from it, those that have ended included."""
    root = psutil.Process(pid)
    seconds = 0.0
    for process in (root, *root.children(recursive=True)):
        try:
            seconds += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue  # its parent's figures have it
    return seconds
