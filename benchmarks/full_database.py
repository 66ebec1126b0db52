"""The time to store a first graph in a database full of users and in an empty one, and to read in the full one."""

from __future__ import annotations

import os
import random
import re
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2

from benchmarks import crowd
from benchmarks.documents import graph_document
from benchmarks.output import tell
from benchmarks.persist import store
from benchmarks.queries import documented_queries, explain
from graphnode.dev.postgres import EmbeddedPostgres, start_postgres
from graphnode.dev.stack import bring_up_to_date
from graphnode.rules.features import pack
from graphnode.storage import database, graphs

#: Rows of `graph_nodes`, for a million users. `graph_edges` has three times as many.
NODE_ROWS = 20_000_000

#: The share of the free disk that the full database may use.
DISK_SHARE = 0.7

#: Nodes and edges of the first graphs, and how many of each a warm round stores: short measurements vary more. A cold
#: round stores one of each, because a second one would find pages in memory.
SIZES = {(300, 196): 9, (1_000, 10_000): 3, (10_000, 100_000): 1}
WARM_ROUNDS = 5
COLD_ROUNDS = 5

#: The graph that a session stores before the measurement.
WARM_UP_SIZE = (300, 196)

#: The two databases, on one server.
PLACES = ("empty", "full")

#: The user whose graph the queries read, its size, the node that they ask for, and the runs of each query.
READER, READ_SIZE, READ_NODE = "user-00500000", (10_000, 100_000), 4_321
EMBEDDING_WIDTH = 384
READ_ROUNDS = 5

Seconds = dict[tuple[int, int], dict[str, list[float]]]


