from __future__ import annotations

import io
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from graphnode.dev.demo import CORPUS, Report, connected_pairs, count_sources, merge, verdict


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def report(output: io.StringIO) -> Report:
    """A report as it comes out of a pipe."""
    return Report(Console(file=output, width=80))


def graph(*edges: tuple[int, int]) -> dict[str, Any]:
    """Nodes 0 to 3, two in each of two clusters."""
    return {
        "nodes": [
            {
                "id": number,
                "orig_id": f"src0_c{number}",
                "cluster_id": f"cluster_{number // 2}",
                "cluster_name": f"Cluster {number // 2}",
            }
            for number in range(4)
        ],
        "edges": [{"source": source, "target": target} for source, target in edges],
    }


def added(orig_id: str, cluster: str, *edges: tuple[str | int, str | int]) -> dict[str, Any]:
    return {
        "nodes": [{"origId": orig_id, "clusterId": cluster, "clusterName": f"Added as {cluster}"}],
        "edges": [{"source": source, "target": target} for source, target in edges],
        "skipped": False,
        "error": None,
    }


def test_edges_count_once_and_only_between_two_nodes_that_exist() -> None:
    assert connected_pairs(graph((0, 1), (1, 0), (2, 2), (3, 9))) == {frozenset((0, 1))}


def test_a_merge_adds_new_nodes_and_moves_known_ones() -> None:
    merged = merge(graph((0, 1)), {"results": [added("new", "cluster_1"), added("c0", "cluster_1")]})

    assert merged.cluster_of == {
        "c0": "cluster_1",
        "c1": "cluster_0",
        "c2": "cluster_1",
        "c3": "cluster_1",
        "new": "cluster_1",
    }
    assert merged.moved == {"c0": "cluster_1"}
    assert merged.new_nodes == 1


def test_a_merge_keeps_the_names_of_known_clusters() -> None:
    merged = merge(graph(), {"results": [added("a", "cluster_0"), added("b", "cluster_7")]})

    assert merged.cluster_names == {
        "cluster_0": "Cluster 0",
        "cluster_1": "Cluster 1",
        "cluster_7": "Added as cluster_7",
    }


def test_a_merge_finds_the_ends_of_edges_by_number_and_by_name() -> None:
    batch = {"results": [added("new", "c", ("demo-user_new", 2), ("new", "3"), ("new", "c3"), (0, 1), ("new", "gone"))]}

    merged = merge(graph((0, 1)), batch)

    assert merged.edges == {frozenset(("c0", "c1")), frozenset(("new", "c2")), frozenset(("new", "c3"))}
    assert merged.new_edges == 2


def test_a_merge_leaves_out_what_was_skipped_or_failed() -> None:
    results = [added("a", "c") | {"skipped": True}, added("b", "c") | {"error": "unreadable"}]

    assert merge(graph(), {"results": results}).new_nodes == 0


def test_what_is_right_is_ticked(report: Report, output: io.StringIO) -> None:
    report.check("graph_nodes", 36, expected=36)

    assert output.getvalue() == "  ✓ graph_nodes         36\n"
    assert verdict(report) == "All 1 checks passed."


def test_what_is_wrong_is_crossed_with_what_was_expected(report: Report, output: io.StringIO) -> None:
    report.check("graph_nodes", 35, expected=36)

    assert output.getvalue() == "  ✗ graph_nodes         35 (expected 36)\n"
    assert verdict(report) == "1 of 1 checks failed."


def test_long_texts_stay_in_their_column_within_80(report: Report, output: io.StringIO) -> None:
    report.note("clusters", "교토 여행 Learning Rust " * 10)

    lines = output.getvalue().splitlines()
    assert len(lines) > 1
    assert all(line.startswith(" " * 24) for line in lines[1:])
    assert all(line == line.rstrip() for line in lines)


def test_a_label_of_wide_letters_keeps_its_column(report: Report, output: io.StringIO) -> None:
    report.note("비-오는-교토", "교토 여행")
    report.note("sauerteig", "Teig")

    assert [cell_len(line.rpartition("  ")[0]) for line in output.getvalue().splitlines()] == [22, 22]


def test_a_folders_sources_are_counted_by_the_ending_of_their_file() -> None:
    assert count_sources(CORPUS / "sources") == {".json": 14, ".md": 16, ".txt": 6}
    assert count_sources(CORPUS / "nowhere") == {}
