"""Push notifications by FCM, through firebase-admin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import structlog

from graphnode.errors import ServiceBusy, SettingsError, one_line
from graphnode.rules.notifications import PushText
from graphnode.settings import Settings, settings

if TYPE_CHECKING:
    from firebase_admin import App

#: The most devices in one call (FCM's limit for a multicast).
MOST_TOKENS = 500

#: Seconds until a call to FCM is given up.
CALL_TIMEOUT_S = 10

log = structlog.get_logger("graphnode.push")


class PushReport(NamedTuple):
    """How a push ended.

    Parameters:
      reached: how many devices FCM took it for.
      dead_tokens: devices that are gone for good.
      errors: for the others, why it failed.
    """

    reached: int
    dead_tokens: list[str]
    errors: list[str]


class Firebase:
    """One process's connection to FCM.

    Parameters:
      known: the settings: `FIREBASE_CREDENTIALS_JSON` or `GOOGLE_APPLICATION_CREDENTIALS`; neither: pushes are skipped.

    Raises SettingsError when the credentials are not a service account's key; never showing them.
    """

    def __init__(self, known: Settings) -> None:
        self._app = _app(known)

    @property
    def has_credentials(self) -> bool:
        """Whether pushes can be sent at all."""
        return self._app is not None

    def send(self, tokens: Sequence[str], text: PushText, data: Mapping[str, str]) -> PushReport:
        """Send one notification to all of a user's devices.

        Raises ServiceBusy when FCM reached none of them and it may work later.
        """
        from firebase_admin import messaging

        reached, dead, errors = 0, [], []
        for start in range(0, len(tokens), MOST_TOKENS):
            chunk = list(tokens[start : start + MOST_TOKENS])
            message = messaging.MulticastMessage(
                tokens=chunk,
                notification=messaging.Notification(title=text.title, body=text.body),
                data=dict(data),
            )
            batch = messaging.send_each_for_multicast(message, app=self._app)
            for token, answer in zip(chunk, batch.responses, strict=True):
                if answer.success:
                    reached += 1
                elif isinstance(answer.exception, messaging.UnregisteredError):
                    dead.append(token)
                else:
                    errors.append(one_line(answer.exception))
        if not reached and errors:
            raise ServiceBusy(f"FCM reached none of {len(tokens)} devices: {errors[0]}")
        return PushReport(reached, dead, errors)


@cache
def firebase() -> Firebase:
    """This process's connection to FCM. Raises SettingsError at the first call."""
    return Firebase(settings())


def _app(known: Settings) -> App | None:
    if not known.firebase_credentials_json and not known.google_application_credentials:
        return None
    # Imported only where it is used: it takes half a second and 60 MB.
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
    app: App = firebase_admin.initialize_app(certificate, {"httpTimeout": CALL_TIMEOUT_S}, name="graphnode")
    return app
