"""Unpacks gzip in pieces, in time and memory that its stored bytes and its unpacked bytes bound."""

from __future__ import annotations

import zlib
from typing import Protocol

#: zlib's number for a gzip header and trailer. https://docs.python.org/3/library/zlib.html#zlib.decompress
GZIP_WINDOW = 31

#: Stored bytes read at a time.
STORED_BYTES = 64 * 1024

#: The most members. Writers make one, or one for each part that they append.
MOST_MEMBERS = 1000

#: Stored bytes may exceed the unpacked ones by this: a header with names, and what is read ahead. Real gzip is never
#: longer than its content by more than a ten-thousandth.
MOST_OVERHEAD_BYTES = 4 * STORED_BYTES

#: Unpacked bytes to which no ratio applies.
ANY_RATIO_BYTES = 1 << 20


class GzipFault(Exception):
    """The bytes are not gzip, or gzip that no ordinary writer makes. The text quotes nothing of them."""


class Readable(Protocol):
    """A stream of stored bytes."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`; none at the end."""


class Gunzip:
    """A stream of unpacked bytes.

    Parameters:
      source: the stored bytes.
      most_ratio: the most unpacked bytes for a stored byte, beyond `ANY_RATIO_BYTES`; None: any.
    """

    def __init__(self, source: Readable, *, most_ratio: int | None = None) -> None:
        self._source = source
        self._most_ratio = most_ratio
        self._member = zlib.decompressobj(GZIP_WINDOW)
        self._members = 1
        #: Stored bytes that were read, and are not unpacked yet.
        self._waiting = b""
        self._stored = self._unpacked = 0

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`; none at the end, or if none are wanted. Raises GzipFault."""
        while size:
            if not self._waiting:
                self._waiting = self._source.read(STORED_BYTES)
                self._stored += len(self._waiting)
            if self._member.eof:
                if not self._waiting:
                    return b""
                self._begin_member()
            try:
                found = self._member.decompress(self._waiting, size)
            except zlib.error as error:
                raise GzipFault(f"Content-Encoding is gzip, its bytes are not: {error}") from None
            is_end = not self._waiting and not found
            self._waiting = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            self._unpacked += len(found)
            self._check()
            if found:
                return found
            if is_end and not self._member.eof:
                raise GzipFault("Content-Encoding is gzip, its bytes are not: they end too early")
        return b""

    def _begin_member(self) -> None:
        self._members += 1
        if self._members > MOST_MEMBERS:
            raise GzipFault(f"its gzip has over {MOST_MEMBERS} members")
        self._member = zlib.decompressobj(GZIP_WINDOW)

    def _check(self) -> None:
        """Raise GzipFault if stored and unpacked bytes are out of proportion."""
        if self._stored > self._unpacked + MOST_OVERHEAD_BYTES + self._unpacked // 1000:
            raise GzipFault("its gzip unpacks to fewer bytes than it has")
        most = self._most_ratio
        if most and self._unpacked > ANY_RATIO_BYTES and self._unpacked > most * self._stored:
            raise GzipFault(f"its gzip unpacks to over {most} times its bytes")
