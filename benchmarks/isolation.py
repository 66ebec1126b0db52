"""One user never holds up another: the latency of others alone, and beside the trouble of one user, in one run.

Each case starts its own worker (`dramatiq graphnode.actors`, 8 threads a process, default settings). It measures small
results of other users alone, then makes the trouble and measures them again. The figures are printed with their
targets; the exit code is 1 if one is missed. Every wait is bounded: a result that does not come counts with the time
until then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.documents import features_document, graph_document
from benchmarks.memory import RESET_PEAK, memory_mb
from benchmarks.mix import add_node_document
from benchmarks.others import RATE, Figure, Latency, Scene, figures_of, latency_of, rounded
from benchmarks.output import option_parser, report, tell
from benchmarks.servers import keep_commit_times, running_servers
from benchmarks.sqs_stub import StubServer
from benchmarks.tcp_proxy import TcpProxy
from graphnode.dev.child_processes import Worker
from graphnode.dev.localstack import LocalStack
from graphnode.dev.outcomes import reading, rows, wait_for
from graphnode.storage import database, tasks

THREADS = 8

#: Seconds of small results alone, and beside the trouble.
ALONE_S = 8.0
BESIDE_S = 12.0

#: Seconds after the last send until a case no longer waits for small results, and for all the rest.
PATIENCE_S = 25.0
LONG_PATIENCE_S = 60.0

#: The latency of a call of the stub, as of SQS in the same region.
LATENCY_MS = 10

#: The results of the locked user, and the number of users who are locked at once.
LOCKED_RESULTS = 60
LOCKED_USERS = 40

#: The add-node results of the user with a backlog, and nodes and edges of the user's graph.
HOT_RESULTS = 1_500
HOT_NODES, HOT_EDGES = 3_000, 9_000

#: The least results of one user that two processes apply a second.
HOT_PER_SECOND = 150

#: The messages of the long backlog, the seconds for which it is watched, and those after which others must be quick.
BACKLOG = 20_000
WATCHED_S = 120.0
SETTLED_S = 30.0

#: Nodes and edges of a graph document of 1.6 MiB.
BIG_NODES, BIG_EDGES = 2_000, 5_600
BIG_GRAPHS = 8

#: Nodes, edges and features of the graph in whose COPY a worker is stopped.
COPIED_NODES, COPIED_EDGES, COPIED_WIDTH = 10_000, 1_000, 384

#: The worker processes of that case: what one leaves behind is another one's to end.
FROZEN_PROCESSES = 2
FREE_WITHIN_S = 60.0

#: How often that case tries to stop a process in time, seconds between two looks for a COPY, and seconds after the stop
#: until the COPY counts as interrupted.
FREEZES = 6
COPY_LOOK_S = 0.005
FROZEN_LOOK_S = 0.5

#: A look-up's proxy, its seconds, and its target.
ONE_WAY_MS = 2.0
LOOK_UPS_S = 5.0
LOOK_UPS_PER_SECOND = 1_000

JUNK_MESSAGES = 57
JUNK_BYTES = 1024 * 1024
JUNK_ENVELOPE_BYTES = 300

#: The quick messages before the junk.
QUICK_RESULTS = 1_000

LOCK = "SELECT pg_advisory_lock(hashtextextended(locked, 0)) FROM unnest(%s) AS locked"
LOOK_UP = "SELECT status FROM tasks WHERE task_id = 'none' AND task_type = 'none'"
TRY_LOCK = "SELECT pg_try_advisory_lock(hashtextextended(%(user)s, 0))"

#: The ports of the clients that are copying the features of a graph.
COPYING = """
SELECT pid, client_port FROM pg_stat_activity JOIN pg_stat_progress_copy USING (pid)
WHERE query LIKE 'COPY%%node_embeddings%%'
"""


class Servers(NamedTuple):
    """What all cases share."""

    localstack: LocalStack
    database_url: str
    backlog: int


def main() -> None:
    """Measure, and print the figures; exit code 1 if a target is missed."""
    parser = option_parser("isolation", __doc__)
    parser.add_argument(
        "--only", action="append", choices=CASES, metavar="CASE", help=f"of {', '.join(CASES)}; repeatable"
    )
    parser.add_argument("--backlog", type=int, default=BACKLOG, help=f"messages of hot-20000 (default: {BACKLOG:,})")
    options = parser.parse_args()
    measured: dict[str, list[Figure]] = {}
    with running_servers() as (localstack, postgres):
        keep_commit_times(postgres)
        servers = Servers(localstack, postgres.url, options.backlog)
        for name in options.only or CASES:
            began = time.monotonic()
            measured[name] = CASES[name](servers)
            tell(f"{name}: {time.monotonic() - began:.0f} s")
    figures = {name: {figure.name: figure.as_json() for figure in found} for name, found in measured.items()}
    report(figures, as_json=options.json, lines=table(measured))
    sys.exit(1 if any(figure.holds is False for found in measured.values() for figure in found) else 0)


def table(measured: Mapping[str, Sequence[Figure]]) -> Iterator[str]:
    """The figures as lines: alone, beside the trouble, their ratio, and the target."""
    for name, found in measured.items():
        yield f"\n{name:<34}{'alone':>10}{'beside':>10}{'ratio':>10}"
        for figure in found:
            shown = (rounded(number) for number in (figure.alone, figure.beside, figure.ratio))
            columns = "".join(f"{'-' if number is None else number:>10}" for number in shown)
            verdict = {None: "", True: f"  {figure.target}", False: f"  {figure.target}: MISSED"}[figure.holds]
            yield f"  {figure.name:<32}{columns}{verdict}"


def locked(servers: Servers, *, users: int = 1, results: int = LOCKED_RESULTS) -> list[Figure]:
    """Another session holds the locks of users whose results are queued.

    Parameters:
      results: of all these users together.
    """
    scene = Scene.on_localstack(servers.localstack, servers.database_url)
    user_ids = [f"{scene.prefix}-locked-{number}" for number in range(users)]
    with running_worker(scene) as (_, alone):
        with held_locks(servers.database_url, user_ids):
            queued = scene.send([scene.small_result(user_ids[number % users]) for number in range(results)])
            beside = scene.latency(scene.others(BESIDE_S), timeout_s=PATIENCE_S)
        released = time.time()
        applied = scene.ended(queued, timeout_s=PATIENCE_S)
        last = max(applied.values()) - released if len(applied) == results else None
        return [
            *figures_of("others", alone, beside, p95_times=3, max_ms=1000),
            Figure("results of the locked applied", len(applied), at_least=results),
            Figure("the last after the release, s", last),
            Figure("failed attempts", scene.failed_attempts(), at_most=0),
            Figure("dead letters", scene.dead_letters(), at_most=0),
        ]


def hot(servers: Servers) -> list[Figure]:
    """A user with a graph has a backlog of new nodes."""
    scene = Scene.on_localstack(servers.localstack, servers.database_url)
    keys = put_nodes(scene, f"{scene.prefix}-hot")
    with running_worker(scene) as (_, alone):
        sent = send_nodes(scene, f"{scene.prefix}-hot", keys)
        beside = scene.latency(scene.others(BESIDE_S), timeout_s=LONG_PATIENCE_S)
        applied = scene.ended(sent, timeout_s=PATIENCE_S)
        return [
            *figures_of("others", alone, beside, p95_ms=1000),
            Figure("the user's results a second", per_second(applied.values())),
            Figure("the user's results applied", len(applied)),
            Figure("failed attempts", scene.failed_attempts(), at_most=0),
            Figure("dead letters", scene.dead_letters(), at_most=0),
        ]


def hot_drain(servers: Servers) -> list[Figure]:
    """Two processes work on the same backlog, and nobody else has anything."""
    scene = Scene.on_localstack(servers.localstack, servers.database_url)
    keys = put_nodes(scene, f"{scene.prefix}-hot")
    with Worker(scene.environment, processes=2, threads=THREADS) as worker:
        worker.wait_until_ready()
        applied = scene.ended(send_nodes(scene, f"{scene.prefix}-hot", keys), timeout_s=LONG_PATIENCE_S)
    return [
        Figure("the user's results a second", per_second(applied.values()), at_least=HOT_PER_SECOND),
        Figure("the user's results applied", len(applied), at_least=HOT_RESULTS),
        Figure("failed attempts", scene.failed_attempts(), at_most=0),
        Figure("dead letters", scene.dead_letters(), at_most=0),
    ]


def put_nodes(scene: Scene, user_id: str) -> list[str]:
    """The keys of documents that each add nodes to a user's graph; the graph has a document as well."""
    scene.put({"graph.json": graph_document(HOT_NODES, HOT_EDGES)})
    keys = [f"add-node-{number}.json" for number in range(HOT_RESULTS)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda key: scene.put({key: add_node_document(user_id, key)}), keys))
    return keys


