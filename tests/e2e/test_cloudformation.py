"""The CloudFormation template, deployed into LocalStack as `aws cloudformation deploy` does, and a worker on its stack.

LocalStack without an account has no ECS and no Application Auto Scaling. tests/deploy/test_cloudformation.py lints
these parts of the template, and compares them with the simulated scaling.
"""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
import pytest

from graphnode.dev.child_processes import Worker
from graphnode.dev.local_aws import dead_letter_url, s3_client, sqs_client
from graphnode.dev.localstack import HOOK, LocalStack
from graphnode.dev.stack import environment_of
from graphnode.operations.doctor.bucket_check import check_bucket
from graphnode.operations.doctor.queue_check import CONSUMER_ACTIONS, check_queue, check_request_queue
from tests.e2e.ai_server import AiServer
from tests.e2e.conftest import SETTINGS

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType

TEMPLATE = Path(__file__).parents[2] / "deploy/cloudformation.yml"
STACK = "graphnode"

#: The template's parameters. LocalStack does not check them.
PARAMETERS = {
    "Image": "graphnode-worker:1",
    "Subnets": "subnet-1,subnet-2",
    "SecurityGroups": "sg-1",
    "DatabaseUrlSecret": "arn:aws:secretsmanager:us-east-1:000000000000:secret:worker-1",
    "MigrationDatabaseUrlSecret": "arn:aws:secretsmanager:us-east-1:000000000000:secret:owner-1",
    "MinTasks": "0",
}

#: The variable in a worker's environment for each output of the template.
VARIABLES = {
    "RequestQueueUrl": "SQS_REQUEST_QUEUE_URL",
    "ResultQueueUrl": "SQS_RESULT_QUEUE_URL",
    "PayloadBucket": "S3_PAYLOAD_BUCKET",
}
QUEUES = ("SQS_REQUEST_QUEUE_URL", "SQS_RESULT_QUEUE_URL")

#: The attributes that decide how a queue behaves.
COMPARED: tuple[QueueAttributeNameType, ...] = (
    "VisibilityTimeout",
    "MessageRetentionPeriod",
    "DelaySeconds",
    "ReceiveMessageWaitTimeSeconds",
    "MaximumMessageSize",
)


@pytest.fixture(scope="module")
def account() -> Iterator[LocalStack]:
    """A LocalStack for this module alone: the shared one has no CloudFormation, which takes long to load."""
    with LocalStack("cloudformation", "iam", "cloudwatch", "logs", "sts", "scheduler") as server:
        server.wait_until_ready()
        yield server


@pytest.fixture(scope="module")
def cloudformation(account: LocalStack) -> CloudFormationClient:
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
    return session.client("cloudformation", endpoint_url=account.endpoint)


@pytest.fixture(scope="module")
def deployed(account: LocalStack, cloudformation: CloudFormationClient) -> dict[str, str]:
    """The environment of a worker on the stack's queues and bucket, without a database."""
    cloudformation.create_change_set(
        StackName=STACK,
        ChangeSetName="first",
        ChangeSetType="CREATE",
        # LocalStack reads a list of any type but strings as one string.
        TemplateBody=re.sub(r"List<AWS::EC2::\w+::Id>", "CommaDelimitedList", TEMPLATE.read_text(encoding="utf-8")),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in PARAMETERS.items()],
    )
    patience = {"Delay": 1, "MaxAttempts": 120}
    made = cloudformation.get_waiter("change_set_create_complete")
    made.wait(StackName=STACK, ChangeSetName="first", WaiterConfig=patience)  # type: ignore[arg-type]
    cloudformation.execute_change_set(StackName=STACK, ChangeSetName="first")
    cloudformation.get_waiter("stack_create_complete").wait(StackName=STACK, WaiterConfig=patience)  # type: ignore[arg-type]
    (stack,) = cloudformation.describe_stacks(StackName=STACK)["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    return environment_of(account, database_url="") | {name: outputs[key] for key, name in VARIABLES.items()}


def behaviour(sqs: SQSClient, url: str) -> dict[str, Any]:
    """The attributes that decide how this queue behaves, with its maxReceiveCount."""
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    redrive = json.loads(attributes.get("RedrivePolicy", "{}"))
    return {"maxReceiveCount": redrive.get("maxReceiveCount")} | {name: attributes[name] for name in COMPARED}


def test_a_real_worker_handles_a_result_on_what_the_template_made(deployed: dict[str, str], database_url: str) -> None:
    environment = deployed | {"DATABASE_URL": database_url}
    ai = AiServer(environment, sqs_client(environment), s3_client(environment))
    with Worker({**SETTINGS, **environment}) as worker:
        worker.wait_until_ready()
        task = ai.ended(ai.send(ai.result("graph")))
        ai.wait_until_drained()

    assert task.status == "COMPLETED"
    assert ai.rows("SELECT count(*) FROM graph_nodes WHERE user_id = 'ada'") != [(0,)]


def test_the_queues_behave_as_those_of_development(deployed: dict[str, str]) -> None:
    sqs = sqs_client(deployed)
    prefix = f"test-{uuid4().hex}"
    runpy.run_path(str(HOOK))["make_queues"](sqs, prefix)

    for name in QUEUES:
        kind = name.split("_")[1].lower() + "s"
        url = sqs.get_queue_url(QueueName=f"{prefix}-{kind}")["QueueUrl"]
        assert behaviour(sqs, deployed[name]) == behaviour(sqs, url)
        assert behaviour(sqs, dead_letter_url(sqs, deployed[name])) == behaviour(sqs, dead_letter_url(sqs, url))


def test_the_doctor_finds_no_fault(deployed: dict[str, str]) -> None:
    sqs, region = sqs_client(deployed), deployed["AWS_REGION"]
    requests = deployed["SQS_REQUEST_QUEUE_URL"]
    findings = check_request_queue(sqs, "request", requests, region=region, max_attempts=8)
    findings += check_bucket(s3_client(deployed), deployed["S3_PAYLOAD_BUCKET"], region=region)
    url = deployed["SQS_RESULT_QUEUE_URL"]
    findings += check_queue(sqs, "result", url, region=region, actions=CONSUMER_ACTIONS, max_attempts=8)

    assert not [found for found in findings if found.severity > 0]


def test_the_bucket_is_private_and_encrypted_and_requires_tls(deployed: dict[str, str]) -> None:
    s3, bucket = s3_client(deployed), deployed["S3_PAYLOAD_BUCKET"]

    assert set(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values()) == {True}
    (encryption,) = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert encryption["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    (statement,) = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_every_resource_that_localstack_supports_is_deployed(
    deployed: dict[str, str], cloudformation: CloudFormationClient
) -> None:
    resources = cloudformation.describe_stack_resources(StackName=STACK)["StackResources"]
    left_out = {found["ResourceType"] for found in resources if found.get("PhysicalResourceId", "unknown") == "unknown"}

    assert {found["ResourceStatus"] for found in resources} == {"CREATE_COMPLETE"}
    assert {kind.split("::")[1] for kind in left_out} == {"ECS", "ApplicationAutoScaling"}
