"""Deliveries in this process, through the worker's own code: decoded, handled, stored. S3 and the queue are replaced.

A delivery can crash at any of its steps: before a read from S3, a statement, a COPY or a commit, after a commit, and
before the pushes are woken.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from graphnode.actors import broker
from graphnode.actors.overdue import overdue_result
from graphnode.clients import s3
from graphnode.contract.bodies import to_message
from graphnode.contract.envelopes import ROUTES
from graphnode.contract.timeouts import task_timeouts
from graphnode.errors import UserLocked
from graphnode.settings import Settings
from graphnode.storage import tasks
from graphnode.storage.database import database
from graphnode.storage.tasks import TaskKey
from graphnode.worker import outbox
from tests.chaos.model.state import Message
from tests.conftest import use_settings

#: The settings that `graphnode.clients.s3` reads.
SETTINGS = Settings(
    database_url="postgresql://unused@localhost/unused",
    aws_region="eu-central-1",
    sqs_result_queue_url="http://localhost/results",
    s3_payload_bucket="payload",
)


class Crash(BaseException):
    """The process ends here. It is no Exception, so that no error handling catches it."""


class Bench:
    """The worker's surroundings, and the step at which it crashes."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Empty the bucket and the queue."""
        self.documents: dict[str, Any] = {}
        #: The IDs of the notifications for which the pushes were woken.
        self.woken: list[str] = []
        self.committed = False
        self._steps_left: int | None = None

    def step(self) -> None:
        """Begin a step, or crash instead."""
        if self._steps_left is not None:
            self._steps_left -= 1
            if self._steps_left == 0:
                self._steps_left = None
                raise Crash

    @contextmanager
    def crashing(self, at: int) -> Iterator[None]:
        """Crash in place of the block's nth step."""
        self._steps_left, self.committed = at, False
        try:
            yield
        finally:
            self._steps_left = None

    # boto3's S3 client.

    def get_object(self, *, Bucket: str, Key: str, **_conditions: str) -> dict[str, Any]:  # noqa: N803
        """The object, or S3's error if it is missing."""
        self.step()
        if Key not in self.documents:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        content = json.dumps(self.documents[Key]).encode()
        return {"ContentLength": len(content), "ETag": '"one"', "Body": io.BytesIO(content)}

    # The pushes.

    def wake(self, ids: Iterable[str]) -> None:
        """Keep the IDs."""
        self.step()
        self.woken.extend(ids)


#: The surroundings of every test here. It is global because a state machine takes no fixtures.
bench = Bench()


def set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the worker the bench's bucket and queue, and count its steps."""
    bench.clear()
    monkeypatch.setattr(s3, "client", lambda: bench)
    use_settings(SETTINGS, monkeypatch)
    monkeypatch.setattr(outbox, "wake", bench.wake)
    monkeypatch.setattr(database, "cursor", counted(database.cursor))
    monkeypatch.setattr(database, "commit", counted_commit(database.commit))


def counted(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call as a step. It is for cursors: each statement and each COPY opens one."""

    def run(*arguments: Any, **options: Any) -> Any:
        bench.step()
        return call(*arguments, **options)

    return run


def counted_commit(commit: Callable[[], None]) -> Callable[[], None]:
    """The same commit, followed by a step. The step before it is that of its own statement."""

    def run() -> None:
        commit()
        bench.committed = True
        bench.step()

    return run


def deliver(message: Message, *, attempt: int) -> None:
    """Handle a message as a worker thread does. Raises what the actor raises."""
    decoded = to_message(
        json.dumps(message.body), message_id=message.id, sent_at=message.sent_at, receive_count=attempt
    )
    while True:
        # A message whose user another session works on is parked, and started again.
        with suppress(UserLocked):
            broker.actors[decoded.actor_name].fn(*decoded.args)
            return


def sweep_up_overdue() -> TaskKey | None:
    """End one overdue task as a sweep does. Its key, or None if no task is overdue."""
    timeouts = task_timeouts("2h")
    task = tasks.claim_overdue(timeouts, before=datetime.now(UTC), backoff=timedelta(hours=1))
    if task is None:
        return None
    broker.actors[ROUTES[task.task_type].actor].fn(overdue_result(*task, timeout=timeouts[task.task_type]))
    return TaskKey(task.task_id, task.task_type)
