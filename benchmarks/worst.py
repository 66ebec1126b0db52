"""Searches for documents that cost much: in memory beside what admission books for them, and in CPU time.

A document is a frame with an element that is repeated in it. The search begins with known shapes and changes those that
cost most, at random but by a seed. Each document is handled as an actor does it, in a process that has done nothing
else: read, decoded, turned into rows, compared with a stored twin and written as COPY's text. Its memory is the growth
of the process's resident set up to the peak.

Printed are the worst shapes of each kind of document: their memory beside the booked, their time for each MiB beside
that of an ordinary document, and the time of the largest document that the default settings admit. The exit code is 1
if one takes more memory than is booked for it, or more time than half of the actors' limit.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import msgspec
from psycopg2.extensions import QuotedString

from benchmarks.documents import features_document, graph_document
from benchmarks.memory import RESET_PEAK, default_of, memory_mb
from benchmarks.output import option_parser, report, tell
from graphnode.actors.graph_generation import MOST_READ_S
from graphnode.clients.memory import ADD_NODE_BATCH, GRAPH, MICROSCOPE, STREAM_BYTES, SUMMARY, Weights
from graphnode.clients.s3 import Document
from graphnode.contract.decoding import (
    FeaturesReader,
    decode_add_node_batch,
    decode_graph,
    decode_microscope,
    decode_summary,
)
from graphnode.contract.values import MAX_INTEGER
from graphnode.errors import PermanentError
from graphnode.rules.batch_merge import merge_batch
from graphnode.rules.difference import difference, with_json_as_text
from graphnode.rules.features import Embeddings
from graphnode.rules.graph import clean_graph, with_times
from graphnode.rules.microscope_views import stored_view
from graphnode.rules.rows import ClusterRow, MergeTarget, NodeRow, StoredNode, SubclusterRow
from graphnode.rules.summary import summary_row
from graphnode.storage.database import COPY_CHUNK_BYTES, copy_lines
from graphnode.storage.graph_merges import WRITTEN, parts_of
from graphnode.worker.middleware import DEFAULT_TIME_LIMIT_MS

#: Bytes that are booked for a document of the search: large beside the noise of a process's memory.
BOOKED = 40 << 20

#: The most bytes of a document of the search.
MOST_BYTES = 5 << 20

#: The most CPU time for each MiB, as a multiple of that of an ordinary document of the kind.
MOST_TIMES_ORDINARY = 150

#: How many of the costliest shapes of each kind are changed further.
KEPT = 6

#: Seconds of the search for each kind of document, unless `--seconds` says otherwise.
SECONDS = 60.0

#: The share of shapes that are not changed ones.
FRESH = 0.4

USER = "ada"

T = TypeVar("T")


class Shape(NamedTuple):
    """A document: a frame with an element that is repeated in it.

    Parameters:
      head: the text before the elements.
      element: the text of one; each `#` in it becomes a number, another one in each element.
      tail: the text after them.
      scale: how many elements there are, as a share of those for which `BOOKED` bytes are booked: tables of hashes
        take the most when they have just grown.
    """

    head: str
    element: str
    tail: str
    scale: float = 1.0

    def document(self, kind: Kind) -> bytes:
        """Its text, for which about `BOOKED` bytes are booked."""
        element = self.element.replace("#", "1000000").encode(errors="surrogatepass") + b","
        most = min(BOOKED // max(1, kind.booked(element)), MOST_BYTES // len(element))
        times = max(1, int(self.scale * most))
        if "#" in self.element:
            parts = self.element.split("#")
            text = ",".join(str(number).join(parts) for number in range(1_000_000, 1_000_000 + times))
        else:
            text = ",".join([self.element] * times)
        return f"{self.head}{text}{self.tail}".encode(errors="surrogatepass")


class Kind(NamedTuple):
    """A kind of document.

    Parameters:
      name: of the kind.
      weights: by which its memory is booked; None for a stream.
      handle: does with it what an actor does.
      frames: where elements may be: the texts before and after them.
      elements: known elements.
      worst: the worst shapes that were found: they are tried first.
      ordinary: an ordinary document of about this many bytes.
    """

    name: str
    weights: Weights | None
    handle: Callable[[Document], None]
    frames: Sequence[tuple[str, str]]
    elements: Sequence[str]
    worst: Sequence[Shape]
    ordinary: Callable[[int], bytes]

    def booked(self, text: bytes) -> int:
        """The bytes of memory that admission books for a part of a document."""
        return self.weights.of(text) if self.weights else 0

    def limit(self) -> int:
        """The most bytes of a document, whatever is in it."""
        return default_of("max_document_bytes" if self.weights else "max_features_bytes")


class Cost(NamedTuple):
    """What a document cost.

    Parameters:
      size: its bytes.
      booked: the bytes of memory that admission books.
      measured: those that it took.
      seconds: of CPU time.
      outcome: what became of it.
    """

    size: int
    booked: int
    measured: int
    seconds: float
    outcome: str

    @property
    def share(self) -> float:
        """The measured memory by the booked."""
        return self.measured / self.booked

    @property
    def ms_per_mib(self) -> float:
        """Milliseconds for each MiB of the document."""
        return 1000 * self.seconds / (self.size / 2**20)

    @property
    def ms_per_booked_mib(self) -> float:
        """Milliseconds for each MiB of memory that is booked."""
        return 1000 * self.seconds / (self.booked / 2**20)


def main() -> None:
    """Search, and print the worst of each kind."""
    parser = option_parser("worst", __doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"for each kind (default: {SECONDS:.0f})")
    parser.add_argument("--seed", type=int, default=0, help="of the search (default: 0)")
    parser.add_argument("--only", choices=[kind.name for kind in KINDS], help="one kind of document")
    asked = parser.parse_args()
    kinds = [kind for kind in KINDS if asked.only in (None, kind.name)]
    figures = {kind.name: figures_of(kind, seconds=asked.seconds, seed=asked.seed) for kind in kinds}
    lines = [line for name, found in figures.items() for line in described(name, found)]
    report(figures, as_json=asked.json, lines=lines)
    sys.exit(any(map(is_broken, figures.values())))


def figures_of(kind: Kind, *, seconds: float, seed: int) -> dict[str, Any]:
    """The worst of a kind in memory and in time, and an ordinary document beside them."""
    ordinary = cost(kind, partial(kind.ordinary, 4 << 20))
    found = search(kind, seconds=seconds, seed=seed)
    by_memory = max(found, key=lambda each: each[1].share)
    by_time = max(found, key=lambda each: each[1].ms_per_mib)
    by_limits = max(found, key=lambda each: seconds_at_limits(kind, each[1]))
    return {
        "shapes": len(found),
        "ordinary": shown(None, ordinary),
        "memory": shown(*by_memory),
        "time": {
            **shown(*by_time),
            "times_ordinary": round(by_time[1].ms_per_mib / ordinary.ms_per_mib, 1),
        },
        "time_at_limits": {
            **shown(*by_limits),
            "seconds": round(seconds_at_limits(kind, by_limits[1]), 1),
            "half_of_the_time_limit": DEFAULT_TIME_LIMIT_MS / 2000,
        },
    }


def is_broken(figures: dict[str, Any]) -> bool:
    """Whether a shape took more than it may."""
    memory, limits = figures["memory"]["measured_by_booked"], figures["time_at_limits"]
    is_slow = limits["seconds"] > limits["half_of_the_time_limit"]
    return bool(memory > 1 or is_slow or figures["time"]["times_ordinary"] > MOST_TIMES_ORDINARY)


def described(name: str, figures: dict[str, Any]) -> list[str]:
    """The figures of a kind as lines."""
    ordinary, memory, worst, limits = (figures[part] for part in ("ordinary", "memory", "time", "time_at_limits"))
    return [
        f"{name}: {figures['shapes']} shapes",
        f"  ordinary   {memory_of(ordinary)}, {ordinary['ms_per_mib']} ms/MiB",
        f"  memory     {memory_of(memory)}: {memory['shape']}",
        f"  time       {worst['ms_per_mib']:>7} ms/MiB, {worst['times_ordinary']} times ordinary: {worst['shape']}",
        f"  at limits  {limits['seconds']:>7} s, of {limits['half_of_the_time_limit']:.0f}: {limits['shape']}",
    ]


def memory_of(figures: dict[str, Any]) -> str:
    """The figures of memory as a text."""
    return f"{figures['memory_per_byte']:>7} bytes a byte, {figures['booked_per_byte']} booked"


def shown(shape: Shape | None, found: Cost) -> dict[str, Any]:
    """A cost as figures."""
    return {
        "shape": shape and f"{shape.head}{shape.element},…{shape.tail}"[:200],
        "memory_per_byte": round(found.measured / found.size, 1),
        "booked_per_byte": round(found.booked / found.size, 1),
        "measured_by_booked": round(found.share, 3),
        "ms_per_mib": round(found.ms_per_mib, 1),
        "outcome": found.outcome,
    }


def seconds_at_limits(kind: Kind, found: Cost) -> float:
    """CPU seconds of the largest document of this shape that the default settings admit."""
    if not kind.weights:
        return min(MOST_READ_S, found.seconds * kind.limit() / found.size)
    most_bytes = min(kind.limit(), default_of("document_memory") * found.size / found.booked)
    return found.seconds * most_bytes / found.size


def search(kind: Kind, *, seconds: float, seed: int) -> list[tuple[Shape, Cost]]:
    """The shapes that were tried, with their costs: the worst known ones, and others.

    Parameters:
      seconds: how long the search goes on.
      seed: of its chance.
    """
    chance = random.Random(seed)  # noqa: S311
    found = {shape: cost(kind, partial(shape.document, kind)) for shape in kind.worst}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        shape = changed(chance.choice(costliest(found)), kind, chance)
        if chance.random() < FRESH or shape in found:
            shape = Shape(*(frame := chance.choice(kind.frames))[:1], chance.choice(kind.elements), frame[1])
        if shape not in found:
            found[shape] = cost(kind, partial(shape.document, kind))
            if found[shape].share > 1:
                tell(f"{kind.name}: {found[shape].share:.2f} times the booked memory: {shape}")
    tell(f"{kind.name}: {len(found)} shapes")
    return list(found.items())


def costliest(found: dict[Shape, Cost]) -> list[Shape]:
    """The shapes that cost most, by memory and by time."""
    by_memory = sorted(found, key=lambda shape: -found[shape].share)[:KEPT]
    return [*by_memory, *sorted(found, key=lambda shape: -found[shape].ms_per_booked_mib)[:KEPT]]


def changed(shape: Shape, kind: Kind, chance: random.Random) -> Shape:
    """A shape that differs a little."""
    element, value = shape.element, chance.choice(VALUES)
    match chance.randrange(8):
        case 0:
            head, tail = chance.choice(kind.frames)
            return Shape(head, element, tail)
        case 1:
            return shape._replace(element=f"{element},{chance.choice((*kind.elements, value))}")
        case 2:
            return shape._replace(element=f"[{element}]")
        case 3:
            return shape._replace(element=f'{{"{chance.choice(KEYS)}":{element}}}')
        case 4:
            # What msgspec refuses is decoded a second time, in another way.
            return shape._replace(head=shape.head.replace("{", '{"x":NaN,', 1))
        case 5:
            return shape._replace(scale=chance.uniform(0.5, 1))
        case 6:
            return shape._replace(element=element.replace(chance.choice(VALUES), value, chance.randrange(3)))
        case _:
            return shape._replace(element=element.replace("{", f'{{"{chance.choice(KEYS)}":{value},', 1))


def cost(kind: Kind, make: Callable[[], bytes]) -> Cost:
    """What handling a document costs. It is made and handled in forks of this process, which itself does little."""
    with tempfile.TemporaryFile() as file:
        size, booked = in_fork(partial(written, kind, make, file), tuple[int, int])
        file.seek(0)
        memory, seconds, outcome = in_fork(partial(measured, kind, file, size), tuple[int, float, str])
    return Cost(size, booked if kind.weights else STREAM_BYTES, memory, seconds, outcome)


def in_fork(function: Callable[[], T], kind: type[T]) -> T:
    """What a function returns in a fork of this process."""
    with tempfile.TemporaryFile() as answer:
        if not (child := os.fork()):
            try:
                answer.write(msgspec.json.encode(function()))
                answer.flush()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        answer.seek(0)
        return msgspec.json.decode(answer.read(), type=kind)


def written(kind: Kind, make: Callable[[], bytes], file: IO[bytes]) -> tuple[int, int]:
    """Write a document into a file; its size, and the bytes of memory that are booked for it."""
    document = make()
    file.write(document)
    file.flush()
    return len(document), kind.booked(document)


def measured(kind: Kind, file: IO[bytes], size: int) -> tuple[int, float, str]:
    """Handle the document in a file: the bytes of memory over those before, the CPU seconds, and the outcome."""
    document = Document(file, name="", expected_bytes=size, limit=1 << 40, setting="")
    Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    before, began = memory_mb("VmRSS"), time.process_time()
    try:
        kind.handle(document)
        outcome = "stored"
    except PermanentError as error:
        outcome = error.reason
    return int((memory_mb("VmHWM") - before) * 1e6), time.process_time() - began, outcome


def handle_graph(document: Document) -> None:
    """As the actor of a graph generation does: compared with a stored twin, and written."""
    rows, _ = clean_graph(decode_graph(document.whole(GRAPH)))
    Embeddings({node.orig_id: node.id for node in rows.nodes})
    stored = list(map(with_json_as_text, stored_twin(rows.nodes)))
    nodes = with_times(rows.nodes, stored, now=datetime.now(UTC))
    changes = difference(stored, nodes), difference(rows.edges, rows.edges, key=2)
    for part in (rows.clusters, nodes, rows.edges, rows.subclusters, *(found.fresh for found in changes)):
        copy(part)
    literal(rows.metadata)


def stored_twin(rows: Iterable[NodeRow]) -> Iterator[NodeRow]:
    """The rows as PostgreSQL would give them: each made when it is asked for."""
    for row in rows:
        yield row._replace(
            keywords=row.listed_keywords, metadata=msgspec.json.decode(msgspec.json.encode(row.metadata))
        )


def handle_summary(document: Document) -> None:
    """As the actor of a summary does."""
    for value in summary_row(decode_summary(document.whole(SUMMARY)), {})[:5]:
        literal(value)


def handle_batch(document: Document) -> None:
    """As the actor of an add-node batch does, for a small graph."""
    changes, _ = merge_batch(STORED, decode_add_node_batch(document.whole(ADD_NODE_BATCH)), user_id=USER)
    for part in parts_of(changes):
        literal([[row._asdict() for row in getattr(part, name)] for name in WRITTEN])


def handle_microscope(document: Document) -> None:
    """As the actor of the microscope does."""
    decoded = decode_microscope(document.whole(MICROSCOPE), half=None)
    literal(stored_view(decoded, document_id="d1", warnings=Counter()))


def handle_features(document: Document) -> None:
    """As the actor of a graph generation does with its features."""
    reader, embeddings = FeaturesReader(), Embeddings({"1": 1})
    for piece in document.pieces():
        for row in reader.feed(piece):
            embeddings.packed(row)
        embeddings.take_names(reader.names)
    embeddings.match()


def copy(rows: Iterable[tuple[object, ...]]) -> None:
    """Write rows as COPY does."""
    buffer = bytearray()
    for line in copy_lines(rows):
        buffer += line
        while len(buffer) > COPY_CHUNK_BYTES:
            bytes(buffer[:COPY_CHUNK_BYTES])
            del buffer[:COPY_CHUNK_BYTES]


def literal(value: object) -> None:
    """Write a value as a statement does: its JSON, the literal, the statement, and libpq's copy of it."""
    quoted = QuotedString(msgspec.json.encode(value).decode())
    quoted.encoding = "utf8"
    statement = b"INSERT " + quoted.getquoted()
    bytearray(statement)


