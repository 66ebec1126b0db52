"""A stub of SQS on loopback: SQS's JSON protocol, with a latency and with fault injection.

It holds standard queues in memory, with long polls, visibility timeouts, receive counts and partial batch failures.
Redrive, delays and permissions are missing: LocalStack tests those. The stub is a separate process, so that its CPU
time does not count as the worker's: `python -m benchmarks.sqs_stub` prints its port.

`POST /_stub` with a JSON object controls it: `{"latency_ms": 10}`, `{"fill": ["queue", ["body", ...]]}`,
`{"faults": [...]}`, `{"mend": true}`, `{"dead_letters": {"queue": "its dead-letter queue"}}`, `{"reset": true}`. The
answer is its state, with the calls since the last reset by action. A fault has a `kind` of FAULTS; without `action`,
`queue` (its name) and `key` (the access key ID that signs it) it befalls any call, and without `times` (null: until it
is mended) one.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

#: SQS's default visibility timeout in seconds.
DEFAULT_VISIBILITY_S = 30

ACCOUNT = "000000000000"

#: The HTTP status and the error code of each fault. None: the fault does something else.
FAULTS: dict[str, tuple[int, str] | None] = {
    "throttle": (400, "ThrottlingException"),
    "server_error": (500, "InternalError"),
    "unavailable": (503, "ServiceUnavailable"),
    "denied": (403, "AccessDeniedException"),
    "unknown_key": (403, "UnrecognizedClientException"),
    "over_limit": (403, "OverLimit"),
    "no_queue": (400, "QueueDoesNotExist"),
    "drop": None,
    "hang": None,
    "partial": None,
    "gone": None,
    "duplicate": None,
    "odd_entry": None,
}


class StubServer:
    """A running stub, in a separate process that ends when this one ends."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout  # noqa: S101
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def queue_url(self, name: str) -> str:
        """The URL of a queue. The queue exists from its first use on."""
        return f"{self.url}/{ACCOUNT}/{name}"

    def order(self, **order: Any) -> dict[str, Any]:
        """Control the stub; its state afterwards."""
        request = urllib.request.Request(f"{self.url}/_stub", data=json.dumps(order).encode())  # noqa: S310
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            state: dict[str, Any] = json.load(answer)
            return state

    def fill(self, queue: str, bodies: Sequence[str]) -> None:
        """Put messages on a queue, all at once."""
        self.order(fill=[queue, list(bodies)])

    def calls(self, action: str) -> int:
        """The number of calls of an action since the last reset."""
        return int(self.order()["calls"].get(action, 0))

    def messages(self, queue: str) -> list[dict[str, Any]]:
        """The messages on a queue, visible or in flight: body, group, attributes, receives, whether it is visible."""
        shown: list[dict[str, Any]] = self.order(show=queue)["messages"]
        return shown

    def receives(self, queue: str) -> dict[int, int]:
        """How many messages of a queue, deleted ones included, were received how often."""
        return {int(times): count for times, count in self.order(receives=queue)["receives"].items()}

    def __enter__(self) -> StubServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate("")


@dataclass
class Message:
    """A message on a queue."""

    id: str
    body: str
    attributes: dict[str, Any]
    group: str | None = None
    sent_ms: int = field(default_factory=lambda: int(time.time() * 1000))
    receive_count: int = 0
    receipt: str = ""
    deleted: bool = False
    visible_at: float = 0.0


class StubQueue:
    """A standard queue."""

    def __init__(self) -> None:
        self.visible: deque[Message] = deque()
        self.hidden: list[tuple[float, int, Message]] = []
        self.by_receipt: dict[str, Message] = {}
        self.undeleted = 0
        self.receives_of_deleted: Counter[int] = Counter()
        self.arrived = asyncio.Event()
        self._order = itertools.count()

    def put(self, message: Message) -> None:
        self.undeleted += 1
        self.visible.append(message)
        self.arrived.set()

    def take(self, most: int, visibility_s: float) -> list[Message]:
        self._uncover()
        taken: list[Message] = []
        while self.visible and len(taken) < most:
            message = self.visible.popleft()
            if message.deleted:
                continue
            self.by_receipt.pop(message.receipt, None)
            message.receive_count += 1
            message.receipt = f"{message.id}#{message.receive_count}"
            self.by_receipt[message.receipt] = message
            self.hide(message, visibility_s)
            taken.append(message)
        return taken

    def hide(self, message: Message, seconds: float) -> None:
        message.visible_at = time.monotonic() + seconds
        heapq.heappush(self.hidden, (message.visible_at, next(self._order), message))
        # Wakes the long polls, which compute their wait again.
        self.arrived.set()

    def delete(self, receipt: str) -> None:
        if message := self.by_receipt.pop(receipt, None):
            message.deleted = True
            self.undeleted -= 1
            self.receives_of_deleted[message.receive_count] += 1

    def next_uncovered(self) -> float | None:
        """Seconds until a hidden message may become visible."""
        return max(0.0, self.hidden[0][0] - time.monotonic()) if self.hidden else None

    def _uncover(self) -> None:
        now = time.monotonic()
        while self.hidden and self.hidden[0][0] <= now:
            due, _, message = heapq.heappop(self.hidden)
            if not message.deleted and message.visible_at == due:
                self.visible.append(message)

    def receives(self) -> Counter[int]:
        left = {message.id: message for message in (*self.visible, *(one for *_, one in self.hidden))}
        return self.receives_of_deleted + Counter(one.receive_count for one in left.values() if not one.deleted)

    def shown(self) -> list[dict[str, Any]]:
        self._uncover()
        visible = {message.id: message for message in self.visible if not message.deleted}
        hidden = {message.id: message for _, _, message in self.hidden if not message.deleted}
        return [
            {
                "id": message.id,
                "body": message.body,
                "group": message.group,
                "attributes": {name: value["StringValue"] for name, value in message.attributes.items()},
                "receive_count": message.receive_count,
                "visible": message.id in visible,
            }
            for message in {**hidden, **visible}.values()
        ]


