"""The ordinary mix of results, sent at a given rate whether or not the worker keeps up, and the latency of each result.

The mix is that of `benchmarks/mix.py`. A result's latency is the time from just before its send to its commit, as
PostgreSQL records it.
"""

from __future__ import annotations

import itertools
import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

from benchmarks import mix
from benchmarks.servers import batches, entries, execute
from graphnode.dev.local_aws import dead_letter_url, sqs_client
from graphnode.dev.outcomes import dead_letters, reading, rows

#: Seconds between two sends, and how many calls to SQS may run at once.
TICK_S = 0.05
SENDERS = 4

#: The queues whose messages are counted.
QUEUES = ("SQS_RESULT_QUEUE_URL",)

#: The committed results and the open pushes of a measurement.
LEFT = """
SELECT (SELECT count(*) FROM tasks WHERE task_id LIKE %(tasks)s),
       (SELECT count(*) FROM notifications WHERE due_at IS NOT NULL AND event LIKE %(tasks)s)
"""

#: Deletes the tasks that have not changed for some seconds, and returns them with the times of their commits.
TAKE_TASKS = """
DELETE FROM tasks WHERE task_id LIKE %(tasks)s AND updated_at < now() - make_interval(secs => %(age)s)
RETURNING task_id, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8
"""

#: Records each write of a task's row, so that a second effect of one result is seen.
RECORD_EFFECTS = """
CREATE TABLE benchmark_effects (task_id text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE FUNCTION benchmark_note_effect() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO benchmark_effects (task_id) VALUES (NEW.task_id); RETURN NULL; END';
CREATE TRIGGER benchmark_effects AFTER INSERT OR UPDATE ON tasks
    FOR EACH ROW EXECUTE FUNCTION benchmark_note_effect();
"""
EFFECTS = """
SELECT count(*), count(DISTINCT task_id), extract(epoch FROM min(at))::float8, extract(epoch FROM max(at))::float8
FROM benchmark_effects WHERE task_id LIKE %(tasks)s
"""


class Handled(NamedTuple):
    """A result that was committed.

    Parameters:
      sent_at, committed_at: seconds since the epoch.
    """

    sent_at: float
    committed_at: float

    @property
    def seconds(self) -> float:
        """The latency."""
        return self.committed_at - self.sent_at


class Effects(NamedTuple):
    """The effects of a measurement's results.

    Parameters:
      writes: writes to rows of tasks.
      tasks: different tasks among them.
      first_at, last_at: seconds since the epoch.
    """

    writes: int
    tasks: int
    first_at: float
    last_at: float


class Traffic:
    """Sends results and measures their latency.

    Parameters:
      environment: the worker's. The queues and the bucket in it are made here.
      prefix: the beginning of the task IDs and of the names of the queues and the bucket.
    """

    def __init__(self, environment: Mapping[str, str], prefix: str) -> None:
        self.environment = environment
        self.prefix = prefix
        self.sqs = sqs_client(environment)
        #: The send times of the results that were not seen committed yet, by task ID.
        self.sent: dict[str, float] = {}
        self.handled: list[Handled] = []
        #: The results sent, those that SQS refused, and rows of tasks that were not expected.
        self.count = self.refused = self.unexpected = 0
        self._bodies = mix.bodies(prefix)
        self._rate = self._due = 0.0
        self._accrued = time.monotonic()
        self._lock = threading.Lock()
        mix.prepare(environment, prefix)

    @contextmanager
    def flowing(self, rate: float) -> Iterator[None]:
        """Send `rate` results a second while the block runs. All that are due are sent before it ends."""
        ended = threading.Event()
        self.set_rate(rate)
        with ThreadPoolExecutor(1) as thread:
            sending = thread.submit(self._flow, ended)
            try:
                yield
            finally:
                self.set_rate(0)
                ended.set()
                sending.result()

    def set_rate(self, rate: float) -> None:
        """Send `rate` results a second from now on."""
        with self._lock:
            self._accrue()
            self._rate = rate

    def send(self, count: int) -> None:
        """Send `count` results as fast as possible."""
        with ThreadPoolExecutor(SENDERS) as senders:
            list(senders.map(self._send_batch, batches(itertools.islice(self._bodies, count))))

    def _flow(self, ended: threading.Event) -> None:
        over = False
        while not over:
            over = ended.wait(TICK_S)
            with self._lock:
                self._accrue()
                whole = int(self._due)
                self._due -= whole
            self.send(whole)

    def _accrue(self) -> None:
        now = time.monotonic()
        self._due += (now - self._accrued) * self._rate
        self._accrued = now

    def _send_batch(self, bodies: Sequence[str]) -> None:
        now = time.time()
        tasks = {json.loads(body)["taskId"]: now for body in bodies}
        with self._lock:
            self.sent |= tasks
            self.count += len(tasks)
        queue_url = self.environment["SQS_RESULT_QUEUE_URL"]
        answer = self.sqs.send_message_batch(QueueUrl=queue_url, Entries=entries(bodies))
        with self._lock:
            self.refused += len(answer.get("Failed", []))

    def take_handled(self, *, age_s: float = 0.0) -> None:
        """Delete the rows of the tasks that have not changed for `age_s` seconds, and record their commit times."""
        with reading(self.environment["DATABASE_URL"]) as database:
            found = rows(database, TAKE_TASKS, tasks=f"{self.prefix}-%", age=age_s)
        with self._lock:
            for task_id, committed_at in found:
                if sent_at := self.sent.pop(task_id, None):
                    self.handled.append(Handled(sent_at, committed_at))
                else:
                    self.unexpected += 1

    def depth(self, *queues: str) -> int:
        """The messages on these queues, visible or in flight; without an argument, on both queues."""
        depth = 0
        for queue in queues or QUEUES:
            counts = self.sqs.get_queue_attributes(
                QueueUrl=self.environment[queue],
                AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
            )["Attributes"]
            depth += sum(map(int, counts.values()))
        return depth

    def dead_letters(self) -> int:
        """The messages on both dead-letter queues."""
        return sum(len(dead_letters(self.sqs, dead_letter_url(self.sqs, self.environment[queue]))) for queue in QUEUES)

    def effects(self) -> Effects:
        """The effects of the results so far. Call `record_effects` before the first send."""
        with reading(self.environment["DATABASE_URL"]) as database:
            return Effects(*rows(database, EFFECTS, tasks=f"{self.prefix}-%")[0])

    def wait_until_handled(self, *, timeout_s: float) -> bool:
        """Wait until all results are committed and their pushes have ended; whether that was in time."""
        deadline = time.monotonic() + timeout_s
        with reading(self.environment["DATABASE_URL"]) as database:
            while time.monotonic() < deadline:
                ((tasks, pushes),) = rows(database, LEFT, tasks=f"{self.prefix}-%")
                if tasks == len(self.sent) and not pushes and not self.depth():
                    return True
                time.sleep(mix.LOOK_S)
        return False


def record_effects(database_url: str) -> None:
    """Have the database record each effect from now on."""
    execute(database_url, RECORD_EFFECTS)


def percentile_ms(handled: Sequence[Handled], percent: int) -> float:
    """A percentile of the latencies, in milliseconds; NaN without results."""
    if len(handled) < 2:
        return handled[0].seconds * 1000 if handled else float("nan")
    cuts = statistics.quantiles([one.seconds for one in handled], n=100, method="inclusive")
    return cuts[percent - 1] * 1000


def levels_of(log: str) -> Counter[str]:
    """The number of lines in a worker's log, by level."""
    return Counter(json.loads(line).get("level", "") for line in log.splitlines() if line.startswith("{"))
