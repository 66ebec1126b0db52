"""Documents with extreme values: whatever the AI server writes, PostgreSQL gets only what it can store."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from graphnode.actors.add_node import merged
from graphnode.contract.decoding import (
    decode_add_node_batch,
    decode_block_graph,
    decode_chunks,
    decode_graph,
    decode_summary,
)
from graphnode.errors import InvalidDocument
from graphnode.rules.graph import clean_graph
from graphnode.rules.microscope_views import stored_view
from graphnode.rules.summary import summary_row
from graphnode.storage import graph_merges, graphs, microscope, summaries
from graphnode.storage.database import database, user_transaction
from tests.features import match_features, read_features
from tests.integration.conftest import Query

NOON = datetime(2026, 5, 24, 12, tzinfo=UTC)

pytestmark = pytest.mark.usefixtures("storage")

TEXT = st.text(alphabet='ab_\x00\ud800\udc00é😀\\\t\n"\x1f\x7f', max_size=5) | st.sampled_from(["x" * 700, "😀" * 450])
NUMBER = st.sampled_from([0, 1, -1, 7.5, 2**31, 2**63, 2**80, 1e308, 5e-324, float("nan"), float("inf"), "7", "0.5"])
TIME = st.sampled_from(["2026-05-24T08:02:08", "0001-01-01T00:00:00-14:00", "never", 1716537728.5, 1e300, -1, "1e15"])
ANYTHING = st.recursive(
    TEXT | NUMBER | st.none() | st.booleans(), lambda inner: st.lists(inner, max_size=2), max_leaves=3
)
OBJECT = st.dictionaries(TEXT, ANYTHING, max_size=2)
ID = st.integers(0, 3)
NAME = st.sampled_from(["a", "b", "src0_a", "pdf_uf-1_report", "ada_a"]) | TEXT
CLUSTER = st.sampled_from(["c1", "c2", 1, "1"]) | TEXT | NUMBER


def record(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with some of these fields, each drawn or not given."""
    given_or_not = {name: values | st.sampled_from([None, ""]) for name, values in fields.items()}
    return st.fixed_dictionaries({}, optional=given_or_not)


