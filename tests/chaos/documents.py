"""Random documents of the AI server: small, with all variants that the contract allows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any, NamedTuple, TypeVar

from tests.chaos.model.state import MALFORMED

#: The largest ID that a node can have.
LARGEST_INTEGER = 2_147_483_647

#: Sources are older than anything that the worker stores now: so their times are told from those of transactions.
AGE = timedelta(days=3650)

#: IDs that mean something in one batch only.
BATCH_IDS = ("tmp-1", "tmp-2")

NAMES = ("Baking", "Travel", "요리", 'O\'Brien "quoted"')

#: The contract's errors of a FAILED result: some are missing.
ERRORS = (None, "", "Out of memory", "Too long")


#: The share of documents and payloads that have malformed parts.
MALFORMED_SHARE = 0.2

#: By kind of document: the paths of the parts that may be malformed. `[]` stands for an element that is added.
MALFORMED_PARTS = {
    "graph": r"nodes\[\]\.(cluster_.*|source_type|num_messages|timestamp|keywords(\[\])?)"
    r"|edges\[\](\.(weight|is_intra_cluster))?"
    r"|subclusters\[\](\.(node_ids\[\]|representative_node_id|density))?"
    r"|metadata\.clusters\..+",
    "summary": "detail_level|generated_at",
    "batch": r"results\[\](\.(nodes|edges)\[\](\.(origId|cluster.*|numMessages|timestamp|weight|type|intraCluster))?)?"
    r"|results\[\]\.assignedCluster(\..+)?",
    "chunks": r"\[\](\.nodes\[\])?",
    "blocks": r"(block_graph\.)?blocks\[\](\.(id|title|micro_graph))?",
    "payload": "sourceId|groupId|workspaceId|chunks_count|schema_name|images_s3_prefix|featuresS3Key",
}

T = TypeVar("T")


class Vocabulary(NamedTuple):
    """The values that documents are made of. With few values, documents are about the same sources.

    Parameters:
      sources: the original IDs, by the field for them in an add-node batch.
      spare_ids: there are so many more node IDs than sources.
      edge_type: the type of a graph's edges; "" means that it is missing.
      nodes: fewest nodes of a graph.
      edges: most edges per node of a graph.
      features: most rows of a features document.
      results: most results of a batch.
    """

    sources: dict[str, tuple[str, ...]]
    clusters: tuple[str | int, ...]
    spare_ids: int
    edge_type: str
    nodes: int
    edges: int
    features: int
    results: int

    @property
    def orig_ids(self) -> list[str]:
        """The original IDs of all sources."""
        return [orig_id for orig_ids in self.sources.values() for orig_id in orig_ids]


#: Chaos has many users with many sources each.
MANY = Vocabulary(
    sources={
        "conversationId": tuple(f"c{number}" for number in range(1, 13)),
        "noteId": tuple(f"n{number}" for number in range(1, 7)),
        "fileId": (*(f"uf-{number}" for number in range(1, 4)), "01KT1AJS0YPC4C3805641TKH5E"),
    },
    clusters=("x", "y", 3, "z-4"),
    spare_ids=5,
    edge_type="semantic",
    nodes=1,
    edges=3,
    features=8,
    results=4,
)


def written(draw: Random, time: datetime) -> str:
    """A time in one of the producer's formats."""
    formats = (
        lambda: time.replace(tzinfo=None).isoformat(),
        lambda: time.isoformat().replace("+00:00", "Z"),
        lambda: time.astimezone(timezone(timedelta(hours=9))).isoformat(),
    )
    return draw.choice(formats)()


def spelt(draw: Random, orig_id: str) -> str:
    """An original ID in one of the AI server's spellings."""
    is_file = orig_id.startswith(("uf-", "01"))
    named = ("{}", "pdf_{}_report", "pdf_{}", "{}_report.pdf") if is_file else ("{}",)
    return draw.choice(("", "src0_", "src12_")) + draw.choice(named).format(orig_id)


def some(draw: Random, **fields: Any) -> dict[str, Any]:
    """The fields, of which each may be missing."""
    return {name: value for name, value in fields.items() if draw.random() < 0.6}


