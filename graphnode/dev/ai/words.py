"""Words, sentences and language of a text, by regular expressions and small word lists for English, German and Korean.

Texts in other languages work too, but without stop words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

Language = Literal["en", "de", "ko"]

#: Letters, with hyphens, apostrophes and underscores inside.
_WORD = re.compile(r"[^\W\d_]+(?:[-'\u2019_][^\W\d_]+)*")

_HANGUL = re.compile(r"[가-힣]")

#: The end of a sentence: a punctuation mark before a space, or the end of a line.
_SENTENCE_END = re.compile(r"(?<=[.!?…。\uff1f\uff01])[\"'”»)]*\s+|\n+")

#: Headings, list marks and emphasis in Markdown.
_MARKS = re.compile(r"(?m)^#{1,6}\s.*$|^\s*(?:[-*+>]|\d+[.)])\s+|(?<!\w)[*_`]{1,3}|[*_`]{1,3}(?!\w)")

#: Shorter words are ignored, except in Korean.
SHORTEST_WORD = 3


def _list(name: str) -> list[str]:
    """One of the word lists, in order."""
    return (Path(__file__).with_name("lists") / f"{name}.txt").read_text(encoding="utf-8").split()


#: Words that say little about a text's subject.
STOP_WORDS: Mapping[Language, frozenset[str]] = {
    "en": frozenset(_list("stop_words_en")),
    "de": frozenset(_list("stop_words_de")),
    "ko": frozenset(_list("stop_words_ko")),
}

#: Korean particles at a word's end, the longest first. A stem of one syllable loses only the short ones.
PARTICLES = _list("particles_ko")
SHORT_PARTICLES = frozenset("은는이을를에의도과로만")

#: Endings of Korean predicates. Words with these endings are ignored.
PREDICATE_ENDS = tuple(_list("predicate_ends_ko"))

#: Words that identify a language. Korean is identified by Hangul.
_COMMON: Mapping[Language, frozenset[str]] = {
    "en": frozenset({"the", "and", "of", "to", "is", "it", "that", "in", "for", "with", "are", "not", "from"}),
    "de": frozenset({"der", "die", "das", "und", "ist", "nicht", "mit", "ein", "eine", "den", "dem", "zu", "auf"}),
}


class Word(NamedTuple):
    """A word of a text: `term` is its normalized form for counting, `surface` its written form."""

    term: str
    surface: str


def words(text: str) -> list[Word]:
    """The words of a text, without stop words."""
    return [word for found in _WORD.findall(text) if (word := _word(found))]


def _word(surface: str) -> Word | None:
    term = surface.casefold().replace("\u2019", "'")
    if _HANGUL.search(term):
        return _korean_word(term)
    if len(term) < SHORTEST_WORD or term in STOP_WORDS["en"] or term in STOP_WORDS["de"]:
        return None
    head = term.partition("'")[0]
    if head != term:
        return None if len(head) < SHORTEST_WORD or head in STOP_WORDS["en"] else Word(head, surface[: len(head)])
    # English plurals. German words may lose an s too, but stay distinct.
    if len(term) > 4 and term.endswith("s") and not term.endswith(("ss", "us", "is")):
        term = term[:-1]
    return Word(term, surface)


def _korean_word(surface: str) -> Word | None:
    if surface in STOP_WORDS["ko"] or (len(surface) > 1 and surface.endswith(PREDICATE_ENDS)):
        return None
    term = surface
    for particle in PARTICLES:
        rest = surface.removesuffix(particle)
        if rest != surface:
            term = rest if len(rest) > 1 or (rest and particle in SHORT_PARTICLES) else surface
            break
    return None if term in STOP_WORDS["ko"] else Word(term, term)


def grams(terms: Iterable[str]) -> list[str]:
    """Parts of words. They make `Sauerteig` similar to `Roggensauerteig`, and `햇빛` to `햇빛이라`."""
    parts = []
    for term in terms:
        length = 2 if _HANGUL.search(term) else 5
        parts += [term[start : start + length] for start in range(max(1, len(term) - length + 1))]
    return parts


def surfaces(found: Iterable[Word]) -> dict[str, str]:
    """The most frequent written form of each term; ties in alphabetical order."""
    counts: dict[str, Counter[str]] = {}
    for word in found:
        counts.setdefault(word.term, Counter())[word.surface] += 1
    return {term: min(forms, key=lambda form: (-forms[form], form)) for term, forms in counts.items()}


def sentences(text: str) -> list[str]:
    """The sentences of a text, without Markdown headings and marks."""
    plain = _MARKS.sub("", text)
    return [sentence.strip() for sentence in _SENTENCE_END.split(plain) if sentence and sentence.strip()]


def language_of(text: str) -> Language | None:
    """The language of a text: English, German, Korean or None."""
    letters = sum(map(str.isalpha, text))
    if not letters:
        return None
    if len(_HANGUL.findall(text)) > letters / 3:
        return "ko"
    found = Counter(word.casefold() for word in _WORD.findall(text))
    scores: dict[Language, int] = {
        language: sum(found[word] for word in common) for language, common in _COMMON.items()
    }
    best = max(scores, key=lambda language: scores[language])
    return best if scores[best] else None


def excerpt(text: str, *, length: int) -> str:
    """A text, cut between words if it is longer than `length` characters."""
    if len(text) <= length:
        return text
    return text[:length].rsplit(" ", 1)[0].rstrip(" ,;:") + " …"
