"""FCM: do the credentials get a token, and would a push be accepted?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphnode.errors import SettingsError, one_line
from graphnode.operations.doctor.findings import Finding, broken, command, fine, warning
from graphnode.settings import PushSettings

if TYPE_CHECKING:
    from firebase_admin.exceptions import FirebaseError
    from google.auth.exceptions import GoogleAuthError

SUBJECT = "FCM"

#: The token of no device. If FCM refuses only this token, the credentials may send.
NO_TOKEN = "graphnode-doctor"  # noqa: S105


def check_firebase(known: PushSettings) -> list[Finding]:
    """Findings after FCM has checked a push to a device that does not exist, without sending it."""
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
                why="Notifications are stored for the app, but no phone gets a push.",
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
    """What FCM's answer to a rehearsal says about the credentials."""
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
        "FCM's answer does not say whether it takes pushes",
        why=f"FCM may be unavailable for a moment: {text}",
        mend="graphnode doctor",
    )


def _new_key(known: PushSettings) -> str:
    name = "FIREBASE_CREDENTIALS_JSON" if known.firebase_credentials_json else "GOOGLE_APPLICATION_CREDENTIALS"
    value = '"$(cat service-account.json)"' if known.firebase_credentials_json else "/path/to/service-account.json"
    return f"export {name}={value}"
