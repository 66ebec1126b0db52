from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.contract import decoding
from graphnode.contract import documents as contract_documents
from graphnode.contract.decoding import (
    decode_add_node_batch,
    decode_block_graph,
    decode_chunks,
    decode_graph,
    decode_microscope,
    decode_summary,
)
from graphnode.contract.documents import MAX_ID_LENGTH
from graphnode.contract.repairs import Warnings
from graphnode.contract.task_ids import Half
from graphnode.errors import InvalidDocument
from tests.features import read_features

DECODERS: list[Callable[[bytes], Any]] = [
    decode_graph,
    read_features,
    decode_summary,
    decode_add_node_batch,
    decode_chunks,
    decode_block_graph,
    partial(decode_microscope, half=None),
]


def field_names() -> list[str]:
    structs = [kind for kind in vars(contract_documents).values() if isinstance(kind, msgspec.StructMeta)]
    return sorted({name for struct in structs for name in struct.__struct_encode_fields__})


#: JSON with the contract's field names, so that its faults are also deep inside.
faulty_documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(""),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*field_names(), "block_graph", "clusters"]), inner, max_size=6)
    ),
    max_leaves=30,
)


@pytest.fixture
def graph() -> dict[str, Any]:
    return {
        "nodes": [
            {
                "id": 0,
                "orig_id": "src0_conv-1",
                "cluster_id": "cluster_1",
                "cluster_name": "여행",
                "cluster_confidence": 0.9,
                "keywords": [{"term": "Lisbon", "score": 0.71}],
                "top_keywords": ["Lisbon"],
                "source_type": "chat",
                "timestamp": "2026-05-24T08:02:08",
                "num_sections": 4,
                "metadata": {"mime": "text/plain"},
            },
            {"id": 1, "orig_id": "note-1", "cluster_id": 2, "create_time": 1716537728.5, "num_messages": 3},
        ],
        "edges": [{"source": 0, "target": 1, "weight": 0.8, "type": "semantic", "confidence": "high"}],
        "subclusters": [{"id": "s1", "cluster_id": "cluster_1", "node_ids": [0], "cohesion_score": 0.4, "size": 1}],
        "metadata": {
            "generated_at": "2026-05-24T08:02:08",
            "language": "ko",
            "clusters": {"cluster_1": {"name": "여행", "description": None, "size": 1, "key_themes": ["a"]}},
        },
    }


@pytest.fixture
def summary() -> dict[str, Any]:
    return {
        "overview": {"total_source_nodes": 9, "summary_text": "주로 여행", "primary_interests": ["travel"]},
        "clusters": [{"cluster_id": "cluster_1", "density": 0.5, "recency": "active"}],
        "patterns": [{"pattern_type": "gap", "evidence": ["conv-1"], "significance": "high"}],
        "connections": [{"source_cluster": "cluster_1", "target_cluster": "cluster_2"}],
        "recommendations": [{"type": "explore", "related_nodes": ["conv-1"], "priority": "low"}],
        "generated_at": "2026-05-24T08:02:08Z",
        "detail_level": "standard",
    }


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode()


def test_a_graph_is_decoded_with_its_clusters_taken_out_of_the_metadata(graph: dict[str, Any]) -> None:
    document = decode_graph(encoded(graph))

    assert [node.orig_id for node in document.nodes] == ["src0_conv-1", "note-1"]
    assert document.nodes[1].cluster_id == 2
    assert document.nodes[1].create_time == 1716537728.5
    assert document.edges[0].confidence == "high"
    assert document.subclusters[0].node_ids == [0]
    assert document.metadata == {"generated_at": "2026-05-24T08:02:08", "language": "ko"}
    assert document.clusters["cluster_1"].name == "여행"
    assert document.clusters["cluster_1"].key_themes == ["a"]


def test_a_byte_order_mark_is_accepted(graph: dict[str, Any]) -> None:
    assert decode_graph(b"\xef\xbb\xbf" + encoded(graph)) == decode_graph(encoded(graph))


