"""One worker in one failure scenario, with its own queue."""

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
from typing import TYPE_CHECKING

from benchmarks.servers import send
from graphnode.dev.guard import GuardedProcess
from graphnode.dev.local_aws import sqs_client
from graphnode.dev.localstack import REGION, LocalStack

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

PROJECT = Path(__file__).parents[2]
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": REGION}

#: The messages that a worker handles at the same time.
CONCURRENCY = 4

#: The visibility timeout in seconds.
VISIBILITY_S = 6

#: The attempts of a worker, and the receives before SQS's redrive.
ATTEMPTS = 5

#: Seconds that the benchmark waits for an effect.
PATIENCE_S = 120.0

#: Seconds between two queries while it waits.
LOOK_S = 0.1


@dataclass(frozen=True)
class Work:
    """A message: the arguments of `compared.work.handle`."""

    name: str
    kind: str = "plain"
    seconds: float = 0.0


@dataclass(frozen=True)
class Contender:
    """A worker that is compared.

    Parameters:
      name: in the table.
      command: starts the worker.
      ready: the text in the worker's log when it is ready.
      encode: encodes the body of a message for a queue.
      send: if `encode` is missing, a command that sends the messages in its standard input.
    """

    name: str
    command: Sequence[str]
    ready: str
    encode: Callable[[Work, str], str] | None = None
    send: Sequence[str] = ()


class Service:
    """A service that some messages need: a port that refuses connections until it is opened."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    def open(self) -> None:
        """Accept connections from now on."""
        self._socket.listen(128)
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        while True:
            self._socket.accept()[0].close()


class Trial:
    """A contender's worker and queue in one scenario.

    Parameters:
      contender: whose worker runs.
      scenario: its name, which the names of queues and files begin with.
      localstack: the server of the queues.
      directory: for the log and the record.
      backoff_s: seconds between two attempts.
    """

    def __init__(
        self,
        contender: Contender,
        scenario: str,
        *,
        localstack: LocalStack,
        directory: Path,
        backoff_s: int,
    ) -> None:
        self.contender = contender
        self.service = Service()
        self.sqs: SQSClient = sqs_client({"AWS_ENDPOINT_URL": localstack.endpoint, **CREDENTIALS})
        self.queue = f"{scenario}-{contender.name.partition(' ')[0].lower()}"
        # dramatiq_sqs expects this name of the dead-letter queue. The others need the redrive policy only.
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
            text = json.dumps([asdict(message) for message in messages])
            subprocess.run(self.contender.send, env=self.environment, input=text, text=True, check=True)  # noqa: S603
            return
        send(self.sqs, self.url, [self.contender.encode(message, self.queue) for message in messages])

    @contextmanager
    def worker(self) -> Iterator[GuardedProcess]:
        """The running worker, once it is ready."""
        with GuardedProcess(self.contender.command, log=self.log, env=self.environment) as process:
            self.wait(lambda: self.contender.ready in self.log.read_text(errors="replace"), "start")
            yield process

    def events(self, event: str, name: str = "") -> list[float]:
        """The times of an event in the handlers, of one message or of all."""
        lines = [line.split() for line in self.record.read_text().splitlines()]
        return [float(at) for at, kind, of in lines if kind == event and name in ("", of)]

    def counts(self, url: str = "") -> tuple[int, int]:
        """The numbers of visible messages of a queue, and of hidden or delayed ones."""
        found = self.sqs.get_queue_attributes(QueueUrl=url or self.url, AttributeNames=["All"])["Attributes"]
        hidden = int(found["ApproximateNumberOfMessagesNotVisible"]) + int(found["ApproximateNumberOfMessagesDelayed"])
        return int(found["ApproximateNumberOfMessages"]), hidden

    def dead(self) -> int:
        """The number of dead letters."""
        return sum(self.counts(self.dead_letters))

    def wait(self, condition: Callable[[], object], what: str) -> float:
        """Wait until the condition is true; the seconds it took. Raises TimeoutError with the end of the log."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > PATIENCE_S:
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])
                raise TimeoutError(f"{self.contender.name}, {self.queue}: {what} is still missing\n{tail}")
            time.sleep(LOOK_S)
        return time.monotonic() - began
