"""The ordinary mix of results as it comes whether or not anybody keeps up, and what became of each of them.

The mix is that of `benchmarks/mix.py`. A result's time runs from before its send to its commit, as PostgreSQL dates it.
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
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import psycopg2

from benchmarks import mix
from graphnode.dev.aws import dead_letter_url, sqs_client
from graphnode.dev.outcomes import dead_letters, reading, rows

#: Seconds between two looks at what is due to be sent; the calls that may be made at once when much is.
TICK_S = 0.05
SENDERS = 4

#: Whose messages are looked at.
QUEUES = ("SQS_RESULT_QUEUE_URL", "SQS_NOTIFICATION_QUEUE_URL")

#: What is left to do for the results and the pushes of a measurement.
LEFT = """
SELECT (SELECT count(*) FROM tasks WHERE task_id LIKE %(tasks)s),
       (SELECT count(*) FROM notifications WHERE due_at IS NOT NULL AND event LIKE %(tasks)s)
"""

#: Take the tasks of which there was no news for so many seconds, with their commits.
TAKE_TASKS = """
DELETE FROM tasks WHERE task_id LIKE %(tasks)s AND updated_at < now() - make_interval(secs => %(age)s)
RETURNING task_id, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8
"""

#: Each time a task's row is written, that is noted: whoever has an effect twice is seen.
NOTE_EFFECTS = """
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

GIVE_PHONES = "INSERT INTO device_tokens (token, user_id) SELECT 'phone of ' || u, u FROM unnest(%s) AS u"


class Handled(NamedTuple):
    """A result that had its effect.

    Parameters:
      sent_at, committed_at: seconds since the epoch.
    """

    sent_at: float
    committed_at: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.committed_at - self.sent_at


class Effects(NamedTuple):
    """The effects of a measurement's results.

    Parameters:
      writes: how often a task's row was written.
      tasks: how many tasks that were.
      first_at, last_at: seconds since the epoch.
    """

    writes: int
    tasks: int
    first_at: float
    last_at: float


class Traffic:
    """Results on their way.

    Parameters:
      environment: the worker's; its queues and its bucket are made here.
      prefix: what the IDs of its tasks begin with, and the names of queues and bucket.
    """

    def __init__(self, environment: Mapping[str, str], prefix: str) -> None:
        self.environment = environment
        self.prefix = prefix
        self.sqs = sqs_client(environment)
        #: When each result was sent that has not been seen handled.
        self.sent: dict[str, float] = {}
        self.handled: list[Handled] = []
        #: How many were sent, how many of those SQS refused, and how many rows were of no task that was due.
        self.count = self.refused = self.unexpected = 0
        self._bodies = mix.bodies(prefix)
        self._rate = self._due = 0.0
        self._accrued = time.monotonic()
        self._lock = threading.Lock()
        mix.prepare(environment, prefix)

    @contextmanager
    def flowing(self, rate: float) -> Iterator[None]:
        """Send so many results a second, from a thread, within the block. All that is due is sent before its end."""
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
        """From now on, send so many results a second."""
        with self._lock:
            self._accrue()
            self._rate = rate

    def send(self, count: int) -> None:
        """Send so many results as fast as it goes."""
        with ThreadPoolExecutor(SENDERS) as senders:
            list(senders.map(self._send_batch, mix.batches(itertools.islice(self._bodies, count))))

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
        entries: Any = [{"Id": str(index), "MessageBody": body} for index, body in enumerate(bodies)]
        tasks = {json.loads(body)["taskId"]: now for body in bodies}
        with self._lock:
            self.sent |= tasks
            self.count += len(tasks)
        answer = self.sqs.send_message_batch(QueueUrl=self.environment["SQS_RESULT_QUEUE_URL"], Entries=entries)
        with self._lock:
            self.refused += len(answer.get("Failed", []))

    def take_handled(self, *, age_s: float = 0.0) -> None:
        """Take the rows of the tasks of which there was no news for a while, and note when they were committed."""
        with reading(self.environment["DATABASE_URL"]) as database:
            found = rows(database, TAKE_TASKS, tasks=f"{self.prefix}-%", age=age_s)
        with self._lock:
            for task_id, committed_at in found:
                if sent_at := self.sent.pop(task_id, None):
                    self.handled.append(Handled(sent_at, committed_at))
                else:
                    self.unexpected += 1

    def depth(self, *queues: str) -> int:
        """The messages on both queues, or on these alone, waiting or in hand."""
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
        """The effects of its results so far, where `note_effects` was called before."""
        with reading(self.environment["DATABASE_URL"]) as database:
            return Effects(*rows(database, EFFECTS, tasks=f"{self.prefix}-%")[0])

    def wait_until_handled(self, *, timeout_s: float) -> bool:
        """Wait for the effects of all that was sent, and for the end of their pushes; whether they came in time."""
        deadline = time.monotonic() + timeout_s
        with reading(self.environment["DATABASE_URL"]) as database:
            while time.monotonic() < deadline:
                ((tasks, pushes),) = rows(database, LEFT, tasks=f"{self.prefix}-%")
                if tasks == len(self.sent) and not pushes and not self.depth():
                    return True
                time.sleep(mix.LOOK_S)
        return False


def note_effects(database_url: str) -> None:
    """Have the database note each effect from now on."""
    _run(database_url, NOTE_EFFECTS)


def give_phones(database_url: str) -> None:
    """Let each user of the mix have a device, but for those who are new."""
    _run(database_url, GIVE_PHONES, mix.USER_IDS)


def _run(database_url: str, statement: str, *values: Any) -> None:
    with closing(psycopg2.connect(database_url)) as database, database, database.cursor() as cursor:
        cursor.execute(statement, values or None)


def percentile_ms(handled: Sequence[Handled], percent: int) -> float:
    """A percentile of the time that results took, in milliseconds; not a number where there are none."""
    if len(handled) < 2:
        return handled[0].seconds * 1000 if handled else float("nan")
    cuts = statistics.quantiles([one.seconds for one in handled], n=100, method="inclusive")
    return cuts[percent - 1] * 1000


def levels_of(log: str) -> Counter[str]:
    """How many lines of a worker's log there are of each level."""
    return Counter(json.loads(line).get("level", "") for line in log.splitlines() if line.startswith("{"))
