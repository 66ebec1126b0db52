"""FCM: that it gives a token for the credentials, and would take a push."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphnode.errors import SettingsError, one_line
from graphnode.operations.doctor.findings import Finding, broken, command, fine, warning
from graphnode.settings import PushSettings

if TYPE_CHECKING:
    from firebase_admin.exceptions import FirebaseError
    from google.auth.exceptions import GoogleAuthError

SUBJECT = "FCM"

#: No device's token: that FCM finds fault with it, and with nothing before it, proves that we may send.
NO_TOKEN = "graphnode-doctor"  # noqa: S105


def look_at_firebase(known: PushSettings) -> list[Finding]:
    """Have FCM check a push to a device that does not exist, without sending it."""
    from firebase_admin.exceptions import FirebaseError
    from google.auth.exceptions import GoogleAuthError

    from graphnode.clients.fcm import Firebase

    try:
        firebase = Firebase(known)
    except SettingsError as error:
        return [broken(SUBJECT, str(error).rstrip("."), why="The worker does not start.", mend=_new_key(known))]
    if not firebase.has_credentials:
        return [
            warning(
                SUBJECT,
                "there are no credentials: pushes are skipped",
                why="Notifications are stored for the app, and no phone is told.",
                mend="export GOOGLE_APPLICATION_CREDENTIALS=/path/to/service-account.json",
            )
        ]
    try:
        firebase.rehearse(NO_TOKEN)
    except (FirebaseError, GoogleAuthError) as error:
        return [judge_rehearsal(error, project=firebase.project_id, account=firebase.account)]
    finally:
        firebase.close()
    return [fine(SUBJECT, f"{firebase.project_id} takes pushes")]


def judge_rehearsal(error: FirebaseError | GoogleAuthError, *, project: str, account: str) -> Finding:
    """What FCM's answer to a rehearsal says of the credentials."""
    from firebase_admin import exceptions, messaging
    from google.auth.exceptions import GoogleAuthError, TransportError

    text = one_line(error)
    if isinstance(error, messaging.UnregisteredError | exceptions.InvalidArgumentError):
        return fine(SUBJECT, f"{project} takes pushes (a rehearsal, nothing was sent)")
    cause = error.cause if isinstance(error, exceptions.FirebaseError) else error
    if isinstance(cause, GoogleAuthError) and not isinstance(cause, TransportError):
        return broken(
            SUBJECT,
            "Google gives no token for the service account's key",
            why=f"The key was deleted, or this machine's clock is wrong: {text}",
            mend=command("gcloud", "iam", "service-accounts", "keys", "list", "--iam-account", account),
        )
    if "SERVICE_DISABLED" in text or "has not been used in project" in text:
        return broken(
            SUBJECT,
            f"the project {project} does not use the FCM API",
            why=text,
            mend=command("gcloud", "services", "enable", "fcm.googleapis.com", "--project", project),
        )
    if isinstance(error, exceptions.PermissionDeniedError | messaging.SenderIdMismatchError):
        return broken(
            SUBJECT,
            f"the service account may not send pushes in {project}",
            why=text,
            mend=command(
                "gcloud", "projects", "add-iam-policy-binding", project,
                "--member", f"serviceAccount:{account}", "--role", "roles/firebasecloudmessaging.admin",
            ),
        )  # fmt: skip
    if isinstance(error, exceptions.UnauthenticatedError):
        return broken(
            SUBJECT,
            "FCM does not accept the token of the service account",
            why=text,
            mend=command("gcloud", "iam", "service-accounts", "describe", account),
        )
    if isinstance(error, exceptions.NotFoundError):
        return broken(
            SUBJECT,
            f"FCM knows no project {project}",
            why=text,
            mend=command("gcloud", "projects", "describe", project),
        )
    return warning(
        SUBJECT,
        "FCM gave no answer that tells whether it takes pushes",
        why=f"It may be away for a moment: {text}",
        mend="graphnode doctor",
    )


def _new_key(known: PushSettings) -> str:
    name = "FIREBASE_CREDENTIALS_JSON" if known.firebase_credentials_json else "GOOGLE_APPLICATION_CREDENTIALS"
    value = '"$(cat service-account.json)"' if known.firebase_credentials_json else "/path/to/service-account.json"
    return f"export {name}={value}"
