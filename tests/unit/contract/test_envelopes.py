from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from graphnode.contract.bodies import to_message
from graphnode.contract.envelopes import ROUTES, Envelope, MicroscopeIngestResult, spellings
from graphnode.contract.schemas.examples import example_of

SENT_AT = datetime(2026, 5, 24, 8, 0, tzinfo=UTC)

#: A value for each field. For a field that is not here, the example of its type has one.
EVERY_FIELD: dict[str, Any] = {
    "user_id": "u-1",
    "status": "COMPLETED",
    "error": "two sources could not be read",
    "result_s3_key": "r.json",
    "features_s3_key": "f.json",
    "summary_included": True,
    "summary_s3_key": "s.json",
    "current_stage": "clustering",
    "progress_percent": 12.5,
    "eta_seconds": 30.0,
    "group_id": "w-1",
    "source_id": "src-1",
    "chunks_count": 7,
    "schema_name": "science",
    "ingest_stats": {"seconds": 1.5},
    "standardized_s3_key": "n.json",
    "block_graph_s3_key": "b.json",
    "images_s3_prefix": "images/",
}


def camel_case(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)


@pytest.mark.parametrize("spell", [camel_case, str], ids=["camelCase", "snake_case"])
@pytest.mark.parametrize("task_type", ROUTES)
def test_every_field_of_every_type_is_read_in_either_spelling(task_type: str, spell: Callable[[str], str]) -> None:
    example = example_of(f"messages/{task_type}")["payload"]
    fields = EVERY_FIELD | {
        name: example[as_written]
        for name in ROUTES[task_type].payload.__struct_fields__
        for as_written in spellings(name)
        if as_written in example and name not in EVERY_FIELD
    }
    payload = {spell(name): value for name, value in fields.items()}
    body = json.dumps({"taskType": task_type, "taskId": "t-1", "payload": payload})

    message = to_message(body, message_id="m-1", sent_at=SENT_AT, receive_count=1)
    (envelope,) = message.args
    assert isinstance(envelope, Envelope)
    read = msgspec.structs.asdict(envelope.payload)

    assert read.keys() <= fields.keys(), f"schemas/examples.py: give each field of {task_type} a value"
    assert read == {name: fields[name] for name in read}


@pytest.mark.parametrize("task_type", ROUTES)
def test_every_type_of_the_routing_table_reaches_its_actor(task_type: str) -> None:
    example = example_of(f"messages/{task_type}") | {"taskId": "t-1"}

    message = to_message(json.dumps(example), message_id="m-1", sent_at=SENT_AT, receive_count=1)

    assert message.actor_name == ROUTES[task_type].actor
    assert message.message_id == "m-1"
    assert message.options["log_fields"]["task_id"] == "t-1"


def test_a_payload_names_its_s3_keys() -> None:
    payload = msgspec.convert({**EVERY_FIELD, "status": "COMPLETED"}, MicroscopeIngestResult)

    assert payload.s3_keys == ["n.json", "b.json", "images/"]
