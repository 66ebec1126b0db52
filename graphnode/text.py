"""Text as it may be shown on a line of a terminal or a picture."""

from __future__ import annotations

import unicodedata

#: Unicode's categories of what has no place in a line of text: controls, surrogates, private use, unassigned. A
#: terminal would obey some of them, and XML allows few. https://www.unicode.org/reports/tr44/#General_Category_Values
UNPRINTABLE = frozenset({"Cc", "Cs", "Co", "Cn"})

#: What turns the direction of the text that follows. https://www.unicode.org/reports/tr9/#Directional_Formatting_Characters
TURNING = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

#: The longest part of a problem that somebody else's text is quoted in: a decoder's words, a key. In characters.
LONGEST_PROBLEM = 200


def excerpt(text: str, *, most: int = 60) -> str:
    """The beginning of a text, so many characters, with escapes for what is not for the eye."""
    shown = escaped(text[: most + 1])
    return shown if len(shown) <= most else f"{shown[:most]}…"


def printable(text: str) -> str:
    """The text on one line, without what is not for the eye."""
    kept = (
        " " if character.isspace() else character
        for character in text
        if character.isspace() or (unicodedata.category(character) not in UNPRINTABLE and character not in TURNING)
    )
    return " ".join("".join(kept).split())


def escaped(text: str, *, but: str = "") -> str:
    """The text with an escape for each character that is not for the eye, so that none is obeyed and none is lost.

    Parameters:
      but: what stays as it is.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if character in but or character == " " or printable(character) else ascii(character)[1:-1]
        for character in text
    )
