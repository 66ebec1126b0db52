"""The IAM policies in deploy/, and the action that a call of boto3 needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase

from tests.conftest import DEPLOY

#: S3 operations whose action has another name.
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
S3_ACTIONS = {"HeadObject": "GetObject", "HeadBucket": "ListBucket", "ListObjectsV2": "ListBucket"}


def action_of(service: str, operation: str) -> str:
    """The IAM action that an operation needs. A batch needs the action of its entries."""
    if service == "s3":
        operation = S3_ACTIONS.get(operation, operation)
    return f"{service}:{operation.removesuffix('Batch')}"


class Policy:
    """A policy with values for its placeholders.

    Parameters:
      name: of the file.
      words: values by placeholder. Placeholders without a value stay.
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
        """All actions that it allows."""
        return {action for statement in self.statements for action in statement["Action"]}

    @property
    def grants(self) -> set[tuple[str, str]]:
        """The pairs of an action and a resource that it allows."""
        return {
            (action, arn)
            for statement in self.statements
            for action in statement["Action"]
            for arn in statement["Resource"]
        }

    def grants_for(self, action: str, arn: str) -> set[tuple[str, str]]:
        """The grants that allow an action on a resource."""
        return {grant for grant in self.grants if grant[0] == action and fnmatchcase(arn, grant[1])}
