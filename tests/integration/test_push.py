"""Pushes by the real firebase-admin, to a local server that speaks FCM's API."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import firebase_admin
import pytest
from structlog.testing import capture_logs

from benchmarks import fcm_stub
from benchmarks.fcm_stub import Answer, FcmServer
from graphnode.clients import fcm as fcm_client
from graphnode.clients.fcm import Firebase, Push
from graphnode.contract.notifications import PushText
from graphnode.errors import SettingsError
from graphnode.rules.pushes import PushReport
from graphnode.settings import Settings

TEXT = PushText("Graph Ready", "Your knowledge graph (36 nodes) is ready!")
DATA = {"type": "GRAPH_GENERATION_COMPLETED", "taskId": "t-1", "nodeCount": "36", "notificationId": "01K"}
#: A service account whose key is none.
ACCOUNT = {
    "type": "service_account",
    "project_id": "local",
    "private_key": "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n",
    "client_email": "worker@local.iam.gserviceaccount.com",
    "token_uri": "https://oauth2.googleapis.com/token",
}

PUSH = Push("01K", TEXT, DATA, ttl_s=3600)


@pytest.fixture
def fcm() -> Iterator[FcmServer]:
    """A local FCM, which firebase-admin takes for the real one."""
    with FcmServer() as server:
        yield server


@pytest.fixture
def firebase(fcm: FcmServer) -> Iterator[Firebase]:
    """A connection to it, with the key of its service account."""
    yield Firebase(settings(firebase_credentials_json=fcm.credentials_json, fcm_endpoint=fcm.url))
    firebase_admin.delete_app(firebase_admin.get_app("graphnode"))


def settings(**changes: Any) -> Settings:
    return Settings(
        database_url="postgresql://db/x",
        aws_region="eu-central-1",
        sqs_result_queue_url="http://sqs/000000000000/results",
        s3_payload_bucket="bucket",
        **changes,
    )


def send(firebase: Firebase, tokens: list[str], push: Push) -> PushReport:
    """Send a push to a user's devices, all at once."""
    with ThreadPoolExecutor(len(tokens)) as threads:
        answers = threads.map(lambda token: firebase.send(token, push), tokens)
        return firebase.report(dict(zip(tokens, answers, strict=True)))


class TestMessage:
    def test_reaches_every_device_with_its_text_and_its_data(self, firebase: Firebase, fcm: FcmServer) -> None:
        report = send(firebase, ["phone", "tablet"], PUSH)

        assert (report.reached, report.gone, report.refused, report.later) == (2, [], {}, {})
        assert sorted(message["token"] for message in fcm.messages) == ["phone", "tablet"]
        assert fcm.messages[0]["notification"] == {"title": TEXT.title, "body": TEXT.body}
        assert fcm.messages[0]["data"] == DATA

    def test_arrives_in_the_background_and_a_repeat_takes_the_place_of_the_first(
        self, firebase: Firebase, fcm: FcmServer
    ) -> None:
        send(firebase, ["phone"], PUSH)

        (message,) = fcm.messages
        android = {"collapse_key": "01K", "priority": "high", "ttl": "3600s", "notification": {"tag": "01K"}}
        assert message["android"] == android
        headers = message["apns"]["headers"]
        expires = int(headers.pop("apns-expiration"))
        assert headers == {"apns-collapse-id": "01K", "apns-priority": "10", "apns-push-type": "alert"}
        assert abs(expires - time.time() - 3600) < 60
        assert message["apns"]["payload"]["aps"] == {"sound": "default", "content-available": 1}


