"""Reads docs/runbook.md for the tests: its chapters, their commands, and the expected outputs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

DOCUMENT = Path(__file__).parents[2] / "docs" / "runbook.md"

#: The questions that every chapter answers, in this order.
QUESTIONS = ("Wrong", "Data", "Do", "Over")

#: Commands: in a console block, or in a sentence "`command` says `output`".
PLACES = re.compile(
    r"^```console\n(?P<block>.*?)^```$|`(?P<line>graphnode [^`]+)`\s+says\s+`(?P<says>[^`]+)`", re.MULTILINE | re.DOTALL
)

EXIT_CODE = re.compile(r"# exit code (\d)$")


class Command(NamedTuple):
    """A command, with the texts that its output must contain, in this order. `…` stands for anything."""

    line: str
    exit_code: int
    says: list[str]


class Chapter(NamedTuple):
    """The chapter of an alert or of a reason.

    Parameters:
      steps: the commands of each step.
    """

    title: str
    text: str
    steps: list[list[Command]]


def chapters() -> dict[str, Chapter]:
    """The chapters by their titles."""
    _, *parts = re.split(r"^##+ ", DOCUMENT.read_text(), flags=re.MULTILINE)
    split = (part.partition("\n") for part in parts)
    return {title: Chapter(title, text, list(_steps(text))) for title, _, text in split}


def anchor(title: str) -> str:
    """The fragment of a link to a chapter."""
    return title.lower().replace(" ", "-")


def _steps(text: str) -> Iterator[list[Command]]:
    for found in PLACES.finditer(text):
        if found["line"]:
            yield [Command(found["line"], 0, [found["says"]])]
        else:
            first, *typed = re.split(r"^\$ ", found["block"], flags=re.MULTILINE)
            assert not first, f"a console block does not begin with a command: {first}"
            yield [_command(lines.splitlines()) for lines in typed]


def _command(lines: list[str]) -> Command:
    code = EXIT_CODE.search(lines[0])
    return Command(lines[0].partition(" #")[0].rstrip(), int(code[1]) if code else 0, lines[1:])
