from __future__ import annotations

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
from graphnode.errors import classify_error


def client_error(code: str, status: int) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "text"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "GetObject",
    )


class ServerSays(psycopg2.OperationalError):
    """psycopg2 sets `pgcode` in C; a subclass can say it too."""

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
        (ServerSays("55P03"), errors.DatabaseConflict),
        (ServerSays("57014"), errors.DatabaseConflict),
        (ServerSays("57P01"), errors.DatabaseOutage),
        (ServerSays("57P03"), errors.DatabaseOutage),
        (ServerSays("53300"), errors.DatabaseOutage),
        (ServerSays("25006"), errors.DatabaseOutage),
        (ServerSays("53100"), errors.DatabaseOutage),
        (ServerSays("08006"), errors.DatabaseOutage),
        (ServerSays(None), errors.DatabaseOutage),
        (psycopg2.InterfaceError("connection already closed"), errors.DatabaseOutage),
        (ServerSays("22P02"), errors.RefusedByDatabase),
        (ServerSays("54000"), errors.RefusedByDatabase),
        (client_error("SlowDown", 503), errors.ServiceBusy),
        (client_error("InternalError", 500), errors.ServiceBusy),
        (client_error("ThrottlingException", 400), errors.ServiceBusy),
        (client_error("TooManyRequests", 429), errors.ServiceBusy),
        (client_error("ExpiredToken", 400), errors.AwsOutage),
        (client_error("SignatureDoesNotMatch", 403), errors.AwsOutage),
        (client_error("NoSuchBucket", 404), errors.AwsOutage),
        (client_error("AccessDenied", 403), errors.Unexpected),
        (EndpointConnectionError(endpoint_url="http://nowhere"), errors.AwsOutage),
        (NoCredentialsError(), errors.AwsOutage),
        (ReadTimeoutError(endpoint_url="http://slow"), errors.ServiceBusy),
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


def test_the_cause_inside_a_wrapping_exception_decides() -> None:
    wrapper = peewee.OperationalError("wrapped")
    wrapper.__cause__ = ServerSays("57P01")

    assert isinstance(classify_error(wrapper), errors.DatabaseOutage)


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
