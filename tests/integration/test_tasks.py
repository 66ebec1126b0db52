"""Tasks: their owner, their progress, and when they are final."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from graphnode.errors import WrongOwner
from graphnode.storage import tasks
from graphnode.storage.database import database, user_transaction
from graphnode.storage.notifications import new_notification
from graphnode.storage.statements import run
from graphnode.storage.tasks import Found, TaskKey, TaskRecord, TaskStatus
from graphnode.storage.users import forget_user
from tests.integration.conftest import Query, wait_until

RESULT = "GRAPH_GENERATION_RESULT"
NOON = datetime(2026, 5, 24, 12, tzinfo=UTC)

WAITS_FOR_ANOTHER_TRANSACTION = "SELECT 1 FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"

pytestmark = pytest.mark.usefixtures("storage")


def finish(status: TaskStatus = TaskStatus.COMPLETED, **changes: Any) -> list[str]:
    result: dict[str, Any] = {"user_id": "ada", "status": status, "attempts": 1}
    return tasks.finish("t1", RESULT, **result | changes)


def register(status: TaskStatus = TaskStatus.PENDING) -> None:
    """Insert a row as the API server does; it does not know the worker's columns."""
    database.execute_sql(
        "INSERT INTO tasks (task_id, task_type, user_id, status) VALUES ('t1', %s, 'ada', %s)", (RESULT, status)
    )


def record_progress(**changes: Any) -> bool:
    progress: dict[str, Any] = {"stage": "clustering", "percent": 40.0, "eta_seconds": 30.0, "at": NOON}
    return tasks.record_progress("t1", RESULT, **{"user_id": "ada"} | progress | changes)


def stored() -> TaskRecord:
    return TaskRecord.get()


def found(task_type: str = RESULT, *, user_id: str = "ada") -> Found:
    return tasks.found(run(tasks.find("t1", user_id)), TaskKey("t1", task_type), user_id=user_id)


class TestFound:
    def test_an_unknown_task_has_no_status(self) -> None:
        assert found() == Found(None, None, is_forgotten=False)

    @pytest.mark.parametrize("status", TaskStatus)
    def test_a_known_task_has_the_stored_one_and_the_time_of_its_last_news(self, status: TaskStatus) -> None:
        register()
        if status is TaskStatus.PROGRESS:
            record_progress()
        elif status is not TaskStatus.PENDING:
            finish(status)

        assert found() == Found(status, stored().updated_at, is_forgotten=False)

    def test_each_type_of_a_task_has_its_own(self) -> None:
        finish()
        assert found("GRAPH_SUMMARY_RESULT").status is None

    @pytest.mark.parametrize("status", [None, *TaskStatus])
    def test_completed_and_superseded_are_final(self, status: TaskStatus | None) -> None:
        is_final = Found(status, None, is_forgotten=False).is_final
        assert is_final == (status in (TaskStatus.COMPLETED, TaskStatus.SUPERSEDED))

    def test_an_unknown_task_of_a_forgotten_user_is_forgotten(self) -> None:
        forget_user("ada")
        assert found().is_forgotten

    def test_a_task_that_was_registered_later_is_not(self) -> None:
        forget_user("ada")
        register()
        assert not found().is_forgotten

    @pytest.mark.parametrize("task_type", [RESULT, "GRAPH_SUMMARY_RESULT"])
    def test_refuses_a_task_id_that_another_user_has_with_any_type(self, task_type: str) -> None:
        finish(user_id="ada")

        with pytest.raises(WrongOwner, match=r"'ada'.*'eve'"):
            found(task_type, user_id="eve")


