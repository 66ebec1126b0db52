"""`graphnode request`: makes requests of the AI server, as the API server does."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphnode.cli.environment import env_file_option, environment_of

if TYPE_CHECKING:
    from graphnode.contract.requests import RequestPayload
    from graphnode.requests import Requested, Requests

INPUT = "A file, a folder (without hidden files), or s3://BUCKET/KEY. Local files are uploaded to S3_PAYLOAD_BUCKET."

user_option = click.option("--user", required=True, help="The user's ID.")
task_id_option = click.option("--task-id", help="The task's ID; default: a new one. A repeated ID is published once.")
running_option = click.option("--even-if-running", is_flag=True, help="Allow it while a graph generation is running.")
language_option = click.option("--language", help="The language that the AI server writes in.")


def document_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every microscope request."""
    options = [
        click.option("--group", "group_id", required=True, help="The workspace's ID."),
        click.option("--name", "workspace_name", help="The name of a new workspace."),
        click.option("--document-id", help="The document's ID; default: a new one. A repeated ID is published once."),
        click.option("--in-halves", is_flag=True, help="Make two tasks, block and non-block."),
        click.option("--schema", "schema_name", help="The name of the schema."),
    ]
    return reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


def _object(_context: click.Context, _option: click.Parameter, value: str | None) -> dict[str, Any] | None:
    """A JSON object."""
    try:
        found = json.loads(value or "null")
    except ValueError:
        found = value
    if not isinstance(found, dict | None):
        raise click.BadParameter(f'{value!r} is no JSON object such as {{"pages": 3}}.')
    return found


@click.group()
def request() -> None:
    """Register a task and publish its request, as the API server does.

    Prints the task's ID; `graphnode task ID` shows its story. Database, queue and bucket come from the environment, or
    from a file that `graphnode dev` wrote.
    """


@request.command()
@user_option
@click.option("--input", "source", required=True, help=INPUT)
@click.option("--extra", multiple=True, help="More input in the same bucket; may be repeated.")
@click.option("--include-summary/--no-summary", default=None, help="With a summary, or without.")
@click.option("--summary-language", help="The language of the summary.")
@language_option
@click.option("--input-type", help="What kind of input it is.")
@click.option("--min-clusters", type=click.IntRange(min=1))
@click.option("--max-clusters", type=click.IntRange(min=1))
@task_id_option
@running_option
@env_file_option
def graph(
    user: str,
    source: str,
    extra: tuple[str, ...],
    task_id: str | None,
    even_if_running: bool,
    env_file: Path | None,
    **options: Any,
) -> None:
    """Request a graph of all of a user's input."""
    from graphnode.contract.requests import GraphGenerationRequest

    with requests_of(env_file) as requests:
        task_id = _id(task_id, GraphGenerationRequest, user)
        bucket, key, *more = _inputs((source, *extra), user=user, task_id=task_id)
        payload = GraphGenerationRequest(user_id=user, s3_key=key, bucket=bucket, extra_s3_keys=more or None, **options)
        _print(requests.graph(payload, task_id=task_id, even_if_running=even_if_running), env_file=env_file)


@request.command()
@user_option
@click.option("--graph", "source", required=True, help=f"The graph's document. {INPUT}")
@click.option("--vector-db", help="The graph's embeddings, in the same bucket.")
@language_option
@task_id_option
@env_file_option
def summary(
    user: str, source: str, vector_db: str | None, language: str | None, task_id: str | None, env_file: Path | None
) -> None:
    """Request a summary of a graph."""
    from graphnode.contract.requests import GraphSummaryRequest

    with requests_of(env_file) as requests:
        task_id = _id(task_id, GraphSummaryRequest, user)
        sources = (source, vector_db) if vector_db else (source,)
        bucket, key, *more = _inputs(sources, user=user, task_id=task_id)
        payload = GraphSummaryRequest(
            user_id=user,
            graph_s3_key=key,
            bucket=bucket,
            vector_db_s3_key=more[0] if more else None,
            language=language,
        )
        _print(requests.summary(payload, task_id=task_id), env_file=env_file)


