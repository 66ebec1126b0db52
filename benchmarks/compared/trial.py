"""One worker that is compared, with a queue of its own, in one trouble."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphnode.dev.aws import sqs_client
from graphnode.dev.guard import GuardedProcess
from graphnode.dev.localstack import REGION, LocalStack

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

PROJECT = Path(__file__).parents[2]
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": REGION}

#: Messages that a worker handles at a time.
CONCURRENCY = 4

#: Seconds that a message is hidden from others while a worker has it.
VISIBILITY_S = 6

#: How often a worker tries a message, and how often SQS lets it be received.
ATTEMPTS = 5

#: Seconds after which the benchmark gives up on what it waits for.
PATIENCE_S = 120.0

#: Seconds between two looks.
LOOK_S = 0.1


@dataclass(frozen=True)
class Work:
    """A message, as `compared.work.handle` takes it."""

    name: str
    kind: str = "plain"
    seconds: float = 0.0


@dataclass(frozen=True)
class Contender:
    """A worker that can be started.

    Parameters:
      name: what it is called in the table.
      command: starts it.
      ready: what its log says when it takes messages.
      encode: the body of a message, for a queue.
      send: where that is the contender's secret, a command that sends the messages on its standard input.
    """

    name: str
    command: Sequence[str]
    ready: str
    encode: Callable[[Work, str], str] | None = None
    send: Sequence[str] = ()


class Service:
    """What some messages need: a port that refuses connections until it is opened."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    def open(self) -> None:
        """Take connections from now on."""
        self._socket.listen(128)
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        while True:
            self._socket.accept()[0].close()


class Trial:
    """A contender's worker and queue in one trouble.

    Parameters:
      contender: whose.
      trouble: what it is about; queues and files are named by it.
      localstack: where the queues are.
      directory: where its log and its record go.
      backoff_s: seconds between two attempts.
    """

    def __init__(
        self,
        contender: Contender,
        trouble: str,
        *,
        localstack: LocalStack,
        directory: Path,
        backoff_s: int,
    ) -> None:
        self.contender = contender
        self.service = Service()
        self.sqs: SQSClient = sqs_client({"AWS_ENDPOINT_URL": localstack.endpoint, **CREDENTIALS})
        self.queue = f"{trouble}-{contender.name.partition(' ')[0].lower()}"
        # dramatiq_sqs gives its dead-letter queue this name; the others find it by the redrive policy.
        self.dead_letters = self.sqs.create_queue(QueueName=f"{self.queue}_dlq")["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=self.dead_letters, AttributeNames=["QueueArn"])
        redrive = {"deadLetterTargetArn": arn["Attributes"]["QueueArn"], "maxReceiveCount": ATTEMPTS}
        self.sqs.create_queue(
            QueueName=self.queue,
            Attributes={"VisibilityTimeout": str(VISIBILITY_S), "RedrivePolicy": json.dumps(redrive)},
        )
        self.url = localstack.queue_url(self.queue)
        self.log = directory / f"{self.queue}.log"
        self.record = directory / f"{self.queue}.record"
        self.record.touch()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "PYTHONPATH": str(PROJECT),
            "PYTHONUNBUFFERED": "1",
            **CREDENTIALS,
            "COMPARE_WORKER": contender.name,
            "COMPARE_ENDPOINT": localstack.endpoint,
            "COMPARE_QUEUE": self.queue,
            "COMPARE_QUEUE_URL": self.url,
            "COMPARE_RECORD": str(self.record),
            "COMPARE_NEEDED_PORT": str(self.service.port),
            "COMPARE_CONCURRENCY": str(CONCURRENCY),
            "COMPARE_VISIBILITY_S": str(VISIBILITY_S),
            "COMPARE_ATTEMPTS": str(ATTEMPTS),
            "COMPARE_BACKOFF_S": str(backoff_s),
        }

    def send(self, *messages: Work) -> None:
        """Put messages on the queue."""
        if self.contender.encode is None:
            told = json.dumps([asdict(message) for message in messages])
            subprocess.run(self.contender.send, env=self.environment, input=told, text=True, check=True)  # noqa: S603
            return
        bodies = [self.contender.encode(message, self.queue) for message in messages]
        for start in range(0, len(bodies), 10):
            some = enumerate(bodies[start : start + 10])
            entries: Any = [{"Id": str(index), "MessageBody": body} for index, body in some]
            self.sqs.send_message_batch(QueueUrl=self.url, Entries=entries)

    @contextmanager
    def worker(self) -> Iterator[GuardedProcess]:
        """Its worker, which takes messages."""
        with GuardedProcess(self.contender.command, log=self.log, env=self.environment) as process:
            self.wait(lambda: self.contender.ready in self.log.read_text(errors="replace"), "start")
            yield process

    def events(self, event: str, name: str = "") -> list[float]:
        """When handlers said this, of one message or of all."""
        lines = [line.split() for line in self.record.read_text().splitlines()]
        return [float(at) for at, said, of in lines if said == event and name in ("", of)]

    def counts(self, url: str = "") -> tuple[int, int]:
        """How many messages of a queue are visible, and how many are hidden or delayed."""
        found = self.sqs.get_queue_attributes(QueueUrl=url or self.url, AttributeNames=["All"])["Attributes"]
        hidden = int(found["ApproximateNumberOfMessagesNotVisible"]) + int(found["ApproximateNumberOfMessagesDelayed"])
        return int(found["ApproximateNumberOfMessages"]), hidden

    def dead(self) -> int:
        """How many dead letters there are."""
        return sum(self.counts(self.dead_letters))

    def wait(self, look: Callable[[], object], what: str, *, patience_s: float = PATIENCE_S) -> float:
        """Wait until there is something to see; the seconds it took. Raises TimeoutError, with the worker's log."""
        began = time.monotonic()
        while not look():
            if time.monotonic() - began > patience_s:
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])
                raise TimeoutError(f"{self.contender.name}, {self.queue}: waited in vain for: {what}\n{tail}")
            time.sleep(LOOK_S)
        return time.monotonic() - began
