"""Notifications: one per event, each push claimed and settled once; and the devices of users."""

from __future__ import annotations

import json
import select
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import psycopg2
import pytest
from ulid import ULID

from graphnode.rules.pushes import PushOutcome, PushStatus
from graphnode.storage import notifications
from graphnode.storage.database import user_transaction
from graphnode.storage.notifications import CHANNEL, Device, DeviceTokenRecord, NotificationRecord
from tests.integration.conftest import PATIENCE_S, Query

pytestmark = pytest.mark.usefixtures("storage")


def write(**changes: Any) -> str | None:
    notification: dict[str, Any] = {
        "user_id": "ada",
        "type": "GRAPH_GENERATION_COMPLETED",
        "payload": {"taskId": "t1", "nodeCount": 12},
        "event": "t1:GRAPH_GENERATION_COMPLETED",
        "push": True,
    }
    return notifications.write(**notification | changes)


def stored(notification_id: str) -> NotificationRecord:
    return NotificationRecord.get_by_id(notification_id)


@pytest.fixture
def phone(storage: None) -> None:
    DeviceTokenRecord.create(token="adas-phone", user_id="ada", last_seen_at=datetime.now(UTC))


@pytest.fixture
def written() -> str:
    notification_id = write()
    assert notification_id
    return notification_id


def write_and_fail() -> None:
    with user_transaction("ada"):
        write()
        raise ZeroDivisionError


@pytest.mark.usefixtures("phone")
class TestWrite:
    def test_stores_what_is_to_be_pushed(self, written: str) -> None:
        row = stored(written)
        assert (row.user_id, row.type) == ("ada", "GRAPH_GENERATION_COMPLETED")
        assert row.payload == {"taskId": "t1", "nodeCount": 12, "timestamp": row.created_at.isoformat()}
        assert (row.push_status, row.push_attempts, row.push_error, row.pushed_at) == ("PENDING", 0, None, None)

    def test_nothing_is_pushed_to_a_user_without_a_device(self) -> None:
        row = stored(write(user_id="grace", event="g1") or "")
        assert (row.push_status, row.push_error, row.due_at) == ("SKIPPED", "the user has no device", None)

    def test_the_ids_sort_as_they_were_written_whenever_it_happened(self) -> None:
        noon = datetime(2026, 5, 24, 12, tzinfo=UTC)
        moments = [None, noon, None, noon]
        ids = [write(event=str(number), created_at=moment) for number, moment in enumerate(moments)]

        assert None not in ids
        assert sorted(ids, key=str) == ids
        assert stored(ids[1] or "").created_at == noon
        assert ULID.from_str(ids[1] or "").datetime > noon

    def test_its_payload_says_when_it_happened_in_utc(self) -> None:
        in_seoul = datetime(2026, 5, 24, 21, 2, 8, 793892, tzinfo=timezone(timedelta(hours=9)))

        row = stored(write(created_at=in_seoul) or "")

        assert row.payload["timestamp"] == "2026-05-24T12:02:08.793892+00:00"
        assert row.created_at == in_seoul

    def test_what_is_stored_only_is_never_pushed(self) -> None:
        notification_id = write(push=False)

        assert notification_id
        assert (stored(notification_id).push_status, stored(notification_id).push_error) == ("SKIPPED", "stored only")
        assert notifications.claim_push(notification_id) is None

    def test_a_repeat_changes_nothing(self, written: str, query: Query) -> None:
        assert write(payload={"another": "payload"}) is None
        assert query("SELECT payload ->> 'taskId' FROM notifications") == [("t1",)]

    def test_goes_with_its_transaction(self, query: Query) -> None:
        with pytest.raises(ZeroDivisionError):
            write_and_fail()

        assert query("SELECT * FROM notifications") == []


