from __future__ import annotations

from datetime import UTC, datetime

import pytest

from graphnode.rules.node_times import with_times
from graphnode.rules.rows import NodeRow

EARLIER, LATER, NOW = (datetime(2026, 5, day, tzinfo=UTC) for day in (1, 2, 3))

NODE = NodeRow(0, "conv-1", "c1", None, 0.5, "chat", 3, [{"term": "rye", "score": 1}], None, {"pinned": True})
STORED = NODE._replace(created_at=EARLIER, updated_at=LATER)


def times_of(node: NodeRow, *stored: NodeRow) -> tuple[datetime | None, datetime | None]:
    (timed,) = with_times([node], stored, now=NOW)
    assert timed._replace(created_at=None, updated_at=None) == node._replace(created_at=None, updated_at=None)
    return timed.created_at, timed.updated_at


def test_a_new_node_was_made_and_changed_now() -> None:
    assert times_of(NODE) == (NOW, NOW)
    assert times_of(NODE, STORED._replace(orig_id="conv-2")) == (NOW, NOW)


def test_a_node_of_a_stored_source_keeps_its_times() -> None:
    assert times_of(NODE, STORED) == (EARLIER, LATER)


@pytest.mark.parametrize(
    "changed",
    [NODE._replace(id=1), NODE._replace(title="Brot"), NODE._replace(keywords=[]), NODE._replace(metadata={})],
    ids=lambda node: str(node[0]),
)
def test_a_node_with_other_values_was_changed_now(changed: NodeRow) -> None:
    assert times_of(changed, STORED) == (EARLIER, NOW)


def test_the_documents_times_come_first() -> None:
    dated = NODE._replace(created_at=LATER, updated_at=EARLIER)

    assert times_of(dated) == (LATER, EARLIER)
    assert times_of(dated, STORED) == (LATER, EARLIER)
    assert times_of(dated._replace(title="Brot"), STORED) == (LATER, EARLIER)


def test_a_time_that_an_earlier_release_has_not_stored_stays_unknown_until_the_node_changes() -> None:
    assert times_of(NODE, NODE) == (None, None)
    assert times_of(NODE._replace(title="Brot"), NODE) == (None, NOW)
