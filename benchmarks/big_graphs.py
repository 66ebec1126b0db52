"""Results with big graphs, of which eight are in the system at any time."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.documents import features_document, graph_document
from benchmarks.pushes import Bench, wait_for
from graphnode.dev.local_aws import s3_client
from graphnode.dev.outcomes import reading, rows

AT_ONCE = 8

#: Their size. The features have about 80 MB.
NODES, EDGES, FEATURE_WIDTH = 10_000, 100_000, 384

#: Seconds between two queries for the stored graphs.
LOOK_S = 0.2

STORED = "SELECT count(*) FROM tasks WHERE user_id LIKE %(users)s AND status = 'COMPLETED' AND task_id LIKE 'big%%'"


class BigGraphs(threading.Thread):
    """Sends big graphs until it is stopped. `stored` counts those that the worker has stored."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(name="big-graphs", daemon=True)
        self.bench = bench
        self.stored = self.sent = 0
        self._stopped = threading.Event()
        graph = graph_document(NODES, EDGES)
        orig_ids = [node["orig_id"] for node in json.loads(graph)["nodes"]]
        features = b"".join(features_document(orig_ids, width=FEATURE_WIDTH))
        s3, bucket = s3_client(bench.environment), bench.environment["S3_PAYLOAD_BUCKET"]
        s3.put_object(Bucket=bucket, Key="graph.json", Body=graph)
        s3.put_object(Bucket=bucket, Key="features.json", Body=features)

    def run(self) -> None:
        """Send eight, and one more for each that is stored."""
        with reading(self.bench.environment["DATABASE_URL"]) as database:
            while not self._stopped.wait(LOOK_S):
                ((self.stored,),) = rows(database, STORED, users=f"{self.bench.prefix}-%")
                while self.sent < self.stored + AT_ONCE:
                    user = f"{self.bench.prefix}-big-{self.sent}"
                    keys = {"resultS3Key": "graph.json", "featuresS3Key": "features.json"}
                    payload = {"userId": user, "status": "COMPLETED", **keys}
                    self.bench.send("GRAPH_GENERATION_RESULT", {f"big of {user}": payload})
                    self.sent += 1

    def wait_until_stored(self, count: int) -> None:
        """Wait until `count` graphs are stored."""
        wait_for(lambda: self.stored >= count, f"{count} big graphs")

    def wait_until_all_are_stored(self) -> None:
        """Wait until all are stored. Call `stop` first."""
        self.bench.wait_until(f"{STORED} HAVING count(*) = %(sent)s", sent=self.sent)

    def stop(self) -> None:
        """Stop sending."""
        self._stopped.set()
        self.join()


@contextmanager
def big_graphs(bench: Bench) -> Iterator[BigGraphs]:
    """Eight big graphs in the system while the block runs."""
    big = BigGraphs(bench)
    big.start()
    try:
        yield big
    finally:
        big.stop()
