"""Requests on the wire have the contract's fields and spellings, and no field that was not given."""

from __future__ import annotations

import importlib
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from graphnode.contract.bodies import to_message
from graphnode.contract.envelopes import ROUTES
from graphnode.contract.requests import (
    LARGEST_REQUEST_BYTES,
    REQUESTS,
    AddNodeRequest,
    AnyRequest,
    GraphGenerationRequest,
    GraphSummaryRequest,
    MicroscopeIngestFromNodeRequest,
    MicroscopeIngestRequest,
    RequestPayload,
    message_of,
    new_task_id,
    validated,
)
from graphnode.contract.task_ids import parse_task_id
from graphnode.errors import InvalidRequest, MisplacedRequest
from graphnode.sqs.queues import LARGEST_MESSAGE_BYTES

#: Each type with all its fields, and with only the required ones; and their wire forms.
WIRE: dict[str, tuple[AnyRequest, dict[str, Any]]] = {
    "graph": (
        GraphGenerationRequest(
            user_id="ada",
            s3_key="in/",
            bucket="b",
            include_summary=False,
            summary_language="ko",
            language="en",
            input_type="chatgpt",
            min_clusters=3,
            max_clusters=9,
            extra_s3_keys=["a", "b"],
        ),
        {
            "userId": "ada",
            "s3Key": "in/",
            "bucket": "b",
            "includeSummary": False,
            "summaryLanguage": "ko",
            "language": "en",
            "inputType": "chatgpt",
            "minClusters": 3,
            "maxClusters": 9,
            "extraS3Keys": ["a", "b"],
        },
    ),
    "graph, required": (GraphGenerationRequest(user_id="ada", s3_key="in"), {"userId": "ada", "s3Key": "in"}),
    "summary": (
        GraphSummaryRequest(user_id="ada", graph_s3_key="g", bucket="b", vector_db_s3_key="v", language="en"),
        {"userId": "ada", "graphS3Key": "g", "bucket": "b", "vectorDbS3Key": "v", "language": "en"},
    ),
    "summary, required": (
        GraphSummaryRequest(user_id="ada", graph_s3_key="g"),
        {"userId": "ada", "graphS3Key": "g"},
    ),
    "add node": (
        AddNodeRequest(user_id="ada", s3_key="in", bucket="b", input_type="notion", language="en"),
        {"userId": "ada", "s3Key": "in", "bucket": "b", "inputType": "notion", "language": "en"},
    ),
    "add node, required": (AddNodeRequest(user_id="ada", s3_key="in"), {"userId": "ada", "s3Key": "in"}),
    "microscope": (
        MicroscopeIngestRequest(
            user_id="ada",
            s3_key="f.pdf",
            group_id="w",
            file_name="f.pdf",
            bucket="b",
            schema_name="s",
            block_mode=False,
            generate_micro_graphs=False,
            type="pdf",
            metadata={"pages": 3, "author": None},
        ),
        {
            "user_id": "ada",
            "s3_key": "f.pdf",
            "group_id": "w",
            "file_name": "f.pdf",
            "bucket": "b",
            "schema_name": "s",
            "ingest_mode": "raw_file",
            "block_mode": False,
            "generate_micro_graphs": False,
            "type": "pdf",
            "metadata": {"pages": 3, "author": None},
        },
    ),
    "microscope, required": (
        MicroscopeIngestRequest(user_id="ada", s3_key="f.pdf", group_id="w", file_name="f.pdf"),
        {"user_id": "ada", "s3_key": "f.pdf", "group_id": "w", "file_name": "f.pdf", "ingest_mode": "raw_file"},
    ),
    "microscope from node": (
        MicroscopeIngestFromNodeRequest(
            user_id="ada",
            node_id="n",
            node_type="note",
            group_id="w",
            schema_name="s",
            language="en",
            block_mode=True,
            generate_micro_graphs=True,
        ),
        {
            "user_id": "ada",
            "node_id": "n",
            "node_type": "note",
            "group_id": "w",
            "schema_name": "s",
            "language": "en",
            "ingest_mode": "from_graphnode",
            "block_mode": True,
            "generate_micro_graphs": True,
        },
    ),
    "microscope from node, required": (
        MicroscopeIngestFromNodeRequest(user_id="ada", node_id="n", node_type="conversation", group_id="w"),
        {
            "user_id": "ada",
            "node_id": "n",
            "node_type": "conversation",
            "group_id": "w",
            "ingest_mode": "from_graphnode",
        },
    ),
}


@pytest.mark.parametrize("name", WIRE)
def test_a_request_has_the_spelling_of_the_contract(name: str) -> None:
    payload, wire = WIRE[name]

    body = message_of("t1", payload).body

    envelope = msgspec.json.decode(body)
    assert envelope.pop("payload") == wire
    sent_at = datetime.fromisoformat(envelope.pop("timestamp"))
    assert sent_at.utcoffset() == timedelta(0)
    assert envelope == {"taskType": payload.request_type, "taskId": "t1"}


