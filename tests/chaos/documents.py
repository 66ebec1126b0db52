"""The documents that the AI server writes to S3, drawn from a seed: small, with the contract's oddities."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any, NamedTuple

#: Source IDs by the field that has them in an add-node batch.
SOURCES = {
    "conversationId": [f"c{number}" for number in range(1, 13)],
    "noteId": [f"n{number}" for number in range(1, 7)],
    "fileId": [f"uf-{number}" for number in range(1, 5)],
}
ORIG_IDS = [orig_id for orig_ids in SOURCES.values() for orig_id in orig_ids]
CLUSTERS: tuple[str | int, ...] = ("x", "y", 3, "z-4")
NAMES = ("Baking", "Travel", "요리", 'O\'Brien "quoted"')

#: The forms in which the producer writes a time.
WRITTEN: tuple[Callable[[datetime], str], ...] = (
    lambda time: time.replace(tzinfo=None).isoformat(),
    lambda time: time.isoformat().replace("+00:00", "Z"),
    lambda time: time.astimezone(timezone(timedelta(hours=9))).isoformat(),
)


def written(draw: Random, time: datetime) -> str:
    """A time in one of the producer's formats."""
    formats = (
        lambda: time.replace(tzinfo=None).isoformat(),
        lambda: time.isoformat().replace("+00:00", "Z"),
        lambda: time.astimezone(timezone(timedelta(hours=9))).isoformat(),
    )
    return draw.choice(formats)()


def some(draw: Random, **fields: Any) -> dict[str, Any]:
    """A random selection of these fields."""
    return {name: value for name, value in fields.items() if draw.random() < 0.6}


