"""The proxy before AWS fails the calls that its rules name, in the way that AWS fails, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError, ResponseStreamingError

from benchmarks.sqs_stub import StubServer
from graphnode.clients.aws import Aws, CallLimits
from graphnode.dev.outcomes import wait_for
from tests.aws_proxy import AwsProxy, Call, Cut, Delay, Hang, Refusal, Rule, Strip, Trouble
from tests.faults.s3_stub import Object, running_stub

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

BUCKET = "payloads"

#: An object's key, as the client must quote it.
KEY = "graph/o'hara 1/김.json"


def clients_of(proxy: AwsProxy, *, key_id: str = "AKIAOLD") -> Aws:
    """Clients that try each call once, for as long as a test waits for one that hangs."""
    limits = CallLimits(read_timeout_s=0.5, attempts=1)
    return Aws(
        region="us-east-1",
        endpoint_url=proxy.url,
        credentials=(key_id, "secret", None),
        limits=limits,
        proxies=False,
    )


def refusal_of(caught: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    """The HTTP status and the code of an error."""
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


class TestS3:
    """Before S3."""

    @pytest.fixture
    def proxy(self) -> Iterator[AwsProxy]:
        with running_stub() as stub, AwsProxy("127.0.0.1", stub.server_port) as proxy:
            stub.objects |= {"other": Object(b"other"), quote(KEY): Object(b"content")}
            yield proxy

    @pytest.fixture
    def s3(self, proxy: AwsProxy) -> S3Client:
        return clients_of(proxy).s3()

    @staticmethod
    def read(s3: S3Client, key: str = KEY) -> bytes:
        return s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def test_a_call_that_no_rule_names_passes(self, proxy: AwsProxy, s3: S3Client) -> None:
        proxy.rules = [Rule("sqs:*", Hang()), Rule("s3:HeadObject", Hang())]
        assert self.read(s3) == b"content"
        assert proxy.count("s3:GetObject", KEY) == 1

    def test_a_refusal_has_its_status_and_its_code(self, proxy: AwsProxy, s3: S3Client) -> None:
        proxy.rules = [Rule("s3:GetObject", Refusal(503, "SlowDown"))]
        with pytest.raises(ClientError) as caught:
            self.read(s3)
        assert refusal_of(caught) == (503, "SlowDown")

    def test_a_refusal_of_head_has_its_status(self, proxy: AwsProxy, s3: S3Client) -> None:
        proxy.rules = [Rule("s3:Head*", Refusal(403, "AccessDenied"))]
        with pytest.raises(ClientError) as caught:
            s3.head_bucket(Bucket=BUCKET)
        assert refusal_of(caught) == (403, "403")

    def test_one_object_may_fail_alone(self, proxy: AwsProxy, s3: S3Client) -> None:
        proxy.rules = [Rule("s3:*", Refusal(503, "SlowDown"), target=KEY)]
        assert self.read(s3, "other") == b"other"
        with pytest.raises(ClientError):
            self.read(s3)

    def test_what_is_not_found_may_stay_so(self, proxy: AwsProxy, s3: S3Client) -> None:
        proxy.rules = [Rule("s3:GetObject", Refusal(400, "KMS.DisabledException", only_found=True))]
        with pytest.raises(ClientError) as missing:
            self.read(s3, "missing")
        assert refusal_of(missing) == (404, "NoSuchKey")
        with pytest.raises(ClientError) as caught:
            self.read(s3)
        assert refusal_of(caught) == (400, "KMS.DisabledException")

    def test_one_access_key_may_be_refused(self, proxy: AwsProxy, s3: S3Client) -> None:
        proxy.rules = [Rule("s3:*", Refusal(403, "InvalidAccessKeyId"), signed_by="AKIAOLD")]
        with pytest.raises(ClientError):
            self.read(s3)
        assert self.read(clients_of(proxy, key_id="AKIANEW").s3()) == b"content"

    @pytest.mark.parametrize("trouble", [Hang(), Delay(2, 2)])
    def test_an_answer_does_not_come_in_time(self, proxy: AwsProxy, s3: S3Client, trouble: Trouble) -> None:
        proxy.rules = [Rule("s3:*", trouble)]
        with pytest.raises(ReadTimeoutError):
            self.read(s3)
        proxy.rules = []
        assert self.read(s3) == b"content"

    def test_a_call_that_hangs_ends_with_its_rule(self, proxy: AwsProxy) -> None:
        patient = clients_of(proxy).client("s3", CallLimits(attempts=1))
        proxy.rules = [Rule("s3:*", Hang())]
        with ThreadPoolExecutor() as threads:
            reading = threads.submit(self.read, patient)
            wait_for(lambda: proxy.count("s3:GetObject", KEY) or None, timeout_s=30)
            proxy.rules = []
            with pytest.raises(ConnectionClosedError):
                reading.result()

    def test_an_answer_breaks_off(self, proxy: AwsProxy, s3: S3Client) -> None:
        proxy.rules = [Rule("s3:*", Cut())]
        with pytest.raises(ResponseStreamingError):
            self.read(s3)


class TestSqs:
    """Before SQS."""

    @pytest.fixture
    def proxy(self, stub: StubServer) -> Iterator[AwsProxy]:
        behind = urlsplit(stub.url)
        with AwsProxy(str(behind.hostname), behind.port or 0) as proxy:
            yield proxy

    @pytest.fixture
    def sqs(self, proxy: AwsProxy) -> SQSClient:
        return clients_of(proxy).sqs()

    @staticmethod
    def url(proxy: AwsProxy, queue: str) -> str:
        return f"{proxy.url}/000000000000/{queue}"

    def test_a_refusal_has_its_status_and_its_code(self, proxy: AwsProxy, sqs: SQSClient) -> None:
        proxy.rules = [Rule("sqs:ReceiveMessage", Refusal(403, "AccessDenied"), target="results")]
        assert not sqs.receive_message(QueueUrl=self.url(proxy, "notifications")).get("Messages")
        with pytest.raises(ClientError) as caught:
            sqs.receive_message(QueueUrl=self.url(proxy, "results"))
        assert refusal_of(caught) == (403, "AccessDenied")

    def test_one_message_comes_without_some_fields(self, proxy: AwsProxy, sqs: SQSClient, stub: StubServer) -> None:
        stub.fill("results", ["good", "odd"])
        proxy.rules = [Rule("sqs:ReceiveMessage", Strip({"odd": ["Attributes", "MessageId"]}))]
        answer = sqs.receive_message(
            QueueUrl=self.url(proxy, "results"), MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"]
        )
        fields = {message["Body"]: message.keys() & {"Attributes", "MessageId"} for message in answer["Messages"]}
        assert fields == {"good": {"Attributes", "MessageId"}, "odd": set()}


def test_a_rule_may_concern_a_share_of_its_calls() -> None:
    proxy = AwsProxy("127.0.0.1", 1, seed=7)
    proxy.rules = [Rule("*", Cut(), share=0.6)]
    concerned = sum(proxy.rule_for(Call("s3:GetObject", KEY, None)) is not None for _ in range(100))
    proxy.server_close()
    assert 40 < concerned < 80
