"""Uploads: which files of a folder, and under which keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphnode.errors import InvalidRequest
from graphnode.requests import uploads
from graphnode.requests.uploads import Location, upload


class Bucket:
    """Records the keys of uploads."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def s3(self) -> Bucket:
        """Be the client that AWS would make."""
        return self

    def upload_file(self, _file: str, _bucket: str, key: str) -> None:
        self.keys.append(key)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    made = Bucket()
    monkeypatch.setattr(uploads, "Aws", lambda **_: made)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("S3_PAYLOAD_BUCKET", "payloads")
    return made


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("text")


def ignore(_line: str) -> None:
    """Takes the line of an object."""


def test_hidden_files_of_a_folder_are_not_uploaded(bucket: Bucket, tmp_path: Path) -> None:
    folder = tmp_path / ".notes"
    put(folder, "b.md", "2026/a.md", ".DS_Store", ".git/config", "2026/.obsidian/app.json")

    assert upload(folder, prefix="requests/ada/t", tell=ignore) == Location("payloads", "requests/ada/t/.notes/")

    assert bucket.keys == ["requests/ada/t/.notes/2026/a.md", "requests/ada/t/.notes/b.md"]


def test_a_hidden_file_that_is_named_is_uploaded(bucket: Bucket, tmp_path: Path) -> None:
    put(tmp_path, ".diary")

    assert upload(tmp_path / ".diary", prefix="p", tell=ignore) == Location("payloads", "p/.diary")

    assert bucket.keys == ["p/.diary"]


def test_a_folder_of_hidden_files_is_refused(bucket: Bucket, tmp_path: Path) -> None:
    put(tmp_path, ".DS_Store")

    with pytest.raises(InvalidRequest, match="has no files"):
        upload(tmp_path, prefix="p", tell=ignore)
