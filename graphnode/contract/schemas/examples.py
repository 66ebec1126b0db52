"""An example of every message, document and notification, by the path of its schema."""

from __future__ import annotations

from typing import Any

from graphnode.errors import DeclarationError

_ULID = "01KS5VASM0TJW13004M3R3FV5P"
_NOW = "2026-05-24T08:02:08.793892+00:00"


def _message(task_type: str, task_id: str, payload: dict[str, Any]) -> dict[str, Any]:
    return {
        "taskType": task_type,
        "taskId": f"{task_id}_ada_{_ULID}",
        "timestamp": _NOW,
        "payload": payload,
    }


_MESSAGES = [
    _message(
        "GRAPH_GENERATION_REQUEST",
        "task_graph",
        {
            "userId": "ada",
            "s3Key": "input/ada/",
            "includeSummary": True,
            "summaryLanguage": "en",
            "language": "en",
            "minClusters": 3,
            "maxClusters": 12,
        },
    ),
    _message("GRAPH_SUMMARY_REQUEST", "task_summary", {"userId": "ada", "graphS3Key": "graph/ada/graph.json"}),
    _message("ADD_NODE_REQUEST", "task_add_node", {"userId": "ada", "s3Key": "input/ada/note.json"}),
    _message(
        "MICROSCOPE_INGEST_REQUEST",
        "task_microscope_file",
        {
            "user_id": "ada",
            "s3_key": "input/ada/paper.pdf",
            "group_id": "workspace-1",
            "file_name": "paper.pdf",
            "ingest_mode": "raw_file",
            "block_mode": True,
            "generate_micro_graphs": True,
        },
    ),
    _message(
        "MICROSCOPE_INGEST_FROM_NODE_REQUEST",
        "task_microscope_node",
        {
            "user_id": "ada",
            "node_id": "note-1",
            "node_type": "note",
            "group_id": "workspace-1",
            "ingest_mode": "from_graphnode",
        },
    ),
    _message(
        "GRAPH_GENERATION_RESULT",
        "task_graph",
        {
            "userId": "ada",
            "status": "COMPLETED",
            "resultS3Key": "graph/ada/graph.json",
            "featuresS3Key": "graph/ada/features.json",
            "summaryIncluded": True,
            "summaryS3Key": "graph/ada/summary.json",
        },
    ),
    _message(
        "GRAPH_GENERATION_PROGRESS",
        "task_graph",
        {"userId": "ada", "currentStage": "clustering", "progressPercent": 62.5, "etaSeconds": 40},
    ),
    _message(
        "GRAPH_SUMMARY_RESULT",
        "task_summary",
        {"userId": "ada", "status": "FAILED", "error": "The graph has no clusters to summarize."},
    ),
    _message(
        "ADD_NODE_RESULT",
        "task_add_node",
        {"userId": "ada", "status": "COMPLETED", "resultS3Key": "graph/ada/add_node.json", "error": "1 of 3 failed"},
    ),
    *(
        _message(
            task_type,
            task_id,
            {
                "userId": "ada",
                "groupId": "workspace-1",
                "status": "COMPLETED",
                "sourceId": "note-1",
                "chunks_count": 12,
                "schema_name": "default",
                "ingest_stats": {"pages": 3},
                "standardized_s3_key": "microscope/ada/standardized.json",
                "block_graph_s3_key": "microscope/ada/block_graph.json",
            },
        )
        for task_type, task_id in (
            ("MICROSCOPE_INGEST_RESULT", "task_microscope_file"),
            ("MICROSCOPE_INGEST_FROM_NODE_RESULT", "task_microscope_node"),
        )
    ),
]

