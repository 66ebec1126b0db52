"""TypeScript types of what the schemas describe."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping

from graphnode.contract.schemas.structs import Schema

#: The widest line.
WIDTH = 120

HEAD = """\
/**
 * What travels between GraphNode's API server, its AI server and its worker.
 *
 * Written by `graphnode contract export` from the JSON Schemas beside it. Those say more: lengths, ranges, and what is
 * required only beside something else. The keys of a message of the AI server may be spelt in camelCase or in
 * snake_case; here each has the one name that is used most.
 */

/** Means the same as leaving the field out. */
export type NotGiven = null | "";

/** A number that was written as a text. */
export type NumberText = `${number}`;

/** A boolean that was written as a number or as a text. */
export type BooleanText = 0 | 1 | "0" | "1" | "true" | "false";
"""

#: How definitions that are no objects are written.
SHORT = {"NotGiven": "NotGiven", "NullText": '"null"', "BooleanText": "BooleanText"}

#: How the names of what is in each room of the schemas end: of the whole, and of what it is made of.
ENDINGS = {"messages": ("Message", "Payload"), "documents": ("Document", ""), "notifications": ("Notification", "")}


def typescript(schemas: Mapping[str, Schema]) -> str:
    """The types as the text of a declaration file.

    Parameters:
      schemas: the schemas by their path.
    """
    types: dict[str, str] = {}
    for path, schema in schemas.items():
        room, _, name = path.partition("/")
        _, ending = ENDINGS[room]
        for part, definition in schema["$defs"].items():
            if definition.get("type") == "object":
                types[f"{part}{ending}"] = _declaration(f"{part}{ending}", definition, ending)
        whole = _row(name, schema) if room == "notifications" else schema
        # What a document is made of may have its name: then it is the document.
        types.setdefault(type_name(path), _declaration(type_name(path), whole, ending))
    unions = {
        "RequestMessage": [path for path in schemas if path.endswith("_REQUEST")],
        "ResultMessage": [path for path in schemas if path.startswith("messages/") and not path.endswith("_REQUEST")],
        "Notification": [path for path in schemas if path.startswith("notifications/")],
    }
    any_of = [
        f"export type {name} =" + "".join(f"\n  | {type_name(path)}" for path in paths) + ";\n"
        for name, paths in unions.items()
    ]
    return "\n".join([HEAD, *types.values(), *any_of])


def type_name(path: str) -> str:
    """The name of the type of a whole message, document or notification, by the path of its schema."""
    room, _, name = path.partition("/")
    words = name.replace("-", "_").lower().split("_")
    return "".join(word.capitalize() for word in words) + ENDINGS[room][0]


def _row(event: str, payload: Schema) -> Schema:
    """What tells notifications apart: their row has a type, and the type says which payload."""
    properties = {"type": {"const": event}, "payload": {"$ref": payload["$ref"]}}
    return {"description": payload["description"], "properties": properties, "required": list(properties)}


def _declaration(name: str, schema: Schema, ending: str) -> str:
    comment = _comment(schema["description"], indent="")
    if "properties" not in schema:
        return f"{comment}export type {name} = {_type(schema, ending)};\n"
    required = set(_required(schema))
    lines = [f"{comment}export interface {name} {{"]
    for field, described in schema["properties"].items():
        if "/properties/" in described.get("$ref", ""):
            continue  # Another spelling of a field.
        kinds = described.get("anyOf", [described])
        if field in required:
            kinds = [kind for kind in kinds if kind != {"$ref": "#/$defs/NotGiven"}]
        if "description" in described:
            lines.append(_comment(described["description"], indent="  ").rstrip("\n"))
        lines.append(f"  {field}{'' if field in required else '?'}: {_union(kinds, ending)};")
    if schema.get("additionalProperties"):
        lines.append("  [field: string]: unknown;")
    return "\n".join([*lines, "}\n"])


def _required(schema: Schema) -> Iterator[str]:
    """The fields that must be given, by their usual name."""
    yield from schema.get("required", ())
    for asked in schema.get("allOf", ()):
        if "anyOf" in asked:
            yield asked["anyOf"][0]["required"][0]


def _type(schema: Schema, ending: str) -> str:
    match schema:
        case {"$ref": reference}:
            name = reference.rpartition("/")[2]
            return SHORT.get(name) or ("NumberText" if "Text" in name else f"{name}{ending}")
        case {"then": {"$ref": _} as then, "else": {"$ref": _} as otherwise}:
            return _union([then, otherwise], ending)
        case {"anyOf": kinds}:
            return _union(kinds, ending)
        case {"const": value}:
            return _literal(value)
        case {"enum": values}:
            return " | ".join(map(_literal, values))
        case {"type": "array", "prefixItems": items}:
            return f"[{', '.join(_type(item, ending) for item in items)}]"
        case {"type": "array"}:
            inner = _type(schema.get("items", {}), ending)
            return f"({inner})[]" if " | " in inner else f"{inner}[]"
        case {"type": "object"}:
            return f"Record<string, {_type(schema.get('additionalProperties', {}), ending)}>"
        case {"type": "integer" | "number"}:
            return "number"
        case {"type": str(kind)}:
            return kind
    return "unknown"


def _union(kinds: list[Schema], ending: str) -> str:
    """One of several types. What is only ruled out (`not`) has no name in TypeScript."""
    return " | ".join(dict.fromkeys(_type(kind, ending) for kind in kinds if "not" not in kind))


def _literal(value: object) -> str:
    return "Record<string, never>" if value == {} else json.dumps(value, ensure_ascii=False)


def _comment(text: str, *, indent: str) -> str:
    line = f"{indent}/** {text} */"
    if len(line) <= WIDTH:
        return f"{line}\n"
    wrapped = textwrap.wrap(text, WIDTH - len(indent) - 3)
    return "\n".join([f"{indent}/**", *(f"{indent} * {each}" for each in wrapped), f"{indent} */\n"])
