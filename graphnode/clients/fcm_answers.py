"""What FCM's answer for a device means. https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from graphnode.errors import one_line
from graphnode.rules.pushes import retry_after_s

if TYPE_CHECKING:
    from firebase_admin.exceptions import FirebaseError

#: Seconds to leave FCM alone after it has said that a quota is used up, and not until when.
#: https://firebase.google.com/docs/cloud-messaging/scale-fcm
QUOTA_PAUSE_S = 60.0


@dataclass(frozen=True)
class Gone:
    """FCM does not know the device any more, or its token never was one."""


@dataclass(frozen=True)
class Refused:
    """FCM will never take this push for this device. `is_ours`: because of how the Firebase project is set up."""

    reason: str
    is_ours: bool = False


@dataclass(frozen=True)
class Later:
    """FCM did not take it now: unavailable, over a quota, or no answer came. Again, after so many seconds or more.

    `is_ours`: because of how the Firebase project is set up.
    """

    reason: str
    after_s: float = 0.0
    is_ours: bool = False


@dataclass(frozen=True)
class Outage:
    """FCM does not accept our credentials: no push can be sent before an operator has done something."""

    reason: str


#: None: FCM has taken the push.
Answer = Gone | Refused | Later | Outage | None


def sorted_answer(error: FirebaseError) -> Answer:
    """Give an error of firebase-admin its meaning. What nobody foresaw is tried again: it ends with the news' age."""
    from firebase_admin import exceptions, messaging
    from google.auth.exceptions import GoogleAuthError, TransportError

    reason = f"{error.code}: {one_line(error)}"
    match error:
        case messaging.UnregisteredError():
            return Gone()
        case exceptions.InvalidArgumentError():
            return Gone() if _is_about_the_token(error) else Refused(reason)
        case messaging.SenderIdMismatchError():
            # Not gone: most likely the device is right, and our credentials are of another project.
            return Refused(f"SENDER_ID_MISMATCH: {one_line(error)}", is_ours=True)
        case messaging.ThirdPartyAuthError():
            # Apple does not accept the key that the Firebase project has: Android's devices are not concerned.
            return Later(f"THIRD_PARTY_AUTH_ERROR: {one_line(error)}", _asked_for(error), is_ours=True)
        case exceptions.UnauthenticatedError() | exceptions.PermissionDeniedError():
            return Outage(reason)
        case exceptions.NotFoundError():
            return Refused(reason)
        case exceptions.ResourceExhaustedError():
            return Later(reason, _asked_for(error) or QUOTA_PAUSE_S)
    if isinstance(error.cause, GoogleAuthError):
        # The token endpoint. Where it is away, or says that it may work later, that is no fault of the credentials.
        is_passing = isinstance(error.cause, TransportError) or error.cause.retryable
        return Later(reason) if is_passing else Outage(reason)
    return Later(reason, _asked_for(error))


def _asked_for(error: FirebaseError) -> float:
    if error.http_response is None:
        return 0.0
    return retry_after_s(error.http_response.headers.get("Retry-After"), now=datetime.now(UTC))


class _Violation(msgspec.Struct):
    field: str = ""


class _Detail(msgspec.Struct, rename="camel"):
    field_violations: list[_Violation] = []


class _Error(msgspec.Struct):
    message: str = ""
    details: list[_Detail] = []


class _Body(msgspec.Struct):
    error: _Error


#: Made here, before there are threads: msgspec cannot learn a type in two at once.
_BODY = msgspec.json.Decoder(_Body)


def _is_about_the_token(error: FirebaseError) -> bool:
    """Whether FCM finds fault with the token, not with the message, which has the same code."""
    if error.http_response is None:
        return False
    try:
        found = _BODY.decode(error.http_response.content).error
    except msgspec.DecodeError:
        return False
    fields = [violation.field for detail in found.details for violation in detail.field_violations]
    return "message.token" in fields or "registration token" in found.message
