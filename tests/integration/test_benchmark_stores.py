"""How benchmarks store graphs: as the actor does, in a process that has no deployment's settings."""

from __future__ import annotations

import pytest

from benchmarks.documents import changed_document, graph_document
from benchmarks.persist import store
from tests.conftest import use_settings
from tests.integration.conftest import Query


def test_a_benchmark_stores_a_graph_and_replaces_it_without_any_settings(
    storage: None, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_settings(None, monkeypatch)
    document = graph_document(40, 30)

    store(document, user_id="ada")
    store(changed_document(document), user_id="ada", task="replacement")

    assert query("SELECT node_count, edge_count FROM graphs WHERE user_id = 'ada'") == [(40, 30)]
    assert query("SELECT task_id, status FROM tasks ORDER BY task_id") == [
        ("first of ada", "COMPLETED"),
        ("replacement of ada", "COMPLETED"),
    ]
