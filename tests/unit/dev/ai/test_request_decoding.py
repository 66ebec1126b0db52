from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from graphnode.contract.requests import (
    REQUESTS,
    AddNodeRequest,
    AnyRequest,
    GraphGenerationRequest,
    GraphSummaryRequest,
    MicroscopeIngestFromNodeRequest,
    MicroscopeIngestRequest,
)
from graphnode.dev.ai.request_decoding import ACTOR, read, to_message
from graphnode.errors import GraphNodeError, InvalidEnvelope, UnknownTaskType

SENT = datetime(2026, 5, 24, 8, 2, tzinfo=UTC)

PAYLOADS: list[AnyRequest] = [
    GraphGenerationRequest(user_id="ada", s3_key="in/", include_summary=True, max_clusters=7, extra_s3_keys=["b.md"]),
    GraphSummaryRequest(user_id="ada", graph_s3_key="graph.json", language="ko"),
    AddNodeRequest(user_id="ada", s3_key="new.json", input_type="chat"),
    MicroscopeIngestRequest(
        user_id="ada",
        s3_key="a.md",
        group_id="w",
        file_name="a.md",
        metadata={"pages": 3},
        block_mode=True,
        generate_micro_graphs=True,
    ),
    MicroscopeIngestFromNodeRequest(user_id="ada", node_id="c-1", node_type="conversation", group_id="w"),
]


def body(payload: Any, task_type: str, **changes: Any) -> str:
    fields = {"taskType": task_type, "taskId": "t-1", "timestamp": SENT.isoformat(), "payload": payload}
    return json.dumps({name: value for name, value in {**fields, **changes}.items() if value is not ...})


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(map(str.title, rest))


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.request_type)
def test_each_request_is_decoded_in_every_spelling(payload: AnyRequest) -> None:
    wire = payload.wire()
    fields = {name: getattr(payload, name) for name in payload.__struct_fields__}
    for spelling in (wire, fields, {camel(name): value for name, value in fields.items()}):
        assert read(body(spelling, payload.request_type), sent_at=SENT).payload == payload


def test_every_type_of_request_is_known() -> None:
    assert REQUESTS.keys() == {payload.request_type for payload in PAYLOADS}


def test_null_and_empty_mean_missing_and_unknown_fields_are_ignored() -> None:
    payload = {"userId": "ada", "user_id": "", "s3Key": "in/", "language": "", "bucket": None, "colour": "red"}

    received = read(body(payload, "ADD_NODE_REQUEST"), sent_at=SENT)

    assert received.payload == AddNodeRequest(user_id="ada", s3_key="in/")


@pytest.mark.parametrize("timestamp", [..., None, "", "yesterday"])
def test_a_request_without_a_time_has_the_time_of_sqs(timestamp: Any) -> None:
    payload = PAYLOADS[0].wire()

    assert read(body(payload, "GRAPH_GENERATION_REQUEST", timestamp=timestamp), sent_at=SENT).sent_at == SENT


@pytest.mark.parametrize(
    ("text", "error", "reason"),
    [
        ('{"taskType": "ADD_NODE', InvalidEnvelope, "not JSON"),
        ("[]", InvalidEnvelope, "not a JSON object"),
        (body({}, "GRAPH_GENERATION_RESULT"), UnknownTaskType, "it is not a request"),
        (body({"userId": "ada"}, "ADD_NODE_REQUEST"), InvalidEnvelope, "s3Key"),
        (body({"userId": "ada", "s3Key": ["x"]}, "ADD_NODE_REQUEST"), InvalidEnvelope, "s3Key"),
        (
            body({"userId": "ada", "s3Key": "../" + "k" * 300}, "ADD_NODE_REQUEST"),
            InvalidEnvelope,
            r"has a segment \. or",
        ),
        (body([], "ADD_NODE_REQUEST"), InvalidEnvelope, "payload: expected an object"),
        (body({}, "ADD_NODE_REQUEST", taskId=None), InvalidEnvelope, "taskId"),
        (
            body({"userId": "a", "s3Key": "k", "minClusters": 9, "maxClusters": 2}, "GRAPH_GENERATION_REQUEST"),
            InvalidEnvelope,
            "minClusters is 9",
        ),
    ],
)
def test_an_invalid_request_is_a_permanent_error(text: str, error: type[GraphNodeError], reason: str) -> None:
    with pytest.raises(error, match=reason):
        read(text, sent_at=SENT)


def test_a_message_names_the_actor_and_its_log_fields() -> None:
    text = body(PAYLOADS[2].wire(), "ADD_NODE_REQUEST")

    message = to_message(text, message_id="m", sent_at=SENT, receive_count=1)

    assert (message.actor_name, message.args[0].task_id) == (ACTOR, "t-1")
    assert message.options["log_fields"] == {"task_id": "t-1", "task_type": "ADD_NODE_REQUEST", "user_id": "ada"}
