"""Plays the AI server and the operator in the end-to-end tests: sends results, and reads what the worker did."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg2

from graphnode.dev import outcomes, samples
from graphnode.dev.child_processes import Worker
from graphnode.dev.local_aws import dead_letter_url
from graphnode.dev.outcomes import QueuedLetter, TaskRow
from graphnode.dev.samples import Result
from graphnode.sqs.dead_letter import attributes

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

T = TypeVar("T")

#: A row for each transaction that waits for the graphs' table in the test's database.
WAITING = "SELECT 1 FROM pg_locks WHERE relation = 'graphs'::regclass AND NOT granted"

#: The longest wait for a condition, in seconds. It is generous: only a failing test waits so long.
PATIENCE_S = 60.0


class AiServer:
    """Sends results to a test's stack, and reads its database and queues."""

    def __init__(self, environment: Mapping[str, str], sqs: SQSClient, s3: S3Client) -> None:
        self.environment = environment
        self.sqs = sqs
        self.s3 = s3
        self.result_queue = environment["SQS_RESULT_QUEUE_URL"]
        self.bucket = environment["S3_PAYLOAD_BUCKET"]
        self.dead_letter_queue = dead_letter_url(sqs, self.result_queue)

    def all_queues(self) -> list[str]:
        """The URLs of the queues that a worker reads or writes."""
        return [self.result_queue, dead_letter_url(self.sqs, self.result_queue)]

    def result(self, name: str, *, user_id: str = "ada", **options: Any) -> Result:
        """A result with the packaged documents."""
        kind = samples.KINDS[name]
        documents = samples.packaged_documents(kind, user_id=user_id, half=options.get("half"))
        return samples.result_of(kind, user_id=user_id, **{"documents": documents, **options})

    def send(self, result: Result) -> Result:
        """Upload the result's documents, and send its envelope to the result queue."""
        samples.send(result, sqs=self.sqs, s3=self.s3, queue_url=self.result_queue, bucket=self.bucket)
        return result

    def put_documents(self, result: Result) -> None:
        """Upload the documents that a result names."""
        for key, content in result.documents.items():
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=content)

    def put_letter(self, result: Result, *, reason: str, error: str) -> None:
        """Send a result to the dead-letter queue, as a worker does after eight attempts."""
        message_attributes = attributes(
            result.body,
            reason=reason,
            error=error,
            attempt=8,
            task_id=result.task_id,
            task_type=result.task_type,
            failed_at=datetime.now(UTC),
            worker="vm:12",
        )
        self.sqs.send_message(
            QueueUrl=self.dead_letter_queue, MessageBody=result.body, MessageAttributes=message_attributes
        )

    def send_body(self, body: str) -> None:
        """Send any body to the result queue."""
        self.sqs.send_message(QueueUrl=self.result_queue, MessageBody=body)

    def send_envelope(self, task_type: str, task_id: str, payload: Mapping[str, Any], **fields: Any) -> str:
        """Send an envelope to the result queue. Returns its body."""
        body = json.dumps({"taskType": task_type, "taskId": task_id, "payload": payload, **fields})
        self.send_body(body)
        return body

    def send_progress(self, *, tasks: int, users: int = 50) -> None:
        """Send a progress message for each of this many tasks of these users."""
        payload = {"currentStage": "clustering", "progressPercent": 1}
        bodies = [
            json.dumps(
                {
                    "taskType": "GRAPH_GENERATION_PROGRESS",
                    "taskId": f"backlog-{number}",
                    "payload": {"userId": f"user-{number % users}", **payload},
                }
            )
            for number in range(tasks)
        ]
        for start in range(0, tasks, 10):
            entries: list[SendMessageBatchRequestEntryTypeDef] = [
                {"Id": str(index), "MessageBody": body} for index, body in enumerate(bodies[start : start + 10])
            ]
            self.sqs.send_message_batch(QueueUrl=self.result_queue, Entries=entries)

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with outcomes.reading(self.environment["DATABASE_URL"]) as connection:
            return outcomes.rows(connection, query, **values)

    def execute(self, statement: str, *values: Any) -> None:
        """Change the database directly, as the API server may."""
        with psycopg2.connect(self.environment["DATABASE_URL"]) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
        connection.close()

    def ended(self, result: Result) -> TaskRow:
        """The task's row, as soon as the task has ended."""
        with outcomes.reading(self.environment["DATABASE_URL"]) as connection:

            def look() -> TaskRow | None:
                task = outcomes.task(connection, task_id=result.task_id, task_type=result.task_type)
                return task if task and task.status in {"COMPLETED", "FAILED", "SUPERSEDED"} else None

            return found(outcomes.wait_for(look, timeout_s=PATIENCE_S), f"task {result.task_id} to end")

    def dead_letters(self, count: int) -> list[QueuedLetter]:
        """The dead letters of the result queue, as soon as there are this many."""

        def look() -> list[QueuedLetter] | None:
            letters = outcomes.dead_letters(self.sqs, self.dead_letter_queue)
            return letters if len(letters) >= count else None

        return found(outcomes.wait_for(look, timeout_s=PATIENCE_S), f"{count} dead letters")

    def wait_until(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query, as soon as it has any."""
        look = lambda: self.rows(query, **values) or None  # noqa: E731
        return found(outcomes.wait_for(look, timeout_s=PATIENCE_S), query)

    def wait_for_log(self, worker: Worker, text: str) -> None:
        """Wait until a worker has logged a text."""
        found(
            outcomes.wait_for(lambda: text in worker.log.text() or None, timeout_s=PATIENCE_S), f"{text!r} in the log"
        )

    def wait_until_drained(self) -> None:
        """Wait until the result queue is empty."""
        look = lambda: outcomes.is_empty(self.sqs, self.result_queue) or None  # noqa: E731
        found(outcomes.wait_for(look, timeout_s=PATIENCE_S), "the result queue to be empty")

    @contextmanager
    def locked_user(self, user_id: str) -> Iterator[None]:
        """Hold a user's lock during the block: their messages wait in flight, without a thread."""
        with self._locked("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", user_id):
            yield

    @contextmanager
    def locked_graphs(self) -> Iterator[None]:
        """Lock the graphs' table during the block: graph results keep running, for as long as a lock is waited for."""
        with self._locked("LOCK TABLE graphs IN ACCESS EXCLUSIVE MODE"):
            yield

    @contextmanager
    def _locked(self, statement: str, *values: str) -> Iterator[None]:
        with closing(psycopg2.connect(self.environment["DATABASE_URL"])) as connection:
            connection.cursor().execute(statement, values)
            yield

    def terminate(self, worker: Worker) -> None:
        """Send SIGTERM to a worker, as an orchestrator does."""
        os.kill(worker.pid, signal.SIGTERM)

    def wait_until_ended(self, worker: Worker) -> int:
        """The exit code of a worker, as soon as it has ended."""
        return found(outcomes.wait_for(worker.returncode, timeout_s=PATIENCE_S), "the worker to end")

    def wait_until_in_flight(self, count: int) -> None:
        """Wait until this many messages of the result queue are in flight."""

        def look() -> bool | None:
            return self.in_flight() == count or None

        found(outcomes.wait_for(look, timeout_s=PATIENCE_S), f"{count} messages in flight")

    def arn(self, queue_url: str) -> str:
        """A queue's ARN."""
        answer = self.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
        return answer["Attributes"]["QueueArn"]

    def in_flight(self) -> int:
        """How many messages of the result queue are in flight."""
        answer = self.sqs.get_queue_attributes(
            QueueUrl=self.result_queue, AttributeNames=["ApproximateNumberOfMessagesNotVisible"]
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessagesNotVisible"])


def found(value: T | None, what: str) -> T:
    """The value of a wait. Fails if the wait ended without one."""
    assert value is not None, f"waited {PATIENCE_S:.0f} s for {what}"
    return value
