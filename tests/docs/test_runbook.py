"""docs/runbook.md has a chapter for each alert and each reason, and each chapter answers the four questions."""

from __future__ import annotations

import re

import pytest

from graphnode.operations.dead_letters.advice import ADVICE, UNKNOWN, runbook_chapter
from tests.docs.runbook import DOCUMENT, QUESTIONS, Chapter, anchor, chapters

CHAPTERS = chapters()

ALERTS = set(
    re.findall(r"docs/runbook.md#(\S+)", (DOCUMENT.parents[1] / "deploy" / "alerts.yml").read_text(encoding="utf-8"))
)


def test_there_is_a_chapter_for_each_alert_and_each_reason_and_no_other() -> None:
    assert {anchor(title) for title in CHAPTERS} == ALERTS | {reason.lower() for reason in ADVICE}


def test_a_dead_letter_is_shown_with_its_chapter() -> None:
    shown = {runbook_chapter(reason) for reason in [*ADVICE, UNKNOWN]}

    assert {link.partition("#")[2] for link in shown} <= {anchor(title) for title in CHAPTERS}
    assert len(shown) == len(ADVICE) + 1


@pytest.mark.parametrize("chapter", CHAPTERS.values(), ids=CHAPTERS)
def test_each_chapter_answers_the_four_questions_in_their_order(chapter: Chapter) -> None:
    asked = re.findall(r"^\*\*(\w+):\*\* \S", chapter.text, re.MULTILINE)

    assert tuple(asked) == QUESTIONS
    assert all(command.says for step in chapter.steps for command in step)
    # The answer to the last question is a command too.
    assert re.search(r"`graphnode [^`]+`\s+says\s", chapter.text.partition("**Over:**")[2])


def test_each_named_command_is_also_run() -> None:
    run = [command.line for chapter in CHAPTERS.values() for step in chapter.steps for command in step]
    named = re.findall(r"`(graphnode [^`]+)`", DOCUMENT.read_text(encoding="utf-8"))

    assert [name for name in named if not any(line.startswith(name) for line in run)] == []
    assert "aws " not in " ".join(run)


def test_each_link_within_the_runbook_leads_somewhere() -> None:
    links = re.findall(r"\]\(#([^)]+)\)", DOCUMENT.read_text(encoding="utf-8"))

    assert set(links) <= {anchor(title) for title in CHAPTERS}
