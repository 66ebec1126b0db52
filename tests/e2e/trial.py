"""A worker between fault proxies, and what its operator sees of a trouble."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from graphnode.dev import outcomes
from graphnode.dev.child_processes import Worker
from graphnode.dev.local_aws import s3_client, sqs_client
from graphnode.dev.localstack import HOST, LocalStack
from graphnode.dev.outcomes import QueuedLetter
from graphnode.dev.postgres import EmbeddedPostgres, start_postgres
from graphnode.dev.samples import Result
from graphnode.sqs.queues import visible_messages
from tests.aws_proxy import AwsProxy
from tests.conftest import empty_database, migrated_database
from tests.e2e import hurry
from tests.e2e.ai_server import PATIENCE_S, AiServer, found
from tests.e2e.conftest import SETTINGS, as_worker, fresh_environment

#: Seconds that a trouble lasts after it was logged: 250 of the worker's clock.
LASTS_S = 5.0

#: Seconds until a trouble must be noticed. A thread may wait for an answer before, and then the probe.
NOTICE_S = 15.0

#: Seconds from the end of a trouble until everything must be applied.
RECOVERY_S = 30.0

#: The results that are sent before, and again during a trouble, each of a user of its own.
RESULTS = 10

#: The threads of the worker: more than the users whose failures in a row are everybody's.
THREADS = 8

#: Seconds for which a killed worker's messages are hidden.
VISIBILITY_S = 4


class Servers(NamedTuple):
    """What workers need.

    Parameters:
      postgres, database_url: a PostgreSQL that no other test uses, and its database with the newest schema.
      proxy: before LocalStack's SQS and S3.
    """

    localstack: LocalStack
    proxy: AwsProxy
    postgres: EmbeddedPostgres
    database_url: str


class Seen(NamedTuple):
    """What an operator sees of a trouble when it is over.

    Parameters:
      applied: the number of results that took effect.
      logged: how often the log says that an outage began, and that it is over.
      dead_letters: their number by reason.
      charged: the number of attempts that were counted before a dead letter, by reason.
    """

    applied: int
    logged: tuple[int, int]
    dead_letters: Mapping[str, int] = {}
    charged: Mapping[str, int] = {}


class Trial:
    """Sends results to a worker, and sees what becomes of them.

    Parameters:
      servers: what the worker uses.
      ai: the AI server and the operator of its queues.
      worker: it is not busy with anything else.
    """

    def __init__(self, servers: Servers, ai: AiServer, worker: Worker) -> None:
        self.servers = servers
        self.proxy = servers.proxy
        self.ai = ai
        self.results: list[Result] = []
        self._worker = worker
        self._log_begins = len(worker.log.text())

    def send(self, count: int = RESULTS) -> list[Result]:
        """Send results, each of a user of its own."""
        numbers = range(len(self.results), len(self.results) + count)
        sent = [self.ai.send(self.ai.result("summary", user_id=f"user-{number}")) for number in numbers]
        self.results += sent
        return sent

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Have the first results in flight, unstarted, until the end of the block."""
        with ExitStack() as locked:
            for number in range(RESULTS):
                locked.enter_context(self.ai.locked_user(f"user-{number}"))
            self.send()
            self.ai.wait_until_in_flight(RESULTS)
            yield

    def log(self) -> str:
        """The worker's log since the begin of the trial."""
        return self._worker.log.text()[self._log_begins :]

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The lines of the log whose event begins with this text."""
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"].startswith(event)]

    def wait_for_outage(self) -> None:
        """Wait until an outage is logged, if one is."""
        outcomes.wait_for(lambda: self.lines("outage began") or None, timeout_s=NOTICE_S)

    def endure(self, *, letters: int = 1, lasts_s: float = LASTS_S) -> None:
        """Let the trouble last, or end it at so many dead letters."""
        outcomes.wait_for(lambda: self.visible(self.ai.dead_letter_queue) >= letters or None, timeout_s=lasts_s)

    def visible(self, queue_url: str) -> int:
        """The number of visible messages of a queue."""
        return visible_messages(self.ai.sqs, queue_url)

    def wait_for_poll(self) -> None:
        """Wait until the worker begins a poll: the one before, which may have begun under other rules, is over."""
        queue = queue_name(self.ai.result_queue)
        polls = self.proxy.count("sqs:ReceiveMessage", queue)
        look = lambda: self.proxy.count("sqs:ReceiveMessage", queue) > polls or None  # noqa: E731
        found(outcomes.wait_for(look, timeout_s=PATIENCE_S), "a poll")

    def applied(self, results: Sequence[Result]) -> int:
        """How many of these results are applied, as soon as the others are dead letters or the recovery is over."""

        def look() -> int | None:
            dead = {letter.body for letter in self.dead_letters()}.intersection(result.body for result in results)
            applied = self._applied_so_far(results)
            return applied if applied + len(dead) == len(results) else None

        return outcomes.wait_for(look, timeout_s=RECOVERY_S) or self._applied_so_far(results)

    def dead_letters(self) -> list[QueuedLetter]:
        """The dead letters of the result queue."""
        url = self.ai.dead_letter_queue
        return outcomes.dead_letters(self.ai.sqs, url) if self.visible(url) else []

    def seen(self) -> Seen:
        """What is to be seen after the recovery."""
        applied = self.applied(self.results)
        began = len(self.lines("outage began"))
        outcomes.wait_for(lambda: len(self.lines("outage over")) >= began or None, timeout_s=NOTICE_S)
        charged = self.ai.rows("SELECT reason FROM task_attempts WHERE NOT given_up")
        return Seen(
            applied=applied,
            logged=(began, len(self.lines("outage over"))),
            dead_letters=Counter(letter.attributes.get("reason", "SQS's redrive") for letter in self.dead_letters()),
            charged=Counter(reason for (reason,) in charged),
        )

    def clear(self) -> None:
        """End what is left, and leave everything empty."""
        self.proxy.rules = ()
        for url in self.ai.all_queues():
            self.ai.sqs.purge_queue(QueueUrl=url)
        self.ai.wait_until_drained()
        empty_database(self.servers.database_url)

    def _applied_so_far(self, results: Sequence[Result]) -> int:
        query = "SELECT count(*) FROM tasks WHERE status = 'COMPLETED' AND task_id = ANY(%(ids)s)"
        [(count,)] = self.ai.rows(query, ids=[result.task_id for result in results])
        return int(count)


@contextmanager
def running_servers(localstack: LocalStack) -> Iterator[Servers]:
    """The servers, while the block runs."""
    with (
        tempfile.TemporaryDirectory(prefix="graphnode-test-", ignore_cleanup_errors=True) as directory,
        start_postgres(Path(directory) / "data") as postgres,
        migrated_database(postgres.url) as database_url,
        AwsProxy(HOST, localstack.port) as proxy,
    ):
        yield Servers(localstack, proxy, postgres, database_url)


@contextmanager
def running_worker(servers: Servers, **settings: str) -> Iterator[tuple[AiServer, Worker]]:
    """A hurried worker with queues of its own, and its AI server.

    Parameters:
      settings: the worker's, among them where its credentials are.
    """
    direct = fresh_environment(servers.localstack, servers.database_url)
    ai = AiServer(direct, sqs_client(direct), s3_client(direct))
    behind = {
        name: value.replace(servers.localstack.endpoint, servers.proxy.url)
        for name, value in as_worker(direct).items()
        if name not in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    }
    environment = {
        **SETTINGS,
        **behind,
        "GRAPHNODE_LOG_FORMAT": "json",
        "GRAPHNODE_VISIBILITY_TIMEOUT": str(VISIBILITY_S),
        **hurry.SETTINGS,
        **settings,
    }
    with Worker(environment, threads=THREADS, actors="tests.e2e.hurried_actors") as worker:
        worker.wait_until_ready()
        yield ai, worker


def queue_name(url: str) -> str:
    """The name of the queue with this URL."""
    return url.rpartition("/")[2]
