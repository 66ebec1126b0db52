"""The worker's role in PostgreSQL has exactly the rights that the worker uses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime

import peewee
import psycopg2
import pytest
from psycopg2 import errors

from graphnode.errors import SchemaError
from graphnode.rules.pushes import PushOutcome, PushStatus
from graphnode.storage import failures, notifications, schema, workers
from graphnode.storage.database import database
from graphnode.storage.failures import Subject
from graphnode.storage.notifications import Device
from graphnode.storage.rehearsal import DEMANDS
from graphnode.storage.schema import WORKER_RIGHTS
from graphnode.storage.workers import WorkerRecord
from tests.any_order.conftest import Play
from tests.any_order.delivery import sweep_up_overdue
from tests.conftest import DEPLOY, empty_database

DOCUMENT = "task_microscope_file_ada_01J9ZZZZZZZZZZZZZZZZZZZZZA"
NOON = datetime(2026, 5, 24, 12, tzinfo=UTC)
PROCESS = WorkerRecord(
    id="w",
    host="h",
    pid=1,
    version="1",
    newest_migration=schema.newest_migration(),
    threads=1,
    interval_s=1,
    started_at=NOON,
    in_hand=0,
    running=0,
    outage_service=None,
    outage_since=None,
    outage_error=None,
    outage_advice=None,
    handled=0,
    retried=0,
    dead=0,
)

#: Runs a statement as a superuser.
Execute = Callable[[str], None]

GRANTS = (DEPLOY / "postgres-grants.sql").read_text()

#: What only workers of the previous release need.
OF_THE_PREVIOUS_RELEASE = {"message_failures": ("SELECT", "INSERT", "UPDATE", "DELETE")}


@pytest.fixture
def administer(database_url: str) -> Iterator[Execute]:
    with closing(psycopg2.connect(database_url)) as session:
        session.autocommit = True
        yield lambda statement: session.cursor().execute(statement)
        session.cursor().execute(GRANTS)


@pytest.fixture
def storage_role() -> str:
    """The worker's role."""
    return "graphnode_worker"


def work(play: Play) -> None:
    """Do everything that a worker does with its database."""
    schema.check_schema()
    database.execute_sql(DEMANDS)
    workers.save_process(PROCESS)
    play("progress", currentStage="clustering", progressPercent=10, task_id="task_graph_1")
    for number in (1, 2):
        play("graph", task_id=f"task_graph_{number}")
    play("graph", task_id="task_graph_3", status="FAILED", error="out of memory")
    play("summary")
    play("summary", status="FAILED")
    play("add-node")
    play("add-node", status="FAILED")
    for half in ("block", "nonblock"):
        play("microscope", task_id=f"{DOCUMENT}_{half}", groupId="w-1")
    play("microscope-from-node", groupId="w-1", status="FAILED")
    sweep_up_overdue()
    failures.record_failure("m", reason="R", error="e", subject=Subject("t", "T", None))
    failures.clear_failures("m")
    failures.record_dead_letter("m", attempt=1, reason="R", error="e", subject=Subject("t", "T", None))
    notifications.open_pushes()
    claimed = notifications.claim_pushes(limit=10)
    notifications.remove_devices([Device("d", NOON.isoformat())])
    notifications.settle_pushes([(each, PushOutcome(PushStatus.SENT)) for each in claimed])
    workers.remove_process("w")


def is_denied(play: Play) -> bool:
    """Whether the worker lacks a right for its work."""
    try:
        work(play)
    except (peewee.ProgrammingError, errors.InsufficientPrivilege) as error:
        if "permission denied" not in str(error):
            raise
        return True
    return False


def test_the_worker_has_each_right_it_needs_and_uses_each_right_it_has(
    play: Play, administer: Execute, database_url: str
) -> None:
    assert not is_denied(play)

    unused = []
    for table, rights in WORKER_RIGHTS.items():
        for right in rights:
            empty_database(database_url)
            administer(f"REVOKE {right} ON {table} FROM graphnode_worker")
            if not is_denied(play):
                unused.append(f"{right} ON {table}")
            administer(f"GRANT {right} ON {table} TO graphnode_worker")

    assert not unused, "\n".join(unused)


def test_a_worker_that_lacks_a_right_does_not_start(storage: None, administer: Execute) -> None:
    schema.check_rights()
    administer("REVOKE DELETE ON graph_edges, workers FROM graphnode_worker")

    with pytest.raises(SchemaError, match=r"DELETE on graph_edges; DELETE on workers.*postgres-grants\.sql"):
        schema.check_rights()


def test_the_grants_are_those_that_the_doctor_checks() -> None:
    granted = re.findall(r"^GRANT (.+) ON (\w+) TO graphnode_worker;", GRANTS, re.MULTILINE)
    found = {table: tuple(rights.split(", ")) for rights, table in granted}

    assert found == {**WORKER_RIGHTS, **OF_THE_PREVIOUS_RELEASE}
    assert GRANTS.count("TO graphnode_worker") == len(found)
