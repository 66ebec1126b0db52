"""The processes of a run: PostgreSQL, LocalStack, the fault proxy, the stub of FCM, and supervised workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2

from benchmarks.fcm_stub import DROPPED, INTERNAL, TAKEN, TAKEN_AND_DROPPED, UNAVAILABLE, UNREGISTERED, FcmServer
from benchmarks.fcm_stub import Answer as FcmAnswer
from benchmarks.fcm_stub import Message as FcmMessage
from graphnode.dev.local_aws import s3_client, sqs_client
from graphnode.dev.localstack import HOST, LocalStack
from graphnode.dev.postgres import EmbeddedPostgres, start_postgres
from graphnode.dev.stack import environment_of
from tests.aws_proxy import AwsProxy
from tests.chaos import journal
from tests.chaos.checker import GONE, Take
from tests.chaos.model.contract import UNDER_WAY
from tests.chaos.traffic import Traffic
from tests.chaos.workers import SupervisedWorker
from tests.conftest import in_role, migrate_as_deployed
from tests.faults.credential_sources import CredentialFile

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from psycopg2.extensions import connection

#: The visibility timeout in seconds: short, so that many expire in a run.
VISIBILITY_S = 6

#: The workers' other settings: stops are quick.
SETTINGS = {
    "GRAPHNODE_VISIBILITY_TIMEOUT": str(VISIBILITY_S),
    "GRAPHNODE_POLL_WAIT": "2",
    "GRAPHNODE_POLL_GRACE": "3",
    "GRAPHNODE_SHUTDOWN_TIMEOUT": "5",
    "GRAPHNODE_SWEEP_INTERVAL": "3",
}

#: FCM's answers in each of its faults.
FCM_FAULTS: dict[str, Sequence[FcmAnswer]] = {
    "FCM unavailable": (UNAVAILABLE, INTERNAL),
    "FCM cuts connections": (DROPPED,),
    "FCM cuts answers": (TAKEN_AND_DROPPED, TAKEN),
}

#: Seconds that a connection to the database may take.
CONNECT_TIMEOUT_S = 5


@dataclass
class Fcm:
    """The behaviour of the stub of FCM, and the pushes that it accepted."""

    fault: str | None = None
    takes: list[Take] = field(default_factory=list)
    calls: int = 0

    def answer(self, message: FcmMessage) -> FcmAnswer:
        """The answer to a push."""
        self.calls += 1
        token = message["token"]
        answers = FCM_FAULTS.get(self.fault or "")
        usual = UNREGISTERED if token.startswith(GONE) else TAKEN
        answer = answers[self.calls % len(answers)] if answers else usual
        if answer.status == TAKEN.status and not token.startswith(GONE):
            self.takes.append(Take(message["data"].get("notificationId", ""), token, datetime.now(UTC)))
        return answer


@dataclass
class Stack:
    """The processes of a run.

    Parameters:
      environment: of the workers, with AWS behind the proxy.
      direct: the same without the proxy, for the sender and the checks.
      credentials: the workers' for AWS.
    """

    environment: dict[str, str]
    direct: dict[str, str]
    postgres: EmbeddedPostgres
    localstack: LocalStack
    proxy: AwsProxy
    credentials: CredentialFile
    fcm: Fcm
    workers: list[SupervisedWorker]
    sqs: SQSClient
    s3: S3Client

    @contextmanager
    def database(self) -> Iterator[connection]:
        """A connection in autocommit mode. Raises psycopg2.OperationalError during an outage."""
        url = self.direct["DATABASE_URL"]
        with closing(psycopg2.connect(url, connect_timeout=CONNECT_TIMEOUT_S, application_name="chaos")) as opened:
            opened.autocommit = True
            yield opened

    def execute(self, statement: str) -> None:
        """Run a statement."""
        with self.database() as database, database.cursor() as cursor:
            cursor.execute(statement)


@contextmanager
def running_stack(
    folder: Path, traffic: Traffic, *, seed: int, workers: int, processes: int, threads: int, **settings: str
) -> Iterator[Stack]:
    """Start everything, and stop it at the end of the block.

    Parameters:
      folder: for the data and the logs.
      workers: the number of `dramatiq` commands.
      processes, threads: of each command.
      settings: in addition to `SETTINGS`.
    """
    with ExitStack() as running:
        localstack = running.enter_context(LocalStack())
        # With keep=True PostgreSQL writes to disk what it commits, so that a kill loses nothing.
        postgres = running.enter_context(start_postgres(folder / "postgres", keep=True))
        migrate_as_deployed(postgres.url)
        localstack.wait_until_ready()
        direct = environment_of(localstack, database_url=postgres.url)
        proxy = running.enter_context(AwsProxy(HOST, localstack.port, seed=seed))
        fcm_server = running.enter_context(FcmServer())
        fcm = Fcm()
        fcm_server.answer = fcm.answer
        credentials = CredentialFile(folder / "credentials")
        environment = {
            **{name: value.replace(localstack.endpoint, proxy.url) for name, value in direct.items()},
            "DATABASE_URL": in_role(postgres.url, "graphnode_worker"),
            **credentials.environment,
            **SETTINGS,
            **settings,
            **fcm_server.environment,
        }
        with closing(psycopg2.connect(postgres.url)) as database, database, database.cursor() as cursor:
            cursor.execute(journal.SCHEMA)
        _insert_rows_of_the_api_server(postgres.url, traffic)
        supervised = [
            running.enter_context(
                SupervisedWorker(environment, log=folder / f"worker-{number}.log", processes=processes, threads=threads)
            )
            for number in range(1, workers + 1)
        ]
        yield Stack(
            environment,
            direct,
            postgres,
            localstack,
            proxy,
            credentials,
            fcm,
            supervised,
            sqs_client(direct),
            s3_client(direct),
        )


def _insert_rows_of_the_api_server(url: str, traffic: Traffic) -> None:
    with closing(psycopg2.connect(url)) as database, database, database.cursor() as cursor:
        for workspace in traffic.workspaces:
            cursor.execute("INSERT INTO microscope_workspaces (id, user_id, name) VALUES (%s, %s, %s)", workspace[:3])
        for document in traffic.documents:
            cursor.execute(
                "INSERT INTO microscope_documents (id, workspace_id, user_id, status) VALUES (%s, %s, %s, %s)",
                document[:4],
            )
        for task in traffic.requests:
            # `clock_timestamp`: each is registered after the one before.
            cursor.execute(
                "INSERT INTO tasks (task_id, task_type, user_id, status, created_at)"
                " VALUES (%s, %s, %s, 'PENDING', clock_timestamp())",
                task[:3],
            )
            cursor.execute(
                "INSERT INTO graphs (user_id, status, status_before) VALUES (%s, %s, 'NOT_CREATED')"
                " ON CONFLICT (user_id) DO UPDATE SET status = EXCLUDED.status",
                (task.user_id, UNDER_WAY[task.task_type]),
            )
        for user_id, tokens in traffic.devices.items():
            for token in tokens:
                cursor.execute(
                    "INSERT INTO device_tokens (token, user_id, last_seen_at) VALUES (%s, %s, now())", (token, user_id)
                )
