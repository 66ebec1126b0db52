"""docs/add-a-task-type.md is applied to a copy of the repository, word by word; a worker then handles the new type."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from graphnode.dev.localstack import LocalStack
from graphnode.operations.env_file import env_text
from tests.e2e.ai_server import AiServer
from tests.e2e.conftest import StartWorker
from tests.mutants.run import LEFT_OUT

PROJECT = Path(__file__).parents[2]

DOCUMENT = PROJECT / "docs" / "add-a-task-type.md"

#: The document promises that a task type takes fewer lines than this.
FEWER_LINES_THAN = 40

#: A sentence that says where a block belongs, and the block.
STEP = re.compile(
    r"^(?P<how>New file|In|At the end of) `(?P<path>[^`]+)`"
    r"(?:, (?P<side>above|below) the line that begins with (?P<ticks>`+)(?P<anchor>.+?)(?P=ticks))?"
    r"(?P<apart>, two blank lines apart)?:\n\n```\w+\n(?P<block>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)

#: The document's own test, and the tests that check each type.
TYPE_CHECKS = (
    "tests/e2e/test_results.py::test_a_user_is_told_when_the_search_is_ready",
    "tests/unit/worker/test_route_checks.py",
    "tests/unit/contract/test_envelopes.py::test_every_field_of_every_type_is_read_in_either_spelling",
    "tests/unit/contract/test_envelopes.py::test_every_type_of_the_routing_table_reaches_its_actor",
    "tests/unit/dev/test_samples.py",
    "tests/unit/rules/test_push_texts.py",
    "tests/unit/contract/test_requests.py",
    "tests/unit/contract/test_timeouts.py",
    "tests/docs/test_contract.py::test_the_document_has_each_type",
    "tests/contract/test_schemas.py::test_the_files_are_up_to_date",
    "tests/contract/test_schemas.py::test_there_is_an_example_of_everything",
)


#: The command `graphnode` of the copy. The environment's own one is that of the checkout.
GRAPHNODE = ("-c", "from graphnode.cli import main; main()")

#: Prints the worker's message about a forgotten second step.
WITHOUT_ROUTE = """
from graphnode import actors
from graphnode.contract import envelopes
from graphnode.errors import DeclarationError
from graphnode.worker import route_checks

del envelopes.ROUTES["SEARCH_INDEX_RESULT"]
try:
    route_checks.check(actors.broker.actors, refused=actors.refused)
except DeclarationError as error:
    print(error)
"""


class Step(NamedTuple):
    """A block of the document, and its place in the code.

    Parameters:
      side: above or below the line that begins with the anchor. None: at the end of a file, or a whole new file.
      apart: whether two blank lines separate the block from the code beside it.
    """

    path: str
    side: str | None
    anchor: str
    apart: bool
    block: str

    def apply(self, root: Path) -> None:
        """Change the file below this directory, unless the block is there already."""
        file = root / self.path
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        if self.block in before:
            return
        if self.side is None:
            file.write_text(f"{before}\n\n{self.block}" if self.apart else self.block, encoding="utf-8")
            return
        lines = before.splitlines(keepends=True)
        (at,) = [number for number, line in enumerate(lines) if line.lstrip().startswith(self.anchor)]
        lines.insert(
            at if self.side == "above" else at + 1,
            f"{self.block}\n\n" if self.apart else self.block,
        )
        file.write_text("".join(lines), encoding="utf-8")


def steps() -> list[Step]:
    """The document's steps, in their order."""
    return [
        Step(found["path"], found["side"], found["anchor"] or "", bool(found["apart"]), found["block"])
        for found in STEP.finditer(DOCUMENT.read_text(encoding="utf-8"))
    ]


class Shown(NamedTuple):
    """A command of `graphnode` in the document, and the output that it shows.

    Parameters:
      words: the arguments.
      says: the output, with ULID for each ID.
    """

    words: list[str]
    says: str


