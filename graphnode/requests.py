"""What the API server imports: asks the AI server for work, and registers the task that the worker will end.

A task is registered first, in a transaction of its own, and its request published then: so no result can come before
its task's row. Between the two the process may die. The same call again publishes what was not; where none comes, the
worker's sweep ends the task when its time is over.

Thread-safe. Open it in the process that uses it, after a fork.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import boto3.session
import msgspec
from botocore.config import Config

from graphnode.dead_letters import LARGEST_MESSAGE_BYTES
from graphnode.envelopes import LONGEST_TASK_ID
from graphnode.errors import (
    AlreadyRunning,
    GraphNodeError,
    InvalidRequest,
    NotPublished,
    OutageError,
    one_line,
    sorted_error,
)
from graphnode.request_payloads import (
    AddNodeRequest,
    AnyRequest,
    GraphGenerationRequest,
    GraphSummaryRequest,
    MicroscopeIngestFromNodeRequest,
    MicroscopeIngestRequest,
    MicroscopeRequest,
    checked,
    new_task_id,
)
from graphnode.rules.microscope import parse_task_id
from graphnode.rules.notifications import Event, is_pushed, workspace_payload
from graphnode.settings import RequestSettings, read_request_settings
from graphnode.storage import graphs, microscope, notifications, tasks
from graphnode.storage.database import close_database, open_database, transaction, user_transaction
from graphnode.storage.tasks import FailureReason, Key, RequestState

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

#: The most messages that one SendMessageBatch takes (an SQS quota).
BATCH = 10

#: What the task IDs of a document's two halves end with (the contract).
HALVES = ("block", "nonblock")

#: Seconds, so that a web server's call ends: the tries take less together than a lock is waited for.
CONNECT_TIMEOUT_S = 2
READ_TIMEOUT_S = 5
TRIES = 2


class Request(NamedTuple):
    """Something to ask the AI server for.

    Parameters:
      payload: what is asked for.
      task_id: the task's ID; of a microscope document, the document's. Without one, a new one.
      even_if_running: a graph, or new nodes, also while a graph generation is running for the user.
      in_halves: a microscope document, as two tasks: block and non-block.
      workspace_name: of a microscope workspace that is not known yet.
    """

    payload: AnyRequest
    task_id: str | None = None
    even_if_running: bool = False
    in_halves: bool = False
    workspace_name: str | None = None


class Requested(NamedTuple):
    """What was asked for.

    Parameters:
      id: what `graphnode task` follows: the task's ID; of a microscope document, the document's.
      task_ids: its tasks: two, if it is a document in halves.
      published: whether this call has put anything on the queue; a repeat has not.
    """

    id: str
    task_ids: tuple[str, ...]
    published: bool


class Requests:
    """Asks the AI server for work. Each request is a task; the same task again is published once.

    The storage must be open (`graphnode.storage.database.open_database`), with a connection for each thread that asks.
    Every call raises the errors of `many`.

    Parameters:
      sqs: a client, which threads share.
      queue_url: the request queue.
    """

    def __init__(self, sqs: SQSClient, *, queue_url: str) -> None:
        self._sqs = sqs
        self._queue_url = queue_url

    def graph(
        self, payload: GraphGenerationRequest, *, task_id: str | None = None, even_if_running: bool = False
    ) -> Requested:
        """Ask for a graph. The graph's status is CREATING then. Raises AlreadyRunning while another is made."""
        return self._one(Request(payload, task_id, even_if_running=even_if_running))

    def summary(self, payload: GraphSummaryRequest, *, task_id: str | None = None) -> Requested:
        """Ask for a summary of a graph."""
        return self._one(Request(payload, task_id))

    def add_node(
        self, payload: AddNodeRequest, *, task_id: str | None = None, even_if_running: bool = False
    ) -> Requested:
        """Ask for new nodes. The graph's status is UPDATING then. Raises AlreadyRunning while a graph is made."""
        return self._one(Request(payload, task_id, even_if_running=even_if_running))

    def microscope(
        self,
        payload: MicroscopeIngestRequest,
        *,
        document_id: str | None = None,
        in_halves: bool = False,
        workspace_name: str | None = None,
    ) -> Requested:
        """Ask for a file to be taken apart: as one task, or in halves as two. Its document is PROCESSING then."""
        return self._one(Request(payload, document_id, in_halves=in_halves, workspace_name=workspace_name))

    def microscope_from_node(
        self,
        payload: MicroscopeIngestFromNodeRequest,
        *,
        document_id: str | None = None,
        in_halves: bool = False,
        workspace_name: str | None = None,
    ) -> Requested:
        """Ask for a node of the graph to be taken apart, as `microscope` does for a file."""
        return self._one(Request(payload, document_id, in_halves=in_halves, workspace_name=workspace_name))

    def many(self, requests: Sequence[Request]) -> list[Requested | GraphNodeError]:
        """Ask for many things, ten a call of SQS; what became of each, in their order.

        The errors:
          InvalidRequest: it is not what the contract says. Nothing is registered.
          AlreadyRunning: a graph generation is running for the user. Nothing is registered.
          TaskHasFailed: the task has failed before, and its user knows: ask under a new task ID.
          WrongOwner: the task, document or workspace is someone else's. Nothing is registered.
          NotPublished: SQS did not take it. The task has FAILED and the statuses are what they were; the same call
            may be made again.
          DatabaseOutage, DatabaseConflict and others: the database's. What was registered and not published is PENDING:
            the same call again publishes it, or the worker ends it after GRAPHNODE_TASK_TIMEOUT. One that was published
            and could not be marked so is published twice by the same call; its result has its effect once.
        """
        outcomes: list[Requested | GraphNodeError] = []
        waiting: dict[int, list[_Task]] = {}
        for index, request in enumerate(requests):
            try:
                made = _tasks_of(request)
                _register(request, made)
            except Exception as raised:
                outcomes.append(sorted_error(raised))
                if isinstance(outcomes[-1], OutageError):
                    outcomes += [outcomes[-1]] * (len(requests) - index - 1)
                    break
            else:
                ids = tuple(task.key.task_id for task in made)
                outcomes.append(
                    Requested(parse_task_id(ids[0]).document_id if request.in_halves else ids[0], ids, False)
                )
                waiting[index] = made
        published = self._publish([task for made in waiting.values() for task in made])
        for index, made in waiting.items():
            results = [published[task.key] for task in made]
            errors = [result for result in results if isinstance(result, GraphNodeError)]
            before = outcomes[index]
            if errors:
                outcomes[index] = errors[0]
            elif isinstance(before, Requested):
                outcomes[index] = before._replace(published=any(results))
        return outcomes

    def _one(self, request: Request) -> Requested:
        (outcome,) = self.many([request])
        if isinstance(outcome, GraphNodeError):
            raise outcome
        return outcome

    def _publish(self, made: Sequence[_Task]) -> dict[Key, bool | GraphNodeError]:
        """Publish what nobody has; whether each was published here, or why it could not be."""
        published: dict[Key, bool | GraphNodeError] = {}
        for batch in _batches(made):
            try:
                published |= self._publish_batch(batch)
            except Exception as raised:
                published |= dict.fromkeys((task.key for task in batch), sorted_error(raised))
        return published

    def _publish_batch(self, batch: Sequence[_Task]) -> dict[Key, bool | GraphNodeError]:
        published: dict[Key, bool | GraphNodeError] = {task.key: False for task in batch}
        # Whoever publishes the same task at the same time waits for the lock, and finds it published.
        with transaction():
            states = tasks.lock_requests(published)
            sent = [task for task in batch if states.get(task.key) == RequestState.WAITING]
            refusals = self._send(sent) if sent else {}
            if taken := [task.key for task in sent if task.key not in refusals]:
                tasks.mark_published(taken)
        published |= dict.fromkeys(taken, True)
        for task in batch:
            if states.get(task.key) == RequestState.GIVEN_UP:
                published[task.key] = _not_published(task, "another call has given it up just now")
            elif task.key in refusals and _give_up(task, refusals[task.key]):
                published[task.key] = refusals[task.key]
        return published

    def _send(self, batch: Sequence[_Task]) -> dict[Key, NotPublished]:
        """Put requests on the queue; why SQS did not take those that it did not."""
        entries: list[SendMessageBatchRequestEntryTypeDef] = [
            {"Id": str(index), "MessageBody": task.body} for index, task in enumerate(batch)
        ]
        try:
            answer = self._sqs.send_message_batch(QueueUrl=self._queue_url, Entries=entries)
        except Exception as raised:
            return {task.key: _not_published(task, one_line(sorted_error(raised))) for task in batch}
        failed = {int(entry["Id"]): entry for entry in answer.get("Failed", [])}
        return {
            batch[index].key: _not_published(
                batch[index], f"{entry['Code']}: {entry.get('Message', 'no reason given')}"
            )
            for index, entry in failed.items()
        }


