"""From sources to a graph document and its features, by TF-IDF, truncated SVD, k-means and cosine similarity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors

from graphnode.dev.ai.reading import Source, utc_text
from graphnode.dev.ai.vectors import WIDTH, Floats, Vectors, embeddings_of, one_thread, padded, vectors_of
from graphnode.dev.ai.words import excerpt, language_of, sentences, words

#: What it is called in the documents.
MODEL = "graphnode ai: TF-IDF of words and parts of words, truncated SVD"

#: Words that a source and a cluster are told by, and those that make a cluster's name.
KEYWORDS = 8
THEMES = 6
NAME_WORDS = 3

#: Neighbours that a source may be tied to, and how alike they must be at least. One more is of another cluster, the
#: nearest, if it is among so many.
NEIGHBOURS = 3
LEAST_SIMILARITY = 0.04
NEIGHBOURHOOD = 40
LEAST_SIMILARITY_ABROAD = 0.025

#: Clusters at most, if the request does not say; and of how many sources one is at least, on average.
MOST_CLUSTERS = 12
SMALLEST_CLUSTER = 3

#: The fewest clusters are taken whose silhouette is at least this share of the best one's.
GOOD_ENOUGH = 0.9

#: Sources that a silhouette is measured on at most.
SILHOUETTE_SAMPLE = 2_000

#: Sources of a cluster that has subclusters, at least.
DIVIDED_CLUSTER = 4

#: Characters of a source's excerpt.
EXCERPT_LENGTH = 240

#: Takes what is being done, and how far that is in percent.
Tell = Callable[[str, float], None]


class Graph(NamedTuple):
    """A graph document and its features document, as JSON values."""

    document: dict[str, Any]
    features: dict[str, Any]


@one_thread()
def make_graph(
    sources: list[Source],
    *,
    generated_at: datetime,
    min_clusters: int | None = None,
    max_clusters: int | None = None,
    language: str | None = None,
    tell: Tell = lambda _stage, _percent: None,
) -> Graph:
    """Make a graph of all of a user's sources.

    Parameters:
      sources: their original IDs differ.
      generated_at: what the documents say of when.
      min_clusters, max_clusters: bounds; there are never more clusters than sources.
      language: the graph's, as its user says; otherwise that of most sources.
      tell: is told of each stage.

    Raises UnreadableInput when the sources have no words.
    """
    tell("Extracting keywords", 20)
    vectors = vectors_of([source.text for source in sources])
    tell("Computing embeddings", 40)
    embeddings = embeddings_of(vectors)
    tell("Clustering", 60)
    clusters = cluster(embeddings, min_clusters=min_clusters, max_clusters=max_clusters)
    tell("Connecting nodes", 80)
    edges = connect(embeddings, clusters)
    names = {number: themes for number, members in _members(clusters).items() if (themes := _themes(vectors, members))}
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
                _cluster_id(number): _cluster(members, names.get(number, []), embeddings, nodes)
                for number, members in _members(clusters).items()
            },
        },
    }
    features = {
        "conversations": [_conversation(node, source) for node, source in zip(nodes, sources, strict=True)],
        "embeddings": np.round(padded(embeddings), 6).tolist(),
        "metadata": {
            "generated_at": moment,
            "embedding_model": MODEL,
            "embedding_dim": WIDTH,
            "columns_used": embeddings.shape[1],
            "padding": "the columns beyond columns_used are zero",
        },
    }
    return Graph(document, features)


def cluster(embeddings: Floats, *, min_clusters: int | None = None, max_clusters: int | None = None) -> list[int]:
    """The cluster of each row, numbered from 0: the largest first, of equals the one with the first row.

    How many there are, k-means and the silhouette decide: the fewest that are nearly as good as the best.
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
    """The group of each row, of so many groups or as many as rows differ: k-means, always from the same start."""
    count = min(count, len(np.unique(embeddings, axis=0)))
    if count < 2:
        return [0] * len(embeddings)
    return [int(label) for label in KMeans(count, n_init=10, random_state=0).fit_predict(embeddings)]


