"""What can go wrong. An error's class says what happens next.

A handler raises one of these, or lets a library's exception pass. `classify_error` gives every exception its class:
only this module knows what a psycopg2 or botocore error means.

An error has two texts. Its own text may quote what is wrong; it goes to the dead letter and to the task's attempt,
which hold that data anyway. `log_text` is for logs and error reports, which more people read: of outside data it quotes
only task and user IDs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import botocore.exceptions as aws
import psycopg2
from dramatiq.middleware import Shutdown, TimeLimitExceeded
from psycopg2 import errorcodes
from psycopg2.extensions import Diagnostics

from graphnode.remedies import aws_advice, connection_failure, database_advice

#: The places that PostgreSQL's diagnostics name, in the order of a log line.
PLACES = ("table", "column", "constraint")

#: botocore's errors for a call that has no credentials to sign with.
NO_CREDENTIALS = (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError)

#: SQS's codes for a queue that does not exist, without their namespace.
MISSING_QUEUE = ("NonExistentQueue", "QueueDoesNotExist")

#: HTTP status of a throttled call.
TOO_MANY_REQUESTS = 429


class GraphNodeError(Exception):
    """Something went wrong.

    Parameters:
      message: the full text.
      log: the text without its quotations; needed only if there are any.
    """

    #: Its name in dead letters, metrics and log lines.
    reason: ClassVar[str] = "UNEXPECTED"

    def __init__(self, message: str | None = None, *, log: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])
        self.log_text = " ".join((log or str(self)).split())


class SettingsError(GraphNodeError):
    """The environment does not describe a deployment that this program can start in."""

    reason = "SETTINGS"


class SchemaError(GraphNodeError):
    """The database's schema is not the one this code was written for."""

    reason = "SCHEMA"


class DeclarationError(GraphNodeError):
    """What the code declares of its task types does not fit together."""

    reason = "DECLARATION"


class NothingStored(GraphNodeError):
    """Nothing is stored about this user."""

    reason = "NOTHING_STORED"


class NoSuchLetter(GraphNodeError):
    """No dead letter has this ID."""

    reason = "NO_SUCH_LETTER"


class NoSuchQueue(GraphNodeError):
    """A queue does not exist.

    Parameters:
      queue: its URL or ARN.
    """

    reason = "NO_SUCH_QUEUE"

    def __init__(self, queue: str) -> None:
        super().__init__(f"The queue {queue} does not exist: `graphnode doctor` says how to make it.")


class InvalidLetterFile(GraphNodeError):
    """The file does not hold dead letters."""

    reason = "INVALID_LETTER_FILE"


class NotSent(GraphNodeError):
    """SQS did not accept a message."""

    reason = "NOT_SENT"


class PermanentError(GraphNodeError):
    """It fails the same way each time: the message becomes a dead letter at once."""

    reason = "PERMANENT"


class InvalidEnvelope(PermanentError):
    """The message body is not an envelope of the contract."""

    reason = "INVALID_ENVELOPE"


class UnknownTaskType(PermanentError):
    """No actor handles this task type."""

    reason = "UNKNOWN_TASK_TYPE"


class MisplacedRequest(PermanentError):
    """A request for the AI server is on the result queue."""

    reason = "REQUEST_ON_RESULT_QUEUE"


class InvalidMessage(PermanentError):
    """The message body is not a Dramatiq message for an actor of this queue."""

    reason = "INVALID_MESSAGE"


class InvalidDocument(PermanentError):
    """A document in S3 breaks the contract."""

    reason = "INVALID_DOCUMENT"


class DocumentTooLarge(PermanentError):
    """A document in S3 is over the size limit."""

    reason = "DOCUMENT_TOO_LARGE"


class WrongOwner(PermanentError):
    """The result or request names another user than the task, document or workspace belongs to."""

    reason = "WRONG_OWNER"


class NotRegistered(PermanentError):
    """Nobody has asked for this task, or has made this workspace, and results of others are not taken."""

    reason = "NOT_REGISTERED"


class ForbiddenKey(PermanentError):
    """The result names an invalid key, or a key that its user's results may not name."""

    reason = "FORBIDDEN_KEY"


