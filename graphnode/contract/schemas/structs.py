"""Makes the JSON Schema of everything that decodes to a struct.

The AI server's documents and payloads are decoded in msgspec's lax mode: a number may be a text. A missing field, null
and "" mean "not given". https://jcristharif.com/msgspec/usage.html#strict-vs-lax-mode
"""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from itertools import pairwise
from typing import Any

import msgspec

from graphnode.errors import DeclarationError

Schema = dict[str, Any]

REF = "#/$defs/{name}"

#: Definitions that several schemas use: most are values that lax mode accepts beyond the types.
SHARED: dict[str, Schema] = {
    "Given": {"description": "Any value that counts as given.", "not": {"enum": [None, ""]}},
    "NotGiven": {"description": "Means the same as leaving the field out.", "enum": [None, ""]},
    "NullText": {"description": "null, written as a text.", "type": "string", "pattern": "^[nN][uU][lL][lL]$"},
    "BooleanText": {
        "description": "A boolean, written as a number or as a text.",
        "anyOf": [
            {"enum": [0, 1]},
            {"type": "string", "pattern": "^([tT][rR][uU][eE]|[fF][aA][lL][sS][eE]|0|1)$"},
        ],
    },
}


def ref(name: str) -> Schema:
    """A reference to a definition in the same document."""
    return {"$ref": REF.format(name=name)}


class Structs:
    """Makes the schemas of structs, and collects their definitions.

    Parameters:
      strict: whether a value must have its type exactly.
      defs: the definitions of all schemas made so far.
    """

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict
        self.defs: dict[str, Schema] = {}

    def add(self, kind: type[msgspec.Struct]) -> Schema:
        """Define a struct and the structs in it. Returns a reference to its schema."""
        _, components = msgspec.json.schema_components([kind], ref_template=REF)
        for name, component in components.items():
            self.defs[name] = self._object(component, getattr(sys.modules[kind.__module__], name))
        return ref(kind.__name__)

    def shared(self, name: str) -> Schema:
        """Define one of the shared definitions. Returns a reference to it."""
        self.defs[name] = SHARED[name]
        return ref(name)

    def value(self, schema: Schema, *, optional: bool = False) -> Schema:
        """The schema of everything that decodes to a value.

        Parameters:
          schema: the schema of its type.
          optional: whether it may be missing or null, and so be "" too.
        """
        alternatives = schema.get("anyOf", [schema])
        kinds = {alternative.get("type") for alternative in alternatives}
        taken = [self._inside(alternative) for alternative in alternatives if alternative != {"type": "null"}]
        if {} in taken:
            return {}
        if {"type": "number"} in taken and {"type": "integer"} in taken:
            taken.remove({"type": "integer"})
        if "string" not in kinds and not self.strict:
            taken += [text for alternative in alternatives for text in self._texts(alternative)]
        if optional and not self.strict:
            taken.append(self.shared("NotGiven"))
        elif "null" in kinds:
            taken.append({"type": "null"})
        return taken[0] if len(taken) == 1 else {"anyOf": taken}

    def _object(self, schema: Schema, kind: type[msgspec.Struct]) -> Schema:
        texts, required = descriptions(kind), schema.get("required", [])
        properties = {
            name: {
                "description": texts[name],
                **self.value(field, optional=name not in required or {"type": "null"} in field.get("anyOf", ())),
            }
            for name, field in schema["properties"].items()
        }
        made = {**schema, "description": summary(kind), "properties": properties}
        return {keyword: value for keyword, value in made.items() if value != []}

    def _inside(self, schema: Schema) -> Schema:
        """The schema without its default, and with the schemas inside it made lenient."""
        inside = {name: value for name, value in schema.items() if name != "default"}
        if isinstance(inside.get("items"), dict):
            inside["items"] = self.value(inside["items"])
        if isinstance(inside.get("additionalProperties"), dict):
            inside["additionalProperties"] = self.value(inside["additionalProperties"])
        if "prefixItems" in inside:
            inside["prefixItems"] = [self.value(item) for item in inside["prefixItems"]]
        return {name: value for name, value in inside.items() if (name, value) != ("items", {})}

    def _texts(self, schema: Schema) -> list[Schema]:
        """The schemas of the texts in which a value may be written."""
        match schema.get("type"):
            case "integer" | "number":
                name, text = number_text(schema)
                self.defs[name] = text
                return [ref(name)]
            case "boolean":
                return [self.shared("BooleanText")]
            case "null":
                return [self.shared("NullText")]
        return []


