"""Bombs: documents made to take much time or memory. Their cost is at most proportional to their size.

Each is decoded in a process of its own with a limit on its address space. Time is bounded by the time-out of the run:
what is quadratic takes hours at this size.
"""

from __future__ import annotations

import subprocess
import sys
from typing import NamedTuple

#: Megabytes of a bomb.
SIZE_MB = 1

#: The most bytes of memory for each byte of a document. The smallest JSON objects take 24.
MOST_MEMORY_PER_BYTE = 40

#: Decodes each bomb in a fork. Prints the bomb, the decoder, the outcome, and the megabytes used.
PROGRAM = r"""
import os, resource, sys
from datetime import UTC, datetime
from graphnode.clients.s3 import PIECE_BYTES
from graphnode.contract import decoding as documents
from graphnode.contract.bodies import to_message
from graphnode.errors import PermanentError

def features(raw):
    reader = documents.FeaturesReader()
    for at in range(0, len(raw) + PIECE_BYTES, PIECE_BYTES):
        for row in reader.feed(raw[at : at + PIECE_BYTES]):
            pass
    reader.feed(b"")

decoders = {
    "graph": documents.decode_graph,
    "block-graph": documents.decode_block_graph,
    "features": features,
    "envelope": lambda raw: to_message(raw.decode(), message_id="m", sent_at=datetime.now(UTC), receive_count=1),
}

def bombs(size):
    yield "arrays-in-arrays", b"[" * size
    yield "objects-in-objects", b'{"a":' * (size // 5)
    yield "arrays-in-arrays-closed", b'{"conversations":' + b"[" * (size // 2) + b"]" * (size // 2) + b"}"
    yield "long-text", b'{"nodes":"' + b"x" * size + b'"}'
    yield "escaped-quotes-without-end", b'{"nodes":"' + b'\\"' * (size // 2)
    yield "backslashes-without-end", b'{"nodes":"' + b"\\" * size
    yield "quotes", b'"' * size
    yield "empty-objects", b'{"nodes":[' + b"{}," * (size // 3) + b"{}]}"
    yield "empty-conversations", b'{"conversations":[' + b"{}," * (size // 3) + b"{}]}"
    yield "small-objects", b'{"nodes":[],"blocks":[],"metadata":{"a":[' + b'{"a":1},' * (size // 8) + b"1]}}"
    yield "malformed-edges", b'{"nodes":[],"edges":[' + b"[]," * (size // 3) + b"[]]}"
    yield "malformed-members", b'{"nodes":[],"subclusters":[{"id":1,"node_ids":[' + b'"",' * (size // 3) + b"{}]}]}"
    yield "digits", b'{"nodes":' + b"9" * size + b"}"
    yield "decimals", b'{"nodes":[NaN,1.' + b"9" * size + b"]}"
    yield "numbers-of-300-digits", b'{"nodes":[NaN,' + (b"1" * 300 + b",") * (size // 301) + b"1]}"
    yield "no-numbers", b'{"nodes":[' + b"NaN," * (size // 4) + b"NaN]}"
    yield "NULs", b'{"nodes":"' + b"\\u0000" * (size // 6) + b'"}'
    yield "half-pairs", b'{"nodes":"' + b"\\ud800" * (size // 6) + b'"}'
    yield "long-row", b'{"conversations":[],"embeddings":[[' + b"1," * (size // 2) + b"1]]}"

def measured(decode, raw):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    try:
        decode(raw)
        outcome = "TAKEN"
    except PermanentError as error:
        outcome = error.reason if len(str(error)) < 1000 else "TOLD_AT_LENGTH"
    except BaseException as error:
        outcome = type(error).__name__
    return f"{outcome} {(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024:.1f}"

for decoder, decode in decoders.items():
    for bomb, raw in bombs(int(sys.argv[1]) << 20):
        if not (child := os.fork()):
            print(bomb, decoder, measured(decode, raw), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
"""


class Cost(NamedTuple):
    """The outcome of a bomb, and the megabytes it used."""

    bomb: str
    decoder: str
    outcome: str
    megabytes: float


def test_no_bomb_costs_more_than_its_size() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(SIZE_MB)], check=True, capture_output=True, text=True)
    lines = map(str.split, done.stdout.splitlines())
    costs = [Cost(bomb, decoder, outcome, float(megabytes)) for bomb, decoder, outcome, megabytes in lines]

    assert len(costs) == 4 * 19
    unexpected = [cost for cost in costs if cost.outcome not in {"TAKEN", "INVALID_DOCUMENT", "INVALID_ENVELOPE"}]
    assert unexpected == []
    assert [cost for cost in costs if cost.megabytes > SIZE_MB * MOST_MEMORY_PER_BYTE] == []
    taken = {cost.bomb for cost in costs if cost.decoder == "graph" and cost.outcome == "TAKEN"}
    assert taken == {"small-objects", "malformed-edges", "malformed-members"}