def test_numbers_may_be_written_as_strings(graph: dict[str, Any]) -> None:
    graph["nodes"][0] |= {"id": "0", "cluster_confidence": "0.9", "num_sections": "4"}
    graph["edges"][0] |= {"source": "0", "weight": "0.8", "is_intra_cluster": "true"}

    document = decode_graph(encoded(graph))

    assert document.nodes[0].id == 0
    assert document.nodes[0].cluster_confidence == 0.9
    assert document.edges[0].weight == 0.8
    assert document.edges[0].is_intra_cluster is True


@pytest.mark.parametrize("nothing", [None, ""])
def test_null_and_empty_mean_not_given(graph: dict[str, Any], nothing: str | None) -> None:
    optional = ["cluster_confidence", "keywords", "top_keywords", "timestamp", "num_sections", "metadata"]
    graph["nodes"][0] |= dict.fromkeys(optional, nothing)
    graph["edges"][0] |= {"weight": nothing, "is_intra_cluster": nothing}
    graph["subclusters"] = nothing
    graph["metadata"]["clusters"] = {"cluster_1": nothing}
    absent = decode_graph(encoded({"nodes": [{"id": 0, "orig_id": "a"}], "edges": [{"source": 0, "target": 1}]}))

    document = decode_graph(encoded(graph))

    for name in optional:
        assert getattr(document.nodes[0], name) in (getattr(absent.nodes[0], name), nothing)
    assert document.nodes[0].keywords == []
    assert document.edges[0].weight is None
    assert document.edges[0].is_intra_cluster is None
    assert document.subclusters == []
    assert document.clusters == {}


def test_unknown_fields_are_ignored(graph: dict[str, Any]) -> None:
    expected = decode_graph(encoded(graph))
    graph["nodes"][0]["embedding_version"] = {"deep": [1, None]}
    graph["statistics"] = "new"

    assert decode_graph(encoded(graph)) == expected


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (("nodes", 1, "id"), -1, "nodes[1].id: expected int >= 0, got -1"),
        (("nodes", 1, "id"), 2**40, "nodes[1].id: expected int <= 2147483647, got 1099511627776"),
        (("nodes", 1, "id"), [1], "nodes[1].id: expected int, got array"),
        (("nodes", 0, "orig_id"), "", "nodes[0].orig_id: required, but not given"),
        (("nodes", 0, "orig_id"), True, "nodes[0].orig_id: expected str, got true"),
        (("nodes", 1), "note-1", 'nodes[1]: expected object, got "note-1"'),
        (("nodes",), {"0": {}}, "nodes: expected array, got object"),
        (("nodes",), None, "nodes: required, but not given"),
    ],
)
def test_a_graph_is_refused_if_its_nodes_cannot_be_told_apart_and_the_fault_is_named(
    graph: dict[str, Any], place: tuple[Any, ...], value: Any, reason: str
) -> None:
    replace(graph, place, value)

    with pytest.raises(InvalidDocument) as raised:
        decode_graph(encoded(graph))

    assert str(raised.value) == reason


def replace(document: Any, place: tuple[Any, ...], value: Any) -> None:
    for step in place[:-1]:
        document = document[step]
    document[place[-1]] = value


