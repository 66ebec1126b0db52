from __future__ import annotations

import msgspec
import pytest

from graphnode.contract.decoding import decode_block_graph, decode_chunks
from graphnode.dev.ai.microscope_ingest import block_graph_of, chunks_of, parts_of
from graphnode.dev.ai.text_sources import TextSource, UnreadableInput
from tests.unit.dev.ai.conftest import MakeSource


def test_each_source_of_the_corpus_can_be_ingested(sources: list[TextSource]) -> None:
    for source in sources:
        parts = parts_of(source)

        chunks = decode_chunks(msgspec.json.encode(chunks_of(parts)))
        graph = decode_block_graph(msgspec.json.encode(block_graph_of(source, parts, micro_graphs=True)))
        assert len(chunks) == len(graph.blocks) == len(parts)
        for chunk in chunks:
            names = {node.name for node in chunk.nodes}
            assert names
            assert all({edge.start, edge.target} <= names for edge in chunk.edges)
            assert all(str(edge.evidence) in source.text for edge in chunk.edges)
        block_ids = {block.block_id for block in graph.blocks}
        assert all({edge.source, edge.target} <= block_ids for edge in graph.edges)
        assert "".join(str(block.raw_text) for block in graph.blocks).replace("\n", "") == "".join(
            source.sections
        ).replace("\n", "")


def test_blocks_are_named_by_their_headings_and_follow_one_another(sources: list[TextSource]) -> None:
    (sourdough,) = [source for source in sources if source.name == "sauerteig"]

    graph = block_graph_of(sourdough, parts_of(sourdough), micro_graphs=False)

    titles = [block["title"] for block in graph["blocks"]]
    assert titles[0] == "Sauerteig verstehen"
    assert titles[1:3] == ["Das Anstellgut auffrischen", "Warme Führung"]
    follows = [(edge["source"], edge["target"]) for edge in graph["edges"] if edge["type"] == "FOLLOWS"]
    assert follows == [(f"block_{number}", f"block_{number + 1}") for number in range(1, 5)]
    assert any(edge["type"] == "PREREQUISITE_OF" for edge in graph["edges"])


def test_the_blocks_of_a_conversation_have_each_turn_once(sources: list[TextSource]) -> None:
    for source in sources:
        ranges = [
            block["turn_range"] for block in block_graph_of(source, parts_of(source), micro_graphs=False)["blocks"]
        ]
        if source.kind != "chat":
            assert set(map(type, ranges)) == {type(None)}
            continue
        turns = [turn for first, last in ranges for turn in range(first, last + 1)]
        assert turns == list(range(len(source.sections)))


def test_a_document_without_text_is_an_error(make_source: MakeSource) -> None:
    with pytest.raises(UnreadableInput, match="no text below its title"):
        parts_of(make_source("a", "")._replace(sections=[]))