def graph(draw: Random, *, at: datetime) -> dict[str, Any]:
    """A graph document. Its subclusters have nodes of their cluster, and one that does not exist."""
    orig_ids = draw.sample(ORIG_IDS, draw.randint(1, len(ORIG_IDS)))
    ids = draw.sample(range(len(ORIG_IDS) + 5), len(orig_ids))
    nodes = [_node(draw, node_id, orig_id, at) for node_id, orig_id in zip(ids, orig_ids, strict=True)]
    used = dict.fromkeys(node["cluster_id"] for node in nodes if node["cluster_id"] is not None)
    subclusters = [
        {
            "id": f"s{cluster}",
            "cluster_id": cluster,
            "node_ids": [*(node["id"] for node in nodes if node["cluster_id"] == cluster), 99],
            "representative_node_id": draw.choice((None, draw.choice(ids))),
            "density": 0.5,
            "size": 50,
        }

    def features(self) -> dict[str, Any]:
        """Embeddings of some of the sources."""
        orig_ids = self.draw.sample(self.words.orig_ids, self.draw.randint(0, self.words.features))
        return {
            "conversations": [
                {"id": number, "orig_id": self.draw.choice(("", "src1_")) + orig_id}
                for number, orig_id in enumerate(orig_ids)
            ],
            "embeddings": [[float(number), self.draw.choice((0.25, 0.5)), 0.125] for number, _ in enumerate(orig_ids)],
        }

def features(draw: Random) -> dict[str, Any]:
    """A features document with embeddings of some sources."""
    orig_ids = draw.sample(ORIG_IDS, draw.randint(0, 8))
    return {
        "conversations": [
            {"id": number, "orig_id": draw.choice(("", "src1_")) + orig_id} for number, orig_id in enumerate(orig_ids)
        ],
        "embeddings": [[float(number), draw.choice((0.25, 0.5)), 0.125] for number, _ in enumerate(orig_ids)],
    }

    def batch(self, user_id: str, *, at: datetime) -> dict[str, Any]:
        """A batch of new sources."""
        results = range(self.draw.randint(0, self.words.results))
        return {"userId": user_id, "results": [self._result(user_id, at) for _ in results]}

def summary(draw: Random, *, at: datetime) -> dict[str, Any]:
    """A summary document with wrong totals."""
    overview = {"summary_text": f"Much of {draw.choice(NAMES)}, {draw.randint(1, 999)}.", "total_notes": 99}
    return {"overview": overview, "detail_level": draw.choice(("brief", "detailed"))} | some(
        draw, generated_at=written(draw, at)
    )

        Parameters:
          half: "_block", "_nonblock", or "" for both. A half's key may be in the other half's field.
        """
        own, other = ("standardized_s3_key", "block_graph_s3_key")[:: -1 if half == "_block" else 1]
        if half != "_block" and self.draw.random() < 0.7:
            yield self.draw.choice((own, other) if half else (own,)), self._chunks()
        if half != "_nonblock" and self.draw.random() < 0.7:
            yield self.draw.choice((own, other)) if half else "block_graph_s3_key", self._blocks()

def batch(draw: Random, user_id: str, *, at: datetime) -> dict[str, Any]:
    """An add-node batch."""
    return {"userId": user_id, "results": [_result(draw, user_id, at) for _ in range(draw.randint(0, 4))]}

    def _chunks(self) -> list[dict[str, Any]]:
        chunks = range(self.draw.randint(1, 4))
        return [{"nodes": [{"name": name} for name in "abc"[: self.draw.randint(0, 3)]]} for _ in chunks]

def chunks(draw: Random) -> list[dict[str, Any]]:
    """A standardized document of the microscope."""
    return [{"nodes": [{"name": name} for name in "abc"[: draw.randint(0, 3)]]} for _ in range(draw.randint(1, 4))]

    def _node(self, node_id: int, orig_id: str, at: datetime) -> dict[str, Any]:
        draw, clusters = self.draw, self.words.clusters
        raw_id = f"pdf_{orig_id}_report" if orig_id.startswith("uf-") else draw.choice(("", "src0_")) + orig_id
        return {"id": node_id, "orig_id": raw_id, "cluster_id": draw.choice((None, *clusters, *clusters))} | some(
            draw,
            cluster_name=draw.choice(NAMES),
            cluster_confidence=draw.choice((0.0, 0.25, 1.0)),
            source_type=draw.choice(("chat", "markdown", "notion", "pdf")),
            num_messages=draw.randint(0, 9),
            keywords=[{"term": "rye", "score": 0.5}],
            timestamp=written(draw, at),
            metadata={"pinned": True},
        )

def blocks(draw: Random) -> dict[str, Any]:
    """A block graph of the microscope."""
    return {"blocks": [{"id": "b1", "title": draw.choice(NAMES)} for _ in range(draw.randint(0, 2))]}

    def _result(self, user_id: str, at: datetime) -> dict[str, Any]:
        """The result of one source, which may have several nodes."""
        draw, words = self.draw, self.words
        kind = draw.choice(tuple(words.sources))
        orig_ids = draw.choices(words.sources[kind], k=draw.randint(1, 2))
        assigned = {"clusterId": draw.choice((None, *words.clusters)), "name": draw.choice((None, "", *NAMES))} | some(
            draw, confidence=draw.choice((0.0, 0.25, 1.0)), reasoning="Alike.", themes=["rye"]
        )
        return {
            kind: orig_ids[0],
            "nodes": [self._new_node(user_id, orig_id, at) for orig_id in orig_ids],
            "edges": [self._new_edge(user_id) for _ in range(draw.randint(0, 3))],
            "assignedCluster": draw.choice((None, assigned)),
            **draw.choice(({}, {}, {}, {}, {"skipped": True}, {"error": "unreadable"})),
        }

    def _new_node(self, user_id: str, orig_id: str, at: datetime) -> dict[str, Any]:
        draw = self.draw
        node: dict[str, Any] = {
            "id": f"{user_id}_{orig_id}",
            "clusterId": draw.choice((None, *self.words.clusters)),
            "clusterName": draw.choice((None, "", *NAMES)),
        }
        return node | some(draw, origId=orig_id, numMessages=draw.randint(0, 9), timestamp=written(draw, at))

    def _new_edge(self, user_id: str) -> dict[str, Any]:
        """An edge of a new node. Its ends are a string ID, an original ID, or an integer ID, also as digits."""
        draw, known = self.draw, self.words.orig_ids

        def end() -> str | int:
            orig_id = draw.choice(known)
            return draw.choice(
                (f"{user_id}_{orig_id}", orig_id, draw.randint(0, 9), str(draw.randint(0, 9)), "unknown")
            )


def _result(draw: Random, user_id: str, at: datetime) -> dict[str, Any]:
    """The result of one source in an add-node batch, with one node or two."""
    kind = draw.choice(tuple(SOURCES))
    orig_ids = draw.choices(SOURCES[kind], k=draw.randint(1, 2))
    assigned = {"clusterId": draw.choice((None, *CLUSTERS)), "name": draw.choice((None, "", *NAMES))} | some(
        draw, confidence=draw.choice((0.0, 0.25, 1.0)), reasoning="Alike.", themes=["rye"]
    )
    return {
        kind: orig_ids[0],
        "nodes": [_new_node(draw, user_id, orig_id, at) for orig_id in orig_ids],
        "edges": [_new_edge(draw, user_id) for _ in range(draw.randint(0, 3))],
        "assignedCluster": draw.choice((None, assigned)),
        **draw.choice(({}, {}, {}, {}, {"skipped": True}, {"error": "unreadable"})),
    }


def _new_node(draw: Random, user_id: str, orig_id: str, at: datetime) -> dict[str, Any]:
    node: dict[str, Any] = {"id": f"{user_id}_{orig_id}", "clusterId": draw.choice((None, *CLUSTERS))}
    node["clusterName"] = draw.choice((None, "", *NAMES))
    return node | some(draw, origId=orig_id, numMessages=draw.randint(0, 9), timestamp=written(draw, at))


def _new_edge(draw: Random, user_id: str) -> dict[str, Any]:
    def end() -> str | int:
        orig_id = draw.choice(ORIG_IDS)
        return draw.choice((f"{user_id}_{orig_id}", orig_id, draw.randint(0, 9), str(draw.randint(0, 9)), "unknown"))

    return {"source": end(), "target": end()} | some(
        draw,
        weight=draw.choice((0.0, 0.25, 1.0)),
        type=draw.choice(("hard", "insight")),
        intraCluster=draw.random() < 0.5,
    )
