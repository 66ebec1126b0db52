"""While SQS refuses dead letters, or the deletion of their messages, each letter is sent and told once."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from graphnode.dev import outcomes
from graphnode.dev.child_processes import Worker
from tests.e2e.ai_server import PATIENCE_S, AiServer, found
from tests.e2e.conftest import StartWorker

#: A message whose document is missing fails twice; then it has a letter.
SETTINGS = {
    "GRAPHNODE_LOG_FORMAT": "json",
    "GRAPHNODE_MAX_ATTEMPTS": "2",
    "GRAPHNODE_SWEEP_INTERVAL": "0.5",
    "GRAPHNODE_VISIBILITY_TIMEOUT": "2",
}


@pytest.fixture
def refused(tmp_path: Path) -> Path:
    """Names the operations that SQS refuses."""
    file = tmp_path / "refused"
    file.write_text("")
    return file


@pytest.fixture
def start(start_worker: StartWorker, refused: Path) -> Callable[..., Worker]:
    """Starts workers to which SQS refuses operations."""

    def start(**settings: str) -> Worker:
        return start_worker(
            actors="tests.e2e.refused_actors", REFUSED_OPERATIONS=str(refused), **{**SETTINGS, **settings}
        )

    return start


def send_hopeless(ai: AiServer) -> None:
    """Send two results that become dead letters: one cannot be decoded, the other's document is missing."""
    ai.send_body("no envelope")
    payload = {"userId": "ada", "status": "COMPLETED", "resultS3Key": "missing.json"}
    ai.send_envelope("GRAPH_GENERATION_RESULT", "hopeless", payload)


def events(*workers: Worker) -> list[str]:
    """The log's events of these workers."""
    lines = [line for worker in workers for line in worker.log.text().splitlines()]
    # Dramatiq's main process writes lines of another form.
    return [json.loads(line)["event"] for line in lines if line.startswith("{")]


def wait_for(look: Callable[[], bool], what: str) -> None:
    found(outcomes.wait_for(lambda: look() or None, timeout_s=PATIENCE_S), what)


def test_letters_that_sqs_refuses_for_many_rounds_are_told_once_each_when_it_takes_them(
    ai: AiServer, start: Callable[..., Worker], refused: Path, metrics_port: int, tmp_path: Path
) -> None:
    metrics = {"dramatiq_prom_port": str(metrics_port), "dramatiq_prom_db": str(tmp_path / "metrics")}
    worker = start(**metrics)

    def sample(name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{metrics_port}/metrics", timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        samples = [each for family in families for each in family.samples if each.name == name]
        return sum(each.value for each in samples if labels.items() <= each.labels.items())

    ai.wait_for_log(worker, "exporter:serve' is ready")
    refused.write_text("SendMessage")
    send_hopeless(ai)
    # Two letters a round.
    wait_for(lambda: sample("graphnode_dead_letter_errors_total") >= 10, "ten refused letters")

    ((attempts,),) = ai.rows("SELECT max(attempt) FROM task_attempts WHERE task_id = 'hopeless'")
    assert attempts >= 4
    assert ai.rows("SELECT * FROM task_attempts WHERE given_up") == []
    assert sample("graphnode_dead_letters_total") == sample("dramatiq_message_rejects_total") == 0
    assert ai.rows("SELECT dead FROM workers") == [(0,)]
    assert events(worker).count("dead letter not sent: the message stays on its queue") == 1
    assert {"dead letter", "dead letters are taken again"} & {*events(worker)} == set()

    refused.write_text("")

    letters = {letter.attributes["reason"]: letter for letter in ai.dead_letters(2)}
    ai.wait_until_drained()
    assert int(letters["OBJECT_NOT_FOUND"].attributes["attempt"]) > attempts
    assert letters["INVALID_ENVELOPE"].body == "no envelope"
    ai.wait_until("SELECT 1 FROM workers WHERE dead = 2")
    assert ai.rows("SELECT task_id, reason FROM task_attempts WHERE given_up ORDER BY task_id") == [
        ("hopeless", "OBJECT_NOT_FOUND"),
        (None, "INVALID_ENVELOPE"),
    ]
    assert {sample("graphnode_dead_letters_total", reason=reason) for reason in letters} == {1}
    assert sample("dramatiq_message_rejects_total") == 2
    assert events(worker).count("dead letter") == 2
    assert events(worker).count("dead letter not sent: the message stays on its queue") == 1
    assert events(worker).count("dead letters are taken again") == 1
    assert len(ai.dead_letters(2)) == 2


def test_a_message_that_sqs_does_not_delete_has_one_letter_whichever_process_receives_it(
    ai: AiServer, start: Callable[..., Worker], refused: Path
) -> None:
    refused.write_text("DeleteMessageBatch")
    workers = [start()]
    send_hopeless(ai)

    def is_only_deleted(worker: Worker) -> bool:
        """Whether the messages were delivered to a worker several times after their letters."""
        undeleted = "message not deleted: it may be delivered again, and will change nothing"
        skipped = "only deleted: its dead letter was sent at an earlier delivery"
        return events(worker).count(undeleted) >= 6 and events(worker).count(skipped) >= 2

    wait_for(lambda: is_only_deleted(workers[0]), "many deliveries to the process that sent the letters")
    workers.append(start())
    # LocalStack may give all messages to one of two processes.
    workers[0].stop()
    wait_for(lambda: is_only_deleted(workers[1]), "many deliveries to another one")

    letters = ai.dead_letters(2)
    assert sorted(letter.attributes["reason"] for letter in letters) == ["INVALID_ENVELOPE", "OBJECT_NOT_FOUND"]
    assert events(*workers).count("dead letter") == 2
    ((attempts,),) = ai.rows("SELECT count(*) FROM task_attempts WHERE task_id = 'hopeless' AND NOT given_up")
    assert attempts == 2

    refused.write_text("")

    ai.wait_until_drained()
    assert len(ai.dead_letters(2)) == 2
    assert ai.rows("SELECT count(*) FROM task_attempts WHERE given_up") == [(2,)]
