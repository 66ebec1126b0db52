"""TypeScript types from the schemas."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping

from graphnode.contract.schemas.structs import Schema

#: The widest line.
WIDTH = 120

HEAD = """\
/**
 * The messages, documents and notifications of GraphNode's API server, AI server and worker.
 *
 * Written by `graphnode contract export` from the JSON Schemas beside it. These say more: lengths, ranges, and fields
 * that are required only with others. Keys in a message of the AI server may be in camelCase or snake_case; here each
 * key has its most frequent spelling.
 */

/** Means the same as leaving the field out. */
export type NotGiven = null | "";

/** A number written as a text. */
export type NumberText = `${number}`;

/** A boolean written as a number or as a text. */
export type BooleanText = 0 | 1 | "0" | "1" | "true" | "false";
"""

#: The types of definitions that are not objects.
SHORT = {"NotGiven": "NotGiven", "NullText": '"null"', "BooleanText": "BooleanText"}

#: The ending of a type's name, by directory: for the whole, and for its parts.
ENDINGS = {"messages": ("Message", "Payload"), "documents": ("Document", ""), "notifications": ("Notification", "")}


def typescript(schemas: Mapping[str, Schema]) -> str:
    """The text of a declaration file.

    Parameters:
      schemas: by path.
    """
    types: dict[str, str] = {}
    for path, schema in schemas.items():
        directory, _, name = path.partition("/")
        _, ending = ENDINGS[directory]
        for part, definition in schema["$defs"].items():
            if definition.get("type") == "object":
                types[f"{part}{ending}"] = _declaration(f"{part}{ending}", definition, ending)
        whole = _row(name, schema) if directory == "notifications" else schema
        # A part may have the name of its document: then the part is the document.
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
    """The type name of a message, document or notification, from the path of its schema."""
    directory, _, name = path.partition("/")
    words = name.replace("-", "_").lower().split("_")
    return "".join(word.capitalize() for word in words) + ENDINGS[directory][0]


def _row(event: str, payload: Schema) -> Schema:
    """A row of `notifications`: its type tells which payload it has."""
    properties = {"type": {"const": event}, "payload": {"$ref": payload["$ref"]}}
    return {"description": payload["description"], "properties": properties, "required": list(properties)}


def _declaration(name: str, schema: Schema, ending: str) -> str:
    comment = _comment(schema["description"], indent="")
    if "properties" not in schema:
        return f"{comment}export type {name} = {_type(schema, ending)};\n"
    given = set(_given(schema))
    required = given | set(schema.get("required", ()))
    lines = [f"{comment}export interface {name} {{"]
    for field, described in schema["properties"].items():
        if "/properties/" in described.get("$ref", ""):
            continue  # Another spelling of a field.
        kinds = described.get("anyOf", [described])
        if field in given:
            kinds = [kind for kind in kinds if kind != {"$ref": "#/$defs/NotGiven"}]
        if "description" in described:
            lines.append(_comment(described["description"], indent="  ").rstrip("\n"))
        lines.append(f"  {field}{'' if field in required else '?'}: {_union(kinds, ending)};")
    if schema.get("additionalProperties"):
        lines.append("  [field: string]: unknown;")
    return "\n".join([*lines, "}\n"])


def _given(schema: Schema) -> Iterator[str]:
    """The fields that must have a value, in any spelling: here in their usual one."""
    for rule in schema.get("allOf", ()):
        if "anyOf" in rule:
            yield rule["anyOf"][0]["required"][0]


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
    """A union of types. A schema with `not` cannot be written in TypeScript: it is left out."""
    return " | ".join(dict.fromkeys(_type(kind, ending) for kind in kinds if "not" not in kind))


def _literal(value: object) -> str:
    return "Record<string, never>" if value == {} else json.dumps(value, ensure_ascii=False)


def _comment(text: str, *, indent: str) -> str:
    line = f"{indent}/** {text} */"
    if len(line) <= WIDTH:
        return f"{line}\n"
    wrapped = textwrap.wrap(text, WIDTH - len(indent) - 3)
    return "\n".join([f"{indent}/**", *(f"{indent} * {each}" for each in wrapped), f"{indent} */\n"])
