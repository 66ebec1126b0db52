from __future__ import annotations

import pytest

from graphnode.errors import GraphNodeError, InvalidDocument, classify_error
from graphnode.telemetry import stacks
from graphnode.telemetry.stacks import stack_of


def raised(error: BaseException) -> BaseException:
    try:
        try:
            raise ValueError("a user's words")
        except ValueError as cause:
            raise error from cause
    except BaseException as caught:
        return caught


@pytest.mark.parametrize("error", [InvalidDocument("a user's words"), KeyError("a user's words")])
def test_a_stack_has_frames_and_types_but_no_error_texts(error: BaseException) -> None:
    stack = stack_of(classify_error(raised(error)))

    assert stack
    assert stack.index("builtins.ValueError") < stack.index(type(error).__name__)
    assert "in raised" in stack
    assert "a user's words" not in stack.replace('raise ValueError("a user\'s words")', "")


def test_an_error_that_was_never_raised_has_no_stack() -> None:
    assert stack_of(GraphNodeError("text")) is None


def test_a_stack_is_bounded_and_keeps_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "LONGEST_STACK", 100)

    def deep(levels: int) -> None:
        if not levels:
            raise InvalidDocument("x")
        deep(levels - 1)

    with pytest.raises(InvalidDocument) as caught:
        deep(100)

    stack = stack_of(caught.value)
    assert stack
    assert len(stack) == 100
    assert stack.endswith("InvalidDocument")
