"""Stacks as they may be stored and logged: frames and exception types, without the exceptions' texts."""

from __future__ import annotations

import linecache
import traceback

from graphnode.errors import GraphNodeError, Unexpected

#: The innermost frames of each exception, and the last characters of the whole, that are kept.
MOST_FRAMES = 20
LONGEST_STACK = 4000


def stack_of(error: BaseException) -> str | None:
    """The stack of an error and of its causes, the first cause first. None for an error that was never raised.

    An exception's text may quote a user's words, so it is left out.
    """
    parts = [_one(each) for each in chain_of(error) if each.__traceback__]
    return "\n".join(parts)[-LONGEST_STACK:] or None


def unexpected_stack(error: GraphNodeError) -> dict[str, str | None]:
    """The field `stack` of a log line, for an unexpected error. The text of any other error says enough."""
    if not isinstance(error, Unexpected) or error.__cause__ is None:
        return {}
    return {"stack": stack_of(error.__cause__)}


def chain_of(error: BaseException) -> list[BaseException]:
    """An exception and its causes, the first cause first."""
    chain: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in chain:
        chain.append(found)
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
    return chain[::-1]


def _one(error: BaseException) -> str:
    """An error's frames, the outermost first, and its type."""
    frames = list(traceback.walk_tb(error.__traceback__))[-MOST_FRAMES:]
    lines = [
        f"{frame.f_globals.get('__name__')}:{line} in {frame.f_code.co_name}: "
        + linecache.getline(frame.f_code.co_filename, line, frame.f_globals).strip()
        for frame, line in frames
    ]
    return "\n".join([*lines, f"{type(error).__module__}.{type(error).__qualname__}"])
