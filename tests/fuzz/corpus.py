"""The corpus: examples of the contract, and the smallest inputs that reach new code."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from base64 import b64encode
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from graphnode.contract import object_keys
from graphnode.contract.envelopes import ROUTES
from graphnode.contract.schemas.examples import EXAMPLES
from graphnode.operations.dead_letters.letter_files import LetterRecord
from graphnode.operations.dead_letters.letters import Letter
from tests.fuzz.targets import NOON, TARGETS, Target

#: The folder of the corpus, with one folder for each target.
CORPUS = Path(__file__).parent / "corpus"

#: The most bytes of a kept input.
LONGEST_KEPT = 1500

#: A line of code, and the one before it.
Arc = tuple[CodeType, int, int]


def seeds(target: str) -> list[bytes]:
    """The contract's examples for a target."""
    messages = {name.removeprefix("messages/"): value for name, value in EXAMPLES.items() if "messages/" in name}
    results = [_json(message) for name, message in messages.items() if name in ROUTES]
    requests = [_json(message) for name, message in messages.items() if name not in ROUTES]
    match target:
        case "envelope":
            return results
        case "request" | "asking":
            return requests
        case "packed":
            return [gzip.compress(result, mtime=0) for result in results[:1]]
        case "dramatiq_message":
            return [_json(_OWN), b64encode(_json(_OWN))]
        case "s3_url":
            return [b"s3://bucket/input/ada/", b"s3:///key", b"input/ada"]
        case "object_key":
            keys = [
                "graph/ada/t/graph.json",
                "graph/eve/t",
                "graph/ada/../eve/t",
                "s3://bucket/graph/ada/t",
                "graph/ada/\n",
                "k" * (object_keys.LONGEST_KEY_BYTES + 1),
            ]
            return [f"{key}\0ada\0graph/{{user_id}}/, input/".encode() for key in keys]
        case "letter_file":
            return [_json(_letter_line(result)) for result in results[:2]]
        case "dead_letter":
            attributes = {"reason": "INVALID_ENVELOPE", "error": "e", "attempt": "3", "failed_at": NOON.isoformat()}
            return [_json(attributes) + b"\0" + result for result in results]
    names = {"chunks": "microscope-standardized", "block_graph": "microscope-block-graph"}
    return [_json(EXAMPLES[f"documents/{names.get(target, target.replace('_', '-'))}"])]


_OWN = {
    "queue_name": "own",
    "actor_name": "tell",
    "args": [],
    "kwargs": {"notification_id": "01KS5VASM0TJW13004M3R3FV5P"},
    "options": {},
    "message_id": "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
    "message_timestamp": 1779624128000,
}


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), default=str).encode()


def _letter_line(body: bytes) -> Any:
    said: Any = {"reason": {"DataType": "String", "StringValue": "PERMANENT"}}
    letter = Letter("m", body.decode(), said, "", 1, NOON, moved_by_sqs=False)
    line = LetterRecord.of(letter, "results")
    return {name: getattr(line, name) for name in line.__struct_fields__} | {
        "attributes": {"reason": {"type": "String", "text": "PERMANENT"}},
        "sent_at": NOON.isoformat(),
    }


def kept(target: str) -> list[Path]:
    """The files of a target's kept inputs."""
    return sorted((CORPUS / target).glob("*"))


def inputs(folders: Iterable[Path]) -> Iterator[bytes]:
    """The inputs in these folders."""
    for folder in folders:
        for path in sorted(folder.glob("*")):
            yield path.read_bytes()


def keep(target: str, found: Iterable[bytes]) -> int:
    """Replace a target's kept inputs by those that reach new code, the smallest first; returns their number."""
    wanted = sorted({each for each in found if len(each) <= LONGEST_KEPT}, key=lambda each: (len(each), each))
    reached: set[Arc] = set()
    chosen = []
    for data in [*seeds(target), *wanted]:
        arcs = _arcs(TARGETS[target], data)
        if not arcs <= reached:
            reached |= arcs
            chosen.append(data)
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*"):
        path.unlink()
    for data in chosen:
        (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    return len(chosen)


def _arcs(target: Target, data: bytes) -> set[Arc]:
    """The pairs of successive lines that an input executes in graphnode's code."""
    arcs: set[Arc] = set()

    def trace(frame: FrameType, event: str, _value: Any) -> Any:
        code = frame.f_code
        if "/graphnode/" not in code.co_filename:
            return None
        before = frame.f_lineno

        def line(frame: FrameType, event: str, _value: Any) -> Any:
            nonlocal before
            arcs.add((code, before, frame.f_lineno))
            before = frame.f_lineno
            return line

        return line

    tracing = sys.gettrace()
    sys.settrace(trace)
    try:
        target(data)
    finally:
        sys.settrace(tracing)
    return arcs