@pytest.mark.parametrize("name", WIRE)
def test_a_request_on_the_result_queue_is_a_dead_letter(name: str) -> None:
    body = message_of("t1", WIRE[name][0]).body

    with pytest.raises(MisplacedRequest):
        to_message(body, message_id="m", sent_at=datetime.now(UTC), receive_count=1)


def test_every_request_type_has_its_payload_and_the_result_that_ends_it() -> None:
    assert set(RequestPayload.__subclasses__()) == set(REQUESTS.values()), "add it to AnyRequest"
    assert {kind.task_type for kind in REQUESTS.values()} <= {route.task_type for route in ROUTES.values()}


def test_a_request_may_be_as_large_as_an_sqs_message() -> None:
    assert LARGEST_REQUEST_BYTES == LARGEST_MESSAGE_BYTES


def test_the_complete_forms_have_every_field() -> None:
    for kind in REQUESTS.values():
        forms = [wire for payload, wire in WIRE.values() if isinstance(payload, kind)]
        assert max(map(len, forms)) == len(kind.__struct_fields__)


@pytest.mark.parametrize("kind", REQUESTS.values())
def test_a_microscope_tasks_id_names_its_user_and_every_one_is_new(kind: type[RequestPayload]) -> None:
    ids = [new_task_id(kind, user_id="a_da") for _ in range(2)]

    assert ids[0] != ids[1]
    if "microscope" in kind.task_id:
        assert parse_task_id(ids[0]).user_id == "a_da"


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (GraphGenerationRequest(user_id="", s3_key="k"), r"GRAPH_GENERATION_REQUEST: .*length >= 1.*userId"),
        (GraphGenerationRequest(user_id="a" * 201, s3_key="k"), r"length <= 200.*userId"),
        (GraphGenerationRequest(user_id="ada", s3_key="a\0b"), r"regex.*s3Key"),
        (GraphGenerationRequest(user_id="ada", s3_key="k", min_clusters=0), r">= 1.*minClusters"),
        (AddNodeRequest(user_id="ada", s3_key=7), r"Expected `str`, got `int`.*s3Key"),  # type: ignore[arg-type]
        (
            MicroscopeIngestFromNodeRequest(user_id="ada", node_id="n", node_type="page", group_id="w"),  # type: ignore[arg-type]
            r"Invalid enum value 'page'.*node_type",
        ),
        (MicroscopeIngestRequest(user_id="ada", s3_key="k", group_id="w", file_name=""), r"length >= 1.*file_name"),
        (
            MicroscopeIngestRequest(user_id="ada", s3_key="k", group_id="w", file_name="f", metadata={"x": object()}),
            "object",
        ),
    ],
)
def test_an_invalid_request_is_refused_with_its_field(payload: AnyRequest, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        validated(payload)


def test_more_min_clusters_than_max_clusters_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="minClusters is 5, more than maxClusters, 3"):
        GraphGenerationRequest(user_id="ada", s3_key="k", min_clusters=5, max_clusters=3)


@pytest.mark.parametrize(
    ("task_id", "payload", "told"),
    [
        ("t" * 401, AddNodeRequest(user_id="ada", s3_key="k"), "401 characters: 1 to 400"),
        ("", AddNodeRequest(user_id="ada", s3_key="k"), "0 characters: 1 to 400"),
        ("t\0", AddNodeRequest(user_id="ada", s3_key="k"), r"no U\+0000"),
        ("t", AddNodeRequest(user_id="ada", s3_key="\ud800"), "ADD_NODE_REQUEST: .*surrogates"),
        ("t", AddNodeRequest(user_id="ada", s3_key="k" * (1 << 20)), "put large values into S3"),
    ],
)
def test_a_request_that_cannot_be_a_message_is_refused(task_id: str, payload: AnyRequest, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        message_of(task_id, payload)


def test_a_process_that_makes_requests_gets_no_worker() -> None:
    program = "import sys, graphnode.requests; print({'graphnode.actors', 'firebase_admin'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "set()\n"


def test_a_request_names_its_s3_keys() -> None:
    assert WIRE["graph"][0].s3_keys == ["in/", "a", "b"]
    assert WIRE["summary"][0].s3_keys == ["g", "v"]
    assert WIRE["microscope from node"][0].s3_keys == []


def test_a_surrogate_in_an_enum_is_refused() -> None:
    payload = MicroscopeIngestRequest(
        user_id="u",
        s3_key="k",
        group_id="g",
        file_name="f",
        ingest_mode="\ud800",  # type: ignore[arg-type]
    )

    with pytest.raises(InvalidRequest, match="MICROSCOPE_INGEST_REQUEST"):
        validated(payload)


def test_cluster_numbers_that_are_texts_are_refused_with_their_field() -> None:
    payload = GraphGenerationRequest(user_id="u", s3_key="k", min_clusters="b", max_clusters="a")  # type: ignore[arg-type]

    with pytest.raises(InvalidRequest, match="minClusters"):
        validated(payload)


def test_the_old_module_name_still_works_and_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "graphnode.request_payloads", raising=False)

    with pytest.warns(DeprecationWarning, match=r"now graphnode\.contract\.requests"):
        old = importlib.import_module("graphnode.request_payloads")

    assert old.GraphGenerationRequest is GraphGenerationRequest
