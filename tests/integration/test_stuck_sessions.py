"""A process that is stopped in the middle of a COPY loses its session, and with it its user's lock."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest

from graphnode.errors import UserLocked
from graphnode.settings import Settings
from graphnode.storage import stuck_sessions
from graphnode.storage.database import open_database, try_user_lock
from graphnode.storage.stuck_sessions import STILL_S, STUCK_AFTER_S, end_stuck_sessions
from tests.integration.conftest import PATIENCE_S, Query, wait_until

IN_COPY = "SELECT pid FROM pg_stat_progress_copy WHERE datname = current_database() AND bytes_processed > 0"

NOT_IN_COPY = f"SELECT 1 WHERE NOT EXISTS ({IN_COPY})"

#: Stores rows of a user under the user's lock, for as long as the test lets it.
PROGRAM = """
import sys, time
from graphnode.storage.database import copy_rows, open_database, user_transaction
from graphnode.storage.graphs import ClusterRecord
def rows():
    for number in range(10**9):
        yield "ada", str(number), "text " * 1000, 0
        time.sleep(0.001)
open_database(sys.argv[1])
with user_transaction("ada"):
    copy_rows(ClusterRecord, ("user_id", "id", "description", "size"), rows())
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions count as stuck soon."""
    monkeypatch.setattr(stuck_sessions, "STUCK_AFTER_S", 0)
    monkeypatch.setattr(stuck_sessions, "STILL_S", 0.5)


@pytest.fixture
def copying(storage: None, database_url: str, query: Query) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the middle of a COPY."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM, database_url], stderr=subprocess.PIPE) as process:
        wait_until(query, IN_COPY)
        yield process
        process.kill()


def test_a_stopped_process_loses_its_session_and_the_users_lock(copying: subprocess.Popen[bytes], query: Query) -> None:
    ((pid,),) = query(IN_COPY)
    copying.send_signal(signal.SIGSTOP)
    with pytest.raises(UserLocked):
        try_user_lock("ada")

    (ended,) = end_stuck_sessions()

    assert ended.pid == pid
    wait_until(query, NOT_IN_COPY)
    try_user_lock("ada")
    copying.send_signal(signal.SIGCONT)
    _, error = copying.communicate(timeout=PATIENCE_S)
    assert b"terminating connection" in error


@pytest.mark.usefixtures("copying")
def test_a_copy_that_goes_on_is_left_alone() -> None:
    assert end_stuck_sessions() == []


@pytest.mark.usefixtures("copying")
def test_other_applications_are_left_alone(database_url: str, copying: subprocess.Popen[bytes]) -> None:
    copying.send_signal(signal.SIGSTOP)
    open_database(f"{database_url}?application_name=another")

    assert end_stuck_sessions() == []


def test_with_the_default_settings_a_lock_is_free_within_60_seconds() -> None:
    (interval_s,) = (field.default for field in msgspec.structs.fields(Settings) if field.name == "sweep_interval")
    longest_pause_s = 1.5 * interval_s
    assert STUCK_AFTER_S + longest_pause_s + STILL_S < 60
