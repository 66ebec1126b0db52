"""Text that is safe to show: on a terminal, in a log line, in a picture."""

from __future__ import annotations

import unicodedata

#: Unicode categories that are not shown: controls, surrogates, private use, unassigned. A terminal would obey some of
#: them, and XML allows few. https://www.unicode.org/reports/tr44/#General_Category_Values
UNPRINTABLE = frozenset({"Cc", "Cs", "Co", "Cn"})

#: Characters that change the direction of the following text. https://www.unicode.org/reports/tr9/#Directional_Formatting_Characters
BIDI_CONTROLS = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

#: The most characters that an error quotes of outside text, such as a key or a decoder's message.
LONGEST_PROBLEM = 200


def excerpt(text: str, *, most: int = 60) -> str:
    """The beginning of a text, `most` characters, with unprintable characters escaped."""
    shown = escaped(text[: most + 1])
    return shown if len(shown) <= most else f"{shown[:most]}…"


def printable(text: str) -> str:
    """The text on one line, without unprintable characters."""
    kept = (
        " " if character.isspace() else character
        for character in text
        if character.isspace()
        or (unicodedata.category(character) not in UNPRINTABLE and character not in BIDI_CONTROLS)
    )
    return " ".join("".join(kept).split())


def escaped(text: str, *, but: str = "") -> str:
    """The text with its unprintable characters escaped: a terminal obeys none, and none is lost.

    Parameters:
      but: characters that stay as they are.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if character in but or character == " " or printable(character) else ascii(character)[1:-1]
        for character in text
    )
