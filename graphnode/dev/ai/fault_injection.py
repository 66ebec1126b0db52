"""Fault injection: peculiarities of the real AI server that the contract allows, at a given rate.

Only the seed, the task's ID and type, and the fault's name decide whether a task has a fault. So the same requests
always have the same faults, in any order.
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

import msgspec

from graphnode.contract.task_ids import MicroscopeTask, parse_task_id
from graphnode.errors import SettingsError

Document = dict[str, Any]
T = TypeVar("T")


class Fault(NamedTuple):
    """A fault that can be injected.

    Parameters:
      about: one line of help.
      share: a factor on the rate, so that faults that fail a task are rarer.
    """

    about: str
    share: float = 1.0


#: All faults, by name.
FAULTS: Mapping[str, Fault] = {
    # Delivery of messages.
    "duplicates": Fault("a message is sent two or three times"),
    "reordering": Fault("progress messages are sent after the result"),
    "delays": Fault("a message is delayed by some seconds"),
    "late-documents": Fault("the message is sent before its document is in S3", 0.25),
    "failures": Fault("the task is FAILED; half of these tasks are COMPLETED afterwards", 0.25),
    "broken": Fault("a truncated message is sent beside the result; it becomes a dead letter", 0.25),
    # Envelopes and payloads.
    "snake-case": Fault("the payload's keys are in snake_case"),
    "no-zone": Fault("the timestamp has no time zone"),
    "fast-clock": Fault("the timestamp is nine hours ahead, as Seoul's local time without zone is"),
    "no-time": Fault("the timestamp is missing, null or empty"),
    "empty": Fault('missing fields are null or ""'),
    "unknown-fields": Fault("envelope, payload and document have unknown fields"),
    "workspace": Fault("the field for the workspace is workspaceId"),
    "no-user": Fault("a microscope result has no userId"),
    "no-group": Fault("a microscope result has no groupId"),
    "wrong-field": Fault("the key of a microscope view is in the other view's field"),
    "partial": Fault("a COMPLETED result has an error"),
    "other-types": Fault(
        "the error is an object, sourceId a number, ingest_stats an array, and the timestamp a number of seconds"
    ),
    "wild-progress": Fault("progress has a percentage or time out of bounds, an unreadable time, or a blank stage"),
    # Documents.
    "byte-order-mark": Fault("a document begins with a byte order mark"),
    "epochs": Fault("create_time and update_time in seconds instead of timestamp, or a timestamp without time zone"),
    "zero-times": Fault("create_time and update_time are 0 where the time is unknown"),
    "old-counts": Fault("num_messages instead of num_sections"),
    "no-source-type": Fault("conversations have no source_type"),
    "raw-types": Fault("files have their file type as source_type and in their ID"),
    "text-numbers": Fault("numbers are strings"),
    "edge-confidence": Fault("the confidence of an edge is a number"),
    "bad-edges": Fault("a self-loop, a repeated edge and an edge to an unknown node"),
    "wrong-totals": Fault("the totals of a summary and its files by extension are wrong"),
    "no-features": Fault("the features file is missing in S3", 0.25),
    "edge-ends": Fault("add-node edges name nodes by number, digits or prefixed ID"),
    "batch-ids": Fault("nodes of an add-node batch have IDs like tmp-1, and edges name them so"),
    "plain-edges": Fault("add-node edges have neither type nor weight"),
    "item-errors": Fault("sources of an add-node batch have an error beside their nodes"),
    "bare-blocks": Fault("the block graph has no wrapper, and its blocks have id instead of block_id"),
    "sparse-blocks": Fault("blocks have no title, and some no micro graph"),
    "edge-sources": Fault("edges of micro graphs say source instead of start"),
    "one-chunk": Fault("all chunks are one object"),
    "malformed": Fault("documents have malformed elements and fields beside good ones"),
    "keyword-pairs": Fault("keywords are pairs of term and score"),
    "absent-nodes": Fault("edges and representatives name the node -1, and members of subclusters are null"),
    "older-clusters": Fault("the clusters of a graph are an array, with their number"),
    "empty-parts": Fault("a chunk is empty, and a block has a range of no turns"),
}

#: The longest delay of a message, and the delay of a late document, in seconds.
LONGEST_DELAY_S = 3
LATE_DOCUMENT_S = 1.0

#: A file ID of the app, with its namespace if it is one of several inputs.
_APP_FILE = re.compile(r"(?P<namespace>src\d+_)?(?P<id>uf-[A-Za-z0-9-]+)")

#: What progress says instead.
WILD_PROGRESS: Sequence[Document] = (
    {"progressPercent": 100.9},
    {"progressPercent": -1},
    {"etaSeconds": -3},
    {"etaSeconds": "soon"},
    {"currentStage": " "},
)

#: The errors of injected failures.
FAILURES = ("The model ran out of memory.", "The language model did not answer in time.", None, "")


class FaultInjection:
    """Selects the faults of each task.

    Parameters:
      rate: for each fault, the share of tasks that have it, from 0 to 1.
      seed: another seed selects other tasks.
      names: the faults to inject; by default, all.

    Raises SettingsError for an unknown name.
    """

    def __init__(self, *, rate: float = 0.0, seed: int = 0, names: Iterable[str] = ()) -> None:
        self.rate, self.seed, self.names = rate, seed, frozenset(names) or frozenset(FAULTS)
        if unknown := sorted(self.names - FAULTS.keys()):
            raise SettingsError(f"Unknown fault: {', '.join(unknown)}. The faults are {', '.join(FAULTS)}.")

    def of(self, task_id: str, task_type: str) -> TaskFaults:
        """The faults of one task."""
        return TaskFaults(self, f"{self.seed}/{task_type}/{task_id}")


class TaskFaults:
    """The faults of one task. `key` seeds their selection."""

    def __init__(self, injection: FaultInjection, key: str) -> None:
        self._injection = injection
        self._key = key
        self._injected: set[str] = set()

    def injects(self, fault: str, about: str = "") -> bool:
        """Whether the task has this fault, or, with `about`, one of its messages."""
        drawn = self._random(f"{fault}/{about}").random() < self._injection.rate * FAULTS[fault].share
        if not drawn or fault not in self._injection.names:
            return False
        self._injected.add(fault)
        return True

    def choose(self, fault: str, choices: Iterable[T], about: str = "") -> T:
        """The variant of a fault."""
        return self._random(f"{fault}/{about}/way").choice(list(choices))

    def injected(self) -> list[str]:
        """The names of the faults injected so far."""
        return [fault for fault in FAULTS if fault in self._injected]

    def _random(self, about: str) -> random.Random:
        return random.Random(f"{self._key}/{about}")  # noqa: S311


def encoded(document: Any, faults: TaskFaults) -> bytes:
    """The bytes of a document, with its faults."""
    if faults.injects("unknown-fields") and isinstance(document, dict):
        document = {**document, "_debug": {"host": "ai-3", "took_ms": 1234}}
    mark = b"\xef\xbb\xbf" if faults.injects("byte-order-mark") else b""
    return mark + msgspec.json.encode(document)


def faulty_graph(document: Document, faults: TaskFaults) -> Document:
    """A graph document with its faults."""
    document = copy.deepcopy(document)
    for node in document["nodes"]:
        _faulty_node(node, faults)
    edges = document["edges"]
    if faults.injects("edge-confidence"):
        for edge in edges:
            if edge["confidence"] != "high":
                edge["confidence"] = edge["weight"]
    if faults.injects("bad-edges") and edges:
        first = edges[0]
        edges.append({**first, "target": first["source"]})
        edges.append({**first, "source": first["target"], "target": first["source"]})
        edges.append({**first, "target": max(node["id"] for node in document["nodes"]) + 1000})
    if faults.injects("absent-nodes"):
        edges.append({"source": document["nodes"][0]["id"], "target": -1})
        for subcluster in document["subclusters"]:
            subcluster |= {"node_ids": [*subcluster["node_ids"], None], "representative_node_id": -1}
    if faults.injects("malformed"):
        edges += [{"source": 0}, "0-1", {**edges[0], "weight": "close"} if edges else None]
        document["subclusters"].append({"id": None})
        document["metadata"]["clusters"]["other"] = ["no cluster"]
    if faults.injects("older-clusters"):
        clusters = document["metadata"]["clusters"]
        listed = [{"id": name, **each} for name, each in clusters.items() if isinstance(each, dict)]
        document["metadata"]["clusters"] = {"total_clusters": len(listed), "clusters": listed}
    return document


def faulty_features(document: Document, faults: TaskFaults) -> Document:
    """A features document with the same IDs as `faulty_graph` gives."""
    document = copy.deepcopy(document)
    for conversation in document["conversations"]:
        if conversation["source_type"] == "file":
            conversation["orig_id"] = _raw_id(conversation["orig_id"], "txt", faults)
    return document


def faulty_summary(document: Document, faults: TaskFaults) -> Document:
    """A summary document with its faults."""
    if faults.injects("malformed"):
        document = {**document, "patterns": [*document["patterns"], "rye"], "detail_level": {"of": "rye"}}
    if not faults.injects("wrong-totals"):
        return document
    wrong = {name: value + 4 for name, value in document["overview"].items() if name.startswith("total_")}
    wrong["file_counts_by_extension"] = {"pdf": 4}
    return {**document, "overview": {**document["overview"], **wrong}}


def faulty_batch(document: Document, faults: TaskFaults, *, user_id: str, ids: Mapping[str, int]) -> Document:
    """An add-node batch with its faults.

    Parameters:
      ids: the known integer IDs of nodes, by original ID.
    """
    document = copy.deepcopy(document)
    for result in document["results"]:
        for edge in result["edges"]:
            if faults.injects("edge-ends"):
                number = ids.get(edge["target"])
                ways: list[Any] = [f"{user_id}_{edge['target']}"]
                ways += [number, str(number)] if number is not None else []
                edge["target"] = faults.choose("edge-ends", ways, edge["target"])
        for node in result["nodes"]:
            if faults.injects("epochs") and node["timestamp"]:
                node["timestamp"] = node["timestamp"].removesuffix("Z")
            if faults.injects("empty"):
                node |= {name: "" for name in ("timestamp", "createdAt", "updatedAt") if node[name] is None}
            if faults.injects("text-numbers"):
                node |= {name: str(node[name]) for name in ("numMessages", "numSections") if name in node}
    for result in document["results"]:
        _faulty_item(result, faults)
    if faults.injects("malformed"):
        document["results"].append("unreadable")
    if faults.injects("partial"):
        failed = {"noteId": "unreadable", "nodes": [], "edges": [], "skipped": False, "error": "Not readable."}
        document["results"].append(failed)
    return document


def _faulty_item(item: Document, faults: TaskFaults) -> None:
    if faults.injects("batch-ids"):
        names = {node["id"]: f"tmp-{number}" for number, node in enumerate(item["nodes"], start=1)}
        for node in item["nodes"]:
            node["id"] = names[node["id"]]
        for edge in item["edges"]:
            edge["source"] = names.get(edge["source"], edge["source"])
    if faults.injects("malformed"):
        item["nodes"] += [[], {"clusterId": "nowhere"}]
        item["edges"].append(None)
    if faults.injects("plain-edges"):
        for edge in filter(None, item["edges"]):
            del edge["type"], edge["weight"]
    if faults.injects("item-errors") and item["nodes"]:
        item["error"] = "A part of it is not readable."


def faulty_chunks(chunks: list[Document], faults: TaskFaults) -> Any:
    """A standardized document with its faults."""
    if faults.injects("text-numbers"):
        chunks = copy.deepcopy(chunks)
        for edge in (edge for chunk in chunks for edge in chunk["edges"]):
            edge["confidence"] = str(edge["confidence"])
    if faults.injects("malformed"):
        chunks = [{**chunk, "nodes": [*chunk["nodes"], "TCP"]} for chunk in chunks]
    if faults.injects("empty-parts"):
        chunks = [*chunks, {"nodes": [], "edges": []}]
    if not faults.injects("one-chunk"):
        return chunks
    return {part: [item for chunk in chunks for item in chunk[part]] for part in ("nodes", "edges")}


def faulty_block_graph(graph: Document, faults: TaskFaults) -> Document:
    """A block graph document with its faults; without them, the graph is inside `block_graph`."""
    graph = copy.deepcopy(graph)
    for number, block in enumerate(graph["blocks"]):
        if faults.injects("edge-sources"):
            for edge in (block["micro_graph"] or {"edges": []})["edges"]:
                edge["source"] = edge.pop("start")
        if faults.injects("sparse-blocks"):
            block["title"] = None
            block["micro_graph"] = block["micro_graph"] if number % 2 else None
        if faults.injects("empty-parts"):
            block["turn_range"] = []
        if faults.injects("malformed"):
            block["summary"] = {"text": block["summary"]}
    if faults.injects("malformed"):
        graph["edges"].append("b1-b2")
    if not faults.injects("bare-blocks"):
        return {"block_graph": graph}
    blocks = [
        {"id" if name == "block_id" else name: value for name, value in block.items()} for block in graph["blocks"]
    ]
    return {**graph, "blocks": blocks}


def faulty_envelope(
    task_type: str, task_id: str, payload: Document, *, sent_at: datetime, faults: TaskFaults, about: str = ""
) -> str:
    """A message body with its faults.

    Parameters:
      payload: its fields in the contract's spelling; None: the field is missing.
      sent_at: the producer's time.
      about: names the message among those of the task.
    """
    given = {name: value for name, value in payload.items() if value is not None}
    if task_type.startswith("MICROSCOPE"):
        given = _faulty_microscope(given, parse_task_id(task_id), faults)
    if faults.injects("partial", about) and given.get("status") == "COMPLETED":
        given["error"] = "One of the sources could not be read."
    if faults.injects("wild-progress", about) and task_type == "GRAPH_GENERATION_PROGRESS":
        given |= faults.choose("wild-progress", WILD_PROGRESS, about)
    if faults.injects("other-types", about):
        given = _with_other_types(given)
    if faults.injects("empty", about):
        missing = [name for name, value in payload.items() if value is None]
        given = {name: faults.choose("empty", (None, ""), name) for name in missing} | given
    if faults.injects("unknown-fields", about):
        given["modelVersion"] = "2026.5"
    if faults.injects("snake-case", about):
        given = {_snake_case(name): value for name, value in given.items()}
    envelope: Document = {"taskType": task_type, "taskId": task_id, "timestamp": sent_at.isoformat(), "payload": given}
    if faults.injects("unknown-fields", about):
        envelope["traceId"] = "1-5f84c7a1"
    if faults.injects("no-zone", about):
        envelope["timestamp"] = sent_at.replace(tzinfo=None).isoformat()
    if faults.injects("fast-clock", about):
        envelope["timestamp"] = (sent_at + timedelta(hours=9)).replace(tzinfo=None).isoformat()
    if faults.injects("no-time", about) and faults.choose("no-time", (True, False), f"{about}/at all"):
        envelope["timestamp"] = faults.choose("no-time", (None, "", ...), about)
        if envelope["timestamp"] is ...:
            del envelope["timestamp"]
    if faults.injects("other-types", about) and envelope.get("timestamp"):
        envelope["timestamp"] = sent_at.timestamp()
    return msgspec.json.encode(envelope).decode()


def _with_other_types(payload: Document) -> Document:
    kinds: dict[str, Callable[[Any], Any]] = {
        "error": lambda text: {"message": text},
        "sourceId": len,
        "ingest_stats": lambda stats: [stats],
    }
    return {name: kinds[name](value) if value and name in kinds else value for name, value in payload.items()}


def _faulty_microscope(payload: Document, task: MicroscopeTask, faults: TaskFaults) -> Document:
    payload = dict(payload)
    if faults.injects("wrong-field"):
        other = {"standardized_s3_key": "block_graph_s3_key", "block_graph_s3_key": "standardized_s3_key"}
        payload = {other.get(name, name): value for name, value in payload.items()}
    if faults.injects("no-user") and task.user_id:
        payload.pop("userId", None)
    if faults.injects("no-group"):
        payload.pop("groupId", None)
    elif faults.injects("workspace") and "groupId" in payload:
        payload["workspaceId"] = payload.pop("groupId")
    return payload


def _faulty_node(node: Document, faults: TaskFaults) -> None:
    if node["source_type"] == "file":
        extension = node["metadata"].get("extension") or "txt"
        node["orig_id"] = _raw_id(node["orig_id"], extension, faults)
        if faults.injects("raw-types"):
            node["source_type"] = extension
    if faults.injects("no-source-type") and node["source_type"] == "chat":
        del node["source_type"]
    if faults.injects("epochs") and node["timestamp"]:
        if faults.choose("epochs", (True, False)):
            moment = datetime.fromisoformat(node.pop("timestamp")).timestamp()
            node |= {"create_time": moment, "update_time": moment}
        else:
            node["timestamp"] = node["timestamp"].removesuffix("Z")
    if faults.injects("zero-times") and node.get("timestamp", ...) is None:
        node |= {"create_time": 0, "update_time": 0.0}
    if faults.injects("old-counts"):
        node["num_messages"] = node.pop("num_sections")
    if faults.injects("keyword-pairs"):
        node["keywords"] = [[keyword["term"], keyword["score"]] for keyword in node["keywords"]]
    if faults.injects("malformed"):
        node |= {"keywords": [*node["keywords"], ["no", "pair"]], "cluster_confidence": "sure"}
    if faults.injects("text-numbers"):
        node |= {
            name: str(node[name]) for name in ("cluster_confidence", "num_sections", "num_messages") if name in node
        }
    if faults.injects("empty") and node.get("timestamp", ...) is None:
        node["timestamp"] = ""


def _raw_id(orig_id: str, extension: str, faults: TaskFaults) -> str:
    """The ID of a file of the app as `{type}_{fileId}_{display name}`, or without the type; other IDs unchanged."""
    found = _APP_FILE.fullmatch(orig_id)
    if not found or not faults.injects("raw-types"):
        return orig_id
    file_id = found["id"]
    name = faults.choose("raw-types", (f"{extension}_{file_id}_a file", f"{file_id}_a file.{extension}"), file_id)
    return f"{found['namespace'] or ''}{name}"


def _snake_case(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
