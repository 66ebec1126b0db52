from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from graphnode import steps
from graphnode.steps import EVENTS, STEPS, Step, count_event, is_step, step, subscribed

PACKAGE = Path(steps.__file__).parent


@pytest.fixture(scope="module")
def sources() -> str:
    """The package's source code, without the module that declares the names."""
    return "\n".join(path.read_text() for path in PACKAGE.rglob("*.py") if path.name != "steps.py")


def test_subscribers_wrap_a_step_in_their_order_and_see_its_error() -> None:
    seen = []

    def subscriber(who: str) -> steps.Around:
        @contextmanager
        def around(name: Step) -> Iterator[None]:
            seen.append(f"{who} before {name}")
            try:
                yield
            except ValueError as error:
                seen.append(f"{who} {error}")
                raise

        return around

    with subscribed(around=subscriber("one")), subscribed(around=subscriber("two")):  # noqa: SIM117
        with pytest.raises(ValueError, match="broke"), step("fetch"):
            raise ValueError("broke")

    assert seen == ["one before fetch", "two before fetch", "two broke", "one broke"]


def test_a_step_without_subscribers_creates_nothing() -> None:
    assert step("fetch") is step("store")


def test_each_call_of_a_step_function_is_a_step_and_returns_its_result() -> None:
    seen = []

    @contextmanager
    def around(name: Step) -> Iterator[None]:
        seen.append(f"before {name}")
        yield
        seen.append(f"after {name}")

    @is_step("graph")
    def double(number: int) -> int:
        seen.append("inside")
        return 2 * number

    assert double(2) == 4
    with subscribed(around=around):
        assert double(3) == 6

    assert seen == ["inside", "before graph", "inside", "after graph"]


def test_events_reach_subscribers_until_they_unsubscribe() -> None:
    taken: list[tuple[str, float, dict[str, str]]] = []
    with subscribed(count=lambda *said: taken.append(said)):
        count_event("received", 3, queue="results")
    count_event("received", 4, queue="results")

    assert taken == [("received", 3, {"queue": "results"})]


@pytest.mark.parametrize("name", STEPS)
def test_each_named_step_is_used_in_the_code(name: str, sources: str) -> None:
    assert f'step("{name}")' in sources


def test_events_are_counted_with_their_declared_names_and_labels() -> None:
    calls = [
        node
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "count_event"
    ]
    made = [
        (call.args[0].value, tuple(keyword.arg for keyword in call.keywords))
        for call in calls
        if isinstance(call.args[0], ast.Constant)
    ]

    assert {name for name, _ in made} == EVENTS.keys()
    assert all(labels == EVENTS[str(name)] for name, labels in made)
