from __future__ import annotations

import sys
from pathlib import Path

import pytest

from graphnode.dev.localstack import LocalStackError, find_python


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment of ours without LocalStack."""
    monkeypatch.delenv("GRAPHNODE_LOCALSTACK_PYTHON", raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    return tmp_path


def test_localstack_is_found_inside_our_own_environment(prefix: Path) -> None:
    python = prefix / "localstack" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()

    assert find_python() == python


def test_without_localstack_the_error_says_what_to_run(prefix: Path) -> None:
    with pytest.raises(LocalStackError, match="run `make install`"):
        find_python()


def test_another_environment_can_be_named(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = prefix / "python"
    python.touch()
    monkeypatch.setenv("GRAPHNODE_LOCALSTACK_PYTHON", str(python))

    assert find_python() == python


def test_an_environment_that_is_named_wrongly_is_not_replaced_by_another(
    prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHNODE_LOCALSTACK_PYTHON", str(prefix / "gone"))

    with pytest.raises(LocalStackError, match="correct GRAPHNODE_LOCALSTACK_PYTHON"):
        find_python()
