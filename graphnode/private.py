"""Directories and files that no other user of the machine can change, or read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

#: The mode of a directory that is its owner's alone.
OURS = 0o700

#: In a directory with one of these rights, others may have put something.
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def private_directory(path: Path) -> Path:
    """The directory, which is this user's alone. It is made if it is missing.

    A temporary directory is everybody's: what is found there under a predictable name may be another user's directory,
    or a link of theirs.

    Raises OSError, as `check_private` does.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    check_private(path)
    return path


def check_private(path: Path) -> None:
    """Check that a directory is this user's alone, and that nobody else has put anything into it.

    Others lose the right to read it, and to write into it if it is empty.

    Raises OSError, also if it is a link, another user's, or has something in it and others may write into it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to user {found.st_uid}: remove it")
        if (mode := stat.S_IMODE(found.st_mode)) != OURS:
            os.fchmod(descriptor, OURS)
            if mode & OTHERS_WRITE and any(path.iterdir()):
                # It stays as it is, to be refused again.
                os.fchmod(descriptor, mode)
                raise PermissionError(f"{path} can be written by other users: remove it")
    finally:
        os.close(descriptor)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only this user may read, also if it exists already. A device keeps its rights.

    Raises OSError.
    """
    with open(path, "wb", opener=_private) as file:
        file.write(content)


def _private(path: str, flags: int) -> int:
    descriptor = os.open(path, flags, 0o600)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, 0o600)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
