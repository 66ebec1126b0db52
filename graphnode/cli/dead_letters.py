"""Dead letters: looking at them, putting them back, keeping them in a file, deleting them."""

from __future__ import annotations

import getpass
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from botocore.exceptions import ClientError

from graphnode.cli.environment import env_file_option, environment_of, open_database
from graphnode.errors import GraphNodeError, SettingsError, one_line, sorted_error
from graphnode.text import printable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

    from graphnode.operations.dead_letters.letters import Facts, Letter
    from graphnode.operations.dead_letters.reading import LetterQueue
    from graphnode.operations.stories.telling import Story

#: The queues that may have dead letters, and the variables that name them.
QUEUES = {
    "results": "SQS_RESULT_QUEUE_URL",
    "notifications": "SQS_NOTIFICATION_QUEUE_URL",
    "requests": "SQS_REQUEST_QUEUE_URL",
}

#: Queues without which there is no deployment, and without whose dead-letter queue a message has nowhere to go.
NEEDED = ("results", "notifications")

#: Seconds until a connection is given up, and until a call that brings nothing is.
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30

#: Seconds between two lines of progress.
PROGRESS_S = 2.0

#: The exit code of what Ctrl-C has ended.
INTERRUPTED = 130

queue_option = click.option(
    "--queue", "names", type=click.Choice(list(QUEUES)), multiple=True, help="Of this queue only; may be repeated."
)


def _duration(_context: click.Context, _option: click.Parameter, value: str | None) -> timedelta | None:
    from graphnode.contract.timeouts import duration

    if value is None:
        return None
    if not re.fullmatch(r"\d{1,6}[smhd]", value):
        raise click.BadParameter(f"{value!r} is no duration: expected such as 90s, 30m, 1h or 7d.")
    return duration(value)


