"""What the isolation benchmark computes, and the proxy that it puts before PostgreSQL."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from benchmarks.isolation import mean, per_second, table
from benchmarks.others import Figure, Latency, figures_of, latency_of, rounded
from benchmarks.sqs_stub import StubServer
from benchmarks.tcp_proxy import TcpProxy
from graphnode.dev.local_aws import sqs_client
from graphnode.dev.outcomes import wait_for

#: Seconds that a test waits for a condition.
PATIENCE_S = 20.0


def test_a_result_that_is_missing_counts_with_the_time_that_it_has_waited() -> None:
    sent = {"a": 10.0, "b": 10.0, "c": 20.0}

    found = latency_of(sent, {"a": 10.5, "b": 11.0}, now=50.0)

    assert found.missing == 1
    assert (found.p50, found.max) == pytest.approx((1000, 30_000))
    assert latency_of({}, {}, now=50.0).missing == 0
    assert math.isnan(latency_of({}, {}, now=50.0).max)


@pytest.mark.parametrize(
    ("figure", "holds"),
    [
        (Figure("x", 5.0), None),
        (Figure("x", 5.0, at_most=5), True),
        (Figure("x", 5.1, at_most=5), False),
        (Figure("x", 5.0, at_least=5), True),
        (Figure("x", 4.9, at_least=5), False),
        (Figure("x", 6.0, 2.0, times=3), True),
        (Figure("x", 6.1, 2.0, times=3), False),
        (Figure("x", 6.0, 2.0, times=3, at_most=5), False),
        (Figure("x", None, at_most=5), False),
        (Figure("x", math.nan, at_most=5), False),
    ],
)
def test_a_figure_meets_its_target_or_misses_it(figure: Figure, holds: bool | None) -> None:
    assert figure.holds is holds


def test_figures_are_told_alone_beside_and_as_a_ratio() -> None:
    alone, beside = Latency(10.0, 20.0, 30.0, 0), Latency(12.0, 50.0, 1500.0, 0)
    found = figures_of("others", alone, beside, p95_times=3, max_ms=1000)

    assert {figure.name: figure.as_json() for figure in found} == {
        "others p50, ms": {"alone": 10.0, "beside": 12.0, "ratio": 1.2},
        "others p95, ms": {"alone": 20.0, "beside": 50.0, "ratio": 2.5, "target": "at most 3 x alone", "holds": True},
        "others max, ms": {"alone": 30.0, "beside": 1500.0, "ratio": 50.0, "target": "at most 1000", "holds": False},
        "others missing": {"alone": 0, "beside": 0, "target": "at most 0", "holds": True},
    }
    head, *lines = table({"locked": [*found, Figure("until it is free, s", None, at_most=60)]})
    assert head.split() == ["locked", "alone", "beside", "ratio"]
    assert " ".join(lines[1].split()) == "others p95, ms 20.0 50.0 2.5 at most 3 x alone"
    assert lines[2].endswith("at most 1000: MISSED")
    assert " ".join(lines[4].split()) == "until it is free, s - - - at most 60: MISSED"


def test_rates_and_means() -> None:
    assert per_second([10.0, 10.5, 11.0]) == pytest.approx(2)
    assert per_second([10.0]) is None
    assert mean({0: 9, 1: 3, 5: 1}) == pytest.approx(2)
    assert mean({}) == 0
    assert (rounded(None), rounded(7), rounded(1234.56), rounded(1.234)) == (None, 7, 1234.6, 1.23)


def test_the_stub_tells_how_often_each_message_was_received() -> None:
    with StubServer() as stub:
        sqs = sqs_client(
            {
                "AWS_ENDPOINT_URL": stub.url,
                "AWS_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
            }
        )
        url = stub.queue_url("q")
        stub.fill("q", ["a", "b", "c"])
        for _ in range(2):
            sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=1, VisibilityTimeout=0)
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=2)["Messages"]:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

        receives = stub.receives("q")

    assert sum(receives.values()) == 3
    assert sum(times * count for times, count in receives.items()) == 4


@pytest.fixture
def echo() -> Iterator[str]:
    """The URL of a server that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve(connection: socket.socket) -> None:
            with connection:
                while data := connection.recv(1024):
                    connection.sendall(data)

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"postgresql://ada@127.0.0.1:{server.getsockname()[1]}/postgres"
        server.shutdown(socket.SHUT_RDWR)


def test_a_proxy_forwards_until_one_connection_is_silent(echo: str) -> None:
    with TcpProxy(echo, delay_ms=1) as proxy:
        through = urlsplit(proxy.url)
        assert (through.username, through.path) == ("ada", "/postgres")
        address = (str(through.hostname), int(through.port or 0))
        with socket.create_connection(address) as first, socket.create_connection(address) as last:
            for connection in (first, last):
                connection.settimeout(PATIENCE_S)
                connection.sendall(b"hello")
                assert connection.recv(5) == b"hello"

            assert wait_for(lambda: proxy.silence() or None, timeout_s=PATIENCE_S)
            last.sendall(b"swallowed")
            assert wait_for(lambda: proxy.swallowed() == len(b"swallowed") or None, timeout_s=PATIENCE_S)
            first.sendall(b"still")
            assert first.recv(5) == b"still"

            proxy.close_silent()
            assert last.recv(1) == b""
