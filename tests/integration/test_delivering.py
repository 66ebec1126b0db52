"""A stored notification on its way to its user's devices: PostgreSQL, firebase-admin and a local FCM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import firebase_admin
import pytest

from benchmarks import fcm_stub
from benchmarks.fcm_stub import Answer, FcmServer
from graphnode.actors import broker
from graphnode.clients import fcm as fcm_client
from graphnode.storage import notifications
from graphnode.worker.outbox import Pushes
from tests.conftest import use_settings
from tests.integration.conftest import Query

ENVIRONMENT = {
    "DATABASE_URL": "postgresql://the.test/has-opened-it",
    "AWS_REGION": "eu-central-1",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "SQS_RESULT_QUEUE_URL": "http://127.0.0.1:9/000000000000/results",
    "S3_PAYLOAD_BUCKET": "bucket",
}


@contextmanager
def local_fcm(monkeypatch: pytest.MonkeyPatch) -> Iterator[FcmServer]:
    """A local FCM, which this process's settings lead to."""
    with FcmServer() as server:
        for name, value in {**ENVIRONMENT, **server.environment}.items():
            monkeypatch.setenv(name, value)
        use_settings(None, monkeypatch)
        fcm_client.firebase.cache_clear()
        yield server
        fcm_client.firebase.cache_clear()
        if "graphnode" in firebase_admin._apps:
            firebase_admin.delete_app(firebase_admin.get_app("graphnode"))


