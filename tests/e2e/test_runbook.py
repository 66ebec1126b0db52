"""Every command of docs/runbook.md is run in its chapter's situation, and prints what the runbook shows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from benchmarks import fcm_stub
from benchmarks.fcm_stub import FcmServer
from graphnode.dev import outcomes
from graphnode.dev.samples import Result
from graphnode.operations.dead_letters import reader
from graphnode.operations.dead_letters.advice import ADVICE
from tests.docs.runbook import Chapter, Command, chapters
from tests.e2e.ai_server import AiServer
from tests.e2e.terminal import Terminal, health_of

CHAPTERS = chapters()

#: Commands that change nothing. They are repeated until their output is as expected.
READ_ONLY = re.compile(r"graphnode (status|doctor|health|task|dlq (list|show))\b")

#: The longest wait for that output, in seconds.
PATIENCE_S = 30.0

#: The registry's row of a worker process. The parameter is the service whose outage it waits for, or None.
WORKER = """
INSERT INTO workers (id, host, pid, version, threads, interval_s, started_at, seen_at, in_hand, running,
                     outage_service, outage_since, outage_error, outage_advice, handled, retried, dead)
VALUES ('w', 'vm', 12, '1', 4, 30, now(), now(), 0, 0,
        %s, now() - interval '12 minutes', 'refused', 'Allow it.', 0, 0, 0)
"""

NOTIFICATION = """
INSERT INTO notifications (id, user_id, type, payload, event, created_at, push_status, due_at)
VALUES ('n', 'ada', 'GRAPH_GENERATION_COMPLETED', '{}', 'e', now() - interval '2 hours', 'PENDING',
        now() + interval '5 minutes')
