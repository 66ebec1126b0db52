"""What the commands on dead letters leave in the audit table, and how the console reads dead letters."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from graphnode.cli import commands
from graphnode.dev import outcomes
from graphnode.operations.dead_letters import reader, shelf
from graphnode.operations.dead_letters.bulk_deletion import delete_letters
from graphnode.operations.dead_letters.letters import LetterFilter
from graphnode.operations.dead_letters.shelf import read_shelf
from graphnode.storage.database import close_database, open_database
from tests.e2e.ai_server import AiServer

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

Dlq = Callable[..., Result]

ENTRIES = "SELECT via, action, subject, because, user_id, state, outcome FROM audit ORDER BY id"


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """LocalStack has one server: a poll does not wait for others."""
    monkeypatch.setattr(reader, "WAIT_S", 0)


@pytest.fixture
def dlq(stack_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Dlq:
    for name, value in stack_env.items():
        monkeypatch.setenv(name, value)
    return lambda *arguments: CliRunner().invoke(commands, ["dlq", *arguments])


@pytest.fixture
def three(ai: AiServer) -> AiServer:
    """Three letters of three users."""
    for number in range(3):
        ai.put_letter(ai.result("summary", user_id=f"user-{number}"), reason="TIME_LIMIT", error="slow")
    return ai


class TestCommands:
    def test_a_redrive_says_how_many_and_a_dry_run_leaves_nothing(self, three: AiServer, dlq: Dlq) -> None:
        dlq("redrive", "--reason", "TIME_LIMIT", "--dry-run")
        assert three.rows(ENTRIES) == []

        assert dlq("redrive", "--reason", "TIME_LIMIT", "--limit", "2").exit_code == 0

        ((via, action, subject, because, user_id, state, outcome),) = three.rows(ENTRIES)
        assert (via, action, subject) == ("command", "redrive", "dead letters with TIME_LIMIT")
        assert (because, user_id, state) == (None, None, "DONE")
        assert "2 redriven" in outcome

    def test_a_deletion_says_why_and_whose_letter_it_was(self, three: AiServer, dlq: Dlq) -> None:
        message_id = json.loads(dlq("list", "--json").stdout)[0]["letters"][0]["message_id"]

        assert dlq("delete", message_id, "--because", "sent twice", "--yes").exit_code == 0

        ((_, action, subject, because, user_id, state, outcome),) = three.rows(ENTRIES)
        assert (action, because, state, outcome) == ("delete", "sent twice", "DONE", "deleted")
        assert message_id in subject
        assert user_id.startswith("user-")

    def test_letters_that_leave_with_a_file_and_come_back_with_it_are_recorded(
        self, three: AiServer, dlq: Dlq, tmp_path: Path
    ) -> None:
        file = str(tmp_path / "letters.jsonl")

        dlq("export", file, "--queue", "results")
        assert three.rows(ENTRIES) == []
        (tmp_path / "letters.jsonl").unlink()
        dlq("export", file, "--queue", "results", "--delete")
        dlq("import", file)

        assert [(row[1], row[5]) for row in three.rows(ENTRIES)] == [("export and delete", "DONE"), ("import", "DONE")]

    def test_without_the_database_letters_are_redriven_all_the_same(
        self, three: AiServer, dlq: Dlq, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")

        ended = dlq("redrive", "--all")

        assert ended.exit_code == 0, ended.output
        assert "Not recorded in the audit table" in ended.output
        assert len(outcomes.dead_letters(three.sqs, three.result_queue)) == 3


class TestShelf:
    def test_all_letters_are_read_and_visible_again_at_once(self, three: AiServer) -> None:
        (queue,) = read_shelf(three.sqs, {"results": three.result_queue})

        assert len(queue.letters) == 3
        assert (queue.missing, queue.unseen) == (0, "")
        assert len(outcomes.dead_letters(three.sqs, three.dead_letter_queue)) == 3

    def test_large_bodies_and_further_letters_are_left_on_the_queue(
        self, three: AiServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shelf, "LARGEST_BODY", 10)
        (queue,) = read_shelf(three.sqs, {"results": three.result_queue})
        assert [one.letter for one in queue.letters] == [None] * 3

        monkeypatch.setattr(shelf, "MOST_LETTERS", 1)
        for _ in range(20):
            three.sqs.send_message(QueueUrl=three.dead_letter_queue, MessageBody="{}")
        (queue,) = read_shelf(three.sqs, {"results": three.result_queue})
        assert 1 <= len(queue.letters) <= 10
        assert len(queue.letters) + queue.missing == 23

    def test_a_queue_where_each_look_counts_is_not_read(self, three: AiServer) -> None:
        second = three.sqs.create_queue(QueueName=f"{three.dead_letter_queue.rpartition('/')[2]}-2")["QueueUrl"]
        policy: Any = {"deadLetterTargetArn": arn(three.sqs, second), "maxReceiveCount": 3}
        three.sqs.set_queue_attributes(
            QueueUrl=three.dead_letter_queue, Attributes={"RedrivePolicy": json.dumps(policy)}
        )

        (queue,) = read_shelf(three.sqs, {"results": three.result_queue})

        assert queue.letters == []
        assert "redrive policy of its own" in queue.unseen

    def test_queues_that_cannot_be_read_say_why_and_the_others_are_read(self, three: AiServer) -> None:
        gone, there = read_shelf(three.sqs, {"requests": f"{three.result_queue}-gone", "results": three.result_queue})

        assert gone.unseen
        assert len(there.letters) == 3


def test_a_deletion_of_many_takes_those_that_match_and_records_each(three: AiServer, stack_env: dict[str, str]) -> None:
    (queue,) = read_shelf(three.sqs, {"results": three.result_queue})
    assert queue.queue
    open_database(stack_env["DATABASE_URL"])
    try:
        *_, done = delete_letters(
            three.sqs, queue.queue, LetterFilter(user_id="user-1"), because="test", deleted_by="me"
        )
    finally:
        close_database()

    assert (done.seen, done.deleted, done.refused) == (3, 1, 0)
    assert len(outcomes.dead_letters(three.sqs, three.dead_letter_queue)) == 2
    assert three.rows("SELECT user_id, because, deleted_by FROM deleted_letters") == [("user-1", "test", "me")]


def arn(sqs: SQSClient, url: str) -> str:
    return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
