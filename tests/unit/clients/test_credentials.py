from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.exceptions import (
    ClientError,
    ConfigParseError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
)
from structlog.testing import capture_logs

from graphnode.clients import credentials
from graphnode.clients.credentials import RenewableCredentials, is_refusal

THREADS = 16


class Chain:
    """A provider chain that resolves what a test sets, or raises it."""

    def __init__(self, *answers: Credentials | Exception | None) -> None:
        self.answers = list(answers)
        self.walks = 0

    def resolve(self) -> Credentials | None:
        self.walks += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "RENEWAL_PAUSE_S", 0.0)


def of(key_id: str) -> Credentials:
    return Credentials(key_id, "secret", method="shared-credentials-file")


class Clock:
    """The time for temporary credentials."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)


def temporary(clock: Clock, *, minutes: int, refresh: Callable[[], dict[str, str]]) -> RefreshableCredentials:
    """Credentials that last this long. botocore refreshes them in their last 15 minutes."""
    expiry = clock.now + timedelta(minutes=minutes)
    return RefreshableCredentials(
        "temporary", "secret", "token", expiry, refresh, "container-role", time_fetcher=lambda: clock.now
    )


def handed_out(key_id: str, *, expiry: datetime) -> dict[str, str]:
    return {"access_key": key_id, "secret_key": "secret", "token": "token", "expiry_time": expiry.isoformat()}


def expired_already() -> dict[str, str]:
    return handed_out("expired", expiry=datetime.now(UTC) - timedelta(minutes=1))


def test_nothing_is_resolved_before_the_first_call() -> None:
    chain = Chain(of("first"))
    renewable = RenewableCredentials(chain.resolve)

    assert chain.walks == 0
    assert renewable.get_frozen_credentials().access_key == "first"
    assert renewable.get_frozen_credentials().access_key == "first"
    assert chain.walks == 1


@pytest.mark.usefixtures("no_pause")
def test_after_a_renewal_a_call_is_signed_with_what_was_resolved_then() -> None:
    renewable = RenewableCredentials(Chain(of("first"), of("second")).resolve)
    key_id = renewable.get_deferred_property("access_key")
    renewable.get_frozen_credentials()

    renewable.renew()

    assert renewable.get_frozen_credentials().access_key == key_id() == "second"


def test_threads_that_renew_at_the_same_time_cause_one_renewal_and_wait_for_it() -> None:
    walks, together, returned = [], threading.Barrier(THREADS), threading.Event()

    def resolve() -> Credentials:
        walks.append(1)
        # No other thread returns in this time.
        returned.wait(0.2)
        return of("only")

    renewable = RenewableCredentials(resolve)

    def renew(_number: int) -> bool:
        together.wait()
        renewable.renew()
        returned.set()
        return renewable._resolved is not None

    with ThreadPoolExecutor(THREADS) as threads:
        assert all(threads.map(renew, range(THREADS)))

    assert len(walks) == 1


def test_threads_whose_first_calls_come_at_the_same_time_resolve_once() -> None:
    chain, together = Chain(of("only")), threading.Barrier(THREADS)
    renewable = RenewableCredentials(chain.resolve)

    def call(_number: int) -> str | None:
        together.wait()
        return renewable.get_frozen_credentials().access_key

    with ThreadPoolExecutor(THREADS) as threads:
        assert set(threads.map(call, range(THREADS))) == {"only"}

    assert chain.walks == 1


def test_a_renewal_within_the_pause_after_another_resolves_nothing() -> None:
    chain = Chain(of("first"), of("second"))
    renewable = RenewableCredentials(chain.resolve)
    renewable.get_frozen_credentials()

    renewable.renew()

    assert chain.walks == 1
    assert renewable.get_frozen_credentials().access_key == "first"


@pytest.mark.parametrize("failure", [None, NoCredentialsError(), ConfigParseError(path="credentials"), OSError("gone")])
@pytest.mark.usefixtures("no_pause")
def test_a_failed_renewal_keeps_the_old_credentials_and_is_logged_once(failure: Exception | None) -> None:
    renewable = RenewableCredentials(Chain(of("old"), failure, failure, of("new")).resolve)
    renewable.get_frozen_credentials()

    with capture_logs() as lines:
        for _ in range(2):
            renewable.renew()
            assert renewable.get_frozen_credentials().access_key == "old"
        renewable.renew()

    assert renewable.get_frozen_credentials().access_key == "new"
    assert [line["event"] for line in lines] == ["AWS credentials not renewed: the old ones stay"]


@pytest.mark.usefixtures("no_pause")
def test_a_role_whose_credentials_cannot_be_fetched_does_not_replace_the_old_ones() -> None:
    expired = temporary(Clock(), minutes=-1, refresh=expired_already)
    renewable = RenewableCredentials(Chain(of("old"), expired).resolve)
    renewable.get_frozen_credentials()

    renewable.renew()

    assert renewable.get_frozen_credentials().access_key == "old"


def test_without_credentials_each_call_says_so_and_the_chain_is_walked_once_in_the_pause() -> None:
    chain = Chain(PartialCredentialsError(provider="shared-credentials-file", cred_var="aws_secret_access_key"))
    renewable = RenewableCredentials(chain.resolve)

    for _ in range(3):
        with pytest.raises(PartialCredentialsError, match="aws_secret_access_key"):
            renewable.get_frozen_credentials()

    assert chain.walks == 1


@pytest.mark.usefixtures("no_pause")
def test_credentials_that_appear_later_are_found() -> None:
    renewable = RenewableCredentials(Chain(None, of("late")).resolve)

    with pytest.raises(NoCredentialsError):
        renewable.get_frozen_credentials()
    assert renewable.get_frozen_credentials().access_key == "late"


def test_temporary_credentials_are_refreshed_without_a_renewal() -> None:
    clock = Clock()
    chain = Chain(
        temporary(clock, minutes=20, refresh=lambda: handed_out("refreshed", expiry=clock.now + timedelta(minutes=60)))
    )
    renewable = RenewableCredentials(chain.resolve)
    assert renewable.get_frozen_credentials().access_key == "temporary"

    clock.now += timedelta(minutes=10)

    assert renewable.get_frozen_credentials().access_key == "refreshed"
    assert chain.walks == 1


def without_a_key() -> dict[str, str]:
    raise KeyError("AccessKeyId")


def denied_by_sts() -> dict[str, str]:
    raise ClientError({"Error": {"Code": "AccessDenied"}}, "AssumeRole")


@pytest.mark.parametrize("refresh", [expired_already, without_a_key, denied_by_sts])
def test_a_refresh_that_fails_is_a_failure_to_retrieve_credentials(refresh: Callable[[], dict[str, str]]) -> None:
    clock = Clock()
    renewable = RenewableCredentials(Chain(temporary(clock, minutes=20, refresh=refresh)).resolve)
    renewable.get_frozen_credentials()

    clock.now += timedelta(hours=1)

    with pytest.raises(CredentialRetrievalError, match="container-role"):
        renewable.get_frozen_credentials()


def refused(status: int, code: str) -> ClientError:
    return ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "ReceiveMessage",
    )


@pytest.mark.parametrize(
    "error",
    [
        refused(403, "InvalidAccessKeyId"),
        refused(403, "AccessDenied"),
        refused(400, "UnrecognizedClientException"),
        refused(400, "ExpiredToken"),
        # HeadBucket's answers have no body.
        refused(403, "403"),
        refused(400, "400"),
        NoCredentialsError(),
        PartialCredentialsError(provider="env", cred_var="aws_secret_access_key"),
        CredentialRetrievalError(provider="container-role", error_msg="expired"),
    ],
)
def test_a_refusal_of_the_caller_is_one(error: Exception) -> None:
    assert is_refusal(error)


@pytest.mark.parametrize(
    "error",
    [
        refused(404, "NoSuchKey"),
        refused(429, "TooManyRequests"),
        refused(400, "ThrottlingException"),
        refused(403, "RequestThrottled"),
        refused(403, "OverLimit"),
        refused(403, "AWS.SimpleQueueService.OverLimit"),
        refused(500, "InternalError"),
        refused(503, "SlowDown"),
        EndpointConnectionError(endpoint_url="https://sqs"),
        RuntimeError("no answer at all"),
    ],
)
def test_what_passes_with_the_same_credentials_is_no_refusal(error: Exception) -> None:
    assert not is_refusal(error)
