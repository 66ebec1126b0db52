"""Names that are typed: which are accepted, and what is said of the others."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner, Result

from graphnode.cli import commands
from graphnode.cli.dead_letters.shared_options import TYPES
from graphnode.cli.names import Name
from graphnode.operations.dead_letters.advice import ADVICE


def filters() -> list[tuple[str, click.Option]]:
    """Each option of `graphnode dlq` that selects letters by a name, with its command."""
    dlq = commands.commands["dlq"]
    assert isinstance(dlq, click.Group)
    return [
        (name, option)
        for name, command in dlq.commands.items()
        for option in command.params
        if isinstance(option, click.Option) and option.name in ("reason", "task_type")
    ]


def run(*words: str) -> Result:
    return CliRunner().invoke(commands, words)


@pytest.mark.parametrize("name", [*ADVICE, *map(str.lower, ADVICE)])
def test_each_reason_is_known_in_any_case(name: str) -> None:
    assert Name("REASON", ADVICE).convert(name, None, None) == name.upper()


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("INVALID_ENVELOP", "INVALID_ENVELOPE"),
        ("invalid-document", "INVALID_DOCUMENT"),
        ("OBJECT_NOTFOUND", "OBJECT_NOT_FOUND"),
        ("ADD_NODE", "ADD_NODE_RESULT"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(typed: str, near: str) -> None:
    with pytest.raises(click.BadParameter, match=rf"is unknown\. Did you mean .*\b{near}\b"):
        Name("NAME", [*ADVICE, *TYPES]).convert(typed, None, None)


def test_of_a_name_like_none_all_are_listed() -> None:
    with pytest.raises(click.BadParameter, match=r"It is one of .*DATABASE_CONFLICT.*WRONG_OWNER"):
        Name("REASON", ADVICE).convert("xyzzy", None, None)


def test_each_filter_of_a_command_takes_known_names_alone() -> None:
    assert {name for name, _ in filters()} == {"list", "redrive", "export"}
    assert all(isinstance(option.type, Name) for _, option in filters())


@pytest.mark.parametrize("option", ["--reason", "--type"])
@pytest.mark.parametrize("command", ["list", "redrive", "export"])
def test_a_command_with_an_unknown_name_does_nothing(command: str, option: str) -> None:
    file = ["letters.jsonl"] if command == "export" else []

    refused = run("dlq", command, *file, option, "NO_SUCH_THING")

    assert refused.exit_code == 2
    assert "'NO_SUCH_THING' is unknown." in refused.stderr