def shown(command: str) -> list[Shown]:
    """The document's uses of a command, in their order."""
    pattern = rf"^\$ \.venv/bin/graphnode ({command}\b.*)\n((?:(?!\$ |```).*\n)*)"
    typed = re.findall(pattern, DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    return [Shown(shlex.split(words, comments=True), without_ids(says)) for words, says in typed]


def without_ids(text: str) -> str:
    """The text with the word ULID for each ULID."""
    return re.sub(r"\b[0-9A-HJKMNP-TV-Z]{26}\b|(?<=_)[0-9A-HJKMNP-TV-Z]{26}", "ULID", text)


#: Runs Python in the copy, and returns its output. Fails unless it ends with the given exit code.
Run = Callable[..., str]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with the document's changes."""
    root = tmp_path_factory.mktemp("copy") / "project"
    shutil.copytree(PROJECT, root, ignore=LEFT_OUT)
    for step in steps():
        step.apply(root)
    return root


@pytest.fixture(scope="module")
def run(copy: Path, postgres: str, localstack: LocalStack) -> Run:
    """Runs Python in the copy, on the tests' own servers."""
    environment = {
        # The coverage of a copy is of no use.
        **{name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
        "PYTHONPATH": str(copy),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "DATABASE_URL": postgres,
        "LOCALSTACK_PORT": str(localstack.port),
    }

    def python(*arguments: str, code: int = 0) -> str:
        ran = subprocess.run(
            [sys.executable, *arguments], cwd=copy, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran.stdout

    return python


def test_a_task_type_takes_fewer_than_forty_lines_its_test_included() -> None:
    blocks = re.findall(r"^```(?:python|markdown|text)\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)

    assert blocks == [step.block for step in steps()], "a block without a sentence that says where it belongs"
    assert len("".join(blocks).splitlines()) < FEWER_LINES_THAN


def test_the_code_passes_the_linters(run: Run) -> None:
    changed = sorted({step.path for step in steps() if step.path.endswith(".py")})

    run("-m", "ruff", "check", "--no-cache", *changed)
    run("-m", "ruff", "format", "--check", "--no-cache", *changed)


def test_its_own_test_and_those_of_all_types_pass(copy: Path, run: Run) -> None:
    (export,) = shown("contract")
    for path in re.findall("^changed (.*)$", export.says, re.MULTILINE):
        (copy / "contract" / path).unlink(missing_ok=True)

    assert run(*GRAPHNODE, *export.words) == export.says
    run("-m", "pytest", "-q", "-p", "no:cacheprovider", *TYPE_CHECKS)


def test_a_missing_step_is_reported_in_the_documents_words(run: Run) -> None:
    (refusal,) = shown("worker")

    said = run("-c", WITHOUT_ROUTE)

    assert refusal.says == f"the worker does not start: {said}"


def test_a_worker_with_the_new_type_handles_its_results_and_refuses_an_invalid_one(
    copy: Path, run: Run, ai: AiServer, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy)
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    start_worker()
    (copy / ".graphnode.env").write_text(env_text(ai.environment))

    for delivery in shown("deliver"):
        said = run(*GRAPHNODE, *delivery.words, code="DEAD LETTER" in delivery.says)
        assert without_ids(said) == delivery.says

    (letter,) = ai.dead_letters(1)
    assert letter.attributes["reason"] == "INVALID_ENVELOPE"
    assert letter.attributes["error"] == "payload.userId: required, but not given"
    ended = ai.rows("SELECT task_type, status, count(*) FROM tasks GROUP BY 1, 2 ORDER BY 2")
    assert ended == [("SEARCH_INDEX_RESULT", "COMPLETED", 1), ("SEARCH_INDEX_RESULT", "FAILED", 1)]
    assert ai.rows("SELECT user_id, type FROM notifications") == [("ada", "SEARCH_INDEX_COMPLETED")]
    ai.wait_until("SELECT 1 FROM notifications WHERE push_error = 'no Firebase credentials'")
    ai.wait_until_drained()
    assert len(ai.dead_letters(1)) == 1
