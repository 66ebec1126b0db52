"""The development stack itself: what LocalStack is given at its start, what is kept, and the commands around it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from graphnode.dev import localstack, outcomes
from graphnode.dev.child_processes import Worker
from graphnode.dev.local_aws import dead_letter_url, s3_client, sqs_client
from graphnode.dev.localstack import LocalStack
from graphnode.operations.env_file import read_env_file

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType

#: The command, as it is without an installation.
GRAPHNODE = [sys.executable, "-c", "from graphnode.cli import main; main()"]

#: Seconds that a start may take on a busy machine, and a stop: the graces of worker and PostgreSQL alone are 19 s.
START_S = 120.0
STOP_S = 60.0


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*GRAPHNODE, *arguments], cwd=cwd, capture_output=True, text=True, timeout=START_S)


@contextmanager
def development_stack(cwd: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """A `graphnode dev` that is ready, and the environment it wrote."""
    path = cwd / "stack.env"
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    with ExitStack() as running:
        output = running.enter_context((cwd / "dev.log").open("a+"))
        process = running.enter_context(
            subprocess.Popen(
                [*GRAPHNODE, "dev", "--env-file", str(path), *options],
                cwd=cwd,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        running.callback(process.kill)
        ready = outcomes.wait_for(
            lambda: path.exists() or (None if process.poll() is None else False), timeout_s=START_S
        )
        assert ready, (cwd / "dev.log").read_text()
        yield process, read_env_file(path)


def paste(cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the two lines that `graphnode dev` has printed, in a shell that knows nothing of it."""
    lines = (cwd / "dev.log").read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("To use it, paste"))
    typed = ["bash", "-c", "\n".join(lines[at + 1 : at + 3])]
    return subprocess.run(typed, capture_output=True, text=True, timeout=START_S)


def attributes(sqs: SQSClient, url: str) -> Mapping[QueueAttributeNameType, str]:
    return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]


@pytest.mark.parametrize("queue", ["SQS_REQUEST_QUEUE_URL", "SQS_RESULT_QUEUE_URL"])
def test_a_message_is_hidden_for_60_s_and_lies_14_days_as_a_dead_letter(
    stack_env: dict[str, str], sqs: SQSClient, queue: str
) -> None:
    url = stack_env[queue]

    assert attributes(sqs, url)["VisibilityTimeout"] == "60"
    assert json.loads(attributes(sqs, url)["RedrivePolicy"])["maxReceiveCount"] == 50
    assert attributes(sqs, dead_letter_url(sqs, url))["MessageRetentionPeriod"] == str(14 * 86_400)


def test_localstack_makes_the_queues_and_the_bucket_at_its_start(
    localstack: LocalStack, sqs: SQSClient, s3: S3Client
) -> None:
    names = {url.rpartition("/")[2] for url in sqs.list_queues(QueueNamePrefix="graphnode-")["QueueUrls"]}

    assert names == {
        "graphnode-requests",
        "graphnode-requests-dlq",
        "graphnode-results",
        "graphnode-results-dlq",
    }
    s3.head_bucket(Bucket="graphnode-payloads")


class Stranger(BaseHTTPRequestHandler):
    """Another program that answers HTTP."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"scripts": []}')

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_localstack_takes_another_port_when_somebody_has_taken_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with HTTPServer(("127.0.0.1", 0), Stranger) as stranger:
        Thread(target=stranger.serve_forever, daemon=True).start()
        free_port = localstack._free_port
        ports = iter([stranger.server_port])
        monkeypatch.setattr(localstack, "_free_port", lambda: next(ports, 0) or free_port())

        with LocalStack() as server:
            server.wait_until_ready()

            assert server.port != stranger.server_port
        stranger.shutdown()


def test_deliver_shows_what_became_of_a_result(worker: Worker, stack_env: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "stack.env"
    path.write_text("".join(f"{name}={value}\n" for name, value in stack_env.items()))
    broken = tmp_path / "broken.json"
    broken.write_text('{"nodes": 1}')
    to_stack = ("--user", "u", "--env-file", str(path))

    good = run("deliver", "graph", "--task-id", "t", *to_stack, cwd=tmp_path)
    again = run("deliver", "graph", "--task-id", "t", *to_stack, cwd=tmp_path)
    failed = run("deliver", "summary", "--status", "FAILED", "--error", "too few notes", *to_stack, cwd=tmp_path)
    progress = run("deliver", "progress", *to_stack, cwd=tmp_path)
    dead = run("deliver", "add-node", "--document", str(broken), *to_stack, cwd=tmp_path)

    assert (good.returncode, "COMPLETED at attempt 1" in good.stdout) == (0, True), good
    assert (again.returncode, "changed nothing" in again.stdout) == (0, True), again
    assert (failed.returncode, "FAILED at attempt 1\nerror: too few notes" in failed.stdout) == (0, True), failed
    assert (progress.returncode, "PROGRESS" in progress.stdout) == (0, True), progress
    assert (dead.returncode, "DEAD LETTER: INVALID_DOCUMENT at attempt 1" in dead.stdout) == (1, True), dead


def test_dev_keeps_its_database_stops_in_time_and_runs_once_in_a_directory(open_path: Path) -> None:
    with development_stack(open_path, "--keep", "--no-ai") as (first, environment):
        same_directory = run("dev", "--keep", cwd=open_path)
        same_file = run("dev", "--env-file", "stack.env", cwd=open_path)
        delivered = paste(open_path)
        dead = run("deliver", "summary", "--user", "", "--env-file", "stack.env", cwd=open_path)
        assert read_env_file(open_path / "stack.env") == environment
        first.send_signal(signal.SIGTERM)
        assert first.wait(STOP_S) == 0
    assert not (open_path / "stack.env").exists()
    assert (same_directory.returncode, same_file.returncode) == (1, 1)
    assert f"(process {first.pid}) uses {open_path / '.graphnode'}" in same_directory.stderr
    assert f"stack.env belongs to another running stack (process {first.pid})" in same_file.stderr
    assert (delivered.returncode, dead.returncode) == (0, 1), delivered

    with development_stack(open_path, "--keep") as (again, environment):
        sqs, s3 = sqs_client(environment), s3_client(environment)
        with outcomes.reading(environment["DATABASE_URL"]) as database:
            stored = outcomes.rows(database, "SELECT status, count(*) FROM tasks GROUP BY status")
        letters = outcomes.dead_letters(sqs, dead_letter_url(sqs, environment["SQS_RESULT_QUEUE_URL"]))
        objects = s3.list_objects_v2(Bucket=environment["S3_PAYLOAD_BUCKET"])["KeyCount"]
        again.send_signal(signal.SIGINT)
        assert again.wait(STOP_S) == 0
    assert stored == [("COMPLETED", 1)]
    assert letters == []
    assert objects == 0


def test_the_demo_is_as_it_should_be(tmp_path: Path) -> None:
    demo = run("demo", cwd=tmp_path)

    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "✗" not in demo.stdout
    assert max(map(len, demo.stdout.splitlines())) <= 80
