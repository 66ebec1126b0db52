from __future__ import annotations

import socket
import struct
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from http import HTTPStatus
from urllib.error import HTTPError

import pytest
from structlog.testing import capture_logs

from graphnode.worker import endpoint as endpoint_module
from graphnode.worker.endpoint import MOST_CONNECTIONS, REQUEST_BYTES, Endpoint, Response
from tests.serving import serving
from tests.unit.sqs.conftest import wait_until

#: More than any buffer of a connection holds.
BIG = b"x" * (32 << 20)


def answer(path: str) -> Response | None:
    if path == "/broken":
        raise ZeroDivisionError
    known = {"/live": b"alive", "/big": BIG}
    return Response(HTTPStatus.OK, "text/plain", known[path]) if path in known else None


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint("127.0.0.1", 0, answer)


@pytest.fixture
def port(endpoint: Endpoint) -> Iterator[int]:
    """The port of the endpoint, which serves."""
    with serving(endpoint) as port:
        yield port


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request may take a fifth of a second."""
    monkeypatch.setattr(endpoint_module, "REQUEST_S", 0.2)


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    """Keeps connections open until the test's end."""
    with ExitStack() as stack:
        yield stack


def get(port: int, path: str) -> tuple[int, bytes]:
    """The status and the body of an answer; 0 without one."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}{path}", timeout=5) as answered:
            return answered.status, answered.read()
    except HTTPError as error:
        return error.code, error.read()
    except OSError as error:
        return 0, str(error).encode()


def connect(port: int, sent: bytes = b"") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=10)
    made.sendall(sent)
    return made


def rest_of(connection: socket.socket) -> bytes:
    """What the server sends until it ends the connection; b"no end" if it does not."""
    received = b""
    try:
        while more := connection.recv(1 << 16):
            received += more
    except ConnectionResetError:
        pass
    except TimeoutError:
        return b"no end"
    return received


def test_a_path_is_answered_with_or_without_a_query(port: int) -> None:
    assert get(port, "/live") == get(port, "/live?verbose") == (200, b"alive")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /other HTTP/1.1", 404),
        (b"GET", 404),
        (b"", 405),
        (b"POST /live HTTP/1.1", 405),
        (b"\xff\x00 /live", 405),
        (b"GET /\xff\x00 HTTP/1.1", 404),
    ],
)
def test_another_path_or_method_has_an_answer_too(port: int, request_line: bytes, status: int) -> None:
    with connect(port, request_line + b"\r\n\r\n") as client:
        assert rest_of(client).startswith(b"HTTP/1.1 %d " % status)


def test_clients_that_send_nothing_keep_nobody_out_and_cost_no_thread(
    endpoint: Endpoint, port: int, clients: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    threads = threading.active_count()
    slow = [clients.enter_context(connect(port, b"GET /li")) for _ in range(MOST_CONNECTIONS + 50)]

    assert get(port, "/live") == (200, b"alive")

    assert rest_of(slow[0]) == b""
    assert len(endpoint._conversations) <= MOST_CONNECTIONS
    assert threading.active_count() == threads
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []


@pytest.mark.usefixtures("hasty")
def test_a_client_that_sends_a_byte_now_and_then_is_ended_in_time(endpoint: Endpoint, port: int) -> None:
    with connect(port) as client:
        wait_until(lambda: bool(endpoint._conversations))

        def is_ended() -> bool:
            try:
                client.sendall(b"G")
            except (BrokenPipeError, ConnectionResetError):
                return True
            return not endpoint._conversations

        wait_until(is_ended)


@pytest.mark.usefixtures("hasty")
def test_a_client_that_does_not_read_its_answer_is_ended_in_time(endpoint: Endpoint, port: int) -> None:
    with connect(port, b"GET /big HTTP/1.1\r\n\r\n") as client:
        wait_until(lambda: bool(endpoint._conversations))
        wait_until(lambda: not endpoint._conversations)

        assert len(rest_of(client)) < len(BIG)


def test_a_big_answer_is_sent_whole(port: int) -> None:
    assert get(port, "/big") == (200, BIG)


def test_a_request_that_is_too_long_is_ended_without_an_answer(port: int) -> None:
    with connect(port, b"GET /live HTTP/1.1\r\nX: " + b"x" * 4 * REQUEST_BYTES) as client:
        assert rest_of(client) == b""


@pytest.mark.usefixtures("hasty")
def test_broken_clients_are_no_events(
    endpoint: Endpoint, port: int, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    for sent in (b"", b"GET /live HTTP", b"\x16\x03\x01\x00", b"GET /big HTTP/1.1\r\n\r\n", b"x" * 3 * REQUEST_BYTES):
        for linger in (False, True):
            client = connect(port, sent)
            if linger:
                # It ends with a reset.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
    with connect(port, b"GET /live HTTP") as client:
        rest_of(client)
    wait_until(lambda: not endpoint._conversations)

    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []
    assert capfd.readouterr() == ("", "")


def test_an_answer_that_fails_is_one_error_and_ends_nothing(port: int) -> None:
    with capture_logs() as lines:
        assert get(port, "/broken") == (500, b"")

    assert [line["event"] for line in lines] == ["no answer"]
    assert get(port, "/live") == (200, b"alive")


def test_a_port_that_is_taken_is_one_error_and_an_exit_code(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "configure_logs", lambda _: None)

    with capture_logs() as lines:
        code = endpoint_module.serve("health", host="127.0.0.1", port=port, answer=answer)

    assert code == 1
    assert [(line["event"], line["subject"], line["port"]) for line in lines] == [("not served", "health", port)]
