"""How each kind of fault is injected and ended."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from uuid import uuid4

import psycopg2

from graphnode.dev.postgres import PostgresError
from tests.aws_proxy import Cut, Delay, Hang, Refusal, Rule
from tests.chaos.schedule import KINDS, Fault
from tests.chaos.stack import Stack
from tests.chaos.workers import START_TIMEOUT_S, SupervisedWorker, send
from tests.freezing import frozen

#: Seconds between two statements of a fault that repeats one.
REPEAT_S = 0.3

#: Seconds until PostgreSQL must start again: the children of a killed server may still hold its shared memory.
POSTGRES_TIMEOUT_S = 60.0

#: The share of the calls of AWS that fail while some do.
FAULTY_SHARE = 0.6

#: The sessions of the workers, without those of this run and PostgreSQL's own.
OF_WORKERS = (
    "FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name <> 'chaos'"
    " AND pid <> pg_backend_pid()"
)

CUT = f"SELECT pg_terminate_backend(pid) {OF_WORKERS}"
#: Ends statements with SQLSTATE 57014, as statement_timeout does. The worker's own timeout of five minutes is too long.
CANCEL = f"SELECT pg_cancel_backend(pid) {OF_WORKERS} AND state = 'active'"

Injection = Callable[[Stack, Fault], AbstractContextManager[None]]


@contextmanager
def injected(stack: Stack, fault: Fault) -> Iterator[None]:
    """Inject the fault while the block runs. Afterwards, everything that was stopped runs again."""
    with INJECTIONS[fault.kind](stack, fault):
        yield


# Workers.


def worker_of(stack: Stack, fault: Fault) -> SupervisedWorker:
    """The target of a fault."""
    return stack.workers[fault.target % len(stack.workers)]


@contextmanager
def kill_worker(stack: Stack, fault: Fault) -> Iterator[None]:
    """Kill the command's main process. Its forks end with it, as in a container."""
    worker_of(stack, fault).send(signal.SIGKILL)
    yield


