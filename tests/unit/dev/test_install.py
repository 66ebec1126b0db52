from __future__ import annotations

import os
from pathlib import Path

import pytest

from graphnode.dev import install


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose files are of time 100."""
    monkeypatch.setattr(install, "CHECKOUT", tmp_path)
    monkeypatch.setattr(install, "STAMP", tmp_path / "stamp")
    for source in install.SOURCES:
        (tmp_path / source).parent.mkdir(exist_ok=True)
        touch(tmp_path / source, at=100)
    return tmp_path


def touch(path: Path, *, at: int) -> None:
    path.touch()
    os.utime(path, (at, at))


def test_nothing_is_current_before_the_first_installation(checkout: Path) -> None:
    assert not install.is_current()


def test_an_installation_is_current_until_one_of_its_sources_changes(checkout: Path) -> None:
    touch(checkout / "stamp", at=101)
    assert install.is_current()

    touch(checkout / "localstack/requirements.txt", at=102)
    assert not install.is_current()
