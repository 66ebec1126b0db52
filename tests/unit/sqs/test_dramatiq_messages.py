"""Dramatiq's own messages: a message that the worker sent is decoded, a forged one is refused."""

from __future__ import annotations

import json
import pickle
import re
from base64 import b64encode
from pathlib import Path
from typing import Annotated, Any

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

import graphnode
from graphnode.contract.bodies import to_message
from graphnode.contract.envelopes import LONGEST_ID, RESULT_QUEUE
from graphnode.errors import InvalidMessage, PermanentError
from graphnode.sqs.dramatiq_messages import decode

OWN_QUEUE = "own"

#: Bounded: others may be able to write to the queue.
NotificationId = Annotated[str, Meta(min_length=1, max_length=LONGEST_ID, pattern=r"^[^\x00]*$")]

BROKER = StubBroker()


@dramatiq.actor(broker=BROKER, queue_name=OWN_QUEUE)
def tell(notification_id: NotificationId) -> None:
    """Do nothing."""


@dramatiq.actor(broker=BROKER, queue_name=RESULT_QUEUE)
def graph_generation(notification_id: NotificationId) -> None:
    """Do nothing."""


TRACE = {"traceparent": "00-1-2-01"}


def read(body: str) -> dramatiq.Message[None]:
    return decode(body, queue_name=OWN_QUEUE, actors=BROKER.actors)


def forged(**changes: Any) -> str:
    """The body of the worker's own message with these changes."""
    message = tell.message(notification_id="n-1").asdict() | changes
    return b64encode(json.dumps(message).encode()).decode()


class Exploit:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("unpickled"),)


def test_the_workers_own_message_is_read_as_it_was_sent() -> None:
    sent = tell.message(notification_id="n-1")
    sent.options["trace"] = TRACE

    assert read(b64encode(sent.encode()).decode()) == sent


@pytest.mark.parametrize(
    "changes",
    [
        {"actor_name": "graph_generation"},
        {"actor_name": "graph_generation", "queue_name": RESULT_QUEUE},
        {"actor_name": "os.system", "args": ["id"]},
        {"actor_name": "graphnode.storage.users.forget_user", "args": ["ada"]},
        {"actor_name": {}},
        {"actor_name": None},
        {"queue_name": RESULT_QUEUE},
        {"queue_name": "no-such-queue"},
        {"kwargs": {}},
        {"kwargs": {"notification_id": 7}},
        {"kwargs": {"notification_id": ["n-1"]}},
        {"kwargs": {"notification_id": ""}},
        {"kwargs": {"notification_id": "n-1\0"}},
        {"kwargs": {"notification_id": "n" * 1000}},
        {"kwargs": {"notification_id": "n-1", "user_id": "eve"}},
        {"args": ["n-2"]},
        {"args": "n-1"},
        {"kwargs": [["notification_id", "n-1"]]},
        {"options": []},
        {"message_id": {"$gt": ""}},
        {"message_timestamp": "now"},
    ],
    ids=repr,
)
def test_a_forged_message_reaches_no_actor(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        read(forged(**changes))


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "e30=",
        "W10=",
        b64encode(pickle.dumps(Exploit())).decode(),
        b64encode(b"[" * 100_000).decode(),
        b64encode(json.dumps(tell.message(notification_id="n-1").asdict()).encode()).decode()[:-4],
        '{"actor_name": "tell"}',
        "ü",
    ],
    ids=lambda body: body[:20],
)
def test_a_body_that_is_no_message_is_refused_and_not_run(
    body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InvalidMessage):
        read(body)

    assert list(tmp_path.iterdir()) == []


@settings(max_examples=20)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=5))
def test_options_that_a_worker_would_obey_are_removed(value: Any) -> None:
    names = ("throws", "time_limit", "max_retries", "on_success", "on_failure", "pipe_target", "log_fields", "trace")

    assert read(forged(options=dict.fromkeys(names, value))).options == {}


def test_the_result_queue_refuses_dramatiqs_own_messages() -> None:
    for body in (forged(), json.dumps(tell.message(notification_id="n-1").asdict())):
        with pytest.raises(PermanentError):
            to_message(body, message_id="m", sent_at=None, receive_count=1)  # type: ignore[arg-type]


def test_no_module_unpickles_or_evaluates_data() -> None:
    assert isinstance(dramatiq.get_encoder(), dramatiq.JSONEncoder)
    running = re.compile(
        r"\b(pickle|cPickle|dill|marshal|shelve|jsonpickle)\b|(?<![\w.])(eval|exec)\(|yaml\.(unsafe_)?load\("
    )

    for path in Path(graphnode.__file__).parent.rglob("*.py"):
        assert not running.search(path.read_text(encoding="utf-8")), path
