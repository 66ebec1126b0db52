"""Small results of many users, alone and beside the trouble of one: what becomes of their latency."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.servers import entries, make_queues_and_bucket, send
from benchmarks.sqs_stub import StubServer
from benchmarks.traffic import Handled, percentile_ms
from graphnode.dev import samples
from graphnode.dev.local_aws import dead_letter_url, s3_client, sqs_client
from graphnode.dev.localstack import REGION, LocalStack
from graphnode.dev.outcomes import dead_letters, reading, rows
from graphnode.dev.stack import environment_of

#: Small results a second.
RATE = 10

#: Seconds between two queries while a case waits.
LOOK_S = 0.1

ENDED = """
SELECT task_id, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8
FROM tasks WHERE task_id = ANY(%(tasks)s) AND status IN ('COMPLETED', 'FAILED')
"""
FAILED_ATTEMPTS = "SELECT count(*) FROM task_attempts WHERE task_id LIKE %(tasks)s"

#: The payload of a small result without a document.
WITHOUT_DOCUMENT = ("GRAPH_GENERATION_RESULT", {"status": "FAILED", "error": "no sources"})

#: The payload of a small result with a document, and the document's key.
SUMMARY = "summary.json"
WITH_DOCUMENT = ("GRAPH_SUMMARY_RESULT", {"status": "COMPLETED", "summaryS3Key": SUMMARY})

#: A new prefix for the names of queues, users and tasks in each case.
NUMBERS = itertools.count(1)


class Latency(NamedTuple):
    """Milliseconds from the send of results to their commits.

    Parameters:
      missing: results that were not committed; each counts with the time that it had waited by then.
    """

    p50: float
    p95: float
    max: float
    missing: int


class Figure(NamedTuple):
    """A figure of a case, with its target.

    Parameters:
      beside: with the trouble. None: it did not come about while the case waited for it.
      alone: without the trouble.
      at_most, at_least: the target of `beside`.
      times: the target of the ratio.
    """

    name: str
    beside: float | None
    alone: float | None = None
    at_most: float | None = None
    at_least: float | None = None
    times: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times as large it is with the trouble as without."""
        return self.beside / self.alone if self.beside is not None and self.alone else None

    @property
    def target(self) -> str | None:
        """The target in words."""
        limits = {"at most {:g}": self.at_most, "at least {:g}": self.at_least, "at most {:g} x alone": self.times}
        return ", ".join(text.format(limit) for text, limit in limits.items() if limit is not None) or None

    @property
    def holds(self) -> bool | None:
        """Whether the target is met; None without a target."""
        if self.target is None:
            return None
        return (
            self.beside is not None
            and (self.at_most is None or self.beside <= self.at_most)
            and (self.at_least is None or self.beside >= self.at_least)
            and (self.times is None or self.ratio is None or self.ratio <= self.times)
        )

    def as_json(self) -> dict[str, Any]:
        """The figure without what it does not have."""
        fields = {
            "alone": rounded(self.alone),
            "beside": rounded(self.beside),
            "ratio": rounded(self.ratio),
            "target": self.target,
            "holds": self.holds,
        }
        return {name: value for name, value in fields.items() if value is not None or name == "beside"}


