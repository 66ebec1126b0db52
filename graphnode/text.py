"""Text that is safe to show: on a terminal, in a log line, in JSON, in a picture or a page.

A character is shown by its number if a terminal could obey it, if it cannot be seen, or if XML forbids it. Everything
that is shown to operators goes through here.
"""

from __future__ import annotations

import re
import unicodedata

#: Unicode categories that are not shown: controls; format characters, which are invisible (U+200B, tag characters) or
#: change the direction of text; surrogates, private use, unassigned; the line and paragraph separators.
#: https://www.unicode.org/reports/tr44/#General_Category_Values
UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

#: Format characters that are seen: signs around Arabic, Syriac and Kaithi numbers.
#: https://www.unicode.org/reports/tr44/#Prepended_Concatenation_Mark
SIGNS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")

#: ZWNJ and ZWJ: invisible, but Persian, the scripts of India and emoji are spelled with them.
JOINERS = re.compile("[\u200c\u200d]")

ZERO_WIDTH_JOINER = "\u200d"

#: The combining class of a virama, after or before which a joiner chooses a letter's form.
VIRAMA = 9

#: Characters before a joiner in which its letter is looked for.
NEAR = 4

#: The first of the two code units of a character that JSON cannot escape as one, and the number of such units.
HIGH_SURROGATES, LOW_SURROGATES, BEYOND, HALF = 0xD800, 0xDC00, 0x10000, 10

#: The most characters whose escapes are kept in memory: whoever sends every character there is fills it no further.
MOST_KEPT = 10_000

#: The most characters that an error quotes of outside text, such as a key or a decoder's message.
LONGEST_PROBLEM = 200


class _Escapes(dict[int, str]):
    """What stands for a character, by its number, for `str.translate`. It is filled as characters come."""

    def __missing__(self, number: int) -> str:
        character = chr(number)
        shown = character if _is_seen(character) else self.escape(number)
        if len(self) < MOST_KEPT:
            self[number] = shown
        return shown

    @staticmethod
    def escape(number: int) -> str:
        """The escape as Python writes it."""
        return ascii(chr(number))[1:-1]


class _JsonEscapes(_Escapes):
    @staticmethod
    def escape(number: int) -> str:
        """The escape as JSON writes it."""
        if number < BEYOND:
            return f"\\u{number:04x}"
        high, low = divmod(number - BEYOND, 1 << HALF)
        return f"\\u{HIGH_SURROGATES + high:04x}\\u{LOW_SURROGATES + low:04x}"


_ESCAPES = _Escapes()
_JSON_ESCAPES = _JsonEscapes({ord("\n"): "\n"})


def escaped(text: str, *, but: str = "") -> str:
    """The text with an escape such as \\x1b or \\u200b for each unprintable character: none is lost.

    Parameters:
      but: a character that stays as it is.
    """
    if but:
        return but.join(map(escaped, text.split(but)))
    return _translated(text, _ESCAPES)


def escaped_json(text: str) -> str:
    """JSON text that means the same, without unprintable characters. Line ends between its parts stay."""
    return _translated(text, _JSON_ESCAPES)


def printable(text: str) -> str:
    """The text on one line, escaped."""
    return escaped(" ".join(text.split()))


def without_unprintable(text: str) -> str:
    """The text on one line, without unprintable characters: for those to whom their numbers say nothing."""
    kept = JOINERS.sub(lambda found: found[0] if _joins(found) else "", " ".join(text.split()))
    return " ".join("".join(filter(_is_seen, kept)).split())


def excerpt(text: str, *, most: int = 60) -> str:
    """The beginning of a text, `most` characters, with unprintable characters escaped."""
    shown = escaped(text[: most + 1])
    return shown if len(shown) <= most else f"{shown[:most]}…"


def _translated(text: str, escapes: _Escapes) -> str:
    if text.isprintable():
        # So it is without looking at each character.
        return text
    # The escape of a joiner is ASCII, which the rest leaves alone.
    joined = JOINERS.sub(lambda found: found[0] if _joins(found) else escapes.escape(ord(found[0])), text)
    return joined.translate(escapes)


def _is_seen(character: str) -> bool:
    """Whether a character is seen and nothing else; of joiners, their neighbours decide before."""
    return (
        unicodedata.category(character) not in UNPRINTABLE or character in SIGNS or bool(JOINERS.fullmatch(character))
    )


def _joins(found: re.Match[str]) -> bool:
    """Whether a joiner is needed where it stands: between Arabic letters, beside a virama, or between emoji.

    https://www.rfc-editor.org/rfc/rfc5892#appendix-A, https://www.unicode.org/reports/tr51/#Emoji_ZWJ_Sequences
    """
    before = found.string[max(0, found.start() - NEAR) : found.start()]
    after = found.string[found.end() : found.end() + 1]
    if VIRAMA in map(unicodedata.combining, before[-1:] + after):
        return True
    # A vowel sign or a variation selector belongs to the character before it.
    base = next((each for each in reversed(before) if unicodedata.category(each) != "Mn"), "")
    if not base or not after:
        return False
    if unicodedata.bidirectional(base) == unicodedata.bidirectional(after) == "AL":
        return True
    is_emoji = unicodedata.category(base) in ("So", "Sk") and unicodedata.category(after) in ("So", "Sm")
    return is_emoji and found[0] == ZERO_WIDTH_JOINER
