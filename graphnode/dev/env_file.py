"""Environment files: one `NAME=value` a line, as `env`, docker and systemd read them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from graphnode.errors import SettingsError


def write_env_file(path: Path, environment: Mapping[str, str]) -> None:
    """Write a file that is there as a whole or not at all, for its owner's eyes.

    Raises SettingsError for a value of several lines, which such a file cannot hold.
    """
    text = env_text(environment)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as directory:
        written = Path(directory) / path.name
        written.touch(mode=0o600)
        written.write_text(text, encoding="utf-8")
        written.replace(path)


def env_text(environment: Mapping[str, str]) -> str:
    """The text of an environment file. Raises SettingsError for a value of several lines."""
    for name, value in environment.items():
        if "\n" in value or "\r" in value:
            raise SettingsError(f"{name} has several lines, which an environment file cannot hold.")
    return "".join(f"{name}={value}\n" for name, value in environment.items())


def read_env_file(path: Path) -> dict[str, str]:
    """The names and values of an environment file. Empty lines and lines that start with `#` are no part of it.

    Raises SettingsError when it cannot be read, or a line is no `NAME=value`.
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
