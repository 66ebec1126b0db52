"""Notification rows: one an event, each push taken and settled once; and the users' devices."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeAlias

import pytest
from ulid import ULID

from graphnode.errors import BeingPushed
from graphnode.storage import notifications
from graphnode.storage.database import connection, user_transaction
from graphnode.storage.notifications import DeviceToken, Notification, PushStatus

Query: TypeAlias = Callable[..., list[tuple[Any, ...]]]

pytestmark = pytest.mark.usefixtures("storage")


def write(**changes: Any) -> str | None:
    notification: dict[str, Any] = {
        "user_id": "ada",
        "type": "GRAPH_GENERATION_COMPLETED",
        "payload": {"taskId": "t1", "nodeCount": 12},
        "event": "t1:GRAPH_GENERATION_COMPLETED",
        "push": True,
    }
    with connection():
        return notifications.write(**notification | changes)


def stored(notification_id: str) -> Notification:
    with connection():
        return Notification.get_by_id(notification_id)


@pytest.fixture
def written() -> str:
    notification_id = write()
    assert notification_id
    return notification_id


class TestWrite:
    def test_stores_what_is_to_be_pushed(self, written: str) -> None:
        row = stored(written)
        assert (row.user_id, row.type) == ("ada", "GRAPH_GENERATION_COMPLETED")
        assert row.payload == {"taskId": "t1", "nodeCount": 12}
        assert (row.push_status, row.push_attempts, row.push_error, row.pushed_at) == ("PENDING", 0, None, None)

    def test_the_id_sorts_by_the_time_it_happened(self) -> None:
        noon = datetime(2026, 5, 24, 12, tzinfo=UTC)
        notification_id = write(created_at=noon)

        assert notification_id
        assert ULID.from_str(notification_id).datetime == noon
        assert stored(notification_id).created_at == noon

    def test_what_is_stored_only_is_never_pushed(self) -> None:
        notification_id = write(push=False)

        assert notification_id
        assert (stored(notification_id).push_status, stored(notification_id).push_error) == ("SKIPPED", "stored only")
        assert notifications.claim_push(notification_id) is None

    def test_a_repeat_names_the_row_while_nobody_has_taken_it(self, written: str) -> None:
        assert write(payload={"another": "payload"}) == written
        assert stored(written).payload["taskId"] == "t1"

    def test_a_repeat_changes_nothing_once_somebody_has_taken_it(self, written: str, query: Query) -> None:
        notifications.claim_push(written)

        assert write() is None
        assert query("SELECT count(*) FROM notifications") == [(1,)]

    def test_goes_with_its_transaction(self, query: Query) -> None:
        def write_and_fail() -> None:
            with user_transaction("ada"):
                write()
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            write_and_fail()

        assert query("SELECT * FROM notifications") == []


class TestPending:
    def test_names_what_nobody_has_taken_oldest_first(self) -> None:
        newer = write(event="newer", created_at=datetime(2026, 5, 25, tzinfo=UTC))
        older = write(event="older", created_at=datetime(2026, 5, 24, tzinfo=UTC))
        taken = write(event="taken")
        write(event="stored only", push=False)
        write(event="someone else's", user_id="grace")
        assert taken
        notifications.claim_push(taken)

        assert notifications.pending("ada") == [older, newer]


class TestPush:
    def test_a_claim_takes_the_notification(self, written: str) -> None:
        claimed = notifications.claim_push(written)

        assert claimed
        assert (claimed.id, claimed.user_id, claimed.payload["nodeCount"]) == (written, "ada", 12)
        assert (stored(written).push_status, stored(written).push_attempts) == ("SENDING", 1)

    def test_what_is_being_pushed_is_left_to_its_worker(self, written: str) -> None:
        notifications.claim_push(written)

        with pytest.raises(BeingPushed):
            notifications.claim_push(written)
        assert stored(written).push_attempts == 1

    def test_a_push_whose_worker_has_ended_is_taken_over(self, written: str, query: Query) -> None:
        notifications.claim_push(written)
        query("UPDATE notifications SET claimed_at = claimed_at - interval '2 minutes'")

        assert notifications.claim_push(written)
        assert stored(written).push_attempts == 2

    def test_an_unknown_notification_is_not_taken(self) -> None:
        assert notifications.claim_push("01J00000000000000000000000") is None

    @pytest.mark.parametrize("status", [PushStatus.SENT, PushStatus.SKIPPED, PushStatus.FAILED])
    def test_a_settled_push_is_not_taken_again(self, written: str, status: PushStatus) -> None:
        notifications.claim_push(written)
        notifications.settle_push(written, status=status, error="why")

        assert notifications.claim_push(written) is None
        assert (stored(written).push_status, stored(written).push_error) == (status, "why")
        assert (stored(written).pushed_at is not None) == (status == PushStatus.SENT)

    def test_one_put_back_is_taken_again(self, written: str) -> None:
        notifications.claim_push(written)
        notifications.settle_push(written, status=PushStatus.PENDING, error="FCM is busy")

        assert notifications.pending("ada") == [written]
        assert notifications.claim_push(written)

    def test_the_first_to_settle_has_the_word(self, written: str) -> None:
        notifications.claim_push(written)
        notifications.settle_push(written, status=PushStatus.SENT)
        notifications.settle_push(written, status=PushStatus.FAILED, error="too late")

        assert (stored(written).push_status, stored(written).push_error) == ("SENT", None)

    def test_of_many_claims_at_the_same_time_one_succeeds(self, written: str) -> None:
        def claim(_: int) -> bool:
            try:
                return notifications.claim_push(written) is not None
            except BeingPushed:
                return False

        with ThreadPoolExecutor(4) as threads:
            claims = list(threads.map(claim, range(8)))

        assert claims.count(True) == 1
        assert stored(written).push_attempts == 1


class TestDevices:
    @pytest.fixture(autouse=True)
    def devices(self, storage: None) -> None:
        seen = [("old", "ada", 1), ("new", "ada", 3), ("other", "grace", 2)]
        with connection():
            for token, user_id, day in seen:
                moment = datetime(2026, 5, day, tzinfo=UTC)
                DeviceToken.create(token=token, user_id=user_id, platform="ios", last_seen_at=moment)

    def test_a_user_has_the_tokens_of_their_devices(self) -> None:
        assert notifications.device_tokens("ada") == ["new", "old"]
        assert notifications.device_tokens("nobody") == []

    def test_dead_tokens_are_forgotten(self) -> None:
        notifications.remove_tokens(["old", "never seen"])
        notifications.remove_tokens([])

        assert notifications.device_tokens("ada") == ["new"]
        assert notifications.device_tokens("grace") == ["other"]
