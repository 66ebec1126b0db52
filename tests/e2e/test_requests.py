"""`graphnode request` and `graphnode task` with real services."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.ai_server import AiServer

GRAPHNODE = [sys.executable, "-c", "from graphnode.cli import main; main()"]


def graphnode(ai: AiServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in the test's environment."""
    environment = {**os.environ, **ai.environment}
    return subprocess.run([*GRAPHNODE, *arguments], env=environment, capture_output=True, text=True, timeout=60)


def test_a_folder_is_asked_for_its_graph_comes_and_the_story_is_told(shared_ai: AiServer, tmp_path: Path) -> None:
    ai = shared_ai
    folder = tmp_path / "chats"
    (folder / "2026").mkdir(parents=True)
    (folder / "a.json").write_text("[]")
    (folder / "2026" / "b.json").write_text("[1]")

    asked = graphnode(ai, "request", "graph", "--user", "ada", "--input", str(folder), "--no-summary")

    assert asked.returncode == 0, asked.stderr
    task_id = asked.stdout.strip()
    assert f"graphnode task {task_id}" in asked.stderr
    queue = ai.environment["SQS_REQUEST_QUEUE_URL"]
    (message,) = ai.sqs.receive_message(
        QueueUrl=queue, WaitTimeSeconds=5, MessageSystemAttributeNames=["MessageGroupId"]
    )["Messages"]
    ai.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    assert message["Attributes"] == {"MessageGroupId": "ada"}
    envelope = json.loads(message["Body"])
    prefix = f"requests/ada/{task_id}/chats/"
    assert (envelope["taskType"], envelope["taskId"]) == ("GRAPH_GENERATION_REQUEST", task_id)
    assert envelope["payload"] == {"userId": "ada", "s3Key": prefix, "bucket": ai.bucket, "includeSummary": False}
    stored = ai.s3.list_objects_v2(Bucket=ai.bucket, Prefix=prefix)["Contents"]
    assert [found["Key"].removeprefix(prefix) for found in stored] == ["2026/b.json", "a.json"]
    assert ai.rows("SELECT status FROM graphs") == [("CREATING",)]

    assert ai.ended(ai.send(ai.result("graph", task_id=task_id))).status == "COMPLETED"

    assert ai.rows("SELECT registered FROM tasks") == [(True,)]
    told = graphnode(ai, "task", task_id)
    assert told.returncode == 0, told.stderr
    assert "result        COMPLETED at delivery 1" in told.stdout
    (story,) = json.loads(graphnode(ai, "task", task_id, "--json").stdout)
    assert [one["type"] for one in story["notifications"]] == [
        "GRAPH_GENERATION_REQUESTED",
        "GRAPH_GENERATION_COMPLETED",
    ]
    assert prefix in story["s3_keys"]


def test_a_request_that_cannot_be_made_is_one_message(shared_ai: AiServer, tmp_path: Path) -> None:
    refused = [
        (["graph", "--user", "ada", "--input", str(tmp_path / "gone")], 1, "There is no file"),
        (["graph", "--user", "ada", "--input", str(tmp_path)], 1, "has no files"),
        (["add-node", "--user", "ada", "--input", "s3://bucket"], 1, "s3://BUCKET/KEY"),
        (["graph", "--user", "ada", "--input", "s3://a/k", "--extra", "s3://b/k"], 2, "must be in one bucket"),
    ]
    for arguments, code, text in refused:
        told = graphnode(shared_ai, "request", *arguments)
        assert (told.returncode, told.stdout) == (code, "")
        assert text in told.stderr
        assert "Traceback" not in told.stderr
    assert shared_ai.rows("SELECT * FROM tasks") == []


def test_a_dead_letter_is_in_its_tasks_story(shared_ai: AiServer) -> None:
    result = shared_ai.result("graph")
    for key in result.documents:
        result.documents[key] = b'{"nodes": 7}'
    shared_ai.send(result)
    shared_ai.dead_letters(1)

    told = graphnode(shared_ai, "task", result.task_id)

    assert "INVALID_DOCUMENT at attempt 1: nodes: expected" in " ".join(told.stdout.split())