def _rate(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    """Read a number of letters in a second or a minute."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,5})(?:/([sm]))?", value)
    if not found or int(found[1]) == 0:
        raise click.BadParameter(f"{value!r} is no rate: expected such as 50/s or 30/m.")
    return int(found[1]) / (60 if found[2] == "m" else 1)


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that choose letters."""
    options = [
        click.option("--reason", help="Only letters with this reason, such as OBJECT_NOT_FOUND."),
        click.option("--task", "task_id", help="Only those of the task with this ID."),
        click.option("--type", "task_type", help="Only those of this task type, such as ADD_NODE_RESULT."),
        click.option("--older-than", callback=_duration, help="Only those that are so old: 90s, 30m, 1h, 7d."),
        queue_option,
        env_file_option,
    ]
    return reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


class Commands(click.Group):
    """Commands in which AWS may refuse a call: most likely whoever runs them lacks a permission."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command, and tell a refusal in one line."""
        try:
            return super().invoke(context)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
                raise
            raise click.ClickException(
                f"AWS refuses {error.operation_name}: {one_line(error)} "
                "(docs/dead-letters.md lists the permissions that these commands need)"
            ) from None


@click.group(cls=Commands)
def dlq() -> None:
    """Look at dead letters, put them back, keep them in a file, delete them.

    Queues and region are those of the environment; DATABASE_URL and S3_PAYLOAD_BUCKET tell more, if they are set. A
    command that reads a queue hides its letters from others meanwhile, and makes all of them visible again, also after
    Ctrl-C.
    """


@dlq.command("list")
@filter_options
@click.option("--all", "all_letters", is_flag=True, help="Every letter, not the oldest 5 of each group.")
@click.option("--json", "as_json", is_flag=True, help="All of it, as a JSON array of the queues.")
def list_(
    reason: str | None,
    task_id: str | None,
    task_type: str | None,
    older_than: timedelta | None,
    names: tuple[str, ...],
    env_file: Path | None,
    all_letters: bool,
    as_json: bool,
) -> None:
    """List the dead letters by reason, task type and age, and say what to do about each reason."""
    import msgspec

    from graphnode.operations.dead_letters.advice import RUNBOOK
    from graphnode.operations.dead_letters.letters import Wanted, count_by_reason
    from graphnode.operations.dead_letters.reading import list_letters
    from graphnode.operations.dead_letters.terminal import SHOWN, completeness, list_text

    sqs, queues = _open(names, env_file)
    wanted = Wanted(reason, task_id, task_type, older_than)
    with interruptible() as stopping:
        listings = []
        for queue in queues.values():
            told = _Told()
            tell = lambda seen, queue=queue, told=told: told.now_and_then(f"{queue.title}: {seen:,} read")  # noqa: E731
            listings.append(list_letters(sqs, queue, wanted=wanted, stopping=stopping, tell=tell))
            if stopping():
                break
    if as_json:
        found = [
            {
                "queue": one.queue.name,
                "dead_letter_queue": one.queue.url,
                "count": len(one.letters),
                "by_reason": dict(count_by_reason(one.letters)),
                "complete": not (one.missing or one.hidden or stopping()),
                "letters": one.letters,
            }
            for one in listings
        ]
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        texts = [list_text(one, now=datetime.now(UTC), most=None if all_letters else SHOWN) for one in listings]
        click.echo("\n\n".join(texts))
        if any(one.letters for one in listings):
            click.echo(
                "\nLook at one: graphnode dlq show ID\nPut back: graphnode dlq redrive --reason REASON --dry-run"
                f"\nMore: {RUNBOOK}#dead-letters"
            )
    for listing in listings:
        for note in completeness(listing):
            click.echo(note, err=True)
    _end(stopping, "The list is not complete.")


@dlq.command()
@click.argument("identity", metavar="ID")
@queue_option
@click.option("--diagnose", is_flag=True, help="Fetch and decode the documents that a result names.")
@click.option("--json", "as_json", is_flag=True, help="All of it, as a JSON array of the letters.")
@env_file_option
def show(identity: str, names: tuple[str, ...], diagnose: bool, as_json: bool, env_file: Path | None) -> None:
    """Show the letters with the message ID, task ID or notification ID: what they say, and what to do.

    The objects that a letter names are looked for in S3, its task and failed attempts in the database.
    """
    import msgspec

    from graphnode.operations.dead_letters.letters import facts_of, outline_of
    from graphnode.operations.dead_letters.terminal import Shown, show_text, what_to_do

    sqs, queues = _open(names, env_file)
    found = _find(sqs, queues, identity)
    shown = []
    for queue, letter in found:
        facts = facts_of(letter, queue.name)
        stories, note = _stories(facts)
        shown.append(
            Shown(
                facts=facts,
                title=queue.title,
                body=letter.body,
                objects=_objects(outline_of(letter.body, queue.name)),
                stories=stories,
                note=note,
                diagnosis=_diagnosis(letter) if diagnose and queue.name == "results" else None,
            )
        )
    if as_json:
        told = [{**one._asdict(), "what_to_do": what_to_do(one)} for one in shown]
        click.echo(msgspec.json.format(msgspec.json.encode(told), indent=2))
    else:
        click.echo("\n\n".join(show_text(one, now=datetime.now(UTC)) for one in shown))


@dlq.command()
@filter_options
@click.option("--all", "all_letters", is_flag=True, help="All of them, when nothing else says which.")
@click.option("--limit", type=click.IntRange(1), help="So many at most.")
@click.option("--rate", "per_second", callback=_rate, help="So many in a second or a minute at most: 50/s, 30/m.")
@click.option("--dry-run", is_flag=True, help="Count what would be redriven, and leave it.")
@click.option("--native", is_flag=True, help="Have SQS itself move all letters: a message move task.")
def redrive(
    reason: str | None,
    task_id: str | None,
    task_type: str | None,
    older_than: timedelta | None,
    names: tuple[str, ...],
    env_file: Path | None,
    all_letters: bool,
    limit: int | None,
    per_second: float | None,
    dry_run: bool,
    native: bool,
) -> None:
    """Put dead letters back on their queue, where they have all their attempts before them; the others stay.

    Each message is sent first, then its letter is deleted. Ctrl-C ends it between two batches, and the same command
    goes on. The letter of a task that is COMPLETED has no effect.
    """
    from graphnode.operations.dead_letters.letters import Wanted

    wanted = Wanted(reason, task_id, task_type, older_than)
    if any(wanted) == all_letters:
        raise click.UsageError("Say which letters: --reason, --task, --type or --older-than; or else --all.")
    if native and (not all_letters or limit or dry_run):
        raise click.UsageError("SQS itself moves all letters of a queue: --native goes with --all, --queue and --rate.")
    sqs, queues = _open(names, env_file)
    with interruptible() as stopping:
        left = limit
        for queue in queues.values():
            if native:
                _move_natively(sqs, queue, per_second, stopping)
            else:
                matched = _redrive(sqs, queue, wanted, left, per_second, dry_run, stopping)
                left = None if left is None else left - matched
            if stopping() or left == 0:
                break
    _end(stopping, "Stopped. The same command goes on with what is left.")


def _redrive(
    sqs: SQSClient,
    queue: LetterQueue,
    wanted: Any,
    limit: int | None,
    per_second: float | None,
    dry_run: bool,
    stopping: Callable[[], bool],
) -> int:
    """Redrive a queue's letters, and tell of it; how many matched."""
    from graphnode.operations.dead_letters.redrive import Redriven
    from graphnode.operations.dead_letters.redrive import redrive as redrive_letters
    from graphnode.operations.dead_letters.terminal import not_released

    told, done = _Told(), Redriven()
    steps = redrive_letters(sqs, queue, wanted, limit=limit, per_second=per_second, dry_run=dry_run, stopping=stopping)
    with closing(steps):
        for done in steps:
            told.now_and_then(f"{queue.title}: {done.seen:,} read, {done.matching:,} match, {done.moved:,} redriven")
    verb = f"{done.matching:,} would be redriven" if dry_run else f"{done.moved:,} redriven"
    click.echo(f"{queue.title}: {done.seen:,} read, {verb}")
    if done.refused:
        click.echo(f"{queue.title}: SQS did not take {done.refused:,}, they stay: {done.error}", err=True)
    if done.undeleted:
        click.echo(
            f"{queue.title}: {done.undeleted:,} are redriven, and could not be deleted here: a redrive of them "
            "is a repeat, which changes nothing.",
            err=True,
        )
    if done.missing:
        click.echo(f"{queue.title}: SQS says there are about {done.missing:,} more: run it again.", err=True)
    if done.not_released:
        click.echo(not_released(queue.title, done.not_released), err=True)
    return done.matching


def _move_natively(sqs: SQSClient, queue: LetterQueue, per_second: float | None, stopping: Callable[[], bool]) -> None:
    """Have SQS move a queue's letters and follow it; at Ctrl-C it is cancelled."""
    from graphnode.operations.dead_letters import native

    move = native.newest(sqs, queue)
    if move and move.status in native.AT_WORK:
        click.echo(f"{queue.title}: a move task is at work already; this follows it.", err=True)
    else:
        native.start(sqs, queue, per_second=None if per_second is None else max(1, int(per_second)))
    told, cancelled = _Told(), False
    while (move := native.newest(sqs, queue)) and move.status in native.AT_WORK:
        told.now_and_then(f"{queue.title}: {move.status}, {move.moved:,} moved of about {move.of or 0:,}")
        if stopping() and not cancelled and move.handle:
            native.cancel(sqs, move.handle)
            cancelled = True
        time.sleep(0.2)
    if move:
        failure = f": {move.failure}" if move.failure else ""
        click.echo(f"{queue.title}: {move.status}, {move.moved:,} moved{failure}")


@dlq.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@filter_options
@click.option("--delete", is_flag=True, help="Delete each letter from the queue once it is on the disk.")
def export(
    file: Path,
    reason: str | None,
    task_id: str | None,
    task_type: str | None,
    older_than: timedelta | None,
    names: tuple[str, ...],
    env_file: Path | None,
    delete: bool,
) -> None:
    """Write dead letters into FILE, which must be new: JSON Lines, bodies and attributes as they are.

    It holds users' data: nobody else may read it. The letters stay on their queue, unless --delete is given.
    """
    from graphnode.operations.dead_letters.files import Exported
    from graphnode.operations.dead_letters.files import export as export_letters
    from graphnode.operations.dead_letters.letters import Wanted
    from graphnode.operations.dead_letters.terminal import not_released

    sqs, queues = _open(names, env_file)
    try:
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise click.FileError(str(file), error.strerror or "cannot be made") from None
    with os.fdopen(opened, "wb") as target, interruptible() as stopping:
        _sync_directory(file)
        for queue in queues.values():
            told, done = _Told(), Exported()
            steps = export_letters(
                sqs,
                queue,
                Wanted(reason, task_id, task_type, older_than),
                target,
                delete=delete,
                stopping=stopping,
            )
            with closing(steps):
                for done in steps:
                    told.now_and_then(f"{queue.title}: {done.written:,} written")
            click.echo(f"{queue.title}: {done.written:,} written" + f", {done.deleted:,} deleted" * delete)
            if done.missing:
                click.echo(f"{queue.title}: SQS says there are about {done.missing:,} more.", err=True)
            if done.not_released:
                click.echo(not_released(queue.title, done.not_released), err=True)
            if stopping():
                break
    _end(stopping, "Stopped. The file has what was written until then.")


def _sync_directory(file: Path) -> None:
    """Have a new file's name on the disk, too."""
    directory = os.open(file.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@dlq.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--to-source", is_flag=True, help="On the queue they came from, as new messages.")
@click.option("--skip", type=click.IntRange(0), default=0, help="Leave out so many lines, which were put there before.")
@env_file_option
def import_(file: Path, to_source: bool, skip: int, env_file: Path | None) -> None:
    """Put the letters of FILE, as an export wrote it, back on their dead-letter queues."""
    from graphnode.operations.dead_letters.files import put, read

    with file.open("rb") as source:
        # All of it is read once before anything is sent.
        needed = {line.queue for line in read(source)}
        if unknown := sorted(needed - set(QUEUES)):
            raise click.UsageError(f"{file} has letters of an unknown queue: {', '.join(unknown)}.")
        source.seek(0)
        sqs, queues = _open(tuple(sorted(needed)), env_file)
        done, told = 0, _Told()
        with (
            interruptible() as stopping,
            closing(put(sqs, queues, read(source), to_source=to_source, skip=skip)) as steps,
        ):
            for done in steps:
                told.now_and_then(f"{done:,} lines done")
                if stopping():
                    break
    where = "queues they came from" if to_source else "dead-letter queues"
    click.echo(f"{done - skip:,} letters are on the {where}.")
    _end(stopping, f"Stopped. Go on with --skip {done}.")


@dlq.command()
@click.argument("identity", metavar="ID")
@click.option("--because", required=True, help="Why: it is kept in the database, with your name.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@queue_option
@env_file_option
def delete(identity: str, because: str, yes: bool, names: tuple[str, ...], env_file: Path | None) -> None:
    """Delete the letter with the message ID, or that of the task with the ID. It cannot be undone.

    A note stays in the table deleted_letters: which letter, its body's digest, who, when and why. The letter itself
    is kept by `graphnode dlq export`, if you run that before.
    """
    from graphnode.operations.dead_letters.letters import facts_of
    from graphnode.operations.dead_letters.reading import Reading
    from graphnode.storage.deleted_letters import record_deletion
    from graphnode.storage.schema import check_schema

    if not because.strip():
        raise click.UsageError("--because is empty: say why.")
    sqs, queues = _open(names, env_file)
    with open_database(os.environ):
        check_schema()
        found = _find(sqs, queues, identity)
        if len(found) > 1:
            listed = "\n".join(f"  {letter.message_id}" for _, letter in found)
            raise click.UsageError(f"{identity} has {len(found)} letters: delete them by their message ID.\n{listed}")
        ((queue, letter),) = found
        facts = facts_of(letter, queue.name)
        if not yes:
            click.echo(printable(f"{facts.reason}: {facts.error}"), err=True)
            click.confirm(f"Delete the letter {letter.message_id} of {queue.title}?", abort=True, err=True)
        with interruptible() as stopping, Reading(sqs, queue.url) as reading:
            for letters in reading.batches():
                mine = [one for one in letters if one.message_id == letter.message_id]
                if mine:
                    record_deletion(
                        letter.message_id,
                        queue=queue.name,
                        task_id=facts.task_id,
                        task_type=facts.task_type,
                        user_id=facts.user_id,
                        reason=facts.reason,
                        because=because,
                        deleted_by=f"{getpass.getuser()}@{socket.gethostname()}",
                        body=letter.body,
                    )
                    if reading.delete(mine):
                        raise click.ClickException("SQS did not delete the letter: it is still there. Try it again.")
                    click.echo(f"Deleted {letter.message_id}.")
                    return
                if stopping():
                    break
    _end(stopping, "Stopped. Nothing was deleted.")
    raise _not_found(identity)


def _open(names: tuple[str, ...], env_file: Path | None) -> tuple[SQSClient, dict[str, LetterQueue]]:
    """An SQS client and the dead-letter queues that are meant, by name: this process's environment takes the file's.

    Raises SettingsError.
    """
    from graphnode.operations.dead_letters.reading import find_queue

    os.environ.update(environment_of(env_file))
    if not os.environ.get("AWS_REGION"):
        raise SettingsError("AWS_REGION is missing: set it to an AWS region such as eu-central-1.")
    sqs: SQSClient = _client("sqs")
    queues = {}
    for name in names or QUEUES:
        url = os.environ.get(QUEUES[name])
        if not url:
            if name in names or name in NEEDED:
                raise SettingsError(f"{QUEUES[name]} is missing: set it to the queue's URL, or choose with --queue.")
            continue
        queue = find_queue(sqs, name, url)
        if queue:
            queues[name] = queue
            _warn_of_own_limit(queue)
        elif name in names or name in NEEDED:
            raise SettingsError(f"The queue {url} has no dead-letter queue: give it a redrive policy.")
    return sqs, queues


def _warn_of_own_limit(queue: LetterQueue) -> None:
    if queue.own_limit is not None:
        click.echo(
            f"Careful: {queue.title} has a redrive policy of its own. Each look counts as a receive, and after "
            f"{queue.own_limit} of them SQS takes a letter away from it: remove that policy.",
            err=True,
        )


def _client(service: Any) -> Any:
    import boto3.session
    from botocore.config import Config

    own_endpoint = os.environ.get("AWS_ENDPOINT_URL") or None
    return boto3.session.Session().client(
        service,
        region_name=os.environ["AWS_REGION"],
        endpoint_url=own_endpoint,
        config=Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"total_max_attempts": 3, "mode": "standard"},
            # Another S3 than AWS's own has no host name for each bucket.
            s3={"addressing_style": "path"} if own_endpoint else {},
        ),
    )


def _find(sqs: SQSClient, queues: Mapping[str, LetterQueue], identity: str) -> list[tuple[LetterQueue, Letter]]:
    """The letters with this ID. Raises NothingStored if there is none."""
    from graphnode.operations.dead_letters.reading import find_letters

    with interruptible() as stopping:
        found = []
        for queue in queues.values():
            letters = find_letters(sqs, queue, identity, stopping=stopping)
            found += [(queue, letter) for letter in letters]
            if stopping() or any(letter.message_id == identity for letter in letters):
                break
    _end(stopping, "Stopped.")
    if not found:
        raise _not_found(identity)
    return found


def _not_found(identity: str) -> GraphNodeError:
    from graphnode.errors import NoSuchLetter

    return NoSuchLetter(
        f"No dead letter has the message, task or notification ID {identity}. If somebody else reads the queue just "
        "now, it may be hidden for up to 2 minutes."
    )


def _stories(facts: Facts) -> tuple[list[Story], str | None]:
    """What the database knows of a letter's task, or why it was not asked."""
    from graphnode.operations.stories.reading import stories
    from graphnode.storage.database import connection
    from graphnode.storage.notifications import NotificationRecord
    from graphnode.storage.schema import check_schema

    if not os.environ.get("DATABASE_URL"):
        return [], "Its task was not looked up: set DATABASE_URL."
    try:
        with open_database(os.environ):
            check_schema()
            task_id = facts.task_id
            if facts.notification_id:
                with connection():
                    row = NotificationRecord.get_or_none(NotificationRecord.id == facts.notification_id)
                task_id = row.payload.get("taskId") if row else None
            return (stories(task_id) if task_id else []), None
    except Exception as raised:
        error = sorted_error(raised)
        if error.reason == "UNEXPECTED":
            raise
        return [], f"Its task was not looked up: {error}"


def _objects(outline: Any) -> list[Any]:
    from graphnode.operations.dead_letters.diagnosis import look_for

    if not outline.s3_keys:
        return []
    s3: S3Client = _client("s3")
    return look_for(s3, outline, bucket=os.environ.get("S3_PAYLOAD_BUCKET"))


def _diagnosis(letter: Letter) -> Any:
    from msgspec.structs import fields

    from graphnode.operations.dead_letters.diagnosis import diagnose
    from graphnode.settings import Settings

    bucket = os.environ.get("S3_PAYLOAD_BUCKET")
    if not bucket:
        raise SettingsError("S3_PAYLOAD_BUCKET is missing: --diagnose fetches the documents from there.")
    given = os.environ.get("GRAPHNODE_MAX_DOCUMENT_BYTES", "")
    defaults = {field.name: field.default for field in fields(Settings)}
    largest = int(given) if given.isdecimal() else defaults["max_document_bytes"]
    return diagnose(_client("s3"), letter, bucket=bucket, largest_bytes=largest)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Have the first Ctrl-C, or SIGTERM, ask for an end between two batches; a second one ends at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def hear(_number: int, _frame: FrameType | None) -> None:
        asked.set()
        restore()
        click.echo("Stopping, and giving the letters back …", err=True)

    for number in numbers:
        signal.signal(number, hear)
    try:
        yield asked.is_set
    finally:
        restore()


def _end(stopping: Callable[[], bool], text: str) -> None:
    """End with a word if Ctrl-C has asked for the end."""
    if stopping():
        click.echo(text, err=True)
        sys.exit(INTERRUPTED)


class _Told:
    """Progress on standard error, not more often than somebody can read it."""

    def __init__(self) -> None:
        self.at = time.monotonic()

    def now_and_then(self, text: str) -> None:
        """Tell it, if nothing was told for a while."""
        now = time.monotonic()
        if now - self.at >= PROGRESS_S:
            self.at = now
            click.echo(text, err=True)
