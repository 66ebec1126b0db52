"""Inputs from this machine: which files of a folder are put into the payload bucket, and under which keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphnode.errors import InvalidRequest
from graphnode.requests import uploads
from graphnode.requests.uploads import Location, uploaded


class Bucket:
    """What was put where."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def upload_file(self, _file: str, _bucket: str, key: str) -> None:
        self.keys.append(key)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    made = Bucket()
    monkeypatch.setattr(uploads, "_client", lambda *_: made)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("S3_PAYLOAD_BUCKET", "payloads")
    return made


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("text")


def told(_line: str) -> None:
    pass


def test_of_a_folder_what_is_hidden_stays_here(bucket: Bucket, tmp_path: Path) -> None:
    folder = tmp_path / ".notes"
    put(folder, "b.md", "2026/a.md", ".DS_Store", ".git/config", "2026/.obsidian/app.json")

    assert uploaded(folder, prefix="requests/ada/t", tell=told) == Location("payloads", "requests/ada/t/.notes/")

    assert bucket.keys == ["requests/ada/t/.notes/2026/a.md", "requests/ada/t/.notes/b.md"]


def test_a_hidden_file_that_is_asked_for_is_put(bucket: Bucket, tmp_path: Path) -> None:
    put(tmp_path, ".diary")

    assert uploaded(tmp_path / ".diary", prefix="p", tell=told) == Location("payloads", "p/.diary")

    assert bucket.keys == ["p/.diary"]


def test_a_folder_of_hidden_files_has_none(bucket: Bucket, tmp_path: Path) -> None:
    put(tmp_path, ".DS_Store")

    with pytest.raises(InvalidRequest, match="has no files"):
        uploaded(tmp_path, prefix="p", tell=told)
