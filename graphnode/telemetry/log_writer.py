"""Writes log lines in a thread of its own: who logs waits neither for a lock nor for a reader."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.util import Finalize
from queue import SimpleQueue

import structlog

#: The most lines that wait to be written. Further ones are left out.
MOST_WAITING = 10_000

#: The most lines of one write.
BATCH = 200

#: Seconds for which a line waits for others, to be written with them. Each write wakes this process's writer and
#: Dramatiq's main process, which reads it.
GATHER_S = 0.05

#: Seconds that the end of a process waits for its lines to be written.
FLUSH_S = 2.0

log = structlog.get_logger("graphnode.logs")


class LogWriter(logging.Handler):
    """Writes lines to the present `sys.stderr`, in order: Dramatiq puts a pipe there in its worker processes.

    An actor can be interrupted at any line of Python. If it waited for a stalled pipe with a lock, or for that lock,
    the interruption would leave the lock locked for ever. So nobody but the thread writes, and a line is handed over by
    one call that cannot be interrupted half-way. Each process has its own thread, also after a fork.

    Parameters:
      most: lines that wait at most.
    """

    def __init__(self, most: int = MOST_WAITING) -> None:
        super().__init__()
        self._most = most
        self._waiting: SimpleQueue[str | threading.Event] = SimpleQueue()
        self._left_out = 0
        self._waits = False
        self._thread: threading.Thread | None = None
        self._pid = 0
        # Held only for a moment, and by `with`, which no interruption can divide.
        self._lock = threading.Lock()

    def handle(self, record: logging.LogRecord) -> bool:
        """Hand the line over if the filters let it pass. Without the lock of `logging.Handler`."""
        is_wanted = bool(self.filter(record))
        if is_wanted:
            self.emit(record)
        return is_wanted

    def emit(self, record: logging.LogRecord) -> None:
        """Hand the line over, or count it while too many wait."""
        try:
            line = f"{self.format(record)}\n"
        except Exception:
            self.handleError(record)
            return
        if self._pid != os.getpid():
            self._start()
        if threading.current_thread() is self._thread:
            self._write(line)
        elif self._waiting.qsize() < self._most:
            self._waiting.put(line)
            if self._waits:
                self.flush()
        else:
            with self._lock:
                self._left_out += 1

    def flush(self) -> None:
        """Wait until the lines so far are written, for `FLUSH_S` at most."""
        if self._pid == os.getpid():
            written = threading.Event()
            self._waiting.put(written)
            written.wait(FLUSH_S)

    def flush_each_line(self) -> None:
        """Wait for each line from here on: Dramatiq closes the pipe after its last one."""
        self.flush()
        self._waits = True

    def _start(self) -> None:
        with self._lock:
            if self._pid != os.getpid():
                # A fork copied what waited; the parent writes it.
                self._waiting, self._left_out, self._waits = SimpleQueue(), 0, False
                self._thread = threading.Thread(target=self._run, args=(self._waiting,), name="log-writer", daemon=True)
                self._thread.start()
                # A child process of multiprocessing ends without `atexit`, where `logging` flushes.
                Finalize(None, self.flush, exitpriority=0)
                self._pid = os.getpid()

    def _run(self, waiting: SimpleQueue[str | threading.Event]) -> None:
        while True:
            taken = [waiting.get()]
            if not self._waits:
                time.sleep(GATHER_S)
            while len(taken) < BATCH and not waiting.empty():
                taken.append(waiting.get())
            self._write("".join(item for item in taken if isinstance(item, str)))
            if self._left_out:
                self._log_left_out()
            for item in taken:
                if isinstance(item, threading.Event):
                    item.set()

    def _log_left_out(self) -> None:
        with self._lock:
            lines, self._left_out = self._left_out, 0
        log.warning("left out", reason="NOT_READ", lines=lines)

    @staticmethod
    def _write(text: str) -> None:
        # An error is the reader's end. There is no other place to report it.
        with suppress(Exception):
            sys.stderr.write(text)
            sys.stderr.flush()
