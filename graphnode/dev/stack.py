"""The development stack: PostgreSQL with the newest schema, and SQS and S3 with the worker's queues and bucket."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from graphnode.dev.localstack import REGION, LocalStack
from graphnode.dev.postgres import start_postgres
from graphnode.storage.database import close_database, open_database
from graphnode.storage.schema import migrate


class Stack(NamedTuple):
    """A running stack.

    Parameters:
      environment: a deployment's variables (docs/settings.md) and their values.
      localstack: the SQS and S3 server.
    """

    environment: dict[str, str]
    localstack: LocalStack


@contextmanager
def running_stack(
    *,
    database_url: str | None = None,
    postgres_directory: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Stack]:
    """Start both servers at the same time, and stop them at the end of the block.

    Parameters:
      database_url: the user's own PostgreSQL; without it, an embedded one is started.
      postgres_directory: where the embedded one keeps its data; without it, the data is deleted at the end.
      tell: takes a line when a server is ready.

    Raises LocalStackError, PostgresError or SchemaError; what was started is stopped.
    """
    with ExitStack() as running:
        localstack = running.enter_context(LocalStack())
        if not database_url:
            directory = postgres_directory or _temporary_directory(running)
            database_url = running.enter_context(start_postgres(directory, keep=postgres_directory is not None)).url
        tell(f"PostgreSQL is ready at {without_password(database_url)}")
        applied = bring_up_to_date(database_url)
        tell(f"The schema is up to date ({len(applied)} new)" if applied else "The schema is up to date")
        localstack.wait_until_ready()
        tell(f"LocalStack is ready at {localstack.endpoint}")
        yield Stack(environment_of(localstack, database_url=database_url), localstack)


def environment_of(localstack: LocalStack, *, database_url: str, prefix: str = "graphnode") -> dict[str, str]:
    """The environment of a worker on this LocalStack and database.

    Parameters:
      localstack: a server that is ready.
      database_url: a database with the newest schema.
      prefix: the prefix of the names of queues and bucket.
    """
    return {
        "DATABASE_URL": database_url,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": localstack.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "SQS_REQUEST_QUEUE_URL": localstack.queue_url(f"{prefix}-requests"),
        "SQS_RESULT_QUEUE_URL": localstack.queue_url(f"{prefix}-results"),
        "S3_PAYLOAD_BUCKET": f"{prefix}-payloads",
        "FIREBASE_CREDENTIALS_JSON": "",
        "GOOGLE_APPLICATION_CREDENTIALS": "",
    }


def bring_up_to_date(database_url: str) -> list[str]:
    """Migrate a database to the newest schema; the names of the applied migrations. Raises SchemaError."""
    open_database(database_url)
    try:
        return migrate()
    finally:
        close_database()


def without_password(url: str) -> str:
    """A database URL as it may be shown. It is one that the settings accept."""
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*(?=@)|((?<=[?&])(?:ssl)?password=)[^&]*", _masked, url)


def _masked(found: re.Match[str]) -> str:
    return f"{found[1]}:***" if found[2] is None else f"{found[2]}***"


def _temporary_directory(running: ExitStack) -> Path:
    directory = Path(tempfile.mkdtemp(prefix="graphnode-postgres-"))
    running.callback(shutil.rmtree, directory, ignore_errors=True)
    return directory
