from __future__ import annotations

import stat
from pathlib import Path

import pytest

from graphnode.dev.env_file import read_env_file, write_env_file
from graphnode.errors import SettingsError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stack.env"


def test_what_is_written_is_read_back(path: Path) -> None:
    environment = {"DATABASE_URL": "postgresql://u:p=w@h/d?x=1", "FIREBASE_CREDENTIALS_JSON": "", "NAME": "ein Wert ✓"}

    write_env_file(path, environment)

    assert read_env_file(path) == environment


def test_only_its_owner_can_read_it(path: Path) -> None:
    write_env_file(path, {"DATABASE_URL": "postgresql://user:secret@host/db"})

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_earlier_file_is_replaced_and_nothing_else_is_left(path: Path) -> None:
    write_env_file(path, {"OLD": "1"})
    write_env_file(path, {"NEW": "2"})

    assert path.read_text() == "NEW=2\n"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("value", ["a\nb", "a\rb"])
def test_a_value_of_several_lines_is_refused_and_the_earlier_file_stays(path: Path, value: str) -> None:
    write_env_file(path, {"OLD": "1"})

    with pytest.raises(SettingsError, match="KEY has several lines"):
        write_env_file(path, {"KEY": value})

    assert path.read_text() == "OLD=1\n"


def test_comments_and_empty_lines_are_no_part_of_it(path: Path) -> None:
    path.write_text("# the stack\n\nA=1\n")

    assert read_env_file(path) == {"A": "1"}


@pytest.mark.parametrize("line", ["no equals sign", "=value", "two words=1", "export A=1"])
def test_a_line_that_is_none_of_these_is_named(path: Path, line: str) -> None:
    path.write_text(f"A=1\n{line}\n")

    with pytest.raises(SettingsError, match=r"stack\.env, line 2: expected NAME=value"):
        read_env_file(path)


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(SettingsError, match=r"stack\.env cannot be read"):
        read_env_file(path)