class TestAnswers:
    @pytest.mark.parametrize("answer", [fcm_stub.UNREGISTERED, fcm_stub.INVALID_TOKEN])
    def test_a_device_that_is_none_any_more_is_gone(self, firebase: Firebase, fcm: FcmServer, answer: Answer) -> None:
        fcm.by_token["old"] = answer

        report = send(firebase, ["phone", "old"], PUSH)

        assert (report.reached, report.gone, report.later) == (1, ["old"], {})

    @pytest.mark.parametrize("answer", [fcm_stub.INVALID_MESSAGE, fcm_stub.SENDER_MISMATCH])
    def test_a_refusal_is_for_good_and_keeps_the_device(
        self, firebase: Firebase, fcm: FcmServer, answer: Answer
    ) -> None:
        fcm.by_token["phone"] = answer

        report = send(firebase, ["phone", "tablet"], PUSH)

        assert (report.reached, report.gone, report.later) == (1, [], {})
        assert answer.code in report.refused["phone"]

    def test_a_sender_mismatch_is_not_final_until_the_project_has_reached_a_device(
        self, firebase: Firebase, fcm: FcmServer
    ) -> None:
        fcm.by_token["phone"] = fcm_stub.SENDER_MISMATCH

        before = send(firebase, ["phone"], PUSH)
        send(firebase, ["tablet"], PUSH)
        after = send(firebase, ["phone"], PUSH)

        assert (list(before.later), before.refused) == (["phone"], {})
        assert (after.later, list(after.refused)) == ({}, ["phone"])

    @pytest.mark.parametrize(
        "answer",
        [
            fcm_stub.UNAVAILABLE,
            fcm_stub.INTERNAL,
            fcm_stub.DROPPED,
            fcm_stub.TAKEN_AND_DROPPED,
            fcm_stub.NOT_FOUND,
            fcm_stub.PAGE,
            Answer(502),
            *(replace(fcm_stub.PAGE, status=status) for status in (200, 400, 403, 418, 429, 503)),
        ],
    )
    def test_what_may_work_later_is_asked_once_and_not_for_good(
        self, firebase: Firebase, fcm: FcmServer, answer: Answer
    ) -> None:
        fcm.by_token["phone"] = answer

        report = send(firebase, ["phone"], PUSH)

        assert list(report.later) == ["phone"]
        assert (report.reached, report.gone, report.refused, report.outage) == (0, [], {}, None)
        # firebase-admin's own retries would wait in the thread, and could repeat a push that was taken.
        assert fcm.calls == 1

    def test_a_key_that_apple_does_not_accept_does_not_pause_pushes(self, firebase: Firebase, fcm: FcmServer) -> None:
        fcm.by_token["iphone"] = fcm_stub.APNS_KEY

        report = send(firebase, ["iphone", "android"], PUSH)

        assert (report.reached, list(report.later), report.outage) == (1, ["iphone"], None)

    def test_no_answer_in_time_is_tried_later(self, fcm: FcmServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fcm_client, "CALL_TIMEOUT_S", 1)
        fcm.by_token["phone"] = fcm_stub.after(fcm_stub.TAKEN, 3)
        firebase = Firebase(settings(firebase_credentials_json=fcm.credentials_json, fcm_endpoint=fcm.url))
        try:
            report = send(firebase, ["phone"], PUSH)
        finally:
            firebase_admin.delete_app(firebase_admin.get_app("graphnode"))

        assert "DEADLINE_EXCEEDED" in report.later["phone"]

    @pytest.mark.parametrize(
        ("answer", "least", "most"),
        [
            (Answer(503, "UNAVAILABLE", "UNAVAILABLE", retry_after="17"), 17, 17),
            (Answer(429, "QUOTA_EXCEEDED", "RESOURCE_EXHAUSTED", retry_after="120"), 120, 120),
            (fcm_stub.QUOTA, 60, 60),
            (fcm_stub.UNAVAILABLE, 0, 0),
            (
                # An hour from when the tests are collected: a long run may come to this one late.
                Answer(503, retry_after=format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)),
                600,
                3600,
            ),
        ],
    )
    def test_the_time_that_fcm_asks_for_is_told_and_not_waited_for(
        self, firebase: Firebase, fcm: FcmServer, answer: Answer, least: float, most: float
    ) -> None:
        fcm.by_token["phone"] = answer

        assert least <= send(firebase, ["phone"], PUSH).retry_after_s <= most

    def test_devices_are_told_apart(self, firebase: Firebase, fcm: FcmServer) -> None:
        fcm.by_token = {
            "gone": fcm_stub.UNREGISTERED,
            "busy": fcm_stub.UNAVAILABLE,
            "stranger": fcm_stub.SENDER_MISMATCH,
        }

        report = send(firebase, ["gone", "phone", "busy", "stranger"], PUSH)

        assert (report.reached, report.gone) == (1, ["gone"])
        assert (list(report.later), list(report.refused)) == (["busy"], ["stranger"])

    def test_what_only_an_operator_can_mend_is_told_once(self, firebase: Firebase, fcm: FcmServer) -> None:
        fcm.by_token = {"a": fcm_stub.SENDER_MISMATCH, "b": fcm_stub.SENDER_MISMATCH, "c": fcm_stub.APNS_KEY}

        with capture_logs() as lines:
            for _ in range(3):
                send(firebase, ["a", "b", "c"], PUSH)

        assert [line["code"] for line in lines] == ["SENDER_ID_MISMATCH", "THIRD_PARTY_AUTH_ERROR"]

    def test_an_unknown_answer_is_told_once_and_again_when_it_comes_back(
        self, firebase: Firebase, fcm: FcmServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fcm.by_token = {"a": fcm_stub.PAGE, "b": fcm_stub.PAGE, "c": fcm_stub.NOT_FOUND, "d": fcm_stub.UNAVAILABLE}

        with capture_logs() as lines:
            for _ in range(3):
                send(firebase, ["a", "b", "c", "d"], PUSH)

        assert [(line["log_level"], line["code"]) for line in lines] == [
            ("warning", "HTTP_404"),
            ("warning", "NOT_FOUND"),
        ]

        monkeypatch.setattr(fcm_client, "FORGOTTEN_AFTER_S", -1.0)
        with capture_logs() as lines:
            send(firebase, ["a"], PUSH)

        assert [line["code"] for line in lines] == ["HTTP_404"]


class TestPause:
    @pytest.mark.parametrize("answer", [fcm_stub.UNAUTHENTICATED, fcm_stub.DENIED])
    def test_credentials_that_fcm_does_not_accept_pause_pushes(
        self, firebase: Firebase, fcm: FcmServer, answer: Answer
    ) -> None:
        fcm.by_token["phone"] = answer

        report = send(firebase, ["phone"], PUSH)

        assert report.outage
        assert list(report.later) == ["phone"]
        assert 0 < firebase.pause.left_s() <= report.retry_after_s

    def test_credentials_that_google_does_not_accept_pause_pushes(self, firebase: Firebase, fcm: FcmServer) -> None:
        fcm.token_refusal = (400, {"error": "invalid_grant", "error_description": "account not found"})

        report = send(firebase, ["phone", "tablet"], PUSH)

        assert report.outage
        assert "account not found" in report.outage
        assert sorted(report.later) == ["phone", "tablet"]

    def test_a_token_endpoint_that_is_away_is_no_fault_of_the_credentials(
        self, firebase: Firebase, fcm: FcmServer
    ) -> None:
        fcm.token_refusal = (503, {"error": "internal_failure"})

        report = send(firebase, ["phone"], PUSH)

        assert report.outage is None
        assert list(report.later) == ["phone"]

    def test_begins_and_ends_with_one_line_each(
        self, firebase: Firebase, fcm: FcmServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fcm_client, "PAUSE_MIN_S", 0.001)
        monkeypatch.setattr(fcm_client, "PAUSE_MAX_S", 0.001)
        fcm.by_token["phone"] = fcm_stub.UNAUTHENTICATED

        with capture_logs() as lines:
            for _ in range(3):
                send(firebase, ["phone"], PUSH)
            fcm.by_token.clear()
            for _ in range(3):
                send(firebase, ["phone"], PUSH)

        assert [line["log_level"] for line in lines] == ["error", "warning"]
        assert firebase.pause.left_s() == 0


def test_without_credentials_nothing_can_be_sent() -> None:
    assert not Firebase(settings()).has_credentials


@pytest.mark.parametrize(
    "changes",
    [
        {"firebase_credentials_json": '{"private_key": "hunter2"'},
        {"firebase_credentials_json": '{"type": "service_account", "private_key": "hunter2"}'},
        {"firebase_credentials_json": json.dumps(ACCOUNT)},
        {"firebase_credentials_json": json.dumps({**ACCOUNT, "project_id": 7})},
        {"google_application_credentials": "/nowhere/key.json"},
    ],
)
def test_credentials_that_are_no_key_are_refused_by_name_and_not_shown(changes: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=next(iter(changes)).upper()) as caught:
        fcm_client.Firebase(settings(**changes))

    assert "hunter2" not in str(caught.value)
