"""Each command of `graphnode` that a document shows is run, in a stack with a user's data and a dead letter.

tests/docs/test_commands.py checks the other commands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphnode.dev import outcomes
from graphnode.operations.dead_letters import reader
from graphnode.operations.env_file import env_text
from tests.docs.pages import PROJECT, RUN, Command, document, paths
from tests.e2e.ai_server import AiServer
from tests.e2e.terminal import Terminal, health_of

#: Documents whose commands need other situations: test_runbook.py and test_add_a_task_type.py run them.
OWN = ("runbook.md", "add-a-task-type.md")

#: The commands of each document, in their order.
TYPED = {
    str(path.relative_to(PROJECT)): commands
    for path in paths()
    if path.name not in OWN
    and (commands := [one for one in document(path).commands if one.typed and RUN.match(" ".join(one.words))])
}

#: The values of `--env-file`.
ENVIRONMENT_FILES = {
    one.words[one.words.index("--env-file") + 1]
    for typed in TYPED.values()
    for one in typed
    if "--env-file" in one.words
}

#: The users that documents name.
USERS = ("ada", "demo-user")

#: The exit codes of commands that warn: the stack has no Firebase credentials.
WARNS = {"doctor": 1}

#: Ends all open tasks. Nobody plays the AI server here, and the next request must not be a second one.
GIVE_UP = "UPDATE tasks SET status = 'FAILED', finished_at = now() WHERE finished_at IS NULL"

#: Commands whose output the document must show: word by word, word by word with other numbers and queue names, or only
#: with the same labels.
VERBATIM = ("--help",)
COUNTING = [("dlq", name) for name in ("redrive", "export", "import")]
LABELLED = ("doctor", "settings", "status")
LABEL = re.compile(r"^(?:[✓!✗-] )?([A-Za-z][\w -]*?)(?:  |$)", re.MULTILINE)


@pytest.fixture
def place(tmp_path: Path, shared_ai: AiServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with the files that commands read, and with the stack's environment."""
    (tmp_path / "chats").mkdir()
    (tmp_path / "chats" / "a.md").write_text("Rye bread wants a sourdough.")
    (tmp_path / "docs").mkdir()
    (tmp_path / "graphnode").symlink_to(PROJECT / "graphnode")
    for name, value in shared_ai.environment.items():
        monkeypatch.setenv(name, value)
    for name in ENVIRONMENT_FILES:
        (tmp_path / name).write_text(env_text(shared_ai.environment))
    monkeypatch.chdir(tmp_path)
    # LocalStack is one server: a short poll finds every message.
    monkeypatch.setattr(reader, "WAIT_S", 0)
    with health_of(tmp_path, monkeypatch):
        yield tmp_path
    shared_ai.sqs.purge_queue(QueueUrl=shared_ai.environment["SQS_REQUEST_QUEUE_URL"])


@pytest.fixture
def words(shared_ai: AiServer) -> dict[str, str]:
    """The values for the words in capitals. The users have a graph."""
    for user in USERS:
        stored = shared_ai.ended(shared_ai.send(shared_ai.result("graph", user_id=user)))
        assert stored.status == "COMPLETED"
    ((done,),) = shared_ai.rows("SELECT task_id FROM tasks WHERE user_id = 'ada'")
    return {"ID": done, "TASK": done, "USER": "ada", "U": "ada", "FILE": "chats/a.md"}


def put_letter(ai: AiServer) -> str:
    """The task ID of a dead letter: of one that is there already, or of a new one."""
    found = outcomes.dead_letters(ai.sqs, ai.dead_letter_queue)
    if found:
        return found[0].attributes["task_id"]
    letter = ai.result("graph")
    ai.put_documents(letter)
    ai.put_letter(letter, reason="OBJECT_NOT_FOUND", error="s3://b/k does not exist (yet)")
    return letter.task_id


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(monkeypatch, capsys)


def filled(command: Command, words: dict[str, str]) -> list[str]:
    """The words of a command, with values for those in capitals and for the task ID of the document's example."""
    return [words.get(word, re.sub(r"^task_\w+$", words["ID"], word)) for word in command.words]


def alike(lines: tuple[str, ...]) -> str:
    """A pattern for a document's lines with other numbers and other queue names."""
    shown = re.escape("\n".join(line for line in lines if line))
    return re.sub(r"\d+", r"\\d+", shown).replace("graphnode\\-", r"\S+-")


@pytest.mark.parametrize("name", TYPED)
def test_each_command_that_a_document_shows_works(
    name: str, shared_ai: AiServer, place: Path, words: dict[str, str], terminal: Terminal
) -> None:
    for command in TYPED[name]:
        # An import brings back the exported letter itself. A status without letters says less.
        is_of_letters = command.words[1] == "status" or (command.words[1] == "dlq" and command.words[2] != "import")
        letter = {"ID": put_letter(shared_ai)} if is_of_letters else {}
        code, output = terminal.run(filled(command, {**words, **letter}))
        shared_ai.execute(GIVE_UP)

        assert code in (0, WARNS.get(command.words[1], 0)), f"{command}\n{output}"
        if command.words[-1] in VERBATIM:
            # Its first line names the program, which is pytest here.
            assert list(command.says[1:]) == output.splitlines()[1:]
        if command.words[1:3] in COUNTING:
            assert re.search(alike(command.says), output), f"{command}\n{output}"
        if command.words[1] in LABELLED:
            assert set(LABEL.findall("\n".join(command.says))) <= set(LABEL.findall(output)), f"{command}\n{output}"
