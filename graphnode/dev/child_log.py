"""The log of a child process, which can be read while it is written."""

from __future__ import annotations

import codecs
from pathlib import Path


class Log:
    """A log file that a child process appends to. It can still be read after the file was deleted.

    Parameters:
      path: the file, which is created or emptied.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("w+b", buffering=0)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def new_text(self) -> str:
        """The text that was written since the last call."""
        return self._decoder.decode(self._file.read())

    def text(self) -> str:
        """The whole text. It does not change what `new_text` returns next."""
        position = self._file.tell()
        self._file.seek(0)
        try:
            return self._file.read().decode(errors="replace")
        finally:
            self._file.seek(position)

    def tail(self, lines: int = 40) -> str:
        """Its last lines."""
        return "\n".join(self.text().splitlines()[-lines:])
