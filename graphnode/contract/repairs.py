"""What is repaired in a document's text, and how it is counted: it costs a count, and not the document.

Each repair takes time proportional to the text, whatever is in it: a search in `re` cannot be interrupted, and holds up
all threads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

#: How often, by a plain name: kept on the task, e.g. {"edges to unknown nodes": 3}.
Warnings = dict[str, int]

_NUL = re.compile(rb"(\\\\)|\\u0000")
_SURROGATE = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
#: A text, to its end or, if it has none, the document's; or a number that may be too large. Each digit is tried once.
_NUMBER = re.compile(
    rb'"(?:[^"\\]|\\.)*+"?|(?P<none>-?Infinity|NaN'
    rb"|(?<![\d.])-?\d++(?:\.\d++)?[eE]\+?\d{3,}+|(?<![\d.])-?\d{309,}+(?:\.\d++)?(?:[eE][+-]?\d++)?)",
    re.DOTALL,
)


def without_nul(text: bytes, warnings: Warnings) -> bytes:
    r"""Take out each \u0000: JSON, but no text for PostgreSQL. In \\u0000 it is the backslash that is escaped."""
    if rb"\u0000" not in text:
        return text
    cleaned = _NUL.sub(rb"\1", text)
    _count(warnings, "NUL characters removed", (len(text) - len(cleaned)) // len(rb"\u0000"))
    return cleaned


def without_lone_surrogates(text: bytes, warnings: Warnings) -> bytes:
    """Replace an escaped half of a surrogate pair, which is no character, by U+FFFD."""
    lone = (found.span() for found in _SURROGATE.finditer(text) if found["lone"])
    return _replaced(text, lone, rb"\ufffd", warnings, "broken characters replaced")


def without_not_finite(text: bytes, warnings: Warnings) -> bytes:
    """Put null in the place of what Python's `json` writes for such numbers, and of those no float can hold (1e400)."""
    none = (
        found.span()
        for found in _NUMBER.finditer(text)
        if found["none"] is not None and not math.isfinite(float(found["none"]))
    )
    return _replaced(text, none, b"null", warnings, "numbers that are not finite")


def _replaced(text: bytes, spans: Iterable[tuple[int, int]], by: bytes, warnings: Warnings, name: str) -> bytes:
    """The text with something else in some places, counted. `re.sub` would hold an object for each of them."""
    made, end, times = bytearray(), 0, 0
    for start, next_end in spans:
        made += text[end:start] + by
        end = next_end
        times += 1
    _count(warnings, name, times)
    return bytes(made + text[end:]) if times else text


def _count(warnings: Warnings, name: str, times: int) -> None:
    if times:
        warnings[name] = warnings.get(name, 0) + times