@request.command()
@user_option
@click.option("--input", "source", required=True, help=INPUT)
@click.option("--input-type", help="What kind of input it is.")
@language_option
@task_id_option
@running_option
@env_file_option
def add_node(
    user: str, source: str, task_id: str | None, even_if_running: bool, env_file: Path | None, **options: Any
) -> None:
    """Request that new input is added to a user's graph."""
    from graphnode.contract.requests import AddNodeRequest

    with requests_of(env_file) as requests:
        task_id = _id(task_id, AddNodeRequest, user)
        bucket, key = _inputs((source,), user=user, task_id=task_id)
        payload = AddNodeRequest(user_id=user, s3_key=key, bucket=bucket, **options)
        _print(requests.add_node(payload, task_id=task_id, even_if_running=even_if_running), env_file=env_file)


@request.command()
@user_option
@click.option("--input", "source", required=True, help=INPUT)
@click.option("--type", help="The file's type.")
@click.option("--metadata", callback=_object, help="A JSON object.")
@document_options
@env_file_option
def microscope(
    user: str,
    source: str,
    workspace_name: str | None,
    document_id: str | None,
    in_halves: bool,
    env_file: Path | None,
    **options: Any,
) -> None:
    """Request the microscope ingest of a file."""
    from graphnode.contract.requests import MicroscopeIngestRequest

    with requests_of(env_file) as requests:
        document_id = _id(document_id, MicroscopeIngestRequest, user)
        bucket, key = _inputs((source,), user=user, task_id=document_id)
        name = key.rstrip("/").rpartition("/")[2]
        payload = MicroscopeIngestRequest(user_id=user, s3_key=key, bucket=bucket, file_name=name, **options)
        made = requests.microscope(payload, document_id=document_id, in_halves=in_halves, workspace_name=workspace_name)
        _print(made, env_file=env_file)


@request.command()
@user_option
@click.option("--node", "node_id", required=True, help="The node's ID.")
@click.option("--node-type", type=click.Choice(["note", "conversation"]), required=True)
@language_option
@document_options
@env_file_option
def microscope_from_node(
    user: str,
    workspace_name: str | None,
    document_id: str | None,
    in_halves: bool,
    env_file: Path | None,
    **options: Any,
) -> None:
    """Request the microscope ingest of a note or a conversation in a user's graph."""
    from graphnode.contract.requests import MicroscopeIngestFromNodeRequest

    payload = MicroscopeIngestFromNodeRequest(user_id=user, **options)
    with requests_of(env_file) as requests:
        made = requests.microscope_from_node(
            payload, document_id=document_id, in_halves=in_halves, workspace_name=workspace_name
        )
        _print(made, env_file=env_file)


@contextmanager
def requests_of(env_file: Path | None) -> Iterator[Requests]:
    """Requests for this process's environment. Adds the file's values to it, because boto3 finds credentials there.

    Raises SettingsError and SchemaError.
    """
    from graphnode.requests import open_requests
    from graphnode.storage.schema import check_schema

    os.environ.update(environment_of(env_file))
    with open_requests(os.environ) as requests:
        check_schema()
        yield requests


def _id(given: str | None, kind: type[RequestPayload], user: str) -> str:
    from graphnode.contract.requests import new_task_id

    return given or new_task_id(kind, user_id=user)


def _inputs(sources: tuple[str, ...], *, user: str, task_id: str) -> tuple[str, ...]:
    """The bucket of a request's inputs, then the key or prefix of each. Uploads local files."""
    from graphnode.requests.uploads import Location, upload

    # IDs may contain `/`. Without it no prefix is below another task's.
    prefix = "/".join(part.replace("/", "_") for part in ("requests", user, task_id))
    places = [
        Location.of(source) or upload(Path(source), prefix=prefix, tell=lambda line: click.echo(line, err=True))
        for source in sources
    ]
    buckets = {place.bucket for place in places}
    if len(buckets) > 1:
        raise click.UsageError(f"All inputs must be in one bucket, these are in {', '.join(sorted(buckets))}.")
    return (buckets.pop(), *(place.key for place in places))


def _print(requested: Requested, *, env_file: Path | None) -> None:
    click.echo(requested.id)
    if not requested.published:
        click.echo("It was published before: nothing was sent.", err=True)
    options = ["--env-file", str(env_file)] if env_file else []
    click.echo(f"Follow it: {shlex.join(['graphnode', 'task', requested.id, *options])}", err=True)