@pytest.mark.parametrize(
    ("place", "value", "warning"),
    [
        (("nodes", 1, "cluster_id"), [1, 2], "malformed nodes[].cluster_id"),
        (("nodes", 1, "cluster_id"), 2**63, "nodes[].cluster_id read as text"),
        (("nodes", 1, "num_messages"), "many", "malformed nodes[].num_messages"),
        (("nodes", 1, "num_messages"), 2**63, "malformed nodes[].num_messages"),
        (("nodes", 1, "timestamp"), {}, "malformed nodes[].timestamp"),
        (("nodes", 1, "orig_id"), 17, "nodes[].orig_id read as text"),
        (("nodes", 0, "keywords"), "Lisbon", "malformed nodes[].keywords"),
        (("nodes", 0, "keywords"), [["Lisbon", 1, 2], {"term": "Porto"}], "malformed nodes[].keywords[]"),
        (("nodes", 0, "metadata"), [], "malformed nodes[].metadata"),
        (("edges",), {}, "malformed edges"),
        (("edges", 0), 7, "malformed edges[]"),
        (("edges", 0), {"source": 0}, "malformed edges[]"),
        (("edges", 0, "target"), True, "malformed edges[]"),
        (("edges", 0, "weight"), "close", "malformed edges[].weight"),
        (("subclusters", 0), "s1", "malformed subclusters[]"),
        (("subclusters", 0, "id"), "9" * 3000, "malformed subclusters[]"),
        (("subclusters", 0, "node_ids"), [0, "x"], "malformed subclusters[].node_ids[]"),
        (("subclusters", 0, "representative_node_id"), [], "malformed subclusters[].representative_node_id"),
        (("metadata",), 7, "malformed metadata"),
        (("metadata", "clusters"), "none", "malformed metadata.clusters"),
        (("metadata", "clusters", "cluster_2"), ["a"], "malformed metadata.clusters[]"),
        (("metadata", "clusters", "cluster_1", "key_themes"), ["a", []], "malformed metadata.clusters[].key_themes[]"),
        (
            ("metadata", "clusters", "cluster_1", "key_themes"),
            ["a", 5],
            "metadata.clusters[].key_themes[] read as text",
        ),
        (("metadata", "clusters", "cluster_1", "description"), {}, "malformed metadata.clusters[].description"),
    ],
)
def test_a_malformed_part_of_a_graph_costs_that_part_and_is_counted(
    graph: dict[str, Any], place: tuple[Any, ...], value: Any, warning: str
) -> None:
    replace(graph, place, value)
    warnings: Warnings = {}

    document = decode_graph(encoded(graph), warnings=warnings)

    assert warnings == {warning: 1}
    assert len(document.nodes) == 2
    if place[0] != "nodes":
        assert document.nodes == decode_graph(encoded(graph)).nodes


def test_the_rest_of_a_part_stays(graph: dict[str, Any]) -> None:
    graph["nodes"][1] |= {"cluster_id": [], "orig_id": 17}
    graph["edges"] += [{"source": 1}, {"source": 1, "target": 0, "weight": "close"}]
    graph["subclusters"][0]["node_ids"] = [0, {}, 1]

    document = decode_graph(encoded(graph))

    assert [(node.orig_id, node.cluster_id, node.num_messages) for node in document.nodes][1] == ("17", None, 3)
    assert [(edge.source, edge.target, edge.weight) for edge in document.edges] == [(0, 1, 0.8), (1, 0, None)]
    assert document.subclusters[0].node_ids == [0, 1]


def test_what_is_stored_unchanged_stays_so_beside_a_malformed_part(graph: dict[str, Any]) -> None:
    kept = {"nothing": None, "empty": "", "nul": 7}
    graph["nodes"][0] |= {"metadata": kept, "cluster_confidence": []}

    assert decode_graph(encoded(graph)).nodes[0].metadata == kept


@pytest.mark.parametrize(
    "clusters",
    [
        {"cluster_1": {"name": "여행"}, "total_clusters": 1, "average_size": 2.5},
        {"total_clusters": 1, "clusters": [{"cluster_id": "cluster_1", "name": "여행"}]},
        {"total_clusters": 1, "clusters": [{"id": "cluster_1", "name": "여행"}]},
        [{"id": "cluster_1", "name": "여행"}, {"id": "cluster_1", "name": "again"}],
    ],
    ids=["counts among the entries", "an array inside", "an array with id", "an array"],
)
def test_older_files_describe_clusters_in_other_forms(graph: dict[str, Any], clusters: Any) -> None:
    graph["metadata"]["clusters"] = clusters
    warnings: Warnings = {}

    described = decode_graph(encoded(graph), warnings=warnings).clusters

    assert {cluster_id: cluster.name for cluster_id, cluster in described.items()} == {"cluster_1": "여행"}
    assert warnings == {}


def test_a_listed_cluster_without_an_id_is_left_out_and_counted(graph: dict[str, Any]) -> None:
    graph["metadata"]["clusters"] = [{"name": "nobody's"}, "cluster_1", {"id": 0, "name": "zero"}]
    warnings: Warnings = {}

    assert decode_graph(encoded(graph), warnings=warnings).clusters.keys() == {"0"}
    assert warnings == {"clusters without an ID": 1, "malformed metadata.clusters[]": 1}


