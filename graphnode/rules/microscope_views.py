"""The views of a microscope document as they are stored: with IDs by which the app addresses their nodes."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import msgspec

from graphnode.contract.documents import Block, BlockGraph, Chunk
from graphnode.contract.task_ids import View


def view_of(document: list[Chunk] | BlockGraph) -> View:
    """The view that a document is."""
    return "block" if isinstance(document, BlockGraph) else "non_block"


def stored_view(document: list[Chunk] | BlockGraph, *, document_id: str, warnings: Counter[str]) -> Any:
    """The JSON of a view.

    - Each node of a chunk or micro graph has an `id`, which is the same whenever the document is stored again.
    - A block has `block_id`, `title` and `micro_graph`: never null.
    - An edge of a micro graph begins at `start`, as one of a chunk does.

    Parameters:
      warnings: counts what is left out.
    """
    ids = StableIds(document_id)
    if not isinstance(document, BlockGraph):
        return [_chunk(chunk, ids) for chunk in document]
    return {**msgspec.to_builtins(document), "blocks": [_block(block, ids, warnings) for block in document.blocks]}


class StableIds:
    """Makes IDs that depend only on a document's ID and on names, so that they stay when it is stored again."""

    def __init__(self, document_id: str) -> None:
        self._document_id = document_id
        self._made = Counter[bytes]()

    def new(self, kind: str, *names: Any) -> str:
        """An ID of this kind. Of several with the same names, each has its own, in their order."""
        named = msgspec.json.encode((self._document_id, kind, *names))
        self._made[named] += 1
        return f"{kind}_{hashlib.sha256(b'%d %b' % (self._made[named], named)).hexdigest()[:20]}"


def _chunk(chunk: Chunk, ids: StableIds) -> dict[str, Any]:
    stored = msgspec.to_builtins(chunk)
    return {**stored, "nodes": [{"id": ids.new("node", node["name"]), **node} for node in stored["nodes"]]}


def _block(block: Block, ids: StableIds, warnings: Counter[str]) -> dict[str, Any]:
    stored = msgspec.to_builtins(block)
    block_id = ids.new("block", block.title) if block.block_id in (None, "") else block.block_id
    graph = stored["micro_graph"] or {"nodes": [], "edges": []}
    nodes = [_micro_node(node, block_id, ids, warnings) for node in graph["nodes"] if isinstance(node, dict | str)]
    edges = [_micro_edge(edge) for edge in graph["edges"] if isinstance(edge, dict)]
    for part, kept in (("nodes", nodes), ("edges", edges)):
        if left_out := len(graph[part]) - len(kept):
            warnings[f"{part} of micro graphs that are no objects"] += left_out
    title = "" if block.title is None else block.title
    return {**stored, "block_id": block_id, "title": title, "micro_graph": {"nodes": nodes, "edges": edges}}


def _micro_node(node: dict[str, Any] | str, block_id: Any, ids: StableIds, warnings: Counter[str]) -> dict[str, Any]:
    """A node of a block's micro graph: it keeps an ID of its own, to which edges may refer."""
    node = {"name": node} if isinstance(node, str) else node
    given = node.get("id")
    if isinstance(given, str | int | float) and given != "":
        return node
    if given not in (None, ""):
        warnings["malformed IDs in micro graphs"] += 1
    return {**node, "id": ids.new("node", block_id, node.get("name"))}


def _micro_edge(edge: dict[str, Any]) -> dict[str, Any]:
    """An edge of a micro graph: some say `source`, others `start`."""
    start, source = edge.get("start"), edge.get("source")
    others = {name: value for name, value in edge.items() if name != "source"}
    return {**others, "start": source if start in (None, "") else start}