def measure(*, node_rows: int, tell_plans: bool) -> dict[str, Any]:
    """Fill a database, and measure it. The figures outside `sizes` are those of the size with the highest ratio.

    Parameters:
      node_rows: the nodes of the full database; fewer if the disk is too small.
      tell_plans: whether to print the plan of each query.
    """
    directory = Path(tempfile.mkdtemp(prefix="graphnode-benchmark-"))
    users = min(node_rows // crowd.NODES, affordable_users(directory))
    with start_postgres(directory) as server:
        urls = {place: make_database(server, place) for place in PLACES}
        began = time.monotonic()
        crowd.fill(urls["full"], users=users)
        fill_s = time.monotonic() - began
        ((bytes_used,),) = crowd.run(urls["full"], "SELECT pg_database_size(current_database())")
        rows = {"node_rows": users * crowd.NODES, "edge_rows": users * crowd.EDGES}
        tell(f"{rows} in {fill_s:.0f} s, {bytes_used / 1e9:.1f} GB")
        warm, cold = measure_warm(urls, users=users), measure_cold(server, urls, users=users)
        sizes = [compared(size, warm[size], cold[size]) for size in SIZES]
        return {
            **rows,
            "full_gb": round(bytes_used / 1e9, 1),
            "fill_s": round(fill_s),
            **max(sizes, key=lambda found: found["ratio"]),
            "sizes": sizes,
            "queries": measure_queries(urls["full"], tell_plans=tell_plans),
        }


def affordable_users(directory: Path) -> int:
    """The number of users that the disk has room for."""
    return int(shutil.disk_usage(directory).free * DISK_SHARE / crowd.BYTES_A_NODE / crowd.NODES)


def make_database(server: EmbeddedPostgres, name: str) -> str:
    """Make a database with the newest schema; its URL."""
    crowd.run(server.url, f'CREATE DATABASE "{name}"')
    url = urlsplit(server.url)._replace(path=f"/{name}").geturl()
    bring_up_to_date(url)
    return url


def measure_warm(urls: dict[str, str], *, users: int) -> Seconds:
    """Seconds by size and database, on a running server. Index pages of a new user may be in memory or not."""
    found: Seconds = defaultdict(lambda: defaultdict(list))
    documents = {size: graph_document(*size) for size in SIZES}
    for number in range(1, WARM_ROUNDS + 1):
        for place in PLACES:
            with opened(urls[place], warm_up=f"warm {number}"):
                for size, document in documents.items():
                    found[size][place] += [store(document, user_id=new_user(users)) for _ in range(SIZES[size])]
        tell_newest(f"warm, round {number} of {WARM_ROUNDS}", found)
    return found


def measure_cold(server: EmbeddedPostgres, urls: dict[str, str], *, users: int) -> Seconds:
    """Seconds by size and database, each after a restart of the server and with empty caches."""
    found: Seconds = defaultdict(lambda: defaultdict(list))
    documents = {size: graph_document(*size) for size in SIZES}
    for number in range(1, COLD_ROUNDS + 1):
        for place in PLACES:
            server.stop()
            drop_from_cache(server.directory)
            server.start()
            with opened(urls[place], warm_up=f"cold {number}"):
                for size, document in documents.items():
                    found[size][place].append(store(document, user_id=new_user(users)))
        tell_newest(f"cold, round {number} of {COLD_ROUNDS}", found)
    return found


def compared(size: tuple[int, int], warm: dict[str, list[float]], cold: dict[str, list[float]]) -> dict[str, Any]:
    """The figures of one size."""
    empty_s, full_s = (statistics.median(warm[place]) for place in PLACES)
    cold_empty_s, cold_full_s = (statistics.median(cold[place]) for place in PLACES)
    return {
        "nodes": size[0],
        "edges": size[1],
        "empty_s": round(empty_s, 4),
        "full_s": round(full_s, 4),
        "ratio": round(full_s / empty_s, 3),
        "cold_empty_s": round(cold_empty_s, 4),
        "cold_full_s": round(cold_full_s, 4),
        "cold_ratio": round(cold_full_s / cold_empty_s, 3),
    }


def measure_queries(url: str, *, tell_plans: bool) -> list[dict[str, Any]]:
    """The milliseconds of each documented query in PostgreSQL."""
    with opened(url, warm_up="queries"):
        store(graph_document(*READ_SIZE), user_id=READER)
        chance = random.Random(0)  # noqa: S311
        with database.user_transaction(READER):
            vectors = (pack([chance.random() for _ in range(EMBEDDING_WIDTH)]) for _ in range(READ_SIZE[0]))
            graphs.store_embeddings(READER, enumerate(vectors))
    crowd.run(url, "VACUUM ANALYZE graph_nodes", "VACUUM ANALYZE graph_edges", "VACUUM ANALYZE node_embeddings")
    found = []
    with closing(psycopg2.connect(url)) as connection:
        for name, query in documented_queries().items():
            for _ in range(READ_ROUNDS):
                plan = explain(connection, query, user_id=READER, node_id=READ_NODE)
                times = [float(ms) for ms in re.findall(r"Execution Time: ([\d.]+) ms", plan)]
            found.append({"query": name, "ms": times[0]})
            if tell_plans:
                tell(f"{name}\n{plan}\n")
    return found


@contextmanager
def opened(url: str, *, warm_up: str) -> Iterator[None]:
    """The storage, open on a database, in a session that has stored a graph before, as a worker's session has.

    Parameters:
      warm_up: the user ID of that graph, far from the others in every index.
    """
    database.open_database(url)
    store(graph_document(*WARM_UP_SIZE), user_id=warm_up)
    yield
    database.close_database()


def new_user(users: int) -> str:
    """The ID of a new user, somewhere among the others."""
    return f"user-{random.randrange(users):08}"  # noqa: S311


def drop_from_cache(directory: Path) -> None:
    """Drop the files of a directory from the system's page cache.

    https://man7.org/linux/man-pages/man2/posix_fadvise.2.html
    """
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())  # pages that are not on the disk yet stay in memory
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def tell_newest(what: str, found: Seconds) -> None:
    """Print the newest figures."""
    for (nodes, edges), places in found.items():
        tell(f"{what}, {nodes} nodes and {edges} edges: " + ", ".join(f"{p} {s[-1]:.3f} s" for p, s in places.items()))
