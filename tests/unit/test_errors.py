from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import peewee
import psycopg2
import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)
from dramatiq.middleware import Shutdown, TimeLimitExceeded

from graphnode import errors
from graphnode.contract.bodies import to_message
from graphnode.contract.decoding import decode_graph
from graphnode.errors import GraphNodeError, classify_error, log_text


def client_error(code: str, status: int) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "text"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "GetObject",
    )


class ServerSays(psycopg2.OperationalError):
    """An error with this SQLSTATE. psycopg2 sets `pgcode` in C; a subclass can override it."""

    def __init__(self, code: str | None) -> None:
        super().__init__("text\n  of two lines")
        self._code = code

    @property
    def pgcode(self) -> str | None:  # type: ignore[override]
        return self._code


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ServerSays("40P01"), errors.DatabaseConflict),
        (ServerSays("40001"), errors.DatabaseConflict),
        (ServerSays("23505"), errors.DatabaseConflict),
        (ServerSays("22P02"), errors.RefusedByDatabase),
        (ServerSays("55P03"), errors.DatabaseFault),
        (ServerSays("57014"), errors.DatabaseFault),
        (ServerSays("57P01"), errors.DatabaseFault),
        (ServerSays("53100"), errors.DatabaseFault),
        (ServerSays("54000"), errors.DatabaseFault),
        (ServerSays("58030"), errors.DatabaseFault),
        (ServerSays("42501"), errors.DatabaseFault),
        (ServerSays("42P01"), errors.DatabaseFault),
        (ServerSays("ZZ999"), errors.DatabaseFault),
        (ServerSays(None), errors.DatabaseFault),
        (psycopg2.InterfaceError("connection already closed"), errors.DatabaseFault),
        (psycopg2.ProgrammingError("can't adapt type"), errors.Unexpected),
        (client_error("SlowDown", 503), errors.AwsFault),
        (client_error("AccessDenied", 403), errors.AwsFault),
        (client_error("ExpiredToken", 400), errors.AwsFault),
        (EndpointConnectionError(endpoint_url="http://nowhere"), errors.AwsFault),
        (NoCredentialsError(), errors.AwsFault),
        (ReadTimeoutError(endpoint_url="http://slow"), errors.AwsFault),
        (TimeLimitExceeded(), errors.TimeLimit),
        (Shutdown(), errors.Interrupted),
        (KeyError("x"), errors.Unexpected),
    ],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
def test_every_exception_gets_the_class_that_says_what_happens_next(
    error: BaseException, expected: type[errors.GraphNodeError]
) -> None:
    assert type(classify_error(error)) is expected


@pytest.mark.parametrize(
    ("error", "is_refusal"),
    [
        (client_error("AccessDenied", 403), True),
        (client_error("NoSuchBucket", 404), True),
        (client_error("InternalError", 500), False),
        (client_error("TooManyRequests", 429), False),
        (client_error("ThrottlingException", 400), False),
        (NoCredentialsError(), False),
    ],
    ids=str,
)
def test_a_refusal_is_an_answer_that_waiting_does_not_mend(error: Exception, is_refusal: bool) -> None:
    found = classify_error(error)

    assert isinstance(found, errors.AwsFault)
    assert found.is_refusal is is_refusal


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (ServerSays("42501"), "postgres-grants"),
        (ServerSays("53100"), "disk"),
        (ServerSays("53200"), "resource"),
        (ServerSays("ZZ999"), "doctor"),
        (ServerSays(None), "doctor"),
        (client_error("AccessDenied", 403), "s3:GetObject"),
        (client_error("KMS.DisabledException", 400), "kms:Decrypt"),
        (client_error("RequestTimeTooSkewed", 403), "clock"),
        (client_error("ExpiredToken", 400), "credentials"),
        (client_error("PermanentRedirect", 301), "AWS_REGION"),
        (client_error("SlowDown", 503), "doctor"),
        (NoCredentialsError(), "credentials"),
    ],
    ids=str,
)
def test_a_services_fault_says_what_mends_it(error: Exception, advice: str) -> None:
    found = classify_error(error)

    assert isinstance(found, errors.ServiceFault)
    assert advice in found.advice


