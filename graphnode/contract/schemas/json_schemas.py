"""JSON Schemas (2020-12) of every message, document and notification.

They come from the types, and from what the decoders require beyond the types. The worker reads what a schema accepts
without loss. Of a message or document of the AI server that a schema refuses, it may lose only the malformed part.
"""

from __future__ import annotations

from typing import Any

import msgspec

from graphnode.contract.documents import (
    AddNodeBatch,
    BlockGraph,
    Chunk,
    FeaturesFile,
    GraphCluster,
    GraphFile,
    ListedCluster,
    LoneChunk,
    SummaryDocument,
)
from graphnode.contract.envelopes import LONGEST_TASK_ID, ROUTES, Payload, ResultPayload, spellings
from graphnode.contract.notifications import NOTICES, Notice
from graphnode.contract.requests import REQUESTS, RequestPayload
from graphnode.contract.schemas.examples import example_of
from graphnode.contract.schemas.structs import SHARED, Schema, Structs, ref, summary

DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: ISO 8601: a date, with an optional time and zone; 29 February only in leap years.
_LEAP_YEAR = "([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)"
_DAY = "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
_CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9]"
TIMESTAMP = (
    f"^([1-9][0-9]{{3}}-{_DAY}|(?=[1-9]){_LEAP_YEAR}-02-29)"
    rf"([T ]{_CLOCK}(:[0-5][0-9](\.[0-9]{{1,9}})?)?(Z|[+-]{_CLOCK})?)?$"
)

#: The fields of the envelope itself.
TASK_TYPE = "The type of the message."
TASK_ID: Schema = {
    "description": "The correlation ID, unique per task.",
    "type": "string",
    "minLength": 1,
    "maxLength": LONGEST_TASK_ID,
}
SENT_AT = "When the producer sent it: ISO 8601. Without a zone it is UTC."

#: When what a notification tells happened.
HAPPENED_AT: Schema = {
    "description": "When it happened: ISO 8601, in UTC. Of progress, when the AI server said so.",
    "type": "string",
    "pattern": TIMESTAMP,
}

#: No text of an envelope, at any depth, holds U+0000.
_WITHOUT_NUL: Schema = {"type": "string", "pattern": "^[^\\u0000]*$"}
STORABLE: Schema = {
    "description": "No text in it holds U+0000, which PostgreSQL cannot store.",
    "anyOf": [
        _WITHOUT_NUL,
        {"type": "array", "items": ref("Storable")},
        {"type": "object", "propertyNames": _WITHOUT_NUL, "additionalProperties": ref("Storable")},
        {"type": "number"},
        {"type": "boolean"},
        {"type": "null"},
    ],
}

#: Where an object or array is expected, these count as missing: they are false in Python.
FALSE: list[Any] = [None, "", False, 0, [], {}]


def schemas() -> dict[str, Schema]:
    """All schemas, by their path."""
    return {
        **{f"messages/{name}": request(kind) for name, kind in REQUESTS.items()},
        **{f"messages/{task_type}": result(task_type, route.payload) for task_type, route in ROUTES.items()},
        "documents/graph": graph(),
        "documents/features": features(),
        "documents/summary": document("summary", SummaryDocument),
        "documents/add-node-batch": document("add-node-batch", AddNodeBatch),
        "documents/microscope-standardized": microscope_standardized(),
        "documents/microscope-block-graph": microscope_block_graph(),
        **{f"notifications/{kind.event}": notification(kind) for kind in NOTICES.values()},
    }


def request(kind: type[RequestPayload]) -> Schema:
    """A message of the API server, in one spelling and with strict types."""
    structs = Structs(strict=True)
    envelope = {
        "type": "object",
        "properties": {
            "taskType": {"description": TASK_TYPE, "const": kind.request_type},
            "taskId": TASK_ID,
            "timestamp": {"description": SENT_AT, "type": "string", "pattern": TIMESTAMP},
            "payload": structs.add(kind),
        },
        "required": ["taskType", "taskId", "timestamp", "payload"],
    }
    return _whole(f"messages/{kind.request_type}", summary(kind), envelope, structs)


