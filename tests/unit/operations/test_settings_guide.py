"""docs/settings.md and `graphnode settings`: each setting explained, its value shown with its source, no secret."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from graphnode.cli import commands
from graphnode.operations.settings_guide import HEADINGS, guides, markdown
from graphnode.settings import FIELDS, SECRETS, environment_name
from tests.unit.test_settings import COMPLETE

DOCUMENT = Path(__file__).parents[3] / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in FIELDS:
        monkeypatch.delenv(environment_name(field), raising=False)


def show(*arguments: str, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(commands, ["settings", *arguments])


def lines_of(result: Result) -> dict[str, str]:
    """What is shown of each variable, by its name."""
    found = (line.split(None, 1) for line in result.stdout.splitlines() if line.startswith("  "))
    return {name: " ".join(shown.split()) for name, shown in found}


def test_the_document_is_what_the_code_says_now() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == markdown(), (
        "docs/settings.md is not current: graphnode settings --markdown > docs/settings.md"
    )


def test_each_setting_says_what_it_does_and_when_to_set_it_and_names_others_that_there_are() -> None:
    names = {environment_name(field) for field in FIELDS}

    assert list(guides()) == list(FIELDS)
    assert FIELDS.keys() >= HEADINGS.keys()
    for field, guide in guides().items():
        does, setting = guide.split("\n\n")
        assert does
        assert setting
        related = setting.partition("See also ")[2]
        assert set(re.findall(r"`(.*?)`", related)) <= names - {environment_name(field)}


def test_each_value_is_shown_with_its_source_and_the_file_counts_first(tmp_path: Path) -> None:
    file = tmp_path / "worker.env"
    file.write_text("AWS_REGION=us-east-1\nGRAPHNODE_MAX_ATTEMPTS=3\nAWS_ENDPOINT_URL=\n")

    result = show("--env-file", str(file), **COMPLETE, AWS_ENDPOINT_URL="http://localhost:4566")

    shown = lines_of(result)
    assert (result.exit_code, result.stderr) == (0, "")
    assert shown["AWS_REGION"] == "file us-east-1"
    assert shown["GRAPHNODE_MAX_ATTEMPTS"] == "file 3"
    assert shown["AWS_ENDPOINT_URL"] == "not set"
    assert shown["S3_PAYLOAD_BUCKET"] == "environment graphnode-payloads"
    assert shown["GRAPHNODE_POLL_WAIT"] == "default 20"
    assert len(shown) == len(FIELDS)


def test_no_secret_is_shown_nor_a_password_in_a_url() -> None:
    secrets = dict.fromkeys(SECRETS, "hunter2")
    result = show(**{**COMPLETE, **secrets, "AWS_ENDPOINT_URL": "https://me:hunter2@proxy"})

    assert "hunter2" not in result.output
    assert lines_of(result)["DATABASE_URL"] == "environment not shown"
    assert lines_of(result)["AWS_ENDPOINT_URL"] == "environment not shown"


def test_what_is_missing_wrong_or_unknown_is_reported_with_exit_code_1() -> None:
    incomplete = {name: value for name, value in COMPLETE.items() if name != "AWS_REGION"}

    result = show(**incomplete, GRAPHNODE_POLL_WAIT="21", GRAPHNODE_POL_WAIT="1")

    assert result.exit_code == 1
    assert lines_of(result)["AWS_REGION"] == "missing"
    assert [fault.split()[0] for fault in result.stderr.splitlines()] == [
        "AWS_REGION",
        "GRAPHNODE_POLL_WAIT",
        "GRAPHNODE_POL_WAIT",
        "Settings",
    ]
