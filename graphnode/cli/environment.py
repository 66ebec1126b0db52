"""The settings of a command: the environment, and a file on top of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from graphnode.errors import SettingsError
from graphnode.operations.env_file import ENV_FILE, read_env_file

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

env_file_option = click.option(
    "--env-file",
    envvar=ENV_FILE,
    show_envvar=True,
    type=FILE,
    help="A file of NAME=value lines, such as the one that `graphnode dev` writes.",
)


@contextmanager
def open_database(environment: Mapping[str, str]) -> Iterator[None]:
    """Open the database of DATABASE_URL for the block. Raises SettingsError if it is missing or wrong."""
    from graphnode.settings import DatabaseSettings, examine_settings
    from graphnode.storage.database import close_database, open_database

    values, faults = examine_settings(environment, DatabaseSettings)
    if faults:
        raise SettingsError(faults[0])
    open_database(values["database_url"])
    try:
        yield
    finally:
        close_database()


def environment_of(env_file: Path | None) -> dict[str, str]:
    """This process's environment, with an environment file's values on top."""
    return {**os.environ, **(read_env_file(env_file) if env_file else {})}


def file_hint(error: str) -> str:
    """A line on --env-file for an error that says that a setting is missing. Empty if a file was named."""
    if "is missing" not in error or os.environ.get(ENV_FILE) or any(word.startswith("--env-file") for word in sys.argv):
        return ""
    return f"Settings can also come from a file: --env-file FILE, or {ENV_FILE}. `make dev` writes .graphnode.env."