@pytest.mark.parametrize(
    "document",
    [
        {"nodes": [{"id": 0, "orig_id": "a"}], "edges": [{"source": 0, "target": -1}]},
        {"nodes": [], "subclusters": [{"id": "s", "node_ids": [None], "representative_node_id": -1}]},
        {"nodes": [], "metadata": {"clusters": {"total_clusters": 1, "clusters": []}}},
        {"nodes": [{"id": 0, "orig_id": "a", "keywords": [["rye", 0.7], "bread", {"term": "x"}, ["y", None]]}]},
    ],
)
def test_forms_that_the_ai_server_sends_are_no_fault(document: Any) -> None:
    warnings: Warnings = {}

    decode_graph(encoded(document), warnings=warnings)

    assert warnings == {}


def test_a_long_value_is_shortened_in_the_reason(graph: dict[str, Any]) -> None:
    graph["nodes"][0]["orig_id"] = "x" * (MAX_ID_LENGTH + 1)

    with pytest.raises(InvalidDocument, match=rf'length <= {MAX_ID_LENGTH}, got "x+…') as raised:
        decode_graph(encoded(graph))

    assert len(str(raised.value)) < 150


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not JSON: empty"),
        (b" \n", "not JSON: empty"),
        (b"\xef\xbb\xbf", "not JSON: empty"),
        (b'{"nodes": [], "language": "\xe9t\xe9"', "not UTF-8: byte 0xe9 at byte 27"),
        (b'{"nodes": [1,]}', "not JSON: trailing comma in array (byte 13), near '{\"nodes\": [1,]}'"),
        (b'{"nodes": [{"id": _}]}', '(byte 18), near \'{"nodes": [{"id": _}]}\''),
        (b'{"nodes": [', "not JSON: input data was truncated (11 bytes)"),
        (b"<html></html>", "not JSON: invalid character (byte 0), near '<html></html>'"),
        (b"null", "the document: expected object, got null"),
        (b"[]", "the document: expected object, got array"),
        (b'{"nodes": [], "x": ' + b"[" * 100_000, "nested too deep"),
        (b'{"nodes": [], "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deep"),
    ],
)
def test_other_bytes_are_refused_with_the_place_or_the_kind(raw: bytes, reason: str) -> None:
    with pytest.raises(InvalidDocument, match=re.escape(reason)):
        decode_graph(raw)


def test_nul_is_removed_and_counted_but_not_an_escaped_backslash(graph: dict[str, Any]) -> None:
    graph["nodes"][0]["cluster_name"] = "a\x00b"
    graph["nodes"][1]["cluster_name"] = r"\u0000 in C"
    graph["metadata"]["clusters"] = {"c\x00": {"name": "\\\x00"}}
    warnings: Warnings = {}

    document = decode_graph(encoded(graph), warnings=warnings)

    assert document.nodes[0].cluster_name == "ab"
    assert document.nodes[1].cluster_name == r"\u0000 in C"
    assert document.clusters["c"].name == "\\"
    assert warnings == {"NUL characters removed": 3}


@given(st.text(alphabet=st.sampled_from('\\u0\x00"d8a😀\ud800\udc00'), max_size=12))
def test_any_text_is_decoded_without_nul_and_lone_surrogates(text: str) -> None:
    raw = json.dumps({"nodes": [{"id": 0, "orig_id": "a", "cluster_name": text}]}).encode()

    name = decode_graph(raw).nodes[0].cluster_name

    # JSON decodes an escaped surrogate pair; a lone surrogate becomes U+FFFD.
    meant = json.loads(json.dumps(text)).replace("\x00", "")
    if "\x00" not in text:
        assert name == re.sub("[\ud800-\udfff]", "\ufffd", meant)
    assert "\x00" not in (name or "")
    assert (name or "").encode().decode() == name


def test_broken_characters_are_counted(graph: dict[str, Any]) -> None:
    graph["nodes"][0]["cluster_name"] = "\ud83d and 😀 and \ude00"
    warnings: Warnings = {}

    assert decode_graph(encoded(graph), warnings=warnings).nodes[0].cluster_name == "\ufffd and 😀 and \ufffd"
    assert warnings == {"broken characters replaced": 2}


