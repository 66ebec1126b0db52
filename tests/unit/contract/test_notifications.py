from __future__ import annotations

import pytest

from graphnode.contract.notifications import DocumentCompleted, GraphProgress, NodesCompleted, Notice, SummaryCompleted


@pytest.mark.parametrize(
    ("notice", "payload"),
    [
        (GraphProgress(current_stage="clustering", progress_percent=None), {"currentStage": "clustering"}),
        (GraphProgress(current_stage="a", eta_seconds=0), {"currentStage": "a", "etaSeconds": 0}),
        (SummaryCompleted(detail_level=None), {}),
        (NodesCompleted(node_count=0, edge_count=0, error=None), {"nodeCount": 0, "edgeCount": 0}),
        (DocumentCompleted(document_id="d", source_id="s"), {"documentId": "d", "sourceId": "s"}),
    ],
)
def test_a_payload_leaves_out_what_is_missing_and_keeps_zeros(notice: Notice, payload: dict[str, object]) -> None:
    assert notice.payload("t-1") == {"taskId": "t-1", **payload}
