"""Each notification is sent once, also after kills and while FCM is away; results never wait for FCM."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks import fcm_stub
from benchmarks.fcm_stub import Answer, FcmServer
from graphnode.dev import outcomes
from tests.e2e.ai_server import PATIENCE_S, AiServer, found
from tests.e2e.conftest import StartWorker
from tests.e2e.doomed_actors import AFTER_CLAIM, BEFORE_COMMIT, BEFORE_SENT, BEFORE_WAKE, POINTS

RESULTS = 200

#: Makes all notifications due, and ends their claims, as if five minutes had passed.
PASS_TIME = (
    "UPDATE notifications SET due_at = due_at - interval '5 minutes', retry_at = retry_at - interval '5 minutes',"
    " claimed_at = claimed_at - interval '5 minutes'"
)


@pytest.fixture
def fcm() -> Iterator[FcmServer]:
    """A local FCM."""
    with FcmServer() as server:
        yield server


def fail_graphs(ai: AiServer, users: list[str]) -> None:
    """Give each user a device and a FAILED result: the cheapest result with a push."""
    for user in users:
        ai.execute("INSERT INTO device_tokens (token, user_id) VALUES (%s, %s)", f"phone of {user}", user)
    for user in users:
        payload = {"userId": user, "status": "FAILED"}
        ai.send_envelope("GRAPH_GENERATION_RESULT", f"task of {user}", payload)


def wait_until_all_are_sent(ai: AiServer, count: int) -> None:
    query = "SELECT 1 FROM notifications HAVING count(*) FILTER (WHERE push_status = 'SENT' AND due_at IS NULL) = "
    ai.wait_until(f"{query} {count}")


def test_a_kill_at_any_point_loses_no_notification_and_repeats_at_most_what_fcm_had_accepted(
    ai: AiServer, start_worker: StartWorker, fcm: FcmServer, tmp_path: Path
) -> None:
    def start_doomed(_: int) -> Any:
        return start_worker(
            threads=1,
            actors="tests.e2e.doomed_actors",
            DOOMED_MARKS=str(tmp_path),
            GRAPHNODE_VISIBILITY_TIMEOUT="4",
            **fcm.environment,
        )

    with ThreadPoolExecutor() as threads:
        doomed = list(threads.map(start_doomed, POINTS))
    fail_graphs(ai, list(POINTS))
    for worker in doomed:
        ai.wait_until_ended(worker)
    assert {mark.name for mark in tmp_path.iterdir()} == set(POINTS)

    ai.execute(PASS_TIME)
    start_worker(GRAPHNODE_SWEEP_INTERVAL="0.2", **fcm.environment)

    wait_until_all_are_sent(ai, len(POINTS))
    owners = dict(ai.rows("SELECT id, user_id FROM notifications"))
    assert {owners[one]: times for one, times in fcm.times_taken().items()} == {
        BEFORE_COMMIT: 1,
        BEFORE_WAKE: 1,
        AFTER_CLAIM: 1,
        # FCM has no idempotency key. Both pushes have the same tag, so that the phone shows one.
        BEFORE_SENT: 2,
    }
    tags = [message["android"]["notification"]["tag"] for message in fcm.messages]
    assert sorted(set(tags)) == sorted(owners)


def test_while_fcm_is_away_no_notification_is_lost_and_afterwards_each_is_sent_once(
    ai: AiServer, start_worker: StartWorker, fcm: FcmServer
) -> None:
    is_away = threading.Event()
    is_away.set()
    fcm.answer = lambda _: fcm_stub.UNAVAILABLE if is_away.is_set() else fcm_stub.TAKEN
    start_worker(threads=8, GRAPHNODE_SWEEP_INTERVAL="0.2", **fcm.environment)

    fail_graphs(ai, [f"user-{number}" for number in range(RESULTS)])
    found(outcomes.wait_for(lambda: fcm.calls > RESULTS / 4 or None, timeout_s=PATIENCE_S), "FCM to be asked")
    is_away.clear()

    wait_until_all_are_sent(ai, RESULTS)
    assert fcm.times_taken() == {one: 1 for (one,) in ai.rows("SELECT id FROM notifications")}


def test_results_are_handled_while_every_push_hangs(ai: AiServer, start_worker: StartWorker, fcm: FcmServer) -> None:
    ended = threading.Event()

    def hang(_: dict[str, Any]) -> Answer:
        ended.wait(PATIENCE_S)
        return fcm_stub.UNAVAILABLE

    fcm.answer = hang
    try:
        start_worker(threads=4, **fcm.environment)
        fail_graphs(ai, [f"first-{number}" for number in range(10)])
        ai.wait_until("SELECT 1 FROM notifications WHERE push_status = 'SENDING' HAVING count(*) = 10")
        fail_graphs(ai, [f"user-{number}" for number in range(50)])

        ai.wait_until("SELECT 1 FROM tasks HAVING count(*) FILTER (WHERE status = 'FAILED') = 60")

        assert fcm.messages == []
        assert ai.rows("SELECT count(*) FROM notifications WHERE push_status = 'SENT'") == [(0,)]
    finally:
        ended.set()