def ordinary_chunks(size: int) -> bytes:
    """Chunks as the AI server writes them."""
    return json.dumps(
        [
            {
                "nodes": [
                    {
                        "name": f"thing {chunk} {number}",
                        "type": "concept",
                        "description": "What the chunk says about it, in a sentence.",
                        "source_chunk_id": f"c{chunk}",
                    }
                    for number in range(10)
                ],
                "edges": [
                    {
                        "start": f"thing {chunk} {number}",
                        "target": f"thing {chunk} {number + 1}",
                        "type": "uses",
                        "description": "One uses the other in some way.",
                        "source_chunk_id": f"c{chunk}",
                        "evidence": "the words in the text",
                        "confidence": 0.8,
                    }
                    for number in range(9)
                ],
            }
            for chunk in range(size // 3100)
        ]
    ).encode()


def ordinary_summary(size: int) -> bytes:
    """A summary with many clusters."""
    cluster = {
        "cluster_id": "cluster_1",
        "name": "Baking",
        "size": 12,
        "density": 0.5,
        "centrality": 0.5,
        "recency": "high",
        "top_keywords": ["bread", "rye"],
        "key_themes": ["baking"],
        "common_question_types": ["how to"],
        "insight_text": "You bake on Sundays, and ask about rye.",
        "notable_conversations": ["conv-1", "conv-2"],
    }
    return json.dumps({"overview": {"summary_text": "All."}, "clusters": [cluster] * (size // 350)}).encode()


def ordinary_batch(size: int) -> bytes:
    """A batch of many sources, each with some edges."""
    return json.dumps(
        {
            "userId": USER,
            "results": [
                {
                    "conversationId": f"conv-{number}",
                    "nodes": [
                        {
                            "id": f"{USER}_conv-{number}",
                            "origId": f"conv-{number}",
                            "clusterId": f"cluster_{number % 40}",
                            "clusterName": "Baking",
                            "numMessages": 12,
                            "timestamp": "2026-05-24T08:02:08",
                        }
                    ],
                    "edges": [
                        {
                            "source": f"{USER}_conv-{number}",
                            "target": f"{USER}_conv-{other}",
                            "weight": 0.5,
                            "type": "hard",
                        }
                        for other in range(max(0, number - 5), number)
                    ],
                    "assignedCluster": {
                        "clusterId": f"cluster_{number % 40}",
                        "confidence": 0.9,
                        "reasoning": "It fits.",
                    },
                }
                for number in range(size // 900)
            ],
        }
    ).encode()


def ordinary_features(size: int) -> bytes:
    """A features document."""
    return b"".join(features_document([f"conv-{number}" for number in range(size // 8500)], width=384))


#: The stored graph that batches are merged into.
STORED = MergeTarget(
    nodes={"conv-1": StoredNode(0, "cluster_1"), "note-1": StoredNode(1, "cluster_1")},
    edges={(0, 1): "hard"},
    clusters={"cluster_1": ClusterRow("cluster_1", "Baking", None, 2, [])},
    subclusters=[SubclusterRow("s1", "cluster_1", [0, 1], 0, 2, None, [])],
    new_ids=range(2, MAX_INTEGER + 1),
)

#: Values that elements are made of, and keys.
VALUES = (
    *('""', '"a"', '"#"', '"é"', '"😀"', '"\n"', '"\u00e9"', '"\u0000"', '"\ud800"', '"a string of some length"'),
    *("0", "#", "0.5", "1e5", "NaN", "1e999", "true", "null", "[]", "{}", "[[]]", '{"":{}}', '{"#":0}', '["a","b"]'),
    "[" * 400 + "]" * 400,
)
KEYS = ("", "a", "#", "id", "name", "nodes", "keywords", "metadata", "cluster_id", "score", "timestamp", "é")

#: A long text: how many bytes it takes depends on the widest character beside it.
TEXT = "x" * 3000

NODE = '{"id":#,"orig_id":"#"}'
GRAPH_START = '{"nodes":[{"id":0,"orig_id":"a","cluster_id":"c"}]'

KINDS = (
    Kind(
        name="graph",
        weights=GRAPH,
        handle=handle_graph,
        frames=(
            ('{"nodes":[', "]}"),
            ('{"nodes":[{"id":0,"orig_id":"a","keywords":[', "]}]}"),
            ('{"nodes":[{"id":0,"orig_id":"a","cluster_confidence":NaN,"keywords":[', "]}]}"),
            ('{"nodes":[{"id":0,"orig_id":"a","metadata":{"a":[', "]}}]}"),
            (f'{GRAPH_START},"edges":[', "]}"),
            (f'{GRAPH_START},"subclusters":[', "]}"),
            (f'{GRAPH_START},"subclusters":[{{"id":1,"node_ids":[', "]}]}"),
            (f'{GRAPH_START},"subclusters":[{{"id":1,"node_ids":[0],"top_keywords":[', "]}]}"),
            (f'{GRAPH_START},"metadata":{{"a":[', "]}}"),
            (f'{GRAPH_START},"metadata":{{"clusters":{{"c":{{"key_themes":[', "]}}}}"),
            (f'{GRAPH_START},"metadata":{{"clusters":{{', "}}}"),
            (f'{GRAPH_START},"metadata":{{', "}}"),
            ('{"nodes":[{"id":0,"orig_id":"a","metadata":{', "}}]}"),
            (f'{GRAPH_START},"metadata":{{"a":"', '"}}'),
            (f'{GRAPH_START},"metadata":{{"a":"😀', '"}}'),
            (f'{GRAPH_START},"metadata":{{"a":NaN,"b":"😀', '"}}'),
            (f'{GRAPH_START},"x":[', "]}"),
            (f'{GRAPH_START},"x":[NaN,', "]}"),
            ('{"nodes":[' + ",".join(NODE.replace("#", str(each)) for each in range(3000)) + '],"edges":[', "]}"),
        ),
        elements=(
            *VALUES,
            NODE,
            '{"id":#,"orig_id":"#","cluster_id":"#"}',
            '{"id":#,"orig_id":"#","keywords":["a"]}',
            '{"id":#,"orig_id":"#","keywords":["a","b","c","d"]}',
            '{"id":#,"orig_id":"#","keywords":[{"a":0}],"metadata":{"a":0}}',
            '{"id":#,"orig_id":"#","num_sections":""}',
            '{"id":#,"orig_id":"#","timestamp":0}',
            '{"source":1,"target":2}',
            '{"source":#,"target":#}',
            '{"source":1,"target":2,"weight":0.1,"confidence":{}}',
            '{"id":#,"node_ids":[0]}',
            '{"id":#,"node_ids":[0],"top_keywords":["a"]}',
            '"#":0',
            '"#":{}',
            '"#":{"name":"#"}',
            '"#":{"key_themes":["a"]}',
            TEXT,
            "\\\\\\\\",
            "\n\n\n\n",
            "\ud83d\ude00",
        ),
        worst=(
            Shape('{"nodes":[', NODE, "]}"),
            Shape('{"nodes":[', '{"id":#,"orig_id":"#","num_sections":""}', "]}"),
            Shape('{"nodes":[', '{"id":#,"orig_id":"#","keywords":["a","b","c","d"]}', "]}"),
            Shape('{"nodes":[{"id":0,"orig_id":"a","keywords":[', '"a"', "]}]}"),
            Shape('{"nodes":[{"id":0,"orig_id":"a","keywords":[', "NaN", "]}]}"),
            Shape('{"nodes":[{"id":0,"orig_id":"a","cluster_confidence":NaN,"keywords":[', '"a"', "]}]}"),
            Shape('{"nodes":[{"id":0,"orig_id":"a","metadata":{"a":[', '["a","b"]', "]}}]}"),
            Shape('{"nodes":[{"id":0,"orig_id":"a","metadata":{', '"#":0', "}}]}", 0.7),
            Shape(f'{GRAPH_START},"metadata":{{"a":[', "[" * 400 + "]" * 400, "]}}"),
            Shape(f'{GRAPH_START},"metadata":{{"a":"😀', TEXT, '"}}'),
            Shape(f'{GRAPH_START},"metadata":{{"a":NaN,"b":"😀', TEXT, '"}}'),
            Shape(f'{GRAPH_START},"x":[', "NaN", "]}"),
        ),
        ordinary=lambda size: graph_document(size // 1300, size // 1300 * 8),
    ),
    Kind(
        name="summary",
        weights=SUMMARY,
        handle=handle_summary,
        frames=(
            *((f'{{"overview":{{}},"{name}":[', "]}") for name in ("clusters", "patterns", "connections")),
            ('{"overview":{},"recommendations":[', "]}"),
            ('{"overview":{"primary_interests":[', "]}}"),
            ('{"overview":{"summary_text":"😀', '"}}'),
            ('{"overview":{"time_span":NaN,"file_counts_by_extension":{', "}}}"),
            ('{"overview":{},"clusters":[{"top_keywords":[', "]}]}"),
        ),
        elements=(*VALUES, '"#":0', TEXT, '{"size":0}', '{"name":""}', '{"size":NaN}'),
        worst=(
            Shape('{"overview":{},"clusters":[', "{}", "]}"),
            Shape('{"overview":{},"clusters":[', '{"name":""}', "]}"),
            Shape('{"overview":{},"clusters":[', '{"size":NaN}', "]}"),
            Shape('{"overview":{"time_span":NaN,"file_counts_by_extension":{', '"#":0', "}}}"),
            Shape('{"overview":{"primary_interests":[', '"a"', "]}}"),
            Shape('{"overview":{"summary_text":"😀', TEXT, '"}}'),
        ),
        ordinary=ordinary_summary,
    ),
    Kind(
        name="add-node",
        weights=ADD_NODE_BATCH,
        handle=handle_batch,
        frames=(
            ('{"results":[', "]}"),
            ('{"results":[{"nodes":[', "]}]}"),
            ('{"results":[{"nodes":[],"edges":[', "]}]}"),
            ('{"results":[{"nodes":[{"id":"a"},{"id":"b"}],"edges":[', "]}]}"),
            ('{"results":[{"nodes":[{"id":"a"}],"assignedCluster":{"clusterId":"n","themes":[', "]}}]}"),
            ('{"results":[{"error":[', "]}]}"),
            ('{"results":[{"error":{', "}}]}"),
            ('{"results":[{"error":"😀', '"}]}'),
            ('{"x":NaN,"results":[', "]}"),
            ('{"x":NaN,"results":[{"nodes":[', "]}]}"),
        ),
        elements=(
            *VALUES,
            '{"id":"#"}',
            '{"origId":"#"}',
            '{"id":"#","origId":"#","clusterId":"#"}',
            '{"id":"#","clusterName":"#","clusterId":#}',
            '{"source":"a","target":"b"}',
            '{"source":"#","target":"#"}',
            '"#":0',
            '{"nodes":[{"id":"#"}]}',
            '{"nodes":[{"id":"#"}],"assignedCluster":{"clusterId":"#"}}',
            '{"assignedCluster":{}}',
            TEXT,
        ),
        worst=(
            Shape('{"results":[', "{}", "]}"),
            Shape('{"results":[{"nodes":[', '{"id":"#"}', "]}]}"),
            Shape('{"results":[{"nodes":[', '{"id":"#","clusterId":#}', "]}]}"),
            Shape('{"results":[', '{"nodes":[{"id":"#"}]}', "]}"),
            Shape('{"results":[', '{"nodes":[{"id":"#"}],"assignedCluster":{"clusterId":"#"}}', "]}"),
            Shape('{"results":[{"nodes":[],"edges":[', "{}", "]}]}"),
        ),
        ordinary=ordinary_batch,
    ),
    Kind(
        name="microscope",
        weights=MICROSCOPE,
        handle=handle_microscope,
        frames=(
            ("[", "]"),
            ('[{"nodes":[', "]}]"),
            ('[{"nodes":[],"edges":[', "]}]"),
            ('{"blocks":[', "]}"),
            ('{"blocks":[],"edges":[', "]}"),
            ('{"blocks":[],"paths":[', "]}"),
            ('{"blocks":[{"micro_graph":{"nodes":[', "]}}]}"),
            ('{"blocks":[{"micro_graph":{"edges":[', "]}}]}"),
            ('{"blocks":[{"key_concepts":[', "]}]}"),
            ('{"blocks":[{"raw_text":"😀', '"}]}'),
            ('{"block_graph":{"x":NaN,"blocks":[', "]}}"),
        ),
        elements=(
            *VALUES,
            '{"nodes":[]}',
            '{"nodes":[{}]}',
            '{"name":"#"}',
            '{"micro_graph":{}}',
            '{"micro_graph":{"nodes":[{}],"edges":[{}]}}',
            TEXT,
        ),
        worst=(
            Shape('{"blocks":[', "{}", "]}"),
            Shape('{"block_graph":{"x":NaN,"blocks":[', "{}", "]}}"),
            Shape('{"x":NaN,"blocks":[{"micro_graph":{"edges":[', "[" * 400 + "]" * 400, "]}}]}"),
            Shape('{"blocks":[{"micro_graph":{"nodes":[', '""', "]}}]}"),
            Shape('{"blocks":[{"micro_graph":{"nodes":[', "{}", "]}}]}"),
            Shape('{"blocks":[{"micro_graph":{"nodes":[', '"#"', "]}}]}"),
            Shape('[{"nodes":[', "{}", "]}]"),
            Shape('{"blocks":[{"raw_text":"😀', TEXT, '"}]}'),
        ),
        ordinary=ordinary_chunks,
    ),
    Kind(
        name="features",
        weights=None,
        handle=handle_features,
        frames=(
            ('{"conversations":[', "]}"),
            ('{"conversations":[],"embeddings":[', "]}"),
            ('{"conversations":[],"embeddings":[[', "]]}"),
            ('{"conversations":[{', "}]}"),
            ('{"conversations":[{"orig_id":"😀', '"}]}'),
            ('{"x":[', '],"conversations":[]}'),
            ('{"x":{', '},"conversations":[]}'),
        ),
        elements=(*VALUES, '{"orig_id":"#"}', '{"orig_id":"😀' + "x" * 440 + '#"}', '"#":0', TEXT),
        worst=(
            Shape('{"conversations":[', "{}", "]}"),
            Shape('{"conversations":[', '{"orig_id":"😀' + "x" * 440 + '#"}', "]}"),
            Shape('{"conversations":[],"embeddings":[', "[]", "]}"),
            Shape('{"conversations":[],"embeddings":[[', "0.5", "]]}"),
            Shape('{"conversations":[{', '"#":0', "}]}"),
            Shape('{"conversations":[{"orig_id":"😀', TEXT, '"}]}'),
        ),
        ordinary=ordinary_features,
    ),
)


if __name__ == "__main__":
    main()
