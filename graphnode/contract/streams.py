"""Streams one array of a JSON document that is too big to be decoded whole, in constant memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Protocol

import ijson
from ijson.common import JSONError

from graphnode.contract.repairs import without_lone_surrogates
from graphnode.errors import InvalidDocument
from graphnode.text import LONGEST_PROBLEM, excerpt

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

#: The most bytes without a comma that are held back: no number is that long. More would reach the parser at once, and
#: it makes an object for each bracket.
MOST_HELD_BYTES = 1 << 16

#: The most bytes between two ends of arrays or objects. The widest embedding has 400 KB.
MOST_BYTES_AT_A_TIME = 4 << 20

#: The most levels of arrays and objects: about the limit that msgspec has for documents decoded whole.
MOST_LEVELS = 1000

#: ijson's events for the start of an array and of an object, and what each makes.
OPENING: dict[str, type[list[Any]] | type[dict[str, Any]]] = {"start_array": list, "start_map": dict}
CLOSING = frozenset({"end_array", "end_map"})


class ByteSource(Protocol):
    """A document that can be read piece by piece."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`; empty at the end."""


def elements(source: ByteSource, name: str, *, required: bool = False) -> Iterator[Any]:
    """Stream the elements of an array at a document's root, without the contents of arrays and objects inside them.

    ijson's own functions take quadratic time for nested arrays, and cannot be interrupted.

    Parameters:
      name: the array's key.
      required: whether the array must be there; then reading stops at its end. If it is not required, any other value
        counts as an empty array.

    Raises InvalidDocument.
    """
    text = RepairedSource(source)
    levels, reading, key = 0, False, ""
    element: Any = None
    try:
        for event, value in ijson.basic_parse(text, use_float=True):
            if event == "map_key":
                if levels == 1 or (reading and levels == 3):
                    key = value
                continue
            if event in CLOSING:
                text.since_end = 0
                levels -= 1
                if reading and levels == 2:
                    yield element
                elif reading and levels == 1:
                    if required:
                        return
                    reading = False
                continue
            place = levels
            if opened := OPENING.get(event):
                value = opened()
                levels += 1
                if levels > MOST_LEVELS:
                    raise InvalidDocument(f"not a document: nested too deep, before byte {text.read_bytes}")
            if reading and place == 3:
                if type(element) is list:
                    element.append(value)
                else:
                    element[key] = value
            elif reading and place == 2:
                if opened:
                    element = value
                else:
                    yield value
            elif place == 1 and key == name:
                reading = opened is list
                if required and not reading and value not in (None, ""):
                    raise InvalidDocument(f"{name}: expected array, got {'object' if opened else event}")
    except JSONError as error:
        raise _malformed(error, text.read_bytes) from None
    except UnicodeDecodeError as error:
        raise InvalidDocument(f"not UTF-8: {error.reason}, before byte {text.read_bytes}") from None
    if required:
        raise InvalidDocument(f"{name}: required, but not given")


def _malformed(error: JSONError, read_bytes: int) -> InvalidDocument:
    """The parser's error, without its drawing of the place."""
    text = error.args[0] if error.args else ""
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    problem = excerpt(str(text).strip().partition("\n")[0], most=LONGEST_PROBLEM)
    return InvalidDocument(f"not JSON: {problem}, before byte {read_bytes}", log="not JSON")


class RepairedSource:
    """A document without byte order mark, with null in place of NaN and Infinity.

    It replaces these words between commas and brackets, inside texts too: only rows of numbers are read from it.

    Parameters:
      read_bytes: how many bytes were read so far.
      since_end: how many bytes were read since the last end of an array or object, which the reader sets to 0. Over
        `MOST_BYTES_AT_A_TIME`, `read` raises InvalidDocument: the parser would keep them all in memory.
    """

    _WORDS = re.compile(rb"(?:^|(?<=[\[,:\s]))(?:NaN|-?Infinity)(?=[\],}\s])")

    def __init__(self, source: ByteSource) -> None:
        self.read_bytes = 0
        self.since_end = 0
        self._source = source
        self._held = b""
        self._begun = False

    def read(self, size: int) -> bytes:
        """The next bytes, about `size`; empty at the end, or for a size of 0."""
        if not size:
            return b""
        while True:
            chunk = self._source.read(size)
            self._held += chunk
            # After the last comma there may be a part of a word.
            end = self._held.rfind(b",") + 1 if chunk else len(self._held)
            if not chunk or end or len(self._held) > MOST_HELD_BYTES:
                break
        text, self._held = self._held[: end or None], self._held[end or len(self._held) :]
        self.read_bytes += len(text)
        self.since_end += len(text)
        if self.since_end > MOST_BYTES_AT_A_TIME:
            raise InvalidDocument(
                f"not a document: over {MOST_BYTES_AT_A_TIME} bytes without the end of an array or an object, "
                f"before byte {self.read_bytes}"
            )
        if not self._begun:
            self._begun, text = True, text.removeprefix(BYTE_ORDER_MARK)
        if b"\\ud" in text or b"\\uD" in text:
            text = without_lone_surrogates(text, {})
        return self._WORDS.sub(b"null", text) if b"NaN" in text or b"Infinity" in text else text
