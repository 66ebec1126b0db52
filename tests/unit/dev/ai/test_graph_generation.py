from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from graphnode.contract.decoding import decode_graph
from graphnode.dev.ai.graph_generation import key_sentences, make_graph
from graphnode.dev.ai.text_sources import TextSource, UnreadableInput
from graphnode.dev.ai.vectors import WIDTH
from graphnode.dev.ai.words import sentences
from graphnode.rules.graph import clean_graph
from tests.features import match_features
from tests.unit.dev.ai.conftest import NOW, MakeSource

#: The subjects of the corpus, with a word in the file name or title of each source.
SUBJECTS = {
    "baking": "broetchen mehltypen roggenbrot sauerteig Anstellgut Kruste",
    "cycling": "elberadweg kette-wechseln packliste-radtour schlauch-flicken Scheibenbremse Donau",
    "rust": "cargo-workspaces iterators ownership borrow Lifetimes Result",
    "sleep": "dreams naps sleep-and-memory sleep-diary Caffeine circadian",
    "kyoto": "교토",
    "plants": "몬스테라 바질 분갈이 화분 다육이 식물",
}


def subject_of(source: TextSource) -> str:
    names = f"{source.orig_id} {source.title}"
    found = [subject for subject, words in SUBJECTS.items() if any(word in names for word in words.split())]
    return "kyoto" if "기요미즈데라" in names else found[0]


def test_the_corpus_falls_into_its_six_subjects(sources: list[TextSource], graph: dict[str, Any]) -> None:
    pairs = Counter(
        (subject_of(source), node["cluster_id"]) for source, node in zip(sources, graph["nodes"], strict=True)
    )

    assert len({cluster for _, cluster in pairs}) == len(SUBJECTS)
    assert {subject: count for (subject, _), count in pairs.items()} == dict.fromkeys(SUBJECTS, 6)


def test_the_worker_finds_nothing_to_repair(graph: dict[str, Any]) -> None:
    rows, warnings = clean_graph(decode_graph(msgspec.json.encode(graph)))

    assert warnings == {}
    assert (len(rows.nodes), len(rows.clusters), len(rows.edges)) == (36, 6, len(graph["edges"]))
    assert {edge.type for edge in rows.edges} == {"hard", "insight"}
    assert {edge.intra_cluster for edge in rows.edges} == {True, False}
    assert all(0 < edge.weight <= 1 for edge in rows.edges if edge.weight is not None)


def test_each_node_has_keywords_and_sentences_of_its_source(sources: list[TextSource], graph: dict[str, Any]) -> None:
    for source, node in zip(sources, graph["nodes"], strict=True):
        assert node["keywords"]
        assert all(keyword["term"].casefold() in source.text.casefold() for keyword in node["keywords"])
        quoted = sentences(node["metadata"]["excerpt"].removesuffix(" …"))
        assert quoted
        assert all(sentence in source.text for sentence in quoted)
    assert {node["metadata"]["language"] for node in graph["nodes"]} == {"en", "de", "ko"}


def test_embeddings_are_padded_to_the_ai_servers_width(sources: list[TextSource]) -> None:
    features = make_graph(sources, generated_at=NOW).features
    names = [conversation["orig_id"] for conversation in features["conversations"]]
    node_ids = {source.name: number for number, source in enumerate(sources)}

    matched, warnings = match_features(names, features["embeddings"], node_ids)

    used = features["metadata"]["columns_used"]
    assert len(dict(matched)) == 36
    assert warnings == {}
    assert used == 35
    for row in features["embeddings"]:
        assert len(row) == features["metadata"]["embedding_dim"] == WIDTH
        assert not any(row[used:])
        assert sum(value * value for value in row) == pytest.approx(1, abs=1e-4)


def test_the_same_sources_make_the_same_bytes(sources: list[TextSource]) -> None:
    first, second = (msgspec.json.encode(make_graph(sources, generated_at=NOW)) for _ in range(2))

    assert first == second


def test_the_number_of_clusters_stays_within_its_bounds(sources: list[TextSource]) -> None:
    for least, most in ((2, 3), (9, 9), (8, None), (1, 1)):
        graph = make_graph(sources, generated_at=NOW, min_clusters=least, max_clusters=most).document

        count = graph["metadata"]["total_clusters"]
        assert least <= count <= (most or len(sources))
        assert clean_graph(decode_graph(msgspec.json.encode(graph)))[1] == {}


@pytest.mark.parametrize(
    "texts",
    [
        ["Rye bread"],
        ["Rye bread", "Rye bread"],
        ["Rye bread with seeds", "Borrow checker and loops"],
        ["same words here"] * 5,
        ["rye", "rust", "sleep", "물"],
        ["Rye bread", "the and of", "1 2 3"],
    ],
)
def test_few_and_unusual_sources_make_a_graph_too(make_source: MakeSource, texts: list[str]) -> None:
    sources = [make_source(f"s{number}", text, title="-") for number, text in enumerate(texts)]

    document, features = make_graph(sources, generated_at=NOW, min_clusters=3)

    assert clean_graph(decode_graph(msgspec.json.encode(document)))[1] == {}
    assert [len(row) for row in features["embeddings"]] == [WIDTH] * len(texts)


def test_sources_without_words_are_an_error(make_source: MakeSource) -> None:
    with pytest.raises(UnreadableInput, match="no words"):
        make_graph([make_source("a", "1 2 3", title="—")], generated_at=NOW)


def test_progress_rises_stage_by_stage(sources: list[TextSource]) -> None:
    stages: list[tuple[str, float]] = []

    make_graph(sources, generated_at=NOW, tell=lambda stage, percent: stages.append((stage, percent)))

    percents = [percent for _, percent in stages]
    assert percents == sorted(set(percents))
    assert 0 < percents[0] <= percents[-1] < 100


def test_key_sentences_have_the_most_keywords() -> None:
    text = "It is late. Rye dough sticks. Nothing else. Rye needs wet hands."

    assert key_sentences(text, {"rye": 1.0, "dough": 0.5}, count=2) == ["Rye dough sticks.", "Rye needs wet hands."]
