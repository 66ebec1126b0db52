"""The graph document and the features of sources, by TF-IDF, truncated SVD, k-means and cosine similarity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors

from graphnode.dev.ai.text_sources import TextSource, utc_text
from graphnode.dev.ai.vectors import WIDTH, Floats, Vectors, embeddings_of, one_thread, padded, vectors_of
from graphnode.dev.ai.words import excerpt, language_of, sentences, words

#: The model's name in the documents.
MODEL = "graphnode ai: TF-IDF of words and parts of words, truncated SVD"

#: Number of keywords of a source, themes of a cluster, and themes in a cluster's name.
KEYWORDS = 8
THEMES = 6
NAME_WORDS = 3

#: A source has an edge to each of its nearest neighbours with the least similarity, and to one more: the nearest of
#: another cluster within its neighbourhood, which needs less similarity.
NEIGHBOURS = 3
LEAST_SIMILARITY = 0.04
NEIGHBOURHOOD = 40
LEAST_SIMILARITY_ABROAD = 0.025

#: By default, the most clusters, and the fewest sources per cluster on average.
MOST_CLUSTERS = 12
SMALLEST_CLUSTER = 3

#: The smallest number of clusters wins whose silhouette is at least this share of the best silhouette.
GOOD_ENOUGH = 0.9

#: Most sources in the sample that a silhouette is measured on.
SILHOUETTE_SAMPLE = 2_000

#: Fewest sources in a cluster with subclusters.
DIVIDED_CLUSTER = 4

#: Most characters in the excerpt of a source.
EXCERPT_LENGTH = 240

#: Called with a stage and its progress in percent.
Tell = Callable[[str, float], None]


class GeneratedGraph(NamedTuple):
    """A graph document and its features document, as JSON objects."""

    document: dict[str, Any]
    features: dict[str, Any]


@one_thread()
def make_graph(
    sources: list[TextSource],
    *,
    generated_at: datetime,
    min_clusters: int | None = None,
    max_clusters: int | None = None,
    language: str | None = None,
    tell: Tell = lambda _stage, _percent: None,
) -> GeneratedGraph:
    """The graph of all of a user's sources.

    Parameters:
      sources: with distinct original IDs.
      generated_at: the time in the documents.
      min_clusters, max_clusters: bounds; there are never more clusters than sources.
      language: the language in the graph's metadata; by default, that of most sources.
      tell: called with each stage.

    Raises UnreadableInput if the sources have no words.
    """
    tell("Extracting keywords", 20)
    vectors = vectors_of([source.text for source in sources])
    tell("Computing embeddings", 40)
    embeddings = embeddings_of(vectors)
    tell("Clustering", 60)
    clusters = cluster(embeddings, min_clusters=min_clusters, max_clusters=max_clusters)
    tell("Connecting nodes", 80)
    edges = connect(embeddings, clusters)
    names = {number: vectors.themes(members, count=THEMES) for number, members in _members(clusters).items()}
    nodes = [
        _node(number, source, vectors, clusters, names, confidence)
        for (number, source), confidence in zip(enumerate(sources), _confidences(embeddings, clusters), strict=True)
    ]
    moment = utc_text(generated_at)
    document = {
        "nodes": nodes,
        "edges": edges,
        "subclusters": list(_subclusters(embeddings, clusters, edges, vectors)),
        "metadata": {
            "generated_at": moment,
            "total_nodes": len(nodes),
            "total_edges": len(edges),
            "total_clusters": len(set(clusters)),
            "language": language or _usual_language(nodes),
            "model": MODEL,
            "clusters": {
                _cluster_id(number): _cluster(members, names[number], embeddings, nodes)
                for number, members in _members(clusters).items()
            },
        },
    }
    features = {
        "conversations": [_conversation(node) for node in nodes],
        "embeddings": np.round(padded(embeddings), 6).tolist(),
        "metadata": {
            "generated_at": moment,
            "embedding_model": MODEL,
            "embedding_dim": WIDTH,
            "columns_used": embeddings.shape[1],
            "padding": "the columns beyond columns_used are zero",
        },
    }
    return GeneratedGraph(document, features)


def cluster(embeddings: Floats, *, min_clusters: int | None = None, max_clusters: int | None = None) -> list[int]:
    """The cluster of each row, numbered from 0 by size, the largest first.

    The number of clusters is the smallest one whose silhouette is nearly the best.
    """
    rows = len(np.unique(embeddings, axis=0))
    most = min(max_clusters or max(2, min(MOST_CLUSTERS, rows // SMALLEST_CLUSTER)), rows)
    fewest = max(1, min(min_clusters or 2, most))
    if most < 2 or rows < SMALLEST_CLUSTER:
        return [0] * len(embeddings) if fewest < 2 or rows < 2 else _in_order(group(embeddings, fewest))
    found = {count: group(embeddings, count) for count in range(fewest, most + 1) if count < rows or count == fewest}
    if len(found) == 1:
        return _in_order(next(iter(found.values())))
    scores = {count: _silhouette(embeddings, labels) for count, labels in found.items()}
    best = max(scores.values())
    least = best * GOOD_ENOUGH if best > 0 else best
    return _in_order(found[min(count for count, score in scores.items() if score >= least)])


def group(embeddings: Floats, count: int) -> list[int]:
    """The k-means group of each row, with a fixed random state. There are at most as many groups as distinct rows."""
    count = min(count, len(np.unique(embeddings, axis=0)))
    if count < 2:
        return [0] * len(embeddings)
    return [int(label) for label in KMeans(count, n_init=10, random_state=0).fit_predict(embeddings)]


def connect(embeddings: Floats, clusters: list[int]) -> list[dict[str, Any]]:
    """Edges from each row to its nearest neighbours. Confidence is high if both are among each other's nearest."""
    count = min(NEIGHBOURHOOD + 1, len(embeddings))
    distances, neighbours = NearestNeighbors(n_neighbors=count, metric="cosine").fit(embeddings).kneighbors(embeddings)
    found: Counter[tuple[int, int]] = Counter()
    weights: dict[tuple[int, int], float] = {}
    for row, (away, near) in enumerate(zip(distances, neighbours, strict=True)):
        others = [
            (int(other), 1 - float(distance))
            for distance, other in zip(away, near, strict=True)
            if other != row and 1 - distance >= LEAST_SIMILARITY_ABROAD
        ]
        nearest = [neighbour for neighbour in others[:NEIGHBOURS] if neighbour[1] >= LEAST_SIMILARITY]
        abroad = [neighbour for neighbour in others[NEIGHBOURS:] if clusters[neighbour[0]] != clusters[row]]
        for other, similarity in (*nearest, *abroad[:1]):
            pair = (min(row, other), max(row, other))
            found[pair] += 1
            weights[pair] = round(min(1.0, similarity), 4)
    return [
        {
            "source": source,
            "target": target,
            "weight": weights[source, target],
            "type": "semantic",
            "is_intra_cluster": clusters[source] == clusters[target],
            "confidence": "high" if found[source, target] == 2 and clusters[source] == clusters[target] else "medium",
        }
        for source, target in sorted(found)
    ]


