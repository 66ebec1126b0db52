from __future__ import annotations

import pytest

from graphnode.dev.ai.words import excerpt, grams, language_of, sentences, words


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The borrow checker doesn't like my loops.", ["borrow", "checker", "loop"]),
        ("Der Sauerteig, die Krusten & das Öl", ["sauerteig", "krusten"]),
        ("화분에 물을 주면 흙이 젖는다.", ["화분", "물", "흙"]),
        ("교토에서는 버스보다 열차가 빠릅니다", ["교토", "버스", "열차"]),
        ("string_slice and REM-sleep", ["string_slice", "rem-sleep"]),
        ("3 + 4 = 7 — ok", []),
    ],
)
def test_the_words_of_three_languages_are_found(text: str, terms: list[str]) -> None:
    assert [word.term for word in words(text)] == terms


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The crust is soft and the oven is hot.", "en"),
        ("Die Kruste ist weich und der Ofen ist heiß.", "de"),
        ("교토 여행과 Rust", "ko"),
        ("La croûte molle", None),
        ("12:30", None),
    ],
)
def test_the_language_of_a_text_is_detected(text: str, language: str | None) -> None:
    assert language_of(text) == language


def test_compounds_and_inflections_share_parts() -> None:
    assert set(grams(["sauerteig"])) & set(grams(["sauerteigbrot"]))
    assert set(grams(["햇빛이라"])) & set(grams(["햇빛"]))


def test_sentences_have_no_markdown() -> None:
    text = "## Dough\n\nIt *sticks*. Wet hands help!\n- 물을 준다.\n1. Bake"

    assert sentences(text) == ["It sticks.", "Wet hands help!", "물을 준다.", "Bake"]


def test_an_excerpt_ends_at_a_word() -> None:
    assert excerpt("Wet hands help, always.", length=100) == "Wet hands help, always."
    assert excerpt("Wet hands help, always.", length=17) == "Wet hands help …"
