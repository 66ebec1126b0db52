"""The two documents of a microscope ingest: chunks with concepts, and blocks that build on one another."""

from __future__ import annotations

from itertools import combinations
from typing import Any, NamedTuple

from graphnode.dev.ai.graph_generation import key_sentences
from graphnode.dev.ai.text_sources import TextSource, UnreadableInput
from graphnode.dev.ai.vectors import one_thread, vectors_of
from graphnode.dev.ai.words import excerpt, sentences, words

#: Fewest characters in a part. A shorter section is joined with the next one.
SMALLEST_PART = 120

#: Concepts of a part, and of the title of a part without a heading.
CONCEPTS = 6
TITLE_CONCEPTS = 2

#: Most characters in a block's summary and in a description.
SUMMARY_LENGTH = 200

#: Shared sentences of two concepts for a confidence of 1.
SURE = 3


class Part(NamedTuple):
    """A passage of a document.

    Parameters:
      title: its heading, or its strongest concepts.
      first, last: the indexes of its sections, or turns.
      concepts: the strongest first.
    """

    title: str
    first: int
    last: int
    text: str
    concepts: list[str]


@one_thread()
def parts_of(source: TextSource) -> list[Part]:
    """A document's passages in order. Raises UnreadableInput if it has no words."""
    if not source.sections:
        raise UnreadableInput(f"{source.title} has no text below its title.")
    spans = _spans(source.sections)
    texts = ["\n\n".join(source.sections[first : last + 1]) for first, last in spans]
    vectors = vectors_of(texts)
    parts = []
    for number, ((first, last), text) in enumerate(zip(spans, texts, strict=True)):
        concepts = [term for term, _ in vectors.keywords(number, count=CONCEPTS)]
        heading = text.splitlines()[0].lstrip("# ").strip() if text.startswith("#") else ""
        title = heading or ("" if number else source.title) or ", ".join(concepts[:TITLE_CONCEPTS]) or source.title
        parts.append(Part(title, first, last, text, concepts))
    return parts


def chunks_of(parts: list[Part]) -> list[dict[str, Any]]:
    """The standardized document: the concepts of each part, with edges between concepts in one sentence."""
    chunks = []
    for number, part in enumerate(parts):
        ties = _ties(part)
        nodes = [
            {
                "name": concept,
                "type": "Concept",
                "description": _first_sentence(part, concept),
                "source_chunk_id": number,
            }
            for concept in part.concepts
        ]
        edges = [
            {
                "start": start,
                "target": target,
                "type": "appears_with",
                "description": excerpt(found[0], length=SUMMARY_LENGTH),
                "source_chunk_id": number,
                "evidence": found[0],
                "confidence": round(min(1.0, len(found) / SURE), 2),
            }
            for (start, target), found in ties.items()
        ]
        chunks.append({"nodes": nodes, "edges": edges})
    return chunks


def block_graph_of(source: TextSource, parts: list[Part], *, micro_graphs: bool) -> dict[str, Any]:
    """The block graph: each part follows the previous one and depends on the parts that introduced its concepts.

    Parameters:
      micro_graphs: whether each block has a micro graph.
    """
    blocks = []
    for number, part in enumerate(parts):
        weights = {concept.casefold(): 1.0 for concept in part.concepts}
        summary = " ".join(key_sentences(part.text, weights, count=1)) or part.title
        blocks.append(
            {
                "block_id": _block_id(number),
                "title": part.title,
                "summary": excerpt(summary, length=SUMMARY_LENGTH),
                "key_concepts": part.concepts,
                "order_index": number,
                "turn_range": [part.first, part.last] if source.kind == "chat" else None,
                "micro_graph": _micro_graph(part) if micro_graphs else None,
                "raw_text": part.text,
            }
        )
    return {
        "blocks": blocks,
        "edges": _block_edges(parts),
        "paths": [[block["block_id"] for block in blocks]],
        "ordering_rationale": "In the order of the document.",
    }


def _micro_graph(part: Part) -> dict[str, Any]:
    return {
        "nodes": [{"name": concept, "type": "Concept"} for concept in part.concepts],
        "edges": [{"start": start, "target": target, "type": "appears_with"} for start, target in _ties(part)],
    }


def _block_edges(parts: list[Part]) -> list[dict[str, Any]]:
    edges = []
    introduced: dict[str, int] = {}
    for number, part in enumerate(parts):
        if number:
            edges.append(_block_edge(number - 1, number, "FOLLOWS", part.title, 1.0))
        needed: dict[int, list[str]] = {}
        for concept in part.concepts:
            if concept in introduced:
                needed.setdefault(introduced[concept], []).append(concept)
            else:
                introduced[concept] = number
        for earlier, concepts in sorted(needed.items()):
            kind = "ELABORATES" if len(concepts) > CONCEPTS // 2 else "PREREQUISITE_OF"
            source, target = (number, earlier) if kind == "ELABORATES" else (earlier, number)
            confidence = round(len(concepts) / len(part.concepts), 2)
            edges.append(_block_edge(source, target, kind, ", ".join(concepts), confidence))
    return edges


def _block_edge(source: int, target: int, kind: str, description: str, confidence: float) -> dict[str, Any]:
    return {
        "source": _block_id(source),
        "target": _block_id(target),
        "type": kind,
        "description": description,
        "confidence": confidence,
    }


def _block_id(number: int) -> str:
    return f"block_{number + 1}"


def _spans(sections: list[str]) -> list[tuple[int, int]]:
    """The first and the last section of each part. Short sections are joined with the next one."""
    spans: list[tuple[int, int]] = []
    start = length = 0
    for number, section in enumerate(sections):
        length += len(section)
        if length >= SMALLEST_PART:
            spans.append((start, number))
            start, length = number + 1, 0
    if start < len(sections):
        rest = (start, len(sections) - 1)
        spans[-1:] = [(spans[-1][0], rest[1])] if spans else [rest]
    return spans


def _ties(part: Part) -> dict[tuple[str, str], list[str]]:
    """The pairs of concepts that share sentences, with these sentences."""
    found: dict[tuple[str, str], list[str]] = {}
    for sentence in sentences(part.text):
        terms = {word.term for word in words(sentence)}
        here = [concept for concept in part.concepts if _term(concept) in terms]
        for pair in combinations(here, 2):
            found.setdefault(pair, []).append(sentence)
    return found


def _first_sentence(part: Part, concept: str) -> str:
    for sentence in sentences(part.text):
        if _term(concept) in {word.term for word in words(sentence)}:
            return sentence
    return part.title


def _term(concept: str) -> str:
    """The term of a concept, which is a word in its written form."""
    return next((word.term for word in words(concept)), concept.casefold())