def key_sentences(text: str, weights: dict[str, float], *, count: int) -> list[str]:
    """The sentences with the most keywords for their length, in the text's order."""
    found = list(dict.fromkeys(sentences(text)))
    scores = []
    for index, sentence in enumerate(found):
        terms = {word.surface.casefold() for word in words(sentence)}
        scores.append((sum(weights.get(term, 0.0) for term in terms) / (3 + len(terms)), -index))
    best = sorted(range(len(found)), key=lambda index: scores[index], reverse=True)[:count]
    return [found[index] for index in sorted(best)]


def _node(
    number: int,
    source: TextSource,
    vectors: Vectors,
    clusters: list[int],
    names: dict[int, list[str]],
    confidence: float,
) -> dict[str, Any]:
    keywords = vectors.keywords(number, count=KEYWORDS)
    weights = {term.casefold(): score for term, score in keywords}
    best = " ".join(key_sentences("\n".join(source.sections) or source.title, weights, count=2))
    return {
        "id": number,
        "orig_id": source.orig_id,
        "cluster_id": _cluster_id(clusters[number]),
        "cluster_name": _cluster_name(names[clusters[number]], clusters[number]),
        "cluster_confidence": confidence,
        "keywords": [{"term": term, "score": round(score, 4)} for term, score in keywords],
        "top_keywords": [term for term, _ in keywords[:3]],
        "source_type": source.kind,
        "timestamp": utc_text(source.updated or source.created),
        "create_time": source.created.timestamp() if source.created else None,
        "update_time": source.updated.timestamp() if source.updated else None,
        "num_sections": len(source.sections),
        "title": source.title,
        "metadata": {
            "title": source.title,
            "language": language_of(source.text),
            "extension": source.extension,
            "excerpt": excerpt(best, length=EXCERPT_LENGTH),
            "questions": sum(section.rstrip().endswith(("?", "\uff1f")) for section in source.sections),
        },
    }


