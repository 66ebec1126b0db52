from __future__ import annotations

import json
import sys
import unicodedata
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode import text as text_module
from graphnode.text import MOST_KEPT, escaped, escaped_json, excerpt, printable, without_unprintable

#: What may not reach a terminal, a picture or a page as it is: a character of each kind, and its number.
HOSTILE = {
    "\x00": r"\x00",
    "\x1b": r"\x1b",
    "\x7f": r"\x7f",
    "\x9b": r"\x9b",
    "\xad": r"\xad",
    "\u061c": r"\u061c",
    "\u200b": r"\u200b",
    "\u200e": r"\u200e",
    "\u202e": r"\u202e",
    "\u2028": r"\u2028",
    "\u2029": r"\u2029",
    "\u2060": r"\u2060",
    "\u2066": r"\u2066",
    "\ufeff": r"\ufeff",
    "\ufff9": r"\ufff9",
    "\ue000": r"\ue000",
    "\uffff": r"\uffff",
    "\ud800": r"\ud800",
    "\U000e0041": r"\U000e0041",
    "\U0001d173": r"\U0001d173",
}

#: Words that are spelled with a joiner.
JOINED = [
    "می\u200cخواهم",  # Persian: I want  # noqa: RUF001
    "کتاب\u200cها",  # Persian: books  # noqa: RUF001
    "سَ\u200cب",  # after a vowel sign
    "क्\u200dष",  # Hindi
    "क्\u200cष",
    "ക്\u200d",  # Malayalam, at the end
    "র\u200d্য",  # Bengali
    "ක්\u200dෂ",  # Sinhala
    "👩\u200d🔬",
    "👩🏽\u200d🚀",
    "❤️\u200d🔥",
    "🏴\u200d☠️",
    "👨\u200d👩\u200d👧",
    "🙂\u200d↔️",
]

#: Joiners that change nothing that is seen.
HIDDEN = [
    "a\u200cb",
    "a\u200db",
    "\u200dada",
    "ada\u200c",
    "ي\u200ca",
    "ي\u200c\u200cي",
    "1\u200d2",
    "👩\u200c🔬",
    "가\u200d나",
]

#: Text of any script, and of any character.
TEXTS = st.text(st.one_of(st.characters(), st.sampled_from([*HOSTILE, "\u200c", "\u200d", "\n", " ", "ي", "्", "👩"])))


@pytest.mark.parametrize(("character", "number"), HOSTILE.items(), ids=HOSTILE.values())
def test_what_a_terminal_obeys_or_nobody_sees_is_shown_by_its_number(character: str, number: str) -> None:
    assert escaped(f"a{character}b") == f"a{number}b"
    assert json.loads(escaped_json(f'"a{json.dumps(character)[1:-1]}b"')) == f"a{character}b"


@pytest.mark.parametrize("text", ["Tee & Kaffee", "お茶　緑", "교토", "עִבְרִית", "a\u00a0b", "\u0600٢٣", "ａ①½"])
def test_what_is_seen_stays(text: str) -> None:
    assert escaped(text) == text


@pytest.mark.parametrize("text", JOINED)
def test_a_joiner_stays_where_its_script_needs_it(text: str) -> None:
    assert escaped(text) == printable(text) == without_unprintable(text) == text


@pytest.mark.parametrize("text", HIDDEN)
def test_a_joiner_that_hides_is_shown_by_its_number(text: str) -> None:
    assert "\\u200" in escaped(text)
    assert not set("\u200c\u200d") & set(escaped(text))
    assert not set("\u200c\u200d") & set(without_unprintable(text))


def test_a_text_on_one_line_keeps_its_words_apart() -> None:
    assert printable("  two\n\tlines\u2028and\x85more ") == "two lines and more"
    assert printable("\x1b[31mred\x07") == r"\x1b[31mred\x07"
    assert without_unprintable("\x1b[31mred\x07 \u202e") == "[31mred"


def test_a_character_can_be_excepted() -> None:
    assert escaped("a\nb\x1b\n", but="\n") == "a\nb\\x1b\n"


def test_an_excerpt_is_short_and_escaped() -> None:
    assert excerpt("\x1b" * 100, most=10) == r"\x1b\x1b\x…"
    assert excerpt("short") == "short"


@given(TEXTS)
def test_no_text_has_an_unprintable_character_left(text: str) -> None:
    for shown in (escaped(text), printable(text), without_unprintable(text), escaped_json(json.dumps(text))):
        left = set(shown) - {"\u200c", "\u200d"} - text_module.SIGNS
        assert not {each for each in left if unicodedata.category(each) in text_module.UNPRINTABLE}
        assert escaped(shown) == shown
    ElementTree.fromstring(f"<t>{printable(text).replace('&', '').replace('<', '').replace(']]>', '')}</t>")


@given(st.one_of(TEXTS, st.dictionaries(TEXTS, TEXTS)))
def test_json_means_the_same(value: object) -> None:
    shown = escaped_json(json.dumps(value, ensure_ascii=False, indent=1))

    assert json.loads(shown) == value


def test_memory_stays_bounded_whatever_characters_come() -> None:
    escaped("".join(map(chr, range(0x100, 0x100 + 3 * MOST_KEPT))))

    assert len(text_module._ESCAPES) <= MOST_KEPT
    assert escaped(chr(sys.maxunicode)) == r"\U0010ffff"
