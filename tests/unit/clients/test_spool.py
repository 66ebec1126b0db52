from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

from graphnode.clients.spool import BUFFER_BYTES, COMPACT_RATIO, Spool, spool_fault
from graphnode.errors import DocumentTooLarge, SpoolFull
from tests.conftest import use_settings

LIMIT = 4 * BUFFER_BYTES

#: A device on which each write finds no space. https://man7.org/linux/man-pages/man4/full.4.html
FULL_DEVICE = Path("/dev/full")


class Known(NamedTuple):
    spool_dir: str
    max_features_bytes: int = COMPACT_RATIO * LIMIT


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The spool directory."""
    use_settings(Known(str(tmp_path)), monkeypatch)
    return tmp_path


@pytest.fixture
def full_disk(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its disk is full."""
    monkeypatch.setattr(
        tempfile, "TemporaryFile", lambda *, buffering, **_: FULL_DEVICE.open("w+b", buffering=buffering)
    )


def test_records_are_read_in_the_order_in_which_they_were_written(directory: Path) -> None:
    records = [number.to_bytes(4, "big") for number in range(100_000)]

    with Spool() as spool:
        for record in records:
            spool.append(record)
        spool.complete()

        assert list(spool.records(4)) == records


def test_nothing_is_made_without_a_record(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", None)

    with Spool() as spool:
        spool.complete()

        assert list(spool.records(4)) == []


def test_a_file_has_no_name_and_belongs_to_this_user_alone(directory: Path) -> None:
    with Spool() as spool:
        spool.append(b"private")
        spool.complete()

        assert list(directory.iterdir()) == []
        assert spool._file
        status = os.fstat(spool._file.fileno())
        assert (status.st_nlink, status.st_mode & 0o777, status.st_uid) == (0, 0o600, os.getuid())
    assert spool._file.closed


def test_a_file_is_closed_when_its_block_fails(directory: Path) -> None:
    spool = Spool()

    def fail() -> None:
        with spool:
            spool.append(b"x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert spool._file
    assert spool._file.closed


def test_a_file_is_bounded(directory: Path) -> None:
    with Spool() as spool:
        spool.append(bytes(LIMIT))
        with pytest.raises(DocumentTooLarge, match=rf"over {LIMIT} bytes in the spool: more than 1/5 of GRAPHNODE_MAX"):
            spool.append(b"x")


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("size", [1, 2 * BUFFER_BYTES], ids=["at its end", "in between"])
def test_a_full_disk_is_transient(directory: Path, size: int) -> None:
    def spool_all() -> None:
        with Spool() as spool:
            spool.append(bytes(size))
            spool.complete()

    with pytest.raises(SpoolFull, match=rf"^the spool directory {directory} is full \(No space left"):
        spool_all()


def test_another_error_of_the_disk_stays_what_it_is(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)

    with pytest.raises(OSError, match="Input/output error"), Spool() as spool:
        spool.append(b"x")


def test_a_directory_with_room_has_no_fault(tmp_path: Path) -> None:
    assert spool_fault(str(tmp_path), max_features_bytes=LIMIT) == ""
    assert spool_fault(None, max_features_bytes=LIMIT) == ""


def test_a_missing_directory_is_a_fault(tmp_path: Path) -> None:
    fault = spool_fault(f"{tmp_path}/none", max_features_bytes=LIMIT)

    assert fault.startswith(f"GRAPHNODE_SPOOL_DIR is {tmp_path}/none: no file can be made there (No such file")


def test_a_directory_without_room_is_a_fault_that_says_what_to_do(tmp_path: Path) -> None:
    fault = spool_fault(str(tmp_path), max_features_bytes=5 << 60)

    assert "MiB free, and the embeddings of one features file may need 1099511627776 MiB. Make room" in fault


def test_a_system_without_a_temporary_directory_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_none() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", find_none)

    assert spool_fault(None, max_features_bytes=LIMIT).startswith(
        "GRAPHNODE_SPOOL_DIR is not set, and the system has no temporary directory: no file can be made there"
    )
