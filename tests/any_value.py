"""A valid message or document with any JSON value in the place of a part that identifies nothing."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from hypothesis import strategies as st

#: Any JSON: with numbers that columns cannot hold, texts that PostgreSQL cannot store, and names that mean something.
ANY_VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"), max_size=5)
    | st.sampled_from(["", " ", "\x00", "7", "-1", "nan", "x" * 500, "COMPLETED", "2026-05-24", -1, 0, 100.9, 2**31]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "name", "nodes", "clusters", "term", "a\x00"]), inner, max_size=3)
    ),
    max_leaves=6,
)


class Sample(NamedTuple):
    """A whole document or payload.

    Parameters:
      value: with every field and two of every element.
      identifying: a pattern of the paths of what identifies things: without these, it is refused.
    """

    value: Any
    identifying: str

    def places(self) -> list[str]:
        """The paths of all parts that identify nothing."""
        return [place for place in _places(self.value) if not re.fullmatch(self.identifying, place)]

    def changed(self, place: str, value: Any) -> Any:
        """The same with another value in one place."""
        changed = copy.deepcopy(self.value)
        inner, steps = changed, re.findall(r"[^.\[\]]+", place)
        for step in steps[:-1]:
            inner = inner[step] if isinstance(inner, dict) else inner[int(step)]
        inner[steps[-1] if isinstance(inner, dict) else int(steps[-1])] = value
        return changed


def _places(value: Any, at: str = "") -> Iterator[str]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        place = f"{at}[{key}]" if isinstance(value, list) else f"{at}.{key}".removeprefix(".")
        yield place
        yield from _places(item, place)


GRAPH = Sample(
    {
        "nodes": [
            {
                "id": number,
                "orig_id": orig_id,
                "cluster_id": "cluster_1",
                "cluster_name": "Baking",
                "cluster_confidence": 0.9,
                "keywords": [{"term": "rye", "score": 0.7}, ["bread", 0.2], "spelt"],
                "top_keywords": ["rye"],
                "source_type": "file",
                "timestamp": "2026-05-20T19:02:11Z",
                "create_time": 1779303731,
                "update_time": 1779303731.5,
                "num_sections": 4,
                "num_messages": 4,
                "metadata": {"extension": "pdf"},
            }
            for number, orig_id in enumerate(("note-1", "note-2"))
        ],
        "edges": [
            {"source": 0, "target": 1, "weight": 0.8, "is_intra_cluster": True, "confidence": "high"},
            {"source": 1, "target": 0},
        ],
        "subclusters": [
            {
                "id": "sub_1",
                "cluster_id": "cluster_1",
                "node_ids": [0, 1],
                "representative_node_id": 0,
                "density": 1.0,
                "top_keywords": ["rye"],
            },
            {"id": 2, "node_ids": [1]},
        ],
        "metadata": {
            "generated_at": "2026-05-24T08:02:08",
            "language": "en",
            "clusters": {
                "cluster_1": {"name": "Baking", "description": "Bread.", "key_themes": ["bread"]},
                "total_clusters": 1,
            },
        },
    },
    identifying=r"nodes|nodes\[\d\]|nodes\[\d\]\.(id|orig_id)",
)

#: The older form of a graph's clusters.
LISTED_CLUSTERS = Sample(
    {
        "nodes": [{"id": 0, "orig_id": "a", "cluster_id": "c"}],
        "metadata": {
            "clusters": {
                "total_clusters": 2,
                "clusters": [{"id": "c", "name": "Baking"}, {"cluster_id": 2, "name": "b"}],
            }
        },
    },
    identifying=GRAPH.identifying,
)

SUMMARY = Sample(
    {
        "overview": {
            "total_source_nodes": 2,
            "file_counts_by_extension": {"pdf": 1},
            "time_span": "May 2026",
            "primary_interests": ["baking"],
            "conversation_style": "curious",
            "most_active_period": "evenings",
            "summary_text": "Mostly about bread.",
        },
        "clusters": [
            {
                "cluster_id": "cluster_1",
                "name": "Baking",
                "size": 2,
                "density": 1.0,
                "centrality": 0.5,
                "recency": "active",
                "top_keywords": ["rye"],
                "key_themes": ["bread"],
                "common_question_types": ["how"],
                "insight_text": "Prefers rye.",
                "notable_conversations": ["note-1"],
            }
        ],
        "patterns": [{"pattern_type": "habit", "description": "x", "evidence": ["note-1"], "significance": "high"}],
        "connections": [
            {
                "source_cluster": "cluster_1",
                "target_cluster": "cluster_2",
                "connection_strength": 0.5,
                "bridge_keywords": ["rye"],
                "description": "x",
            }
        ],
        "recommendations": [
            {"type": "explore", "title": "x", "description": "x", "related_nodes": [1], "priority": "low"}
        ],
        "generated_at": "2026-05-24T08:02:08",
        "detail_level": "standard",
    },
    identifying="overview",
)

BATCH = Sample(
    {
        "processedCount": 1,
        "results": [
            {
                "noteId": "note-3",
                "nodes": [
                    {
                        "id": "ada_note-3",
                        "origId": "note-3",
                        "clusterId": "cluster_1",
                        "clusterName": "Baking",
                        "numMessages": 4,
                        "numSections": 4,
                        "timestamp": "2026-05-21T18:04:00Z",
                        "createdAt": "2026-05-21T18:04:00Z",
                        "updatedAt": 1779303731,
                    },
                    {"id": "tmp-1", "origId": "note-4"},
                ],
                "edges": [
                    {"source": "ada_note-3", "target": 0, "weight": 0.5, "type": "insight", "intraCluster": True},
                    {"source": "tmp-1", "target": "note-3"},
                ],
                "assignedCluster": {
                    "clusterId": "cluster_1",
                    "isNewCluster": False,
                    "confidence": 0.8,
                    "reasoning": "x",
                    "name": "Baking",
                    "themes": ["bread"],
                },
                "skipped": False,
                "error": None,
            },
            {"conversationId": "c1", "fileId": None, "nodes": [{"origId": "c1"}], "edges": []},
        ],
    },
    identifying="results",
)

CHUNKS = Sample(
    [
        {
            "nodes": [{"name": "TCP", "type": "Protocol", "description": "x", "source_chunk_id": 0}, {"name": "IP"}],
            "edges": [
                {
                    "start": "TCP",
                    "target": "IP",
                    "type": "BUILDS_ON",
                    "description": "x",
                    "source_chunk_id": 0,
                    "evidence": "x",
                    "confidence": 0.9,
                }
            ],
        },
        {"nodes": []},
    ],
    identifying="-",
)

LONE_CHUNK = Sample(CHUNKS.value[0], identifying="nodes")

_BLOCKS = {
    "blocks": [
        {
            "block_id": "b1",
            "title": "Packets",
            "summary": "x",
            "key_concepts": ["packet"],
            "order_index": 0,
            "turn_range": [0, 4],
            "micro_graph": {
                "nodes": [{"id": "n", "name": "packet", "type": "Thing"}, {"name": "route"}],
                "edges": [{"start": "n", "target": "route"}, {"source": "n", "target": "n"}],
            },
            "raw_text": "x",
        },
        {"id": "b2", "title": "Routes", "turn_range": [], "micro_graph": None},
    ],
    "edges": [
        {"source": "b1", "target": "b2", "type": "FOLLOWS", "description": "x", "confidence": "high"},
        {"source": "b2", "target": "b1"},
    ],
    "paths": [["b1", "b2"]],
    "ordering_rationale": "x",
}

BLOCK_GRAPH = Sample(_BLOCKS, identifying="blocks")
WRAPPED_BLOCK_GRAPH = Sample({"block_graph": _BLOCKS}, identifying=r"block_graph(\.blocks)?")


_RESULT = {"userId": "ada", "status": "COMPLETED", "error": "1 of 3 failed"}
_MICROSCOPE = {
    "groupId": "workspace-1",
    "sourceId": "note-1",
    "chunks_count": 12,
    "schema_name": "default",
    "ingest_stats": {"pages": 3},
    "standardized_s3_key": "microscope/ada/standardized.json",
    "block_graph_s3_key": "microscope/ada/block_graph.json",
    "images_s3_prefix": "microscope/ada/images/",
}


def _message(payload: dict[str, Any], *identifying: str) -> Sample:
    names = "|".join(identifying)
    return Sample(
        {"timestamp": "2026-05-24T08:00:00", "traceId": "x", "payload": payload}, rf"payload|payload\.({names})"
    )


#: By task type: an envelope without type and task, which both identify it.
PAYLOADS: dict[str, Sample] = {
    "GRAPH_GENERATION_RESULT": _message(
        {**_RESULT, "resultS3Key": "g", "featuresS3Key": "f", "summaryIncluded": True, "summaryS3Key": "s"},
        *("userId", "status", "resultS3Key"),
    ),
    "GRAPH_GENERATION_PROGRESS": _message(
        {"userId": "ada", "currentStage": "clustering", "progressPercent": 62.5, "etaSeconds": 40}, "userId"
    ),
    "GRAPH_SUMMARY_RESULT": _message({**_RESULT, "summaryS3Key": "s"}, "userId", "status", "summaryS3Key"),
    "ADD_NODE_RESULT": _message({**_RESULT, "resultS3Key": "r"}, "userId", "status", "resultS3Key"),
    "MICROSCOPE_INGEST_RESULT": _message({**_RESULT, **_MICROSCOPE}, "status"),
    "MICROSCOPE_INGEST_FROM_NODE_RESULT": _message({**_RESULT, **_MICROSCOPE}, "status"),
}
