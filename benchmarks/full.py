"""What storing a first graph and reading cost in a database that is full of users, beside an empty one."""

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
from benchmarks.persist import graph_document, store, tell
from benchmarks.reading import documented_queries, explain
from graphnode.dev.postgres import EmbeddedPostgres, start_postgres
from graphnode.dev.stack import bring_up_to_date
from graphnode.storage import database, graphs

#: Rows of `graph_nodes`: a million users'. There are three times as many of `graph_edges`.
NODE_ROWS = 20_000_000

#: How much of the free disk the full database may take.
DISK_SHARE = 0.7

#: Nodes and edges of the first graphs, and how many of each are stored a round while the server runs: one takes little
#: time, and is then easily disturbed. In a cold round one of each is stored: the next would find something in memory.
SIZES = {(300, 196): 9, (1_000, 10_000): 3, (10_000, 100_000): 1}
WARM_ROUNDS = 5
COLD_ROUNDS = 5

#: The graph that a session stores before it is measured.
WARM_UP_SIZE = (300, 196)

#: The two databases, on one server.
PLACES = ("empty", "full")

#: The graph that the queries read, the node that they ask about, and how often each is run.
READER, READ_SIZE, READ_NODE = "user-00500000", (10_000, 100_000), 4_321
EMBEDDING_WIDTH = 384
READ_ROUNDS = 5

Seconds = dict[tuple[int, int], dict[str, list[float]]]


def measure_full(*, node_rows: int, tell_plans: bool) -> dict[str, Any]:
    """Fill a database, and give all figures. The ratio is that of the size that suffers most.

    Parameters:
      node_rows: how many nodes it is to have, if the disk allows.
      tell_plans: whether to tell how each query was run.
    """
    directory = Path(tempfile.mkdtemp(prefix="graphnode-benchmark-"))
    users = min(node_rows // crowd.NODES, affordable_users(directory))
    with start_postgres(directory) as server:
        urls = {place: made_database(server, place) for place in PLACES}
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
    """How many users the disk has room for."""
    return int(shutil.disk_usage(directory).free * DISK_SHARE / crowd.BYTES_A_NODE / crowd.NODES)


def made_database(server: EmbeddedPostgres, name: str) -> str:
    """Make a database with the newest schema; its URL."""
    crowd.run(server.url, f'CREATE DATABASE "{name}"')
    url = urlsplit(server.url)._replace(path=f"/{name}").geturl()
    bring_up_to_date(url)
    return url


def measure_warm(urls: dict[str, str], *, users: int) -> Seconds:
    """Seconds by size and place, on a server that runs. A new user's part of the indexes is as it comes."""
    found: Seconds = defaultdict(lambda: defaultdict(list))
    documents = {size: graph_document(*size) for size in SIZES}
    for number in range(1, WARM_ROUNDS + 1):
        for place in PLACES:
            with opened(urls[place], warm_up=f"warm {number}"):
                for size, document in documents.items():
                    found[size][place] += [store(document, user_id=new_user(users)) for _ in range(SIZES[size])]
        told(f"warm, round {number} of {WARM_ROUNDS}", found)
    return found


def measure_cold(server: EmbeddedPostgres, urls: dict[str, str], *, users: int) -> Seconds:
    """Seconds by size and place, each on a server that was started anew and with nothing in the system's cache."""
    found: Seconds = defaultdict(lambda: defaultdict(list))
    documents = {size: graph_document(*size) for size in SIZES}
    for number in range(1, COLD_ROUNDS + 1):
        for place in PLACES:
            server.stop()
            forget_files(server.directory)
            server.start()
            with opened(urls[place], warm_up=f"cold {number}"):
                for size, document in documents.items():
                    found[size][place].append(store(document, user_id=new_user(users)))
        told(f"cold, round {number} of {COLD_ROUNDS}", found)
    return found


def compared(size: tuple[int, int], warm: dict[str, list[float]], cold: dict[str, list[float]]) -> dict[str, Any]:
    """One size's figures."""
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
    """For each documented query the rows it gives, the pages it looks at, and its milliseconds in PostgreSQL."""
    with opened(url, warm_up="queries"):
        store(graph_document(*READ_SIZE), user_id=READER)
        chance = random.Random(0)  # noqa: S311
        with database.user_transaction(READER):
            vectors = ([chance.random() for _ in range(EMBEDDING_WIDTH)] for _ in range(READ_SIZE[0]))
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
    """The storage, open on a database, in a session that has stored a graph before, as a worker's has.

    Parameters:
      warm_up: names that graph's user, who is far from the others in every index.
    """
    database.open_database(url, max_connections=1)
    store(graph_document(*WARM_UP_SIZE), user_id=warm_up)
    yield
    database.close_database()


def new_user(users: int) -> str:
    """A user who is not there yet, somewhere among the crowd."""
    return f"user-{random.randrange(users):08}"  # noqa: S311


def forget_files(directory: Path) -> None:
    """Have the system forget what it keeps in memory of the files in a directory.

    https://man7.org/linux/man-pages/man2/posix_fadvise.2.html
    """
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())  # what is not on the disk yet stays in memory
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def told(what: str, found: Seconds) -> None:
    """Tell the newest figures."""
    for (nodes, edges), places in found.items():
        tell(f"{what}, {nodes} nodes and {edges} edges: " + ", ".join(f"{p} {s[-1]:.3f} s" for p, s in places.items()))
