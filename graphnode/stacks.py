"""Where an error came from, as it may be stored: the frames and the exceptions' types, without their texts."""

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
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    parts = [_one(each) for each in reversed(chain) if each.__traceback__]
    return "\n".join(parts)[-LONGEST_STACK:] or None


def _one(error: BaseException) -> str:
    """An error's frames, the outermost first, and its type."""
    frames = list(traceback.walk_tb(error.__traceback__))[-MOST_FRAMES:]
    lines = [
        f"{frame.f_globals.get('__name__')}:{line} in {frame.f_code.co_name}: "
        + linecache.getline(frame.f_code.co_filename, line, frame.f_globals).strip()
        for frame, line in frames
    ]
    return "\n".join([*lines, f"{type(error).__module__}.{type(error).__qualname__}"])
