"""Keep this version's wheel: the release that the next one is tried against. `python -m release.keep`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from graphnode import __version__
from release.wheel import PROJECT, Failed, build, check_contents, run, tell

#: Where it is kept, alone.
KEPT = PROJECT / "tests" / "releases"


def main() -> int:
    """Build it from what is committed, and put it in the place of the one before; the exit code."""
    try:
        if changed := run(["git", "status", "--porcelain", "graphnode", "setup.cfg"], cwd=PROJECT):
            raise Failed(f"What is released is committed first:\n{changed}")
        with tempfile.TemporaryDirectory(prefix="graphnode-release-") as made:
            wheel = build(Path(made))
            check_contents(wheel)
            for before in KEPT.glob("*.whl"):
                before.unlink()
            KEPT.mkdir(exist_ok=True)
            shutil.copy(wheel, KEPT / wheel.name)
    except Failed as failure:
        tell(f"FAILED: {failure}")
        return 1
    tell(
        f"{KEPT.relative_to(PROJECT)} has {__version__}. Set the next __version__, and begin its entry in CHANGELOG.md."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