def connect(embeddings: Floats, clusters: list[int]) -> list[dict[str, Any]]:
    """An edge from each row to its nearest neighbours. Who are among each other's nearest are tied with confidence."""
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
    """The sentences of a text that hold most of its keywords, in the text's order."""
    found = list(dict.fromkeys(sentences(text)))
    scores = []
    for place, sentence in enumerate(found):
        terms = {word.surface.casefold() for word in words(sentence)}
        # Long sentences hold more of everything.
        scores.append((sum(weights.get(term, 0.0) for term in terms) / (3 + len(terms)), -place))
    best = sorted(range(len(found)), key=lambda place: scores[place], reverse=True)[:count]
    return [found[place] for place in sorted(best)]


def _node(
    number: int,
    source: Source,
    vectors: Vectors,
    clusters: list[int],
    names: dict[int, list[str]],
    confidence: float,
) -> dict[str, Any]:
    keywords = vectors.keywords(number, count=KEYWORDS)
    weights = {term.casefold(): score for term, score in keywords}
    told = " ".join(key_sentences("\n".join(source.sections) or source.title, weights, count=2))
    return {
        "id": number,
        "orig_id": source.orig_id,
        "cluster_id": _cluster_id(clusters[number]),
        "cluster_name": _cluster_name(names.get(clusters[number], []), clusters[number]),
        "cluster_confidence": confidence,
        "keywords": [{"term": term, "score": round(score, 4)} for term, score in keywords],
        "top_keywords": [term for term, _ in keywords[:3]],
        "source_type": source.kind,
        "timestamp": utc_text(source.updated or source.created),
        "num_sections": len(source.sections),
        "metadata": {
            "title": source.title,
            "language": language_of(source.text),
            "extension": source.extension,
            "excerpt": excerpt(told, length=EXCERPT_LENGTH),
            "questions": sum(section.rstrip().endswith(("?", "\uff1f")) for section in source.sections),
        },
    }


def _conversation(node: dict[str, Any], source: Source) -> dict[str, Any]:
    return {
        "id": node["id"],
        "orig_id": node["orig_id"],
        "keywords": node["keywords"],
        "create_time": source.created.timestamp() if source.created else None,
        "update_time": source.updated.timestamp() if source.updated else None,
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
        for part, places in _members(labels).items():
            node_ids = [members[place] for place in places]
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


def _themes(vectors: Vectors, members: list[int]) -> list[str]:
    return vectors.themes(members, count=THEMES)


def _members(labels: list[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for place, label in enumerate(labels):
        found.setdefault(label, []).append(place)
    return dict(sorted(found.items()))


def _in_order(labels: list[int]) -> list[int]:
    members = _members(labels)
    order = sorted(members, key=lambda label: (-len(members[label]), members[label][0]))
    places = {label: place for place, label in enumerate(order)}
    return [places[label] for label in labels]


def _silhouette(embeddings: Floats, labels: list[int]) -> float:
    if not 2 <= len(set(labels)) < len(labels):
        return -1.0
    size = min(len(labels), SILHOUETTE_SAMPLE)
    return float(silhouette_score(embeddings, labels, metric="cosine", sample_size=size, random_state=0))


def _centre(rows: Floats) -> Floats:
    centre = rows.sum(axis=0)
    return np.asarray(centre / (np.linalg.norm(centre) or 1.0))


def _representative(embeddings: Floats, members: list[int]) -> int:
    """The member that is nearest to the centre of them all."""
    rows = embeddings[members]
    return members[int(np.argmax(np.round(rows @ _centre(rows), 9)))]


def _cohesion(rows: Floats) -> float:
    """How alike two of the rows are on average."""
    total = float(np.square(rows.sum(axis=0)).sum() - np.square(rows).sum())
    return max(0.0, min(1.0, total / (len(rows) * (len(rows) - 1))))


def _confidences(embeddings: Floats, clusters: list[int]) -> list[float]:
    """How much nearer each row is to its own cluster's centre than to the next one's: from 0.5 (as near) to 1."""
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