"""

ATTEMPT = """
INSERT INTO task_attempts (task_id, task_type, user_id, attempt, reason, error, given_up, stack)
VALUES (%s, %s, 'ada', 8, %s, 'as it says', true, 'graphnode.storage.graphs:271 store_embeddings')
"""

#: The error texts of dead letters whose chapter shows one.
ERRORS = {
    "DOCUMENT_TOO_LARGE": "s3://b/k has 9 bytes; the limit is 8 (GRAPHNODE_MAX_DOCUMENT_BYTES)",
    "REFUSED_BY_DATABASE": "PostgreSQL refuses the embeddings: expected 3 dimensions, not 4",
}


class Scene:
    """The stack on which a chapter's commands are run.

    Parameters:
      chapter: the chapter.
      ai: the AI server and the operator of the stack.
      patch: changes the environment of the commands until the test ends.
      fcm: the stack's FCM.
      directory: an empty directory.
    """

    def __init__(
        self, chapter: Chapter, ai: AiServer, patch: pytest.MonkeyPatch, fcm: FcmServer, directory: Path
    ) -> None:
        self.chapter, self.ai, self.patch, self.fcm, self.directory = chapter, ai, patch, fcm, directory
        for name, value in {**ai.environment, **fcm.environment}.items():
            patch.setenv(name, value)

    def letter(self, reason: str, *, with_documents: bool = True) -> Result:
        """Send a result to the dead-letter queue as a worker does. After a redrive it can be stored."""
        result = self.ai.result("graph")
        if with_documents:
            self.ai.put_documents(result)
        self.ai.put_letter(result, reason=reason, error=ERRORS.get(reason, "it went wrong"))
        return result

    def message_id(self, queue_url: str) -> str:
        """The message ID of the one letter on a dead-letter queue, as soon as it is there."""

        def look() -> str | None:
            found = self.ai.sqs.receive_message(QueueUrl=queue_url, VisibilityTimeout=0).get("Messages")
            return found[0]["MessageId"] if found else None

        message_id = outcomes.wait_for(look, timeout_s=PATIENCE_S)
        assert message_id, "no letter came"
        return message_id


#: Prepares each step of a chapter, and yields the values for the words in capitals in the step's commands.
Situation = Callable[[Scene], Iterator[dict[str, str]]]


def results_late(scene: Scene) -> Iterator[dict[str, str]]:
    scene.ai.execute(WORKER, None)
    scene.ai.send_body("{}")
    yield {}
    yield {}
    scene.ai.sqs.purge_queue(QueueUrl=scene.ai.result_queue)
    yield {}


def results_stuck(scene: Scene) -> Iterator[dict[str, str]]:
    yield {}
    with scene.patch.context() as patch:
        patch.setenv("SQS_RESULT_QUEUE_URL", f"{scene.ai.result_queue}-gone")
        yield {}
    with health_of(scene.directory, scene.patch, stuck=("poller-results-0", 95)):
        yield {}
    scene.ai.execute(WORKER, None)
    yield {}


def outage(scene: Scene) -> Iterator[dict[str, str]]:
    scene.ai.execute(WORKER, "S3")
    yield {}
    with scene.patch.context() as patch:
        # Nothing listens on port 1.
        patch.setenv("DATABASE_URL", "postgresql://me@127.0.0.1:1/db")
        yield {}
    scene.ai.execute("UPDATE workers SET outage_service = NULL, outage_since = NULL")
    yield {}


def notifications_stuck(scene: Scene) -> Iterator[dict[str, str]]:
    scene.ai.execute(NOTIFICATION)
    scene.fcm.token_refusal = (400, {"error": "invalid_grant", "error_description": "no key"})
    yield {}
    scene.fcm.token_refusal = None
    scene.ai.execute("UPDATE notifications SET push_status = 'SENT', due_at = NULL")
    yield {}


def metrics_missing(scene: Scene) -> Iterator[dict[str, str]]:
    scene.ai.execute(WORKER, None)
    with health_of(scene.directory, scene.patch):
        yield {}
        yield {}


def mended(scene: Scene, *, reason: str = "") -> Iterator[dict[str, str]]:
    """The cause is gone when the message is redriven."""
    reason = reason or scene.chapter.title
    result = scene.letter(reason)
    scene.ai.execute(ATTEMPT, result.task_id, result.task_type, reason)
    scene.ai.execute("UPDATE task_attempts SET failed_at = now() - interval '2 hours'")
    for _ in scene.chapter.steps:
        yield {"TASK": result.task_id, "REASON": reason}


def dead_letters(scene: Scene) -> Iterator[dict[str, str]]:
    yield from mended(scene, reason="SERVICE_BUSY")


def invalid_envelope(scene: Scene) -> Iterator[dict[str, str]]:
    scene.ai.send_body("no envelope")
    yield {"MESSAGE": scene.message_id(scene.ai.dead_letter_queue)}
    yield {}


def unknown_task_type(scene: Scene) -> Iterator[dict[str, str]]:
    scene.ai.send_envelope("COFFEE_RESULT", "task_coffee_1", {"userId": "ada"})
    scene.ai.dead_letters(1)
    yield {}
    # The worker that knows the type is deployed.
    scene.ai.sqs.purge_queue(QueueUrl=scene.ai.dead_letter_queue)
    result = scene.letter("UNKNOWN_TASK_TYPE")
    yield {}
    yield {"TASK": result.task_id}


def request_on_result_queue(scene: Scene) -> Iterator[dict[str, str]]:
    scene.ai.send_envelope("ADD_NODE_REQUEST", "task_add_node_ada_1", {"userId": "ada"})
    yield {"TASK": "task_add_node_ada_1"}
    yield {}


def invalid_message(scene: Scene) -> Iterator[dict[str, str]]:
    foreign = Result(task_id="", task_type="", user_id="", documents={}, body="none of ours")
    scene.ai.put_letter(foreign, reason=scene.chapter.title, error="the body is not base64")
    yield {"MESSAGE": scene.message_id(scene.ai.dead_letter_queue)}
    yield {}


def invalid_document(scene: Scene) -> Iterator[dict[str, str]]:
    broken = scene.ai.result("graph", documents={"resultS3Key": b'{"nodes": [{"id": "a word"}]}'})
    whole = scene.ai.result("graph").documents
    scene.ai.send(broken)
    yield {"TASK": broken.task_id}
    (key,) = broken.documents
    (graph,) = (content for name, content in whole.items() if name.endswith("graph.json"))
    scene.ai.s3.put_object(Bucket=scene.ai.bucket, Key=key, Body=graph)
    yield {"TASK": broken.task_id}
    yield {"TASK": broken.task_id}


def wrong_owner(scene: Scene) -> Iterator[dict[str, str]]:
    first = scene.ai.send(scene.ai.result("graph"))
    scene.ai.ended(first)
    scene.ai.send(scene.ai.result("graph", user_id="bob", task_id=first.task_id))
    yield {"TASK": first.task_id}
    yield {}


def object_not_found(scene: Scene) -> Iterator[dict[str, str]]:
    result = scene.letter("OBJECT_NOT_FOUND", with_documents=False)
    yield {"TASK": result.task_id}
    scene.ai.put_documents(result)
    yield {"TASK": result.task_id}
    yield {"TASK": result.task_id}


def unexplained(scene: Scene) -> Iterator[dict[str, str]]:
    result = scene.ai.result("graph")
    scene.ai.put_documents(result)
    scene.ai.sqs.send_message(QueueUrl=scene.ai.dead_letter_queue, MessageBody=result.body)
    yield {"TASK": result.task_id}
    yield {"TASK": result.task_id}


#: The alerts. They need no worker: their state is in the database and the queues.
ALERTS: dict[str, Situation] = {
    "Results late": results_late,
    "Results stuck": results_stuck,
    "Outage": outage,
    "Notifications stuck": notifications_stuck,
    "Metrics missing": metrics_missing,
}

#: The dead letters. A worker handles what is redriven.
LETTERS: dict[str, Situation] = {
    "Dead letters": dead_letters,
    **dict.fromkeys(ADVICE, mended),
    "INVALID_ENVELOPE": invalid_envelope,
    "UNKNOWN_TASK_TYPE": unknown_task_type,
    "REQUEST_ON_RESULT_QUEUE": request_on_result_queue,
    "INVALID_MESSAGE": invalid_message,
    "INVALID_DOCUMENT": invalid_document,
    "WRONG_OWNER": wrong_owner,
    "OBJECT_NOT_FOUND": object_not_found,
    "UNEXPLAINED": unexplained,
}


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Poll only briefly, which is enough for LocalStack's one server. Exported files go into the test's directory."""
    monkeypatch.setattr(reader, "WAIT_S", 0)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def fcm() -> Iterator[FcmServer]:
    """An FCM that accepts the credentials and refuses every device."""
    with FcmServer() as server:
        server.answer = lambda _: fcm_stub.INVALID_TOKEN
        yield server


