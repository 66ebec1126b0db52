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
from graphnode.storage.notifications import CHANNEL, ClaimedPush, Device, DeviceTokenRecord, NotificationRecord
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


def claim(notification_id: str) -> ClaimedPush | None:
    """The claim of a notification by its ID, if it can be claimed."""
    return next(iter(notifications.claim_pushes([notification_id], limit=1)), None)


def claim_due(limit: int = 10) -> list[str]:
    """The IDs of those that were due and are claimed now, the longest due first."""
    return [claimed.id for claimed in notifications.claim_pushes(limit=limit)]


def settle(claimed: ClaimedPush | None, outcome: PushOutcome) -> bool:
    """Settle a claim; whether it was not lost."""
    assert claimed
    return claimed.id in notifications.settle_pushes([(claimed, outcome)])


def write_and_fail() -> None:
    with user_transaction("ada"):
        write()
        raise ZeroDivisionError


def tokens(claimed: ClaimedPush | None) -> list[str]:
    assert claimed
    return [device.token for device in claimed.devices]


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
        assert claim(notification_id) is None

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
class TestDue:
    def test_what_is_committed_is_due_at_once_and_claimed_once(self, written: str, query: Query) -> None:
        assert claim_due() == [written]
        assert claim_due() == []

    def test_a_push_that_was_claimed_and_never_settled_is_due_after_its_lease(self, written: str, query: Query) -> None:
        claim(written)
        pass_time(query, "89 seconds")
        assert claim_due() == []
        pass_time(query, "1 second")
        assert claim_due() == [written]

    def test_what_is_settled_is_not_due(self, written: str, query: Query) -> None:
        write(event="stored only", push=False)
        settle(claim(written), PushOutcome(PushStatus.SENT))
        pass_time(query, "1 year")

        assert claim_due() == []

    def test_a_push_to_try_again_is_due_when_it_is_time(self, written: str, query: Query) -> None:
        settle(claim(written), PushOutcome(PushStatus.PENDING, "FCM is busy", retry_in_s=600))
        pass_time(query, "9 minutes")
        assert claim_due() == []
        pass_time(query, "1 minute")
        assert claim_due() == [written]

    def test_the_longest_due_are_claimed_first(self, query: Query) -> None:
        ids = [write(event=str(number)) for number in range(3)]
        query("UPDATE notifications SET due_at = due_at - interval '1 day' WHERE id = %s", ids[2])

        assert claim_due(1) == [ids[2]]
        assert sorted(claim_due()) == ids[:2]

    def test_of_many_that_claim_at_once_one_gets_each_and_none_waits(self, query: Query) -> None:
        ids = {write(event=str(number)) for number in range(200)}

        with ThreadPoolExecutor(4) as threads:
            taken = list(threads.map(lambda _: claim_due(20), range(16)))

        assert sorted(one for some in taken for one in some) == sorted(map(str, ids))

    def test_a_locked_notification_is_not_waited_for(self, written: str, database_url: str) -> None:
        other = write(event="other")
        with closing(psycopg2.connect(database_url)) as worker:
            worker.cursor().execute("SELECT 1 FROM notifications WHERE id = %s FOR UPDATE", (written,))

            assert claim_due() == [other]

    def test_what_a_worker_of_the_previous_release_has_put_on_its_queue_is_claimed_by_its_id(
        self, written: str, query: Query
    ) -> None:
        query("UPDATE notifications SET due_at = now() + interval '5 minutes'")

        assert claim_due() == []
        assert claim(written)

    def test_finds_what_is_due_by_its_index_among_many_delivered(self, query: Query) -> None:
        query(
            "INSERT INTO notifications (id, user_id, type, payload, event, push_status, due_at)"
            " SELECT n::text, 'ada', 'GRAPH_GENERATION_FAILED', '{}', n::text, 'SENT', NULL"
            " FROM generate_series(1, 20000) AS n"
        )
        query("UPDATE notifications SET push_status = 'PENDING', due_at = now() WHERE id IN ('7', '700')")
        query("ANALYZE notifications")

        plan = "\n".join(line for (line,) in query(f"EXPLAIN {notifications.CLAIM_DUE}", 500, 90, 90))

        assert "Index Scan using notifications_due" in plan
        assert "Seq Scan on notifications" not in plan


