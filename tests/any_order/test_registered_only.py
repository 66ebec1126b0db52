"""Where only what is registered counts, a result takes no task and no workspace that nobody has made."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from graphnode.clients import s3
from graphnode.errors import NotRegistered
from graphnode.storage import tasks
from graphnode.storage.database import database, user_transaction
from tests.any_order.conftest import Play, Snapshot
from tests.any_order.delivery import SETTINGS, Bench
from tests.conftest import use_settings

DOCUMENT = "task_microscope_file_ada_01J9ZZZZZZZZZZZZZZZZZZZZZA"


@pytest.fixture(autouse=True)
def registered_only(in_this_process: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets GRAPHNODE_REGISTERED_ONLY."""
    use_settings(msgspec.structs.replace(SETTINGS, registered_only=True), monkeypatch)


def register(task_id: str, task_type: str) -> None:
    with user_transaction("ada"):
        tasks.register(task_id, task_type, user_id="ada", s3_keys=[])


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED"])
@pytest.mark.parametrize("kind", ["graph", "summary", "add-node", "microscope", "microscope-from-node"])
def test_a_result_of_a_task_that_nobody_registered_changes_nothing_and_is_not_read(
    play: Play, snapshot: Callable[[], Snapshot], monkeypatch: pytest.MonkeyPatch, kind: str, status: str
) -> None:
    before = snapshot()
    monkeypatch.setattr(s3, "client", pytest.fail)

    with pytest.raises(NotRegistered, match="Nobody has asked for task"):
        play(kind, status=status)

    assert snapshot() == before


def test_progress_of_a_task_that_nobody_registered_is_ignored(play: Play, snapshot: Callable[[], Snapshot]) -> None:
    before = snapshot()

    play("progress", currentStage="clustering")

    assert snapshot() == before


def test_a_registered_tasks_progress_and_result_count(play: Play) -> None:
    register("task_graph_ada_1", "GRAPH_GENERATION_RESULT")

    play("progress", task_id="task_graph_ada_1", currentStage="clustering")
    play("graph", task_id="task_graph_ada_1")

    assert database.execute_sql("SELECT status FROM graphs").fetchall() == [("CREATED",)]


def test_a_registered_task_takes_no_workspace_that_nobody_made(play: Play, snapshot: Callable[[], Snapshot]) -> None:
    register(DOCUMENT, "MICROSCOPE_INGEST_RESULT")
    before = snapshot()

    with pytest.raises(NotRegistered, match="Nobody has made workspace w-1"):
        play("microscope", task_id=DOCUMENT, groupId="w-1")

    assert snapshot() == before
    database.execute_sql("INSERT INTO microscope_workspaces (id, user_id) VALUES ('w-1', 'ada')")
    play("microscope", task_id=DOCUMENT, groupId="w-1")
    assert database.execute_sql("SELECT status FROM microscope_documents").fetchall() == [("COMPLETED",)]
