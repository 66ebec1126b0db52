from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest

from graphnode.contract.object_keys import LONGEST_KEY_BYTES, PATTERN, fault_of, is_allowed, prefixes_of
from graphnode.contract.requests import (
    AddNodeRequest,
    AnyRequest,
    GraphGenerationRequest,
    GraphSummaryRequest,
    MicroscopeIngestRequest,
    validated,
)
from graphnode.dev.ai.request_decoding import read
from graphnode.errors import InvalidEnvelope, InvalidRequest

NO_KEYS = {
    "../eve/graph.json": "has a segment . or ..",
    "graph/ada/../eve/graph.json": "has a segment . or ..",
    "graph/ada/..": "has a segment . or ..",
    "graph/./ada": "has a segment . or ..",
    "graph\\..\\eve": "has a segment . or ..",
    "s3://other-bucket/graph.json": "is a URL or an ARN: a key is expected",
    "HTTP://169.254.169.254/latest/meta-data/": "is a URL or an ARN: a key is expected",
    "file:///etc/passwd": "is a URL or an ARN: a key is expected",
    "arn:aws:s3:::other-bucket/graph.json": "is a URL or an ARN: a key is expected",
    "graph/ada/\ngraph/eve/": "has a control character",
    "graph/ada/\x1b[2J": "has a control character",
    "k" * (LONGEST_KEY_BYTES + 1): "is longer than 1024 bytes",
    "é" * (LONGEST_KEY_BYTES // 2 + 1): "is longer than 1024 bytes",
}

KEYS = [
    "graph.json",
    "graph/ada/task_graph_ada_1/graph.json",
    "inputs/ada/",
    "/graph/ada/graph.json",
    "graph//ada.json",
    "graph/ada/..hidden/v1..2/graph.json",
    "graph/2026-05-24T08:02:08/graph.json",
    "그래프/ada/😀.json",
    "graph/ada/%2e%2e/graph.json",
    "k" * LONGEST_KEY_BYTES,
]

PER_USER = prefixes_of("graph/{user_id}/, microscope/{user_id}/images/,shared/")


@pytest.mark.parametrize(("key", "fault"), NO_KEYS.items())
def test_an_invalid_key_is_refused_with_its_fault(key: str, fault: str) -> None:
    assert fault_of(key) == fault


@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_s3_accepts_is_valid(key: str) -> None:
    assert fault_of(key) is None


@pytest.mark.parametrize("key", ["graph/ada/t/graph.json", "microscope/ada/images/", "shared/x"])
def test_a_key_below_one_of_the_users_prefixes_is_allowed(key: str) -> None:
    assert is_allowed(key, PER_USER, user_id="ada")


@pytest.mark.parametrize(
    ("key", "user_id"),
    [
        ("graph/eve/graph.json", "ada"),
        ("graph/adam/graph.json", "ada"),
        ("graph/ada", "ada"),
        ("microscope/ada/standardized.json", "ada"),
        ("Graph/ada/graph.json", "ada"),
        ("/graph/ada/graph.json", "ada"),
        ("", "ada"),
        ("graph/{user_id}/graph.json", "ada"),
        ("graph/eve/t/graph.json", "eve/t"),
    ],
)
def test_a_key_elsewhere_is_not_allowed(key: str, user_id: str) -> None:
    assert not is_allowed(key, PER_USER, user_id=user_id)


@pytest.mark.parametrize("text", ["graph/{user_id}/", "a/,b/c/", "a/, {user_id}/", "{user_id}/graph/"])
def test_prefixes_of_whole_segments_are_a_valid_setting(text: str) -> None:
    assert re.search(PATTERN, text)


@pytest.mark.parametrize("text", ["graph", "graph/{user_id}", "graph/{userId}/", "graph/x{user_id}/", "/", ",", "a/,"])
def test_prefixes_that_allow_more_than_they_say_are_not(text: str) -> None:
    assert not re.search(PATTERN, text)


REQUESTS: list[Callable[[str], AnyRequest]] = [
    lambda key: GraphGenerationRequest(user_id="ada", s3_key=key),
    lambda key: GraphGenerationRequest(user_id="ada", s3_key="in/", extra_s3_keys=["in/a", key]),
    lambda key: GraphSummaryRequest(user_id="ada", graph_s3_key=key),
    lambda key: GraphSummaryRequest(user_id="ada", graph_s3_key="graph.json", vector_db_s3_key=key),
    lambda key: AddNodeRequest(user_id="ada", s3_key=key),
    lambda key: MicroscopeIngestRequest(user_id="ada", s3_key=key, group_id="w", file_name="f"),
]


@pytest.mark.parametrize("make", REQUESTS)
def test_a_request_with_an_invalid_key_is_neither_made_nor_served(make: Callable[[str], AnyRequest]) -> None:
    for key in NO_KEYS:
        request = make(key)
        with pytest.raises(InvalidRequest, match="The S3 key"):
            validated(request)
        body = {"taskType": request.request_type, "taskId": "t", "payload": request.wire()}
        with pytest.raises(InvalidEnvelope, match="The S3 key"):
            read(msgspec.json.encode(body).decode(), sent_at=datetime.now(UTC))