@pytest.mark.usefixtures("phone")
class TestPush:
    def test_a_claim_takes_the_notification(self, written: str) -> None:
        claimed = claim(written)

        assert claimed
        assert (claimed.id, claimed.user_id, claimed.payload["nodeCount"]) == (written, "ada", 12)
        assert (stored(written).push_status, stored(written).push_attempts) == ("SENDING", 1)

    def test_what_is_being_pushed_is_left_to_its_worker(self, written: str) -> None:
        claim(written)

        assert claim(written) is None
        assert stored(written).push_attempts == 1

    def test_a_push_whose_worker_has_ended_is_taken_over(self, written: str, query: Query) -> None:
        first = claim(written)
        pass_time(query, "2 minutes")

        second = claim(written)

        assert stored(written).push_attempts == 2
        assert not settle(first, PushOutcome(PushStatus.FAILED, "too late"))
        assert settle(second, PushOutcome(PushStatus.SENT))

    def test_an_unknown_notification_is_not_taken(self) -> None:
        assert claim("01J00000000000000000000000") is None

    @pytest.mark.parametrize("status", [PushStatus.SENT, PushStatus.SKIPPED, PushStatus.FAILED])
    def test_a_settled_push_is_not_taken_again(self, written: str, status: PushStatus, query: Query) -> None:
        settle(claim(written), PushOutcome(status, "why"))
        pass_time(query, "1 year")

        assert claim(written) is None
        row = stored(written)
        assert (row.push_status, row.push_error, row.due_at, row.retry_at) == (status, "why", None, None)
        assert (row.pushed_at is not None) == (status == PushStatus.SENT)

    def test_one_put_back_is_taken_again_when_it_is_time(self, written: str, query: Query) -> None:
        settle(claim(written), PushOutcome(PushStatus.PENDING, "FCM is busy", retry_in_s=600))

        assert claim(written) is None
        pass_time(query, "10 minutes")
        assert claim(written)
        assert stored(written).push_attempts == 2

    def test_an_attempt_without_a_push_is_not_counted(self, written: str) -> None:
        settle(claim(written), PushOutcome(PushStatus.PENDING, "no access", retry_in_s=30, is_attempt=False))

        assert stored(written).push_attempts == 0

    def test_devices_left_over_are_tried_again_and_the_push_stays_sent(self, written: str, query: Query) -> None:
        settle(claim(written), PushOutcome(PushStatus.SENT, "1 device left", retry_in_s=600, remaining=["tablet"]))
        first_pushed_at = stored(written).pushed_at
        assert claim(written) is None
        pass_time(query, "10 minutes")

        (claimed,) = notifications.claim_pushes(limit=10)

        assert (stored(written).push_status, claimed.remaining_tokens, claimed.push_attempts) == ("SENT", ["tablet"], 2)
        assert claim(written) is None
        assert settle(claimed, PushOutcome(PushStatus.SENT))
        assert (stored(written).remaining_tokens, stored(written).due_at) == (None, None)
        assert stored(written).pushed_at == first_pushed_at

    def test_an_error_that_postgresql_cannot_store_keeps_no_other_outcome_from_being_stored(self, written: str) -> None:
        claimed = [claim(written), claim(write(event="other") or "")]
        errors = ["half \ud800 a character, and \x00", "why"]

        stored_ids = notifications.settle_pushes(
            [(each, PushOutcome(PushStatus.FAILED, error)) for each, error in zip(claimed, errors, strict=True) if each]
        )

        assert len(stored_ids) == 2
        assert stored(written).push_error == "half ? a character, and "

    def test_only_the_first_settlement_counts(self, written: str) -> None:
        claimed = claim(written)
        assert settle(claimed, PushOutcome(PushStatus.SENT))
        assert not settle(claimed, PushOutcome(PushStatus.FAILED, "too late"))

        assert (stored(written).push_status, stored(written).push_error) == ("SENT", None)

    def test_of_many_claims_at_the_same_time_one_succeeds(self, written: str) -> None:
        with ThreadPoolExecutor(4) as threads:
            claims = list(threads.map(lambda _: claim(written), range(8)))

        assert len([claim for claim in claims if claim]) == 1
        assert stored(written).push_attempts == 1


class TestDevices:
    @pytest.fixture(autouse=True)
    def devices(self, storage: None) -> None:
        seen = [("old", "ada", 1), ("new", "ada", 3), ("other", "grace", 2)]
        for token, user_id, day in seen:
            moment = datetime(2026, 5, day, tzinfo=UTC)
            DeviceTokenRecord.create(token=token, user_id=user_id, platform="ios", last_seen_at=moment)

    def test_a_claim_has_those_of_its_user_the_one_seen_last_first(self, written: str, query: Query) -> None:
        write(user_id="grace", event="other")
        query("DELETE FROM device_tokens WHERE user_id = 'grace'")

        claimed = {each.user_id: each.devices for each in notifications.claim_pushes(limit=10)}

        assert [device.token for device in claimed["ada"]] == ["new", "old"]
        assert claimed["grace"] == []

    def test_a_row_without_a_token_is_no_device(self, written: str, query: Query) -> None:
        query("INSERT INTO device_tokens (token, user_id) VALUES ('', 'ada')")

        assert tokens(claim(written)) == ["new", "old"]

    def test_those_that_are_gone_are_forgotten(self, query: Query) -> None:
        notifications.remove_devices([Device("old", "2026-05-01T00:00:00Z"), Device("never seen", "2026-05-01T00:00Z")])

        assert query("SELECT token FROM device_tokens ORDER BY token") == [("new",), ("other",)]

    def test_one_that_has_been_seen_since_is_kept(self, written: str, query: Query) -> None:
        claimed = claim(written)
        assert claimed
        query("UPDATE device_tokens SET last_seen_at = now() WHERE token = 'old'")

        notifications.remove_devices(claimed.devices)

        assert query("SELECT token FROM device_tokens ORDER BY token") == [("old",), ("other",)]


@pytest.mark.usefixtures("phone")
def test_open_notifications_are_counted_by_status_with_the_age_of_the_oldest(written: str) -> None:
    write(event="t2:GRAPH_GENERATION_COMPLETED", created_at=datetime(2026, 1, 1, tzinfo=UTC))
    write(event="t3:stored only", push=False)
    settle(claim(written), PushOutcome(PushStatus.SENT))
    age_before = (datetime.now(UTC) - datetime(2026, 1, 1, tzinfo=UTC)).total_seconds()

    found = notifications.open_pushes()

    assert found.by_status == {PushStatus.PENDING: 1, PushStatus.SENDING: 0, PushStatus.SENT: 0}
    assert found.oldest_age_s >= age_before
