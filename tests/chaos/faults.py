"""How each kind of fault is done, and undone."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg2

from graphnode.dev.postgres import PostgresError
from tests.chaos.proxy import Mode
from tests.chaos.schedule import KINDS, Fault
from tests.chaos.stack import Stack
from tests.chaos.workers import START_TIMEOUT_S, SupervisedWorker, send

#: Seconds between two blows of a fault that strikes again and again.
BLOW_S = 0.3

#: Seconds that PostgreSQL has to start again: a killed one's children may still have its memory.
POSTGRES_TIMEOUT_S = 60.0

#: Sessions of the workers, not of ours nor PostgreSQL's own.
OF_WORKERS = (
    "FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name <> 'chaos'"
    " AND pid <> pg_backend_pid()"
)

CUT = f"SELECT pg_terminate_backend(pid) {OF_WORKERS}"
#: Ends statements with SQLSTATE 57014, as statement_timeout does: the worker's own is five minutes, which no run has.
CANCEL = f"SELECT pg_cancel_backend(pid) {OF_WORKERS} AND state = 'active'"

Strike = Callable[[Stack, Fault], AbstractContextManager[None]]


@contextmanager
def struck(stack: Stack, fault: Fault) -> Iterator[None]:
    """Have the fault for as long as the block runs; it is undone, and what was stopped runs again, after it."""
    with STRIKES[fault.kind](stack, fault):
        yield


# Workers.


def worker_of(stack: Stack, fault: Fault) -> SupervisedWorker:
    """Whom it strikes."""
    return stack.workers[fault.target % len(stack.workers)]


@contextmanager
def kill_worker(stack: Stack, fault: Fault) -> Iterator[None]:
    """Kill the command's own process; its forks go with it, as with a container."""
    worker_of(stack, fault).send(signal.SIGKILL)
    yield


@contextmanager
def kill_fork(stack: Stack, fault: Fault) -> Iterator[None]:
    """Kill a process that the command forked."""
    worker_of(stack, fault).kill_fork(fault.target // len(stack.workers))
    yield


@contextmanager
def terminate_worker(stack: Stack, fault: Fault) -> Iterator[None]:
    """Have a worker end in order."""
    worker_of(stack, fault).send(signal.SIGTERM)
    yield


@contextmanager
def restart_workers(stack: Stack, fault: Fault) -> Iterator[None]:
    """Have one worker after the other end in order; the next when its successor takes messages."""
    for worker in stack.workers:
        starts = worker.starts
        ready = worker.readies()
        worker.send(signal.SIGTERM)
        deadline = time.monotonic() + START_TIMEOUT_S
        while (worker.starts == starts or worker.readies() == ready) and time.monotonic() < deadline:
            time.sleep(BLOW_S)
    yield


@contextmanager
def freeze_worker(stack: Stack, fault: Fault) -> Iterator[None]:
    """Stop all of a worker's processes, and let them go on."""
    worker = worker_of(stack, fault)
    frozen = worker.family()
    worker.send_all(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in frozen:
            send(process, signal.SIGCONT)


# PostgreSQL.


def stop_postgres(how: signal.Signals) -> Strike:
    """End the server with a signal, and start it again."""

    @contextmanager
    def strike(stack: Stack, fault: Fault) -> Iterator[None]:
        os.kill(stack.postgres.pid, how)
        stack.postgres.stop()
        try:
            yield
        finally:
            start_again(stack)

    return strike


def start_again(stack: Stack) -> None:
    """Start PostgreSQL. Raises PostgresError when it will not."""
    deadline = time.monotonic() + POSTGRES_TIMEOUT_S
    while True:
        try:
            stack.postgres.start()
            return
        except PostgresError:
            if time.monotonic() > deadline:
                raise
            time.sleep(BLOW_S)


def blows(statement: str) -> Strike:
    """Run a statement again and again."""

    @contextmanager
    def strike(stack: Stack, fault: Fault) -> Iterator[None]:
        over = threading.Event()

        def run() -> None:
            with stack.database() as database, database.cursor() as cursor:
                while not over.wait(BLOW_S):
                    cursor.execute(statement)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    return strike


def lock(statement: str) -> Strike:
    """Hold locks in a session of our own."""

    @contextmanager
    def strike(stack: Stack, fault: Fault) -> Iterator[None]:
        with stack.database() as database, database.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SET LOCAL lock_timeout = '5s'")
            try:
                cursor.execute(statement)
            except psycopg2.errors.LockNotAvailable:
                cursor.execute("ROLLBACK")
                cursor.execute("BEGIN")
            yield
            cursor.execute("ROLLBACK")

    return strike


@contextmanager
def fill_disk(stack: Stack, fault: Fault) -> Iterator[None]:
    """Have a trigger refuse new rows as a full disk does (SQLSTATE 53100): a real one would take special rights."""
    stack.execute("UPDATE chaos.switches SET disk_full = true")
    try:
        yield
    finally:
        stack.execute("UPDATE chaos.switches SET disk_full = false")


# AWS and FCM.


@contextmanager
def pause_localstack(stack: Stack, fault: Fault) -> Iterator[None]:
    """Have SQS and S3 take calls, and answer none."""
    os.kill(stack.localstack.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(stack.localstack.pid, signal.SIGCONT)


def through_proxy(mode: Mode) -> Strike:
    """Have the proxy fail in a way."""

    @contextmanager
    def strike(stack: Stack, fault: Fault) -> Iterator[None]:
        stack.proxy.mode = mode
        try:
            yield
        finally:
            stack.proxy.mode = "pass"

    return strike


@contextmanager
def break_fcm(stack: Stack, fault: Fault) -> Iterator[None]:
    """Have FCM fail in the way of this kind."""
    stack.fcm.fault = fault.kind
    try:
        yield
    finally:
        stack.fcm.fault = None


STRIKES: dict[str, Strike] = {
    "worker killed": kill_worker,
    "fork killed": kill_fork,
    "worker terminated": terminate_worker,
    "rolling restart": restart_workers,
    "worker frozen": freeze_worker,
    "PostgreSQL stopped fast": stop_postgres(signal.SIGINT),
    "PostgreSQL stopped immediately": stop_postgres(signal.SIGQUIT),
    "PostgreSQL killed": stop_postgres(signal.SIGKILL),
    "connections cut": blows(CUT),
    "statements cancelled": blows(CANCEL),
    "rows locked": lock("SELECT FROM microscope_documents FOR UPDATE"),
    "table locked": lock("LOCK TABLE tasks IN EXCLUSIVE MODE"),
    "disk full": fill_disk,
    "LocalStack paused": pause_localstack,
    "AWS answers 500": through_proxy("500"),
    "AWS answers 503": through_proxy("503"),
    "AWS slow": through_proxy("slow"),
    "AWS cuts connections": through_proxy("cut"),
    "FCM unavailable": break_fcm,
    "FCM cuts connections": break_fcm,
    "FCM cuts answers": break_fcm,
}

if STRIKES.keys() != KINDS.keys():
    raise LookupError(f"schedule.py and faults.py name different faults: {STRIKES.keys() ^ KINDS.keys()}")
