"""What AWS's refusals mean, and where its credentials come from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import botocore.exceptions as aws

from graphnode.clients.aws import Aws
from graphnode.errors import aws_code, one_line
from graphnode.operations.doctor.findings import Finding, broken, command, fine, statement

#: Gives a program credentials on a machine without a role.
GIVE_CREDENTIALS = "export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…"

#: Where boto3 has found credentials, by boto3's name for it.
SOURCES: Mapping[str, str] = {
    "explicit": "the environment",
    "env": "the environment",
    "shared-credentials-file": "a profile",
    "iam-role": "this machine's role",
    "container-role": "this container's role",
    "assume-role-with-web-identity": "a role, by a web identity",
}

#: AWS's error codes for credentials that it does not accept.
REFUSED = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "MissingAuthenticationToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)

#: AWS's error codes for an identity that is known but not allowed.
DENIED = frozenset({"AccessDenied", "AccessDeniedException", "AuthorizationError", "403", "UnauthorizedOperation"})

#: AWS's error codes and texts for a call that is signed with a wrong time. https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html
SKEWED = ("RequestTimeTooSkewed", "Signature expired", "Signature not yet current")

#: The region in the host name of a queue at AWS.
REGION_OF_HOST = re.compile(r"^(?:sqs\.)?(?P<region>[a-z]{2,}(?:-[a-z]+)+-\d+)\.(?:queue\.)?amazonaws\.com")


def find_credentials(environment: Mapping[str, str]) -> list[Finding]:
    """Findings on AWS credentials: of the environment, a profile, or the machine's role."""
    found = Aws.of_environment(environment).find_credentials()
    if found is None:
        return [
            broken(
                "AWS credentials",
                "none found: not in the environment, no profile, no role of this machine",
                why="Without them no call to SQS or S3 can be signed.",
                mend=GIVE_CREDENTIALS,
            )
        ]
    return [fine("AWS credentials", f"from {SOURCES.get(found.method, found.method)}")]


def judge_refusal(subject: str, error: Exception, *, actions: list[str], resource: str) -> Finding | None:
    """What a failed AWS call means whatever the call was; None if the error is about what the call asked for.

    Parameters:
      actions: the IAM actions that the call needs.
      resource: the ARN for which it needs them.
    """
    match error:
        case aws.NoCredentialsError() | aws.PartialCredentialsError() | aws.CredentialRetrievalError():
            return broken(
                subject,
                f"no AWS credentials: {one_line(error)}",
                mend=GIVE_CREDENTIALS,
            )
        case aws.ReadTimeoutError():
            return broken(
                subject,
                f"AWS accepts the connection, and does not answer: {one_line(error)}",
                why="AWS, or what is in its place, hangs or is overloaded; or a proxy on the way drops its answers.",
                mend=command("curl", "-sv", _endpoint_of(error)),
            )
        case aws.EndpointConnectionError() | aws.ConnectionError() | aws.HTTPClientError():
            return broken(
                subject,
                f"AWS cannot be reached: {one_line(error)}",
                why="No route, a wrong AWS_REGION or AWS_ENDPOINT_URL, or no VPC endpoint in a private subnet.",
                mend=command("curl", "-sv", _endpoint_of(error)),
            )
        case aws.ClientError():
            return _judge_answer(subject, error, actions=actions, resource=resource)
    return None


def code_of(error: aws.ClientError) -> str:
    """AWS's error code, without the namespace that SQS puts before it."""
    return aws_code(error).rpartition(".")[2]


def is_denied(error: aws.ClientError) -> bool:
    """Whether the identity is known, but not allowed."""
    return code_of(error) in DENIED or "not authorized to perform" in str(error)


def date_of(answer: Mapping[str, Any]) -> str | None:
    """The Date header of an answer, or of an error's `response`."""
    date: str | None = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return date


def region_of(queue_url: str) -> str | None:
    """The region in a queue's URL; None for a queue that is not at AWS."""
    found = REGION_OF_HOST.match(urlsplit(queue_url).hostname or "")
    return found["region"] if found else None


def queue_arn(queue_url: str, *, region: str) -> str:
    """The ARN of a queue, from its URL."""
    *_, account, name = urlsplit(queue_url).path.split("/")
    return f"arn:aws:sqs:{region_of(queue_url) or region}:{account}:{name}"


def _judge_answer(subject: str, error: aws.ClientError, *, actions: list[str], resource: str) -> Finding | None:
    code, text = code_of(error), one_line(error)
    if code in SKEWED or any(sign in text for sign in SKEWED):
        return broken(
            subject,
            "AWS refuses the call because of its time: this machine's clock is wrong",
            why=text,
            mend="sudo chronyc makestep",
        )
    if "kms" in aws_code(error).lower() or "kms:" in text:
        return broken(
            subject,
            f"the KMS key may not be used ({code})",
            why=text,
            mend=statement(["kms:Decrypt", "kms:GenerateDataKey"], "arn:aws:kms:REGION:ACCOUNT:key/KEY"),
        )
    if code in REFUSED:
        return broken(
            subject,
            f"AWS does not accept the credentials ({code})",
            why="The key is deleted, mistyped or expired, or belongs to another partition of AWS.",
            mend="aws sts get-caller-identity",
        )
    if is_denied(error):
        return broken(
            subject,
            f"not allowed: {', '.join(actions)}",
            why=text,
            mend=statement(actions, resource),
        )
    return None


def _endpoint_of(error: Exception) -> str:
    return str(getattr(error, "kwargs", {}).get("endpoint_url", "https://sqs.REGION.amazonaws.com"))
