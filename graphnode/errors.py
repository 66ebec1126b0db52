"""What can go wrong. An error's class says what happens next.

A handler raises one of these, or lets a library's exception pass. `classify_error` gives every exception its class:
only this module knows what a psycopg2 or botocore error means.

An error has two texts. Its own text may quote what is wrong; it goes to the dead letter and to the task's attempt,
which hold that data anyway. `log_text` is for logs and error reports, which more people read: of outside data it quotes
only task and user IDs.
"""

from __future__ import annotations

import re
from typing import ClassVar

import botocore.exceptions as aws
import psycopg2
from dramatiq.middleware import Shutdown, TimeLimitExceeded
from psycopg2 import errorcodes
from psycopg2.extensions import Diagnostics

#: AWS error codes for refused credentials: no message can mend that. AccessDenied is not one of them: S3 also returns
#: it for a missing object to those who may not list the bucket.
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
#: 53 (resources), 57P0x (shutdown, crash, starting up), 25006 (a demoted node). https://www.postgresql.org/docs/current/errcodes-appendix.html
DATABASE_AWAY = ("08", "53", "57P", "25006")

#: SQLSTATE classes that PostgreSQL returns at every attempt: 22 (a value), 54 (one of its limits).
REFUSALS = ("22", "54")

#: The places that PostgreSQL's diagnostics name, in the order of a log line.
PLACES = ("table", "column", "constraint")


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


class ObjectNotFound(TransientError):
    """The object is not in S3 (yet)."""

    reason = "OBJECT_NOT_FOUND"


class ObjectChanged(TransientError):
    """The object was overwritten while it was read."""

    reason = "OBJECT_CHANGED"


class ServiceBusy(TransientError):
    """A service throttled the call, failed inside, or took too long."""

    reason = "SERVICE_BUSY"


class SpoolFull(TransientError):
    """The disk of the spool directory is full."""

    reason = "SPOOL_FULL"


class DatabaseConflict(TransientError):
    """PostgreSQL ended or refused the transaction; another try may pass."""

    reason = "DATABASE_CONFLICT"


class TimeLimit(TransientError):
    """The actor ran over its time limit."""

    reason = "TIME_LIMIT"


class Unexpected(TransientError):
    """An unexpected error: most likely a fault in this program."""

    reason = "UNEXPECTED"


class Interrupted(TransientError):
    """The worker is stopping and interrupted the actor: no fault of the message."""

    reason = "INTERRUPTED"


class Postponed(GraphNodeError):
    """The message waits for its turn, without a thread. It has not failed."""

    reason = "POSTPONED"


class NoMemoryYet(Postponed):
    """This process has no memory yet for the message's big documents."""

    reason = "NO_MEMORY_YET"


class UserLocked(Postponed):
    """Another session holds the user's lock."""

    reason = "USER_LOCKED"


class OutageError(GraphNodeError):
    """A service that every message needs is away: receive no messages until it is back."""

    reason = "OUTAGE"
    #: The service's name for an operator.
    service: ClassVar[str] = "a service"


class DatabaseOutage(OutageError):
    """PostgreSQL cannot be reached."""

    reason = "DATABASE_OUTAGE"
    service = "PostgreSQL"


class AwsOutage(OutageError):
    """S3 or SQS cannot be reached, or does not accept our credentials."""

    reason = "AWS_OUTAGE"
    service = "AWS"


def classify_error(error: BaseException) -> GraphNodeError:
    """Give any exception its class: permanent, transient or outage.

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
        case aws.ClientError():
            return _client_error(error)
        case aws.NoCredentialsError() | aws.PartialCredentialsError() | aws.CredentialRetrievalError():
            return AwsOutage(f"No AWS credentials: {error}", log=f"No AWS credentials ({type(error).__name__})")
        case aws.EndpointConnectionError() | aws.ConnectTimeoutError() | aws.ConnectionError():
            # Their texts contain the URL, and with it the object's key.
            return AwsOutage(f"AWS cannot be reached: {error}", log=f"AWS cannot be reached ({type(error).__name__})")
        case aws.HTTPClientError() | aws.BotoCoreError():
            return ServiceBusy(f"{type(error).__name__}: {error}", log=type(error).__name__)
    return None


def _database_error(error: psycopg2.Error) -> GraphNodeError:
    text = one_line(error)
    code = error.pgcode or ""
    if code:
        name = errorcodes.lookup(code)
        if code.startswith(REFUSALS):
            found: type[GraphNodeError] = RefusedByDatabase
            said = f"PostgreSQL refuses a value ({name})"
        elif code.startswith(DATABASE_AWAY):
            # The primary message is about the server. What psycopg2 adds may quote a row.
            return DatabaseOutage(
                f"PostgreSQL is away ({name}): {text}",
                log=f"PostgreSQL is away ({name}): {error.diag.message_primary}",
            )
        else:
            found, said = DatabaseConflict, f"PostgreSQL ended the transaction ({name})"
        return found(f"{said}: {text}", log=f"{said}{_place(error.diag)}")
    if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        # Without SQLSTATE it is libpq's error: the connection could not be made, or was cut.
        return DatabaseOutage(f"PostgreSQL cannot be reached: {text}")
    return Unexpected(f"{type(error).__name__}: {text}", log=type(error).__name__)


def _place(diagnostics: Diagnostics) -> str:
    """The place in the schema that PostgreSQL names."""
    names = [diagnostics.table_name, diagnostics.column_name, diagnostics.constraint_name]
    return "".join(f", {kind} {name}" for kind, name in zip(PLACES, names, strict=True) if name)


def _client_error(error: aws.ClientError) -> GraphNodeError:
    # The service's own text may name an object, so it is not for logs.
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in CREDENTIAL_CODES:
        found: type[GraphNodeError] = AwsOutage
        said = f"AWS does not accept our credentials ({code})"
    elif status >= 500 or status == 429 or "Throttl" in code or code in {"SlowDown", "RequestTimeout"}:
        found, said = ServiceBusy, f"{error.operation_name} failed ({code}, HTTP {status})"
    elif code == "NoSuchBucket":
        found, said = AwsOutage, "The bucket does not exist"
    else:
        found, said = Unexpected, f"{error.operation_name} was refused ({code}, HTTP {status})"
    return found(f"{said}: {one_line(error)}", log=said)


def log_text(error: BaseException) -> str:
    """The text of any exception for a log line."""
    return classify_error(error).log_text


def one_line(error: BaseException) -> str:
    """The error's text on one line, for dead letters."""
    return re.sub(r"\s+", " ", str(error)).strip()
