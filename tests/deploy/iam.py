"""The IAM policies of deploy/, and which action a call of boto3 needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase

from tests.conftest import DEPLOY

#: What S3 calls otherwise. https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
S3_ACTIONS = {"HeadObject": "GetObject", "HeadBucket": "ListBucket", "ListObjectsV2": "ListBucket"}


def action_of(service: str, operation: str) -> str:
    """The IAM action that an operation needs; a batch needs what each of its entries would."""
    if service == "s3":
        operation = S3_ACTIONS.get(operation, operation)
    return f"{service}:{operation.removesuffix('Batch')}"


class Policy:
    """A policy, its placeholders filled in.

    Parameters:
      name: of the file.
      words: what stands for which placeholder; without any, they stay.
    """

    def __init__(self, name: str, words: Mapping[str, str] | None = None) -> None:
        self.statements = json.loads((DEPLOY / f"{name}.json").read_text())["Statement"]
        for statement in self.statements:
            statement["Resource"] = [self._filled(arn, words or {}) for arn in statement["Resource"]]

    @staticmethod
    def _filled(arn: str, words: Mapping[str, str]) -> str:
        return ":".join("/".join(words.get(part, part) for part in piece.split("/")) for piece in arn.split(":"))

    @property
    def actions(self) -> set[str]:
        """All that it allows of anything."""
        return {action for statement in self.statements for action in statement["Action"]}

    @property
    def grants(self) -> set[tuple[str, str]]:
        """Each action with each resource it is allowed for."""
        return {
            (action, arn)
            for statement in self.statements
            for action in statement["Action"]
            for arn in statement["Resource"]
        }

    def grants_for(self, action: str, arn: str) -> set[tuple[str, str]]:
        """What of it allows an action."""
        return {grant for grant in self.grants if grant[0] == action and fnmatchcase(arn, grant[1])}