class RefusedByDatabase(PermanentError):
    """PostgreSQL refuses a value, and will refuse it again."""

    reason = "REFUSED_BY_DATABASE"


class RequestError(GraphNodeError):
    """A request for the AI server was not made."""

    reason = "REQUEST"


class InvalidRequest(RequestError):
    """The request breaks the contract."""

    reason = "INVALID_REQUEST"


class AlreadyRunning(RequestError):
    """A graph generation is running for this user."""

    reason = "ALREADY_RUNNING"


class TaskHasFailed(RequestError):
    """The task has failed already. Another try needs another task."""

    reason = "TASK_HAS_FAILED"


class NotPublished(RequestError):
    """The request could not be put on the request queue."""

    reason = "NOT_PUBLISHED"


class TransientError(GraphNodeError):
    """It may work next time: the message is tried again after a back-off, up to its attempts."""

    reason = "TRANSIENT"
    #: Whether it can be nothing but the message's own. If not, the circuit breaker asks whether it fails for everybody.
    is_own: ClassVar[bool] = False


class ObjectNotFound(TransientError):
    """The object is not in S3 (yet)."""

    reason = "OBJECT_NOT_FOUND"
    is_own = True


class ObjectChanged(TransientError):
    """The object was overwritten while it was read."""

    reason = "OBJECT_CHANGED"
    is_own = True


class DatabaseConflict(TransientError):
    """Another transaction or a stored row is in the way; another try may pass."""

    reason = "DATABASE_CONFLICT"
    is_own = True


class SpoolFull(TransientError):
    """The disk of the spool directory is full."""

    reason = "SPOOL_FULL"


class TimeLimit(TransientError):
    """The actor ran over its time limit."""

    reason = "TIME_LIMIT"


class Unexpected(TransientError):
    """An unexpected error: most likely a fault in this program."""

    reason = "UNEXPECTED"


class ServiceFault(TransientError):
    """A service failed, refused a call, or could not be reached.

    Parameters:
      message, log: as for any error.
      advice: what an operator does about it, as a sentence.
      is_refusal: whether the service works, and refuses what was asked: waiting does not mend that.
    """

    reason = "SERVICE_FAULT"
    #: The service's name for an operator.
    service: ClassVar[str] = "a service"

    def __init__(
        self, message: str | None = None, *, log: str | None = None, advice: str = "", is_refusal: bool = False
    ) -> None:
        super().__init__(message, log=log)
        self.advice = advice
        self.is_refusal = is_refusal


class DatabaseFault(ServiceFault):
    """PostgreSQL cannot be reached, or fails."""

    reason = "DATABASE_FAULT"
    service = "PostgreSQL"


class AwsFault(ServiceFault):
    """AWS cannot be reached, fails, or refuses a call."""

    reason = "AWS_FAULT"
    service = "AWS"


class S3Fault(AwsFault):
    """S3 cannot be reached, fails, or refuses a call.

    Parameters:
      key: the object's key.
    """

    reason = "S3_FAULT"
    service = "S3"

    def __init__(
        self,
        message: str | None = None,
        *,
        log: str | None = None,
        advice: str = "",
        is_refusal: bool = False,
        key: str | None = None,
    ) -> None:
        super().__init__(message, log=log, advice=advice, is_refusal=is_refusal)
        self.key = key


class Postponed(GraphNodeError):
    """The message waits for its turn, without a thread. It has not failed."""

    reason = "POSTPONED"


class NoMemoryYet(Postponed):
    """This process has no memory yet for the message's big documents."""

    reason = "NO_MEMORY_YET"


class UserLocked(Postponed):
    """Another session holds the user's lock."""

    reason = "USER_LOCKED"


class Interrupted(GraphNodeError):
    """The worker is stopping and interrupted the actor: no fault of the message."""

    reason = "INTERRUPTED"


#: SQLSTATE classes that a message's own data cause: a value, a constraint, a conflict with another transaction. Any
#: other error of PostgreSQL may be everybody's. https://www.postgresql.org/docs/current/errcodes-appendix.html
OF_THE_DATA: Mapping[str, type[PermanentError | DatabaseConflict]] = {
    "22": RefusedByDatabase,
    "23": DatabaseConflict,
    "40": DatabaseConflict,
}