@pytest.mark.parametrize("decode", DECODERS)
@given(document=faulty_documents)
def test_any_json_is_decoded_or_refused_as_an_invalid_document(decode: Callable[[bytes], Any], document: Any) -> None:
    with contextlib.suppress(InvalidDocument):
        decode(json.dumps(document).encode())


@pytest.mark.parametrize("decode", DECODERS)
@given(raw=st.binary(max_size=40))
def test_any_bytes_are_decoded_or_refused_as_an_invalid_document(decode: Callable[[bytes], Any], raw: bytes) -> None:
    with contextlib.suppress(InvalidDocument):
        decode(raw)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1.5E+999", "9" * 400 + ".5e1"])
def test_a_number_that_is_not_finite_is_none_and_counted(number: str) -> None:
    text = '{"nodes": [{"id": 0, "orig_id": "a", "cluster_confidence": %s, "metadata": {"x": [%s, "1e400 NaN"]}}]}'
    warnings: Warnings = {}

    (node,) = decode_graph((text % (number, number)).encode(), warnings=warnings).nodes

    assert node.cluster_confidence is None
    assert node.metadata == {"x": [None, "1e400 NaN"]}
    assert warnings == {"numbers that are not finite": 2}


def test_a_large_finite_number_stays() -> None:
    raw = b'{"nodes": [{"id": 0, "orig_id": "a", "metadata": {"x": [1e308, 0.1e308, NaN]}}]}'

    assert decode_graph(raw).nodes[0].metadata == {"x": [1e308, 0.1e308, None]}


def test_a_required_number_that_is_not_finite_is_reported_as_not_given() -> None:
    with pytest.raises(InvalidDocument, match=r"nodes\[0\]\.id: required, but not given"):
        decode_graph(b'{"nodes": [{"id": NaN, "orig_id": "a"}]}')


def test_an_integer_of_any_length_is_refused_with_a_reason() -> None:
    with pytest.raises(InvalidDocument):
        decode_graph(b'{"nodes": [{"id": %b, "orig_id": "a"}]}' % (b"9" * 5000))


def test_an_integer_over_64_bits_is_kept_where_it_is_only_displayed(graph: dict[str, Any]) -> None:
    graph["nodes"][1]["metadata"] = {"bytes": 2**80}

    assert decode_graph(encoded(graph)).nodes[1].metadata == {"bytes": 2**80}


def test_the_last_of_two_equal_keys_counts() -> None:
    raw = b'{"nodes": [], "nodes": [{"id": 7, "id": 8, "orig_id": "a", "metadata": {"x": 1, "x": 2}}]}'

    (node,) = decode_graph(raw).nodes

    assert (node.id, node.metadata) == (8, {"x": 2})


FEATURES = {
    "conversations": [{"id": 0, "orig_id": "conv-1", "keywords": [{"term": "], NaN,"}]}, {"id": 1}, {"orig_id": None}],
    "embeddings": [[0.5, None, "0.25"], [1, -2e-3, 3], None],
    "metadata": {"total": 3},
}


@pytest.mark.parametrize("order", list(itertools.permutations(FEATURES)))
def test_features_are_read_in_any_order_of_keys(order: tuple[str, ...]) -> None:
    raw = json.dumps({name: FEATURES[name] for name in order}).encode()

    assert read_features(raw) == (["conv-1", None, None], [[0.5, None, 0.25], [1.0, -0.002, 3.0], []])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1 << 20])
