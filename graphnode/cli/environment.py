"""Where a command works: the environment, or a file of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from graphnode.errors import SettingsError

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

env_file_option = click.option(
    "--env-file", type=FILE, help="A file of NAME=value lines, as `graphnode dev --env-file` writes it."
)


@contextmanager
def open_database(environment: Mapping[str, str]) -> Iterator[None]:
    """Have the storage open on the database of DATABASE_URL. Raises SettingsError without one."""
    from graphnode.storage.database import close_database, open_database

    url = environment.get("DATABASE_URL")
    if not url:
        raise SettingsError("DATABASE_URL is missing: set it to postgresql://user:password@host:5432/database.")
    open_database(url, max_connections=1)
    try:
        yield
    finally:
        close_database()


def environment_of(env_file: Path | None) -> dict[str, str]:
    """This process's environment, with an environment file's values on top."""
    if env_file is None:
        return dict(os.environ)
    from graphnode.dev.env_file import read_env_file

    return {**os.environ, **read_env_file(env_file)}