@contextmanager
def open_requests(environment: Mapping[str, str] = os.environ, *, max_connections: int = 10) -> Iterator[Requests]:
    """Requests by the environment: DATABASE_URL, AWS_REGION and SQS_REQUEST_QUEUE_URL; AWS_ENDPOINT_URL if it is set.

    AWS's credentials are found as boto3 finds them. The storage is open for as long as the block runs.

    Parameters:
      max_connections: the threads that ask at the same time, at most.

    Raises SettingsError, which names all that is missing or malformed.
    """
    known = read_request_settings(environment)
    open_database(known.database_url, max_connections=max_connections)
    try:
        yield Requests(sqs_client(known), queue_url=known.sqs_request_queue_url)
    finally:
        close_database()


def sqs_client(known: RequestSettings) -> SQSClient:
    """A client whose calls end soon."""
    return boto3.session.Session().client(
        "sqs",
        region_name=known.aws_region,
        endpoint_url=known.aws_endpoint_url,
        config=Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"total_max_attempts": TRIES, "mode": "standard"},
            max_pool_connections=32,
        ),
    )


class _Task(NamedTuple):
    """One task of a request, and the message that asks for it."""

    key: Key
    payload: AnyRequest
    body: str

    @property
    def user_id(self) -> str:
        return self.payload.user_id