def test_nan_in_features_is_missing_wherever_a_piece_ends(size: int) -> None:
    raw = b'\xef\xbb\xbf{"conversations": [{"orig_id": "NaN"}], "embeddings": [[NaN, -Infinity,Infinity , 0.5, NaN]]}'

    assert read_features(raw, size=size) == (["NaN"], [[None, None, None, 0.5, None]])


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_nan_beside_the_rows_does_no_harm(word: str) -> None:
    raw = (
        '{"conversations": [{"orig_id": "a\\u0000b", "keywords": [{"term": "x", "score": %s}]}],'
        ' "embeddings": [[0.5]], "metadata": {"silhouette": %s}}'
    )

    assert read_features((raw % (word, word)).encode()) == (["ab"], [[0.5]])


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "conversations: required, but not given"),
        (b'{"conversations": null, "embeddings": []}', "conversations: required, but not given"),
        (b'{"conversations": ["a"]}', 'conversations[0]: expected object, got "a"'),
        (b'{"conversations": [], "embeddings": [[0.5, "x"]]}', 'embeddings[0][1]: expected float, got "x"'),
        (b'{"conversations": [], "embeddings": [{}, {"a": 1}]}', "embeddings[1]: expected array, got object"),
        (b'{"conversations": [], "embeddings": [[0.5]', "not JSON"),
        (b'{"conversations": [], "embeddings": [[1e400]]}', "not JSON: parse error: numeric (floating point) overflow"),
        (b'{"conversations": [{"orig_id": "\xff"}], "embeddings": []}', "not JSON"),
    ],
)
def test_other_documents_are_refused_as_features_with_the_place(raw: bytes, problem: str) -> None:
    with pytest.raises(InvalidDocument, match=re.escape(problem)):
        read_features(raw)


def test_a_summary_keeps_its_fields(summary: dict[str, Any]) -> None:
    document = decode_summary(encoded(summary))

    assert document.overview.summary_text == "주로 여행"
    assert document.clusters[0].recency == "active"
    assert document.patterns[0].evidence == ["conv-1"]
    assert document.connections[0].target_cluster == "cluster_2"
    assert document.recommendations[0].priority == "low"
    assert document.detail_level == "standard"


def test_a_summary_needs_an_overview() -> None:
    with pytest.raises(InvalidDocument, match=r"^overview: required, but not given$"):
        decode_summary(b'{"clusters": [], "overview": null}')


def test_an_error_is_short_and_printable() -> None:
    with pytest.raises(InvalidDocument) as raised:
        decode_graph(encoded({"nodes": [{"id": "\x1b[31m\u202e" * 1000}]}))

    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b'{"conversations": [{"orig_id": "\xc0\x80"}]}', "not UTF-8: "),
        (b'{"conversations": {"item": []}}', "conversations: expected array, got object"),
        (b'{"x": ' + b"[" * 2000 + b"]" * 2000 + b', "conversations": []}', "not a document: nested too deep"),
        (b'{"x": "' + b"x, " * (1 << 20) + b'", "conversations": []}', "not a document: over 1048576 bytes without"),
        (b'{"conversations": [[' + b"1," * (1 << 17) + b"1]]}", "conversations: over 65536 values in an array, before"),
    ],
)
def test_a_features_document_that_would_fill_the_memory_is_refused(raw: bytes, problem: str) -> None:
    with pytest.raises(InvalidDocument, match=f"^{re.escape(problem)}"):
        read_features(raw)


def test_nested_values_in_conversations_and_rows_are_left_out() -> None:
    raw = encoded(
        {
            "conversations": [{"keywords": [{"orig_id": "no"}], "orig_id": "a", "more": {"orig_id": "no"}}, {}],
            "embeddings": [[1, "0.5"], None, []],
        }
    )

    assert read_features(raw) == (["a", None], [[1.0, 0.5], [], []])


def test_an_id_that_no_node_can_have_is_none() -> None:
    raw = encoded({"conversations": [{"orig_id": "x" * (MAX_ID_LENGTH + 1)}, {"orig_id": ["a"]}, {"orig_id": 7}]})

    assert read_features(raw) == ([None, None, "7"], [])


