"""AWS credentials that are resolved anew while clients use them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import structlog
from botocore.exceptions import ClientError, CredentialRetrievalError, NoCredentialsError

from graphnode.errors import NO_CREDENTIALS, aws_code, http_status, is_refused, log_text, one_line

if TYPE_CHECKING:
    from botocore.credentials import Credentials, ReadOnlyCredentials

#: Seconds between two renewals: they may start a program or call STS, and a refusal meets many calls at once.
RENEWAL_PAUSE_S = 5.0

log = structlog.get_logger("graphnode.aws")


class RenewableCredentials:
    """The credentials of a session's clients: boto3's provider chain resolves them at the first call, and at `renew`.

    botocore refreshes temporary ones before they expire, as always. Thread-safe.

    Parameters:
      resolve: walks the provider chain from its beginning; None when nobody provides credentials.
    """

    #: botocore asks a new client's credentials where they are from. They are not resolved for that.
    method = "renewable"

    def __init__(self, resolve: Callable[[], Credentials | None]) -> None:
        self._resolve = resolve
        self._lock = threading.Lock()
        self._next_renewal = float("-inf")
        self._resolved: Credentials | None = None
        self._failure: Exception | None = None

    def load_credentials(self) -> Self:
        """This object, for a session whose component `credential_provider` it is."""
        return self

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """What one call is signed with. Raises one of NO_CREDENTIALS."""
        if self._resolved is None:
            self.renew()
        if self._resolved is None:
            raise (self._failure or NoCredentialsError()).with_traceback(None)
        with retrieving(self._resolved.method):
            return self._resolved.get_frozen_credentials()

    def get_deferred_property(self, name: str) -> Callable[[], str | None]:
        """A function that returns a property of the credentials when an endpoint's address needs it."""
        return lambda: getattr(self.get_frozen_credentials(), name, None)

    def renew(self) -> None:
        """Resolve the credentials anew, unless that was done in the last `RENEWAL_PAUSE_S`. If it fails, the old stay.

        Threads that call it at the same time wait for one renewal.
        """
        with self._lock:
            if time.monotonic() < self._next_renewal:
                return
            try:
                with retrieving("boto3's provider chain"):
                    resolved = self._resolve()
                    if resolved is None:
                        raise NoCredentialsError
                    # A role's are fetched only now. If that fails, it must not cost the old ones.
                    resolved.get_frozen_credentials()
            except NO_CREDENTIALS as error:
                if self._resolved and not self._failure:
                    log.warning("AWS credentials not renewed: the old ones stay", error=log_text(error))
                self._failure = error
            else:
                self._resolved, self._failure = resolved, None
            finally:
                self._next_renewal = time.monotonic() + RENEWAL_PAUSE_S


def is_refusal(error: BaseException) -> bool:
    """Whether AWS refused the caller of a failed call, or there was nothing to sign it with: a renewal may help."""
    if not isinstance(error, ClientError):
        return isinstance(error, NO_CREDENTIALS)
    # 404: what was asked for does not exist. OverLimit: the same call will pass later.
    return is_refused(error) and http_status(error) != 404 and not aws_code(error).endswith("OverLimit")


@contextmanager
def retrieving(source: str) -> Iterator[None]:
    """Raise whatever fails while credentials are retrieved as one of NO_CREDENTIALS.

    botocore raises a bare RuntimeError for credentials that have expired already, and passes on the errors of STS, of
    JSON and of files.

    Parameters:
      source: where the credentials are from.
    """
    try:
        yield
    except NO_CREDENTIALS:
        raise
    except Exception as error:
        raise CredentialRetrievalError(provider=source, error_msg=one_line(error)) from error