def result(task_type: str, kind: type[Payload]) -> Schema:
    """A message of the AI server, as tolerant as the worker reads it."""
    structs = Structs(strict=False)
    reference = structs.add(kind)
    payload = structs.defs[kind.__name__]
    rules = [_given(name) for name in payload.pop("required", [])]
    if issubclass(kind, ResultPayload) and kind.required_when_completed:
        completed = {"required": ["status"], "properties": {"status": {"const": "COMPLETED"}}}
        rules.append({"if": completed, "then": _given(kind.required_when_completed)})
    payload |= {"properties": _spelt(payload["properties"], at=reference["$ref"], structs=structs), "allOf": rules}
    structs.defs["Given"], structs.defs["Storable"] = SHARED["Given"], STORABLE
    timestamp = {"description": f"{SENT_AT} If it is not given, it is SQS's SentTimestamp.", "type": "string"}
    fields = {
        "task_type": {"description": TASK_TYPE, "const": task_type},
        "task_id": TASK_ID,
        "timestamp": {**timestamp, "pattern": TIMESTAMP},
    }
    envelope = {
        "type": "object",
        "properties": {**_spelt(fields, at="#", structs=structs), "payload": reference},
        "required": ["payload"],
        "allOf": [_given("task_type"), _given("task_id"), ref("Storable")],
    }
    return _whole(f"messages/{task_type}", summary(kind), envelope, structs)


def graph() -> Schema:
    """The graph document, with the clusters in its metadata."""
    structs = Structs(strict=False)
    reference, cluster, listed = structs.add(GraphFile), structs.add(GraphCluster), structs.add(ListedCluster)
    entry = {"anyOf": [cluster, {"type": "number"}, structs.shared("NotGiven")]}
    array = {"type": "array", "items": listed}
    structs.defs["ListedClusters"] = {
        "title": "ListedClusters",
        "description": "The clusters in older files.",
        "type": "object",
        "properties": {"clusters": {"description": "The clusters.", **array}},
        "required": ["clusters"],
        "additionalProperties": True,
    }
    described = {"type": "object", "additionalProperties": entry}
    structs.defs["GraphMetadata"] = {
        "title": "GraphMetadata",
        "description": "How the graph was made. Everything but `clusters` is stored unchanged.",
        "type": "object",
        "properties": {
            "clusters": {
                "description": "The clusters by their ID. A number is a count. Older files have an array of clusters.",
                "anyOf": [described, ref("ListedClusters"), array, {"enum": FALSE}],
            },
            "generated_at": {"description": "When the AI server made it: ISO 8601, or seconds since 1970."},
        },
        "additionalProperties": True,
    }
    metadata = structs.defs["GraphFile"]["properties"]["metadata"]
    metadata["anyOf"][0] = ref("GraphMetadata")
    return _whole("documents/graph", summary(GraphFile), reference, structs)


def features() -> Schema:
    """The features document. It is streamed, so any value that is not an array counts as an empty one."""
    structs = Structs(strict=False)
    reference = structs.add(FeaturesFile)
    properties = structs.defs["FeaturesFile"]["properties"]
    described, [rows, _] = properties["embeddings"]["description"], properties["embeddings"]["anyOf"]
    no_rows = {"description": "Anything but an array has no rows.", "not": {"type": "array"}}
    rows["items"] = {"anyOf": [rows["items"], {"enum": FALSE}]}
    properties["embeddings"] = {"description": described, "anyOf": [rows, no_rows]}
    return _whole("documents/features", summary(FeaturesFile), reference, structs)


def document(name: str, kind: type[msgspec.Struct]) -> Schema:
    """A document that is decoded to a struct, with no further rules."""
    structs = Structs(strict=False)
    return _whole(f"documents/{name}", summary(kind), structs.add(kind), structs)


