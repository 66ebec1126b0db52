"""A stub of FCM on loopback: its v1 API and Google's token endpoint, with answers that a test or a benchmark chooses.

firebase-admin uses it when FIREBASE_CREDENTIALS_JSON is `credentials_json`, whose `token_uri` is the stub's, and
GRAPHNODE_FCM_ENDPOINT is `url`. The stub checks the signature of each token request and the token of each push.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

from benchmarks.local_server import LocalServer

#: https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode
FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"

#: The audience of a token request. It does not depend on `token_uri`.
AUDIENCE = "https://oauth2.googleapis.com/token"

Message = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """FCM's answer to a push.

    Parameters:
      status: the HTTP status; 200 accepts the push.
      code: FCM's error code.
      error: Google's error status.
      field: the invalid field, for INVALID_ARGUMENT.
      retry_after: the Retry-After header.
      delay_s: seconds until the answer.
      dropped: whether the connection closes without an answer. With status 200 the push is accepted all the same.
      page: a web page in place of the JSON, as a proxy or a load balancer sends it; the push is not accepted.
    """

    status: int = 200
    code: str = ""
    error: str = ""
    field: str = ""
    retry_after: str = ""
    delay_s: float = 0.0
    dropped: bool = False
    page: str = ""

    def body(self) -> dict[str, Any] | str:
        """The answer's JSON, or its page."""
        if self.page:
            return self.page
        if self.status == 200:
            return {"name": f"projects/local/messages/{time.monotonic_ns()}"}
        details: list[Any] = [{"@type": FCM_ERROR, "errorCode": self.code}] if self.code else []
        if self.field:
            details.append({"@type": BAD_REQUEST, "fieldViolations": [{"field": self.field}]})
        text = f"{self.code or self.error} of the stub"
        return {"error": {"code": self.status, "message": text, "status": self.error, "details": details}}


TAKEN = Answer()
UNREGISTERED = Answer(404, "UNREGISTERED", "NOT_FOUND")
INVALID_TOKEN = Answer(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", field="message.token")
INVALID_MESSAGE = Answer(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", field="message.data[0]")
QUOTA = Answer(429, "QUOTA_EXCEEDED", "RESOURCE_EXHAUSTED")
UNAVAILABLE = Answer(503, "UNAVAILABLE", "UNAVAILABLE")
INTERNAL = Answer(500, "INTERNAL", "INTERNAL")
SENDER_MISMATCH = Answer(403, "SENDER_ID_MISMATCH", "PERMISSION_DENIED")
APNS_KEY = Answer(401, "THIRD_PARTY_AUTH_ERROR", "UNAUTHENTICATED")
UNAUTHENTICATED = Answer(401, "", "UNAUTHENTICATED")
DENIED = Answer(403, "", "PERMISSION_DENIED")
NOT_FOUND = Answer(404, "", "NOT_FOUND")
PAGE = Answer(404, page="<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>")
DROPPED = Answer(503, dropped=True)
TAKEN_AND_DROPPED = Answer(200, dropped=True)


class FcmServer(LocalServer):
    """A stub that runs while its `with` block runs. Its attributes may be set meanwhile."""

    def __init__(self) -> None:
        super().__init__(FcmHandler)
        #: Decides on the answer to a push.
        self.answer: Callable[[Message], Answer] = lambda message: self.by_token.get(message["token"], TAKEN)
        #: The answers by registration token, unless `answer` is set.
        self.by_token: dict[str, Answer] = {}
        #: The answer of a token endpoint that refuses: an HTTP status and JSON.
        self.token_refusal: tuple[int, dict[str, str]] | None = None
        self.messages: list[Message] = []
        self.calls = self.token_calls = self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()

    @cached_property
    def credentials_json(self) -> str:
        """The JSON key of a service account for this stub."""
        form = serialization.PrivateFormat.PKCS8
        key = _key().private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        return json.dumps(
            {
                "type": "service_account",
                "project_id": "local",
                "private_key_id": "1",
                "private_key": key.decode(),
                "client_email": "worker@local.iam.gserviceaccount.com",
                "token_uri": f"{self.url}/token",
            }
        )

    @property
    def environment(self) -> dict[str, str]:
        """The settings with which a worker uses this stub."""
        return {"FIREBASE_CREDENTIALS_JSON": self.credentials_json, "GRAPHNODE_FCM_ENDPOINT": self.url}

    def times_taken(self) -> Counter[str]:
        """How often each notification was accepted, by its ID."""
        with self._lock:
            return Counter(message["data"].get("notificationId", "") for message in self.messages)

    def check_signature(self, assertion: str) -> None:
        """Raises ValueError if a token request is not signed with the key."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        public = _key().public_key().public_bytes(serialization.Encoding.PEM, form)
        jwt.decode(assertion, certs=public, audience=AUDIENCE)

    def decide(self, message: Message) -> Answer:
        """Count a call, and record the push if it is accepted; the answer, after its delay."""
        with self._lock:
            self.calls += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            answer = self.answer(message)
            time.sleep(answer.delay_s)
            if answer.status == 200 and not answer.page:
                with self._lock:
                    self.messages.append(message)
            return answer
        finally:
            with self._lock:
                self._at_once -= 1


class FcmHandler(BaseHTTPRequestHandler):
    """One connection."""

    server: FcmServer
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_POST(self) -> None:
        """Answer a token request or a push."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/token":
            self._give_token(body)
        elif self.headers["Authorization"] != "Bearer local":
            self._send(UNAUTHENTICATED.status, UNAUTHENTICATED.body())
        else:
            answer = self.server.decide(json.loads(body)["message"])
            if answer.dropped:
                self.close_connection = True
                return
            self._send(answer.status, answer.body(), retry_after=answer.retry_after)

    def _give_token(self, body: bytes) -> None:
        self.server.token_calls += 1
        self.server.check_signature(parse_qs(body.decode())["assertion"][0])
        if self.server.token_refusal:
            self._send(*self.server.token_refusal)
        else:
            self._send(200, {"access_token": "local", "expires_in": 3600, "token_type": "Bearer"})

    def _send(self, status: int, body: dict[str, Any] | str, *, retry_after: str = "") -> None:
        kind, text = ("text/html", body) if isinstance(body, str) else ("application/json", json.dumps(body))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing."""


@cache
def _key() -> rsa.RSAPrivateKey:
    """The key of the service account, made once because that takes a while."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def after(answer: Answer, seconds: float) -> Answer:
    """The same answer with a delay."""
    return replace(answer, delay_s=seconds)
