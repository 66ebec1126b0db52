"""Batches within SQS's limits."""

from __future__ import annotations

import pytest

from graphnode.sqs.queues import BATCH_ENTRIES, LARGEST_MESSAGE_BYTES, batches_of


@pytest.mark.parametrize(("count", "lengths"), [(0, []), (1, [1]), (10, [10]), (21, [10, 10, 1])])
def test_a_batch_has_ten_items_at_most(count: int, lengths: list[int]) -> None:
    batches = list(batches_of(range(count)))

    assert [len(batch) for batch in batches] == lengths
    assert [item for batch in batches for item in batch] == list(range(count))
    assert BATCH_ENTRIES == 10


def test_a_batch_is_no_larger_than_a_message_may_be() -> None:
    half = LARGEST_MESSAGE_BYTES // 2

    assert list(batches_of([half, half, 1, half], size=int)) == [[half, half], [1, half]]


def test_an_item_that_is_too_large_has_a_batch_of_its_own() -> None:
    large = LARGEST_MESSAGE_BYTES + 1

    assert list(batches_of([1, large, 1], size=int)) == [[1], [large], [1]]
