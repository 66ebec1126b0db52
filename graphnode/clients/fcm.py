"""Sends push notifications by FCM, through firebase-admin."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import structlog

from graphnode.clients.fcm_answers import Answer, Gone, Later, Outage, Refused, classify_answer
from graphnode.contract.notifications import PushText
from graphnode.errors import SettingsError
from graphnode.rules.pushes import PushReport, without_fcm_message
from graphnode.settings import PushSettings, Settings, has_firebase_key, settings
from graphnode.steps import step

if TYPE_CHECKING:
    from firebase_admin import App, messaging

#: The most calls of a process at once, each in a thread with a connection of its own.
MOST_CALLS = 32

#: Seconds until a call to FCM is given up: to connect, and between two bytes of its answer.
CALL_TIMEOUT_S = 10

#: Seconds for which pushes pause when FCM does not accept our credentials: the first time, and the longest.
PAUSE_MIN_S = 30.0
PAUSE_MAX_S = 300.0

#: Seconds without a code after which it is logged again when it comes back.
FORGOTTEN_AFTER_S = 3600.0

log = structlog.get_logger("graphnode.push")


class Push(NamedTuple):
    """A push to a user's devices.

    Parameters:
      notification_id: lets a phone recognize a repeat: it shows only the newest push of an ID.
      text: title and body.
      data: for the app.
      ttl_s: seconds that FCM keeps it for a phone that is off.
    """

    notification_id: str
    text: PushText
    data: Mapping[str, str]
    ttl_s: float


class Pause:
    """A process's pause of pushes, while FCM does not accept our credentials.

    Its beginning and its end are logged once. After each pause one push tries whether it is over.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = float("-inf")
        self._length_s = 0.0

    def left_s(self) -> float:
        """Seconds until the next push may be sent; 0 without a pause."""
        return max(0.0, self._until - time.monotonic())

    @property
    def is_tried(self) -> bool:
        """Whether a pause has passed, and no push has shown yet that it is over."""
        return bool(self._length_s) and not self.left_s()

    def begin(self, reason: str) -> float:
        """Pause pushes, each time for longer; the seconds that are left."""
        with self._lock:
            if self.left_s():
                return self.left_s()
            if not self._length_s:
                log.error(
                    "pushes pause: FCM does not accept our credentials; notifications are kept",
                    error=without_fcm_message(reason),
                )
            self._length_s = min(PAUSE_MAX_S, max(PAUSE_MIN_S, 2 * self._length_s))
            self._until = time.monotonic() + self._length_s
            return self._length_s

    def end(self) -> None:
        """End the pause: FCM has accepted our credentials."""
        with self._lock:
            if self._length_s:
                log.warning("pushes go on: FCM accepts our credentials")
            self._until, self._length_s = float("-inf"), 0.0


class Firebase:
    """One process's connection to FCM.

    Parameters:
      known: the settings. Without `FIREBASE_CREDENTIALS_JSON` or `GOOGLE_APPLICATION_CREDENTIALS` pushes are skipped.

    Raises SettingsError when the credentials are not a service account's key. The error never shows them.
    """

    def __init__(self, known: Settings | PushSettings) -> None:
        self._app = _app(known)
        self.pause = Pause()
        #: By code: when it was last seen, in monotonic seconds.
        self._seen: dict[str, float] = {}
        self._has_reached = False
        if self._app is not None:
            _prepare_calls(self._app, known.fcm_endpoint)

    @property
    def has_credentials(self) -> bool:
        """Whether pushes can be sent."""
        return self._app is not None

    def send(self, token: str, push: Push) -> Answer:
        """Send a push to one of a user's devices; FCM's answer. It raises nothing."""
        from firebase_admin import exceptions, messaging

        try:
            with step("push"):
                messaging.send(_message(token, push), app=self._app)
        except exceptions.FirebaseError as error:
            return classify_answer(error)
        except Exception as error:
            # firebase-admin does not expect it, such as google-auth's error for a refusing token endpoint.
            return classify_answer(exceptions.UnknownError(f"{type(error).__name__}: {error}", cause=error))
        return None

    def report(self, answers: Mapping[str, Answer]) -> PushReport:
        """FCM's answers for a user's devices, by token. They may begin or end a pause."""
        self._has_reached |= None in answers.values()
        if not self._has_reached:
            # The credentials may be another project's: then FCM refuses every device, and no refusal is final.
            answers = {token: _not_final(answer) for token, answer in answers.items()}
        self._tell(answers.values())
        report = _report(answers)
        if report.outage:
            pause_s = self.pause.begin(report.outage)
            return report._replace(retry_after_s=max(report.retry_after_s, pause_s))
        if report.reached or report.gone:
            self.pause.end()
        return report

    def rehearse(self, token: str) -> None:
        """Let FCM check a push to this device without sending it. Raises firebase-admin's errors.

        https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages/send (`validate_only`)
        """
        from firebase_admin import messaging

        messaging.send(messaging.Message(token=token, data={"type": "REHEARSAL"}), dry_run=True, app=self._app)

    @property
    def project_id(self) -> str:
        """The Firebase project; empty without credentials."""
        return str(self._app.project_id) if self._app else ""

    @property
    def account(self) -> str:
        """The service account's address; empty without credentials."""
        return str(self._app.credential.service_account_email) if self._app else ""

    def close(self) -> None:
        """Forget the credentials. Another connection may be opened after that."""
        if self._app is not None:
            import firebase_admin

            firebase_admin.delete_app(self._app)

    def _tell(self, answers: Iterable[Answer]) -> None:
        """Log when a code begins that only an operator can mend, or that FCM does not document."""
        for answer in answers:
            if isinstance(answer, Refused | Later) and answer.is_ours and self._begins(answer):
                log.error("the Firebase project keeps devices from being reached", code=_code(answer))
            if isinstance(answer, Later) and answer.is_unknown and self._begins(answer):
                log.warning("FCM gives an unknown answer: pushes are tried again", code=_code(answer))

    def _begins(self, answer: Refused | Later) -> bool:
        """Whether the answer's code was not seen for a while. Threads may log it twice when they meet it at once."""
        now, code = time.monotonic(), _code(answer)
        seen, self._seen[code] = self._seen.get(code, float("-inf")), now
        return now - seen > FORGOTTEN_AFTER_S