@pytest.mark.parametrize("name", ["conversations", "embeddings"])
def test_the_number_of_conversations_and_embeddings_is_limited(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MOST_CONVERSATIONS", 3)

    names, rows = read_features(encoded({"conversations": [{}] * 3, "embeddings": [[]] * 3}))
    assert (len(names), len(rows)) == (3, 3)
    with pytest.raises(InvalidDocument, match=rf"^{name}: expected at most 3, got more$"):
        read_features(encoded({"conversations": [], name: [{} if name == "conversations" else []] * 4}))


def test_an_add_node_batch_is_read_in_camel_case() -> None:
    batch = decode_add_node_batch(
        encoded(
            {
                "userId": "u",
                "processedCount": 1,
                "results": [
                    {
                        "noteId": "note-1",
                        "nodes": [{"id": "u_note-1", "origId": "note-1", "clusterId": 3, "numSections": 2}],
                        "edges": [{"source": "u_note-1", "target": 4}, {"source": "1", "target": "a"}],
                        "assignedCluster": {"clusterId": "3", "isNewCluster": True, "themes": None},
                        "skipped": None,
                        "error": None,
                    }
                ],
            }
        )
    )

    assert batch.results
    result = batch.results[0]
    assert batch.user_id == "u"
    assert result.conversation_id is None
    assert result.note_id == "note-1"
    assert result.nodes[0].cluster_id == 3
    assert [(edge.source, edge.target) for edge in result.edges] == [("u_note-1", 4), ("1", "a")]
    assert result.edges[0].intra_cluster is True
    assert result.assigned_cluster is not None
    assert result.assigned_cluster.themes == []
    assert result.skipped is False


def test_chunks_are_an_array_or_one_chunk() -> None:
    chunk = {"nodes": [{"name": "TCP", "source_chunk_id": 0}], "edges": [{"start": "TCP", "target": "IP"}]}

    assert decode_chunks(encoded(chunk)) == decode_chunks(encoded([chunk]))
    assert decode_chunks(encoded([chunk]))[0].edges[0].target == "IP"
    assert decode_chunks(b"[]") == []


def test_a_chunk_is_known_by_its_nodes_and_may_be_empty_in_an_array() -> None:
    warnings: Warnings = {}

    assert decode_chunks(b'[{"nodes": []}, {}, {"nodes": null}]', warnings=warnings) == decode_chunks(b"[{}, {}, {}]")
    assert warnings == {}
    with pytest.raises(InvalidDocument, match=r"^nodes: required, but not given$"):
        decode_chunks(b"{}")


@pytest.mark.parametrize(
    ("decode", "document", "warning"),
    [
        (decode_chunks, ["TCP", {"nodes": [{"name": "TCP"}]}], "malformed []"),
        (decode_chunks, [{"nodes": 7}], "malformed [].nodes"),
        (decode_chunks, [{"nodes": [7, {"name": "TCP"}]}], "malformed [].nodes[]"),
        (decode_chunks, {"nodes": [{"name": "TCP"}], "edges": [7]}, "malformed edges[]"),
        (decode_block_graph, {"blocks": [7, {"block_id": "b"}]}, "malformed blocks[]"),
        (decode_block_graph, {"blocks": [{"turn_range": [1]}]}, "malformed blocks[].turn_range"),
        (decode_block_graph, {"block_graph": {"blocks": [{"title": []}]}}, "malformed block_graph.blocks[].title"),
        (decode_block_graph, {"blocks": [{"micro_graph": []}]}, "malformed blocks[].micro_graph"),
        (decode_block_graph, {"blocks": [{"micro_graph": {"nodes": {}}}]}, "malformed blocks[].micro_graph.nodes"),
        (decode_block_graph, {"blocks": [], "edges": ["b"]}, "malformed edges[]"),
        (decode_summary, {"overview": {"summary_text": []}}, "malformed overview.summary_text"),
        (decode_summary, {"overview": {}, "patterns": [7]}, "malformed patterns[]"),
        (decode_add_node_batch, {"results": [7]}, "malformed results[]"),
        (decode_add_node_batch, {"results": [{"nodes": [7]}]}, "malformed results[].nodes[]"),
        (decode_add_node_batch, {"results": [{"assignedCluster": 7}]}, "malformed results[].assignedCluster"),
        (decode_add_node_batch, {"results": [{"skipped": "maybe"}]}, "malformed results[].skipped"),
        (decode_add_node_batch, {"results": [], "userId": 7}, "userId read as text"),
    ],
)
def test_a_malformed_part_of_another_document_costs_that_part_and_is_counted(
    decode: Callable[..., Any], document: Any, warning: str
) -> None:
    warnings: Warnings = {}

    decode(encoded(document), warnings=warnings)

    assert warnings == {warning: 1}


def test_a_turn_range_of_no_turns_is_no_fault() -> None:
    warnings: Warnings = {}

    (block,) = decode_block_graph(b'{"blocks": [{"block_id": "b", "turn_range": []}]}', warnings=warnings).blocks

    assert (block.turn_range, warnings) == (None, {})


@pytest.mark.parametrize("nothing", [b"null", b'""', b"[]"])
def test_a_batch_without_results_is_no_fault(nothing: bytes) -> None:
    warnings: Warnings = {}

    assert not decode_add_node_batch(b'{"results": %b}' % nothing, warnings=warnings).results
    assert warnings == {}


@pytest.mark.parametrize(
    ("decode", "document", "reason"),
    [
        (decode_add_node_batch, {}, "results: required, but not given"),
        (decode_add_node_batch, {"results": {}}, "results: expected array, got object"),
        (decode_chunks, [7, "TCP"], "[0]: expected object, got 7"),
        (decode_chunks, "TCP", 'the document: expected object or array, got "TCP"'),
        (decode_block_graph, {"blocks": [7]}, "blocks[0]: expected object, got 7"),
        (decode_block_graph, {"blocks": {}}, "blocks: expected array, got object"),
        (decode_block_graph, {"block_graph": 7}, "blocks: required, but not given"),
        (decode_block_graph, {"block_graph": {"blocks": [7]}}, "block_graph.blocks[0]: expected object, got 7"),
        (decode_summary, {"overview": []}, "overview: expected object, got array"),
    ],
)
def test_a_document_of_which_nothing_is_readable_is_refused_with_its_place(
    decode: Callable[[bytes], Any], document: Any, reason: str
) -> None:
    with pytest.raises(InvalidDocument) as raised:
        decode(encoded(document))

    assert str(raised.value) == reason


@pytest.mark.parametrize("name", ["block_id", "id"])
def test_a_block_graph_is_bare_or_wrapped_and_blocks_have_either_id(name: str) -> None:
    graph = {
        "blocks": [{name: "b1", "title": "소개", "turn_range": [0, 4], "micro_graph": {"nodes": [{}]}}],
        "edges": [{"source": "b1", "target": "b2", "type": "FOLLOWS", "confidence": 0.5}],
        "paths": [["b1", "b2"]],
        "ordering_rationale": "as it was said",
    }

    document = decode_block_graph(encoded(graph))

    assert document == decode_block_graph(encoded({"block_graph": graph}))
    assert document.blocks[0].block_id == "b1"
    assert document.blocks[0].turn_range == (0, 4)
    assert document.paths == [["b1", "b2"]]


@pytest.mark.parametrize(
    ("document", "is_block_graph"),
    [
        ({"blocks": [{"block_id": "b"}]}, True),
        ({"block_graph": {"blocks": [{"block_id": "b"}]}}, True),
        ({"blocks": [{"block_id": "b"}], "nodes": [], "block_graph": None}, True),
        ([{"nodes": [{"name": "TCP"}]}], False),
        ({"nodes": [{"name": "TCP"}]}, False),
        ({"nodes": [{"name": "TCP"}], "block_graph": None}, False),
    ],
    ids=["bare", "wrapped", "bare with other fields", "chunks", "one chunk", "one chunk with another field"],
)
def test_a_microscope_document_sent_whole_is_what_its_content_is(document: Any, is_block_graph: bool) -> None:
    decoded = decode_microscope(encoded(document), half=None)

    assert decoded == (decode_block_graph if is_block_graph else decode_chunks)(encoded(document))


def test_a_microscope_document_told_by_its_content_is_repaired_and_refused_as_others_are() -> None:
    warnings: dict[str, int] = {}
    decoded = decode_microscope(b'\xef\xbb\xbf{"blocks": [{"order_index": NaN}]}', half=None, warnings=warnings)

    assert decoded == decode_block_graph(b'{"blocks": [{}]}')
    assert sum(warnings.values()) == 1
    for other in (b"7", b'["TCP"]', b"{"):
        with pytest.raises(InvalidDocument):
            decode_microscope(other, half=None)


@pytest.mark.parametrize(("half", "other"), [("block", b"[]"), ("non_block", b'{"blocks": []}')])
def test_the_document_of_a_half_is_the_halfs(half: Half, other: bytes) -> None:
    with pytest.raises(InvalidDocument):
        decode_microscope(other, half=half)