@pytest.mark.usefixtures("phone")
class TestAnnounce:
    @pytest.fixture
    def heard(self, database_url: str) -> Iterator[Callable[[], list[str]]]:
        """Announcements since the last call. NOTIFY arrives in the order of commits: the listener's own is last."""
        with closing(psycopg2.connect(database_url)) as listener:
            listener.autocommit = True
            listener.cursor().execute(f"LISTEN {CHANNEL}")

            def listen() -> list[str]:
                listener.cursor().execute(f"NOTIFY {CHANNEL}, 'end'")
                while not listener.notifies or listener.notifies[-1].payload != "end":
                    assert select.select([listener], [], [], PATIENCE_S)[0]
                    listener.poll()
                heard = [notify.payload for notify in listener.notifies[:-1]]
                listener.notifies.clear()
                return heard

            yield listen

    def test_each_new_notification_is_announced_once_it_is_committed(self, heard: Callable[[], list[str]]) -> None:
        with user_transaction("ada"):
            first = write()
            write()
            stored_only = write(event="progress", push=False)
            assert heard() == []

        assert [json.loads(announced) for announced in heard()] == [
            {"userId": "ada", "notificationId": notification_id} for notification_id in (first, stored_only)
        ]

    def test_what_is_rolled_back_is_not_announced(self, heard: Callable[[], list[str]]) -> None:
        with pytest.raises(ZeroDivisionError):
            write_and_fail()

        assert heard() == []


#: Makes every notification older.
AGE = "UPDATE notifications SET due_at = due_at - %s, retry_at = retry_at - %s, claimed_at = claimed_at - %s"


def pass_time(query: Query, span: str) -> None:
    query(AGE.replace("%s", f"interval '{span}'"))


@pytest.mark.usefixtures("phone")
class TestSweep:
    def test_leaves_alone_what_was_just_put_on_the_queue(self, written: str, query: Query) -> None:
        assert notifications.claim_due(limit=10) == [written]
        assert notifications.claim_due(limit=10) == []
        pass_time(query, "5 minutes")
        assert notifications.claim_due(limit=10) == [written]

    def test_takes_what_was_claimed_and_never_settled(self, written: str, query: Query) -> None:
        notifications.claim_push(written)
        pass_time(query, "1 minute")
        assert notifications.claim_due(limit=10) == []
        pass_time(query, "30 seconds")
        assert notifications.claim_due(limit=10) == [written]
        assert notifications.claim_push(written)

    def test_takes_nothing_that_is_settled(self, written: str, query: Query) -> None:
        write(event="stored only", push=False)
        settle(written, PushOutcome(PushStatus.SENT))
        pass_time(query, "1 year")

        assert notifications.claim_due(limit=10) == []

    def test_takes_a_push_to_try_again_when_it_is_time(self, written: str, query: Query) -> None:
        settle(written, PushOutcome(PushStatus.PENDING, "FCM is busy", retry_in_s=600))
        pass_time(query, "9 minutes")
        assert notifications.claim_due(limit=10) == []
        pass_time(query, "1 minute")
        assert notifications.claim_due(limit=10) == [written]

    def test_takes_the_longest_due_first_up_to_its_limit(self, query: Query) -> None:
        ids = [write(event=str(number)) for number in range(3)]
        pass_time(query, "1 hour")
        query("UPDATE notifications SET due_at = due_at - interval '1 day' WHERE id = %s", ids[2])

        first = notifications.claim_due(limit=1)
        assert first == [ids[2]]
        assert sorted(notifications.claim_due(limit=10)) == ids[:2]

    def test_one_of_many_sweeps_at_once_takes_each_and_none_waits(self, query: Query) -> None:
        ids = {write(event=str(number)) for number in range(200)}
        pass_time(query, "1 hour")

        with ThreadPoolExecutor(4) as threads:
            taken = list(threads.map(lambda _: notifications.claim_due(limit=20), range(16)))

        assert sorted(one for some in taken for one in some) == sorted(map(str, ids))

    def test_does_not_wait_for_a_locked_notification(self, written: str, query: Query, database_url: str) -> None:
        other = write(event="other")
        pass_time(query, "1 hour")
        with closing(psycopg2.connect(database_url)) as worker:
            worker.cursor().execute("SELECT 1 FROM notifications WHERE id = %s FOR UPDATE", (written,))

            assert notifications.claim_due(limit=10) == [other]

    def test_what_is_postponed_is_not_due(self, written: str, query: Query) -> None:
        pass_time(query, "1 hour")
        notifications.postpone(written, seconds=60)
        assert notifications.claim_due(limit=10) == []
        assert notifications.claim_push(written)

    def test_what_is_settled_cannot_be_postponed(self, written: str) -> None:
        settle(written, PushOutcome(PushStatus.SENT))
        notifications.postpone(written, seconds=60)
        assert stored(written).due_at is None

    def test_a_row_of_a_worker_older_than_the_outbox_is_swept_until_it_is_settled(self, query: Query) -> None:
        insert = (
            "INSERT INTO notifications (id, user_id, type, payload, event, push_status)"
            " VALUES (%s, 'ada', 'GRAPH_GENERATION_FAILED', '{}', %s, %s)"
        )
        for status in ("PENDING", "SENT"):
            query(insert, f"01-{status}", status, status)
        pass_time(query, "1 minute")

        assert notifications.claim_due(limit=10) == ["01-PENDING"]
        assert stored("01-SENT").due_at is None

    def test_finds_what_is_due_by_its_index_among_many_delivered(self, query: Query) -> None:
        query(
            "INSERT INTO notifications (id, user_id, type, payload, event, push_status, due_at)"
            " SELECT n::text, 'ada', 'GRAPH_GENERATION_FAILED', '{}', n::text, 'SENT', NULL"
            " FROM generate_series(1, 20000) AS n"
        )
        query("UPDATE notifications SET push_status = 'PENDING', due_at = now() WHERE id IN ('7', '700')")
        query("ANALYZE notifications")

        plan = "\n".join(line for (line,) in query(f"EXPLAIN {notifications.CLAIM_DUE}", 300, 500))

        assert "Index Scan using notifications_due" in plan
        assert "Seq Scan on notifications" not in plan


