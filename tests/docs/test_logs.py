"""docs/logs.md lists each event that the code logs, with its level."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import structlog

PROJECT = Path(__file__).parents[2]


def logged_events() -> set[tuple[str, str]]:
    """The level and the event of each line that a worker can log. The stand-in AI server's are left out."""
    return {
        (call.func.attr, str(call.args[0].value))
        for path in (PROJECT / "graphnode").rglob("*.py")
        if path.parent.name != "ai"
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "log"
        and call.func.attr in structlog.stdlib.BoundLogger.__dict__
        and isinstance(call.args[0], ast.Constant)
    }


def test_the_document_lists_every_logged_event_and_no_other() -> None:
    document = (PROJECT / "docs/logs.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(.+?)` \| (\w+) \|", document, re.MULTILINE)

    assert len(listed) == len(set(listed))
    assert {(level, event) for event, level in listed} == logged_events()
