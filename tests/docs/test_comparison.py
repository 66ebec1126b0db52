"""docs/comparison.md has a source for each statement, and README's short table agrees with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.compare import CELERY, SQS_CONSUMER
from benchmarks.compared import work
from benchmarks.compared.trial import Service

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "comparison.md").read_text()
README = (ROOT / "README.md").read_text()

#: The columns of each comparing table.
COMPARED = ["this worker", "dramatiq_sqs", "sqs-consumer", "Celery on SQS", "Lambda"]

#: The first word of a cell.
VERDICT = re.compile(r"(yes|no|partly|yours)\b")

#: A link with a target or a reference. The first group is the reference's name.
LINK = re.compile(r"\]\([^)]+\)|(?:\]\[|\[)([^\]\[]+)\](?![\[(:])")

REFERENCE = re.compile(r"^\[([^\]]+)\]: (\S+)$", re.MULTILINE)


def rows(text: str) -> dict[str, list[str]]:
    """The rows of all comparing tables: the compared property, and a cell for each column."""
    found: dict[str, list[str]] = {}
    columns: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            columns = []
            continue
        first, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        if not columns:
            columns = cells
        elif columns == COMPARED and not set(first) <= set("-: "):
            found[first] = cells
    return found


@pytest.mark.parametrize("what", rows(DOCUMENT))
def test_each_cell_of_the_comparison_has_a_verdict_and_a_source(what: str) -> None:
    cells = rows(DOCUMENT)[what]

    assert len(cells) == len(COMPARED)
    for cell in cells:
        assert VERDICT.match(cell), cell
        assert LINK.search(cell), cell


def test_the_comparison_defines_each_reference_once_and_uses_it() -> None:
    defined = [name for name, _ in REFERENCE.findall(DOCUMENT)]
    used = {name for name in LINK.findall(DOCUMENT) if name}

    assert sorted(defined) == sorted(used)


def test_the_readmes_table_agrees_with_the_comparison() -> None:
    short, whole = rows(README), rows(DOCUMENT)

    assert len(short) > 10
    for what, verdicts in short.items():
        assert verdicts == [VERDICT.match(cell)[0] for cell in whole[what]], what  # type: ignore[index]


def test_the_compared_versions_are_the_measured_ones() -> None:
    pinned = (ROOT / "locks" / "worker.txt").read_text()
    ours = re.search(r"^dramatiq-sqs==(\S+)", pinned, re.MULTILINE)

    assert ours
    named = (f"dramatiq_sqs {ours[1]}", SQS_CONSUMER.replace("@", " "), *(one.replace("[sqs]", "") for one in CELERY))
    for version in named:
        assert version.replace("==", " ").lower() in DOCUMENT.lower(), version


def test_a_message_that_needs_the_service_fails_until_it_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    monkeypatch.setattr(work, "NEEDED_PORT", service.port)

    with pytest.raises(ConnectionRefusedError):
        work.handle("one", "needs", 0)

    service.open()
    work.handle("one", "needs", 0)
