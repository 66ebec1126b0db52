"""The seeds of failed runs, kept as regression tests."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

SEEDS = Path(__file__).with_name("seeds.txt")


class Kept(NamedTuple):
    """A run to repeat.

    Parameters:
      minutes: its length; None for the short profile.
      why: what it showed.
    """

    seed: int
    minutes: float | None
    why: str


def read_seeds(path: Path = SEEDS) -> list[Kept]:
    """All kept runs."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            seed, minutes, why = line.split(maxsplit=2)
            kept.append(Kept(int(seed), None if minutes == "short" else float(minutes), why))
    return kept


def keep_seed(kept: Kept, path: Path = SEEDS) -> None:
    """Add a run to the file, unless the file has it."""
    if (kept.seed, kept.minutes) not in {(one.seed, one.minutes) for one in read_seeds(path)}:
        minutes = "short" if kept.minutes is None else f"{kept.minutes:g}"
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{kept.seed} {minutes} {kept.why}\n")
