from __future__ import annotations

import json
from pathlib import Path

import pytest

import graphnode.cli
from graphnode.cli.json_output import echo_json
from graphnode.text import escaped

#: A control sequence, a direction, a line separator, an invisible character, and a tag.
HOSTILE = "eve\x1b[2J\x9b31m\u202e\u2028\u200b\U000e0041\n"


@pytest.mark.parametrize("on_one_line", [False, True])
def test_json_means_the_same_and_has_no_character_that_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str], on_one_line: bool
) -> None:
    value = {"user": HOSTILE, HOSTILE: [HOSTILE, 1, None]}

    echo_json(value, on_one_line=on_one_line)

    printed = capsys.readouterr().out
    assert json.loads(printed) == value
    assert escaped(printed, but="\n") == printed
    assert printed.count("\n") == 1 or not on_one_line


def test_every_command_prints_its_json_so() -> None:
    commands = Path(graphnode.cli.__file__).parent

    writers = {path.name for path in commands.rglob("*.py") if "json.encode" in path.read_text(encoding="utf-8")}

    assert writers == {"json_output.py"}
