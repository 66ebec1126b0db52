from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from graphnode.contract.bodies import to_message
from graphnode.contract.envelopes import ROUTES
from graphnode.contract.schemas.examples import example_of
from graphnode.dev.samples import (
    GRAPH,
    HALVES,
    KINDS,
    Half,
    Result,
    by_example,
    kind_of,
    new_task_id,
    packaged_documents,
    result_of,
)


def payload_of(result: Result) -> dict[str, object]:
    payload: dict[str, object] = json.loads(result.body)["payload"]
    return payload


def test_every_routed_type_has_a_sample() -> None:
    assert {kind.task_type for kind in KINDS.values()} == ROUTES.keys()


@pytest.mark.parametrize("name", KINDS)
def test_the_worker_accepts_every_sample(name: str) -> None:
    kind = KINDS[name]
    result = result_of(
        kind,
        user_id="u",
        documents=packaged_documents(kind, user_id="u"),
        extra={"currentStage": "Clustering", "progressPercent": 10} if name == "progress" else None,
    )

    message = to_message(result.body, message_id="m", sent_at=datetime.now(UTC), receive_count=1)

    assert message.args[0].task_id == result.task_id


def test_a_type_without_documents_has_the_contracts_example() -> None:
    kind = by_example("GRAPH_GENERATION_PROGRESS")

    payload = payload_of(result_of(kind, user_id="ben", documents={}))

    assert payload == example_of("messages/GRAPH_GENERATION_PROGRESS")["payload"] | {"userId": "ben"}


@pytest.mark.parametrize("name", ["graph", "GRAPH_GENERATION_RESULT", "graph_generation_result"])
def test_a_type_has_a_short_name_and_the_contracts(name: str) -> None:
    assert kind_of(name) is KINDS["graph"]


def test_an_unknown_type_is_an_error() -> None:
    with pytest.raises(KeyError):
        kind_of("video")


def test_the_payload_names_the_keys_of_the_documents() -> None:
    documents = {"resultS3Key": b"{}", "featuresS3Key": b"[]"}
    result = result_of(KINDS["graph"], user_id="u", documents=documents)

    named = {payload_of(result)[field]: content for field, content in documents.items()}
    assert named == result.documents


def test_a_failure_has_no_documents() -> None:
    result = result_of(KINDS["graph"], user_id="u", documents={"resultS3Key": b"{}"}, status="FAILED", error="too few")

    assert result.documents == {}
    assert payload_of(result) == {"userId": "u", "status": "FAILED", "error": "too few"}


@pytest.mark.parametrize("half", HALVES)
def test_a_half_has_its_own_document_and_its_name_at_the_end_of_its_task_id(half: Half) -> None:
    kind = KINDS["microscope"]
    documents = packaged_documents(kind, user_id="u", half=half)
    result = result_of(kind, user_id="u", documents=documents, task_id="doc", half=half)
    again = result_of(kind, user_id="u", documents=documents, task_id=result.task_id, half=half)

    assert result.task_id == again.task_id == f"doc_{half}"
    assert list(documents) == [HALVES[half]]


def test_task_ids_name_the_user_and_differ() -> None:
    first, second = (new_task_id(KINDS["microscope"], user_id="u_1") for _ in range(2))

    assert first.startswith("task_microscope_file_u_1_")
    assert first != second


def test_packaged_documents_name_the_user() -> None:
    batch = json.loads(packaged_documents(KINDS["add-node"], user_id='quo"te')["resultS3Key"])

    assert batch["userId"] == 'quo"te'
    assert batch["results"][0]["nodes"][0]["id"].startswith('quo"te_')


def test_the_packaged_graph_comes_with_features_and_summary() -> None:
    assert packaged_documents(KINDS["graph"], user_id="u").keys() == GRAPH.keys()