_DOCUMENTS: dict[str, Any] = {
    "graph": {
        "nodes": [
            {
                "id": 0,
                "orig_id": "a31de8ee-cb77-4dd1-b5b1-36f488d7a51b",
                "cluster_id": "cluster_1",
                "cluster_name": "Baking",
                "cluster_confidence": 0.92,
                "keywords": [{"term": "rye", "score": 0.71}],
                "source_type": "chat",
                "timestamp": "2026-05-20T19:02:11Z",
                "num_sections": 21,
                "metadata": {},
            },
            {
                "id": 1,
                "orig_id": "note-1",
                "cluster_id": "cluster_1",
                "source_type": "markdown",
                "create_time": 1779303731,
                "num_messages": 4,
            },
        ],
        "edges": [{"source": 0, "target": 1, "weight": 0.81, "is_intra_cluster": True, "confidence": "high"}],
        "subclusters": [
            {
                "id": "subcluster_1",
                "cluster_id": "cluster_1",
                "node_ids": [0, 1],
                "representative_node_id": 0,
                "density": 1.0,
                "top_keywords": ["rye"],
            }
        ],
        "metadata": {
            "generated_at": "2026-05-24T08:02:08",
            "language": "en",
            "clusters": {"cluster_1": {"name": "Baking", "description": "Bread at home.", "key_themes": ["bread"]}},
        },
    },
    "features": {
        "conversations": [{"orig_id": "a31de8ee-cb77-4dd1-b5b1-36f488d7a51b"}, {"orig_id": "note-1"}],
        "embeddings": [[0.12, -0.5, 0.33], [0.07, 0.21, -0.9]],
    },
    "summary": {
        "overview": {
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
                "top_keywords": ["rye"],
                "key_themes": ["bread"],
                "insight_text": "Prefers rye.",
            }
        ],
        "patterns": [{"pattern_type": "habit", "description": "Bakes on Sundays.", "evidence": ["note-1"]}],
        "connections": [],
        "recommendations": [{"type": "explore", "title": "Try spelt", "related_nodes": [1], "priority": "low"}],
        "generated_at": "2026-05-24T08:02:08",
        "detail_level": "standard",
    },
    "add-node-batch": {
        "userId": "ada",
        "results": [
            {
                "noteId": "note-2",
                "nodes": [
                    {
                        "id": "ada_note-2",
                        "origId": "note-2",
                        "clusterId": "cluster_1",
                        "clusterName": "Baking",
                        "numSections": 4,
                        "createdAt": "2026-05-21T18:04:00Z",
                    }
                ],
                "edges": [{"source": "ada_note-2", "target": 0, "weight": 0.46, "type": "insight"}],
                "assignedCluster": {"clusterId": "cluster_1", "confidence": 0.83, "themes": ["bread"]},
                "skipped": False,
            }
        ],
    },
    "microscope-standardized": [
        {
            "nodes": [{"name": "TCP", "type": "Protocol", "source_chunk_id": 0}, {"name": "IP"}],
            "edges": [{"start": "TCP", "target": "IP", "type": "BUILDS_ON", "confidence": 0.9}],
        }
    ],
    "microscope-block-graph": {
        "blocks": [
            {
                "block_id": "b1",
                "title": "Packets",
                "summary": "What a packet is.",
                "key_concepts": ["packet"],
                "order_index": 0,
                "turn_range": [0, 4],
                "micro_graph": {"nodes": [{"name": "packet"}], "edges": []},
            },
            {"block_id": "b2", "title": "Routes", "turn_range": None},
        ],
        "edges": [{"source": "b1", "target": "b2", "type": "PREREQUISITE_OF", "confidence": "high"}],
        "paths": [["b1", "b2"]],
        "ordering_rationale": "A route carries packets.",
    },
}

_TASK = f"task_graph_ada_{_ULID}"
_DOCUMENT = f"task_microscope_file_ada_{_ULID}"

_REQUESTED = ("GRAPH_GENERATION", "GRAPH_SUMMARY", "ADD_CONVERSATION", "MICROSCOPE_INGEST")

#: Without the time, and those of a graph without the task ID.
_NOTIFICATIONS: dict[str, dict[str, Any]] = {
    **{f"{kind}_REQUESTED": {} for kind in _REQUESTED},
    **{f"{kind}_REQUEST_FAILED": {"error": "The request could not be sent. Please try again."} for kind in _REQUESTED},
    "GRAPH_GENERATION_COMPLETED": {"nodeCount": 36, "edgeCount": 67, "clusterCount": 6, "summaryIncluded": True},
    "GRAPH_GENERATION_FAILED": {"error": "The input is empty."},
    "GRAPH_GENERATION_PROGRESS_UPDATED": {"currentStage": "clustering", "progressPercent": 62.5},
    "GRAPH_SUMMARY_COMPLETED": {"detailLevel": "standard"},
    "GRAPH_SUMMARY_FAILED": {"error": "The graph has no clusters to summarize."},
    "ADD_CONVERSATION_COMPLETED": {"nodeCount": 3, "edgeCount": 5},
    "ADD_CONVERSATION_FAILED": {"error": "The AI server gave no reason."},
    "MICROSCOPE_DOCUMENT_COMPLETED": {
        "taskId": _DOCUMENT,
        "documentId": _DOCUMENT,
        "groupId": "workspace-1",
        "sourceId": "note-1",
        "chunksCount": 12,
    },
    "MICROSCOPE_DOCUMENT_FAILED": {
        "taskId": f"{_DOCUMENT}_block",
        "documentId": _DOCUMENT,
        "groupId": "workspace-1",
        "error": "The file is encrypted.",
    },
    "MICROSCOPE_WORKSPACE_COMPLETED": {
        "taskId": _DOCUMENT,
        "groupId": "workspace-1",
        "workspaceName": "Networks",
        "completedCount": 4,
        "failedCount": 1,
    },
}

#: By the path of the schema. `graphnode deliver` sends the example of a result that has no documents.
EXAMPLES: dict[str, Any] = {
    **{f"messages/{message['taskType']}": message for message in _MESSAGES},
    **{f"documents/{name}": example for name, example in _DOCUMENTS.items()},
    **{
        f"notifications/{event}": {"taskId": _TASK, **example, "timestamp": _NOW}
        for event, example in _NOTIFICATIONS.items()
    },
}


def example_of(path: str) -> Any:
    """The example of a message, document or notification. Raises DeclarationError if it has none.

    Parameters:
      path: the path of its schema.
    """
    if path not in EXAMPLES:
        raise DeclarationError(f"graphnode/contract/schemas/examples.py has no example of {path}: write one there.")
    return EXAMPLES[path]
