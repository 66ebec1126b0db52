"""What the release's checks share: the error that ends them, and what they print."""

from __future__ import annotations

import time


class Failed(Exception):
    """A check of the release failed."""


def last_line(text: str) -> str:
    """The last line of a command's output."""
    return text.strip().splitlines()[-1]


def tell(line: str, *, began: float | None = None) -> None:
    """Print a line at once; with the seconds since `began`, if that is given."""
    print(line if began is None else f"{line}  ({time.monotonic() - began:.1f} s)", flush=True)  # noqa: T201
