"""Real clients call stubs that refuse an access key ID, with credentials of a file and of a container's endpoint."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, CredentialRetrievalError
from structlog.testing import capture_logs

from benchmarks.sqs_stub import StubServer
from graphnode.clients import credentials
from graphnode.clients import s3 as s3_client
from graphnode.clients.aws import Aws
from graphnode.errors import S3Fault
from tests.faults.conftest import PATIENCE_S, StartWorker, wait_until
from tests.faults.credential_sources import NEW, OLD, ContainerEndpoint, CredentialFile
from tests.faults.s3_stub import S3Stub, running_stub, settings_of, use


@pytest.fixture(autouse=True)
def no_profile_and_no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the developer's profile, and renewals without a pause between them."""
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setattr(credentials, "RENEWAL_PAUSE_S", 0.0)


@pytest.fixture
def file(aws_credentials: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CredentialFile:
    """The credentials file of this process, which has no other credentials."""
    made = CredentialFile(tmp_path / "credentials")
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[ContainerEndpoint]:
    """The endpoint of the container of this process, which has no other credentials."""
    with ContainerEndpoint() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def bucket() -> Iterator[S3Stub]:
    """A bucket that accepts each key."""
    with running_stub() as stub:
        yield stub


def test_clients_sign_with_a_rotated_key_after_a_renewal(
    file: CredentialFile, bucket: S3Stub, stub_server: StubServer
) -> None:
    s3_aws, sqs_aws = (Aws(region="eu-central-1", endpoint_url=url) for url in (bucket.url, stub_server.url))
    s3, sqs, queue = s3_aws.s3(), sqs_aws.sqs(), stub_server.queue_url("rotated")
    s3.head_bucket(Bucket="payloads")
    sqs.send_message(QueueUrl=queue, MessageBody="before")
    bucket.refused_keys.add(OLD)
    stub_server.order(faults=[{"kind": "unknown_key", "key": OLD, "times": 2}])
    file.write(NEW)

    with pytest.raises(ClientError, match="403"):
        s3.head_bucket(Bucket="payloads")
    with pytest.raises(ClientError, match="UnrecognizedClientException"):
        sqs.send_message(QueueUrl=queue, MessageBody="refused")
    s3_aws.renew_credentials()
    sqs_aws.renew_credentials()

    s3.head_bucket(Bucket="payloads")
    sqs.send_message(QueueUrl=queue, MessageBody="after")
    assert stub_server.order(reset=True)["faults_left"] == 0


def test_a_worker_whose_key_is_rotated_goes_on_with_the_new_one(
    file: CredentialFile, start: StartWorker, stub: StubServer
) -> None:
    handled: list[str] = []
    rotated = threading.Event()

    def handle(body: str) -> None:
        if body == "during":
            rotated.wait(PATIENCE_S)
        handled.append(body)

    with capture_logs() as lines:
        worker = start(handle, poll_wait_s=1)
        stub.fill(worker.queue, ["before", "during"])
        wait_until(lambda: handled, "the message before the rotation")
        stub.order(faults=[{"kind": "unknown_key", "key": OLD, "times": 10**6}])
        wait_until(lambda: any("polling failed" in line["event"] for line in lines), "a refused poll")
        stub.fill(worker.queue, ["after"])
        file.write(NEW)
        rotated.set()
        wait_until(lambda: not stub.messages(worker.queue), "all messages to be handled and deleted")

    assert sorted(handled) == ["after", "before", "during"]
    assert not worker.ledger.failures
    assert stub.messages(f"{worker.queue}-dlq") == []


def test_a_probe_of_s3_tries_again_with_a_rotated_key(
    file: CredentialFile, bucket: S3Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(settings_of(bucket), monkeypatch)
    s3_client.probe()
    bucket.refused_keys.add(OLD)

    with pytest.raises(S3Fault, match="403"):
        s3_client.probe()
    file.write(NEW)
    s3_client.probe()


def test_a_container_that_starts_with_expired_credentials_works_as_soon_as_it_gets_good_ones(
    endpoint: ContainerEndpoint, bucket: S3Stub
) -> None:
    s3 = Aws(region="eu-central-1", endpoint_url=bucket.url).s3()
    endpoint.lifetime = -timedelta(minutes=1)

    for _ in range(2):
        with pytest.raises(CredentialRetrievalError, match="expired"):
            s3.head_bucket(Bucket="payloads")
    endpoint.lifetime = timedelta(hours=1)

    s3.head_bucket(Bucket="payloads")


def test_an_endpoint_that_hands_out_expired_credentials_for_a_while_leaves_no_credentials_until_it_does_not(
    endpoint: ContainerEndpoint, bucket: S3Stub
) -> None:
    aws = Aws(region="eu-central-1", endpoint_url=bucket.url)
    s3 = aws.s3()
    # In their last ten minutes botocore refreshes them before each call.
    endpoint.lifetime = timedelta(minutes=5)
    s3.head_bucket(Bucket="payloads")
    endpoint.lifetime = -timedelta(minutes=1)

    for _ in range(2):
        with pytest.raises(CredentialRetrievalError, match=r"container-role.*expired"):
            s3.head_bucket(Bucket="payloads")
        aws.renew_credentials()
    endpoint.lifetime, endpoint.key_id = timedelta(hours=1), NEW
    bucket.refused_keys.add(OLD)

    s3.head_bucket(Bucket="payloads")
