from __future__ import annotations

from pathlib import Path

import pytest

from graphnode.errors import SettingsError
from graphnode.operations.env_file import env_text, read_env_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stack.env"


def test_what_is_written_is_read_back(path: Path) -> None:
    environment = {"DATABASE_URL": "postgresql://u:p=w@h/d?x=1", "FIREBASE_CREDENTIALS_JSON": "", "NAME": "ein Wert ✓"}

    path.write_text(env_text(environment))

    assert read_env_file(path) == environment


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
