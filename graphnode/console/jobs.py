"""Actions that take long: each runs in a thread of this process, and its audit entry says how far it is.

So a closed tab stops nothing, and every page and every operator sees the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future

import structlog

from graphnode.operations.actions import Actor, Recording, recorded
from graphnode.storage.database import database

#: Says what came of the action so far, again and again.
Work = Callable[[Callable[[], bool]], Generator[str, None, None]]

log = structlog.get_logger("graphnode.console")


class Jobs:
    """The actions that run.

    Parameters:
      one_at_a_time: held while dead letters are read: two readers would hide them from each other.
    """

    def __init__(self, one_at_a_time: threading.Lock) -> None:
        self._turn = one_at_a_time
        self._stops: dict[int, threading.Event] = {}

    def start(
        self,
        action: str,
        subject: str,
        work: Work,
        *,
        actor: Actor,
        because: str | None = None,
        user_id: str | None = None,
        at_end: Callable[[], None] = lambda: None,
    ) -> int:
        """Begin an action; returns the ID of its entry, once that is written. Raises what writing it raises.

        Parameters:
          work: does it; its argument says whether to stop.
          at_end: called when it has ended, however it did.
        """
        begun: Future[int] = Future()

        def run() -> None:
            try:
                with recorded(action, subject, actor, because=because, user_id=user_id) as recording:
                    stop = self._stops[recording.entry_id] = threading.Event()
                    begun.set_result(recording.entry_id)
                    with self._turn:
                        _follow(work(stop.is_set), recording)
                    if stop.is_set():
                        recording.stopped()
            except Exception as raised:
                if begun.done():
                    log.exception("an action of the console failed", action=action, audit_id=begun.result())
                else:
                    begun.set_exception(raised)
            finally:
                if begun.done() and not begun.exception():
                    del self._stops[begun.result()]
                database.abandon()
                at_end()

        threading.Thread(target=run, name=f"console-{action}").start()
        return begun.result()

    def stop(self, entry_id: int) -> None:
        """Ask an action to stop after what it does just now."""
        if stop := self._stops.get(entry_id):
            stop.set()

    def is_ours(self, entry_id: int) -> bool:
        """Whether an action runs in this process, so that it can be stopped."""
        return entry_id in self._stops

    def stop_all(self) -> None:
        """Ask all actions to stop."""
        for stop in list(self._stops.values()):
            stop.set()


def _follow(reports: Generator[str, None, None], recording: Recording) -> None:
    try:
        for report in reports:
            recording.report(report)
    finally:
        # Letters are visible again once the generator is closed.
        reports.close()
