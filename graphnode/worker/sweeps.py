"""Sweeps: what each worker process looks for from time to time, because no message would bring it up."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog
from dramatiq import Broker, Middleware, Worker

from graphnode.broker import SQSBroker
from graphnode.errors import ServiceFault, classify_error
from graphnode.settings import settings
from graphnode.storage.database import database

log = structlog.get_logger("graphnode.sweeps")

Run = Callable[[SQSBroker], None]


class Sweep(NamedTuple):
    """Something to look for.

    Parameters:
      name: its name in log lines.
      run: looks for it, and handles what it finds. Safe to run in many processes at once, and to be cut short.
      in_outages: whether it also runs during an outage, as soon as the worker has started, and between other sweeps if
        these take long: one that waits for a frozen service must not hold it up.
    """

    name: str
    run: Run
    in_outages: bool = False


#: The sweeps that this process's modules declare, as `@sweep` does.
DECLARED: list[Sweep] = []


def sweep(name: str) -> Callable[[Run], Run]:
    """Declare a function as a sweep of this name, as `@dramatiq.actor` declares an actor."""

    def declare(run: Run) -> Run:
        DECLARED.append(Sweep(name, run))
        return run

    return declare


class Attempts:
    """Runs sweeps, in one thread. A failure that is no outage is logged once, until the sweep works again."""

    def __init__(self) -> None:
        self._failing: set[str] = set()

    def run(self, broker: SQSBroker, sweep: Sweep) -> bool:
        """Run one sweep; whether it worked. An outage that it meets opens the breaker."""
        began = time.monotonic()
        try:
            sweep.run(broker)
        except Exception as raised:
            error = classify_error(raised)
            is_outage = isinstance(error, ServiceFault) and broker.breaker.is_to_blame(
                error, since=began, user=sweep.name
            )
            if not is_outage and sweep.name not in self._failing:
                self._failing.add(sweep.name)
                log.warning("sweep failed, trying again until it works", sweep=sweep.name, error=error.log_text)
            return False
        else:
            if sweep.name in self._failing:
                self._failing.remove(sweep.name)
                log.warning("sweep works again", sweep=sweep.name)
            return True
        finally:
            database.give_back()


class Sweeps(Middleware):
    """Runs the sweeps one after the other in a thread of their own, until a stop begins.

    Parameters:
      declared: the sweeps that run first. More may be declared until the worker boots.
      own: the sweeps that run after them.
      interval_s: seconds between two rounds; None: as the settings say. Each pause is up to half shorter or longer, so
        that processes that started together spread out.
    """

    def __init__(
        self, declared: Sequence[Sweep], own: Sequence[Sweep] = (), *, interval_s: float | None = None
    ) -> None:
        self.declared = declared
        self.own = own
        self.interval_s = interval_s
        self.attempts = Attempts()
        self._stopped = threading.Event()

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Start."""
        threading.Thread(target=self._run, args=(broker,), name="sweeps", daemon=True).start()

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Stop."""
        self._stopped.set()

    def _run(self, broker: SQSBroker) -> None:
        interval_s = settings().sweep_interval if self.interval_s is None else self.interval_s
        urgent = [sweep for sweep in (*self.declared, *self.own) if sweep.in_outages]
        others = [sweep for sweep in (*self.declared, *self.own) if not sweep.in_outages]
        self._run_all(broker, urgent)
        while not self._stopped.wait(interval_s * random.uniform(0.5, 1.5)):  # noqa: S311
            self._run_all(broker, urgent)
            began = time.monotonic()
            for sweep in others:
                self._run_all(broker, [sweep])
                if time.monotonic() - began > interval_s:
                    self._run_all(broker, urgent)
                    began = time.monotonic()

    def _run_all(self, broker: SQSBroker, sweeps: Sequence[Sweep]) -> None:
        for sweep in sweeps:
            if not broker.stop.requested and (sweep.in_outages or broker.breaker.is_closed):
                self.attempts.run(broker, sweep)
