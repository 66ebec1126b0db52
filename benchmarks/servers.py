"""The servers that benchmarks run on, and what each measurement makes in them: queues, a bucket, devices."""

from __future__ import annotations

import runpy
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg2

from graphnode.contract.message_groups import message_group_of
from graphnode.dev.local_aws import s3_client, sqs_client
from graphnode.dev.localstack import HOOK, LocalStack
from graphnode.dev.postgres import EmbeddedPostgres, start_postgres
from graphnode.dev.stack import bring_up_to_date

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

#: The most messages that one call to SQS sends.
BATCH = 10

ADD_DEVICES = "INSERT INTO device_tokens (token, user_id) SELECT 'phone of ' || u, u FROM unnest(%s) AS u"


@contextmanager
def running_postgres() -> Iterator[EmbeddedPostgres]:
    """An embedded PostgreSQL with the newest schema and no rows."""
    with start_postgres(Path(tempfile.mkdtemp(prefix="graphnode-benchmark-"))) as postgres:
        bring_up_to_date(postgres.url)
        yield postgres


@contextmanager
def running_servers() -> Iterator[tuple[LocalStack, EmbeddedPostgres]]:
    """LocalStack, and an embedded PostgreSQL with the newest schema and no rows."""
    with LocalStack() as localstack, running_postgres() as postgres:
        localstack.wait_until_ready()
        yield localstack, postgres


def keep_commit_times(postgres: EmbeddedPostgres) -> None:
    """Restart PostgreSQL so that it keeps the time of each commit, for `pg_xact_commit_timestamp`."""
    execute(postgres.url, "ALTER SYSTEM SET track_commit_timestamp = on")
    postgres.stop()
    postgres.start()


def add_devices(database_url: str, user_ids: Sequence[str]) -> None:
    """Give each user one device."""
    execute(database_url, ADD_DEVICES, user_ids)


def execute(database_url: str, statement: str, *values: Any) -> None:
    """Run one statement, and commit it."""
    with closing(psycopg2.connect(database_url)) as database, database.cursor() as cursor:
        database.autocommit = True
        cursor.execute(statement, values or None)


def make_queues_and_bucket(environment: Mapping[str, str], prefix: str) -> None:
    """Make the queues and the bucket whose names begin with the prefix, as LocalStack's start-up hook does."""
    definition = runpy.run_path(str(HOOK))
    definition["make_queues"](sqs_client(environment), prefix)
    definition["make_bucket"](s3_client(environment), prefix)


def send(sqs: SQSClient, queue_url: str, bodies: Iterable[str]) -> None:
    """Put messages on a queue, ten a call."""
    for batch in batches(bodies):
        sqs.send_message_batch(QueueUrl=queue_url, Entries=entries(batch))


def batches(bodies: Iterable[str]) -> Iterator[list[str]]:
    """The bodies in lists of ten, the last one shorter."""
    iterator = iter(bodies)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def entries(batch: Sequence[str]) -> list[SendMessageBatchRequestEntryTypeDef]:
    """The entries of a SendMessageBatch call, in the message groups of the users whom the bodies name."""
    made: list[SendMessageBatchRequestEntryTypeDef] = []
    for index, body in enumerate(batch):
        made.append({"Id": str(index), "MessageBody": body})
        if group := message_group_of(body):
            made[-1]["MessageGroupId"] = group
    return made


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and all its descendants, including those that have ended."""
    root = psutil.Process(pid)
    seconds = 0.0
    for process in (root, *root.children(recursive=True)):
        try:
            seconds += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue  # its parent's times now include it
    return seconds
