"""The ordinary mix of results, and the CPU time that each part of the system needs for it.

Of 100 results 60 are progress, 20 add nodes, 10 are summaries, 5 are graphs of 300 nodes without features, and 5 are
microscope documents. A result is sent only when another one and its push have ended, so no backlog grows. Each user has
a graph already; a graph result is always the first one of a new user. There are no Firebase credentials: a push ends
as SKIPPED. What a result needs at least is measured in the same rounds (`benchmarks/floor.py`).
"""

from __future__ import annotations

import itertools
import json
import random
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import psutil
import psycopg2
from psycopg2.extensions import connection

from benchmarks import floor, servers
from benchmarks.documents import graph_document
from benchmarks.output import tell
from benchmarks.persist import store
from benchmarks.servers import BATCH, cpu_s, make_queues_and_bucket, send
from graphnode.dev import samples
from graphnode.dev.child_processes import Worker
from graphnode.dev.local_aws import s3_client, sqs_client
from graphnode.dev.localstack import LocalStack
from graphnode.dev.outcomes import reading, rows
from graphnode.dev.postgres import EmbeddedPostgres
from graphnode.dev.samples import KINDS
from graphnode.dev.stack import environment_of
from graphnode.storage import database
from graphnode.storage.graphs import PARTS, GraphRecord

#: The results of each kind in 100 results.
SHARES = {"progress": 60, "add-node": 20, "summary": 10, "graph": 5, "microscope": 5}

#: The numbers of worker processes, each measured once a round, and the threads of a process.
PROCESSES = (1, 2)
ROUNDS = 3
THREADS = 8

#: For each process: the results before the measurement begins, and the results and pushes in the system at a time.
WARM_UP = 300
IN_SYSTEM = 100

#: Seconds of the measurement.
MEASURED_S = 12.0

#: Results of each measurement of the floor.
FLOOR_RESULTS = 600

#: The users who have a graph already, and the size of a graph.
USER_IDS = [f"mix-user-{number}" for number in range(500)]
NODES, EDGES = 300, 196

#: The user whose graph is copied to them.
TEMPLATE = "template"

#: The nodes of an add-node batch, and the edges of each.
NEW_NODES, EDGES_EACH = 4, 4

#: The CPU limits the rate if at most this share of it is idle.
IDLE_AT_MOST = 0.15

#: Seconds until a measurement fails, and seconds between two samples.
PATIENCE_S = 180.0
LOOK_S = 0.2

#: A new prefix for the names of queues and tasks in each measurement.
NUMBERS = itertools.count(1)

#: The results that are committed, the pushes that are open, and the workers' connections.
SO_FAR = """
SELECT (SELECT count(*) FROM tasks WHERE task_id LIKE %(tasks)s),
       (SELECT count(*) FROM notifications WHERE due_at IS NOT NULL AND event LIKE %(tasks)s),
       (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'graphnode')
"""

#: Pushes that an earlier measurement left open would be sent in the next one.
CLOSE_PUSHES = "UPDATE notifications SET due_at = NULL WHERE due_at IS NOT NULL"

#: Copies the template's graph to each user.
COPY_GRAPH = """
INSERT INTO {table} (user_id, {columns})
SELECT another, {columns} FROM {table}, unnest(%(users)s) AS another WHERE user_id = %(template)s
"""


class Rate(NamedTuple):
    """One measurement.

    Parameters:
      results_per_second: committed results.
      cpu_s: CPU seconds of all cores together, by part of the system; `idle` for those that nothing used.
      seconds: the time measured.
      results: committed results in that time.
      connections: the workers' database connections.
    """

    results_per_second: float
    cpu_s: Mapping[str, float]
    seconds: float
    results: int
    connections: int


class Sample(NamedTuple):
    """The counts at one moment."""

    at: float
    results: int
    pushes_waiting: int
    connections: int
    cpu_s: dict[str, float]


