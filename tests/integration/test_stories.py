"""`graphnode task`: a task's story, as text and as JSON."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from graphnode import cli
from graphnode.contract.notifications import GraphCompleted
from graphnode.operations.stories.story import find_stories
from graphnode.storage import failures, notifications, tasks
from graphnode.storage.database import user_transaction
from graphnode.storage.failures import Subject
from graphnode.storage.tasks import TaskKey, TaskStatus
from tests.integration.conftest import Query

RESULT = "GRAPH_GENERATION_RESULT"
SUBJECT = Subject("t1", RESULT, "ada")

pytestmark = pytest.mark.usefixtures("storage")


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("DATABASE_URL", database_url)
    return CliRunner()


def task(run: CliRunner, *arguments: str) -> Result:
    return run.invoke(cli.commands, ["task", *arguments])


@pytest.fixture
def life(storage: None) -> None:
    """The life of task t1: requested, failed once, completed."""
    with user_transaction("ada"):
        tasks.register("t1", RESULT, user_id="ada", s3_keys=["in.json"])
        tasks.mark_published([TaskKey("t1", RESULT)])
    failures.record_failure("m1", reason="SERVICE_BUSY", error="S3 is slow", subject=SUBJECT)
    with user_transaction("ada"):
        tasks.finish(
            "t1",
            RESULT,
            user_id="ada",
            status=TaskStatus.COMPLETED,
            attempts=2,
            warnings={"self-loops": 3},
            s3_keys=["graph.json"],
        )
        for task_id in ("t1", "t2"):
            notifications.write(
                user_id="ada",
                type=GraphCompleted.event,
                payload={"taskId": task_id, "nodeCount": 36},
                event=task_id,
                push=True,
            )


@pytest.mark.usefixtures("life")
def test_a_tasks_life_is_shown_in_order(run: CliRunner) -> None:
    result = task(run, "t1")

    assert result.exit_code == 0
    labels = [line[10:24].strip() for line in result.output.splitlines()[4:]]
    assert labels == [
        "registered",
        "published",
        "attempt 1",
        "result",
        "object",
        "object",
        "warning",
        "notified",
        "push",
    ]
    assert max(map(len, result.output.splitlines())) <= 80


@pytest.mark.usefixtures("life")
def test_as_json_it_is_all_that_is_stored(run: CliRunner) -> None:
    (story,) = json.loads(task(run, "t1", "--json").stdout)

    assert (story["task_id"], story["status"], story["warnings"]) == ("t1", "COMPLETED", {"self-loops": 3})
    assert sorted(story["s3_keys"]) == ["graph.json", "in.json"]
    assert [attempt["error"] for attempt in story["attempts"]] == ["S3 is slow"]
    assert [one["payload"]["nodeCount"] for one in story["notifications"]] == [36]
    assert story["registered_at"] <= story["published_at"] <= story["attempts"][0]["at"] <= story["finished_at"]


def test_a_task_without_a_row_is_shown_by_its_attempts(run: CliRunner) -> None:
    failures.record_dead_letter("m1", attempt=1, reason="INVALID_DOCUMENT", error="nodes: required", subject=SUBJECT)

    result = task(run, "t1")

    assert result.exit_code == 0
    assert "of ada: not stored" in result.output
    assert "INVALID_DOCUMENT at attempt 1: nodes: required" in result.output


def test_a_documents_id_finds_both_halves(query: Query) -> None:
    for half in ("block", "nonblock"):
        query("INSERT INTO tasks (task_id, task_type, user_id, status) VALUES (%s, 'X', 'ada', 'PENDING')", f"d_{half}")

    assert sorted(story.task_id for story in find_stories("d")) == ["d_block", "d_nonblock"]
    assert [story.task_id for story in find_stories("d_block")] == ["d_block"]


@pytest.mark.parametrize(("arguments", "output"), [((), ""), (("--json",), "[]\n")])
def test_an_unknown_task_ends_with_exit_code_1(run: CliRunner, arguments: tuple[str, ...], output: str) -> None:
    result = task(run, "t9", *arguments)

    assert result.exit_code == 1
    assert result.stdout == output
    assert "Task t9 is unknown" in result.stderr
