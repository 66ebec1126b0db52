"""Words, sentences and languages of a text: regular expressions and small lists of our own, for three languages.

Any other language is taken as it comes: its words count, and what is frequent in it is not left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

Language = Literal["en", "de", "ko"]

#: Letters, with hyphens and apostrophes inside, and what a programmer's name may have.
_WORD = re.compile(r"[^\W\d_]+(?:[-'’_][^\W\d_]+)*")

_HANGUL = re.compile(r"[가-힣]")

#: The end of a sentence: a mark that is followed by a space, or the end of a line.
_SENTENCE_END = re.compile(r"(?<=[.!?…。？！])[\"'”»)]*\s+|\n+")

#: Headings, list marks and emphasis of Markdown.
_MARKS = re.compile(r"(?m)^#{1,6}\s.*$|^\s*(?:[-*+>]|\d+[.)])\s+|[*_`]{1,3}")

#: A Latin word of fewer letters says little.
SHORTEST_WORD = 3

STOP_WORDS: dict[Language, frozenset[str]] = {
    "en": frozenset(
        ["a", "about", "above", "after", "again", "against", "all", "almost", "also", "although", "always", "am", "an", "and", "another", "any", "anybody", "anything", "are", "around", "as", "ask", "at", "away", "be", "because", "been", "before", "being", "below", "beside", "best", "better", "between", "both", "but", "by", "call", "called", "can", "cannot", "come", "comes", "could", "did", "do", "does", "doesn", "doing", "don", "done", "down", "during", "each", "either", "else", "enough", "even", "ever", "every", "everybody", "everything", "few", "first", "for", "from", "get", "gets", "give", "gives", "go", "goes", "gone", "good", "half", "had", "has", "have", "having", "he", "help", "helps", "her", "here", "him", "himself", "his", "how", "however", "if", "in", "instead", "into", "is", "isn", "it", "its", "itself", "just", "keep", "keeps", "kept", "know", "last", "later", "least", "let", "lets", "like", "little", "long", "longer", "look", "looks", "lot", "made", "make", "makes", "many", "may", "maybe", "me", "mean", "might", "more", "most", "mostly", "much", "must", "my", "myself", "near", "nearly", "need", "needs", "neither", "never", "new", "next", "no", "nobody", "none", "nor", "not", "nothing", "notice", "now", "of", "off", "often", "old", "on", "once", "one", "ones", "only", "or", "other", "others", "our", "out", "over", "own", "part", "people", "perhaps", "put", "puts", "quite", "rather", "really", "right", "run", "runs", "said", "same", "say", "says", "second", "see", "seem", "seems", "several", "shall", "she", "should", "since", "small", "so", "some", "somebody", "something", "soon", "still", "such", "take", "takes", "tell", "tells", "than", "that", "the", "their", "them", "then", "there", "these", "they", "thing", "things", "think", "this", "those", "though", "three", "through", "thus", "time", "times", "to", "together", "too", "towards", "try", "two", "under", "until", "up", "upon", "us", "use", "used", "uses", "using", "usual", "usually", "very", "want", "wants", "was", "way", "we", "well", "were", "what", "when", "where", "whether", "which", "while", "who", "whoever", "whole", "whom", "whose", "why", "will", "with", "without", "works", "would", "write", "writes", "yes", "yet", "you", "your"]
    ),
    "de": frozenset(
        ["ab", "aber", "alle", "allem", "allen", "aller", "alles", "als", "also", "am", "an", "andere", "anderen", "anderer", "anderes", "andern", "auch", "auf", "aus", "ausser", "außer", "bei", "beide", "beiden", "beim", "bin", "bis", "bist", "bleibt", "bringt", "brauche", "braucht", "da", "dabei", "dafür", "daher", "damit", "danach", "dann", "daran", "darauf", "daraus", "darf", "darin", "das", "dass", "davon", "dazu", "dein", "deine", "dem", "den", "denn", "der", "deren", "des", "deshalb", "dessen", "desto", "deutlich", "dich", "die", "dies", "diese", "diesem", "diesen", "dieser", "dieses", "dir", "doch", "dort", "drei", "du", "durch", "eben", "ein", "eine", "einem", "einen", "einer", "eines", "einfach", "einmal", "entlang", "er", "erst", "erste", "ersten", "es", "etwa", "etwas", "euch", "euer", "fast", "fertig", "für", "ganz", "ganze", "geben", "gegen", "geht", "genau", "genug", "gibt", "gleich", "gut", "guten", "habe", "haben", "halten", "hat", "hatte", "hier", "hin", "hinter", "hält", "ich", "ihm", "ihn", "ihnen", "ihr", "ihre", "ihrem", "ihren", "im", "immer", "in", "indem", "ins", "ist", "ja", "je", "jede", "jedem", "jeden", "jeder", "jedes", "jemand", "jetzt", "kann", "kein", "keine", "keinen", "kleine", "kommen", "kommt", "können", "lang", "lange", "länger", "lassen", "lässt", "leicht", "löst", "mal", "man", "manche", "manchen", "mehr", "mein", "meine", "meinem", "meinen", "meist", "meistens", "mich", "mir", "mit", "muss", "musst", "müssen", "nach", "nächste", "nächsten", "nächstes", "nehme", "nicht", "nichts", "nie", "nimm", "nimmt", "nimmer", "noch", "nun", "nur", "ob", "oben", "oder", "oft", "ohne", "schon", "sehr", "sein", "seine", "seinem", "seinen", "seit", "selbst", "sich", "sie", "sind", "so", "sofort", "soll", "sollen", "sollte", "sondern", "sonst", "später", "statt", "steht", "stelle", "tun", "um", "und", "uns", "unser", "unten", "unter", "viel", "viele", "vielen", "vier", "vom", "von", "vor", "vorn", "wann", "war", "waren", "warum", "was", "weil", "weit", "weiter", "welche", "welcher", "wenig", "weniger", "wenn", "wer", "werden", "wie", "wieder", "will", "wir", "wird", "wo", "wollen", "womit", "worden", "wurde", "während", "würde", "zu", "zum", "zur", "zwei", "zwischen", "zweite", "über"]
    ),
    "ko": frozenset(
        ["가장", "거의", "것", "것은", "것을", "것이", "같이", "같은", "겉", "고르게", "곳", "그", "그냥", "그늘", "그래서", "그러나", "그러면", "그런데", "그럼", "그리고", "그때", "꼭", "나", "나는", "내", "너", "너무", "네", "넘게", "늦게", "다", "다섯", "다른", "다시", "다음", "다음날", "더", "덜", "데", "두", "둘째", "둘", "등", "때", "때는", "또", "또는", "뒤", "뒤에", "마지막", "많은", "많이", "매우", "먼저", "몇", "모두", "못", "바로", "보통", "수", "수도", "싶은", "세", "세번", "셋째", "쉽게", "쪽", "쯤", "아주", "아직", "아침", "안", "어디", "어디가", "어떤", "얼마나", "언제", "얇게", "없이", "여기", "여러", "열", "오후", "오전", "와", "왜", "요", "우리", "이", "이것", "이런", "이미", "이십", "일찍", "있는", "자주", "작은", "잘", "저", "저녁", "적게", "적은", "넓은", "점심", "정도", "제", "조금", "조금씩", "조용히", "좀", "좋은", "중", "지금", "쪽", "참", "처음", "첫", "첫날", "큰", "통해", "특히", "편", "하고", "하나", "하는", "하루", "하지만", "한", "한번", "할", "함께", "해", "날", "밤", "번", "달", "년", "월", "일", "시간", "분", "세요"]
    ),
}

#: Korean particles at a word's end, the longest first. A stem of one syllable loses the short ones alone.
PARTICLES = ["에서는", "에서도", "으로는", "이라고", "까지는", "에게서", "부터는", "이나", "에서", "에게", "까지", "부터", "보다", "처럼", "으로", "하고", "마다", "밖에", "이라", "라고", "에는", "에도", "과는", "와는", "로는", "만큼", "이란", "들은", "들이", "들을", "은", "는", "이", "가", "을", "를", "의", "에", "도", "로", "와", "과", "만", "나", "란"]
SHORT_PARTICLES = frozenset(["은", "는", "이", "을", "를", "에", "의", "도", "과", "로", "만"])

#: Ends of Korean predicates: such a word is no name of anything.
PREDICATE_ENDS = tuple(
    ["니다", "세요", "어요", "아요", "해요", "에요", "예요", "네요", "까요", "나요", "래요", "져요", "와요", "워요", "려요", "는다", "한다", "된다", "었다", "았다", "였다", "했다", "난다", "준다", "싶다", "있다", "없다", "같다", "좋다", "낫다", "간다", "온다", "본다", "산다", "쓴다", "둔다", "딴다", "깐다", "린다", "진다", "친다", "킨다", "긴다", "른다", "넣다", "인다", "먹다", "많다", "하다", "되다", "이다", "막힌다", "지만", "면서", "으면", "하면", "려면", "되면", "나면", "다면", "보면", "어서", "아서", "해서", "라서", "져서", "니까", "는데", "은데", "기에", "도록", "려고", "하고", "되고", "지고", "보고", "먹고", "털고", "받고", "말고", "나고", "리고", "섞고", "있고", "없고", "주고", "하지", "되지", "주지", "지지", "나지", "있어", "없어", "해야", "어야", "아야", "려면", "거나", "리면", "르면", "치면", "피면", "주면", "지면", "오면", "서도", "이니", "으니", "하니", "하며", "되며", "으며", "가야", "가는", "하는", "되는", "있는", "없는", "주는", "나는", "나오", "오래"]
)

#: What each language is known by, beside Hangul.
_COMMON: dict[Language, frozenset[str]] = {
    "en": frozenset(["the", "and", "of", "to", "is", "it", "that", "in", "for", "with", "are", "not", "from", "this"]),
    "de": frozenset(["der", "die", "das", "und", "ist", "nicht", "mit", "ein", "eine", "den", "dem", "zu", "auf", "wird"]),
}


class Word(NamedTuple):
    """A word of a text: what it is counted as, and how it stands there."""

    term: str
    surface: str


def words(text: str) -> list[Word]:
    """The words of a text that say what it is about."""
    return [word for found in _WORD.findall(text) if (word := _word(found))]


def _word(surface: str) -> Word | None:
    term = surface.casefold().replace("’", "'")
    if _HANGUL.search(term):
        return _korean_word(term)
    if len(term) < SHORTEST_WORD or term in STOP_WORDS["en"] or term in STOP_WORDS["de"]:
        return None
    head = term.partition("'")[0]
    if head != term:
        return None if len(head) < SHORTEST_WORD or head in STOP_WORDS["en"] else Word(head, surface[: len(head)])
    # English plurals; a German word that loses its s is still told from others.
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
    """Parts of words: they make `Sauerteig` and `Roggensauerteig`, or `햇빛` and `햇빛이라`, alike to a degree."""
    parts = []
    for term in terms:
        length = 2 if _HANGUL.search(term) else 5
        parts += [term[start : start + length] for start in range(max(1, len(term) - length + 1))]
    return parts


def surfaces(found: Iterable[Word]) -> dict[str, str]:
    """How each term is written most often; of equals, the first in the alphabet."""
    counts: dict[str, Counter[str]] = {}
    for word in found:
        counts.setdefault(word.term, Counter())[word.surface] += 1
    return {term: min(forms, key=lambda form: (-forms[form], form)) for term, forms in counts.items()}


def sentences(text: str) -> list[str]:
    """The sentences of a text, without Markdown's headings and marks."""
    plain = _MARKS.sub("", text)
    return [sentence.strip() for sentence in _SENTENCE_END.split(plain) if sentence and sentence.strip()]


def language_of(text: str) -> Language | None:
    """The language of a text, if it is one of the three."""
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
    """A text, cut off at a word if it is longer than so many characters."""
    if len(text) <= length:
        return text
    return text[:length].rsplit(" ", 1)[0].rstrip(" ,;:") + " …"
