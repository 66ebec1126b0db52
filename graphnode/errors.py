"""What can go wrong with a message, and what happens next: the class says it.

A handler raises one of these, or lets a library's exception pass: `sorted_error` gives every exception its class, in
this one place, so that nobody else has to know what a psycopg2 or botocore error means.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar

import botocore.exceptions as aws
import psycopg2
from dramatiq.middleware import Shutdown, TimeLimitExceeded
from psycopg2 import errorcodes

#: AWS error codes that say who we are is not accepted: nothing about the message can mend it. AccessDenied is not
#: among them: S3 also says it of a missing object to those who may not list the bucket.
CREDENTIAL_CODES = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)

#: SQLSTATE classes and codes of a database that is away, starting, stopping, full or read-only: class 08 (connection),
#: 53 (resources), 57P0x (shutdown, crash, starting up), 25006 (a node that was demoted). https://www.postgresql.org/docs/current/errcodes-appendix.html
DATABASE_AWAY = ("08", "53", "57P", "25006")

#: SQLSTATE classes of what PostgreSQL will refuse at every attempt: 22 (a value), 54 (a limit of its own).
REFUSALS = ("22", "54")


class GraphNodeError(Exception):
    """Something went wrong."""

    #: What a dead letter, a metric or a log line calls it.
    reason: ClassVar[str] = "UNEXPECTED"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class SettingsError(GraphNodeError):
    """The environment does not describe a deployment this program can start in."""

    reason = "SETTINGS"


class SchemaError(GraphNodeError):
    """The database's schema is not the one this code was written for."""

    reason = "SCHEMA"


class NothingStored(GraphNodeError):
    """Nothing is stored of the user who was asked for."""

    reason = "NOTHING_STORED"


class PermanentError(GraphNodeError):
    """It will fail the same way each time: to the dead-letter queue at once."""

    reason = "PERMANENT"


class InvalidEnvelope(PermanentError):
    """The message body is not an envelope of the contract."""

    reason = "INVALID_ENVELOPE"


class UnknownTaskType(PermanentError):
    """No actor handles this task type."""

    reason = "UNKNOWN_TASK_TYPE"


class MisplacedRequest(PermanentError):
    """A request for the AI server lies on the result queue."""

    reason = "REQUEST_ON_RESULT_QUEUE"


class InvalidMessage(PermanentError):
    """The message body is not a Dramatiq message for an actor of this queue."""

    reason = "INVALID_MESSAGE"


class InvalidDocument(PermanentError):
    """A document in S3 is not what the contract says."""

    reason = "INVALID_DOCUMENT"


class DocumentTooLarge(PermanentError):
    """A document in S3 is over the size limit."""

    reason = "DOCUMENT_TOO_LARGE"


class WrongOwner(PermanentError):
    """The result or request names a user whom the task, document or workspace does not belong to."""

    reason = "WRONG_OWNER"


class RefusedByDatabase(PermanentError):
    """PostgreSQL refuses a value, and would refuse it again."""

    reason = "REFUSED_BY_DATABASE"


class RequestError(GraphNodeError):
    """A request for the AI server was not made."""

    reason = "REQUEST"


class InvalidRequest(RequestError):
    """The request is not what the contract says."""

    reason = "INVALID_REQUEST"


class AlreadyRunning(RequestError):
    """A graph generation is running for this user."""

    reason = "ALREADY_RUNNING"


class TaskHasFailed(RequestError):
    """The task has failed already: another try is another task."""

    reason = "TASK_HAS_FAILED"


class NotPublished(RequestError):
    """The request could not be put on the request queue."""

    reason = "NOT_PUBLISHED"


class TransientError(GraphNodeError):
    """It may work the next time: again, after a back-off, up to the attempts a message has."""

    reason = "TRANSIENT"


class ObjectNotFound(TransientError):
    """The object is not in S3 (yet)."""

    reason = "OBJECT_NOT_FOUND"


class ObjectChanged(TransientError):
    """The object was overwritten while it was read: what has been read is of two objects."""

    reason = "OBJECT_CHANGED"


class ServiceBusy(TransientError):
    """A service throttled the call, failed inside, or took too long."""

    reason = "SERVICE_BUSY"


