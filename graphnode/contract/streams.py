"""JSON documents too big to be decoded whole: one array of theirs, read as it comes, in memory that does not grow."""

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

#: The most bytes without a comma that are held back: no number is that long. What is given on at a time becomes an
#: object for each bracket in it.
MOST_HELD_BYTES = 1 << 16

#: The most bytes between two ends of arrays or objects, whatever stands there. The widest embedding has 400 KB.
MOST_BYTES_AT_A_TIME = 4 << 20

#: The most levels of arrays and objects. Documents that are decoded whole have msgspec's limit, which is as high.
MOST_LEVELS = 1000

#: What ijson calls the beginning of an array and of an object, and what each is then.
OPENING: dict[str, type[list[Any]] | type[dict[str, Any]]] = {"start_array": list, "start_map": dict}
CLOSING = frozenset({"end_array", "end_map"})


class ByteSource(Protocol):
    """A document's bytes as they come."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`; none at the end."""


def elements(source: ByteSource, name: str, *, required: bool = False) -> Iterator[Any]:
    """The elements of an array at a document's root. What is in arrays and objects inside of them is left out.

    ijson's own functions take quadratic time for arrays in arrays in arrays, and nothing can interrupt them.

    Parameters:
      name: the array's.
      required: whether it must be there. Then it is read no further than to the array's end. If it need not, anything
        else than an array is none.

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
    """What the parser said, without the picture of the place that it draws."""
    said = error.args[0] if error.args else ""
    if isinstance(said, bytes):
        said = said.decode(errors="replace")
    problem = excerpt(str(said).strip().partition("\n")[0], most=LONGEST_PROBLEM)
    return InvalidDocument(f"not JSON: {problem}, before byte {read_bytes}", log="not JSON")


class RepairedSource:
    """A document as it comes, without byte order mark, and with null for what is no number of JSON's.

    Only rows of numbers matter in it: so it looks for such words between commas and brackets, and not whether they
    stand in a text.

    Parameters:
      read_bytes: how far it is.
      since_end: bytes since whoever reads it has come to the end of an array or an object. Raises InvalidDocument over
        `MOST_BYTES_AT_A_TIME`: a parser would hold them all.
    """

    _WORDS = re.compile(rb"(?:^|(?<=[\[,:\s]))(?:NaN|-?Infinity)(?=[\],}\s])")

    def __init__(self, source: ByteSource) -> None:
        self.read_bytes = 0
        self.since_end = 0
        self._source = source
        self._held = b""
        self._begun = False

    def read(self, size: int) -> bytes:
        """The next bytes, about `size` of them; none at the end, or if none are wanted."""
        if not size:
            return b""
        while True:
            chunk = self._source.read(size)
            self._held += chunk
            # What follows the last comma may be half a word.
            end = self._held.rfind(b",") + 1 if chunk else len(self._held)
            if not chunk or end or len(self._held) > MOST_HELD_BYTES:
                break
        text, self._held = self._held[: end or None], self._held[end or len(self._held) :]
        self.read_bytes += len(text)
        self.since_end += len(text)
        if self.since_end > MOST_BYTES_AT_A_TIME:
            said = f"over {MOST_BYTES_AT_A_TIME} bytes without the end of an array or an object"
            raise InvalidDocument(f"not a document: {said}, before byte {self.read_bytes}")
        if not self._begun:
            self._begun, text = True, text.removeprefix(BYTE_ORDER_MARK)
        if b"\\ud" in text or b"\\uD" in text:
            text = without_lone_surrogates(text, {})
        return self._WORDS.sub(b"null", text) if b"NaN" in text or b"Infinity" in text else text
