"""The named steps of a message's path, and the events that are counted on it. All names are here.

Code marks its work by `with step("fetch"):`, or a whole function by `@is_step("graph")`, and counts by
`count_event("received", 3, queue="results")`. Metrics time the steps, and traces make spans of them: they subscribe
here. Without subscribers a step costs one call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import wraps
from typing import Literal, ParamSpec, TypeVar, get_args

P = ParamSpec("P")
R = TypeVar("R")

Step = Literal[
    "receive",  # a poll, including its wait for messages
    "envelope",  # a body becomes a message for an actor
    "fetch",  # a document is read from S3
    "stream",  # a features document is read from S3, decoded and spooled at the same time
    "decode",  # a document's bytes become its type
    "connect",  # a thread makes its database connection, or replaces it
    "transaction",  # from BEGIN to the end of the commit
    "lock",  # BEGIN, including the wait for the user's lock
    "store",  # all rows are read and written
    "task",  # the task's row and its notifications
    "graph",  # a graph's rows
    "embeddings",
    "summary",
    "document",  # a microscope document's row
    "view",  # a microscope document's graph
    "workspace",  # a microscope workspace, which may be complete
    "copy",  # a COPY into one table
    "commit",
    "claim",  # notifications are claimed for their pushes
    "push",  # a push to one device is sent to FCM
    "settle",  # the outcomes of pushes are written into their notifications
    "failure",  # a failure is written into the ledger
    "acknowledge",  # a verdict joins those that wait to be sent to SQS
    "extend",  # the heartbeat extends visibilities
    "give_back",  # messages return to their queue, now or after a back-off
    "dead_letter",  # a message is put on the dead-letter queue
    "delete",  # messages are deleted
]

#: The events that are counted, and their labels' names. Labels have few values: never a user, a task or a message.
EVENTS: dict[str, tuple[str, ...]] = {
    "received": ("queue",),
    "deferred": ("queue",),
    "poll_failed": ("queue",),
    "polls_failing": ("queue",),
    "extended": (),
    "extension_failed": (),
    "lost": (),
    "delete_failed": (),
    "retried": ("reason",),
    "dead_letter": ("reason",),
    "letter_refused": (),
    "outage": ("service",),
    "outage_seconds": ("service",),
    "push_settled": ("status",),
}

STEPS: tuple[Step, ...] = get_args(Step)

#: Returns a context manager for a step: entered at its beginning, left at its end, with its error if it failed.
Around = Callable[[Step], AbstractContextManager[object]]

#: Counts an event: its name, its amount, and its labels.
Count = Callable[[str, float, dict[str, str]], None]

_around: list[Around] = []
_counters: list[Count] = []
_NOBODY: AbstractContextManager[None] = nullcontext()


def step(name: Step) -> AbstractContextManager[object]:
    """A context manager around the code of a step, for its subscribers."""
    if not _around:
        return _NOBODY
    if len(_around) == 1:
        return _around[0](name)
    return _all(name)


def is_step(name: Step) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: each call of the function is a step."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def stepped(*args: P.args, **kwargs: P.kwargs) -> R:
            with step(name):
                return function(*args, **kwargs)

        return stepped

    return decorate


@contextmanager
def _all(name: Step) -> Iterator[None]:
    with ExitStack() as entered:
        for around in _around:
            entered.enter_context(around(name))
        yield


def count_event(name: str, amount: float = 1, **labels: str) -> None:
    """Count an event of EVENTS.

    Parameters:
      amount: how often it happened; seconds for `outage_seconds`; for `outage` and `polls_failing` 1 at the beginning
        and 0 at the end.
      labels: a value for each of the event's labels.
    """
    for count in _counters:
        count(name, amount, labels)


@contextmanager
def subscribed(*, around: Around | None = None, count: Count | None = None) -> Iterator[None]:
    """Subscribe to steps, events or both during the block."""
    subscribe(around=around, count=count)
    try:
        yield
    finally:
        if around:
            _around.remove(around)
        if count:
            _counters.remove(count)


def subscribe(*, around: Around | None = None, count: Count | None = None) -> None:
    """Subscribe to steps, events or both for the life of the process."""
    if around:
        _around.append(around)
    if count:
        _counters.append(count)
