"""docs/settings.md and `graphnode settings`: each setting explained once, its value told with its source, no secret."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from graphnode.cli import commands
from graphnode.operations.settings_guide import SUBJECTS, fields, markdown
from graphnode.settings import SECRETS, environment_name
from tests.unit.test_settings import COMPLETE

DOCUMENT = Path(__file__).parents[3] / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in fields():
        monkeypatch.delenv(environment_name(field), raising=False)


def show(*arguments: str, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(commands, ["settings", *arguments])


def lines_of(result: Result) -> dict[str, str]:
    """What is told of each variable, by its name."""
    found = (line.split(None, 1) for line in result.stdout.splitlines() if line.startswith("  "))
    return {name: " ".join(told.split()) for name, told in found}


def test_the_document_is_what_the_code_says_now() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == markdown(), (
        "docs/settings.md is not current: graphnode settings --markdown > docs/settings.md"
    )


def test_each_setting_is_explained_once_and_goes_with_others_that_there_are() -> None:
    explained = Counter(field for guides in SUBJECTS.values() for field in guides)

    assert explained == Counter(list(fields()))
    for guides in SUBJECTS.values():
        for field, guide in guides.items():
            assert set(guide.related) <= fields().keys() - {field}


def test_each_value_is_told_with_where_it_comes_from_and_the_file_counts_first(tmp_path: Path) -> None:
    file = tmp_path / "worker.env"
    file.write_text("AWS_REGION=us-east-1\nGRAPHNODE_MAX_ATTEMPTS=3\nAWS_ENDPOINT_URL=\n")

    result = show("--env-file", str(file), **COMPLETE, AWS_ENDPOINT_URL="http://localhost:4566")

    told = lines_of(result)
    assert (result.exit_code, result.stderr) == (0, "")
    assert told["AWS_REGION"] == "file us-east-1"
    assert told["GRAPHNODE_MAX_ATTEMPTS"] == "file 3"
    assert told["AWS_ENDPOINT_URL"] == "not set"
    assert told["S3_PAYLOAD_BUCKET"] == "environment graphnode-payloads"
    assert told["GRAPHNODE_POLL_WAIT"] == "default 20"
    assert len(told) == len(fields())


def test_no_secret_is_shown_nor_a_password_in_a_url() -> None:
    secrets = dict.fromkeys(SECRETS, "hunter2")
    result = show(**{**COMPLETE, **secrets, "AWS_ENDPOINT_URL": "https://me:hunter2@proxy"})

    assert "hunter2" not in result.output
    assert lines_of(result)["DATABASE_URL"] == "environment not shown"
    assert lines_of(result)["AWS_ENDPOINT_URL"] == "environment https://…@proxy"


def test_what_is_missing_wrong_or_unknown_is_told_with_exit_code_1() -> None:
    incomplete = {name: value for name, value in COMPLETE.items() if name != "AWS_REGION"}

    result = show(**incomplete, GRAPHNODE_POLL_WAIT="21", GRAPHNODE_POL_WAIT="1")

    assert result.exit_code == 1
    assert lines_of(result)["AWS_REGION"] == "missing"
    assert [fault.split()[0] for fault in result.stderr.splitlines()] == [
        "AWS_REGION",
        "GRAPHNODE_POLL_WAIT",
        "GRAPHNODE_POL_WAIT",
    ]
