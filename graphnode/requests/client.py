"""Makes requests of the AI server: registers a task, then publishes its request.

The task's row is committed before its request is published, so no result comes before its row. If the process dies in
between, the same call publishes the request; without another call, the worker's sweep ends the task after its timeout.

Thread-safe. Open it in the process that uses it, after a fork.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple

from graphnode.clients.aws import Aws, CallLimits
from graphnode.contract.message_groups import message_group
from graphnode.contract.notifications import Notice, workspace_completed
from graphnode.contract.requests import (
    AddNodeRequest,
    AnyRequest,
    GraphGenerationRequest,
    GraphSummaryRequest,
    MicroscopeIngestFromNodeRequest,
    MicroscopeIngestRequest,
    MicroscopeRequest,
    RequestMessage,
    check_name,
    halves_of,
    message_of,
    new_task_id,
    validated,
)
from graphnode.contract.task_ids import parse_task_id
from graphnode.errors import (
    AlreadyRunning,
    DatabaseConflict,
    GraphNodeError,
    NotPublished,
    ServiceFault,
    UserLocked,
    classify_error,
    one_line,
)
from graphnode.settings import RequestSettings, read_settings
from graphnode.sqs.queues import batches_of
from graphnode.storage import graph_status, microscope, notifications, tasks
from graphnode.storage.database import LOCK_TIMEOUT_MS, close_database, open_database, transaction, user_transaction
from graphnode.storage.microscope import DocumentSource
from graphnode.storage.tasks import FailureReason, RequestState, TaskKey

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

#: All attempts together take less than the wait for a lock, so that a web server's call ends.
LIMITS = CallLimits(connect_timeout_s=2, read_timeout_s=5, attempts=2)

#: What the user reads of a request that was not published. The caller gets the reason.
NOT_SENT = "The request could not be sent. Please try again."


class Request(NamedTuple):
    """A request of the AI server.

    Parameters:
      task_id: the task's ID; for microscope the document's ID. None: a new one.
      even_if_running: for a graph or new nodes: allow it while a graph generation is running for the user.
      in_halves: for microscope: two tasks, block and non-block.
      workspace_name: for microscope: the name of a new workspace.
    """

    payload: AnyRequest
    task_id: str | None = None
    even_if_running: bool = False
    in_halves: bool = False
    workspace_name: str | None = None


class Requested(NamedTuple):
    """The outcome of a request.

    Parameters:
      id: what `graphnode task` takes: the task's ID; for microscope the document's ID.
      task_ids: the tasks: two for a document in halves.
      published: whether this call sent a message; a repeat does not.
    """

    id: str
    task_ids: tuple[str, ...]
    published: bool


class Requests:
    """Makes requests. Each request is a task; a repeated task is published once.

    The storage must be open (`graphnode.storage.database.open_database`).
    Every method raises the errors of `many`.

    Parameters:
      sqs: a client, shared by threads.
      queue_url: the request queue.
    """

    def __init__(self, sqs: SQSClient, *, queue_url: str) -> None:
        self._sqs = sqs
        self._queue_url = queue_url

    def graph(
        self, payload: GraphGenerationRequest, *, task_id: str | None = None, even_if_running: bool = False
    ) -> Requested:
        """Request a graph and set its status to CREATING. Raises AlreadyRunning during a graph generation."""
        return self._one(Request(payload, task_id, even_if_running=even_if_running))

    def summary(self, payload: GraphSummaryRequest, *, task_id: str | None = None) -> Requested:
        """Request a summary of a graph."""
        return self._one(Request(payload, task_id))

    def add_node(
        self, payload: AddNodeRequest, *, task_id: str | None = None, even_if_running: bool = False
    ) -> Requested:
        """Request new nodes and set the graph's status to UPDATING. Raises AlreadyRunning as `graph` does."""
        return self._one(Request(payload, task_id, even_if_running=even_if_running))

    def microscope(
        self,
        payload: MicroscopeIngestRequest | MicroscopeIngestFromNodeRequest,
        *,
        document_id: str | None = None,
        in_halves: bool = False,
        workspace_name: str | None = None,
    ) -> Requested:
        """Request the microscope ingest of a file or node, and set its document's status to PROCESSING."""
        return self._one(Request(payload, document_id, in_halves=in_halves, workspace_name=workspace_name))

    microscope_from_node = microscope

    def many(self, requests: Sequence[Request]) -> list[Requested | GraphNodeError]:
        """Make many requests, ten in each SQS call; returns each one's outcome or error, in order.

        The errors:
          InvalidRequest: it breaks the contract. Nothing is registered.
          AlreadyRunning: a graph generation is running for the user. Nothing is registered.
          TaskHasFailed: the task failed before, and its user was told: use a new task ID.
          WrongOwner: the task, document or workspace belongs to another user. Nothing is registered.
          NotPublished: SQS did not accept it. The task has FAILED, other statuses are as before; the same call may be
            repeated.
          DatabaseFault, DatabaseConflict and others of the database: a task that was registered and not published is
            PENDING. The same call publishes it, or the worker ends it after GRAPHNODE_TASK_TIMEOUT. If it was published
            and could not be marked so, the same call publishes it twice; its result has its effect once.
        """
        made: list[list[RequestMessage] | GraphNodeError] = []
        for request in requests:
            made.append(_registered(request))
            if isinstance(made[-1], ServiceFault):
                made += [made[-1]] * (len(requests) - len(made))
                break
        tasks_made = [task for one in made if isinstance(one, list) for task in one]
        published = self._publish(list({_key(task): task for task in tasks_made}.values()))
        return [one if isinstance(one, GraphNodeError) else _outcome(one, published) for one in made]

    def _one(self, request: Request) -> Requested:
        (outcome,) = self.many([request])
        if isinstance(outcome, GraphNodeError):
            raise outcome
        return outcome

    def _publish(self, made: Sequence[RequestMessage]) -> dict[TaskKey, bool | GraphNodeError]:
        """Publish what is not published yet; returns for each task whether it was published here, or its error."""
        published: dict[TaskKey, bool | GraphNodeError] = {}
        for batch in batches_of(made, size=lambda task: len(task.body.encode())):
            try:
                published |= self._publish_batch(batch)
            except Exception as raised:
                error = classify_error(raised)
                published |= dict.fromkeys(map(_key, batch), error)
                if isinstance(error, ServiceFault):
                    return dict.fromkeys(map(_key, made), error) | published
        return published

    def _publish_batch(self, batch: Sequence[RequestMessage]) -> dict[TaskKey, bool | GraphNodeError]:
        published: dict[TaskKey, bool | GraphNodeError] = {_key(task): False for task in batch}
        # Another caller with the same task waits for the lock, and then finds it published.
        with transaction():
            states = tasks.lock_requests(published)
            sent = [task for task in batch if states.get(_key(task)) == RequestState.WAITING]
            refusals = self._send(sent) if sent else {}
            if taken := [_key(task) for task in sent if _key(task) not in refusals]:
                tasks.mark_published(taken)
        published |= dict.fromkeys(taken, True)
        for task in batch:
            if states.get(_key(task)) == RequestState.GIVEN_UP:
                published[_key(task)] = _not_published(task, "another call has given it up just now")
            elif refusal := refusals.get(_key(task)):
                published[_key(task)] = _given_up(task, refusal)
        return published

    def _send(self, batch: Sequence[RequestMessage]) -> dict[TaskKey, NotPublished]:
        """Send requests to the queue; returns an error for each that SQS did not accept."""
        entries: list[SendMessageBatchRequestEntryTypeDef] = [
            {"Id": str(index), "MessageBody": task.body, "MessageGroupId": message_group(task.user_id)}
            for index, task in enumerate(batch)
        ]
        try:
            answer = self._sqs.send_message_batch(QueueUrl=self._queue_url, Entries=entries)
        except Exception as raised:
            return {_key(task): _not_published(task, one_line(classify_error(raised))) for task in batch}
        refusals = [(batch[int(entry["Id"])], entry) for entry in answer.get("Failed", [])]
        return {
            _key(task): _not_published(task, f"{entry['Code']}: {entry.get('Message', 'no reason given')}")
            for task, entry in refusals
        }