def array(items: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(items, max_size=3)


NODE = st.builds(
    lambda required, more: {**more, **required},
    st.fixed_dictionaries({"id": ID, "orig_id": NAME}),
    record(
        cluster_id=CLUSTER,
        cluster_name=TEXT,
        cluster_confidence=NUMBER,
        keywords=array(record(term=TEXT, score=NUMBER) | TEXT),
        source_type=TEXT,
        timestamp=TIME,
        create_time=TIME,
        num_sections=NUMBER,
        num_messages=NUMBER,
        metadata=OBJECT,
    ),
)
EDGE = record(source=ID, target=ID, weight=NUMBER, is_intra_cluster=st.booleans(), confidence=ANYTHING)
SUBCLUSTER = record(id=CLUSTER, cluster_id=CLUSTER, node_ids=array(ID), representative_node_id=ID, density=NUMBER)
GRAPH = st.fixed_dictionaries(
    {"nodes": array(NODE)},
    optional={
        "edges": array(EDGE),
        "subclusters": array(SUBCLUSTER),
        "metadata": record(
            generated_at=TIME,
            total_nodes=NUMBER,
            clusters=st.dictionaries(
                st.sampled_from(["c1", "c2", "1"]) | TEXT, record(name=TEXT, key_themes=array(TEXT))
            ),
        ),
    },
)
FEATURES = st.fixed_dictionaries(
    {"conversations": array(record(orig_id=NAME)), "embeddings": array(array(NUMBER | st.none()))}
)
SUMMARY = st.fixed_dictionaries(
    {"overview": record(summary_text=TEXT, time_span=ANYTHING, file_counts_by_extension=OBJECT)},
    optional={"clusters": array(record(name=TEXT, size=NUMBER)), "generated_at": TIME, "detail_level": TEXT},
)
BATCH = st.fixed_dictionaries(
    {
        "results": array(
            record(
                noteId=TEXT,
                nodes=array(record(id=NAME, origId=NAME, clusterId=CLUSTER, clusterName=TEXT, createdAt=TIME)),
                edges=array(st.fixed_dictionaries({"source": NAME | ID, "target": NAME | ID, "weight": NUMBER})),
                assignedCluster=record(clusterId=CLUSTER, confidence=NUMBER, name=TEXT, themes=array(TEXT)),
            )
        )
    }
)
CHUNKS = array(st.fixed_dictionaries({"nodes": array(record(name=ANYTHING, type=TEXT)), "edges": array(record())}))
BLOCK_GRAPH = st.fixed_dictionaries(
    {
        "blocks": array(
            record(
                block_id=TEXT,
                title=ANYTHING,
                turn_range=array(NUMBER),
                micro_graph=record(nodes=array(ANYTHING | record(name=ANYTHING)), edges=array(ANYTHING)),
            )
        ),
        "paths": ANYTHING,
    }
)


def store_graph(raw: bytes, *, user_id: str = "ada") -> None:
    rows, _ = clean_graph(decode_graph(raw))
    graphs.replace_graph(user_id, rows, source_timestamp=NOON)


def store_features(raw: bytes) -> None:
    nodes = [{"id": number, "orig_id": name} for number, name in enumerate(["a", "b", "uf-1"])]
    store_graph(json.dumps({"nodes": nodes}).encode())
    embeddings, _ = match_features(*read_features(raw), graphs.node_ids("ada"))
    graphs.store_embeddings("ada", embeddings)


def store_summary(raw: bytes) -> None:
    summaries.replace_summary("ada", summary_row(decode_summary(raw), {}), source_timestamp=NOON)


def merge(raw: bytes) -> None:
    _, changes, _ = merged("ada", decode_add_node_batch(raw))
    graph_merges.apply_changes("ada", changes)


def store_chunks(raw: bytes) -> None:
    chunks = stored_view(decode_chunks(raw), document_id="d1", warnings=Counter())
    microscope.record_result("d1", user_id="ada", workspace_id=None, half=None, status="COMPLETED")
    microscope.store_graphs("d1", {"non_block": chunks})


def store_block_graph(raw: bytes) -> None:
    graph = stored_view(decode_block_graph(raw), document_id="d1", warnings=Counter())
    microscope.record_result("d1", user_id="ada", workspace_id=None, half=None, status="COMPLETED")
    microscope.store_graphs("d1", {"block": graph})


@pytest.mark.parametrize(
    ("documents", "store"),
    [
        pytest.param(GRAPH, store_graph, id="graph"),
        pytest.param(FEATURES, store_features, id="features"),
        pytest.param(SUMMARY, store_summary, id="summary"),
        pytest.param(BATCH, merge, id="add-node batch"),
        pytest.param(CHUNKS, store_chunks, id="standardized"),
        pytest.param(BLOCK_GRAPH, store_block_graph, id="block graph"),
    ],
)
@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_document_is_stored_or_refused_with_its_place(
    documents: st.SearchStrategy[Any], store: Callable[[bytes], None], data: st.DataObject
) -> None:
    raw = json.dumps(data.draw(documents)).encode()
    try:
        with user_transaction("ada"):
            store(raw)
        event("stored")
    except InvalidDocument as refusal:
        event("refused")
        place, _, expectation = str(refusal).partition(": ")
        assert place
        assert expectation


def test_a_graph_of_10_000_nodes_and_100_000_edges_is_stored_whole(query: Query) -> None:
    chance = random.Random(7)
    pairs = {tuple(sorted(chance.sample(range(10_000), 2))) for _ in range(100_000)}
    document = {
        "nodes": [{"id": number, "orig_id": f"conv-{number}", "cluster_id": number % 40} for number in range(10_000)],
        "edges": [{"source": source, "target": target, "weight": 0.5} for source, target in pairs],
    }
    # As autovacuum may do in a new database: with these statistics, any index that begins with the user looks as good.
    with user_transaction("bob"):
        store_graph(b'{"nodes": [{"id": 0, "orig_id": "a"}]}', user_id="bob")
    database.execute_sql("ANALYZE graph_nodes")

    with user_transaction("ada"):
        store_graph(json.dumps(document).encode())

    assert query("SELECT node_count, edge_count, cluster_count FROM graphs WHERE user_id = 'ada'") == [
        (10_000, len(pairs), 40)
    ]
    assert query("SELECT count(*) FROM graph_edges") == [(len(pairs),)]


def test_new_nodes_are_stored_after_a_node_with_the_largest_id_there_is(query: Query) -> None:
    nodes = [{"id": 0, "orig_id": "a"}, {"id": 2_147_483_647, "orig_id": "b"}]
    new = {"nodes": [{"origId": "c"}, {"origId": "d"}], "edges": [{"source": "c", "target": 2_147_483_647}]}

    with user_transaction("ada"):
        store_graph(json.dumps({"nodes": nodes}).encode())
        merge(json.dumps({"results": [new]}).encode())

    assert query("SELECT id, orig_id FROM graph_nodes ORDER BY orig_id") == [
        (0, "a"),
        (2_147_483_647, "b"),
        (1, "c"),
        (2, "d"),
    ]
    assert query("SELECT source, target, weight, type FROM graph_edges") == [(1, 2_147_483_647, 1.0, "hard")]


def test_a_document_nested_to_the_decoders_limit_is_stored(query: Query) -> None:
    depth = 500
    deep = b"[" * depth + b"]" * depth

    with user_transaction("ada"):
        store_graph(b'{"nodes": [{"id": 0, "orig_id": "a", "metadata": {"deep": %b}}]}' % deep)

    assert query("SELECT length(metadata ->> 'deep') FROM graph_nodes") == [(2 * depth,)]
