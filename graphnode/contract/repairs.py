"""Repairs of a document's text. Each is counted as a warning, so that a fault does not cost the document.

Every repair takes linear time, whatever the text: a search of `re` holds the GIL and cannot be interrupted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

#: Counts by name, stored with the task: {"edges to unknown nodes": 3}.
Warnings = dict[str, int]

NUL_REMOVED = "NUL characters removed"

_NUL = re.compile(rb"(\\\\)|\\u0000")
_SURROGATE = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
#: A text, up to its end or the document's end; or a number that may be too large. Each digit is matched once.
_NUMBER = re.compile(
    rb'"(?:[^"\\]|\\.)*+"?|(?P<none>-?Infinity|NaN'
    rb"|(?<![\d.])-?\d++(?:\.\d++)?[eE]\+?\d{3,}+|(?<![\d.])-?\d{309,}+(?:\.\d++)?(?:[eE][+-]?\d++)?)",
    re.DOTALL,
)


def without_nul(text: bytes, warnings: Warnings) -> bytes:
    r"""The text without \u0000, which PostgreSQL cannot store. In \\u0000, the backslash is escaped: that stays."""
    if rb"\u0000" not in text:
        return text
    cleaned = _NUL.sub(rb"\1", text)
    add_count(warnings, NUL_REMOVED, (len(text) - len(cleaned)) // len(rb"\u0000"))
    return cleaned


def without_lone_surrogates(text: bytes, warnings: Warnings) -> bytes:
    """The text with U+FFFD in place of each lone surrogate."""
    lone = (found.span() for found in _SURROGATE.finditer(text) if found["lone"])
    return _replaced(text, lone, rb"\ufffd", warnings, "broken characters replaced")


def without_not_finite(text: bytes, warnings: Warnings) -> bytes:
    """The text with null in place of NaN and Infinity, which Python's `json` writes, and of numbers such as 1e400."""
    none = (
        found.span()
        for found in _NUMBER.finditer(text)
        if found["none"] is not None and not math.isfinite(float(found["none"]))
    )
    return _replaced(text, none, b"null", warnings, "numbers that are not finite")


def _replaced(text: bytes, spans: Iterable[tuple[int, int]], by: bytes, warnings: Warnings, name: str) -> bytes:
    """The text with each span replaced, and counted. `re.sub` would keep an object for each of them in memory."""
    made, end, times = bytearray(), 0, 0
    for start, next_end in spans:
        made += text[end:start] + by
        end = next_end
        times += 1
    add_count(warnings, name, times)
    return bytes(made + text[end:]) if times else text


def add_count(warnings: Warnings, name: str, times: int) -> None:
    """Count a repair."""
    if times:
        warnings[name] = warnings.get(name, 0) + times