@contextmanager
def open_requests(environment: Mapping[str, str] = os.environ) -> Iterator[Requests]:
    """Requests for the environment's DATABASE_URL, AWS_REGION, SQS_REQUEST_QUEUE_URL and optional AWS_ENDPOINT_URL.

    boto3 finds AWS's credentials. The storage is open within the block: each thread that makes requests connects.

    Raises SettingsError, which names every missing or malformed setting.
    """
    known = read_settings(environment, RequestSettings)
    open_database(known.database_url)
    try:
        yield Requests(sqs_client(known), queue_url=known.sqs_request_queue_url)
    finally:
        close_database()


def sqs_client(known: RequestSettings) -> SQSClient:
    """An SQS client with short time-outs."""
    return Aws(region=known.aws_region, endpoint_url=known.aws_endpoint_url, limits=LIMITS).sqs()


@contextmanager
def _user_transaction(user_id: str) -> Iterator[None]:
    """A transaction under the user's lock, for which it waits. Raises DatabaseConflict if it waits in vain."""
    try:
        with user_transaction(user_id, wait_ms=LOCK_TIMEOUT_MS):
            yield
    except UserLocked as error:
        raise DatabaseConflict(str(error)) from error


def _registered(request: Request) -> list[RequestMessage] | GraphNodeError:
    """Write the rows of a request's tasks; returns their messages, or the error."""
    try:
        payload = validated(request.payload)
        check_name(request.workspace_name or "")
        task_id = request.task_id or new_task_id(type(payload), user_id=payload.user_id)
        made = halves_of(task_id, payload) if request.in_halves else [message_of(task_id, payload)]
        with _user_transaction(payload.user_id):
            for task in made:
                if tasks.register(*_key(task), user_id=task.user_id, s3_keys=payload.s3_keys):
                    _note_request(task, request)
                    _notify(task, payload.requested())
    except Exception as raised:
        return classify_error(raised)
    return made


