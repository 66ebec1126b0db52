"""CHANGELOG.md has an entry for this version, and each entry says what operators must do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from graphnode import __version__
from graphnode.storage import schema
from tests import previous_release

TEXT = (Path(__file__).parents[2] / "CHANGELOG.md").read_text()

#: Each entry by its version, the newest first. https://keepachangelog.com/en/1.1.0/
ENTRIES = dict(re.findall(r"^## \[(\d+\.\d+\.\d+)\] - .+\n((?:(?!## ).*\n)*)", TEXT, re.MULTILINE))


def test_the_newest_entry_is_this_version() -> None:
    assert next(iter(ENTRIES)) == __version__, "begin the entry of this version in CHANGELOG.md"


def test_the_kept_wheel_is_the_previous_release() -> None:
    assert [*ENTRIES][1] == previous_release.VERSION, (
        f"CHANGELOG.md has {[*ENTRIES][1]} before {__version__}, and tests/releases has {previous_release.VERSION}: "
        "`make keep-release` keeps the wheel of a version when it is released (docs/release.md)"
    )


@pytest.mark.parametrize("version", ENTRIES)
def test_an_entry_says_what_operators_must_do(version: str) -> None:
    assert re.search(r"^\*\*Operators:\*\* \S", ENTRIES[version], re.MULTILINE)


def test_the_newest_entry_names_its_new_migrations() -> None:
    new = {path.stem for path in schema.MIGRATIONS.glob("[0-9]*.py")} - previous_release.migrations().keys()

    assert new == set(re.findall(r"`(\d{4}_\w+)`", ENTRIES[__version__]))