def _tasks_of(request: Request) -> list[_Task]:
    """The tasks that a request makes. Raises InvalidRequest."""
    payload = checked(request.payload)
    task_id = request.task_id or new_task_id(type(payload), user_id=payload.user_id)
    if not request.in_halves:
        return [_task(task_id, payload)]
    if not isinstance(payload, MicroscopeRequest):
        raise InvalidRequest(f"{payload.request_type}: only a microscope document is sent in halves")
    if payload.block_mode is not None or parse_task_id(task_id).half:
        raise InvalidRequest(
            f"{payload.request_type}: in halves, both are made here: block_mode is not given, nor the half in the ID"
        )
    return [
        _task(f"{task_id}_{suffix}", msgspec.structs.replace(payload, block_mode=suffix == HALVES[0]))
        for suffix in HALVES
    ]


def _task(task_id: str, payload: AnyRequest) -> _Task:
    if len(task_id) > LONGEST_TASK_ID or "\0" in task_id:
        raise InvalidRequest(f"The task ID has {len(task_id)} characters: at most {LONGEST_TASK_ID}, and no U+0000")
    if isinstance(payload, MicroscopeRequest) and parse_task_id(task_id).user_id not in (None, payload.user_id):
        raise InvalidRequest(f"The task ID {task_id} names another user than {payload.user_id!r}")
    envelope = {
        "taskType": payload.request_type,
        "taskId": task_id,
        "timestamp": datetime.now(UTC).isoformat(),
        "payload": payload.wire(),
    }
    try:
        body = msgspec.json.encode(envelope)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{payload.request_type}: {error}") from None
    if len(body) > LARGEST_MESSAGE_BYTES:
        raise InvalidRequest(
            f"{payload.request_type} has {len(body)} bytes as a message; SQS takes {LARGEST_MESSAGE_BYTES}: "
            "put what is large into S3"
        )
    return _Task(Key(task_id, payload.task_type), payload, body.decode())