class TestFinish:
    def test_stores_how_the_task_ended(self) -> None:
        finish(attempts=3, warnings={"edges to unknown nodes": 2})

        task = stored()
        assert (task.user_id, task.status, task.attempts, task.error) == ("ada", "COMPLETED", 3, None)
        assert task.warnings == {"edges to unknown nodes": 2}
        assert task.finished_at == task.updated_at == task.created_at

    def test_a_failed_task_may_turn_completed_and_loses_its_error(self) -> None:
        finish(TaskStatus.FAILED, error="The model was away.", warnings={"nodes without an ID": 1})
        created_at = stored().created_at
        finish(TaskStatus.COMPLETED, attempts=2)

        task = stored()
        assert (task.status, task.error, task.warnings, task.attempts) == ("COMPLETED", None, None, 2)
        assert task.created_at == created_at

    @pytest.mark.parametrize("has_device", [True, False])
    def test_returns_the_notifications_to_push_of_a_user_with_a_device(self, query: Query, has_device: bool) -> None:
        if has_device:
            query("INSERT INTO device_tokens (token, user_id) VALUES ('phone', 'ada')")
        told, stored_only = (
            new_notification(user_id="ada", type="T", payload={}, event=event, not_pushed=not_pushed)
            for event, not_pushed in (("told", None), ("stored", "stored only"))
        )

        to_push = finish(notifications=[told, stored_only])

        assert to_push == ([told.id] if has_device else [])
        assert len(query("SELECT 1 FROM notifications")) == 2

    def test_says_that_nobody_registered_the_task(self) -> None:
        finish()
        assert not stored().registered

    def test_a_task_that_was_registered_stays_so(self) -> None:
        register()
        record_progress()
        finish()
        assert (stored().registered, stored().status) == (True, "COMPLETED")

    def test_stores_the_objects_that_the_result_named(self) -> None:
        finish(s3_keys=["graph.json", "features.json"])
        assert stored().s3_keys == ["graph.json", "features.json"]

    def test_keeps_the_newest_progress(self) -> None:
        record_progress()
        finish()

        task = stored()
        assert (task.status, task.current_stage, task.progress_percent) == ("COMPLETED", "clustering", 40.0)

    def test_refuses_a_task_that_is_someone_elses(self) -> None:
        finish(TaskStatus.FAILED, user_id="ada")

        with pytest.raises(WrongOwner):
            finish(user_id="eve")

        assert (stored().user_id, stored().status) == ("ada", "FAILED")


class TestRegister:
    def test_refuses_a_task_that_another_user_registers_at_the_same_time(self, query: Query) -> None:
        def register_as(user_id: str) -> None:
            with user_transaction(user_id):
                tasks.register("t1", RESULT, user_id=user_id, s3_keys=[f"{user_id}.json"])

        with ThreadPoolExecutor(1) as other_session:
            with user_transaction("ada"):
                tasks.register("t1", RESULT, user_id="ada", s3_keys=["ada.json"])
                bob = other_session.submit(register_as, "bob")
                # Bob has found no task, and waits for ada's commit.
                wait_until(query, WAITS_FOR_ANOTHER_TRANSACTION)
            with pytest.raises(WrongOwner, match="'bob'"):
                bob.result()

        assert (stored().user_id, stored().s3_keys) == ("ada", ["ada.json"])


class TestRecordProgress:
    def test_makes_the_tasks_row(self) -> None:
        assert record_progress()

        task = stored()
        assert (task.task_type, task.status, task.user_id) == (RESULT, "PROGRESS", "ada")
        assert (task.current_stage, task.progress_percent, task.eta_seconds) == ("clustering", 40.0, 30.0)
        assert (task.progress_at, task.finished_at) == (NOON, None)

    def test_newer_progress_replaces_older(self) -> None:
        record_progress()
        assert record_progress(stage="naming", percent=None, eta_seconds=None, at=NOON + timedelta(seconds=1))

        task = stored()
        assert (task.current_stage, task.progress_percent, task.eta_seconds) == ("naming", None, None)

    @pytest.mark.parametrize("at", [NOON, NOON - timedelta(microseconds=1)], ids=["the same", "older"])
    def test_progress_that_is_not_newer_changes_nothing(self, at: datetime) -> None:
        record_progress()
        assert not record_progress(stage="reading", at=at)
        assert stored().current_stage == "clustering"

    @pytest.mark.parametrize(("ahead", "replaced"), [(timedelta(minutes=4), False), (timedelta(minutes=6), True)])
    def test_stored_progress_of_the_future_loses(self, ahead: timedelta, replaced: bool) -> None:
        record_progress(at=datetime.now(UTC) + ahead)
        assert record_progress(stage="naming", at=NOON) == replaced

    def test_starts_a_task_that_waits(self) -> None:
        register()
        assert record_progress()
        assert stored().status == "PROGRESS"

    @pytest.mark.parametrize("status", [TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.SUPERSEDED])
    def test_changes_nothing_once_the_task_has_ended(self, status: TaskStatus) -> None:
        finish(status)
        assert not record_progress()
        assert (stored().status, stored().current_stage) == (status, None)

    def test_changes_nothing_of_someone_elses_task(self) -> None:
        record_progress(user_id="ada")
        assert not record_progress(user_id="eve", at=NOON + timedelta(seconds=1))
        assert stored().user_id == "ada"