def microscope_standardized() -> Schema:
    """The standardized document of the microscope: chunks, or one chunk."""
    structs = Structs(strict=False)
    either = {"anyOf": [{"type": "array", "items": structs.add(Chunk)}, structs.add(LoneChunk)]}
    return _whole("documents/microscope-standardized", f"{summary(Chunk)} One chunk may stand alone.", either, structs)


def microscope_block_graph() -> Schema:
    """The block graph, bare or inside `block_graph`; a block may have `id` for `block_id`."""
    structs = Structs(strict=False)
    reference = structs.add(BlockGraph)
    block = structs.defs["Block"]
    block["properties"]["id"] = {"description": "Its ID where `block_id` is not given."}
    block["properties"]["turn_range"]["anyOf"].append({"enum": [[]]})
    block["if"] = {"properties": {"block_id": structs.shared("NotGiven")}}
    block["then"] = {"properties": {"id": {"anyOf": block["properties"]["block_id"]["anyOf"]}}}
    structs.defs["WrappedBlockGraph"] = {
        "title": "WrappedBlockGraph",
        "description": "A block graph inside an object.",
        "type": "object",
        "properties": {"block_graph": {"description": "The block graph.", **reference}},
        "required": ["block_graph"],
    }
    is_wrapped = {"required": ["block_graph"], "properties": {"block_graph": {"type": "object", "minProperties": 1}}}
    either = {"type": "object", "if": is_wrapped, "then": ref("WrappedBlockGraph"), "else": reference}
    return _whole("documents/microscope-block-graph", summary(BlockGraph), either, structs)


def notification(kind: type[Notice]) -> Schema:
    """The payload of a notification, with the task ID and the time. What is missing is left out, never null."""
    structs = Structs(strict=True)
    reference = structs.add(kind)
    payload = structs.defs[kind.__name__]
    fields = {name: _without_null(field) for name, field in payload["properties"].items()}
    payload["properties"] = {"taskId": TASK_ID, **fields, "timestamp": HAPPENED_AT}
    payload["required"] = ["taskId", *payload.get("required", ()), "timestamp"]
    return _whole(f"notifications/{kind.event}", summary(kind), reference, structs)


def _without_null(field: Schema) -> Schema:
    """The schema of a field that is left out instead of being null."""
    described, kinds = field["description"], field.get("anyOf", [field])
    (kind,) = [kind for kind in kinds if kind != {"type": "null"}]
    return {**kind, "description": described}


def _whole(path: str, description: str, schema: Schema, structs: Structs) -> Schema:
    """A complete schema, with the definitions it needs."""
    return {
        "$schema": DIALECT,
        "$id": f"urn:graphnode:{path.replace('/', ':')}",
        "title": path.rpartition("/")[2],
        "description": description,
        **schema,
        "examples": [example_of(path)],
        "$defs": dict(sorted(structs.defs.items())),
    }


def _spelt(fields: Schema, *, at: str, structs: Structs) -> Schema:
    """The fields under each of their spellings; null and "" mean "not given".

    Parameters:
      fields: by name, in snake_case.
      at: where the properties are: further spellings refer to the first.
    """
    spelt: Schema = {}
    for name, schema in fields.items():
        usual, *others = spellings(name)
        alternatives = [each for each in schema.get("anyOf", []) if each != ref("NotGiven")]
        said = {"description": schema["description"]}
        alternatives = alternatives or [{word: value for word, value in schema.items() if word != "description"}]
        spelt[usual] = {**said, "anyOf": [*alternatives, structs.shared("NotGiven")]}
        spelt |= {other: {"$ref": f"{at}/properties/{usual}"} for other in others}
    return spelt


def _given(name: str) -> Schema:
    """Requires a field, in any spelling."""
    return {"anyOf": [{"required": [each], "properties": {each: ref("Given")}} for each in spellings(name)]}