@pytest.fixture
def fcm(storage: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[FcmServer]:
    with local_fcm(monkeypatch) as server:
        yield server


def write(event: str = "t1:GRAPH_GENERATION_COMPLETED") -> str:
    written = notifications.write(
        user_id="ada",
        type="GRAPH_GENERATION_COMPLETED",
        payload={"taskId": "t1", "nodeCount": 12},
        event=event,
        push=True,
    )
    assert written
    return written


@pytest.fixture
def written(fcm: FcmServer) -> str:
    return write()


@pytest.fixture(autouse=True)
def devices(storage: None, query: Query) -> None:
    for token in ("phone", "tablet"):
        query("INSERT INTO device_tokens (token, user_id) VALUES (%s, 'ada')", token)


def push() -> None:
    """Push what is due, as a process does that starts, and wait for the outcomes."""
    pushes = Pushes(interval_s=3600)
    pushes.turn(broker)
    while not pushes.is_idle:
        if pushes.wait(broker):
            pushes.turn(broker)


def row(query: Query, columns: str = "push_status, push_attempts, push_error") -> tuple[Any, ...]:
    (found,) = query(f"SELECT {columns} FROM notifications")  # noqa: S608
    return found


def pass_time(query: Query, span: str) -> None:
    query(f"UPDATE notifications SET due_at = due_at - interval '{span}', retry_at = retry_at - interval '{span}'")  # noqa: S608


def test_a_push_goes_to_all_devices_once(fcm: FcmServer, written: str, query: Query) -> None:
    for _ in range(3):
        push()

    assert row(query) == ("SENT", 1, None)
    assert row(query, "pushed_at IS NOT NULL, due_at, retry_at") == (True, None, None)
    assert sorted(message["token"] for message in fcm.messages) == ["phone", "tablet"]
    (message, _) = fcm.messages
    assert message["notification"] == {"title": "Graph Ready", "body": "Your knowledge graph (12 nodes) is ready!"}
    assert message["data"] == {
        "type": "GRAPH_GENERATION_COMPLETED",
        "taskId": "t1",
        "nodeCount": "12",
        "timestamp": query("SELECT payload ->> 'timestamp' FROM notifications")[0][0],
        "notificationId": written,
    }
    assert message["android"]["notification"]["tag"] == written
    assert 86_000 < int(message["android"]["ttl"].rstrip("s")) <= 86_400


def test_without_a_device_there_is_no_push(fcm: FcmServer, written: str, query: Query) -> None:
    query("DELETE FROM device_tokens")

    push()

    assert row(query) == ("SKIPPED", 1, "the user has no device")


def test_without_credentials_there_is_no_push(
    fcm: FcmServer, written: str, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIREBASE_CREDENTIALS_JSON", "")
    use_settings(None, monkeypatch)

    push()

    assert row(query) == ("SKIPPED", 1, "no Firebase credentials")


@pytest.mark.parametrize(
    "answer",
    [
        fcm_stub.UNAVAILABLE,
        fcm_stub.INTERNAL,
        fcm_stub.QUOTA,
        fcm_stub.DROPPED,
        fcm_stub.APNS_KEY,
        fcm_stub.NOT_FOUND,
        fcm_stub.PAGE,
    ],
)
def test_what_fcm_does_not_take_now_is_pushed_later(fcm: FcmServer, written: str, query: Query, answer: Answer) -> None:
    fcm.by_token = {"phone": answer, "tablet": answer}
    push()
    status, attempts, error = row(query)
    assert (status, attempts) == ("PENDING", 1)
    assert error

    fcm.by_token.clear()
    push()
    assert row(query)[0] == "PENDING"
    pass_time(query, "1 hour")
    push()

    assert row(query) == ("SENT", 2, None)
    assert fcm.times_taken() == {written: 2}


def test_the_time_that_fcm_asks_for_is_kept(fcm: FcmServer, written: str, query: Query) -> None:
    busy = Answer(429, "QUOTA_EXCEEDED", "RESOURCE_EXHAUSTED", retry_after="600")
    fcm.by_token = {"phone": busy, "tablet": busy}

    push()

    pass_time(query, "590 seconds")
    assert notifications.claim_pushes(limit=10) == []
    pass_time(query, "10 seconds")
    assert [claimed.id for claimed in notifications.claim_pushes(limit=10)] == [written]


def test_only_the_devices_not_reached_are_tried_again(fcm: FcmServer, written: str, query: Query) -> None:
    fcm.by_token = {"tablet": fcm_stub.UNAVAILABLE}
    push()
    assert row(query, "push_status, remaining_tokens") == ("SENT", ["tablet"])

    pass_time(query, "1 hour")
    push()
    assert row(query, "push_status, remaining_tokens") == ("SENT", ["tablet"])

    fcm.by_token.clear()
    pass_time(query, "1 hour")
    push()

    assert row(query, "push_status, push_error, remaining_tokens, due_at") == ("SENT", None, None, None)
    assert [message["token"] for message in fcm.messages] == ["phone", "tablet"]


def test_a_device_that_has_become_someone_elses_is_not_tried_again(fcm: FcmServer, written: str, query: Query) -> None:
    fcm.by_token = {"tablet": fcm_stub.UNAVAILABLE}
    push()
    fcm.by_token.clear()
    query("UPDATE device_tokens SET user_id = 'grace' WHERE token = 'tablet'")

    pass_time(query, "1 hour")
    push()

    assert row(query, "push_status, remaining_tokens, due_at") == ("SENT", None, None)
    assert [message["token"] for message in fcm.messages] == ["phone"]


def test_devices_that_are_gone_are_forgotten_and_when_all_are_the_push_has_failed(
    fcm: FcmServer, written: str, query: Query
) -> None:
    fcm.by_token = {"phone": fcm_stub.UNREGISTERED, "tablet": fcm_stub.INVALID_TOKEN}

    push()

    assert row(query) == ("FAILED", 1, "none of the user's devices exists any more")
    assert query("SELECT token FROM device_tokens") == []


def test_a_device_that_registered_again_meanwhile_is_kept(fcm: FcmServer, written: str, query: Query) -> None:
    def gone_but_back(message: dict[str, Any]) -> Answer:
        query("UPDATE device_tokens SET last_seen_at = now() WHERE token = 'phone'")
        return fcm_stub.UNREGISTERED if message["token"] == "phone" else fcm_stub.TAKEN

    fcm.answer = gone_but_back

    push()

    assert sorted(query("SELECT token FROM device_tokens")) == [("phone",), ("tablet",)]


def test_a_refusal_is_final_and_its_reason_is_kept(fcm: FcmServer, written: str, query: Query) -> None:
    fcm.by_token = {"phone": fcm_stub.INVALID_MESSAGE, "tablet": fcm_stub.INVALID_MESSAGE}

    push()

    status, _, error = row(query)
    assert status == "FAILED"
    assert "INVALID_ARGUMENT" in error
    assert query("SELECT count(*) FROM device_tokens") == [(2,)]


def test_while_pushes_pause_rows_are_kept_and_fcm_is_left_alone(fcm: FcmServer, query: Query, written: str) -> None:
    fcm.by_token = {"phone": fcm_stub.DENIED, "tablet": fcm_stub.DENIED}
    push()
    assert row(query)[:2] == ("PENDING", 0)
    calls = fcm.calls
    pass_time(query, "1 hour")

    push()

    assert fcm.calls == calls
    assert row(query)[:2] == ("PENDING", 0)
    fcm.by_token.clear()
    fcm_client.firebase().pause.end()
    push()
    assert row(query) == ("SENT", 1, None)


def test_stale_news_is_skipped(fcm: FcmServer, written: str, query: Query) -> None:
    query("UPDATE notifications SET created_at = created_at - interval '25 hours'")

    push()

    reason = "older than 24 h (GRAPHNODE_PUSH_MAX_AGE) when it could first be pushed"
    assert row(query, "push_status, push_error, due_at") == ("SKIPPED", reason, None)
    assert fcm.calls == 0


def test_what_fcm_has_not_taken_until_it_is_stale_has_failed_with_the_last_reason(
    fcm: FcmServer, written: str, query: Query
) -> None:
    fcm.by_token = {"phone": fcm_stub.UNAVAILABLE, "tablet": fcm_stub.UNAVAILABLE}
    push()
    query("UPDATE notifications SET created_at = created_at - interval '25 hours'")
    pass_time(query, "25 hours")

    push()

    status, _, error = row(query)
    assert status == "FAILED"
    assert error == "given up after 24 h (GRAPHNODE_PUSH_MAX_AGE): UNAVAILABLE: UNAVAILABLE of the stub"


def test_a_push_that_took_longer_than_its_claim_leaves_the_row_to_who_has_it(
    fcm: FcmServer, written: str, query: Query
) -> None:
    query("DELETE FROM device_tokens WHERE token = 'tablet'")

    def claim_meanwhile(_: dict[str, Any]) -> Answer:
        query("UPDATE notifications SET retry_at = now()")
        assert notifications.claim_pushes([written], limit=1)
        return fcm_stub.INVALID_MESSAGE

    fcm.answer = claim_meanwhile

    push()

    assert row(query) == ("SENDING", 2, None)