class DatabaseConflict(TransientError):
    """PostgreSQL ended or refused the transaction; another try may pass."""

    reason = "DATABASE_CONFLICT"


class TimeLimit(TransientError):
    """The actor ran over its time limit."""

    reason = "TIME_LIMIT"


class Unexpected(TransientError):
    """An error that nobody foresaw: most likely a fault in this program."""

    reason = "UNEXPECTED"


class Interrupted(TransientError):
    """The worker is stopping and took the message back from its actor: no fault of the message."""

    reason = "INTERRUPTED"


class Postponed(GraphNodeError):
    """There is no room in this process yet for the message's big documents: it waits for its turn.

    Parameters:
      until: says whether its turn has come.
    """

    reason = "POSTPONED"

    def __init__(self, *, until: Callable[[], bool]) -> None:
        super().__init__("no room yet for its big documents")
        self.until = until


class OutageError(GraphNodeError):
    """A service that every message needs is away: stop taking messages until it is back."""

    reason = "OUTAGE"
    #: The service that is away, as an operator knows it.
    service: ClassVar[str] = "a service"


class DatabaseOutage(OutageError):
    """PostgreSQL cannot be reached."""

    reason = "DATABASE_OUTAGE"
    service = "PostgreSQL"


class AwsOutage(OutageError):
    """S3 or SQS cannot be reached, or does not accept our credentials."""

    reason = "AWS_OUTAGE"
    service = "AWS"


def sorted_error(error: BaseException) -> GraphNodeError:
    """Give any exception its class: permanent, transient or outage.

    Our own exceptions come back as they are. Libraries wrap one another (peewee around psycopg2), so the chain of
    causes is searched for the first exception that tells something.
    """
    cause: BaseException | None = error
    while cause is not None:
        if found := _known(cause):
            if found is not error:
                found.__cause__ = error
            return found
        cause = cause.__cause__ or cause.__context__
    unexpected = Unexpected(f"{type(error).__name__}: {error}")
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
        case aws.ClientError():
            return _client_error(error)
        case aws.NoCredentialsError() | aws.PartialCredentialsError() | aws.CredentialRetrievalError():
            return AwsOutage(f"No AWS credentials: {error}")
        case aws.EndpointConnectionError() | aws.ConnectTimeoutError() | aws.ConnectionError():
            return AwsOutage(f"AWS cannot be reached: {error}")
        case aws.HTTPClientError() | aws.BotoCoreError():
            return ServiceBusy(f"{type(error).__name__}: {error}")
    return None


def _database_error(error: psycopg2.Error) -> GraphNodeError:
    text = one_line(error)
    code = error.pgcode or ""
    if code.startswith(REFUSALS):
        return RefusedByDatabase(f"PostgreSQL refuses a value ({errorcodes.lookup(code)}): {text}")
    if code.startswith(DATABASE_AWAY):
        return DatabaseOutage(f"PostgreSQL is away ({errorcodes.lookup(code)}): {text}")
    if code:
        return DatabaseConflict(f"PostgreSQL ended the transaction ({errorcodes.lookup(code)}): {text}")
    if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        # No SQLSTATE: libpq speaks, not the server. The connection could not be made or was cut.
        return DatabaseOutage(f"PostgreSQL cannot be reached: {text}")
    return Unexpected(f"{type(error).__name__}: {text}")


def _client_error(error: aws.ClientError) -> GraphNodeError:
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in CREDENTIAL_CODES:
        return AwsOutage(f"AWS does not accept our credentials ({code}): {one_line(error)}")
    if status >= 500 or status == 429 or "Throttl" in code or code in {"SlowDown", "RequestTimeout"}:
        return ServiceBusy(f"{error.operation_name} failed ({code}, HTTP {status}): {one_line(error)}")
    if code == "NoSuchBucket":
        return AwsOutage(f"The bucket does not exist: {one_line(error)}")
    return Unexpected(f"{error.operation_name} was refused ({code}, HTTP {status}): {one_line(error)}")


def one_line(error: BaseException) -> str:
    """The error's text on one line, as logs and dead letters show it."""
    return re.sub(r"\s+", " ", str(error)).strip()
