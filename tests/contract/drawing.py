"""Draws random values that a schema accepts, and changes them at random places."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from graphnode.contract.schemas.structs import Schema

#: Values near a bound, or that look like another type.
ODD: list[Any] = [
    *(None, "", True, False),
    *(0, 1, -1, 2, 3, 0.5, -0.5, 12.5, 99.5, 100, 100.5, 101, 1779303731),
    *(2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**53),
    *("0", "1", "2", "5", "-5", "12.0", "0.25", "99.75", "100", "100.5", "007", "+5", " 5", "5.", "1_0", "0x10"),
    *("2147483647", "2147483648", "1999999999", "-2147483648", "-2147483649", "99999999999999999999"),
    *("true", "FALSE", "yes", "null", "NULL", "none", "word", "말", "COMPLETED", "FAILED", "completed", "high"),
    *("2026-05-24", "2026-05-24T08:02:08.793892", "2026-05-24 08:02:08+09:00", "2026-05-24T08:02Z"),
    *("2024-02-29T00:00:00Z", "2026-02-29T00:00:00Z", "2026-13-01", "24.05.2026", "yesterday", "2026-05-24T25:00:00Z"),
    *("x" * length for length in (200, 201, 400, 401, 450, 451)),
    *("a\0b", {"\0": 1}, [["a\0b"]]),
    *([], {}, [1], ["a"], [None], [""], [1, 2], ["1", 2], [1, 2, 3], [[]], [{}], {"a": None}, {"id": 1}, {"nodes": []}),
]

#: The values without U+0000.
STORABLE = [odd for odd in ODD if r"\x00" not in repr(odd)]


def _fewest_is_more_than_most(request: Any) -> bool:
    match request:
        case {"payload": {"minClusters": int(least), "maxClusters": int(most)}}:
            return least > most
    return False


#: Values that the worker refuses but no JSON Schema can refuse: it compares two fields.
INEXPRESSIBLE: dict[str, Callable[[Any], bool]] = {"messages/GRAPH_GENERATION_REQUEST": _fewest_is_more_than_most}


class Drawing:
    """Draws values that a schema mostly accepts: `if` and `not` are ignored.

    Parameters:
      schema: the whole schema.
      random: makes all choices.
    """

    def __init__(self, schema: Schema, random: Random) -> None:
        self.schema = schema
        self.random = random

    def value(self) -> Any:
        """A drawn value."""
        return self._value(self.schema)

    def changed(self, value: Any) -> Any:
        """A copy of the value with one or two changes."""
        value = copy.deepcopy(value)
        for _ in range(self.random.choice((1, 1, 1, 2))):
            value = self._change(value)
        return value

    def _value(self, schema: Schema) -> Any:
        random = self.random
        if "$ref" in schema:
            return self._value(self._found(schema["$ref"]))
        if "else" in schema:
            return self._value(random.choice((schema["then"], schema["else"])))
        if "anyOf" in schema:
            return self._value(random.choice(schema["anyOf"]))
        if "const" in schema or "enum" in schema:
            return copy.deepcopy(random.choice(schema.get("enum") or [schema.get("const")]))
        match schema.get("type"):
            case "object":
                return self._object(schema)
            case "array" if "prefixItems" in schema:
                return [self._value(item) for item in schema["prefixItems"]]
            case "array":
                return [self._value(schema.get("items", {})) for _ in range(random.choice((0, 1, 2, 3)))]
            case "string":
                texts = [odd for odd in STORABLE if isinstance(odd, str)]
                fitting = [text for text in texts if re.search(schema.get("pattern", ""), text)]
                most, least = schema.get("maxLength", 1000), schema.get("minLength", 0)
                return random.choice([text for text in fitting if least <= len(text) <= most])
            case "integer":
                return random.randint(schema.get("minimum", -1000), min(schema.get("maximum", 1000), 2**53))
            case "number":
                return round(random.uniform(schema.get("minimum", -100), schema.get("maximum", 100)), 3)
            case "boolean":
                return random.random() < 0.5
            case "null":
                return None
        return copy.deepcopy(random.choice(STORABLE))

    def _object(self, schema: Schema) -> Any:
        random, drawn = self.random, {}
        if "properties" not in schema:
            return {
                f"key{index}": self._value(schema.get("additionalProperties", {}))
                for index in range(random.randint(0, 2))
            }
        asked = set(schema.get("required", ()))
        for each in schema.get("allOf", ()):
            asked |= {random.choice(each["anyOf"])["required"][0]} if "anyOf" in each else set()
            if "then" in each and random.random() < 0.8:
                asked.add(random.choice(each["then"]["anyOf"])["required"][0])
        for names in self._fields(schema):
            known = [name for name in names if name in asked]
            if known or random.random() < 0.5:
                name = random.choice(known or names)
                field = schema["properties"][names[0]]
                given = [each for each in field.get("anyOf", [field]) if each != {"$ref": "#/$defs/NotGiven"}]
                drawn[name] = self._value(random.choice(given) if known else field)
        if random.random() < 0.2:
            drawn["unknownField"] = self._value({})
        items = list(drawn.items())
        random.shuffle(items)
        return dict(items)

    def _fields(self, schema: Schema) -> list[list[str]]:
        """The spellings of each field: a property that refers to another is a spelling of it."""
        fields: dict[str, list[str]] = {}
        for name, field in schema["properties"].items():
            usual = field["$ref"].rpartition("/properties/")[2] if "/properties/" in field.get("$ref", "") else name
            fields.setdefault(usual, []).append(name)
        return list(fields.values())

    def _found(self, reference: str) -> Any:
        found: Any = self.schema
        for step in reference.removeprefix("#").split("/")[1:]:
            found = found[step]
        return found

    def _change(self, value: Any) -> Any:
        places = list(_places(value))
        holder, key = self.random.choice(places) if places else (None, None)
        if holder is None or self.random.random() < 0.02:
            return copy.deepcopy(self.random.choice(ODD))
        if isinstance(holder, dict) and self.random.random() < 0.2:
            del holder[key]
        else:
            alike = [odd for odd in ODD if type(odd) is type(holder[key])]
            holder[key] = copy.deepcopy(self.random.choice(alike if alike and self.random.random() < 0.5 else ODD))
        return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """All places in a value, as (object or array, key)."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield value, key
        yield from _places(item)


def drawn(
    path: str, schema: Schema, is_valid: Callable[[Any], bool], random: Random, *, each: int
) -> Iterator[tuple[Any, bool]]:
    """Values and whether the schema accepts each: `each` of them accepted, and as many refused.

    Parameters:
      is_valid: whether the schema accepts a value.
    """
    drawing = Drawing(schema, random)
    left = {True: each, False: each}
    while any(left.values()):
        value = drawing.value()
        if random.random() < 0.5:
            value = drawing.changed(value)
        taken = is_valid(value)
        if left[taken] and not (path in INEXPRESSIBLE and INEXPRESSIBLE[path](value)):
            left[taken] -= 1
            yield value, taken
