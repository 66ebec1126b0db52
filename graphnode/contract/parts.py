"""Converts parsed JSON to a type part by part: a malformed part is left out and counted ("How tolerant", the contract).

The types say what a part is: a field that has a default, an element of an array, an entry of an object. What a type
requires identifies the whole, which is malformed without it. Whoever decodes tries msgspec alone first, which is fast:
only a value with a fault gets here.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

import msgspec

from graphnode.contract.repairs import Warnings, add_count

#: How many elements of an array must be readable, so that the array is: the key in `extra`.
NEEDS = "needs"
EVERY_ELEMENT = msgspec.Meta(extra={NEEDS: "every"})
SOME_ELEMENT = msgspec.Meta(extra={NEEDS: "some"})

#: Which values are read as a text where a text is expected: numbers, if nothing else is said.
AS_TEXT = "as text"
ONLY_TEXT = msgspec.Meta(extra={AS_TEXT: "none"})
ANY_AS_TEXT = msgspec.Meta(extra={AS_TEXT: "any"})

T = TypeVar("T")


class Malformed(Exception):
    """A value that cannot be read, not even in parts.

    Parameters:
      problem: msgspec's text.
      value: what the problem is in.
      path: the way from the root to this value.
    """

    def __init__(self, problem: str, value: Any, path: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.value = value
        self.path = path

    def below(self, step: str) -> Malformed:
        """The same fault, seen from one level higher."""
        self.path = step + self.path
        return self


def convert_parts(value: Any, kind: type[T], warnings: Warnings, *, at: str = "") -> T:
    """The value as this type, without its malformed parts.

    Parameters:
      value: parsed JSON. Its arrays are changed in place, so that at no time all of it is in memory twice.
      warnings: counts what was left out, by path.
      at: the value's path.

    Raises Malformed if what the type requires is malformed.
    """
    parts = _Parts(warnings)
    if isinstance(value, dict) and _is_struct(kind):
        return cast(T, parts.struct(value, cast(Any, kind), at))
    return cast(T, parts.read(value, kind, at))


class _Parts:
    """Reads values. Paths in warnings have no indexes, so that their number is limited."""

    def __init__(self, warnings: Warnings) -> None:
        self._warnings = warnings

    def read(self, value: Any, kind: Any, at: str) -> Any:
        """The value as this type. Raises Malformed."""
        if isinstance(value, list):
            bare, extra = _bare(kind)
            if get_origin(bare) is list:
                return self._elements(value, get_args(bare)[0], extra.get(NEEDS), at)
        try:
            return msgspec.convert(value, kind, strict=False)
        except msgspec.ValidationError as error:
            problem = str(error)
        bare, extra = _bare(kind)
        if get_origin(bare) in (Union, UnionType):
            for member in get_args(bare):
                if _may_be(value, member):
                    return self.read(value, member, at)
        elif _is_struct(bare) and isinstance(value, dict):
            given = {name: field for name, field in value.items() if field is not None and field != ""}
            if len(given) < len(value):
                # Most often that is all: some builds write "" for whatever is not given.
                with suppress(msgspec.ValidationError):
                    return msgspec.convert(given, kind, strict=False)
            return self.struct(value, bare, at)
        elif bare is str and (text := _as_text(value, extra.get(AS_TEXT))):
            with suppress(msgspec.ValidationError):
                read = msgspec.convert(text, kind)
                add_count(self._warnings, f"{at} read as text", 1)
                return read
        raise Malformed(problem, value)

    def struct(self, fields: dict[str, Any], kind: type[msgspec.Struct], at: str) -> msgspec.Struct:
        """An object. An optional field that is malformed, null or "" is not given."""
        given: dict[str, Any] = {}
        for field in _fields(kind):
            name = field.encode_name
            value, place = fields.get(name), f"{at}.{name}" if at else name
            try:
                if value is not None and value != "":
                    given[field.name] = self.read(value, field.type, place)
                elif field.required:
                    given[field.name] = _nothing(field.type, fields, name)
            except Malformed as malformed:
                if field.required:
                    raise malformed.below(f".{name}" if malformed.value is not fields else "") from None
                add_count(self._warnings, f"malformed {place}", 1)
        try:
            return kind(**given)
        except ValueError as error:
            raise Malformed(str(error), fields) from None

    def _elements(self, values: list[Any], kind: Any, needs: Literal["every", "some"] | None, at: str) -> list[Any]:
        place, kept = f"{at}[]", 0
        first: Malformed | None = None
        for index, value in enumerate(values):
            try:
                values[kept] = self.read(value, kind, place)
                kept += 1
            except Malformed as malformed:
                first = first or malformed.below(f"[{index}]")
                if needs == "every":
                    break
        if first and (needs == "every" or (needs == "some" and not kept)):
            raise first
        add_count(self._warnings, f"malformed {place}", len(values) - kept)
        del values[kept:]
        return values


def number_as_text(value: Any) -> str | None:
    """A number in JSON, where a text is expected; None for anything else, and for a number of thousands of digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return msgspec.json.encode(value).decode()
    except ValueError:
        return None


def _as_text(value: Any, which: Literal["none", "any"] | None) -> str | None:
    """What is read for a value that is no text; None if nothing is. false, 0, [] and {} say nothing."""
    if which == "any":
        return msgspec.json.encode(value).decode() if value else None
    return number_as_text(value) if which is None else None


def _nothing(kind: Any, fields: dict[str, Any], name: str) -> Any:
    """The value of a required field that is missing, null or "": null, where the type allows that."""
    if name in fields:
        try:
            return msgspec.convert(None, kind)
        except msgspec.ValidationError:
            pass
    raise Malformed(f"Object missing required field `{name}`", fields)


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)


def _bare(kind: Any) -> tuple[Any, dict[str, Any]]:
    """A type without its annotations, and what they say about reading it."""
    if get_origin(kind) is not Annotated:
        return kind, {}
    bare, *metas = get_args(kind)
    return bare, {name: value for meta in metas for name, value in (meta.extra or {}).items()}


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _may_be(value: Any, member: Any) -> bool:
    """Whether a value that does not convert to a union may be this member of it in parts, or as a text."""
    bare, extra = _bare(member)
    if isinstance(value, dict) and _is_struct(bare):
        return True
    if isinstance(value, list) and get_origin(bare) is list:
        return True
    return bare is str and _as_text(value, extra.get(AS_TEXT)) is not None
