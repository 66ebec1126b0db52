from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from graphnode.private import check_private, private_directory, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0, 0o022])
def test_a_missing_directory_is_made_for_this_user_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        made = private_directory(tmp_path / "made")
    finally:
        os.umask(before)

    assert mode(made) == 0o700
    assert private_directory(made) == made


def test_a_directory_of_ours_that_others_may_read_is_closed_to_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    assert mode(private_directory(tmp_path)) == 0o700


@pytest.mark.parametrize("rights", [0o777, 0o770, 0o722, 0o1777])
def test_a_directory_in_which_others_may_have_put_something_is_refused(tmp_path: Path, rights: int) -> None:
    (tmp_path / "something").touch()
    tmp_path.chmod(rights)

    for _ in range(2):
        with pytest.raises(PermissionError, match="can be written by other users"):
            private_directory(tmp_path)


def test_an_empty_directory_that_a_generous_umask_opened_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o775)

    assert mode(private_directory(tmp_path)) == 0o700


def test_another_users_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 4711)

    with pytest.raises(PermissionError, match=f"belongs to user {os.getuid()}"):
        private_directory(tmp_path)


@pytest.mark.parametrize("kind", ["link", "dangling link", "file"])
def test_what_is_no_directory_is_refused(tmp_path: Path, kind: str) -> None:
    target, place = tmp_path / "target", tmp_path / "place"
    if kind == "link":
        target.mkdir()
    if kind == "file":
        place.touch()
    else:
        place.symlink_to(target)

    for use in (private_directory, check_private):
        with pytest.raises(OSError, match="place"):
            use(place)
    assert not target.exists() or mode(target) != 0o700


@pytest.mark.parametrize("exists", [False, True])
def test_a_file_is_for_this_user_alone_also_if_it_was_open_to_others(tmp_path: Path, exists: bool) -> None:
    path = tmp_path / "file"
    if exists:
        path.write_text("older and longer")
        path.chmod(0o644)

    write_private(path, b"new")

    assert path.read_bytes() == b"new"
    assert mode(path) == 0o600


def test_a_device_keeps_its_rights() -> None:
    device = Path(os.devnull)
    before = mode(device)

    write_private(device, b"text")

    assert mode(device) == before
