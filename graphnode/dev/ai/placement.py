"""Add-node batches: new sources join the most similar cluster of an existing graph, or make a new one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from graphnode.dev.ai.graph_generation import KEYWORDS, NAME_WORDS, THEMES
from graphnode.dev.ai.text_sources import SourceKind, TextSource, utc_text
from graphnode.dev.ai.vectors import Vectors, one_thread, vectors_of

#: The least similarity of a source to a cluster it joins: the mean over the most similar sources of the cluster.
BELONGS = 0.06
NEAREST = 3

#: Most edges of a new source, and the least similarity of an edge and of a hard edge.
MOST_EDGES = 3
LEAST_SIMILARITY = 0.04
HARD = 0.2


class PlacedSource(msgspec.Struct, frozen=True):
    """A source in a user's graph.

    Parameters:
      id: its integer ID; None: the source came later, and the worker gave it its ID.
      task_id: the task that added it.
    """

    orig_id: str
    kind: SourceKind
    title: str
    sections: list[str]
    cluster_id: str
    cluster_name: str
    task_id: str
    id: int | None = None

    @classmethod
    def of(
        cls, source: TextSource, *, cluster_id: str, cluster_name: str, task_id: str, node_id: int | None
    ) -> PlacedSource:
        """A source in this cluster."""
        return cls(source.name, source.kind, source.title, source.sections, cluster_id, cluster_name, task_id, node_id)

    @property
    def text(self) -> str:
        """Title and sections, as in `TextSource.text`."""
        return "\n\n".join((self.title, *self.sections))


class Placement(msgspec.Struct, frozen=True):
    """An add-node batch as a JSON object, and all sources in the graph after it."""

    batch: dict[str, Any]
    known: list[PlacedSource]


#: The field for the source's ID in a result, by the kind of source.
NAMES: dict[SourceKind, str] = {"chat": "conversationId", "markdown": "noteId", "notion": "noteId", "file": "fileId"}


@one_thread()
def place(known: list[PlacedSource], sources: list[TextSource], *, user_id: str, task_id: str) -> Placement:
    """Place new sources among the known ones.

    A known source is skipped if its text is unchanged, and placed again if not. A repeated request places its own
    sources again, with the same result.

    Raises UnreadableInput if the sources have no words.
    """
    before = {placed.orig_id: placed for placed in known}
    same = {name for name, placed in before.items() if placed.task_id != task_id}
    skipped = {source.name for source in sources if source.name in same and before[source.name].text == source.text}
    new = [source for source in sources if source.name not in skipped]
    names = {source.name for source in new}
    others = [placed for placed in known if placed.orig_id not in names]
    results = {name: _result(before[name].kind, name, skipped=True) for name in skipped}
    if new:
        vectors = vectors_of([*(placed.text for placed in others), *(source.text for source in new)])
        for number, source in enumerate(new, start=len(others)):
            cluster = _assign(vectors, others, number)
            placed = PlacedSource.of(
                source,
                cluster_id=cluster["clusterId"],
                cluster_name=cluster["name"],
                task_id=task_id,
                node_id=before[source.name].id if source.name in before else None,
            )
            results[source.name] = _result(
                source.kind,
                source.name,
                nodes=[_node(source, placed, user_id)],
                edges=_edges(vectors, others, number, placed, user_id),
                cluster=cluster,
            )
            others.append(placed)
    batch = {
        "userId": user_id,
        "processedCount": len(sources),
        "results": [results[source.name] for source in sources],
    }
    return Placement(batch, others)


def _assign(vectors: Vectors, others: list[PlacedSource], number: int) -> dict[str, Any]:
    """The cluster of a row: that of the most similar rows, or a new one."""
    near: dict[str, list[float]] = {}
    for other, similarity in zip(others, _similarities(vectors, others, number), strict=True):
        near.setdefault(other.cluster_id, []).append(similarity)
    scores = {cluster: float(np.mean(sorted(found, reverse=True)[:NEAREST])) for cluster, found in sorted(near.items())}
    best = max(scores, key=lambda cluster: round(scores[cluster], 9), default=None)
    is_new = best is None or scores[best] < BELONGS
    if best is None or is_new:
        themes = [term for term, _ in vectors.keywords(number, count=KEYWORDS)][:THEMES]
        words = ", ".join(themes[:NAME_WORDS])
        name, reasoning = words or "New", f"{words}: no other source is near"
        confidence = 1 - (scores[best] if best else 0.0)
        best = _new_cluster_id(others)
    else:
        members = [index for index, other in enumerate(others) if other.cluster_id == best]
        name = others[members[0]].cluster_name
        themes = vectors.themes([*members, number], count=THEMES)
        theirs = {term for member in members for term in _terms(vectors, member)}
        shared = [term for term in _terms(vectors, number) if term in theirs]
        second = max((score for cluster, score in scores.items() if cluster != best), default=0.0)
        confidence = scores[best] / ((scores[best] + second) or 1)
        reasoning = f"{name}: {', '.join(shared[:NAME_WORDS]) or 'alike in parts of words'}"
    return {
        "clusterId": best,
        "isNewCluster": is_new,
        "confidence": round(confidence, 4),
        "reasoning": reasoning,
        "name": name,
        "themes": themes,
    }


def _new_cluster_id(others: list[PlacedSource]) -> str:
    """An unused cluster ID."""
    numbers = [int(placed.cluster_id.rpartition("_")[2]) for placed in others]
    return f"cluster_{max(numbers, default=0) + 1}"


def _edges(
    vectors: Vectors, others: list[PlacedSource], number: int, placed: PlacedSource, user_id: str
) -> list[dict[str, Any]]:
    found = sorted(
        ((round(similarity, 4), -index) for index, similarity in enumerate(_similarities(vectors, others, number))),
        reverse=True,
    )
    return [
        {
            "source": f"{user_id}_{placed.orig_id}",
            "target": others[-index].orig_id,
            "weight": min(1.0, similarity),
            "type": "hard" if similarity >= HARD else "insight",
            "intraCluster": others[-index].cluster_id == placed.cluster_id,
        }
        for similarity, index in found[:MOST_EDGES]
        if similarity >= LEAST_SIMILARITY
    ]


def _similarities(vectors: Vectors, others: list[PlacedSource], number: int) -> list[float]:
    if not others:
        return []
    return [float(found) for found in (vectors.rows[: len(others)] @ vectors.rows[number].T).toarray().ravel()]


def _terms(vectors: Vectors, row: int) -> list[str]:
    return [term for term, _ in vectors.keywords(row, count=len(vectors.terms))]


def _node(source: TextSource, placed: PlacedSource, user_id: str) -> dict[str, Any]:
    return {
        "id": f"{user_id}_{source.orig_id}",
        "origId": source.orig_id,
        "clusterId": placed.cluster_id,
        "clusterName": placed.cluster_name,
        "numMessages" if source.kind == "chat" else "numSections": len(source.sections),
        "timestamp": utc_text(source.updated or source.created),
        "createdAt": utc_text(source.created),
        "updatedAt": utc_text(source.updated),
        "title": source.title,
    }


def _result(
    kind: SourceKind,
    orig_id: str,
    *,
    nodes: Sequence[dict[str, Any]] = (),
    edges: Sequence[dict[str, Any]] = (),
    cluster: dict[str, Any] | None = None,
    skipped: bool = False,
) -> dict[str, Any]:
    return {
        NAMES[kind]: orig_id,
        "nodes": list(nodes),
        "edges": list(edges),
        "assignedCluster": cluster,
        "skipped": skipped,
        "error": None,
    }