def test_the_cause_inside_a_wrapping_exception_decides() -> None:
    wrapper = peewee.OperationalError("wrapped")
    wrapper.__cause__ = ServerSays("57P01")

    assert isinstance(classify_error(wrapper), errors.DatabaseFault)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ('could not translate host name "SECRET" to address: Name or service not known', "the host's name is unknown"),
        ('connection to server at "SECRET" (10.0.0.1), port 5432 failed: Connection refused', "connection refused"),
        (
            'connection to server at "h" failed: FATAL:  password authentication failed for user "SECRET"',
            "wrong password",
        ),
        ('connection to server at "h", port 5432 failed: timeout expired', "time-out"),
        ('FATAL:  database "SECRET" does not exist', "the user or the database does not exist"),
        ('invalid port number: "SECRET"', "a parameter of DATABASE_URL is invalid"),
        ("server closed the connection unexpectedly\n\tThis probably means …", "connection closed"),
        ("SECRET", "psql with the same DATABASE_URL says why"),
    ],
)
def test_a_connection_that_fails_is_told_without_libpqs_text_which_may_quote_a_password(said: str, why: str) -> None:
    found = classify_error(psycopg2.OperationalError(said))

    assert str(found) == found.log_text == f"PostgreSQL cannot be reached: {why}"


def test_our_own_exceptions_are_returned_unchanged() -> None:
    error = errors.WrongOwner("task t-1 belongs to u-1")

    assert classify_error(error) is error


def test_an_unexpected_error_keeps_its_cause_for_the_stack() -> None:
    origin = ZeroDivisionError("division by zero")

    found = classify_error(origin)

    assert found.__cause__ is origin
    assert str(found) == "ZeroDivisionError: division by zero"


def test_an_error_without_a_text_takes_its_classs_docstring() -> None:
    assert str(errors.TimeLimit()) == "The actor ran over its time limit."


def test_a_text_of_several_lines_is_shown_on_one() -> None:
    assert "text of two lines" in str(classify_error(ServerSays("40P01")))


def test_reasons_are_unique_codes() -> None:
    def classes(kind: type[errors.GraphNodeError]) -> list[type[errors.GraphNodeError]]:
        return [kind, *(found for sub in kind.__subclasses__() for found in classes(sub))]

    reasons = [kind.reason for kind in classes(errors.GraphNodeError)[1:]]

    assert len(reasons) == len(set(reasons))
    assert all(reason == reason.upper() for reason in reasons)


def raised(call: Callable[[], object]) -> GraphNodeError:
    with pytest.raises(GraphNodeError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("SECRET", "the body is not JSON (JSON is malformed: invalid character (byte 0))"),
        ('["SECRET"]', "the body is not a JSON object"),
        ('{"taskType": "SECRET"}', "no actor handles this taskType"),
        ('{"taskType": ["SECRET"]}', "taskType: expected a text"),
        ('{"taskType": "ADD_NODE_RESULT", "taskId": "t", "payload": "SECRET"}', "payload: expected an object"),
        (
            '{"taskType": "ADD_NODE_RESULT", "taskId": "t", "payload": {"userId": "u", "status": "SECRET"}}',
            "payload.status: Expected COMPLETED or FAILED",
        ),
    ],
)
def test_an_invalid_envelope_is_quoted_to_operators_but_not_in_logs(body: str, said: str) -> None:
    now = datetime.now(UTC)
    error = raised(lambda: to_message(body, message_id="m", sent_at=now, receive_count=1))

    assert log_text(error) == said
    assert "SECRET" in str(error) or body.startswith('{"taskType": ["')


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b'{"nodes": [{"id": "SECRET", "orig_id": "a"}]}', "nodes[0].id: expected int"),
        (b'{"nodes": [SECRET]}', "not JSON: invalid character (byte 11)"),
        (b'{"nodes": [{"id": 0, "orig_id": ["SECRET"]}]}', "nodes[0].orig_id: expected str"),
    ],
)
def test_an_invalid_document_is_quoted_to_operators_but_not_in_logs(document: bytes, said: str) -> None:
    error = raised(lambda: decode_graph(document))

    assert "SECRET" in str(error) or b'["SECRET"]' in document
    assert log_text(error) == said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("SECRET"), "ValueError"),
        (
            EndpointConnectionError(endpoint_url="https://s3/bucket/SECRET"),
            "AWS cannot be reached (EndpointConnectionError)",
        ),
        (NoCredentialsError(), "No AWS credentials (NoCredentialsError)"),
        (
            ClientError(
                {"Error": {"Code": "AccessDenied", "Message": "SECRET"}, "ResponseMetadata": {"HTTPStatusCode": 403}},  # type: ignore[typeddict-item]
                "GetObject",
            ),
            "GetObject was refused (AccessDenied, HTTP 403)",
        ),
    ],
)
def test_the_text_of_a_librarys_error_is_not_in_logs(error: Exception, said: str) -> None:
    assert log_text(error) == said
