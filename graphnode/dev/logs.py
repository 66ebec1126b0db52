"""The log of a child process, read while it is written."""

from __future__ import annotations

import codecs
from pathlib import Path


class Log:
    """A log file that a child process appends to. It stays readable when the file is gone, as a temporary one soon is.

    Parameters:
      path: made, or emptied.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("w+b", buffering=0)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def gained(self) -> str:
        """What was written since the last call."""
        return self._decoder.decode(self._file.read())

    def text(self) -> str:
        """All of it. Does not touch what `gained` will give."""
        position = self._file.tell()
        self._file.seek(0)
        try:
            return self._file.read().decode(errors="replace")
        finally:
            self._file.seek(position)

    def tail(self, lines: int = 40) -> str:
        """Its last lines."""
        return "\n".join(self.text().splitlines()[-lines:])