class Stub:
    """The server's state and its actions."""

    def __init__(self) -> None:
        self.queues: dict[str, StubQueue] = {}
        self.latency_s = 0.0
        self.faults: list[dict[str, Any]] = []
        #: By queue: the name of its dead-letter queue, if it is not the usual one.
        self.dead_letters: dict[str, str] = {}
        self.calls: Counter[str] = Counter()
        self.url = ""
        self.first_receive = 0.0
        self.last_delete = 0.0
        self._ids = map("{:08d}".format, itertools.count(1))

    def queue(self, url: str) -> StubQueue:
        return self.queues.setdefault(url.rsplit("/", 1)[-1], StubQueue())

    def control(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out a `POST /_stub`; the state afterwards."""
        self.latency_s = order.get("latency_ms", self.latency_s * 1000) / 1000
        if order.get("mend"):
            self.faults.clear()
        self.faults += order.get("faults", [])
        if order.get("reset"):
            self.calls.clear()
            self.faults.clear()
            self.dead_letters.clear()
            self.first_receive = self.last_delete = 0.0
        self.dead_letters |= order.get("dead_letters", {})
        if order.get("clear"):
            self.queues.clear()
        if "fill" in order:
            name, bodies = order["fill"]
            for body in bodies:
                self.queue(name).put(Message(next(self._ids), body, {}))
        shown = self.queue(order["show"]).shown() if "show" in order else []
        receives = self.queue(order["receives"]).receives() if "receives" in order else {}
        return {
            "messages": shown,
            "receives": receives,
            "calls": dict(self.calls),
            "undeleted": {name: queue.undeleted for name, queue in self.queues.items()},
            "faults_left": len(self.faults),
            "busy_s": self.last_delete - self.first_receive,
        }

    def fault(self, action: str, asked: dict[str, Any], *, signature: str) -> str | None:
        """The injected fault of this call, if there is one.

        Parameters:
          signature: the header Authorization.
        """
        queue = asked.get("QueueUrl", "").rsplit("/", 1)[-1]
        for fault in self.faults:
            is_meant = fault.get("action", action) == action and fault.get("queue", queue) == queue
            if is_meant and fault.get("key", "") in signature:
                times = fault.setdefault("times", 1)
                if times is not None:
                    fault["times"] = times - 1
                    if times <= 1:
                        self.faults.remove(fault)
                return str(fault["kind"])
        return None

    async def receive(self, asked: dict[str, Any], fault: str | None) -> dict[str, Any]:
        queue = self.queue(asked["QueueUrl"])
        most, visibility = asked.get("MaxNumberOfMessages", 1), asked.get("VisibilityTimeout", DEFAULT_VISIBILITY_S)
        deadline = time.monotonic() + asked.get("WaitTimeSeconds", 0)
        while not (taken := queue.take(most, visibility)) and (left := deadline - time.monotonic()) > 0:
            queue.arrived.clear()
            uncovered = queue.next_uncovered()
            wait = left if uncovered is None else min(left, uncovered)
            try:
                await asyncio.wait_for(queue.arrived.wait(), wait)
            except TimeoutError:
                continue
        if fault == "duplicate":
            for message in taken:
                queue.put(replace(message, receipt="", deleted=False, visible_at=0.0))
        if taken and not self.first_receive:
            self.first_receive = time.monotonic()
        shown = [self._shown(message) for message in taken]
        if fault == "odd_entry" and shown:
            del shown[0]["Attributes"]
        return {"Messages": shown} if shown else {}

    @staticmethod
    def _shown(message: Message) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "MessageId": message.id,
            "ReceiptHandle": message.receipt,
            "Body": message.body,
            "Attributes": {
                "ApproximateReceiveCount": str(message.receive_count),
                "SentTimestamp": str(message.sent_ms),
            },
        }
        if message.group:
            shown["Attributes"]["MessageGroupId"] = message.group
        return {**shown, "MessageAttributes": message.attributes} if message.attributes else shown

    def act(self, action: str, asked: dict[str, Any], fault: str | None) -> dict[str, Any]:
        """Carry out an action other than ReceiveMessage."""
        queue = self.queue(asked.get("QueueUrl", asked.get("QueueName", "")))
        match action:
            case "SendMessage":
                attributes, group = asked.get("MessageAttributes", {}), asked.get("MessageGroupId")
                message = Message(next(self._ids), asked["MessageBody"], attributes, group)
                queue.put(message)
                return {"MessageId": message.id, "MD5OfMessageBody": ""}
            case "DeleteMessage":
                queue.delete(asked["ReceiptHandle"])
                self.last_delete = time.monotonic()
                return {}
            case "ChangeMessageVisibility":
                self._change_visibility(queue, asked)
                return {}
            case "SendMessageBatch" | "DeleteMessageBatch" | "ChangeMessageVisibilityBatch":
                return self._batch(action.removesuffix("Batch"), queue, asked["Entries"], fault)
            case "GetQueueUrl" | "CreateQueue":
                return {"QueueUrl": f"{self.url}/{ACCOUNT}/{asked['QueueName']}"}
            case "GetQueueAttributes":
                name = asked["QueueUrl"].rsplit("/", 1)[-1]
                target = self.dead_letters.get(name, f"{name}-dlq")
                policy = {"deadLetterTargetArn": f"arn:aws:sqs:eu:{ACCOUNT}:{target}", "maxReceiveCount": 50}
                return {
                    "Attributes": {
                        "QueueArn": f"arn:aws:sqs:eu:{ACCOUNT}:{name}",
                        "RedrivePolicy": json.dumps(policy),
                        "ApproximateNumberOfMessages": str(sum(message["visible"] for message in queue.shown())),
                    }
                }
        raise KeyError(action)

    def _batch(self, action: str, queue: StubQueue, entries: list[dict[str, Any]], fault: str | None) -> dict[str, Any]:
        """Carry out the entries of a batch. With the fault `partial` or `gone` every second one fails."""
        done, failed = [], []
        for index, entry in enumerate(entries):
            if fault in ("partial", "gone") and index % 2 == 0:
                gone = fault == "gone"
                code = "ReceiptHandleIsInvalid" if gone else "InternalError"
                failed.append({"Id": entry["Id"], "SenderFault": gone, "Code": code})
                continue
            done.append({"Id": entry["Id"], **self.act(action, {"QueueUrl": self._name(queue), **entry}, None)})
        return {"Successful": done, "Failed": failed}

    def _name(self, queue: StubQueue) -> str:
        return next(name for name, known in self.queues.items() if known is queue)

    @staticmethod
    def _change_visibility(queue: StubQueue, asked: dict[str, Any]) -> None:
        if message := queue.by_receipt.get(asked["ReceiptHandle"]):
            queue.hide(message, asked["VisibilityTimeout"])


async def serve(stub: Stub, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection."""
    try:
        while line := await reader.readline():
            path = line.split()[1].decode()
            headers: dict[str, str] = {}
            while (header := await reader.readline()) not in (b"\r\n", b""):
                name, _, value = header.decode().partition(":")
                headers[name.lower()] = value.strip()
            asked = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or b"{}")
            if path == "/_stub":
                await respond(writer, 200, stub.control(asked))
                continue
            if line.startswith(b"HEAD "):
                # S3's HeadBucket: a worker that reads no documents starts on the stub alone.
                await respond(writer, 200, None)
                continue
            action = headers["x-amz-target"].removeprefix("AmazonSQS.")
            stub.calls[action] += 1
            fault = stub.fault(action, asked, signature=headers.get("authorization", ""))
            if fault == "drop":
                break
            if fault == "hang":
                await asyncio.sleep(3600)
            await asyncio.sleep(stub.latency_s)
            if fault and (answer := FAULTS[fault]):
                status, code = answer
                await respond(writer, status, {"__type": f"com.amazonaws.sqs#{code}", "message": "injected fault"})
            elif action == "ReceiveMessage":
                await respond(writer, 200, await stub.receive(asked, fault))
            else:
                await respond(writer, 200, stub.act(action, asked, fault))
    except (ConnectionError, asyncio.IncompleteReadError):
        return
    finally:
        writer.close()


async def respond(writer: asyncio.StreamWriter, status: int, body: dict[str, Any] | None) -> None:
    """Send one answer. None: without a body."""
    text = b"" if body is None else json.dumps(body).encode()
    writer.write(
        b"HTTP/1.1 %d X\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: %d\r\n\r\n" % (status, len(text))
    )
    writer.write(text)
    await writer.drain()


async def main() -> None:
    """Serve on a free port of loopback until standard input closes."""
    stub = Stub()
    server = await asyncio.start_server(lambda reader, writer: serve(stub, reader, writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    stub.url = f"http://127.0.0.1:{port}"
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    # Do not close the server first: from Python 3.12 on, that waits for the open long polls.
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