def settle(notification_id: str, outcome: PushOutcome) -> bool:
    claimed = notifications.claim_push(notification_id)
    assert claimed
    return notifications.settle_push(claimed, outcome)


@pytest.mark.usefixtures("phone")
class TestPush:
    def test_a_claim_takes_the_notification(self, written: str) -> None:
        claimed = notifications.claim_push(written)

        assert claimed
        assert (claimed.id, claimed.user_id, claimed.payload["nodeCount"]) == (written, "ada", 12)
        assert (stored(written).push_status, stored(written).push_attempts) == ("SENDING", 1)

    def test_what_is_being_pushed_is_left_to_its_worker(self, written: str) -> None:
        notifications.claim_push(written)

        assert notifications.claim_push(written) is None
        assert stored(written).push_attempts == 1

    def test_a_push_whose_worker_has_ended_is_taken_over(self, written: str, query: Query) -> None:
        first = notifications.claim_push(written)
        pass_time(query, "2 minutes")

        second = notifications.claim_push(written)

        assert first
        assert second
        assert stored(written).push_attempts == 2
        assert not notifications.settle_push(first, PushOutcome(PushStatus.FAILED, "too late"))
        assert notifications.settle_push(second, PushOutcome(PushStatus.SENT))

    def test_a_claim_of_a_worker_older_than_the_outbox_is_respected(self, written: str, query: Query) -> None:
        claim = "UPDATE notifications SET push_status = 'SENDING', push_attempts = 1, claimed_at = now()"
        query(claim)
        assert notifications.claim_push(written) is None
        pass_time(query, "2 minutes")
        assert notifications.claim_push(written)

    def test_an_unknown_notification_is_not_taken(self) -> None:
        assert notifications.claim_push("01J00000000000000000000000") is None

    @pytest.mark.parametrize("status", [PushStatus.SENT, PushStatus.SKIPPED, PushStatus.FAILED])
    def test_a_settled_push_is_not_taken_again(self, written: str, status: PushStatus, query: Query) -> None:
        settle(written, PushOutcome(status, "why"))
        pass_time(query, "1 year")

        assert notifications.claim_push(written) is None
        row = stored(written)
        assert (row.push_status, row.push_error, row.due_at, row.retry_at) == (status, "why", None, None)
        assert (row.pushed_at is not None) == (status == PushStatus.SENT)

    def test_one_put_back_is_taken_again_when_it_is_time(self, written: str, query: Query) -> None:
        settle(written, PushOutcome(PushStatus.PENDING, "FCM is busy", retry_in_s=600))

        assert notifications.claim_push(written) is None
        pass_time(query, "10 minutes")
        assert notifications.claim_push(written)
        assert stored(written).push_attempts == 2

    def test_an_attempt_without_a_push_is_not_counted(self, written: str) -> None:
        settle(written, PushOutcome(PushStatus.PENDING, "no access", retry_in_s=30, is_attempt=False))

        assert stored(written).push_attempts == 0

    def test_devices_left_over_are_tried_again_and_the_push_stays_sent(self, written: str, query: Query) -> None:
        settle(written, PushOutcome(PushStatus.SENT, "1 device left", retry_in_s=600, remaining=["tablet"]))
        first_pushed_at = stored(written).pushed_at
        assert notifications.claim_push(written) is None
        pass_time(query, "10 minutes")

        assert notifications.claim_due(limit=10) == [written]
        claimed = notifications.claim_push(written)

        assert claimed
        assert (claimed.push_status, claimed.remaining_tokens, claimed.push_attempts) == ("SENT", ["tablet"], 2)
        assert notifications.claim_push(written) is None
        assert notifications.settle_push(claimed, PushOutcome(PushStatus.SENT))
        assert (stored(written).remaining_tokens, stored(written).due_at) == (None, None)
        assert stored(written).pushed_at == first_pushed_at

    def test_only_the_first_settlement_counts(self, written: str) -> None:
        claimed = notifications.claim_push(written)
        assert claimed
        assert notifications.settle_push(claimed, PushOutcome(PushStatus.SENT))
        assert not notifications.settle_push(claimed, PushOutcome(PushStatus.FAILED, "too late"))

        assert (stored(written).push_status, stored(written).push_error) == ("SENT", None)

    def test_of_many_claims_at_the_same_time_one_succeeds(self, written: str) -> None:
        with ThreadPoolExecutor(4) as threads:
            claims = list(threads.map(lambda _: notifications.claim_push(written), range(8)))

        assert len([claim for claim in claims if claim]) == 1
        assert stored(written).push_attempts == 1


