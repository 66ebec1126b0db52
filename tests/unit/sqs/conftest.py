"""A settlement on a stand-in for SQS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from graphnode.sqs import heartbeat, settlement
from graphnode.sqs.deliveries import InFlight
from graphnode.sqs.settlement import Settlement


class Queues:
    """SQS as a worker sees it: keeps what was deleted, hidden and sent. A test can make its calls fail or wait."""

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.visibility: list[tuple[str, int]] = []
        self.letters: list[tuple[str, Any]] = []
        self.calls: list[str] = []
        self.groups: list[str] = []
        self.failures: list[Callable[[list[Any]], dict[str, Any]]] = []
        self.letters_fail = False
        self.letters_go_on = threading.Event()
        self.letters_go_on.set()
        self.lock = threading.Lock()
        self.go_on = threading.Event()
        self.go_on.set()

    def delete_message_batch(self, *, QueueUrl: str, Entries: list[Any]) -> dict[str, Any]:  # noqa: N803
        with self.lock:
            self.calls.append(f"delete {len(Entries)}")
            if self.failures:
                return self.failures.pop(0)(Entries)
            self.deleted += [entry["ReceiptHandle"] for entry in Entries]
            return {"Successful": [{"Id": entry["Id"]} for entry in Entries]}

    def change_message_visibility_batch(self, *, QueueUrl: str, Entries: list[Any]) -> dict[str, Any]:  # noqa: N803
        with self.lock:
            self.calls.append(f"visibility {len(Entries)}")
        self.go_on.wait(20)
        with self.lock:
            if self.failures:
                return self.failures.pop(0)(Entries)
            self.visibility += [(entry["ReceiptHandle"], entry["VisibilityTimeout"]) for entry in Entries]
            return {}

    def send_message(
        self,
        *,
        QueueUrl: str,  # noqa: N803
        MessageBody: str,  # noqa: N803
        MessageAttributes: Any,  # noqa: N803
        MessageGroupId: str = "",  # noqa: N803
    ) -> dict[str, Any]:
        with self.lock:
            self.calls.append("letter")
        self.letters_go_on.wait(20)
        with self.lock:
            self.groups.append(MessageGroupId)
            if self.letters_fail:
                raise EndpointConnectionError(endpoint_url=QueueUrl)
            self.letters.append((MessageBody, MessageAttributes))
            return {}


@pytest.fixture
def sqs() -> Queues:
    return Queues()


@pytest.fixture
def in_flight() -> InFlight:
    made = InFlight(threads=8)
    made.open("https://sqs/results")
    return made


@pytest.fixture
def settle(sqs: Any, in_flight: InFlight, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settlement]:
    """The settlement of the results. It looks every 10 ms for what to extend."""
    monkeypatch.setattr(settlement, "RETRY_S", 0.01)
    monkeypatch.setattr(heartbeat, "BEATS", 6000)
    made = Settlement(sqs, queue_url="https://sqs/results", in_flight=in_flight, visibility_s=60)
    yield made
    sqs.go_on.set()
    sqs.letters_go_on.set()
    made.close()


def wait_until(look: Callable[[], Any]) -> None:
    """Wait until `look` returns something true."""
    deadline = time.monotonic() + 20
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.002)
