"""Statements that peewee writes once."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from peewee import EXCLUDED, TextField

from graphnode.storage.database import Bound, JsonField, Record, together
from graphnode.storage.statements import Statement, given, given_json


class PetRecord(Record):
    name = TextField(primary_key=True)
    kind = TextField()
    traits = JsonField(null=True)


BY_KIND = PetRecord.select(PetRecord.name).where(PetRecord.kind == given("kind"), PetRecord.name.in_(("Rex", "Tom")))


def test_each_call_has_its_values_and_the_querys_own() -> None:
    statement = Statement(BY_KIND)

    first, second = statement.bind(kind="dog"), statement.bind(kind="cat")

    assert first.sql == second.sql
    assert first.sql.count("%s") == 3
    assert (first.values, second.values) == (["dog", "Rex", "Tom"], ["cat", "Rex", "Tom"])


def test_peewee_writes_it_once() -> None:
    statement = Statement(BY_KIND)
    with patch.object(type(BY_KIND), "sql", autospec=True, side_effect=type(BY_KIND).sql) as written:
        for kind in ("dog", "cat"):
            statement.bind(kind=kind)

    assert written.call_count == 1


def test_a_value_may_be_in_several_places_and_json_is_encoded() -> None:
    insert = PetRecord.insert(
        {PetRecord.name: given("name"), PetRecord.kind: given("kind"), PetRecord.traits: given_json("traits")}
    ).on_conflict(
        conflict_target=[PetRecord.name],
        update={PetRecord.traits: given_json("traits")},
        where=PetRecord.kind == EXCLUDED.kind,
    )

    bound = Statement(insert).bind(name="Rex", kind="dog", traits={"age": 3})

    assert bound.values == ["Rex", "dog", '{"age":3}', '{"age":3}']
    assert Statement(insert).bind(name="Rex", kind="dog", traits=None).values == ["Rex", "dog", None, None]


def test_a_value_that_is_not_given_is_refused() -> None:
    with pytest.raises(KeyError, match="kind"):
        Statement(BY_KIND).bind()


def test_sql_may_be_written_by_hand_with_named_places() -> None:
    statement = Statement("SELECT %(kind)s WHERE %(name)s = %(kind)s")
    assert statement.bind(name="a", kind="b") == Bound("SELECT %s WHERE %s = %s", ["b", "a", "b"])


def test_several_are_one_string_with_their_values_in_order() -> None:
    assert together(Bound("SELECT %s", [1]), Bound("SELECT 2"), Bound("SELECT %s, %s", (3, 4))) == Bound(
        "SELECT %s; SELECT 2; SELECT %s, %s", [1, 3, 4]
    )