def classify_error(error: BaseException) -> GraphNodeError:
    """Give any exception its class: permanent, transient, or a service's fault.

    Our own exceptions stay as they are. Libraries wrap one another (peewee wraps psycopg2), so the first known
    exception in the chain of causes decides.
    """
    cause: BaseException | None = error
    while cause is not None:
        if found := _known(cause):
            if found is not error:
                found.__cause__ = error
            return found
        cause = cause.__cause__ or cause.__context__
    unexpected = Unexpected(f"{type(error).__name__}: {error}", log=type(error).__name__)
    unexpected.__cause__ = error
    return unexpected


def _known(error: BaseException) -> GraphNodeError | None:
    match error:
        case GraphNodeError():
            return error
        case TimeLimitExceeded():
            return TimeLimit()
        case Shutdown():
            return Interrupted()
        case psycopg2.Error():
            return _database_error(error)
        case aws.BotoCoreError() | aws.ClientError():
            return aws_fault(error)
    return None


def _database_error(error: psycopg2.Error) -> GraphNodeError:
    text = one_line(error)
    code = error.pgcode or ""
    if code:
        said = f"PostgreSQL says {_name_of(code)} ({code})"
        log = f"{said}{_place(error.diag)}"
        if own := OF_THE_DATA.get(code[:2]):
            return own(f"{said}: {text}", log=log)
        return DatabaseFault(f"{said}: {text}", log=log, advice=database_advice(code))
    if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        # Without SQLSTATE it is libpq's error: the connection could not be made, or was cut.
        return DatabaseFault(f"PostgreSQL cannot be reached: {connection_failure(text)}", advice=database_advice(""))
    return Unexpected(f"{type(error).__name__}: {text}", log=type(error).__name__)


def _name_of(code: str) -> str:
    try:
        return errorcodes.lookup(code)
    except KeyError:
        # Functions and triggers may raise any code.
        return "an error"


def _place(diagnostics: Diagnostics) -> str:
    """The place in the schema that PostgreSQL names."""
    names = [diagnostics.table_name, diagnostics.column_name, diagnostics.constraint_name]
    return "".join(f", {kind} {name}" for kind, name in zip(PLACES, names, strict=True) if name)


def aws_fault(error: Exception, kind: type[AwsFault] = AwsFault, **known: Any) -> AwsFault:
    """The fault that an error of botocore is.

    Parameters:
      kind: its class.
      known: further parameters of the class.
    """
    if not isinstance(error, aws.ClientError):
        # botocore's texts contain the URL, and with it the object's key.
        name = type(error).__name__
        said = "No AWS credentials" if isinstance(error, NO_CREDENTIALS) else f"{kind.service} cannot be reached"
        return kind(f"{said}: {name}: {one_line(error)}", log=f"{said} ({name})", advice=aws_advice(name), **known)
    code, status, is_refusal = aws_code(error), http_status(error), is_refused(error)
    said = f"{error.operation_name} {'was refused' if is_refusal else 'failed'} ({code}, HTTP {status})"
    # The service's own text may name an object, so it is not for logs.
    return kind(f"{said}: {one_line(error)}", log=said, advice=aws_advice(code), is_refusal=is_refusal, **known)


def aws_code(error: aws.ClientError) -> str:
    """The error code in AWS's answer; empty if it has none."""
    return error.response.get("Error", {}).get("Code", "")


def is_missing_queue(error: Exception) -> bool:
    """Whether SQS says that a queue does not exist."""
    return isinstance(error, aws.ClientError) and aws_code(error).rpartition(".")[2] in MISSING_QUEUE


def http_status(error: aws.ClientError) -> int:
    """The HTTP status of AWS's answer; 0 if it has none."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def is_refused(error: aws.ClientError) -> bool:
    """Whether AWS works and refuses what was asked. A throttled call is not refused: it may pass later."""
    status = http_status(error)
    return 400 <= status < 500 and status != TOO_MANY_REQUESTS and "Throttl" not in aws_code(error)


def log_text(error: BaseException) -> str:
    """The text of any exception for a log line."""
    return classify_error(error).log_text


def one_line(error: BaseException) -> str:
    """The error's text on one line, for dead letters."""
    return re.sub(r"\s+", " ", str(error)).strip()
