from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.clients.memory import (
    SWITCH_INTERVAL_S,
    USUAL_SWITCH_INTERVAL_S,
    Admission,
    Claim,
    Tally,
    Weights,
)
from graphnode.errors import DocumentTooLarge, NoMemoryYet


def is_taken(claim: Claim, name: str, size: int) -> bool:
    try:
        claim.take(name, size)
    except NoMemoryYet:
        return False
    return True


def test_claims_are_granted_up_to_the_memory_and_then_wait_for_their_turn() -> None:
    admission = Admission(memory_bytes=100, most=10)
    first, second, third, fourth = (Claim(admission) for _ in range(4))

    taken = [is_taken(claim, "a", size) for claim, size in ((first, 60), (second, 60), (third, 50), (fourth, 10))]

    assert taken == [True, False, False, False]
    admission.end(first)
    assert admission.call() == {second}
    admission.end(second)
    assert admission.call() == {third, fourth}
    assert admission.call() == set()


def test_the_number_of_granted_claims_is_limited_however_small_they_are() -> None:
    admission = Admission(memory_bytes=100, most=2)

    assert [is_taken(Claim(admission), "a", 1) for _ in range(3)] == [True, True, False]


def test_threads_switch_often_only_while_a_big_document_is_worked_on() -> None:
    admission = Admission(memory_bytes=100, most=1)
    first, second = Claim(admission), Claim(admission)

    assert is_taken(first, "a", 1)
    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)
    assert not is_taken(second, "a", 1)
    admission.end(first)
    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S), "the second one's turn has come"
    admission.end(second)

    assert sys.getswitchinterval() == pytest.approx(USUAL_SWITCH_INTERVAL_S)


def test_a_claim_over_all_the_memory_is_refused_and_keeps_what_it_has() -> None:
    admission = Admission(memory_bytes=100, most=10)
    claim, other = Claim(admission), Claim(admission)
    assert is_taken(claim, "graph", 60)

    with pytest.raises(DocumentTooLarge, match=r"^summary takes over 41 bytes.*40 are left.*GRAPHNODE_DOCUMENT_MEMORY"):
        claim.take("summary", 41)

    assert claim.needed == 60
    assert not is_taken(other, "another's", 41)
    assert is_taken(claim, "summary", 40)


def test_what_is_only_wanted_is_claimed_as_far_as_there_may_be_so_much() -> None:
    claim = Claim(Admission(memory_bytes=100, most=10))

    assert claim.take("a", 10, wanted=30) == 30
    assert claim.take("b", 10, wanted=500) == 70


def test_what_was_wanted_and_is_not_needed_is_free_for_the_next_document_and_for_others() -> None:
    admission = Admission(memory_bytes=100, most=10)
    claim, other = Claim(admission), Claim(admission)
    claim.take("graph", 10, wanted=100)
    assert not is_taken(other, "another's", 50)

    claim.give_back("graph", 40)

    assert admission.call() == {other}
    assert is_taken(claim, "features", 10)


def test_a_document_that_is_opened_again_takes_no_more_memory() -> None:
    admission = Admission(memory_bytes=100, most=10)
    claim = Claim(admission)

    assert all(is_taken(claim, "the same", 60) for _ in range(3))


def test_a_growing_claim_continues_if_there_is_room_or_returns_all_its_memory_until_its_turn() -> None:
    admission = Admission(memory_bytes=100, most=10)
    first, second, third = (Claim(admission) for _ in range(3))
    assert is_taken(first, "a", 50)
    assert is_taken(second, "a", 30)
    assert not is_taken(third, "a", 50)

    assert is_taken(first, "b", 20)
    assert not is_taken(second, "b", 10)

    assert admission.call() == set()
    admission.end(first)
    assert admission.call() == {second, third}
    assert is_taken(second, "a", 30)
    assert is_taken(second, "b", 10)


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("plain", 1),
        ("Größe", 2),
        ("차", 2),
        ("\\u00e9", 2),
        ("😀", 4),
        ("\\ud83d\\ude00", 4),
        ("\\uD83D\\uDE00", 4),
    ],
)
def test_a_text_counts_by_its_widest_character(text: str, width: int) -> None:
    weights = Weights(text=1, character=10, value=0, array=0, object=0)
    tally = Tally(weights)

    assert weights.of(text.encode()) == len(text.encode()) * (1 + 10 * width)
    tally.add(text.encode())
    assert tally.add(b"x" * 100) == (len(text.encode()) + 100) * (1 + 10 * width)


def test_values_arrays_and_objects_are_counted() -> None:
    weights = Weights(text=0, character=0, value=1, array=100, object=10_000)

    assert weights.of(b'[{"a":[1,2]},{},[]]') == 3 + 3 * 100 + 2 * 10_000


@given(
    messages=st.lists(st.lists(st.integers(1, 150), min_size=1, max_size=3), min_size=1, max_size=8),
    memory_bytes=st.integers(1, 200),
    most=st.integers(1, 4),
    choose=st.randoms(use_true_random=False),
)
def test_every_message_finishes_and_the_memory_limit_is_never_exceeded(
    messages: list[list[int]], memory_bytes: int, most: int, choose: Callable[..., object]
) -> None:
    messages = [sizes for sizes in messages if sum(sizes) <= memory_bytes]
    admission = Admission(memory_bytes=memory_bytes, most=most)
    claims = {number: Claim(admission) for number in range(len(messages))}
    at_work: dict[int, int] = {}
    called: set[Claim] = set()
    startable = set(claims)

    # A worker with a thread for each message, of which one at a time takes a step.
    while claims:
        number = choose.choice(sorted(startable))  # type: ignore[attr-defined]
        step = at_work.get(number, 0)
        if step == len(messages[number]):
            admission.end(claims.pop(number))
            del at_work[number]
        elif is_taken(claims[number], f"document {step}", messages[number][step]):
            at_work[number] = step + 1
        else:
            at_work.pop(number, None)
        claimed = {n: sum(messages[n][:step]) for n, step in at_work.items()}
        assert sum(claimed.values()) <= memory_bytes
        assert len(claimed) <= most
        called |= admission.call()
        startable = {n for n, claim in claims.items() if n in at_work or not claim.needed or claim in called}
        assert startable or not claims, "deadlock: every message waits for another one"
