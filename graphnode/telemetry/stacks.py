"""Where an error came from, as it may be stored and logged: frames and the exceptions' types, without their texts."""

from __future__ import annotations

import linecache
import traceback

#: The most frames that are kept of one exception, the innermost, and the most characters of the whole, its end.
MOST_FRAMES = 20
LONGEST_STACK = 4000


def stack_of(error: BaseException) -> str | None:
    """The stack of an error and of what caused it, the innermost cause first. None: it was never raised.

    An exception's text may quote a document, and so a user's words: it is left out. Lines of source are ours.
    """
    parts = [_one(each) for each in chain_of(error) if each.__traceback__]
    return "\n".join(parts)[-LONGEST_STACK:] or None


def chain_of(error: BaseException) -> list[BaseException]:
    """An exception and what caused it, the first cause first, as a traceback shows them."""
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