def send_nodes(scene: Scene, user_id: str, keys: Sequence[str]) -> dict[str, float]:
    """Have the user's graph stored, and send the results that add nodes to it; their times by task."""
    graph = {"status": "COMPLETED", "resultS3Key": "graph.json"}
    scene.ended(scene.send([scene.result(user_id, "GRAPH_GENERATION_RESULT", graph)]), timeout_s=PATIENCE_S)
    added = ({"status": "COMPLETED", "resultS3Key": key} for key in keys)
    return scene.send([scene.result(user_id, "ADD_NODE_RESULT", payload) for payload in added])


def hot_for_minutes(servers: Servers) -> list[Figure]:
    """A user has a backlog that lasts for minutes, and two processes work on it."""
    with StubServer() as stub:
        stub.order(latency_ms=LATENCY_MS)
        scene = Scene.on_stub(stub, servers.database_url)
        queue, user_id = f"{scene.prefix}-results", f"{scene.prefix}-hot"
        progress = {"currentStage": "clustering", "progressPercent": 50}
        backlog = [scene.result(user_id, "GRAPH_GENERATION_PROGRESS", progress) for _ in range(servers.backlog)]
        with running_worker(scene, processes=2) as (_, alone):
            began = time.monotonic()
            stub.fill(queue, [body for _, body in backlog])
            first = scene.others(SETTLED_S)
            later: dict[str, float] = {}
            # A few messages of others are always there.
            while (left := stub.order()["undeleted"][queue]) > RATE and time.monotonic() - began < WATCHED_S:
                later |= scene.others(1)
            seconds = time.monotonic() - began
            settled = scene.latency(later, timeout_s=PATIENCE_S)
            unsettled = scene.latency(first, timeout_s=0)
            receives = stub.receives(queue)
        return [
            *figures_of(f"others, first {SETTLED_S:.0f} s", alone, unsettled),
            *figures_of("others, later", alone, settled, p95_ms=1000),
            Figure("the user's messages a second", (servers.backlog - left) / seconds, at_least=80),
            Figure("messages left", left),
            Figure("receives a received message, mean", mean(receives)),
            Figure("receives a message, max", max(receives), at_most=3),
            Figure("failed attempts", scene.failed_attempts(), at_most=0),
            Figure("dead letters", scene.dead_letters(), at_most=0),
        ]


