"""The search for tasks: each task once on the pages, in order, and no page reads much."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from graphnode.storage import task_search
from graphnode.storage.task_search import LISTS, NEWEST, PAGE, FoundTask, TaskCursor, TaskFilter, TaskPage, search_tasks
from graphnode.storage.tasks import TaskStatus
from tests.integration.conftest import PutTasks, Query

pytestmark = pytest.mark.usefixtures("storage")


def pages(wanted: TaskFilter) -> list[TaskPage]:
    """All pages of a search."""
    found: list[TaskPage] = []
    behind = None
    while not found or behind:
        found.append(search_tasks(wanted, behind=behind))
        behind = found[-1].behind
    return found


def listed(wanted: TaskFilter) -> list[FoundTask]:
    return [task for page in pages(wanted) for task in page.tasks]


class TestOrder:
    def test_each_task_is_on_one_page_the_newest_first_also_if_many_have_one_time(self, put_tasks: PutTasks) -> None:
        put_tasks(120, "COMPLETED", "1 hour")
        put_tasks(30, "PENDING", "30 minutes")
        put_tasks(10, "FAILED", "2 hours")

        found = listed(TaskFilter())

        assert len(found) == len({task.task_id for task in found}) == 160
        assert [task.at for task in found] == sorted((task.at for task in found), reverse=True)
        assert [len(page.tasks) for page in pages(TaskFilter())] == [PAGE, PAGE, PAGE, 10]

    @pytest.mark.parametrize("status", TaskStatus)
    def test_a_status_finds_its_tasks_and_no_others(self, status: TaskStatus, put_tasks: PutTasks) -> None:
        for other in TaskStatus:
            put_tasks(60, other, "1 hour")

        assert [task.status for task in listed(TaskFilter(status=status))] == [status] * 60

    def test_user_type_and_time_are_conditions_too(self, put_tasks: PutTasks, query: Query) -> None:
        put_tasks(60, "COMPLETED", "2 hours")
        put_tasks(60, "PENDING", "1 minute")
        query(
            "INSERT INTO tasks (task_id, task_type, user_id, status, finished_at)"
            " SELECT 'of bob' || task_id, task_type, 'bob', status, finished_at FROM tasks WHERE task_id LIKE '%0'"
        )
        query("UPDATE tasks SET task_type = 'OTHER' WHERE task_id LIKE '%5'")

        assert {task.user_id for task in listed(TaskFilter(user_id="bob"))} == {"bob"}
        assert len(listed(TaskFilter(user_id="bob"))) == 12
        assert len(listed(TaskFilter(user_id="bob", status=TaskStatus.PENDING))) == 6
        assert len(listed(TaskFilter(task_type="OTHER"))) == 12
        assert len(listed(TaskFilter(since=datetime.now(UTC) - timedelta(hours=1)))) == 66
        assert listed(TaskFilter(user_id="nobody")) == []


class TestBound:
    @pytest.fixture(autouse=True)
    def _low(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(task_search, "MOST_READ", 70)

    def test_a_rare_type_is_found_page_by_page_behind_the_bound(self, put_tasks: PutTasks, query: Query) -> None:
        put_tasks(100, "COMPLETED", "1 hour")
        put_tasks(100, "PENDING", "3 hours")
        put_tasks(1, "COMPLETED", "5 hours")
        query("UPDATE tasks SET task_type = 'RARE' WHERE task_id = 'COMPLETED-5 hours-1'")

        found = pages(TaskFilter(task_type="RARE"))

        assert found[0].tasks == []
        assert found[0].is_partial
        assert [task.task_id for page in found for task in page.tasks] == ["COMPLETED-5 hours-1"]
        assert not found[-1].is_partial

    def test_matches_on_both_sides_of_a_bound_come_once_and_in_order(self, put_tasks: PutTasks, query: Query) -> None:
        put_tasks(100, "COMPLETED", "1 hour")
        put_tasks(100, "PENDING", "90 minutes")
        put_tasks(100, "COMPLETED", "2 hours")
        query("UPDATE tasks SET task_type = 'RARE' WHERE task_id LIKE '%7'")

        found = listed(TaskFilter(task_type="RARE"))

        assert len(found) == len({task.task_id for task in found}) == 30
        assert [task.at for task in found] == sorted((task.at for task in found), reverse=True)


@pytest.mark.parametrize(
    ("name", "index"),
    [("open", "tasks_open"), ("ended", "tasks_finished"), ("without effect", "tasks_without_effect")],
)
def test_a_page_far_behind_reads_its_index_from_there(name: str, index: str, put_tasks: PutTasks, query: Query) -> None:
    for status in ("PENDING", "COMPLETED", "FAILED"):
        for hours in range(1, 21):
            put_tasks(200, status, f"{hours} hours")
    query("ANALYZE tasks")
    time, listed = LISTS[name]
    behind = TaskCursor(datetime.now(UTC) - timedelta(hours=15), "x", "x")
    statement = NEWEST.format(time=time, listed=listed, wanted="true")
    values = {
        "before": behind.at,
        "before_id": behind.task_id,
        "before_type": behind.task_type,
        "since": "-infinity",
        "read": PAGE + 1,
        "most": PAGE + 1,
    }

    plan = "\n".join(line for (line,) in query_with(query, f"EXPLAIN {statement}", values))

    assert f"Index Scan Backward using {index}" in plan or f"Index Scan using {index}" in plan, plan
    assert "Index Cond" in plan


def query_with(query: Query, statement: str, values: dict[str, object]) -> list[tuple[str]]:
    from graphnode.storage.database import database

    rows: list[tuple[str]] = database.execute_sql(statement, values).fetchall()
    return rows
