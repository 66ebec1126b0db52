"""Reads arrays of a JSON document that is too big to be decoded whole, piece by piece, in constant memory."""

from __future__ import annotations

import re
from typing import Any

import ijson
from ijson.common import JSONError
from ijson.utils import sendable_list

from graphnode.contract.repairs import without_lone_surrogates
from graphnode.errors import InvalidDocument
from graphnode.text import LONGEST_PROBLEM, excerpt

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

#: The most bytes without a comma that are held back: no number is that long. More would reach the parser at once, and
#: it makes an object for each bracket.
MOST_HELD_BYTES = 1 << 16

#: The most bytes between two ends of arrays or objects. The widest embedding has 400 KB.
MOST_BYTES_AT_A_TIME = 1 << 20

#: The most values of an array that is kept. The widest embedding has 16,000.
MOST_VALUES = 1 << 16

#: The most levels of arrays and objects: about the limit that msgspec has for documents decoded whole.
MOST_LEVELS = 1000

#: ijson's events for the start of an array and of an object, and what each makes.
OPENING: dict[str, type[list[Any]] | type[dict[str, Any]]] = {"start_array": list, "start_map": dict}
CLOSING = frozenset({"end_array", "end_map"})


class ArrayReader:
    """Reads the elements of arrays at a document's root, without the contents of arrays and objects inside them.

    The document is fed to it in pieces. ijson's own functions take quadratic time for nested arrays, and cannot be
    interrupted.

    Parameters:
      required: the key of an array that must be there.
      optional: the key of an array that may be missing; any other value counts as an empty array.
      fields: the fields that are kept of objects in the arrays, beside the first one: an empty object is another thing.
    """

    def __init__(self, *, required: str, optional: str, fields: frozenset[str]) -> None:
        self._required = required
        self._fields = fields
        self._names = frozenset({required, optional})
        self._found_required = False
        self._text = RepairedText()
        self._events: Any = sendable_list()
        self._parser = ijson.basic_parse_coro(self._events, use_float=True)
        self._levels = 0
        #: The array that is being read; empty outside both.
        self._reading = ""
        self._key = ""
        self._element: Any = None

    def feed(self, piece: bytes) -> list[tuple[str, Any]]:
        """The elements that end with this piece, each with its array's key.

        Parameters:
          piece: the next bytes, about 64 KiB: all its values are in memory at once. An empty one ends the document.

        Raises InvalidDocument.
        """
        text = self._text.repaired(piece)
        try:
            if text:
                self._parser.send(text)
            if not piece:
                self._parser.close()
        except JSONError as error:
            raise _malformed(error, self._text.read_bytes) from None
        except UnicodeDecodeError as error:
            raise InvalidDocument(f"not UTF-8: {error.reason}, before byte {self._text.read_bytes}") from None
        found = self._ended()
        if not piece and not self._found_required:
            raise InvalidDocument(f"{self._required}: required, but not given")
        return found

    def _ended(self) -> list[tuple[str, Any]]:
        """The elements that end with the parser's events so far."""
        found: list[tuple[str, Any]] = []
        levels, reading, key, element = self._levels, self._reading, self._key, self._element
        for event, value in self._events:
            if event == "map_key":
                if levels == 1 or (reading and levels == 3):
                    key = value
                continue
            if event in CLOSING:
                self._text.since_end = 0
                levels -= 1
                if reading and levels == 2:
                    found.append((reading, element))
                elif levels == 1:
                    reading = ""
                continue
            place = levels
            if opened := OPENING.get(event):
                value = opened()
                levels += 1
                if levels > MOST_LEVELS:
                    raise InvalidDocument(f"not a document: nested too deep, before byte {self._text.read_bytes}")
            if reading and place == 3:
                if type(element) is list:
                    element.append(value)
                elif key in self._fields or not element:
                    element[key] = value
            elif reading and place == 2:
                if opened:
                    element = value
                else:
                    found.append((reading, value))
            elif place == 1 and key in self._names:
                reading = key if opened is list else ""
                if key == self._required and reading:
                    self._found_required = True
                elif key == self._required and value not in (None, ""):
                    raise InvalidDocument(f"{key}: expected array, got {'object' if opened else event}")
        del self._events[:]
        if type(element) is list and len(element) > MOST_VALUES:
            raise InvalidDocument(
                f"{reading}: over {MOST_VALUES} values in an array, before byte {self._text.read_bytes}"
            )
        self._levels, self._reading, self._key, self._element = levels, reading, key, element
        return found


def _malformed(error: JSONError, read_bytes: int) -> InvalidDocument:
    """The parser's error, without its drawing of the place."""
    text = error.args[0] if error.args else ""
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    problem = excerpt(str(text).strip().partition("\n")[0], most=LONGEST_PROBLEM)
    return InvalidDocument(f"not JSON: {problem}, before byte {read_bytes}", log="not JSON")


class RepairedText:
    """The text of a document in pieces, without byte order mark, with null in place of NaN and Infinity.

    It replaces these words between commas and brackets, inside texts too: only rows of numbers are read from it.

    Parameters:
      read_bytes: how many bytes were repaired so far.
      since_end: how many of them came since the last end of an array or object, which the reader sets to 0. Over
        `MOST_BYTES_AT_A_TIME`, `repaired` raises InvalidDocument: the parser would keep them all in memory.
    """

    _WORDS = re.compile(rb"(?:^|(?<=[\[,:\s]))(?:NaN|-?Infinity)(?=[\],}\s])")

    def __init__(self) -> None:
        self.read_bytes = 0
        self.since_end = 0
        self._held = b""
        self._begun = False

    def repaired(self, piece: bytes) -> bytes:
        """The next text, up to the last comma of a piece; after an empty piece the rest."""
        self._held += piece
        # After the last comma there may be a part of a word.
        end = self._held.rfind(b",") + 1 if piece else len(self._held)
        if not end and len(self._held) > MOST_HELD_BYTES:
            end = len(self._held)
        text, self._held = self._held[:end], self._held[end:]
        self.read_bytes += len(text)
        self.since_end += len(text)
        if self.since_end > MOST_BYTES_AT_A_TIME:
            raise InvalidDocument(
                f"not a document: over {MOST_BYTES_AT_A_TIME} bytes without the end of an array or an object, "
                f"before byte {self.read_bytes}"
            )
        if text and not self._begun:
            self._begun, text = True, text.removeprefix(BYTE_ORDER_MARK)
        if b"\\ud" in text or b"\\uD" in text:
            text = without_lone_surrogates(text, {})
        return self._WORDS.sub(b"null", text) if b"NaN" in text or b"Infinity" in text else text