def big_behind_locked(servers: Servers) -> list[Figure]:
    """Big graphs of others are sent after three of a user whose lock another session holds."""
    scene = Scene.on_localstack(servers.localstack, servers.database_url)
    scene.put({"graph.json": graph_document(BIG_NODES, BIG_EDGES)})
    payload = {"status": "COMPLETED", "resultS3Key": "graph.json"}
    graph = partial(scene.result, task_type="GRAPH_GENERATION_RESULT", payload=payload)

    def latency(name: str) -> Latency:
        sent = scene.send([graph(f"{scene.prefix}-{name}-{number}") for number in range(BIG_GRAPHS)])
        return scene.latency(sent, timeout_s=2 * PATIENCE_S)

    with running_worker(scene):
        alone, locked_user = latency("alone"), f"{scene.prefix}-locked"
        with held_locks(servers.database_url, [locked_user]):
            queued = scene.send([graph(locked_user) for _ in range(3)])
            beside = latency("beside")
        return [
            *figures_of("others' big graphs", alone, beside, p95_times=2),
            Figure("graphs of the locked applied", len(scene.ended(queued, timeout_s=PATIENCE_S)), at_least=1),
            Figure("failed attempts", scene.failed_attempts(), at_most=0),
            Figure("dead letters", scene.dead_letters(), at_most=0),
        ]


