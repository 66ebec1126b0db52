from __future__ import annotations

import pytest

from graphnode.clients import s3
from graphnode.settings import Settings
from graphnode.worker import options
from tests.faults.s3_stub import use

SETTINGS = Settings(
    database_url="postgresql://unused@localhost/unused",
    aws_region="eu-central-1",
    sqs_result_queue_url="http://localhost/results",
    s3_payload_bucket="payload",
)


def test_the_queues_and_the_bucket_are_called_with_the_same_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    use(SETTINGS, monkeypatch)

    assert options.broker_options().aws is s3.aws()
