"""Pushes by the real firebase-admin, to a local server that speaks FCM's API."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import firebase_admin
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from firebase_admin import messaging

from graphnode import push
from graphnode.errors import ServiceBusy, SettingsError
from graphnode.push import Firebase
from graphnode.rules.notifications import PushText
from graphnode.settings import Settings

TEXT = PushText("Graph Ready", "Your knowledge graph (36 nodes) is ready!")
DATA = {"type": "GRAPH_GENERATION_COMPLETED", "taskId": "t-1", "nodeCount": "36"}

#: What FCM answers for a device, by its token: an HTTP status and FCM's own error code.
#: https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode
ANSWERS = {"gone": (404, "UNREGISTERED"), "busy": (503, "UNAVAILABLE"), "stranger": (403, "SENDER_ID_MISMATCH")}


class FcmServer(ThreadingHTTPServer):
    """FCM's token endpoint and its v1 API."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FcmHandler)
        self.messages: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class FcmHandler(BaseHTTPRequestHandler):
    server: FcmServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/token":
            self._answer(200, {"access_token": "local", "expires_in": 3600, "token_type": "Bearer"})
            return
        message = json.loads(body)["message"]
        status, code = ANSWERS.get(message["token"], (200, ""))
        if status == 200:
            self.server.messages.append(message)
            self._answer(200, {"name": "projects/local/messages/1"})
            return
        detail = {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}
        self._answer(status, {"error": {"code": status, "status": code, "message": code, "details": [detail]}})

    def _answer(self, status: int, answer: dict[str, Any]) -> None:
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep quiet."""


@pytest.fixture
def fcm(monkeypatch: pytest.MonkeyPatch) -> Iterator[FcmServer]:
    """A local FCM, which firebase-admin takes for the real one."""
    with FcmServer() as server:
        monkeypatch.setattr(
            messaging._MessagingService, "FCM_URL", server.url + "/v1/projects/{0}/messages:send", raising=True
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def firebase(fcm: FcmServer) -> Iterator[Firebase]:
    """A connection to it, with a service account's key made for the test."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    account = {
        "type": "service_account",
        "project_id": "local",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "worker@local.iam.gserviceaccount.com",
        "token_uri": f"{fcm.url}/token",
    }
    yield Firebase(settings(firebase_credentials_json=json.dumps(account)))
    firebase_admin.delete_app(firebase_admin.get_app("graphnode"))


def settings(**changes: Any) -> Settings:
    queue = "http://sqs/000000000000/q"
    return Settings(
        database_url="postgresql://db/x",
        aws_region="eu-central-1",
        sqs_result_queue_url=queue,
        sqs_notification_queue_url=queue,
        s3_payload_bucket="bucket",
        **changes,
    )


def test_a_push_reaches_every_device_with_its_text_and_its_data(firebase: Firebase, fcm: FcmServer) -> None:
    report = firebase.send(["phone", "tablet"], TEXT, DATA)

    assert (report.reached, report.dead_tokens, report.errors) == (2, [], [])
    assert sorted(message["token"] for message in fcm.messages) == ["phone", "tablet"]
    assert fcm.messages[0]["notification"] == {"title": TEXT.title, "body": TEXT.body}
    assert fcm.messages[0]["data"] == DATA


def test_devices_that_are_gone_are_told_apart_from_those_that_may_answer_later(firebase: Firebase) -> None:
    report = firebase.send(["phone", "gone", "stranger", "busy"], TEXT, DATA)

    assert report.reached == 1
    # A device of another sender is not gone: most likely it is our credentials that are of another project.
    assert report.dead_tokens == ["gone"]
    assert len(report.errors) == 2


def test_a_push_that_reaches_nobody_for_now_is_tried_again(firebase: Firebase) -> None:
    with pytest.raises(ServiceBusy, match="FCM reached none of 2 devices"):
        firebase.send(["busy", "gone"], TEXT, DATA)


def test_without_credentials_nothing_can_be_sent() -> None:
    assert not Firebase(settings()).has_credentials


@pytest.mark.parametrize(
    "changes",
    [
        {"firebase_credentials_json": '{"private_key": "hunter2"'},
        {"firebase_credentials_json": '{"type": "service_account", "private_key": "hunter2"}'},
        {"google_application_credentials": "/nowhere/key.json"},
    ],
)
def test_credentials_that_are_no_key_are_refused_by_name_and_not_shown(changes: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=next(iter(changes)).upper()) as caught:
        push.Firebase(settings(**changes))

    assert "hunter2" not in str(caught.value)
