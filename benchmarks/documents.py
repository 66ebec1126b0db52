"""Documents of any size, as the AI server writes them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence

#: A number of an embedding.
NUMBER = b"-0.0123456789012345"


def graph_document(nodes: int, edges: int) -> bytes:
    """A graph document as the AI server writes it; always the same for the same sizes."""
    chance = random.Random(nodes)  # noqa: S311
    words = [f"word{number}" for number in range(500)]
    clusters = max(2, nodes // 100)
    pairs: set[tuple[int, int]] = set()
    while len(pairs) < edges:
        source, target = chance.randrange(nodes), chance.randrange(nodes)
        if source < target:
            pairs.add((source, target))
    document = {
        "nodes": [
            {
                "id": number,
                "orig_id": f"src{number % 3}_conv-{number:08}",
                "cluster_id": f"cluster_{number % clusters}",
                "cluster_name": f"Cluster {number % clusters}",
                "cluster_confidence": round(chance.random(), 4),
                "keywords": [{"term": chance.choice(words), "score": round(chance.random(), 4)} for _ in range(5)],
                "source_type": "chat",
                "timestamp": "2026-05-24T08:02:08",
                "num_sections": chance.randrange(1, 40),
                "metadata": {"title": " ".join(chance.choices(words, k=6))},
            }
            for number in range(nodes)
        ],
        "edges": [
            {
                "source": source,
                "target": target,
                "weight": round(chance.random(), 6),
                "type": "semantic",
                "is_intra_cluster": source % clusters == target % clusters,
                "confidence": chance.choice(["high", "medium", "low"]),
            }
            for source, target in sorted(pairs, key=lambda _: chance.random())
        ],
        "subclusters": [
            {
                "id": f"sub_{number}",
                "cluster_id": f"cluster_{number}",
                "node_ids": [number, number + clusters],
                "representative_node_id": number,
                "size": 2,
                "density": 0.5,
                "top_keywords": chance.choices(words, k=3),
            }
            for number in range(clusters)
            if number + clusters < nodes
        ],
        "metadata": {
            "generated_at": "2026-05-24T08:02:08",
            "total_nodes": nodes,
            "total_edges": edges,
            "clusters": {
                f"cluster_{number}": {"name": f"Cluster {number}", "description": "", "key_themes": ["a", "b"]}
                for number in range(clusters)
            },
        },
    }
    return json.dumps(document).encode()


def changed_document(document: bytes) -> bytes:
    """The graph with other values in a tenth of its nodes and a tenth of its edges."""
    chance = random.Random(document[-1000:])  # noqa: S311
    graph = json.loads(document)
    for node in chance.sample(graph["nodes"], len(graph["nodes"]) // 10):
        node["cluster_confidence"] = round(chance.random(), 4)
    for edge in chance.sample(graph["edges"], len(graph["edges"]) // 10):
        edge["weight"] = round(chance.random(), 6)
    graph["metadata"]["seed"] = chance.random()
    return json.dumps(graph).encode()


def features_document(orig_ids: Sequence[str], *, width: int) -> Iterator[bytes]:
    """A features document with one embedding for each source, in pieces.

    Parameters:
      width: numbers in an embedding.
    """
    conversations = [{"id": number, "orig_id": orig_id} for number, orig_id in enumerate(orig_ids)]
    yield b'{"conversations": ' + json.dumps(conversations).encode() + b', "embeddings": ['
    row = b"[" + b", ".join([NUMBER] * width) + b"]"
    for number in range(len(orig_ids)):
        yield row if number == 0 else b", " + row
    yield b'], "metadata": {}}'