def number_text(schema: Schema) -> tuple[str, Schema]:
    """The name and the schema of a number within bounds, written as a text.

    Parameters:
      schema: the schema of the number. Bounds are integers, and the lower bound is at most 0.
    """
    is_integer = schema["type"] == "integer"
    # With an upper bound there are no exponents: a pattern cannot tell which of them stay below the bound.
    least, most = schema.get("minimum"), schema.get("maximum")
    fraction, exponent = (r"(\.0+)?", "") if is_integer else (r"(\.[0-9]+)?", "([eE][+-]?[0-9]{1,2})?")
    unlimited = f"(0|[1-9][0-9]*){fraction}{exponent}"
    forms = [unlimited] if most is None else [f"({_digits_below(most)}){fraction}", rf"{most}(\.0+)?"]
    if least is None:
        forms.append(f"-{unlimited}")
    elif least < 0:
        forms += [f"-({_digits_below(-least)}){fraction}", rf"{least}(\.0+)?"]
    bounds = "".join(f"{word}{abs(bound)}" for word, bound in (("From", least), ("To", most)) if bound is not None)
    name = f"{'Integer' if is_integer else 'Number'}Text{bounds}"
    within = " ".join(f"{word} {bound}" for word, bound in (("from", least), ("to", most)) if bound is not None)
    described = f"{'An integer' if is_integer else 'A number'} {within}".strip() + ", written as a text."
    return name, {"description": described, "type": "string", "pattern": f"^({'|'.join(forms)})$"}


def _digits_below(limit: int) -> str:
    """A pattern of the integers from 0 up to a positive limit, which is excluded; without leading zeros."""
    digits = str(limit)
    shorter = ["0"] if len(digits) > 1 else []
    if len(digits) > 1:
        shorter.append("[1-9]" if len(digits) == 2 else f"[1-9][0-9]{{0,{len(digits) - 2}}}")
    longest = []
    for place, digit in enumerate(digits):
        lowest, highest = int(place == 0 and len(digits) > 1), int(digit) - 1
        if highest >= lowest:
            free = len(digits) - place - 1
            longest.append(f"{digits[:place]}[{lowest}-{highest}]" + (f"[0-9]{{{free}}}" if free else ""))
    return "|".join(shorter + longest)


def summary(kind: type) -> str:
    """The first paragraph of a class's docstring."""
    return " ".join(inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].split())


@cache
def descriptions(kind: type[msgspec.Struct]) -> dict[str, str]:
    """The docstrings below a struct's fields, by the field's name on the wire.

    Raises DeclarationError if a field has none.
    """
    texts: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if issubclass(each, msgspec.Struct) and each is not msgspec.Struct:
            texts |= _texts_below_fields(each)
    fields = msgspec.structs.fields(kind)
    if silent := [field.name for field in fields if field.name not in texts]:
        raise DeclarationError(f"{kind.__module__}.{kind.__name__}: write below {', '.join(silent)} what it means.")
    return {field.encode_name: texts[field.name] for field in fields}


def _texts_below_fields(kind: type) -> dict[str, str]:
    """The docstrings below the fields of one class. Python drops them: they are read from the source."""
    texts = {}
    for definition in ast.parse(inspect.getsource(kind)).body:
        for field, below in pairwise(definition.body if isinstance(definition, ast.ClassDef) else ()):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    texts[name] = text
    return texts
