from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import botocore.utils
import pytest
from botocore.awsrequest import AWSResponse

from graphnode.clients import credentials
from graphnode.clients.aws import QUICK, Aws, CallLimits, parse_time

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

SECRET = "a-secret-access-key"

ENVIRONMENT = {
    "AWS_REGION": "eu-central-1",
    "AWS_ENDPOINT_URL": "http://localhost:4566",
    "AWS_ACCESS_KEY_ID": "of-the-environment",
    "AWS_SECRET_ACCESS_KEY": SECRET,
}


#: A call without parameters of each service.
CALLS = {"s3": "list_buckets", "sqs": "list_queues"}


def key_id_of(client: S3Client | SQSClient) -> str:
    """The access key ID that a client signs its calls with."""
    url = client.generate_presigned_url(CALLS[client.meta.service_model.service_name])
    return parse_qs(urlsplit(url).query)["X-Amz-Credential"][0].partition("/")[0]


@pytest.fixture(autouse=True)
def another_account_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-process")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")


def test_a_client_is_of_the_environment_that_is_given_not_of_this_process() -> None:
    aws = Aws.of_environment(ENVIRONMENT)
    found = aws.find_credentials()

    assert (aws.sqs().meta.region_name, aws.sqs().meta.endpoint_url) == ("eu-central-1", "http://localhost:4566")
    assert found
    assert (found.access_key, found.secret_key) == ("of-the-environment", SECRET)


def test_without_credentials_boto3_finds_those_of_this_process() -> None:
    found = Aws(region="eu-central-1").find_credentials()

    assert found
    assert found.access_key == "of-the-process"


def test_a_renewal_reaches_the_clients_that_exist_and_those_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "RENEWAL_PAUSE_S", 0.0)
    aws = Aws(region="eu-central-1")
    clients: list[S3Client | SQSClient] = [aws.s3(), aws.sqs()]
    assert {key_id_of(client) for client in clients} == {"of-the-process"}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "rotated")

    aws.renew_credentials()

    assert {key_id_of(client) for client in (*clients, aws.s3())} == {"rotated"}


def test_credentials_that_were_given_are_never_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "RENEWAL_PAUSE_S", 0.0)
    aws = Aws.of_environment(ENVIRONMENT)
    s3 = aws.s3()

    aws.renew_credentials()

    assert key_id_of(s3) == key_id_of(aws.sqs()) == "of-the-environment"


def test_an_empty_variable_is_not_set() -> None:
    assert Aws.of_environment({**ENVIRONMENT, "AWS_ENDPOINT_URL": ""}).endpoint_url is None


def test_a_secret_is_not_in_the_text_of_what_holds_it() -> None:
    assert SECRET not in repr(Aws.of_environment(ENVIRONMENT))


def test_a_client_may_have_limits_of_its_own() -> None:
    aws = Aws(region="eu-central-1", limits=QUICK)

    own: Any = aws.sqs(CallLimits(read_timeout_s=25, attempts=2)).meta.config
    common: Any = aws.s3().meta.config

    assert (own.read_timeout, own.retries["total_max_attempts"]) == (25, 2)
    assert (common.read_timeout, common.retries["total_max_attempts"]) == (6, 1)


@pytest.mark.parametrize(("proxies", "used"), [(True, {"https": "http://proxy.test:3128"}), (False, {})])
def test_a_proxy_of_the_environment_is_used_if_wanted(
    proxies: bool, used: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy.test:3128")

    s3 = Aws(region="eu-central-1", proxies=proxies).s3()

    # botocore tells nobody else which proxies it will use.
    assert s3._endpoint.http_session._proxy_config._proxies == used  # type: ignore[attr-defined]


def test_the_time_of_an_object_is_read_by_the_quick_parser() -> None:
    class Answer(AWSResponse):
        content = b""

    def answer(**_: Any) -> Any:
        headers: Any = {"Last-Modified": "Tue, 01 Dec 2026 01:22:19 GMT"}
        return Answer("", 200, headers, None)

    s3 = Aws.of_environment(ENVIRONMENT).s3()
    s3.meta.events.register("before-send.s3.HeadObject", answer)

    found = s3.head_object(Bucket="bucket", Key="key")["LastModified"]

    assert found == datetime(2026, 12, 1, 1, 22, 19, tzinfo=UTC)
    # botocore's own parser gives another class of time zone.
    assert found.tzinfo is UTC


@pytest.mark.parametrize("value", ["Tue, 01 Dec 2026 01:22:19 GMT", "2026-12-01T01:22:19Z", 1796088139, 1796088139.5])
def test_a_time_is_the_same_as_botocore_parses(value: Any) -> None:
    assert parse_time(value) == botocore.utils.parse_timestamp(value)
