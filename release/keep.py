"""Keep this version's wheel, from which the tests of the next version upgrade. `python -m release.keep`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from graphnode import __version__
from release.output import Failed, tell
from release.wheel import PROJECT, build, check_contents, run

#: The directory of the one kept wheel.
KEPT = PROJECT / "tests" / "releases"


def main() -> int:
    """Build the wheel from the committed files, and replace the kept one; the exit code."""
    try:
        if changed := run(["git", "status", "--porcelain", "graphnode", "setup.cfg"], cwd=PROJECT):
            raise Failed(f"Commit these changes first:\n{changed}")
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
    tell(f"{KEPT.relative_to(PROJECT)} has {__version__}. Set the next __version__, and add its entry to CHANGELOG.md.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
