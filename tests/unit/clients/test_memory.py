from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from graphnode.clients.memory import Admission, Claim
from graphnode.errors import NoMemoryYet


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


def test_a_claim_over_all_the_memory_is_granted_alone() -> None:
    admission = Admission(memory_bytes=100, most=10)
    small, huge = Claim(admission), Claim(admission)
    assert is_taken(small, "a", 1)

    assert not is_taken(huge, "b", 1000)

    admission.end(small)
    assert is_taken(huge, "b", 1000)
    assert not is_taken(Claim(admission), "c", 1)


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


@given(
    messages=st.lists(st.lists(st.integers(1, 150), min_size=1, max_size=3), min_size=1, max_size=8),
    memory_bytes=st.integers(1, 200),
    most=st.integers(1, 4),
    choose=st.randoms(use_true_random=False),
)
def test_every_message_finishes_and_the_memory_limit_is_never_exceeded(
    messages: list[list[int]], memory_bytes: int, most: int, choose: Callable[..., object]
) -> None:
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
        assert sum(claimed.values()) <= memory_bytes or len(claimed) == 1
        assert len(claimed) <= most
        called |= admission.call()
        startable = {n for n, claim in claims.items() if n in at_work or not claim.needed or claim in called}
        assert startable or not claims, "deadlock: every message waits for another one"