def _outcome(
    made: Sequence[RequestMessage], published: Mapping[TaskKey, bool | GraphNodeError]
) -> Requested | GraphNodeError:
    """The outcome of a request whose tasks are registered, or the first error."""
    results = [published[_key(task)] for task in made]
    for result in results:
        if isinstance(result, GraphNodeError):
            return result
    ids = tuple(task.task_id for task in made)
    return Requested(ids[0] if len(ids) == 1 else parse_task_id(ids[0]).document_id, ids, published=any(results))


def _note_request(task: RequestMessage, request: Request) -> None:
    match task.payload:
        case GraphGenerationRequest() | AddNodeRequest():
            _refuse_while_running(task, request)
            graph_status.derive_status(task.user_id)
        case MicroscopeIngestRequest(group_id=group_id) | MicroscopeIngestFromNodeRequest(group_id=group_id) as payload:
            document = parse_task_id(task.task_id)
            microscope.register_document(
                document.document_id,
                user_id=task.user_id,
                workspace_id=group_id,
                workspace_name=request.workspace_name,
                half=document.half,
                source=_source_of(payload),
            )


def _source_of(payload: MicroscopeRequest) -> DocumentSource:
    if isinstance(payload, MicroscopeIngestRequest):
        return DocumentSource(file_name=payload.file_name, input_s3_key=payload.s3_key)
    return DocumentSource(node_id=payload.node_id, node_type=payload.node_type)


def _refuse_while_running(task: RequestMessage, request: Request) -> None:
    if request.even_if_running:
        return
    if running := tasks.open_task_id(task.user_id, GraphGenerationRequest.task_type, other_than=task.task_id):
        raise AlreadyRunning(
            f"A graph generation is running for user {task.user_id!r} ({running}): wait for its end, or ask with "
            "even_if_running"
        )


def _given_up(task: RequestMessage, refusal: NotPublished) -> GraphNodeError | Literal[False]:
    """End an unpublished task as FAILED; returns its error, or False if another caller has published it."""
    try:
        with _user_transaction(task.user_id):
            if not tasks.mark_not_published(_key(task), error=str(refusal)):
                return False
            match task.payload:
                case GraphGenerationRequest() | AddNodeRequest():
                    graph_status.derive_status(task.user_id)
                case MicroscopeIngestRequest() | MicroscopeIngestFromNodeRequest():
                    _fail_document(task, str(refusal))
            _notify(task, task.payload.not_published(error=NOT_SENT))
    except Exception as raised:
        # The task stays PENDING until its timeout: that matters more than the refusal by SQS.
        return classify_error(raised)
    return refusal


def _fail_document(task: RequestMessage, error: str) -> None:
    """End a document as FAILED, and its workspace if this was its last open document."""
    document = parse_task_id(task.task_id)
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
        notice = workspace_completed(workspace_id, *tally)
        _notify(task, notice, key=f"{workspace_id}:{FailureReason.NOT_PUBLISHED}")


def _notify(task: RequestMessage, notice: Notice, *, key: str = "") -> None:
    """Write a notification, unless the request has it already: both halves of a document have the same ones.

    Parameters:
      key: distinguishes events of one type.
    """
    notifications.write(
        user_id=task.user_id,
        type=notice.event,
        payload=notice.payload(task.shown_id),
        event=":".join(filter(None, (task.shown_id, notice.event, key))),
        push=notice.is_pushed,
    )


def _not_published(task: RequestMessage, why: str) -> NotPublished:
    return NotPublished(f"{task.payload.request_type} {task.task_id} was not put on the request queue: {why}")


def _key(message: RequestMessage) -> TaskKey:
    return TaskKey(message.task_id, message.payload.task_type)
