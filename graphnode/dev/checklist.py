"""What the demo prints: sections, notes and checks."""

from __future__ import annotations

import re

from rich.cells import set_cell_size
from rich.console import Console
from rich.text import Text

#: Columns of a line's label.
LABEL_WIDTH = 19

#: The part of a ULID that is not shown, so that an ID fits on a line.
ULID_BEGINNING = re.compile(r"(?<![0-9A-Z])[0-7][0-9A-HJKMNP-TV-Z]{19}(?=[0-9A-HJKMNP-TV-Z]{6}(?![0-9A-Z]))")


class Checklist:
    """Prints what the demo does and finds, and counts passed and failed checks."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.passed = 0
        self.failed = 0

    def heading(self, text: str, *, style: str = "bold") -> None:
        """Start a section."""
        self.console.print()
        self.console.print(Text(text, style=style))

    def note(self, label: str, text: str) -> None:
        """Print something that was done."""
        self._line("→", "cyan", label, text)

    def check(self, label: str, found: object, *, expected: object, shown: str | None = None) -> None:
        """Print something that was found, with ✓ if it equals `expected`, otherwise with ✗.

        Parameters:
          shown: the text to print if it is right; by default, the value.
        """
        if found == expected:
            self.passed += 1
            self._line("✓", "green", label, shown or str(found))
        else:
            self.failed += 1
            self._line("✗", "bold red", label, f"{found} (expected {expected})")

    def verdict(self) -> None:
        """Print the last line."""
        if self.failed:
            self.heading(f"{self.failed} of {self.passed + self.failed} checks failed.", style="bold red")
        else:
            self.heading(f"All {self.passed} checks passed.", style="bold green")

    def _line(self, mark: str, style: str, label: str, text: str) -> None:
        start = Text.assemble("  ", (mark, style), " ", set_cell_size(label, LABEL_WIDTH), " ")
        text = ULID_BEGINNING.sub("…", text)
        lines = Text(text).wrap(self.console, self.console.width - start.cell_len, overflow="fold")
        for number, line in enumerate(lines):
            line.rstrip()
            self.console.print((Text(" " * start.cell_len) if number else start) + line)
