"""Ends the processes that Dramatiq forked when its main process has died without a word, by SIGKILL for instance."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time

import structlog
from dramatiq import Broker, Middleware

#: The process that adopts orphans.
INIT = 1

#: Seconds between two looks at the parent.
LOOK_S = 1.0

log = structlog.get_logger("graphnode.parent")


class ParentWatch(Middleware):
    """Stops a worker process whose main process has died: nobody else would, and it would go on taking messages."""

    def after_process_boot(self, broker: Broker) -> None:
        """Start to watch. The worker's own start may wait long for services that are away."""
        end_with_parent()


def end_with_parent() -> None:
    """Start the thread that stops this process, as SIGTERM does, when its parent has died.

    Only in a child process of `multiprocessing`, whose parent is known even if it has died already.
    """
    if known := multiprocessing.parent_process():
        # A fork server stands between a process and the one that made it.
        parent = known.pid if os.getppid() == INIT else os.getppid()
        threading.Thread(target=_watch, args=(parent,), name="parent-watch", daemon=True).start()


def _watch(parent: int | None) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    # Dramatiq put a pipe to the main process there, which nobody reads any more.
    sys.stdout = sys.stderr = sys.__stderr__
    try:
        log.error("the main process has died: this process stops", main_pid=parent)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
