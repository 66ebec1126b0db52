"""The spool: temporary files that keep embeddings between their document and their table.

A file has no name in its directory: nobody else can open it, and whatever ends the process leaves nothing behind.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import IO, TypeVar

from graphnode.errors import DocumentTooLarge, SpoolFull
from graphnode.settings import settings

#: The usual ratio of a features file's bytes to those of its embeddings in the spool: a number has four bytes there.
COMPACT_RATIO = 5

#: Bytes that are written or read at a time.
BUFFER_BYTES = 256 * 1024

#: The errors of a disk, or a user's share of it, that is full.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


T = TypeVar("T")


class Spool:
    """A temporary file of records. It is made with the first record, and gone at the end of the `with` block."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._written = 0

    def __enter__(self) -> Spool:
        """Make no file yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file, and so delete it."""
        if self._file:
            # What is not written yet is not needed.
            with suppress(OSError):
                self._file.close()

    def append(self, record: bytes) -> None:
        """Write a record.

        Raises DocumentTooLarge over the bytes that a worker checks the disk for at its start, and SpoolFull.
        """
        self._written += len(record)
        if self._written > (limit := spool_bytes(settings().max_features_bytes)):
            said = f"its embeddings take over {limit} bytes in the spool: more than 1/{COMPACT_RATIO}"
            raise DocumentTooLarge(f"{said} of GRAPHNODE_MAX_FEATURES_BYTES")
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=spool_directory(), buffering=BUFFER_BYTES)  # noqa: SIM115
            self._file.write(record)
        except OSError as error:
            raise _sorted(error) from error

    def complete(self) -> None:
        """Write what is still in memory: from here on the disk has room for all records. Raises SpoolFull."""
        try:
            if self._file:
                self._file.flush()
        except OSError as error:
            raise _sorted(error) from error

    def records(self, size: int) -> Iterator[bytes]:
        """All records, in order.

        Parameters:
          size: bytes of each.
        """
        if self._file:
            self._file.seek(0)
            while record := self._file.read(size):
                yield record


def in_time(parts: Iterable[T], *, most_s: float, what: str) -> Iterator[T]:
    """The parts, as long as they are used within a time.

    Parameters:
      most_s: seconds.
      what: what takes them, for the error.

    Raises DocumentTooLarge.
    """
    end = time.monotonic() + most_s
    for part in parts:
        if time.monotonic() > end:
            raise DocumentTooLarge(f"{what} took over {most_s:.0f} s")
        yield part


def spool_bytes(max_features_bytes: int) -> int:
    """The most bytes of one file in the spool.

    Parameters:
      max_features_bytes: the largest features file.
    """
    return max_features_bytes // COMPACT_RATIO


def spool_directory() -> str:
    """The directory of the files. Raises FileNotFoundError if it is not set and the system has none."""
    return settings().spool_dir or tempfile.gettempdir()


def spool_fault(directory: str | None, *, max_features_bytes: int) -> str:
    """A sentence about what is wrong with a spool directory: what it is, and what to do. Empty if nothing is.

    Parameters:
      directory: as it is set; None: the system's temporary directory.
      max_features_bytes: the largest features file.
    """
    needed = spool_bytes(max_features_bytes)
    named = f"GRAPHNODE_SPOOL_DIR is {directory}"
    try:
        if directory is None:
            named = "GRAPHNODE_SPOOL_DIR is not set, and the system has no temporary directory"
            directory = tempfile.gettempdir()
            named = f"GRAPHNODE_SPOOL_DIR is not set; the system's temporary directory is {directory}"
        tempfile.TemporaryFile(dir=directory).close()
        free = shutil.disk_usage(directory).free
    except OSError as error:
        return f"{named}: no file can be made there ({error.strerror}). Set it to a directory that this user may write."
    if free >= needed:
        return ""
    return (
        f"{named}: it has {free >> 20} MiB free, and the embeddings of one features file may need {needed >> 20} MiB. "
        "Make room, set it to another directory, or lower GRAPHNODE_MAX_FEATURES_BYTES."
    )


def _sorted(error: OSError) -> Exception:
    if error.errno in FULL:
        return SpoolFull(f"the spool directory {spool_directory()} is full ({error.strerror})")
    return error
