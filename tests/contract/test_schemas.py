"""The contract's files are true: the worker reads without loss what a schema accepts, and not what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.contract.notifications import Notice
from graphnode.contract.schemas.examples import EXAMPLES, example_of
from graphnode.contract.schemas.export import contract_files, export, outdated
from graphnode.contract.schemas.json_schemas import schemas
from graphnode.contract.schemas.structs import Schema, descriptions, number_text
from graphnode.errors import DeclarationError
from tests.contract.drawing import drawn
from tests.contract.verdicts import refusal

CONTRACT = Path(__file__).parents[2] / "contract"

SCHEMAS = schemas()


class Differing(NamedTuple):
    """A value on which the schema and the worker disagree."""

    accepted_by_schema: bool
    refusal: str | None
    value: str


def test_the_files_are_up_to_date() -> None:
    assert outdated(CONTRACT) == [], "run `graphnode contract export contract`, and commit what it changes"


def test_an_export_changes_only_what_differs(tmp_path: Path) -> None:
    export(tmp_path)
    (tmp_path / "asyncapi.json").write_text("{}")
    (tmp_path / "schemas/messages/ADD_NODE_RESULT.json").unlink()
    (tmp_path / "schemas/messages/VIDEO_RESULT.json").write_text("{}")
    (tmp_path / "README.md").write_text("by hand")

    changed = export(tmp_path)

    assert changed == [
        "asyncapi.json",
        "schemas/messages/ADD_NODE_RESULT.json",
        "schemas/messages/VIDEO_RESULT.json",
    ]
    there = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()}
    assert there == {*contract_files(), "README.md"}
    assert export(tmp_path) == []


@pytest.mark.parametrize("path", SCHEMAS)
def test_every_schema_is_valid_and_accepts_its_example(path: str) -> None:
    schema = SCHEMAS[path]
    jsonschema_rs.meta.validate(schema)

    [example] = schema["examples"]

    assert list(jsonschema_rs.validator_for(schema).iter_errors(example)) == []
    assert refusal(path, example) is None


def test_there_is_an_example_of_everything() -> None:
    assert EXAMPLES.keys() == SCHEMAS.keys()


def test_the_error_for_a_missing_example_says_where_to_write_it() -> None:
    with pytest.raises(DeclarationError) as caught:
        example_of("messages/VIDEO_RESULT")

    assert str(caught.value).startswith(
        "graphnode/contract/schemas/examples.py has no example of messages/VIDEO_RESULT: write"
    )


class Silent(Notice, frozen=True, kw_only=True):
    told: str
    """What it means."""
    untold: str


def test_the_error_for_a_missing_description_names_the_field() -> None:
    with pytest.raises(DeclarationError) as caught:
        descriptions(Silent)

    assert str(caught.value) == f"{__name__}.Silent: write below untold what it means."


@pytest.mark.parametrize("path", SCHEMAS)
def test_every_field_has_a_description(path: str) -> None:
    undescribed = [name for name, field in fields_in(SCHEMAS[path]) if not field.keys() & {"description", "$ref"}]

    assert undescribed == []


def fields_in(schema: Schema) -> Iterator[tuple[str, Schema]]:
    for part in (schema, *schema["$defs"].values()):
        yield from part.get("properties", {}).items()


@pytest.mark.parametrize("path", SCHEMAS)
def test_a_schema_accepts_exactly_what_the_worker_reads_without_loss(path: str) -> None:
    validator = jsonschema_rs.validator_for(SCHEMAS[path])
    differing = [
        Differing(taken, why, json.dumps(value, ensure_ascii=False))
        for value, taken in drawn(path, SCHEMAS[path], validator.is_valid, Random(path), each=500)
        if taken != ((why := refusal(path, value)) is None)
    ]

    assert differing == []


@given(
    number=st.integers(-300, 300) | st.floats(-300, 300).map(lambda number: round(number, 2)),
    kind=st.sampled_from(["integer", "number"]),
    least=st.none() | st.integers(-200, 0),
    most=st.none() | st.integers(1, 200),
)
def test_a_number_in_a_text_has_the_bounds_of_the_number(
    number: float, kind: str, least: int | None, most: int | None
) -> None:
    bounds = {"minimum": least, "maximum": most}
    schema: dict[str, Any] = {"type": kind, **{name: bound for name, bound in bounds.items() if bound is not None}}
    _, text = number_text(schema)
    written = format(number, "g") if number else "0"

    assert jsonschema_rs.is_valid(text, written) == jsonschema_rs.is_valid(schema, number)
