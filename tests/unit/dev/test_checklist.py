from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from graphnode.dev.checklist import Checklist


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def checklist(output: io.StringIO) -> Checklist:
    """A checklist that prints into a pipe."""
    return Checklist(Console(file=output, width=80))


def test_a_passed_check_has_a_tick(checklist: Checklist, output: io.StringIO) -> None:
    checklist.check("graph_nodes", 36, expected=36)

    checklist.verdict()

    assert output.getvalue() == "  ✓ graph_nodes         36\n\nAll 1 checks passed.\n"


def test_a_failed_check_has_a_cross_and_the_expected_value(checklist: Checklist, output: io.StringIO) -> None:
    checklist.check("graph_nodes", 35, expected=36)

    checklist.verdict()

    assert output.getvalue() == "  ✗ graph_nodes         35 (expected 36)\n\n1 of 1 checks failed.\n"


def test_long_texts_stay_in_their_column_within_80(checklist: Checklist, output: io.StringIO) -> None:
    checklist.note("clusters", "교토 여행 Learning Rust " * 10)

    lines = output.getvalue().splitlines()
    assert len(lines) > 1
    assert all(line.startswith(" " * 24) for line in lines[1:])
    assert all(line == line.rstrip() for line in lines)


def test_a_label_of_wide_letters_keeps_its_column(checklist: Checklist, output: io.StringIO) -> None:
    checklist.note("비-오는-교토", "교토 여행")
    checklist.note("sauerteig", "Teig")

    assert [cell_len(line.rpartition("  ")[0]) for line in output.getvalue().splitlines()] == [22, 22]


def test_ids_are_shortened_to_their_last_characters(checklist: Checklist, output: io.StringIO) -> None:
    checklist.note("task", "task_graph_demo-user_01M8MP06S9PE9BVR4X25VARWKC_block")

    assert output.getvalue() == "  → task                task_graph_demo-user_…VARWKC_block\n"