def silent(servers: Servers) -> list[Figure]:
    """One idle connection to PostgreSQL acknowledges all that it gets, and answers nothing."""
    with StubServer() as stub, TcpProxy(servers.database_url) as proxy:
        scene = Scene.on_stub(stub, servers.database_url)
        with running_worker(scene, settings={"DATABASE_URL": proxy.url}) as (_, alone):
            silenced = wait_for(lambda: proxy.silence() or None, timeout_s=PATIENCE_S)
            began = time.time()
            sent = scene.others(BESIDE_S)
            committed = scene.ended(sent, timeout_s=PATIENCE_S)
            used = proxy.swallowed() > 0
            # A worker that still waits for it could not stop.
            proxy.close_silent()
        late = [at - began for task_id, at in committed.items() if at - sent[task_id] > 1]
        recovered = max(late, default=0.0) if silenced and used and len(committed) == len(sent) else None
        return [
            *figures_of("others", alone, latency_of(sent, committed, now=time.time())),
            Figure("until all threads work again, s", recovered, at_most=15),
        ]


def frozen_copy(servers: Servers) -> list[Figure]:
    """A worker process is stopped (SIGSTOP) while it copies a big graph; another one runs."""
    scene = Scene.on_localstack(servers.localstack, servers.database_url)
    graph = graph_document(COPIED_NODES, COPIED_EDGES)
    orig_ids = [f"src{number % 3}_conv-{number:08}" for number in range(COPIED_NODES)]
    features = b"".join(features_document(orig_ids, width=COPIED_WIDTH))
    scene.put({"graph.json": graph, "features.json": features})
    payload = {"status": "COMPLETED", "resultS3Key": "graph.json", "featuresS3Key": "features.json"}
    with running_worker(scene, processes=FROZEN_PROCESSES) as (worker, _), reading(servers.database_url) as session:
        process, user_id, seconds = None, "", None
        for number in range(FREEZES):
            user_id = f"{scene.prefix}-copied-{number}"
            scene.send([scene.result(user_id, "GRAPH_GENERATION_RESULT", payload)])
            if process := stopped_in_copy(session, worker):
                break
        if process:
            began = time.monotonic()
            if wait_for(lambda: rows(session, TRY_LOCK, user=user_id)[0][0] or None, timeout_s=FREE_WITHIN_S + 10):
                seconds = time.monotonic() - began
            process.resume()
    return [
        Figure("processes stopped in a COPY", int(process is not None), at_least=1),
        Figure("until the user's lock is free, s", seconds, at_most=FREE_WITHIN_S),
    ]


def stopped_in_copy(session: Any, worker: Worker) -> psutil.Process | None:
    """The worker's process that was stopped in the middle of a COPY; None if it came too late."""
    deadline = time.monotonic() + PATIENCE_S
    while not (copying := rows(session, COPYING)) and time.monotonic() < deadline:
        time.sleep(COPY_LOOK_S)
    for server_pid, port in copying:
        for process in psutil.Process(worker.pid).children(recursive=True):
            if port in {one.laddr.port for one in process.net_connections("tcp") if one.laddr}:
                process.suspend()
                time.sleep(FROZEN_LOOK_S)
                if server_pid in {pid for pid, _ in rows(session, COPYING)}:
                    return process
                process.resume()
    return None


def look_ups(servers: Servers) -> list[Figure]:
    """Eight threads look tasks up in a database that is a few milliseconds away."""
    with TcpProxy(servers.database_url, delay_ms=ONE_WAY_MS) as proxy:

        @contextmanager
        def bare() -> Iterator[Callable[[], object]]:
            with reading(proxy.url) as session:
                yield lambda: rows(session, LOOK_UP)

        alone = call_rate(bare)
        database.open_database(proxy.url)
        try:
            ours = call_rate(lambda: nullcontext(lambda: tasks.FIND(task_id="none", user_id="none")))
        finally:
            database.close_database()
    return [Figure("look-ups a second", ours, alone, at_least=LOOK_UPS_PER_SECOND)]


