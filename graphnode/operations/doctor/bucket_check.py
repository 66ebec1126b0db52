"""The payload bucket: does it exist, and can its objects be listed and read?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from graphnode.operations.doctor.aws_answers import code_of, is_denied, judge_refusal
from graphnode.operations.doctor.findings import Finding, broken, command, fine, statement

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SUBJECT = "S3 bucket"

#: The key of an object that does not exist.
NO_KEY = "graphnode-doctor/no-such-object"


def check_bucket(s3: S3Client, bucket: str, *, region: str) -> list[Finding]:
    """Findings after listing one object and reading one byte of it; of an empty bucket, reading a missing object."""
    arn = f"arn:aws:s3:::{bucket}"
    try:
        listed = s3.list_objects_v2(Bucket=bucket, MaxKeys=1).get("Contents", [])
    except ClientError as error:
        found = [_judge_listing(error, bucket, arn, region)]
        return [*found, *_judge_read(s3, bucket, NO_KEY, is_listed=False)] if is_denied(error) else found
    except Exception as error:
        refusal = judge_refusal(SUBJECT, error, actions=["s3:ListBucket"], resource=arn)
        if refusal is None:
            raise
        return [refusal]
    key = next((found["Key"] for found in listed if found.get("Size")), NO_KEY)
    read = "listed and read" if key != NO_KEY else "listed; it is empty"
    return _judge_read(s3, bucket, key, is_listed=True) or [fine(SUBJECT, f"{bucket}: {read}")]


def _judge_listing(error: ClientError, bucket: str, arn: str, region: str) -> Finding:
    if code_of(error) == "NoSuchBucket":
        place = [] if region == "us-east-1" else ["--create-bucket-configuration", f"LocationConstraint={region}"]
        return broken(
            SUBJECT,
            f"the bucket {bucket} does not exist",
            why="S3_PAYLOAD_BUCKET has a wrong name, or the bucket was deleted.",
            mend=command("aws", "s3api", "create-bucket", "--bucket", bucket, "--region", region, *place),
        )
    if code_of(error) in {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}:
        return broken(
            SUBJECT,
            f"the bucket {bucket} is in another region than {region}",
            why="S3 answers only in the bucket's own region.",
            mend=command("aws", "s3api", "get-bucket-location", "--bucket", bucket),
        )
    if refusal := judge_refusal(SUBJECT, error, actions=["s3:ListBucket"], resource=arn):
        return refusal
    raise error


def _judge_read(s3: S3Client, bucket: str, key: str, *, is_listed: bool) -> list[Finding]:
    arn = f"arn:aws:s3:::{bucket}/*"
    try:
        s3.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")["Body"].close()
    except ClientError as error:
        if code_of(error) == "NoSuchKey":
            return []
        if not is_listed and is_denied(error):
            # Without the permission to list, S3 answers the same for a missing object.
            return [
                broken(
                    SUBJECT,
                    "without s3:ListBucket it cannot be checked whether objects can be read",
                    why="Without it the worker cannot tell a missing object from one that it may not read.",
                    mend=statement(["s3:GetObject"], arn),
                )
            ]
        refusal = judge_refusal(SUBJECT, error, actions=["s3:GetObject"], resource=arn)
        if refusal is None:
            raise
        return [refusal]
    return []
