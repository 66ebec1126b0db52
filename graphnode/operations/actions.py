"""Actions of operators, recorded in the audit table while they run."""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal, NamedTuple

from graphnode.errors import classify_error, one_line
from graphnode.storage.audit import ActionState, begin_entry, update_entry

#: Seconds between two reports of an action.
REPORT_S = 1.0


class Actor(NamedTuple):
    """Who acts, and by what."""

    name: str
    via: Literal["console", "command"]


class Recording:
    """The entry of an action that runs. It is written at most once in `REPORT_S`, and at the end.

    Parameters:
      entry_id: 0 of an action that is not recorded: then nothing is written.
    """

    def __init__(self, entry_id: int = 0) -> None:
        self.entry_id = entry_id
        self.outcome = ""
        self.state = ActionState.DONE
        self._written = time.monotonic()

    def report(self, outcome: str) -> None:
        """Say what came of the action so far. A report that cannot be written does not end the action."""
        self.outcome = outcome
        if self.entry_id and time.monotonic() - self._written >= REPORT_S:
            self._written = time.monotonic()
            with suppress(Exception):
                update_entry(self.entry_id, outcome)

    def add(self, outcome: str) -> None:
        """Say what came of a part of the action."""
        self.report("; ".join(filter(None, (self.outcome, outcome))))

    def stopped(self) -> None:
        """Say that the action was stopped before its end."""
        self.state = ActionState.STOPPED

    def failed(self, outcome: str) -> None:
        """Say that the action failed, and why; without user data."""
        self.state, self.outcome = ActionState.FAILED, outcome


def person() -> str:
    """Who runs this process, and where."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


@contextmanager
def recorded(
    action: str, subject: str, actor: Actor, *, because: str | None = None, user_id: str | None = None
) -> Iterator[Recording]:
    """Record the action of the block. Raises what the block raises, after that is recorded.

    Parameters:
      action: a verb, such as `redrive`.
      subject: to what it is done; it names what is a user's only if `user_id` is given.
      because: why.
      user_id: the user whose data it is about, if it is about one.
    """
    begun = begin_entry(action, subject, actor=actor.name, via=actor.via, because=because, user_id=user_id)
    recording = Recording(begun)
    try:
        yield recording
    except BaseException as raised:
        recording.failed(f"{recording.outcome} {type(raised).__name__}: {_without_data(raised)}".strip())
        raise
    finally:
        # The action is done. An entry that cannot be written now says soon that it is lost.
        with suppress(Exception):
            update_entry(begun, recording.outcome, recording.state)


def _without_data(raised: BaseException) -> str:
    """The reason code of an error: its text may quote a user's data."""
    return classify_error(raised).reason if isinstance(raised, Exception) else one_line(raised)
