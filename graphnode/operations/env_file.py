"""Environment files: one `NAME=value` a line. A value is taken as it is, as docker does: with its quotes and spaces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from graphnode.errors import SettingsError

#: The variable that names a file for all commands, in place of --env-file.
ENV_FILE = "GRAPHNODE_ENV_FILE"


def env_text(environment: Mapping[str, str]) -> str:
    """The text of an environment file. Raises SettingsError for a value of several lines."""
    for name, value in environment.items():
        if "\n" in value or "\r" in value:
            raise SettingsError(f"{name} has several lines, which an environment file cannot hold.")
    return "".join(f"{name}={value}\n" for name, value in environment.items())


def read_env_file(path: Path) -> dict[str, str]:
    """The names and values of an environment file, without empty lines and lines that start with `#`.

    Raises SettingsError if it cannot be read, or a line has another form.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The environment file {path} cannot be read: {error}") from None
    environment = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.isidentifier():
            raise SettingsError(f"{path}, line {number}: expected NAME=value.")
        environment[name] = value
    return environment
