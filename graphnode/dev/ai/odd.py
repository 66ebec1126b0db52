"""The odd sides of the real AI server, each of which the contract allows: how often, and which, can be set.

Whether a task shows a side is drawn from the seed, the task's ID and type, and the side's name alone: the same requests
show the same sides, in whatever order they come.
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import msgspec

from graphnode.contract.task_ids import MicroscopeTask, parse_task_id
from graphnode.errors import SettingsError

Document = dict[str, Any]
T = TypeVar("T")


class Side(NamedTuple):
    """An odd side.

    Parameters:
      about: what it does, in a line.
      share: how often it shows, as a part of the rate: what ends a task badly is rarer than the rest.
    """

    about: str
    share: float = 1.0


#: All of them, by name.
SIDES: Mapping[str, Side] = {
    # How messages come.
    "duplicates": Side("a message is sent two or three times"),
    "reordering": Side("progress comes after the result"),
    "delays": Side("a message comes some seconds late"),
    "late-documents": Side("the message comes before its document", 0.25),
    "failures": Side("the task FAILED; of every two, one COMPLETED after all", 0.25),
    "broken": Side("a message that broke off comes beside the result: a dead letter", 0.25),
    # How envelopes are written.
    "snake-case": Side("the payload's keys in snake_case"),
    "no-zone": Side("the timestamp without a zone"),
    "no-time": Side("the timestamp absent, null or empty"),
    "empty": Side('fields that are not given are null or ""'),
    "unknown-fields": Side("fields that nobody knows, in envelope, payload and document"),
    "workspace": Side("the workspace as workspaceId"),
    "no-user": Side("a microscope result without userId"),
    "no-group": Side("a microscope result without groupId"),
    "wrong-field": Side("the key of a microscope half in the other half's field"),
    "partial": Side("an error beside COMPLETED"),
    # How documents are written.
    "byte-order-mark": Side("a document begins with a byte order mark"),
    "epochs": Side("create_time and update_time in seconds in place of timestamp; else a time without zone"),
    "old-counts": Side("num_messages in place of num_sections"),
    "no-source-type": Side("conversations without source_type"),
    "raw-types": Side("files with their raw format as source_type, and in their ID"),
    "text-numbers": Side("numbers as text"),
    "edge-confidence": Side("an edge's confidence as a number"),
    "bad-edges": Side("a self-loop, a repeated edge and an edge to nowhere"),
    "wrong-totals": Side("a summary's totals are wrong"),
    "no-features": Side("the features file is not there", 0.25),
    "edge-ends": Side("add-node edges name nodes by number, digits or prefixed ID"),
    "bare-blocks": Side("the block graph without its wrapper, its blocks named by id"),
    "one-chunk": Side("all chunks as one object"),
}

#: Seconds that a delayed message comes late at most, and a late document.
LONGEST_DELAY_S = 3
LATE_DOCUMENT_S = 1.0

#: A file's ID as the app gives it, in its namespace if it is one of several inputs.
_APP_FILE = re.compile(r"(?P<namespace>src\d+_)?(?P<id>uf-[A-Za-z0-9-]+)")

#: What a failure of these says.
FAILURES = ("The model ran out of memory.", "The language model did not answer in time.", None, "")


class Odd:
    """How often the stand-in shows which of its odd sides.

    Parameters:
      rate: the share of tasks that show a side, for each side, from 0 to 1.
      seed: which tasks these are.
      names: the sides that may show; all, if none is named.

    Raises SettingsError for a name that there is not.
    """

    def __init__(self, *, rate: float = 0.0, seed: int = 0, names: Iterable[str] = ()) -> None:
        self.rate, self.seed, self.names = rate, seed, frozenset(names) or frozenset(SIDES)
        if unknown := sorted(self.names - SIDES.keys()):
            raise SettingsError(f"There is no odd side {', '.join(unknown)}; there are {', '.join(SIDES)}.")

    def of(self, task_id: str, task_type: str) -> Oddities:
        """Those of one task."""
        return Oddities(self, f"{self.seed}/{task_type}/{task_id}")


class Oddities:
    """The odd sides that one task shows.

    Parameters:
      odd: how often.
      key: what they are drawn from.
    """

    def __init__(self, odd: Odd, key: str) -> None:
        self._odd = odd
        self._key = key
        self._shown: set[str] = set()

    def shows(self, side: str, about: str = "") -> bool:
        """Whether it shows a side; with `about`, that of one of its messages."""
        drawn = self._random(f"{side}/{about}").random() < self._odd.rate * SIDES[side].share
        if not drawn or side not in self._odd.names:
            return False
        self._shown.add(side)
        return True

    def one_of(self, side: str, choices: Iterable[T], about: str = "") -> T:
        """The way in which it shows a side."""
        return self._random(f"{side}/{about}/way").choice(list(choices))

    def shown(self) -> list[str]:
        """The names of those that it has shown until now."""
        return [side for side in SIDES if side in self._shown]

    def _random(self, about: str) -> random.Random:
        return random.Random(f"{self._key}/{about}")  # noqa: S311


def encoded(document: Any, odd: Oddities) -> bytes:
    """A document as its bytes."""
    if odd.shows("unknown-fields") and isinstance(document, dict):
        document = {**document, "_debug": {"host": "ai-3", "took_ms": 1234}}
    mark = b"\xef\xbb\xbf" if odd.shows("byte-order-mark") else b""
    return mark + msgspec.json.encode(document)


def odd_graph(document: Document, odd: Oddities) -> Document:
    """A graph document with its odd sides."""
    document = copy.deepcopy(document)
    for node in document["nodes"]:
        _odd_node(node, odd)
    edges = document["edges"]
    if odd.shows("edge-confidence"):
        for edge in edges:
            if edge["confidence"] != "high":
                edge["confidence"] = edge["weight"]
    if odd.shows("bad-edges") and edges:
        first = edges[0]
        edges.append({**first, "target": first["source"]})
        edges.append({**first, "source": first["target"], "target": first["source"]})
        edges.append({**first, "target": max(node["id"] for node in document["nodes"]) + 1000})
    return document


def odd_features(document: Document, odd: Oddities) -> Document:
    """A features document whose IDs are those of the odd graph."""
    document = copy.deepcopy(document)
    for conversation in document["conversations"]:
        if conversation["source_type"] == "file":
            conversation["orig_id"] = _raw_id(conversation["orig_id"], "txt", odd)
    return document


def odd_summary(document: Document, odd: Oddities) -> Document:
    """A summary document with its odd sides."""
    if not odd.shows("wrong-totals"):
        return document
    wrong = {name: value + 4 for name, value in document["overview"].items() if name.startswith("total_")}
    return {**document, "overview": {**document["overview"], **wrong}}


def odd_batch(document: Document, odd: Oddities, *, user_id: str, ids: Mapping[str, int]) -> Document:
    """An add-node batch with its odd sides.

    Parameters:
      ids: the integer IDs of the nodes that have them, by original ID.
    """
    document = copy.deepcopy(document)
    for result in document["results"]:
        for edge in result["edges"]:
            if odd.shows("edge-ends"):
                number = ids.get(edge["target"])
                ways: list[Any] = [f"{user_id}_{edge['target']}"]
                ways += [number, str(number)] if number is not None else []
                edge["target"] = odd.one_of("edge-ends", ways, edge["target"])
        for node in result["nodes"]:
            if odd.shows("epochs") and node["timestamp"]:
                node["timestamp"] = node["timestamp"].removesuffix("Z")
            if odd.shows("empty"):
                node |= {name: "" for name in ("timestamp", "createdAt", "updatedAt") if node[name] is None}
            if odd.shows("text-numbers"):
                node |= {name: str(node[name]) for name in ("numMessages", "numSections") if name in node}
    if odd.shows("partial"):
        failed = {"noteId": "unreadable", "nodes": [], "edges": [], "skipped": False, "error": "Not readable."}
        document["results"].append(failed)
    return document


def odd_chunks(chunks: list[Document], odd: Oddities) -> Any:
    """A standardized document with its odd sides."""
    if odd.shows("text-numbers"):
        chunks = copy.deepcopy(chunks)
        for edge in (edge for chunk in chunks for edge in chunk["edges"]):
            edge["confidence"] = str(edge["confidence"])
    if not odd.shows("one-chunk"):
        return chunks
    return {part: [item for chunk in chunks for item in chunk[part]] for part in ("nodes", "edges")}


def odd_block_graph(graph: Document, odd: Oddities) -> Document:
    """A block graph with its odd sides; without any it is inside `block_graph`."""
    if not odd.shows("bare-blocks"):
        return {"block_graph": graph}
    blocks = [
        {"id" if name == "block_id" else name: value for name, value in block.items()} for block in graph["blocks"]
    ]
    return {**graph, "blocks": blocks}


def odd_envelope(
    task_type: str, task_id: str, payload: Document, *, sent_at: datetime, odd: Oddities, about: str = ""
) -> str:
    """An envelope as a message's body.

    Parameters:
      payload: its fields in the contract's spelling; what is None is not given.
      sent_at: the producer's time.
      about: which of the task's messages it is.
    """
    given = {name: value for name, value in payload.items() if value is not None}
    if task_type.startswith("MICROSCOPE"):
        given = _odd_microscope(given, parse_task_id(task_id), odd)
    if odd.shows("partial", about) and given.get("status") == "COMPLETED":
        given["error"] = "One of the sources could not be read."
    if odd.shows("empty", about):
        missing = [name for name, value in payload.items() if value is None]
        given = {name: odd.one_of("empty", (None, ""), name) for name in missing} | given
    if odd.shows("unknown-fields", about):
        given["modelVersion"] = "2026.5"
    if odd.shows("snake-case", about):
        given = {_snake_case(name): value for name, value in given.items()}
    envelope: Document = {"taskType": task_type, "taskId": task_id, "timestamp": sent_at.isoformat(), "payload": given}
    if odd.shows("unknown-fields", about):
        envelope["traceId"] = "1-5f84c7a1"
    if odd.shows("no-zone", about):
        envelope["timestamp"] = sent_at.replace(tzinfo=None).isoformat()
    if odd.shows("no-time", about) and odd.one_of("no-time", (True, False), f"{about}/at all"):
        envelope["timestamp"] = odd.one_of("no-time", (None, "", ...), about)
        if envelope["timestamp"] is ...:
            del envelope["timestamp"]
    return msgspec.json.encode(envelope).decode()


def _odd_microscope(payload: Document, task: MicroscopeTask, odd: Oddities) -> Document:
    payload = dict(payload)
    if odd.shows("wrong-field") and task.half:
        other = {"standardized_s3_key": "block_graph_s3_key", "block_graph_s3_key": "standardized_s3_key"}
        payload = {other.get(name, name): value for name, value in payload.items()}
    if odd.shows("no-user") and task.user_id:
        payload.pop("userId", None)
    if odd.shows("no-group"):
        payload.pop("groupId", None)
    elif odd.shows("workspace") and "groupId" in payload:
        payload["workspaceId"] = payload.pop("groupId")
    return payload


def _odd_node(node: Document, odd: Oddities) -> None:
    if node["source_type"] == "file":
        extension = node["metadata"].get("extension") or "txt"
        node["orig_id"] = _raw_id(node["orig_id"], extension, odd)
        if odd.shows("raw-types"):
            node["source_type"] = extension
    if odd.shows("no-source-type") and node["source_type"] == "chat":
        del node["source_type"]
    if odd.shows("epochs"):
        if not node["timestamp"]:
            pass
        elif odd.one_of("epochs", (True, False)):
            moment = datetime.fromisoformat(node.pop("timestamp")).timestamp()
            node |= {"create_time": moment, "update_time": moment}
        else:
            node["timestamp"] = node["timestamp"].removesuffix("Z")
    if odd.shows("old-counts"):
        node["num_messages"] = node.pop("num_sections")
    if odd.shows("text-numbers"):
        node |= {
            name: str(node[name]) for name in ("cluster_confidence", "num_sections", "num_messages") if name in node
        }
    if odd.shows("empty") and node.get("timestamp", ...) is None:
        node["timestamp"] = ""


def _raw_id(orig_id: str, extension: str, odd: Oddities) -> str:
    """`{type}_{fileId}_{display name}`, for a file whose name is an ID of the app's."""
    found = _APP_FILE.fullmatch(orig_id)
    if not found or not odd.shows("raw-types"):
        return orig_id
    return f"{found['namespace'] or ''}{extension}_{found['id']}_a file"


def _snake_case(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
