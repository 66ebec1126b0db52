"""Text in a picture: how wide it is, how it breaks into lines, where there is room for it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

#: Widths in em, rather too large than too small: the fonts of whoever looks are not known here.
WIDE, NARROW, USUAL, CAPITAL = 1.02, 0.34, 0.6, 0.74

#: Letters that are narrow in every proportional font.
NARROW_LETTERS = frozenset("iljtfrI.,:;!|'()[] -")


class Box(NamedTuple):
    """A rectangle; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two have any area in common."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


def text_width(text: str) -> float:
    """About how wide a text is at most, in em."""
    return sum(map(_width, text))


def shortened(text: str, *, most: float) -> str:
    """The text, cut with an ellipsis where it is wider than `most` em."""
    if text_width(text) <= most:
        return text
    kept, width = "", _width("…")
    for character in text:
        width += _width(character)
        if width > most:
            break
        kept += character
    return kept.rstrip() + "…"


def broken(text: str, *, most: float, lines: int = 2) -> list[str]:
    """The text in lines of at most `most` em; what does not fit into so many lines is cut.

    It breaks at spaces, and inside of a word only if that does not fit into a line: Chinese, Japanese, a long ID.
    """
    done: list[str] = []
    rest = text
    while rest and len(done) < lines - 1 and text_width(rest) > most:
        head = _head(rest, most)
        done.append(head.rstrip())
        rest = rest[len(head) :].lstrip()
    return [*done, shortened(rest, most=most)] if rest else done


class Page:
    """What is taken in a picture, by fields of a grid, so that a look-up sees what is near only."""

    def __init__(self, field: float) -> None:
        self._field = field
        self._taken: dict[tuple[int, int], list[Box]] = {}

    def is_free(self, box: Box) -> bool:
        """Whether nothing that was taken overlaps the box."""
        return not any(box.overlaps(other) for place in self._fields(box) for other in self._taken.get(place, ()))

    def take(self, box: Box) -> None:
        """Let nothing else be here."""
        for place in self._fields(box):
            self._taken.setdefault(place, []).append(box)

    def first_free(self, boxes: Sequence[Box]) -> Box | None:
        """Take the first of the boxes that is free, if any is."""
        found = next(filter(self.is_free, boxes), None)
        if found:
            self.take(found)
        return found

    def _fields(self, box: Box) -> Iterable[tuple[int, int]]:
        left, top, right, bottom = (int(edge // self._field) for edge in box)
        return ((x, y) for x in range(left, right + 1) for y in range(top, bottom + 1))


def _width(character: str) -> float:
    if unicodedata.combining(character):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return WIDE
    if character in NARROW_LETTERS:
        return NARROW
    return CAPITAL if character.isupper() or character in "mwMW@%—…" else USUAL


def _head(text: str, most: float) -> str:
    """As much of a text's beginning as fits into a line, up to a space if there is one."""
    width = 0.0
    for end, character in enumerate(text):
        width += _width(character)
        if width > most:
            space = text.rfind(" ", 0, end + 1)
            return text[:space] if space > 0 else text[: max(end, 1)]
    return text
