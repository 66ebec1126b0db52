from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from graphnode.contract.decoding import decode_graph, decode_summary
from graphnode.dev.ai.graph_summary import PHRASES, summarize
from graphnode.dev.ai.text_sources import TextSource
from graphnode.dev.ai.words import sentences
from graphnode.dev.samples import DOCUMENTS
from graphnode.rules.graph import clean_graph
from graphnode.rules.rows import GraphRows
from graphnode.rules.summary import summary_row
from tests.unit.dev.ai.conftest import NOW


@pytest.fixture(scope="module")
def rows(graph: dict[str, Any]) -> GraphRows:
    return clean_graph(decode_graph(msgspec.json.encode(graph)))[0]


def test_a_summary_counts_as_the_worker_does(rows: GraphRows) -> None:
    summary = summarize(rows, generated_at=NOW)

    document = decode_summary(msgspec.json.encode(summary))
    row = summary_row(document, {("chat", None): 14, ("markdown", None): 16, ("file", None): 6})
    totals = {name: value for name, value in summary["overview"].items() if name.startswith("total_")}
    assert totals == {name: row.overview[name] for name in totals}
    assert row.generated_at == NOW
    assert (len(row.clusters), row.detail_level) == (6, "standard")


def test_a_summary_quotes_the_sources(rows: GraphRows, sources: list[TextSource]) -> None:
    summary = summarize(rows, generated_at=NOW)

    texts = "\n".join(source.text for source in sources)
    for cluster in summary["clusters"]:
        _, *quoted = sentences(cluster["insight_text"].removesuffix(" …"))
        assert quoted
        assert all(sentence in texts for sentence in quoted)
        assert all(keyword.casefold() in texts.casefold() for keyword in cluster["top_keywords"])
    assert {name for cluster in summary["clusters"] for name in cluster["notable_conversations"]} <= {
        source.name for source in sources
    }


@pytest.mark.parametrize(("language", "begins"), [("de", "36 Quellen"), ("ko-KR", "자료 36개"), ("fr", "36 sources")])
def test_its_own_phrases_are_in_the_requested_language(rows: GraphRows, language: str, begins: str) -> None:
    summary = summarize(rows, generated_at=NOW, language=language)

    assert summary["overview"]["summary_text"].startswith(begins)


def test_each_language_has_each_phrase() -> None:
    english = PHRASES["en"]

    for phrases in PHRASES.values():
        assert phrases.keys() == english.keys()


@pytest.mark.parametrize("file", ["graph.json"])
def test_the_graph_of_another_ai_server_has_a_summary_too(file: str) -> None:
    rows, _ = clean_graph(decode_graph((Path(DOCUMENTS) / file).read_bytes()))

    summary = summarize(rows, generated_at=NOW)

    assert len(summary["clusters"]) == len(rows.clusters)
    assert summary["connections"]
    decode_summary(msgspec.json.encode(summary))


def test_a_graph_without_nodes_has_a_summary_that_says_so() -> None:
    rows, _ = clean_graph(decode_graph(b'{"nodes": []}'))

    summary = summarize(rows, generated_at=NOW)

    assert summary["overview"]["total_source_nodes"] == 0
    assert (summary["clusters"], summary["detail_level"]) == ([], "brief")
