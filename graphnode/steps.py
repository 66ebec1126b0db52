"""The named steps of a message's way, and what is noted on it: the one place where the names stand.

The code says `with step("fetch"):` where it does the work, or `@is_step("graph")` above a function that is the step,
and `note("received", 3, queue="results")` where something countable happens. Whoever wants to know subscribes: metrics
time the steps, traces make spans of them. While nobody has subscribed, a step costs a call and nothing more. It knows
nothing of those who subscribe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import wraps
from typing import Literal, ParamSpec, TypeVar, get_args

P = ParamSpec("P")
R = TypeVar("R")

Step = Literal[
    "receive",  # the poll, its wait for messages included
    "envelope",  # a body becomes a message for an actor
    "fetch",  # a document is read from S3
    "stream",  # a features document is read from S3 and decoded as it comes
    "decode",  # a document's bytes become its type
    "connect",  # a thread gets a connection: the wait for one of the pool's included
    "transaction",  # from the begin to the end of the commit
    "lock",  # the transaction begins: the wait for the user's lock included
    "store",  # the rows are read and written: all of these groups together
    "task",  # the task's row
    "graph",  # a graph's rows
    "embeddings",
    "summary",
    "document",  # a microscope document's row
    "view",  # a microscope document's graph
    "workspace",  # a microscope workspace, which may be complete
    "notification",  # a notification's row
    "copy",  # a COPY into one table
    "commit",
    "enqueue",  # a notification is put on its queue
    "claim",  # a notification is taken to be pushed
    "push",  # FCM is asked for all of a user's devices
    "settle",  # how a push went is written into its notification
    "failure",  # a failure, or that it is the last one, is written into the ledger
    "acknowledge",  # a verdict joins those that wait to be told to SQS
    "extend",  # the heartbeat extends visibilities
    "give_back",  # messages go back to their queue, now or after a back-off
    "dead_letter",  # a message is put on the dead-letter queue
    "delete",  # messages are deleted
]

#: What can be noted, and the names of its labels. Labels have few values: never a user, a task or a message.
NOTES: dict[str, tuple[str, ...]] = {
    "received": ("queue",),
    "poll_failed": ("queue",),
    "extended": (),
    "extension_failed": (),
    "lost": (),
    "delete_failed": (),
    "retried": ("reason",),
    "dead_letter": ("reason",),
    "outage": ("service",),
    "outage_seconds": ("service",),
    "push_settled": ("status",),
}

STEPS: tuple[Step, ...] = get_args(Step)

#: Gives a context manager that is entered when a step begins, and left when it has ended, with its error if it failed.
Around = Callable[[Step], AbstractContextManager[object]]

#: Takes a note: its name, its amount, and its labels.
Take = Callable[[str, float, dict[str, str]], None]

_around: list[Around] = []
_takers: list[Take] = []
_NOBODY: AbstractContextManager[None] = nullcontext()


def step(name: Step) -> AbstractContextManager[object]:
    """Around the code of a step: what the subscribers do before and after it."""
    if not _around:
        return _NOBODY
    if len(_around) == 1:
        return _around[0](name)
    return _all(name)


def is_step(name: Step) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Each call of the function is a step."""

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


def note(name: str, amount: float = 1, **labels: str) -> None:
    """Say that something of NOTES has happened.

    Parameters:
      amount: how often; of `outage_seconds`, how long; of `outage`, 1 at its begin and 0 at its end.
      labels: a value for each of its labels.
    """
    for take in _takers:
        take(name, amount, labels)


@contextmanager
def subscribed(*, around: Around | None = None, take: Take | None = None) -> Iterator[None]:
    """Subscribe to steps, to notes, or to both, while the block runs."""
    subscribe(around=around, take=take)
    try:
        yield
    finally:
        if around:
            _around.remove(around)
        if take:
            _takers.remove(take)


def subscribe(*, around: Around | None = None, take: Take | None = None) -> None:
    """Subscribe to steps, to notes, or to both, for as long as the process lives."""
    if around:
        _around.append(around)
    if take:
        _takers.append(take)