@cache
def firebase() -> Firebase:
    """This process's connection to FCM. Raises SettingsError at the first call."""
    return Firebase(settings())


def _code(answer: Refused | Later) -> str:
    return answer.reason.partition(": ")[0]


def _not_final(answer: Answer) -> Answer:
    return Later(answer.reason, is_ours=True) if isinstance(answer, Refused) and answer.is_ours else answer


def _report(answers: Mapping[str, Answer]) -> PushReport:
    outages = [answer for answer in answers.values() if isinstance(answer, Outage)]
    later = {token: answer for token, answer in answers.items() if isinstance(answer, Later | Outage)}
    return PushReport(
        reached=sum(answer is None for answer in answers.values()),
        gone=[token for token, answer in answers.items() if isinstance(answer, Gone)],
        refused={token: answer.reason for token, answer in answers.items() if isinstance(answer, Refused)},
        later={token: answer.reason for token, answer in later.items()},
        retry_after_s=max((answer.after_s for answer in later.values() if isinstance(answer, Later)), default=0.0),
        outage=outages[0].reason if outages else None,
    )


def _message(token: str, push: Push) -> messaging.Message:
    """The push for FCM: with high priority, also in the background, and shown once however often it is sent."""
    from firebase_admin import messaging

    expires = datetime.now(UTC) + timedelta(seconds=push.ttl_s)
    return messaging.Message(
        # A registration token, which the API server stores. firebase-admin prefers installation IDs.
        token=token,
        notification=messaging.Notification(title=push.text.title, body=push.text.body),
        data=dict(push.data),
        android=messaging.AndroidConfig(
            collapse_key=push.notification_id,
            priority="high",
            ttl=timedelta(seconds=round(push.ttl_s)),
            notification=messaging.AndroidNotification(tag=push.notification_id),
        ),
        apns=messaging.APNSConfig(
            headers={
                "apns-collapse-id": push.notification_id,
                "apns-priority": "10",
                "apns-push-type": "alert",
                "apns-expiration": str(int(expires.timestamp())),
            },
            payload=messaging.APNSPayload(aps=messaging.Aps(sound="default", content_available=True)),
        ),
    )


def _app(known: Settings | PushSettings) -> App | None:
    if not has_firebase_key(known):
        return None
    # Imported here: it takes half a second and 60 MB.
    import firebase_admin
    from firebase_admin import credentials

    source: str | dict[str, str]
    if known.firebase_credentials_json:
        name = "FIREBASE_CREDENTIALS_JSON"
        try:
            source = msgspec.json.decode(known.firebase_credentials_json, type=dict[str, str])
        except msgspec.DecodeError:
            raise SettingsError(f"{name} is not JSON: expected a Firebase service account's key.") from None
    else:
        name = "GOOGLE_APPLICATION_CREDENTIALS"
        source = known.google_application_credentials or ""
    try:
        certificate = credentials.Certificate(source)
    except OSError as error:
        raise SettingsError(f"{name} names a file that cannot be read: {error.strerror}: {source}") from None
    except ValueError:
        raise SettingsError(f"{name} is not the key of a Firebase service account.") from None
    if not certificate.project_id:
        raise SettingsError(f"{name} names no project_id: it is not the key of a Firebase service account.")
    app: App = firebase_admin.initialize_app(certificate, {"httpTimeout": CALL_TIMEOUT_S}, name="graphnode")
    return app


def _prepare_calls(app: App, endpoint: str | None) -> None:
    """Let each call be tried once. firebase-admin would wait for FCM's Retry-After in our thread, and repeat calls that
    FCM may have accepted. It has no option for that, nor for another endpoint.
    """
    import requests
    from firebase_admin import messaging

    service: Any = messaging._get_messaging_service(app)
    session = service._client.session
    once = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=MOST_CALLS, max_retries=0)
    for prefix in list(session.adapters):
        session.mount(prefix, once)
    if endpoint:
        service._fcm_url = f"{endpoint.rstrip('/')}/v1/projects/{app.project_id}/messages:send"