class TestDevices:
    @pytest.fixture(autouse=True)
    def devices(self, storage: None) -> None:
        seen = [("old", "ada", 1), ("new", "ada", 3), ("other", "grace", 2)]
        for token, user_id, day in seen:
            moment = datetime(2026, 5, day, tzinfo=UTC)
            DeviceTokenRecord.create(token=token, user_id=user_id, platform="ios", last_seen_at=moment)

    def test_a_user_has_their_own_the_one_seen_last_first(self) -> None:
        assert [device.token for device in notifications.devices("ada")] == ["new", "old"]
        assert notifications.devices("nobody") == []

    def test_a_row_without_a_token_is_no_device(self, query: Query) -> None:
        query("INSERT INTO device_tokens (token, user_id) VALUES ('', 'ada')")

        assert [device.token for device in notifications.devices("ada")] == ["new", "old"]

    def test_those_that_are_gone_are_forgotten(self) -> None:
        old = Device("old", datetime(2026, 5, 1, tzinfo=UTC))
        notifications.remove_devices([old, Device("never seen", datetime(2026, 5, 1, tzinfo=UTC))])

        assert [device.token for device in notifications.devices("ada")] == ["new"]
        assert [device.token for device in notifications.devices("grace")] == ["other"]

    def test_one_that_has_been_seen_since_is_kept(self, query: Query) -> None:
        devices = notifications.devices("ada")
        query("UPDATE device_tokens SET last_seen_at = now() WHERE token = 'old'")

        notifications.remove_devices(devices)

        assert [device.token for device in notifications.devices("ada")] == ["old"]


@pytest.mark.usefixtures("phone")
def test_open_notifications_are_counted_by_status_with_the_age_of_the_oldest(written: str) -> None:
    write(event="t2:GRAPH_GENERATION_COMPLETED", created_at=datetime(2026, 1, 1, tzinfo=UTC))
    write(event="t3:stored only", push=False)
    settle(written, PushOutcome(PushStatus.SENT))
    age_before = (datetime.now(UTC) - datetime(2026, 1, 1, tzinfo=UTC)).total_seconds()

    found = notifications.open_pushes()

    assert found.by_status == {PushStatus.PENDING: 1, PushStatus.SENDING: 0, PushStatus.SENT: 0}
    assert found.oldest_age_s >= age_before