def junk(servers: Servers) -> list[Figure]:
    """Bodies of a mebibyte that become many objects: first no messages at all, then results of a locked user."""
    lists = "[" + "[]," * ((JUNK_BYTES - JUNK_ENVELOPE_BYTES) // 3) + "[]]"
    with StubServer() as stub:
        scene = Scene.on_stub(stub, servers.database_url)
        queue, user_id = f"{scene.prefix}-results", f"{scene.prefix}-locked"
        quick = [scene.small_result(f"{scene.prefix}-quick-{number}")[1] for number in range(QUICK_RESULTS)]
        results = [
            body.replace('"-"', lists)
            for _, body in (
                scene.result(user_id, "MICROSCOPE_INGEST_RESULT", {"status": "FAILED", "ingest_stats": {"pages": "-"}})
                for _ in range(JUNK_MESSAGES)
            )
        ]
        with running_worker(scene) as (worker, _):
            (process,) = psutil.Process(worker.pid).children()
            idle = memory_mb("VmRSS", process.pid)

            def peak_mb(bodies: Sequence[str], *, left: int, timeout_s: float) -> float:
                Path(f"/proc/{process.pid}/clear_refs").write_text(RESET_PEAK)
                stub.fill(queue, bodies)
                wait_for(lambda: stub.order()["undeleted"][queue] <= left or None, timeout_s=timeout_s)
                return memory_mb("VmHWM", process.pid)

            of_quick = peak_mb(quick, left=0, timeout_s=LONG_PATIENCE_S)
            of_none = peak_mb([lists] * JUNK_MESSAGES, left=0, timeout_s=LONG_PATIENCE_S)
            dead = scene.dead_letters()
            with held_locks(servers.database_url, [user_id]):
                # A worker fetches ahead of quick messages.
                of_locked = peak_mb([*quick, *results], left=0, timeout_s=BESIDE_S)
        return [
            Figure("peak of no messages, MiB over idle", over(of_none, idle), over(of_quick, idle), at_most=150),
            Figure("peak of results, MiB over idle", over(of_locked, idle), over(of_quick, idle), at_most=150),
            Figure("dead letters of no messages", dead, at_least=JUNK_MESSAGES),
        ]


def over(peak_mb: float, idle_mb: float) -> float:
    """A growth in MB, in MiB."""
    return (peak_mb - idle_mb) * 1e6 / 2**20


#: The cases by name.
CASES: dict[str, Callable[[Servers], list[Figure]]] = {
    "locked": locked,
    "many-locked": partial(locked, users=LOCKED_USERS),
    "hot-1500": hot,
    "hot-drain": hot_drain,
    "hot-20000": hot_for_minutes,
    "big-behind-locked": big_behind_locked,
    "silent": silent,
    "frozen-copy": frozen_copy,
    "look-ups": look_ups,
    "junk": junk,
}


@contextmanager
def running_worker(
    scene: Scene, *, processes: int = 1, settings: Mapping[str, str] | None = None
) -> Iterator[tuple[Worker, Latency]]:
    """A worker that is warm, and the latency of small results alone.

    Parameters:
      settings: environment variables that it has as well.
    """
    with Worker({**scene.environment, **(settings or {})}, processes=processes, threads=THREADS) as worker:
        worker.wait_until_ready()
        scene.latency(scene.others(2), timeout_s=PATIENCE_S)
        alone = scene.latency(scene.others(ALONE_S), timeout_s=PATIENCE_S)
        tell(f"others alone: p95 {alone.p95:.0f} ms")
        yield worker, alone


@contextmanager
def held_locks(database_url: str, user_ids: Sequence[str]) -> Iterator[None]:
    """Hold the locks of users in a session of its own."""
    with reading(database_url) as session, session.cursor() as cursor:
        cursor.execute(LOCK, [list(user_ids)])
        yield


def call_rate(opened: Callable[[], AbstractContextManager[Callable[[], object]]]) -> float:
    """The calls a second of THREADS threads.

    Parameters:
      opened: makes what a thread calls.
    """

    def count(_: int) -> int:
        with opened() as call:
            deadline, calls = time.monotonic() + LOOK_UPS_S, 0
            while time.monotonic() < deadline:
                call()
                calls += 1
            return calls

    with ThreadPoolExecutor(THREADS) as threads:
        return sum(threads.map(count, range(THREADS))) / LOOK_UPS_S


def per_second(times: Collection[float]) -> float | None:
    """The rate of events at these times, in seconds; None for fewer than two."""
    return (len(times) - 1) / (max(times) - min(times)) if len(times) > 1 else None


def mean(counts: Mapping[int, int]) -> float:
    """The mean of the values above 0, by how often each occurs."""
    return sum(value * times for value, times in counts.items()) / max(1, sum(counts.values()) - counts.get(0, 0))


if __name__ == "__main__":
    main()
