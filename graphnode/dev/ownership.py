"""Files of a running development stack: its environment file, and with --keep the directory of its database.

Each is locked by its stack. The kernel releases a lock when the process ends, however it ends: so a file that is there
without a lock was left behind, and the next stack replaces it.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from graphnode.errors import GraphNodeError, SettingsError
from graphnode.operations.env_file import env_text

#: Where --keep has the database, below the directory that the stack is started in.
DIRECTORY = Path(".graphnode")

#: The first line of an environment file of a stack, before its process ID.
HEADER = "# Written by graphnode dev, which removes it at its end: process "


class NotOurs(GraphNodeError):
    """The file or directory belongs to another running stack, or no stack wrote it."""

    reason = "NOT_OURS"


@contextmanager
def owned_directory(directory: Path = DIRECTORY) -> Iterator[Path]:
    """The directory, made if need be, for one stack at a time. Raises NotOurs."""
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("a+") as lock:
        try:
            _lock(lock)
        except BlockingIOError:
            lock.seek(0)
            raise NotOurs(
                f"Another `graphnode dev --keep` (process {lock.read().strip()}) uses {directory.resolve()}: "
                "stop it, or start this one in another directory, or without --keep."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield directory


def remove_left_behind(path: Path) -> None:
    """Remove the environment file of a stack that was killed. Raises NotOurs for another file."""
    with suppress(FileNotFoundError), path.open() as file:
        try:
            _lock(file)
        except BlockingIOError:
            raise _belongs_to_another(path) from None
        if not file.readline().startswith(HEADER):
            raise NotOurs(f"{path} was not written by `graphnode dev`: delete it, or name another file by --env-file.")
        _unlink_if_same(file, path)


@contextmanager
def owned_env_file(path: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Have the environment file there during the block, as a whole and for its owner's eyes only.

    Raises NotOurs if there is one by now, SettingsError for a value of several lines, or if the file cannot be made.
    """
    text = f"{HEADER}{os.getpid()}\n{env_text(environment)}"
    # mkstemp makes a file that only its owner can read. A link, unlike a renaming, replaces no other stack's file.
    try:
        descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _unwritable(path, error) from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        try:
            _lock(file)
            file.write(text)
            file.flush()
            os.link(part, path)
        except FileExistsError:
            raise _belongs_to_another(path) from None
        except OSError as error:
            raise _unwritable(path, error) from None
        finally:
            Path(part).unlink()
        try:
            yield
        finally:
            _unlink_if_same(file, path)


def _lock(file: TextIO) -> None:
    """Lock a file until it is closed. Raises BlockingIOError."""
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _unlink_if_same(file: TextIO, path: Path) -> None:
    """Remove the file, unless another one has its path by now."""
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            path.unlink()


def _belongs_to_another(path: Path) -> NotOurs:
    process = ""
    with suppress(OSError), path.open() as file:
        process = file.readline().removeprefix(HEADER).strip()
    return NotOurs(
        f"{path} belongs to another running stack (process {process}): stop it, or name another file by --env-file."
    )


def _unwritable(path: Path, error: OSError) -> SettingsError:
    return SettingsError(f"{path} cannot be made ({error.strerror}): name a file in another directory by --env-file.")