def with_malformed_parts(draw: Random, kind: str, document: T) -> T:
    """The document, some of whose parts are malformed now with some probability.

    Parameters:
      kind: a key of `MALFORMED_PARTS`.
    """
    if draw.random() >= MALFORMED_SHARE:
        return document
    parts = [part for part in _places(document) if re.fullmatch(MALFORMED_PARTS[kind], part[0])]
    if parts:
        for _ in range(draw.randint(1, 3)):
            _, holder, field = draw.choice(parts)
            if field is None:
                holder.append(MALFORMED)
            else:
                holder[field] = MALFORMED
    return document


def _places(value: Any, at: str = "") -> Iterator[tuple[str, Any, str | None]]:
    """The path of each part, what it is in, and the field that it is; None for an element that may be added."""
    if isinstance(value, dict):
        for field, inner in value.items():
            place = f"{at}.{field}".removeprefix(".")
            yield place, value, field
            yield from _places(inner, place)
    elif isinstance(value, list) and value:
        yield f"{at}[]", value, None
        for inner in value:
            yield from _places(inner, f"{at}[]")


class Documents:
    """Makes documents.

    Parameters:
      draw: the source of randomness.
      words: the values that they are made of.
      faults: the source of randomness for malformed parts.
    """

    def __init__(self, draw: Random, words: Vocabulary, faults: Random) -> None:
        self.draw = draw
        self.words = words
        self.faults = faults

    def graph(self, *, at: datetime) -> dict[str, Any]:
        """A graph. Its subclusters have members of their cluster, and one that does not exist."""
        draw, known = self.draw, self.words.orig_ids
        orig_ids = draw.sample(known, draw.randint(self.words.nodes, len(known)))
        ids = draw.sample(range(len(known) + self.words.spare_ids), len(orig_ids))
        if ids and draw.random() < 0.1:
            ids[0] = LARGEST_INTEGER
        nodes = [self._node(node_id, orig_id, at) for node_id, orig_id in zip(ids, orig_ids, strict=True)]
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
            | some(draw, internal_edges=draw.randint(0, 9), cohesion_score=0.75)
            for cluster in used
            if draw.random() < 0.5
        ]
        described = {
            str(cluster): some(draw, name=draw.choice(NAMES), description="…", key_themes=["rye"])
            for cluster in self.words.clusters
            if draw.random() < 0.6
        }
        generated_at = draw.choice((None, written(draw, at)))
        graph = {
            "nodes": nodes,
            "edges": [self._edge(ids) for _ in range(draw.randint(0, self.words.edges * len(ids)))],
            "subclusters": subclusters,
            "metadata": {"generated_at": generated_at, "total_nodes": 77, "clusters": described},
        }
        return with_malformed_parts(self.faults, "graph", graph)

    def features(self) -> dict[str, Any]:
        """Embeddings of some of the sources."""
        orig_ids = self.draw.sample(self.words.orig_ids, self.draw.randint(0, self.words.features))
        return {
            "conversations": [
                {"id": number, "orig_id": spelt(self.draw, orig_id)} for number, orig_id in enumerate(orig_ids)
            ],
            "embeddings": [[float(number), self.draw.choice((0.25, 0.5)), 0.125] for number, _ in enumerate(orig_ids)],
        }

    def summary(self, *, at: datetime) -> dict[str, Any]:
        """A summary with wrong totals."""
        draw = self.draw
        overview = {
            "summary_text": f"Much of {draw.choice(NAMES)}, {draw.randint(1, 999)}.",
            "total_notes": 99,
            "file_counts_by_extension": {"pdf": 99},
        }
        summary = {"overview": overview, "detail_level": draw.choice(("brief", "detailed"))} | some(
            draw, generated_at=written(draw, at)
        )
        return with_malformed_parts(self.faults, "summary", summary)

    def batch(self, user_id: str, *, at: datetime) -> dict[str, Any]:
        """A batch of new sources."""
        results = range(self.draw.randint(0, self.words.results))
        batch = {"userId": user_id, "results": [self._result(user_id, at) for _ in results]}
        return with_malformed_parts(self.faults, "batch", batch)

    def microscope(self, half: str) -> Iterator[tuple[str, Any]]:
        """The documents of a microscope result, with the payload's field for their key.

        Parameters:
          half: "_block", "_nonblock", or "" for both. A key may be in the other view's field.
        """
        chunks, blocks = self.draw.choice(
            (("standardized_s3_key", "block_graph_s3_key"), ("block_graph_s3_key", "standardized_s3_key"))
        )
        if half != "_block" and self.draw.random() < 0.7:
            yield chunks, self._chunks()
        if half != "_nonblock" and self.draw.random() < 0.7:
            yield blocks, self._blocks()

    def microscope_fields(self) -> dict[str, Any]:
        """The optional fields of a microscope result."""
        return {
            "error": self.draw.choice((None, "an image was unreadable")),
            "chunks_count": self.draw.choice((None, self.draw.randint(0, 5))),
            "schema_name": self.draw.choice((None, "science")),
            "ingest_stats": self.draw.choice((None, {"pages": 3})),
            self.draw.choice(("images_s3_prefix", "images_s3_key")): self.draw.choice((None, "images/1/", "images/2/")),
        }

    def _chunks(self) -> list[dict[str, Any]]:
        numbers = range(self.draw.randint(1, 4))
        chunks = [{"nodes": [{"name": name} for name in "abc"[: self.draw.randint(0, 3)]]} for _ in numbers]
        return with_malformed_parts(self.faults, "chunks", chunks)

    def _blocks(self) -> dict[str, Any]:
        graph = {"blocks": [self._block() for _ in range(self.draw.randint(0, 2))]}
        return with_malformed_parts(self.faults, "blocks", self.draw.choice((graph, {"block_graph": graph})))

    def _block(self) -> dict[str, Any]:
        draw = self.draw
        edge = {draw.choice(("source", "start")): "TCP", "target": "IP"}
        micro_graph = draw.choice((None, {"nodes": [{"name": "TCP"}, {"name": "IP"}], "edges": [edge]}))
        return {"title": draw.choice((None, *NAMES))} | some(draw, id="b1", micro_graph=micro_graph)

    def _node(self, node_id: int, orig_id: str, at: datetime) -> dict[str, Any]:
        draw, clusters = self.draw, self.words.clusters
        return {
            "id": node_id,
            "orig_id": spelt(draw, orig_id),
            "cluster_id": draw.choice((None, *clusters, *clusters)),
        } | some(
            draw,
            cluster_name=draw.choice(NAMES),
            cluster_confidence=draw.choice((0.0, 0.25, 1.0)),
            source_type=draw.choice(("chat", "markdown", "notion", "file", "PPTX")),
            num_messages=draw.randint(0, 9),
            keywords=[{"term": "rye", "score": 0.5}],
            timestamp=written(draw, at),
            create_time=draw.choice((0, (at - AGE).timestamp())),
            update_time=draw.choice((0, (at - AGE).timestamp())),
            title=draw.choice(NAMES),
            metadata={"pinned": True},
        )

    def _edge(self, ids: list[int]) -> dict[str, Any]:
        draw = self.draw
        ends = (*ids, 98) if draw.random() < 0.2 else ids
        return {"source": draw.choice(ends), "target": draw.choice(ends)} | some(
            draw,
            weight=draw.choice((0.0, 0.25, 1.0)),
            is_intra_cluster=draw.random() < 0.5,
            confidence=draw.choice(("high", "low", 0.9)),
            type=self.words.edge_type,
            relation=draw.choice(NAMES),
        )

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
            "id": f"{user_id}_{spelt(draw, orig_id)}",
            **({"id": draw.choice(BATCH_IDS), "origId": orig_id} if draw.random() < 0.2 else {}),
            "clusterId": draw.choice((None, *self.words.clusters)),
            "clusterName": draw.choice((None, "", *NAMES)),
        }
        return node | some(
            draw,
            origId=spelt(draw, orig_id),
            numMessages=draw.randint(0, 9),
            timestamp=written(draw, at),
            createdAt=written(draw, at - AGE),
            updatedAt=written(draw, at - AGE),
            title=draw.choice(NAMES),
        )

    def _new_edge(self, user_id: str) -> dict[str, Any]:
        """An edge of a new node. Its ends are a string ID, an original ID, or an integer ID, also as digits."""
        draw, known = self.draw, self.words.orig_ids

        def end() -> str | int:
            orig_id = spelt(draw, draw.choice(known))
            return draw.choice(
                (
                    f"{user_id}_{orig_id}",
                    orig_id,
                    draw.choice(BATCH_IDS),
                    draw.randint(0, 9),
                    str(draw.randint(0, 9)),
                    LARGEST_INTEGER,
                    "unknown",
                )
            )

        return {"source": end(), "target": end()} | some(
            draw,
            weight=draw.choice((0.0, 0.25, 1.0)),
            type=draw.choice(("hard", "insight")),
            intraCluster=draw.random() < 0.5,
            relation=draw.choice(NAMES),
        )