class Scene:
    """The queues of one case, and the results that it sends.

    Parameters:
      environment: the worker's.
      prefix: the beginning of the names of users and tasks.
      small: task type and payload of the small results.
      count_dead_letters: the dead letters of the result queue.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        prefix: str,
        small: tuple[str, Mapping[str, Any]],
        count_dead_letters: Callable[[], int],
    ) -> None:
        self.environment = environment
        self.prefix = prefix
        self.dead_letters = count_dead_letters
        self._small = small
        self._sqs = sqs_client(environment)
        self._s3 = s3_client(environment)
        self._queue_url = environment["SQS_RESULT_QUEUE_URL"]
        self._numbers = itertools.count(1)

    @classmethod
    def on_localstack(cls, localstack: LocalStack, database_url: str) -> Scene:
        """A scene with documents on LocalStack. Its small results are summaries."""
        prefix = f"isolation-{next(NUMBERS)}"
        environment = environment_of(localstack, database_url=database_url, prefix=prefix)
        make_queues_and_bucket(environment, prefix)
        sqs = sqs_client(environment)
        letters = dead_letter_url(sqs, environment["SQS_RESULT_QUEUE_URL"])
        scene = cls(environment, prefix, WITH_DOCUMENT, lambda: len(dead_letters(sqs, letters)))
        scene.put({SUMMARY: (samples.DOCUMENTS / "summary.json").read_bytes()})
        return scene

    @classmethod
    def on_stub(cls, stub: StubServer, database_url: str) -> Scene:
        """A scene on the stub of SQS, without documents. Its small results are failed graph generations."""
        prefix = f"isolation-{next(NUMBERS)}"
        environment = {
            "DATABASE_URL": database_url,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": stub.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "SQS_RESULT_QUEUE_URL": stub.queue_url(f"{prefix}-results"),
            "S3_PAYLOAD_BUCKET": f"{prefix}-payloads",
        }
        letters = f"{prefix}-results-dlq"
        return cls(environment, prefix, WITHOUT_DOCUMENT, lambda: stub.order()["undeleted"].get(letters, 0))

    def put(self, documents: Mapping[str, bytes]) -> None:
        """Put documents into the bucket, by key."""
        for key, content in documents.items():
            self._s3.put_object(Bucket=self.environment["S3_PAYLOAD_BUCKET"], Key=key, Body=content)

    def result(self, user_id: str, task_type: str, payload: Mapping[str, Any]) -> tuple[str, str]:
        """A new result of a user: its task ID, and its body."""
        task_id = f"{self.prefix}-task-{next(self._numbers)}"
        return task_id, json.dumps(
            {"taskType": task_type, "taskId": task_id, "payload": {"userId": user_id, **payload}}, ensure_ascii=False
        )

    def small_result(self, user_id: str) -> tuple[str, str]:
        """A new small result of a user."""
        return self.result(user_id, *self._small)

    def send(self, results: Sequence[tuple[str, str]]) -> dict[str, float]:
        """Send results; the time of the send, by task ID."""
        now = time.time()
        send(self._sqs, self._queue_url, (body for _, body in results))
        return {task_id: now for task_id, _ in results}

    def others(self, seconds: float) -> dict[str, float]:
        """Send small results, each of another user, at RATE for this time; the times of the sends, by task ID."""
        sent, began = {}, time.time()
        for number in range(round(seconds * RATE)):
            task_id, body = self.small_result(f"{self.prefix}-other-{next(self._numbers)}")
            time.sleep(max(0.0, began + number / RATE - time.time()))
            sent[task_id] = time.time()
            self._sqs.send_message_batch(QueueUrl=self._queue_url, Entries=entries([body]))
        return sent

    def ended(self, tasks: Iterable[str], *, timeout_s: float) -> dict[str, float]:
        """The times of the commits, by task ID, once all tasks have ended or the time is over."""
        wanted, deadline = list(tasks), time.monotonic() + timeout_s
        with reading(self.environment["DATABASE_URL"]) as database:
            while True:
                found = dict(rows(database, ENDED, tasks=wanted))
                if len(found) == len(wanted) or time.monotonic() > deadline:
                    return found
                time.sleep(LOOK_S)

    def latency(self, sent: Mapping[str, float], *, timeout_s: float) -> Latency:
        """The latency of results, once all are committed or the time is over."""
        return latency_of(sent, self.ended(sent, timeout_s=timeout_s), now=time.time())

    def failed_attempts(self) -> int:
        """The failed attempts at all results of the scene."""
        with reading(self.environment["DATABASE_URL"]) as database:
            return int(rows(database, FAILED_ATTEMPTS, tasks=f"{self.prefix}-%")[0][0])


def latency_of(sent: Mapping[str, float], committed: Mapping[str, float], *, now: float) -> Latency:
    """The latency of results.

    Parameters:
      sent, committed: seconds since the epoch, by task ID.
      now: until when the results that are missing have waited.
    """
    handled = [Handled(at, committed.get(task_id, now)) for task_id, at in sent.items()]
    slowest = max((one.seconds for one in handled), default=float("nan")) * 1000
    return Latency(percentile_ms(handled, 50), percentile_ms(handled, 95), slowest, len(sent.keys() - committed.keys()))


def figures_of(
    name: str,
    alone: Latency,
    beside: Latency,
    *,
    p95_times: float | None = None,
    p95_ms: float | None = None,
    max_ms: float | None = None,
) -> list[Figure]:
    """The figures of a latency alone and beside the trouble.

    Parameters:
      name: whose latency it is.
      p95_times, p95_ms, max_ms: the targets.
    """
    return [
        Figure(f"{name} p50, ms", beside.p50, alone.p50),
        Figure(f"{name} p95, ms", beside.p95, alone.p95, at_most=p95_ms, times=p95_times),
        Figure(f"{name} max, ms", beside.max, alone.max, at_most=max_ms),
        Figure(f"{name} missing", beside.missing, alone.missing, at_most=0),
    ]


def rounded(number: float | None) -> float | None:
    """A number with as many digits as a reader needs."""
    if number is None or isinstance(number, int):
        return number
    return round(number, 2) if abs(number) < 10 else round(number, 1)