def pattern_of(says: list[str], words: Mapping[str, str]) -> re.Pattern[str]:
    """A pattern for these lines, joined by spaces: `…` stands for anything, and words in capitals have their values."""
    filled = [re.sub(r"\b[A-Z]+\b", lambda word: words.get(word[0], word[0]), line) for line in says]
    parts = [part for line in filled for part in " ".join(line.split()).split("…")]
    return re.compile(".*?".join(re.escape(part.strip()) for part in parts))


class Typist(Terminal):
    """Runs the runbook's commands."""

    def play(self, chapter: Chapter, scenes: Iterator[dict[str, str]]) -> None:
        """Run all commands of a chapter, step by step."""
        for step in chapter.steps:
            words = next(scenes, None)
            assert words is not None, f"no situation is prepared for: {step[0].line}"
            for command in step:
                self.type(command, words)
        assert next(scenes, None) is None, "a situation is prepared for no command"

    def type(self, command: Command, words: Mapping[str, str]) -> None:
        """Run a command, and check its exit code and output. A read-only one is repeated until they are as expected."""
        arguments = [self.fill(word, words) for word in shlex.split(command.line)]
        wanted = pattern_of(command.says, words)

        def type_it() -> bool | None:
            code, output = self.run(arguments)
            seen.append(f"exit code {code}:\n{output}")
            return (code == command.exit_code and wanted.search(" ".join(output.split())) is not None) or None

        seen: list[str] = []
        done = outcomes.wait_for(type_it, timeout_s=PATIENCE_S if READ_ONLY.match(command.line) else 0)
        assert done, f"{command.line}\n{seen[-1]}\nnot exit code {command.exit_code} with\n{wanted.pattern}"

    @staticmethod
    def fill(word: str, words: Mapping[str, str]) -> str:
        """The value for a word of a command. Fails for an unknown word in capitals that is no reason."""
        if word in words:
            return words[word]
        assert not re.fullmatch(r"[A-Z][A-Z_]+", word) or word in ADVICE, f"no situation says what {word} is"
        return word


@pytest.fixture
def typist(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typist:
    return Typist(monkeypatch, capsys)


def test_there_is_a_situation_for_each_chapter() -> None:
    assert {*ALERTS, *LETTERS} == CHAPTERS.keys()


@pytest.mark.parametrize("title", ALERTS)
def test_the_commands_for_an_alert_show_the_fault_and_then_its_end(
    title: str, ai: AiServer, fcm: FcmServer, monkeypatch: pytest.MonkeyPatch, typist: Typist, tmp_path: Path
) -> None:
    chapter = CHAPTERS[title]
    typist.play(chapter, ALERTS[title](Scene(chapter, ai, monkeypatch, fcm, tmp_path)))


@pytest.mark.parametrize("title", LETTERS)
def test_the_commands_for_a_dead_letter_explain_it_and_then_remove_it(
    title: str, shared_ai: AiServer, fcm: FcmServer, monkeypatch: pytest.MonkeyPatch, typist: Typist, tmp_path: Path
) -> None:
    chapter = CHAPTERS[title]
    typist.play(chapter, LETTERS[title](Scene(chapter, shared_ai, monkeypatch, fcm, tmp_path)))
