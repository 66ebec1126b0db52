"""docs/add-a-task-type.md is followed to the letter, in a copy of the repository, and such a message is sent."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from graphnode.dev.localstack import LocalStack
from mutants.run import LEFT_OUT
from tests.e2e.ai_server import AiServer
from tests.e2e.conftest import StartWorker

PROJECT = Path(__file__).parents[2]

DOCUMENT = PROJECT / "docs" / "add-a-task-type.md"

#: What the document and the design promise.
FEWER_LINES_THAN = 40

#: A sentence that ends with a colon, and the block that follows it.
STEP = re.compile(
    r"^(?P<how>New file|In|At the end of) `(?P<path>[^`]+)`"
    r"(?:, (?P<side>above|below) the line that begins with (?P<ticks>`+)(?P<anchor>.+?)(?P=ticks))?"
    r"(?P<apart>, two blank lines apart)?:\n\n```\w+\n(?P<block>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)

#: The document's own test, and those that ask something of each type.
ASKING = (
    "tests/e2e/test_results.py::test_a_user_is_told_when_the_search_is_ready",
    "tests/unit/test_declarations.py",
    "tests/unit/test_envelopes.py::test_every_field_of_every_type_is_read_in_either_spelling",
    "tests/unit/test_envelopes.py::test_every_type_of_the_routing_table_reaches_its_actor",
    "tests/unit/test_dev_ai_server.py",
    "tests/unit/test_notification_rules.py",
    "tests/unit/test_request_payloads.py",
    "tests/unit/test_timeouts.py",
    "tests/unit/test_contract_document.py::test_the_document_has_each_type",
    "tests/contract/test_schemas.py::test_the_files_are_up_to_date",
    "tests/contract/test_schemas.py::test_there_is_an_example_of_everything",
)


class Step(NamedTuple):
    """A block of the document, and where it says that it belongs.

    Parameters:
      side: of the anchor; None: at the end of a file, or the whole of a new one.
      apart: whether two blank lines are between the block and what was there.
    """

    path: str
    side: str | None
    anchor: str
    apart: bool
    block: str

    def apply(self, root: Path) -> None:
        """Change the file, below this directory."""
        file = root / self.path
        if self.side is None:
            before = file.read_text(encoding="utf-8") + "\n\n" if file.exists() else ""
            file.write_text(before + self.block, encoding="utf-8")
            return
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
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


#: Runs Python in the copy; fails with what it says unless it succeeds.
Run = Callable[..., None]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository to which the document was applied."""
    root = tmp_path_factory.mktemp("copy") / "project"
    shutil.copytree(PROJECT, root, ignore=LEFT_OUT)
    for step in steps():
        step.apply(root)
    return root


@pytest.fixture(scope="module")
def run(copy: Path, postgres: str, localstack: LocalStack) -> Run:
    """Runs Python in the copy, on servers that run already."""
    environment = {
        # How much of a copy is covered says nothing.
        **{name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
        "PYTHONPATH": str(copy),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "DATABASE_URL": postgres,
        "GRAPHNODE_LOCALSTACK_PORT": str(localstack.port),
    }

    def python(*arguments: str) -> None:
        ran = subprocess.run(
            [sys.executable, *arguments],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr

    return python


def test_a_task_type_takes_fewer_than_forty_lines_its_test_included() -> None:
    blocks = re.findall(r"^```(?:python|markdown|text)\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)

    assert blocks == [step.block for step in steps()], "a block without a sentence that says where it belongs"
    assert len("".join(blocks).splitlines()) < FEWER_LINES_THAN


def test_the_code_is_as_lint_wants_it(run: Run) -> None:
    changed = sorted({step.path for step in steps() if step.path.endswith(".py")})

    run("-m", "ruff", "check", "--no-cache", *changed)
    run("-m", "ruff", "format", "--check", "--no-cache", *changed)


def test_its_own_test_and_those_of_all_types_pass(run: Run) -> None:
    run("-c", "from graphnode.cli import main; main()", "contract", "export", "contract")
    run("-m", "pytest", "-q", "-p", "no:cacheprovider", *ASKING)


def test_a_worker_with_the_new_type_handles_it_and_refuses_what_is_none(
    copy: Path, ai: AiServer, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy)
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    start_worker()

    ai.send_envelope("SEARCH_INDEX_RESULT", "t-1", {"userId": "ada", "status": "COMPLETED"})
    broken = ai.send_envelope("SEARCH_INDEX_RESULT", "t-2", {"userId": "ada", "status": "DONE"})

    (letter,) = ai.dead_letters(1)
    assert (letter.body, letter.attributes["reason"]) == (broken, "INVALID_ENVELOPE")
    assert letter.attributes["error"].startswith("payload.status: Expected COMPLETED or FAILED; it holds 'DONE'")
    told = ai.wait_until("SELECT type, payload, push_status FROM notifications WHERE push_status <> 'PENDING'")
    assert told == [("SEARCH_INDEX_COMPLETED", {"taskId": "t-1"}, "SKIPPED")]
    assert ai.rows("SELECT task_id, task_type, status FROM tasks") == [("t-1", "SEARCH_INDEX_RESULT", "COMPLETED")]
    ai.wait_until_drained()
    assert len(ai.dead_letters(1)) == 1