def _conversation(node: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": node["id"],
        "orig_id": node["orig_id"],
        "keywords": node["keywords"],
        "create_time": node["create_time"],
        "update_time": node["update_time"],
        "num_sections": node["num_sections"],
        "source_type": node["source_type"],
    }


def _cluster(members: list[int], themes: list[str], embeddings: Floats, nodes: list[dict[str, Any]]) -> dict[str, Any]:
    typical = nodes[_representative(embeddings, members)]
    return {
        "name": typical["cluster_name"],
        "description": typical["metadata"]["excerpt"],
        "size": len(members),
        "key_themes": themes,
    }


def _subclusters(
    embeddings: Floats, clusters: list[int], edges: list[dict[str, Any]], vectors: Vectors
) -> Iterable[dict[str, Any]]:
    for number, members in _members(clusters).items():
        if len(members) < DIVIDED_CLUSTER:
            continue
        labels = _in_order(group(embeddings[members], round(len(members) / SMALLEST_CLUSTER)))
        for part, indexes in _members(labels).items():
            node_ids = [members[index] for index in indexes]
            if len(node_ids) < 2:
                continue
            within = set(node_ids)
            inside = sum(edge["source"] in within and edge["target"] in within for edge in edges)
            pairs = len(node_ids) * (len(node_ids) - 1) / 2
            yield {
                "id": f"{_cluster_id(number)}_{part + 1}",
                "cluster_id": _cluster_id(number),
                "node_ids": node_ids,
                "representative_node_id": _representative(embeddings, node_ids),
                "size": len(node_ids),
                "density": round(inside / pairs, 4),
                "top_keywords": vectors.themes(node_ids, count=NAME_WORDS),
                "internal_edges": inside,
                "cohesion_score": round(_cohesion(embeddings[node_ids]), 4),
            }


def _members(labels: list[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        found.setdefault(label, []).append(index)
    return dict(sorted(found.items()))


def _in_order(labels: list[int]) -> list[int]:
    members = _members(labels)
    order = sorted(members, key=lambda label: (-len(members[label]), members[label][0]))
    ranks = {label: rank for rank, label in enumerate(order)}
    return [ranks[label] for label in labels]


def _silhouette(embeddings: Floats, labels: list[int]) -> float:
    if not 2 <= len(set(labels)) < len(labels):
        return -1.0
    size = min(len(labels), SILHOUETTE_SAMPLE)
    return float(silhouette_score(embeddings, labels, metric="cosine", sample_size=size, random_state=0))


def _centre(rows: Floats) -> Floats:
    centre = rows.sum(axis=0)
    return np.asarray(centre / (np.linalg.norm(centre) or 1.0))


def _representative(embeddings: Floats, members: list[int]) -> int:
    """The member that is nearest to the centre of all members."""
    rows = embeddings[members]
    return members[int(np.argmax(np.round(rows @ _centre(rows), 9)))]


def _cohesion(rows: Floats) -> float:
    """The mean similarity of two rows."""
    total = float(np.square(rows.sum(axis=0)).sum() - np.square(rows).sum())
    return max(0.0, min(1.0, total / (len(rows) * (len(rows) - 1))))


def _confidences(embeddings: Floats, clusters: list[int]) -> list[float]:
    """How much closer each row is to its own cluster's centre than to the next one: from 0.5 (equally close) to 1."""
    centres = np.stack([_centre(embeddings[members]) for members in _members(clusters).values()])
    near = np.clip(embeddings @ centres.T, 0, 1)
    own = near[np.arange(len(clusters)), clusters]
    near[np.arange(len(clusters)), clusters] = 0
    return [round(float(mine / ((mine + other) or 1)), 4) for mine, other in zip(own, near.max(axis=1), strict=True)]


def _cluster_id(number: int) -> str:
    return f"cluster_{number + 1}"


def _cluster_name(themes: list[str], number: int) -> str:
    return ", ".join(themes[:NAME_WORDS]) or f"Cluster {number + 1}"


def _usual_language(nodes: list[dict[str, Any]]) -> str | None:
    counts = Counter(node["metadata"]["language"] for node in nodes if node["metadata"]["language"])
    return min(counts, key=lambda language: (-counts[language], language)) if counts else None
