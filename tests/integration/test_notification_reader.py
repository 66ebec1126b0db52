"""The example reader of docs/notifications.md, run as it is printed there."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from ulid import ULID

from graphnode.storage import notifications
from graphnode.storage.database import user_transaction

DOCUMENT = Path(__file__).parents[2] / "docs" / "notifications.md"

PATIENCE_S = 20.0

Row: TypeAlias = tuple[str, str, dict[str, Any]]
Follow: TypeAlias = Callable[..., Iterator[Row]]

pytestmark = pytest.mark.usefixtures("storage")


@pytest.fixture
def follow(database_url: str) -> Iterator[Callable[[str, Iterable[str]], Iterator[Row]]]:
    """The function of the example, on the test's database; the test closes its connections."""
    (code,) = re.findall(r"```python\n(import json\n.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(code[code.index("def follow") :].splitlines()) <= 20
    example: dict[str, Any] = {}
    exec(compile(code, str(DOCUMENT), "exec"), example)  # noqa: S102
    opened: list[Any] = []

    def start(last: str, seen: Iterable[str] = ()) -> Iterator[Row]:
        opened.append(example["follow"](database_url, "ada", last, seen))
        return opened[-1]  # type: ignore[no-any-return]

    yield start
    for reader in opened:
        reader.close()


def write(event: str, *, user_id: str = "ada") -> str:
    """Write a notification in a transaction that does not wait for the user's lock."""
    with user_transaction(event):
        written = notifications.write(
            user_id=user_id, type="GRAPH_GENERATION_FAILED", payload={"taskId": event}, event=event, push=True
        )
    assert written
    return written


@contextmanager
def late(event: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """A notification in an open transaction: its ID, and a function that commits it."""
    written, may_commit = Future[str](), threading.Event()

    def hold() -> None:
        with user_transaction(event):
            found = notifications.write(
                user_id="ada", type="GRAPH_GENERATION_FAILED", payload={"taskId": event}, event=event, push=True
            )
            written.set_result(found or "")
            may_commit.wait(PATIENCE_S)

    with ThreadPoolExecutor(1) as threads:
        held = threads.submit(hold)

        def commit() -> None:
            may_commit.set()
            held.result(PATIENCE_S)

        yield written.result(PATIENCE_S), commit


def test_it_reads_from_the_last_id_and_then_new_ones(follow: Follow) -> None:
    last, missed = write("t1"), write("t2")
    reader = follow(last)

    first, type_, payload = next(reader)
    assert (first, type_, payload["taskId"]) == (missed, "GRAPH_GENERATION_FAILED", "t2")
    write("someone else's", user_id="grace")
    live = [write("t3"), write("t4")]

    assert [next(reader)[0], next(reader)[0]] == live


def test_it_does_not_miss_a_late_commit_while_it_reads(follow: Follow) -> None:
    first = write("t1")
    reader = follow(str(ULID.from_timestamp(1.0)))
    assert next(reader)[0] == first
    with late("late") as (late_id, commit):
        newer = write("t2")
        assert newer > late_id
        assert next(reader)[0] == newer
        commit()

    assert next(reader)[0] == late_id


def test_it_does_not_miss_a_late_commit_while_it_was_away(follow: Follow) -> None:
    with late("late") as (late_id, commit):
        newer = write("t1")
        reader = follow(str(ULID.from_timestamp(1.0)))
        assert next(reader)[0] == newer
        commit()

    resumed = follow(newer, {newer})
    assert next(resumed)[0] == late_id
    newest = write("t2")
    assert next(resumed)[0] == newest
