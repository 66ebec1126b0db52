"""Sweeps: what each worker process looks for from time to time, because nothing else would bring it up."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog
from dramatiq import Broker, Middleware, Worker

from graphnode.broker import SQSBroker
from graphnode.errors import OutageError, sorted_error

log = structlog.get_logger("graphnode.sweeps")


class Sweep(NamedTuple):
    """Something to look for.

    Parameters:
      name: what a log line calls it.
      run: looks, and deals with what it finds. Safe to run in many processes at once.
      in_outages: whether it also runs during an outage, and as soon as the worker has started.
    """

    name: str
    run: Callable[[], None]
    in_outages: bool = False


class Sweeps(Middleware):
    """Runs the sweeps in a thread of their own, one after the other; none after a stop began, and during an outage only
    those that ask for it.

    A sweep that is cut short must lose nothing.

    Parameters:
      sweeps: the sweeps.
      interval_s: gives the seconds between two rounds; each is up to half shorter or longer, so that processes that
        started together spread out.
    """

    def __init__(self, sweeps: Sequence[Sweep], *, interval_s: Callable[[], float]) -> None:
        self.sweeps = sweeps
        self.interval_s = interval_s
        self._stopped = threading.Event()
        self._failing: set[str] = set()

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Start."""
        threading.Thread(target=self._run, args=(broker,), name="sweeps", daemon=True).start()

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Stop."""
        self._stopped.set()

    def _run(self, broker: SQSBroker) -> None:
        interval_s = self.interval_s()
        for sweep in self.sweeps:
            if sweep.in_outages and not broker.stopping:
                self.look(broker, sweep)
        while not self._stopped.wait(interval_s * random.uniform(0.5, 1.5)):  # noqa: S311
            for sweep in self.sweeps:
                if not broker.stopping and (sweep.in_outages or not broker.outages.closed):
                    self.look(broker, sweep)

    def look(self, broker: SQSBroker, sweep: Sweep) -> None:
        """Run one sweep. A service that it finds away is an outage; another failure is told once, until it works."""
        began = time.monotonic()
        try:
            sweep.run()
        except Exception as raised:
            error = sorted_error(raised)
            if isinstance(error, OutageError):
                broker.outages.begin(error, since=began)
            elif sweep.name not in self._failing:
                self._failing.add(sweep.name)
                log.warning("sweep failed, trying again until it works", sweep=sweep.name, error=error.log_text)
        else:
            if sweep.name in self._failing:
                self._failing.remove(sweep.name)
                log.warning("sweep works again", sweep=sweep.name)
