from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from graphnode.dev.ownership import NotOurs, owned_directory, owned_env_file, remove_left_behind
from graphnode.errors import SettingsError
from graphnode.operations.env_file import read_env_file

ENVIRONMENT = {"DATABASE_URL": "postgresql://user:secret@host/db", "AWS_REGION": "us-east-1"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stack.env"


def leave_behind(path: Path) -> None:
    """The file of a stack that was killed."""
    with owned_env_file(path, ENVIRONMENT):
        text = path.read_text()
    path.write_text(text)


def test_the_environment_can_be_read_while_the_stack_runs_and_only_then(path: Path) -> None:
    with owned_env_file(path, ENVIRONMENT):
        assert read_env_file(path) == ENVIRONMENT
        assert list(path.parent.iterdir()) == [path]

    assert list(path.parent.iterdir()) == []


def test_only_its_owner_can_read_it(path: Path) -> None:
    with owned_env_file(path, ENVIRONMENT):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("value", ["a\nb", "a\rb"])
def test_a_value_of_several_lines_is_refused_and_nothing_is_left(path: Path, value: str) -> None:
    with pytest.raises(SettingsError, match="KEY has several lines"), owned_env_file(path, {"KEY": value}):
        pytest.fail("the file was written")

    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("missing", ["os.link", "tempfile.mkstemp"])
def test_a_disk_that_refuses_the_file_gets_a_plain_reason_and_nothing_is_left(
    path: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(missing, refuse)

    with (
        pytest.raises(SettingsError, match=r"stack\.env cannot be made \(Operation not permitted\): name a file"),
        owned_env_file(path, ENVIRONMENT),
    ):
        pytest.fail("there is no file")

    assert list(path.parent.iterdir()) == []


def test_a_file_of_a_running_stack_is_neither_removed_nor_replaced(path: Path) -> None:
    with owned_env_file(path, ENVIRONMENT):
        with pytest.raises(NotOurs, match=rf"stack\.env belongs to another running stack \(process {os.getpid()}\)"):
            remove_left_behind(path)
        with pytest.raises(NotOurs, match="name another file by --env-file"), owned_env_file(path, {}):
            pytest.fail("the file was replaced")

        assert read_env_file(path) == ENVIRONMENT
        assert list(path.parent.iterdir()) == [path]


def test_a_file_that_a_killed_stack_left_behind_is_replaced(path: Path) -> None:
    leave_behind(path)

    remove_left_behind(path)
    with owned_env_file(path, {"NEW": "2"}):
        assert read_env_file(path) == {"NEW": "2"}


def test_a_file_that_another_stack_has_there_by_now_stays(path: Path) -> None:
    with owned_env_file(path, ENVIRONMENT):
        path.unlink()
        leave_behind(path)

    assert read_env_file(path) == ENVIRONMENT


def test_a_file_that_no_stack_wrote_stays(path: Path) -> None:
    path.write_text("DATABASE_URL=postgresql://production/db\n")

    with pytest.raises(NotOurs, match="was not written by `graphnode dev`: delete it, or name another file"):
        remove_left_behind(path)

    assert path.read_text() == "DATABASE_URL=postgresql://production/db\n"


def test_without_a_file_nothing_is_removed(path: Path) -> None:
    remove_left_behind(path)

    assert list(path.parent.iterdir()) == []


def test_a_directory_is_one_stacks_at_a_time(tmp_path: Path) -> None:
    with (
        owned_directory(tmp_path / "kept") as directory,
        pytest.raises(NotOurs, match=rf"\(process {os.getpid()}\) uses {directory}"),
        owned_directory(directory),
    ):
        pytest.fail("two stacks have the directory")

    with owned_directory(directory):
        assert (directory / "lock").read_text() == str(os.getpid())
