"""The IAM policies in deploy/ allow exactly the actions that the code calls."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name

import graphnode
from tests.deploy.iam import Policy, action_of

CODE = Path(graphnode.__file__).parent

#: The modules whose calls a policy allows, as globs, by policy.
MODULES = {
    "iam-worker": ["broker.py", "sqs/*.py", "clients/s3.py", "worker/*.py"],
    "iam-api": ["requests/*.py"],
    "iam-operator": ["operations/**/*.py", "sqs/queues.py"],
}

#: What `SQSBroker.flush` calls. A worker never calls it, and may not.
FOR_TESTS = {"sqs:PurgeQueue"}

#: Modules for development, such as the stand-in AI server, which need no policy of ours.
ELSEWHERE = ["dev/**/*.py"]


@cache
def operations() -> dict[str, str]:
    """The action that each method of boto3's clients needs, by method name."""
    session = botocore.session.get_session()
    found = {
        xform_name(operation): action_of(service, operation)
        for service in ("sqs", "s3", "cloudwatch")
        for operation in session.get_service_model(service).operation_names
    }
    return found | {"upload_file": "s3:PutObject"}


def called(path: Path) -> Iterator[str]:
    """The actions that the calls of a module need."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in operations():
            yield operations()[node.attr]


@pytest.mark.parametrize("policy", MODULES)
def test_a_policy_allows_what_its_modules_call_and_nothing_else(policy: str) -> None:
    found = {action for pattern in MODULES[policy] for path in CODE.glob(pattern) for action in called(path)}

    assert found - FOR_TESTS == Policy(policy).actions


def test_no_other_module_calls_aws() -> None:
    known = {path for patterns in [ELSEWHERE, *MODULES.values()] for pattern in patterns for path in CODE.glob(pattern)}

    assert not {path for path in set(CODE.rglob("*.py")) - known if set(called(path))}


@pytest.mark.parametrize("policy", MODULES)
def test_no_policy_allows_a_family_of_actions(policy: str) -> None:
    assert not [action for action in Policy(policy).actions if "*" in action]
