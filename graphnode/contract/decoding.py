"""Decodes the JSON documents that the AI server puts in S3."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from graphnode.contract.documents import (
    MAX_ID_LENGTH,
    AddNodeBatch,
    BlockGraph,
    Chunk,
    Chunks,
    GraphCluster,
    GraphDocument,
    GraphFile,
    ListedCluster,
    SummaryDocument,
)
from graphnode.contract.parts import Malformed, convert_parts
from graphnode.contract.repairs import (
    Warnings,
    add_count,
    without_lone_surrogates,
    without_not_finite,
    without_nul,
)
from graphnode.contract.streams import BYTE_ORDER_MARK, ArrayReader
from graphnode.contract.task_ids import Half
from graphnode.contract.values import text_id
from graphnode.errors import InvalidDocument
from graphnode.steps import step
from graphnode.text import excerpt

#: The most conversations, and embeddings, in a features document: four bytes are kept of each.
MOST_CONVERSATIONS = 1_000_000

T = TypeVar("T")

_GRAPH_FILE = msgspec.json.Decoder(GraphFile, strict=False)
_SUMMARY = msgspec.json.Decoder(SummaryDocument, strict=False)
_ADD_NODE_BATCH = msgspec.json.Decoder(AddNodeBatch, strict=False)
_CHUNKS: msgspec.json.Decoder[list[Chunk] | Chunk] = msgspec.json.Decoder(Chunks, strict=False)
_OBJECT = msgspec.json.Decoder(dict[str, Any])

# msgspec analyzes a type at its first use. If two threads do that at once, the process crashes: so do it here, for the
# types that have no decoder above.
for _converted_type in (GraphCluster, ListedCluster, BlockGraph):
    msgspec.json.Decoder(_converted_type)


def decode_graph(raw: bytes, *, warnings: Warnings | None = None) -> GraphDocument:
    """Decode the graph document of a graph generation.

    Parameters:
      raw: the object's bytes: UTF-8 JSON, with or without byte order mark.
      warnings: counts the repairs of the text.

    Raises InvalidDocument. It names the path in the document, what was expected there and what was found.
    """
    warnings = {} if warnings is None else warnings
    file = _read(raw, _GRAPH_FILE, warnings)
    metadata = dict(file.metadata)
    clusters = _described_clusters(metadata.pop("clusters", None), warnings)
    return GraphDocument(
        nodes=file.nodes, edges=file.edges, subclusters=file.subclusters, metadata=metadata, clusters=clusters
    )


def _described_clusters(described: Any, warnings: Warnings) -> dict[str, GraphCluster]:
    """The clusters in a graph's metadata, by ID. A number among them is a count.

    Older files have an array of them: as `clusters` or as `clusters.clusters`.
    """
    place = "metadata.clusters"
    if isinstance(described, dict) and isinstance(described.get("clusters"), list):
        described, place = described["clusters"], f"{place}.clusters"
    if isinstance(described, list):
        return _listed_clusters(_converted(described, list[ListedCluster], warnings, at=place), warnings)
    if not isinstance(described, dict):
        add_count(warnings, f"malformed {place}", bool(described))
        return {}
    clusters: dict[str, GraphCluster] = {}
    for cluster_id, cluster in described.items():
        if isinstance(cluster, dict):
            clusters[cluster_id] = _converted(cluster, GraphCluster, warnings, at=f"{place}[]")
        elif cluster not in (None, "") and (isinstance(cluster, bool) or not isinstance(cluster, int | float)):
            add_count(warnings, f"malformed {place}[]", 1)
    return clusters


def _listed_clusters(listed: list[ListedCluster], warnings: Warnings) -> dict[str, GraphCluster]:
    clusters: dict[str, GraphCluster] = {}
    for cluster in listed:
        if cluster_id := text_id(cluster.cluster_id) or text_id(cluster.id):
            clusters.setdefault(cluster_id, cluster)
        else:
            add_count(warnings, "clusters without an ID", 1)
    return clusters


class FeaturesReader:
    """Decodes a features document piece by piece, whatever the order of its parts.

    Parameters:
      names: the original IDs of the conversations read so far, in order; whoever has used them may delete them. None
        stands for an ID that is missing or that no node can have.
    """

    def __init__(self) -> None:
        self.names: list[str | None] = []
        self._conversations = self._rows = 0
        self._arrays = ArrayReader(required="conversations", optional="embeddings", fields=frozenset({"orig_id"}))

    def feed(self, piece: bytes) -> Iterator[list[float | None]]:
        """The embeddings that end with this piece; a missing one is empty.

        Parameters:
          piece: the next bytes, about 64 KiB. An empty one ends the document.

        Raises InvalidDocument.
        """
        for name, element in self._arrays.feed(piece):
            if name == "conversations":
                self.names.append(_conversation_name(element, self._conversations))
                self._conversations += 1
            else:
                yield _embedding(element, self._rows)
                self._rows += 1


def _conversation_name(conversation: Any, index: int) -> str | None:
    if not isinstance(conversation, dict):
        raise InvalidDocument(f"conversations[{index}]: expected object, got {_described(conversation)}")
    if index == MOST_CONVERSATIONS:
        raise InvalidDocument(f"conversations: expected at most {MOST_CONVERSATIONS}, got more")
    given = conversation.get("orig_id")
    if given is None or isinstance(given, dict | list):
        return None
    name = str(given).replace("\0", "")
    return name if len(name) <= MAX_ID_LENGTH else None


def _embedding(row: Any, index: int) -> list[float | None]:
    if index == MOST_CONVERSATIONS:
        raise InvalidDocument(f"embeddings: expected at most {MOST_CONVERSATIONS}, got more")
    try:
        return msgspec.convert(row or [], list[float | None], strict=False)
    except msgspec.ValidationError as error:
        raise _explained(str(error), row, f"embeddings[{index}]") from None


def decode_summary(raw: bytes, *, warnings: Warnings | None = None) -> SummaryDocument:
    """Decode a summary document. Parameters and errors are those of decode_graph."""
    return _read(raw, _SUMMARY, warnings)


def decode_add_node_batch(raw: bytes, *, warnings: Warnings | None = None) -> AddNodeBatch:
    """Decode an add-node batch. Parameters and errors are those of decode_graph."""
    return _read(raw, _ADD_NODE_BATCH, warnings)


def decode_chunks(raw: bytes, *, warnings: Warnings | None = None) -> list[Chunk]:
    """Decode a microscope's standardized document: an array of chunks, or one chunk.

    Parameters and errors are those of decode_graph.
    """
    chunks = _read(raw, _CHUNKS, warnings)
    return chunks if isinstance(chunks, list) else [Chunk(nodes=chunks.nodes, edges=chunks.edges)]


def decode_block_graph(raw: bytes, *, warnings: Warnings | None = None) -> BlockGraph:
    """Decode a microscope's block graph, bare or inside `block_graph`.

    Parameters and errors are those of decode_graph.
    """
    warnings = {} if warnings is None else warnings
    document = _read(raw, _OBJECT, warnings)
    graph = _wrapped_block_graph(document) or document
    blocks = graph.get("blocks")
    for block in blocks if isinstance(blocks, list) else ():
        if isinstance(block, dict):
            if block.get("block_id") in (None, ""):
                block["block_id"] = block.pop("id", None)
            if block.get("turn_range") == []:
                block["turn_range"] = None
    return _converted(graph, BlockGraph, warnings, at="" if graph is document else "block_graph")


def decode_microscope(raw: bytes, *, half: Half | None, warnings: Warnings | None = None) -> list[Chunk] | BlockGraph:
    """Decode a document of the microscope. Other parameters and errors are those of decode_graph.

    Parameters:
      half: the half that it belongs to; None: the content tells. An object with `blocks` is a block graph, bare or
        inside `block_graph`; anything else should be chunks.
    """
    if half == "block" or (half is None and _has_blocks(raw)):
        return decode_block_graph(raw, warnings=warnings)
    return decode_chunks(raw, warnings=warnings)


def _has_blocks(raw: bytes) -> bool:
    try:
        document = _read(raw, _OBJECT, None)
    except InvalidDocument:
        # No object. Decoding it as chunks says what is wrong, if anything is.
        return False
    return "blocks" in document or bool(_wrapped_block_graph(document))


def _wrapped_block_graph(document: dict[str, Any]) -> dict[str, Any] | None:
    wrapped = document.get("block_graph")
    return wrapped if isinstance(wrapped, dict) else None


def _read(raw: bytes, decoder: msgspec.json.Decoder[T], warnings: Warnings | None) -> T:
    """Decode fast; if that fails, decode a second time, which is slower, more tolerant, and explains the fault."""
    warnings = {} if warnings is None else warnings
    text = without_nul(raw.removeprefix(BYTE_ORDER_MARK), warnings)
    try:
        with step("decode"):
            try:
                return decoder.decode(text)
            except (msgspec.DecodeError, UnicodeDecodeError):
                return _in_parts(_parsed(text, warnings), decoder.type, warnings)
    except RecursionError:
        raise InvalidDocument("not a document: arrays or objects are nested too deep") from None


def _converted(value: Any, kind: type[T], warnings: Warnings, *, at: str) -> T:
    """Convert a parsed value to its type fast; if that fails, in parts. Raises InvalidDocument."""
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        return _in_parts(value, kind, warnings, at=at)


def _in_parts(value: Any, kind: type[T], warnings: Warnings, *, at: str = "") -> T:
    try:
        return convert_parts(value, kind, warnings, at=at)
    except Malformed as malformed:
        raise _explained(malformed.problem, malformed.value, at + malformed.path) from None


def _parsed(text: bytes, warnings: Warnings) -> Any:
    """The JSON value of a text. Raises InvalidDocument, which names the byte, if it is not JSON."""
    if not text.strip():
        raise InvalidDocument("not JSON: empty")
    try:
        text.decode()
    except UnicodeDecodeError as error:
        found = text[error.start]
        raise InvalidDocument(f"not UTF-8: byte 0x{found:02x} at byte {error.start}") from None
    text = without_lone_surrogates(text, warnings)
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        finite = without_not_finite(text, warnings)
        if finite != text:
            return _parsed(finite, warnings)
        raise _malformed(str(error), text) from None


def _malformed(problem: str, text: bytes) -> InvalidDocument:
    if not (found := re.search(r"\(byte (\d+)\)$", problem)):
        problem = problem.partition(" - at ")[0]
        return InvalidDocument(f"not JSON: {problem[0].lower()}{problem[1:]} ({len(text)} bytes)")
    position = int(found[1])
    surroundings = text[max(0, position - 20) : position + 20].decode(errors="ignore")
    said = f"not JSON: {problem.removeprefix('JSON is malformed: ')}"
    return InvalidDocument(f"{said}, near {surroundings!r}", log=said)


def _explained(problem: str, document: Any, at: str) -> InvalidDocument:
    """The error for msgspec's problem: the path, what was expected there and what was found.

    Parameters:
      document: what the problem is in.
      at: its path.
    """
    problem, _, path = problem.partition(" - at `$")
    path = path.removesuffix("`")
    value = document
    for name, index in re.findall(r"\.([^.\[]+)|\[(\d+)\]", path):
        value = value[name] if name else value[int(index)]
    place = (at + path).removeprefix(".")
    if missing := re.fullmatch("Object missing required field `(.+)`", problem):
        said = f"{place}.{missing[1]}".removeprefix(".") + ": required, but not given"
        return InvalidDocument(said)
    expected = problem.partition(", got ")[0].replace(" | null", "").replace(" | ", " or ").replace("`", "")
    said = f"{place or 'the document'}: {expected[0].lower()}{expected[1:]}"
    return InvalidDocument(f"{said}, got {_described(value)}", log=said)


def _described(value: Any) -> str:
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "array"
    return excerpt(msgspec.json.encode(value).decode())
