"""Labels in a picture: their width, their line breaks, and where there is space for them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

#: Widths in em. They are generous because the reader's fonts are unknown.
WIDE, NARROW, USUAL, CAPITAL = 1.02, 0.34, 0.6, 0.74

#: Letters that are narrow in every proportional font.
NARROW_LETTERS = frozenset("iljtfrI.,:;!|'()[] -")


class Box(NamedTuple):
    """A rectangle. y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two boxes share any area."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


def text_width(text: str) -> float:
    """An upper estimate of a text's width, in em."""
    return sum(map(_width, text))


def shortened(text: str, *, most: float) -> str:
    """The text, cut and marked with an ellipsis if it is wider than `most` em."""
    if text_width(text) <= most:
        return text
    kept, width = "", _width("…")
    for character in text:
        width += _width(character)
        if width > most:
            break
        kept += character
    return kept.rstrip() + "…"


def wrapped(text: str, *, most: float, lines: int = 2) -> list[str]:
    """The text in at most `lines` lines of at most `most` em; the last line is cut if the text is longer.

    Lines break at spaces. A word that is wider than a line (Chinese, Japanese, a long ID) breaks anywhere.
    """
    done: list[str] = []
    rest = text
    while rest and len(done) < lines - 1 and text_width(rest) > most:
        head = _head(rest, most)
        done.append(head.rstrip())
        rest = rest[len(head) :].lstrip()
    return [*done, shortened(rest, most=most)] if rest else done


class OccupancyGrid:
    """The occupied boxes of a picture. A look-up compares only boxes in the same cells.

    Parameters:
      cell: the side of a cell.
    """

    def __init__(self, cell: float) -> None:
        self._cell = cell
        self._taken: dict[tuple[int, int], list[Box]] = {}

    def is_free(self, box: Box) -> bool:
        """Whether the box overlaps no occupied box."""
        return not any(box.overlaps(other) for cell in self._cells(box) for other in self._taken.get(cell, ()))

    def take(self, box: Box) -> None:
        """Mark the box as occupied."""
        for cell in self._cells(box):
            self._taken.setdefault(cell, []).append(box)

    def take_first_free(self, boxes: Sequence[Box]) -> Box | None:
        """Occupy and return the first free box; None if all are taken."""
        found = next(filter(self.is_free, boxes), None)
        if found:
            self.take(found)
        return found

    def _cells(self, box: Box) -> Iterable[tuple[int, int]]:
        left, top, right, bottom = (int(edge // self._cell) for edge in box)
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
    """The beginning of a text that fits into a line, up to a space if there is one."""
    width = 0.0
    for end, character in enumerate(text):
        width += _width(character)
        if width > most:
            space = text.rfind(" ", 0, end + 1)
            return text[:space] if space > 0 else text[: max(end, 1)]
    return text
