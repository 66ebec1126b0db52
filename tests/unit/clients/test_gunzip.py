"""Gzip is read in pieces, and refused as soon as a bound is passed."""

from __future__ import annotations

import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.clients.gunzip import ANY_RATIO_BYTES, MOST_MEMBERS, MOST_OVERHEAD_BYTES, STORED_BYTES, Gunzip, GzipFault

#: A gzip header up to its file name, which has no end.
NAMED = b"\x1f\x8b\x08\x08" + bytes(4) + b"\x00\xff"

#: The same without a name, and a block of deflate that holds nothing.
BARE, EMPTY_BLOCK = b"\x1f\x8b\x08\x00" + bytes(4) + b"\x00\xff", b"\x00\x00\x00\xff\xff"

#: Bytes of each bomb, of which a small part is read.
SIZE = 4 << 20


class Counted(io.BytesIO):
    """A stream that counts its reads."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        return super().read(size)


def unpacked(source: io.BytesIO, *, size: int = 1 << 16, most_ratio: int | None = None) -> bytes:
    stream = Gunzip(source, most_ratio=most_ratio)
    return b"".join(iter(lambda: stream.read(size), b""))


@given(members=st.lists(st.binary(max_size=300), min_size=1, max_size=5), size=st.integers(1, 400))
def test_members_are_unpacked_one_after_another_whatever_is_read_at_a_time(members: list[bytes], size: int) -> None:
    packed = b"".join(map(gzip.compress, members))

    assert unpacked(io.BytesIO(packed), size=size) == b"".join(members)


def test_a_document_without_any_redundancy_is_unpacked() -> None:
    body = b"".join(number.to_bytes(3, "big") for number in range(1 << 18))

    assert unpacked(io.BytesIO(gzip.compress(body, compresslevel=0))) == body


@pytest.mark.parametrize("cut", [0, 5, 18, 30, -8, -1])
def test_gzip_that_ends_too_early_is_refused(cut: int) -> None:
    packed = gzip.compress(b'{"nodes": []}')

    with pytest.raises(GzipFault, match="its bytes are not: they end too early"):
        unpacked(io.BytesIO(packed[:cut] if cut else b""))


@pytest.mark.parametrize("after", [bytes(1), bytes(SIZE), b"[]"], ids=["a NUL", "padding", "other bytes"])
def test_nothing_may_follow_the_last_member(after: bytes) -> None:
    source = Counted(gzip.compress(b"[]") + after)

    with pytest.raises(GzipFault, match="Content-Encoding is gzip, its bytes are not"):
        unpacked(source)

    assert source.reads <= 2


@pytest.mark.parametrize(
    ("bomb", "problem"),
    [
        (NAMED + b"a" * SIZE, "unpacks to fewer bytes than it has"),
        (BARE + EMPTY_BLOCK * (SIZE // len(EMPTY_BLOCK)), "unpacks to fewer bytes than it has"),
        ((packed := gzip.compress(b"")) * (SIZE // len(packed)), f"has over {MOST_MEMBERS} members"),
        ((packed := gzip.compress(b"[]" * 100)) * (SIZE // len(packed)), f"has over {MOST_MEMBERS} members"),
    ],
    ids=["a name without an end", "empty blocks", "empty members", "small members"],
)
def test_gzip_that_unpacks_to_little_is_refused_at_its_beginning(bomb: bytes, problem: str) -> None:
    source = Counted(bomb)

    with pytest.raises(GzipFault, match=problem):
        unpacked(source)

    assert source.reads <= MOST_OVERHEAD_BYTES // STORED_BYTES + 1


def test_gzip_over_its_ratio_is_refused_as_soon_as_it_is() -> None:
    bomb = gzip.compress(bytes(8 * ANY_RATIO_BYTES))
    stream = Gunzip(io.BytesIO(bomb), most_ratio=100)
    size = ANY_RATIO_BYTES // 2
    assert [len(stream.read(size)) for _ in range(2)] == [size, size]

    with pytest.raises(GzipFault, match="unpacks to over 100 times its bytes"):
        stream.read(1)

    assert unpacked(io.BytesIO(bomb)) == bytes(8 * ANY_RATIO_BYTES)
    assert unpacked(io.BytesIO(gzip.compress(bytes(ANY_RATIO_BYTES))), most_ratio=100) == bytes(ANY_RATIO_BYTES)


def test_nothing_is_read_if_nothing_is_wanted() -> None:
    source = Counted(gzip.compress(b"[]"))

    assert Gunzip(source).read(0) == b""
    assert source.reads == 0
