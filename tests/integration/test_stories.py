"""graphnode task: what is stored of a task's life, as text and as JSON."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from graphnode import cli
from graphnode.contract.notifications import GraphCompleted
from graphnode.operations.stories.reading import stories
from graphnode.storage import failures, notifications, tasks
from graphnode.storage.database import user_transaction
from graphnode.storage.failures import Subject
from graphnode.storage.tasks import Key, TaskStatus
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
    """The life of task t1: asked for, failed once, done."""
    with user_transaction("ada"):
        tasks.register("t1", RESULT, user_id="ada", s3_keys=["in.json"])
        tasks.mark_published([Key("t1", RESULT)])
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
def test_a_tasks_life_is_told_in_its_order(run: CliRunner) -> None:
    told = task(run, "t1")

    assert told.exit_code == 0
    labels = [line[10:24].strip() for line in told.output.splitlines()[4:]]
    assert labels == [
        "registered",
        "published",
        "attempt 1",
        "result",
        "object",
        "object",
        "warning",
        "told",
        "push",
    ]
    assert max(map(len, told.output.splitlines())) <= 80


@pytest.mark.usefixtures("life")
def test_as_json_it_is_all_that_is_stored_and_nothing_else(run: CliRunner) -> None:
    (story,) = json.loads(task(run, "t1", "--json").stdout)

    assert (story["task_id"], story["status"], story["warnings"]) == ("t1", "COMPLETED", {"self-loops": 3})
    assert sorted(story["s3_keys"]) == ["graph.json", "in.json"]
    assert [attempt["error"] for attempt in story["attempts"]] == ["S3 is slow"]
    assert [one["payload"]["nodeCount"] for one in story["notifications"]] == [36]
    assert story["registered_at"] <= story["published_at"] <= story["attempts"][0]["at"] <= story["finished_at"]


def test_a_task_that_never_got_a_row_is_told_by_its_attempts(run: CliRunner) -> None:
    failures.give_up("m1", attempt=1, reason="INVALID_DOCUMENT", error="nodes: required", subject=SUBJECT)

    told = task(run, "t1")

    assert told.exit_code == 0
    assert "nothing of it is stored" in told.output
    assert "INVALID_DOCUMENT at attempt 1: nodes: required" in told.output


def test_a_documents_id_means_its_halves(query: Query) -> None:
    for half in ("block", "nonblock"):
        query("INSERT INTO tasks (task_id, task_type, user_id, status) VALUES (%s, 'X', 'ada', 'PENDING')", f"d_{half}")

    assert sorted(story.task_id for story in stories("d")) == ["d_block", "d_nonblock"]
    assert [story.task_id for story in stories("d_block")] == ["d_block"]


@pytest.mark.parametrize(("arguments", "output"), [((), ""), (("--json",), "[]\n")])
def test_a_task_that_nobody_knows_is_told_so_with_exit_code_1(
    run: CliRunner, arguments: tuple[str, ...], output: str
) -> None:
    told = task(run, "t9", *arguments)

    assert told.exit_code == 1
    assert told.stdout == output
    assert "Nothing is known of task t9" in told.stderr