def measure_rates() -> dict[str, Any]:
    """Results a second by the number of worker processes, and the CPU time of each part of the system."""
    found: dict[int, list[Rate]] = {processes: [] for processes in PROCESSES}
    floors: list[float] = []
    with running_servers() as (localstack, postgres):
        for _ in range(ROUNDS):
            for processes, rates in found.items():
                rates.append(measure(localstack, postgres, processes=processes))
            floors.append(measure_floor(localstack, postgres))
    median = {processes: middle(rates) for processes, rates in found.items()}
    best = max(median.values(), key=lambda rate: rate.results_per_second)
    used = {part: seconds for part, seconds in best.cpu_s.items() if part != "idle"}
    cores = psutil.cpu_count() or 1
    busiest = max(used, key=lambda part: used[part])
    idle = best.cpu_s["idle"] / best.seconds / cores
    cpu_ms = {processes: 1000 * rate.cpu_s["worker"] / rate.results for processes, rate in median.items()}
    floor_ms = 1000 * statistics.median(floors)
    return {
        "threads": THREADS,
        "results_per_second": {processes: round(rate.results_per_second, 1) for processes, rate in median.items()},
        "connections": {processes: rate.connections for processes, rate in median.items()},
        "cores": cores,
        "first_ceiling": f"CPU, most of it the {busiest}'s" if idle < IDLE_AT_MOST else "not the CPU",
        # The cores that each part used, and those that nothing used.
        "cores_used": [
            {"processes": processes} | {part: round(seconds / rate.seconds, 2) for part, seconds in rate.cpu_s.items()}
            for processes, rate in median.items()
        ],
        "worker_cpu_ms_per_result": {processes: round(milliseconds, 2) for processes, milliseconds in cpu_ms.items()},
        "floor_cpu_ms_per_result": round(floor_ms, 2),
        "worker_to_floor": {processes: round(milliseconds / floor_ms, 2) for processes, milliseconds in cpu_ms.items()},
        "cpu_ms_per_result": {part: round(1000 * seconds / best.results, 2) for part, seconds in used.items()},
        **{f"{part}_cpu_share": round(seconds / sum(used.values()), 3) for part, seconds in used.items()},
    }


@contextmanager
def running_servers() -> Iterator[tuple[LocalStack, EmbeddedPostgres]]:
    """LocalStack, and a PostgreSQL that has the users of the mix."""
    with servers.running_servers() as (localstack, postgres):
        seed_users(postgres.url)
        yield localstack, postgres