def _register(request: Request, made: Sequence[_Task]) -> None:
    """Write all that a request's tasks change before they are sent, unless it is written."""
    with user_transaction(request.payload.user_id):
        for task in made:
            if tasks.register(*task.key, user_id=task.user_id, s3_keys=task.payload.s3_keys):
                _note_request(task, request)


def _note_request(task: _Task, request: Request) -> None:
    match task.payload:
        case GraphGenerationRequest():
            _refuse_while_running(task, request)
            graphs.request_graph(task.user_id)
        case AddNodeRequest():
            _refuse_while_running(task, request)
            graphs.request_add_node(task.user_id)
        case MicroscopeIngestRequest(group_id=group_id) | MicroscopeIngestFromNodeRequest(group_id=group_id):
            document = parse_task_id(task.key.task_id)
            microscope.register_document(
                document.document_id,
                user_id=task.user_id,
                workspace_id=group_id,
                workspace_name=request.workspace_name,
                half=document.half,
            )


def _refuse_while_running(task: _Task, request: Request) -> None:
    if request.even_if_running:
        return
    if running := tasks.running(task.user_id, GraphGenerationRequest.task_type, but=task.key.task_id):
        raise AlreadyRunning(
            f"A graph generation is running for user {task.user_id!r} ({running}): wait for its end, or ask with "
            "even_if_running"
        )


def _give_up(task: _Task, error: NotPublished) -> bool:
    """End a task that could not be published as one that has FAILED; False if somebody else has published it.

    The user is not told: who asked is.
    """
    with user_transaction(task.user_id):
        if not tasks.give_up(task.key, error=str(error)):
            return False
        match task.payload:
            case GraphGenerationRequest():
                graphs.generation_failed(task.user_id)
            case AddNodeRequest():
                graphs.add_node_failed(task.user_id)
            case MicroscopeIngestRequest() | MicroscopeIngestFromNodeRequest():
                _fail_document(task, str(error))
    return True


def _fail_document(task: _Task, error: str) -> None:
    """End a document; and its workspace, which waits for nothing else, is as complete as it gets."""
    document = parse_task_id(task.key.task_id)
    recorded = microscope.record_result(
        document.document_id,
        user_id=task.user_id,
        workspace_id=None,
        half=document.half,
        status="FAILED",
        error=error,
    )
    workspace_id = recorded.workspace_id
    tally = workspace_id and microscope.finish_workspace_if_last(workspace_id)
    if workspace_id and tally:
        notifications.write(
            user_id=task.user_id,
            type=Event.WORKSPACE_COMPLETED,
            payload={"taskId": task.key.task_id, **workspace_payload(workspace_id, *tally)},
            event=":".join((task.key.task_id, Event.WORKSPACE_COMPLETED, workspace_id, FailureReason.NOT_PUBLISHED)),
            push=is_pushed(Event.WORKSPACE_COMPLETED),
        )


def _not_published(task: _Task, why: str) -> NotPublished:
    return NotPublished(f"{task.payload.request_type} {task.key.task_id} was not put on the request queue: {why}")


def _batches(made: Sequence[_Task]) -> Iterator[list[_Task]]:
    """As many tasks at a time as one SendMessageBatch takes: ten, and 1 MiB together."""
    batch: list[_Task] = []
    size = 0
    for task in made:
        size += len(task.body.encode())
        if batch and (len(batch) == BATCH or size > LARGEST_MESSAGE_BYTES):
            yield batch
            batch, size = [], len(task.body.encode())
        batch.append(task)
    if batch:
        yield batch
