"""The summary of a user's graph: the newest replaces the stored one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from graphnode.rules.rows import SummaryRow
from graphnode.storage.summaries import SummaryRecord, replace_summary

pytestmark = pytest.mark.usefixtures("storage")

NOON = datetime(2026, 5, 24, 12, tzinfo=UTC)

OLD = SummaryRow(
    overview={"summary_text": "Du café et des graphes"},
    clusters=[{"name": "Coffee"}],
    patterns=[{"pattern_type": "habit"}],
    connections=[{"source_cluster": "1"}],
    recommendations=[{"title": "Rest"}],
    detail_level="standard",
    generated_at=NOON,
)
NEW = OLD._replace(overview={"summary_text": "요약"}, clusters=[], detail_level=None, generated_at=None)


def stored() -> SummaryRow:
    summary = SummaryRecord.get_by_id("ada")
    return SummaryRow._make(getattr(summary, name) for name in SummaryRow._fields)


def test_stores_a_users_first_summary() -> None:
    assert replace_summary("ada", OLD, source_timestamp=NOON)
    assert stored() == OLD


@pytest.mark.parametrize("later", [timedelta(0), timedelta(microseconds=1)], ids=["a repeat", "a newer one"])
def test_replaces_every_value_of_the_stored_one(later: timedelta) -> None:
    replace_summary("ada", OLD, source_timestamp=NOON)
    assert replace_summary("ada", NEW, source_timestamp=NOON + later)
    assert stored() == NEW


def test_an_older_summary_changes_nothing() -> None:
    replace_summary("ada", NEW, source_timestamp=NOON)
    assert not replace_summary("ada", OLD, source_timestamp=NOON - timedelta(microseconds=1))
    assert stored() == NEW


@pytest.mark.parametrize(("ahead", "replaced"), [(timedelta(minutes=4), False), (timedelta(minutes=6), True)])
def test_a_stored_summary_of_the_future_loses(ahead: timedelta, replaced: bool) -> None:
    replace_summary("ada", OLD, source_timestamp=datetime.now(UTC) + ahead)

    assert replace_summary("ada", NEW, source_timestamp=NOON) == replaced
    assert stored() == (NEW if replaced else OLD)


def test_users_have_their_own() -> None:
    replace_summary("ada", OLD, source_timestamp=NOON)
    replace_summary("grace", NEW, source_timestamp=NOON)
    assert stored() == OLD