def middle(rates: list[Rate]) -> Rate:
    """The measurement with the median rate."""
    return sorted(rates, key=lambda rate: rate.results_per_second)[len(rates) // 2]


def measure(
    localstack: LocalStack, postgres: EmbeddedPostgres, *, processes: int, settings: Mapping[str, str] | None = None
) -> Rate:
    """Keep a worker busy with the mix, and measure it. Raises TimeoutError.

    Parameters:
      processes: of the worker.
      settings: environment variables that the worker has as well.
    """
    prefix = f"mix-{next(NUMBERS)}"
    environment = environment_of(localstack, database_url=postgres.url, prefix=prefix) | dict(settings or {})
    prepare(environment, prefix)
    sqs, mix, sent = sqs_client(environment), bodies(prefix), 0
    with (
        Worker(environment, processes=processes, threads=THREADS) as worker,
        reading(postgres.url) as session,
        session.cursor() as cursor,
    ):
        cursor.execute(CLOSE_PUSHES)
        worker.wait_until_ready()
        parts = {"worker": worker.pid, "database": postgres.pid, "localstack": localstack.pid}
        begin = end = look(session, prefix, parts)
        deadline = begin.at + PATIENCE_S
        while end.at - begin.at < MEASURED_S:
            # Keep the number of open results and pushes constant.
            while sent - end.results + end.pushes_waiting < IN_SYSTEM * processes:
                send(sqs, environment["SQS_RESULT_QUEUE_URL"], itertools.islice(mix, BATCH))
                sent += BATCH
            time.sleep(LOOK_S)
            end = look(session, prefix, parts)
            if end.results < WARM_UP * processes:
                begin = end
            if time.monotonic() > deadline:
                raise TimeoutError(f"{end.results} of {sent} results are committed after {PATIENCE_S:.0f} s")
    seconds, results = end.at - begin.at, end.results - begin.results
    tell(f"{processes} processes: {results / seconds:.0f} results/s, {end.connections} connections")
    used = {part: end.cpu_s[part] - begin.cpu_s[part] for part in end.cpu_s}
    return Rate(results / seconds, used, seconds, results, end.connections)


def measure_floor(localstack: LocalStack, postgres: EmbeddedPostgres) -> float:
    """The CPU seconds that a result of the mix needs at least."""
    prefix = f"mix-{next(NUMBERS)}"
    environment = environment_of(localstack, database_url=postgres.url, prefix=prefix)
    prepare(environment, prefix)
    results = itertools.islice(bodies(prefix), floor.WARM_UP + FLOOR_RESULTS)
    send(sqs_client(environment), environment["SQS_RESULT_QUEUE_URL"], results)
    seconds = floor.handle(environment, results=FLOOR_RESULTS)
    tell(f"floor: {1000 * seconds:.2f} ms of CPU a result")
    return seconds


def look(session: connection, prefix: str, parts: Mapping[str, int]) -> Sample:
    """Take a sample.

    Parameters:
      parts: process IDs by the part of the system.
    """
    ((results, pushes_waiting, connections),) = rows(session, SO_FAR, tasks=f"{prefix}-%")
    used = {part: cpu_s(pid) for part, pid in parts.items()}
    machine = psutil.cpu_times()
    used["idle"] = machine.idle + machine.iowait
    return Sample(time.monotonic(), results, pushes_waiting, connections, used)


def seed_users(database_url: str) -> None:
    """Store one graph, and copy it to each user of USER_IDS."""
    database.open_database(database_url)
    store(graph_document(NODES, EDGES), user_id=TEMPLATE)
    database.close_database()
    with closing(psycopg2.connect(database_url)) as session:
        session.autocommit = True
        with session.cursor() as cursor:
            # The copies are as consistent as the template, so no foreign key needs a check.
            cursor.execute("SET session_replication_role = replica")
            tables: tuple[type[database.Record], ...] = (GraphRecord, *PARTS)
            for table in tables:
                columns = ", ".join(name for name in table._meta.columns if name != "user_id")
                statement = COPY_GRAPH.format(table=table._meta.table_name, columns=columns)
                cursor.execute(statement, {"users": USER_IDS, "template": TEMPLATE})
            cursor.execute("VACUUM ANALYZE")


def prepare(environment: Mapping[str, str], prefix: str) -> None:
    """Make the queues, the bucket, and the documents of the mix in it."""
    make_queues_and_bucket(environment, prefix)
    s3 = s3_client(environment)
    for key, content in documents(prefix).items():
        s3.put_object(Bucket=environment["S3_PAYLOAD_BUCKET"], Key=key, Body=content)


def documents(prefix: str) -> dict[str, bytes]:
    """The documents that the results of the mix refer to, by key."""
    packaged = {
        KINDS[name].documents[field]: content
        for name in ("summary", "microscope")
        for field, content in samples.packaged_documents(KINDS[name], user_id="mix-user").items()
    }
    batches_of_users = {f"{user_id}/add_node.json": add_node_document(user_id, prefix) for user_id in USER_IDS}
    return {**packaged, **batches_of_users, "graph.json": graph_document(NODES, EDGES)}


def add_node_document(user_id: str, prefix: str) -> bytes:
    """An add-node document with new conversations of a user, each with edges to stored nodes."""
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
    """The envelopes of the mix, without end and always in the same order."""
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
                # Each graph is the first one of a new user.
                extra, user_id = {"resultS3Key": "graph.json"}, f"{prefix}-user-{number}"
        yield samples.result_of(
            KINDS[name],
            user_id=user_id,
            task_id=f"{prefix}-{name}-{number}",
            documents={},
            group_id=f"{prefix}-workspace-{number}" if name == "microscope" else None,
            extra=extra,
        ).body
