"""Classifies FCM's answer for a device. https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from graphnode.errors import one_line
from graphnode.rules.pushes import retry_after_s

if TYPE_CHECKING:
    from firebase_admin.exceptions import FirebaseError

#: Seconds to wait after FCM has said that a quota is used up, without saying how long.
#: https://firebase.google.com/docs/cloud-messaging/scale-fcm
QUOTA_PAUSE_S = 60.0


@dataclass(frozen=True)
class Gone:
    """The device is no longer registered, or its token was never valid."""


@dataclass(frozen=True)
class Refused:
    """FCM will never accept this push for this device. `is_ours`: because of the Firebase project's set-up."""

    reason: str
    is_ours: bool = False


@dataclass(frozen=True)
class Later:
    """FCM did not accept the push now: unavailable, over a quota, no answer. Try again after `after_s` seconds.

    Parameters:
      is_ours: because of the Firebase project's set-up.
      is_unknown: the answer says nothing of the push or the device.
    """

    reason: str
    after_s: float = 0.0
    is_ours: bool = False
    is_unknown: bool = False


@dataclass(frozen=True)
class Outage:
    """FCM does not accept our credentials. An operator must mend that before any push can be sent."""

    reason: str


#: None: FCM has accepted the push.
Answer = Gone | Refused | Later | Outage | None


def classify_answer(error: FirebaseError) -> Answer:
    """Classify an error of firebase-admin. Only what FCM itself says of a device or a push is final.

    Anything else is tried again until the notification is too old: a proxy, a load balancer or a wrong address gives
    the same HTTP statuses to every push.
    """
    from firebase_admin import exceptions, messaging
    from google.auth.exceptions import GoogleAuthError, TransportError

    if error.http_response is not None and _said(error) is None:
        status = error.http_response.status_code
        return Later(f"HTTP_{status}: the answer is not FCM's", _asked_for(error), is_unknown=True)
    reason = f"{error.code}: {one_line(error)}"
    match error:
        case messaging.UnregisteredError():
            return Gone()
        case exceptions.InvalidArgumentError():
            return Gone() if _is_about_the_token(error) else Refused(reason)
        case messaging.SenderIdMismatchError():
            # Most likely the token is valid, and our credentials belong to another project.
            return Refused(f"SENDER_ID_MISMATCH: {one_line(error)}", is_ours=True)
        case messaging.ThirdPartyAuthError():
            # Apple does not accept the Firebase project's key. Android devices are not affected.
            return Later(f"THIRD_PARTY_AUTH_ERROR: {one_line(error)}", _asked_for(error), is_ours=True)
        case exceptions.UnauthenticatedError() | exceptions.PermissionDeniedError():
            return Outage(reason)
        case exceptions.ResourceExhaustedError():
            return Later(reason, _asked_for(error) or QUOTA_PAUSE_S)
        case exceptions.UnavailableError() | exceptions.InternalError() | exceptions.DeadlineExceededError():
            return Later(reason, _asked_for(error))
    if isinstance(error.cause, GoogleAuthError):
        # The token endpoint failed. If it is away or asks for another try, the credentials are not at fault.
        is_passing = isinstance(error.cause, TransportError) or error.cause.retryable
        return Later(reason) if is_passing else Outage(reason)
    return Later(reason, _asked_for(error), is_unknown=True)


def _asked_for(error: FirebaseError) -> float:
    if error.http_response is None:
        return 0.0
    return retry_after_s(error.http_response.headers.get("Retry-After"), now=datetime.now(UTC))


class _Violation(msgspec.Struct):
    field: str = ""


class _Detail(msgspec.Struct, rename="camel"):
    field_violations: list[_Violation] = []


class _Error(msgspec.Struct):
    status: str
    message: str = ""
    details: list[_Detail] = []


class _Body(msgspec.Struct):
    error: _Error


#: Made at import, before there are threads: msgspec crashes when two threads prepare a type at once.
_BODY = msgspec.json.Decoder(_Body)


def _said(error: FirebaseError) -> _Error | None:
    """The error in FCM's own words; None if nobody answered, or somebody else."""
    if error.http_response is None:
        return None
    try:
        return _BODY.decode(error.http_response.content).error
    except msgspec.DecodeError:
        return None


def _is_about_the_token(error: FirebaseError) -> bool:
    """Whether FCM refuses the token. A refused message has the same code."""
    found = _said(error)
    if found is None:
        return False
    fields = [violation.field for detail in found.details for violation in detail.field_violations]
    return "message.token" in fields or "registration token" in found.message