@contextmanager
def kill_fork(stack: Stack, fault: Fault) -> Iterator[None]:
    """Kill a fork of the command."""
    worker_of(stack, fault).kill_fork(fault.target // len(stack.workers))
    yield


@contextmanager
def terminate_worker(stack: Stack, fault: Fault) -> Iterator[None]:
    """Send SIGTERM to a worker."""
    worker_of(stack, fault).send(signal.SIGTERM)
    yield


@contextmanager
def restart_workers(stack: Stack, fault: Fault) -> Iterator[None]:
    """Send SIGTERM to one worker after the other, each when the one before it is ready again."""
    for worker in stack.workers:
        starts = worker.starts
        ready = worker.readies()
        worker.send(signal.SIGTERM)
        deadline = time.monotonic() + START_TIMEOUT_S
        while (worker.starts == starts or worker.readies() == ready) and time.monotonic() < deadline:
            time.sleep(REPEAT_S)
    yield


@contextmanager
def freeze_worker(stack: Stack, fault: Fault) -> Iterator[None]:
    """Pause all processes of a worker."""
    worker = worker_of(stack, fault)
    frozen = worker.family()
    worker.send_all(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in frozen:
            send(process, signal.SIGCONT)


# PostgreSQL.


def stop_postgres(how: signal.Signals) -> Injection:
    """Stop the server with a signal, and start it again."""

    @contextmanager
    def inject(stack: Stack, fault: Fault) -> Iterator[None]:
        os.kill(stack.postgres.pid, how)
        stack.postgres.stop()
        try:
            yield
        finally:
            start_again(stack)

    return inject


@contextmanager
def freeze_postgres(stack: Stack, fault: Fault) -> Iterator[None]:
    """Pause the server and its sessions: it accepts connections, and answers nothing."""
    with frozen(stack.postgres.pid):
        yield


def start_again(stack: Stack) -> None:
    """Start PostgreSQL. Raises PostgresError if it does not start in time."""
    deadline = time.monotonic() + POSTGRES_TIMEOUT_S
    while True:
        try:
            stack.postgres.start()
            return
        except PostgresError:
            if time.monotonic() > deadline:
                raise
            time.sleep(REPEAT_S)


def repeat(statement: str) -> Injection:
    """Run a statement every REPEAT_S seconds."""

    @contextmanager
    def inject(stack: Stack, fault: Fault) -> Iterator[None]:
        over = threading.Event()

        def run() -> None:
            with stack.database() as database, database.cursor() as cursor:
                while not over.wait(REPEAT_S):
                    cursor.execute(statement)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    return inject


def lock(statement: str) -> Injection:
    """Hold the locks of a statement."""

    @contextmanager
    def inject(stack: Stack, fault: Fault) -> Iterator[None]:
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

    return inject


@contextmanager
def revoke_right(stack: Stack, fault: Fault) -> Iterator[None]:
    """Take a right away that every result needs."""
    stack.execute("REVOKE INSERT, UPDATE ON tasks FROM graphnode_worker")
    try:
        yield
    finally:
        stack.execute("GRANT INSERT, UPDATE ON tasks TO graphnode_worker")


@contextmanager
def fill_disk(stack: Stack, fault: Fault) -> Iterator[None]:
    """Have a trigger refuse new rows as a full disk does (SQLSTATE 53100). A really full disk needs special rights."""
    stack.execute("UPDATE chaos.switches SET disk_full = true")
    try:
        yield
    finally:
        stack.execute("UPDATE chaos.switches SET disk_full = false")


# AWS and FCM.


@contextmanager
def pause_localstack(stack: Stack, fault: Fault) -> Iterator[None]:
    """Pause SQS and S3: they accept calls, and answer none."""
    os.kill(stack.localstack.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(stack.localstack.pid, signal.SIGCONT)


def through_proxy(*rules: Rule) -> Injection:
    """Have the proxy before AWS fail by these rules as well."""

    @contextmanager
    def inject(stack: Stack, fault: Fault) -> Iterator[None]:
        others = stack.proxy.rules
        stack.proxy.rules = (*others, *rules)
        try:
            yield
        finally:
            stack.proxy.rules = others

    return inject


@contextmanager
def rotate_credentials(stack: Stack, fault: Fault) -> Iterator[None]:
    """Put another access key into the workers' file. AWS refuses the one before from now on."""
    refused = stack.credentials.key_id
    stack.credentials.write(uuid4().hex)
    stack.proxy.rules = (
        *stack.proxy.rules,
        Rule("s3:*", Refusal(403, "InvalidAccessKeyId"), signed_by=refused),
        Rule("sqs:*", Refusal(403, "InvalidClientTokenId"), signed_by=refused),
    )
    yield


@contextmanager
def break_fcm(stack: Stack, fault: Fault) -> Iterator[None]:
    """Have the stub of FCM fail as the kind of the fault says."""
    stack.fcm.fault = fault.kind
    try:
        yield
    finally:
        stack.fcm.fault = None


INJECTIONS: dict[str, Injection] = {
    "worker killed": kill_worker,
    "fork killed": kill_fork,
    "worker terminated": terminate_worker,
    "rolling restart": restart_workers,
    "worker frozen": freeze_worker,
    "PostgreSQL stopped fast": stop_postgres(signal.SIGINT),
    "PostgreSQL stopped immediately": stop_postgres(signal.SIGQUIT),
    "PostgreSQL killed": stop_postgres(signal.SIGKILL),
    "PostgreSQL frozen": freeze_postgres,
    "connections cut": repeat(CUT),
    "statements cancelled": repeat(CANCEL),
    "rows locked": lock("SELECT FROM microscope_documents FOR UPDATE"),
    "table locked": lock("LOCK TABLE tasks IN EXCLUSIVE MODE"),
    "disk full": fill_disk,
    "right revoked": revoke_right,
    "LocalStack paused": pause_localstack,
    "AWS answers 500": through_proxy(Rule("*", Refusal(500, "InternalError"), share=FAULTY_SHARE)),
    "AWS answers 503": through_proxy(Rule("*", Refusal(503, "ServiceUnavailable"), share=FAULTY_SHARE)),
    "AWS slow": through_proxy(Rule("*", Delay(0.5, 4.0), share=FAULTY_SHARE)),
    "AWS cuts connections": through_proxy(Rule("*", Cut(), share=FAULTY_SHARE)),
    "S3 slows down": through_proxy(Rule("s3:*", Refusal(503, "SlowDown"))),
    "S3 hangs": through_proxy(Rule("s3:*", Hang())),
    "S3 denies access": through_proxy(Rule("s3:?etObject", Refusal(403, "AccessDenied", only_found=True))),
    "KMS key disabled": through_proxy(Rule("s3:GetObject", Refusal(400, "KMS.DisabledException", only_found=True))),
    "clock refused": through_proxy(Rule("s3:*", Refusal(403, "RequestTimeTooSkewed"))),
    "credentials expired": through_proxy(
        Rule("s3:*", Refusal(400, "ExpiredToken")), Rule("sqs:*", Refusal(403, "ExpiredTokenException"))
    ),
    "credentials rotated": rotate_credentials,
    "FCM unavailable": break_fcm,
    "FCM cuts connections": break_fcm,
    "FCM cuts answers": break_fcm,
}

if INJECTIONS.keys() != KINDS.keys():
    raise LookupError(f"schedule.py and faults.py name different faults: {INJECTIONS.keys() ^ KINDS.keys()}")
