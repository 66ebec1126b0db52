"""Build sdist and wheel, and try the wheel as whoever installs it: in a clean environment, away from the checkout.

`python -m release.wheel [PYTHON…]`: with each of these, or with the one that runs this. `graphnode doctor` looks at the
embedded servers, and `graphnode demo` starts its own; LocalStack alone is the checkout's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from graphnode import __version__
from graphnode.dev.localstack import FILES, find_python
from graphnode.dev.stack import running_stack

PROJECT = Path(__file__).resolve().parents[1]

#: What `graphnode doctor` ends with when there are warnings alone: there are no credentials of Firebase.
WARNINGS = 1


class Failed(Exception):
    """What is built is not what it should be."""


def main(pythons: Sequence[str]) -> int:
    """Build and try; the exit code."""
    with tempfile.TemporaryDirectory(prefix="graphnode-release-", ignore_cleanup_errors=True) as made:
        place = Path(made)
        # PostgreSQL's user has to get in: the environment has its programs.
        place.chmod(0o755)
        try:
            wheel = build(place / "dist")
            check_contents(wheel)
            for number, python in enumerate(pythons or [sys.executable]):
                try_out(wheel, python, place / str(number))
        except Failed as failure:
            tell(f"FAILED: {failure}")
            return 1
    tell(f"graphnode-worker {__version__} can be released.")
    return 0


def build(directory: Path) -> Path:
    """Build the sdist, and the wheel from it; the wheel. Raises Failed."""
    pinned: list[str | Path] = ["--build-constraints", PROJECT / "locks" / "build.txt", "--require-hashes"]
    uv = Path(sys.prefix) / "bin" / "uv"
    run([uv, "build", "--quiet", "--python", sys.executable, *pinned, "--out-dir", directory, PROJECT], cwd=PROJECT)
    files = sorted(path.name for path in directory.iterdir() if path.suffix in (".gz", ".whl"))
    expected = [f"graphnode_worker-{__version__}-py3-none-any.whl", f"graphnode_worker-{__version__}.tar.gz"]
    if files != expected:
        raise Failed(f"There are {files}, and not {expected}.")
    for name in files:
        tell(f"{name}: {(directory / name).stat().st_size / 1e3:.0f} kB")
    return directory / expected[0]


def check_contents(wheel: Path) -> None:
    """See that the wheel has the licence, and each file of the package that git has and no other. Raises Failed."""
    listed = run(["git", "ls-files", "-z", "graphnode"], cwd=PROJECT).split("\0")
    expected = {name for name in listed if name}
    names = zipfile.ZipFile(wheel).namelist()
    found = {name for name in names if name.startswith("graphnode/")}
    if found != expected:
        raise Failed(f"The wheel lacks {sorted(expected - found)}, and has {sorted(found - expected)} too much.")
    if "graphnode/py.typed" not in found:
        raise Failed("The wheel has no py.typed.")
    if f"graphnode_worker-{__version__}.dist-info/licenses/LICENSE" not in names:
        raise Failed("The wheel has no LICENSE.")
    tell(f"It has the {len(found)} files that it should, py.typed among them.")


def try_out(wheel: Path, python: str, place: Path) -> None:
    """Install the wheel in a clean environment, and run `graphnode doctor` and the demo from it. Raises Failed."""
    environment = place / "environment"
    run([python, "-m", "venv", environment], cwd=PROJECT)
    installed = environment / "bin" / "python"
    began = time.monotonic()
    run([installed, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}[dev]"], cwd=place)
    version = run([installed, "--version"], cwd=place).strip()
    tell(f"{version}: installed, with its extra `dev`", began=began)

    # LocalStack's files are in no wheel, and nothing else of the checkout is here.
    shutil.copytree(FILES, place / "localstack")
    program = environment / "bin" / "graphnode"
    clean = {"PATH": f"{program.parent}{os.pathsep}{os.defpath}", "HOME": str(place)}
    shown = run([program, "--version"], cwd=place, variables=clean).strip()
    if shown != f"graphnode, version {__version__}":
        raise Failed(f"graphnode --version says {shown}.")
    where = "import graphnode; print(graphnode.__file__)"
    if not run([installed, "-c", where], cwd=place, variables=clean).startswith(str(environment)):
        raise Failed("What runs is not what was installed.")

    with running_stack() as stack:
        deployment = {name: value for name, value in stack.environment.items() if value}
        began = time.monotonic()
        found = run([program, "doctor"], cwd=place, variables={**clean, **deployment}, fine=(0, WARNINGS))
        tell(f"{version}: graphnode doctor: {last_line(found)}", began=began)
    began = time.monotonic()
    played = run([program, "demo"], cwd=place, variables={**clean, "GRAPHNODE_LOCALSTACK_PYTHON": str(find_python())})
    tell(f"{version}: graphnode demo: {last_line(played)}", began=began)


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    variables: Mapping[str, str] | None = None,
    fine: Sequence[int] = (0,),
) -> str:
    """Run a command to its end; what it wrote. Raises Failed.

    Parameters:
      variables: its whole environment; without them, ours.
      fine: the exit codes that are no failure.
    """
    ran = subprocess.run(  # noqa: S603
        command,
        cwd=cwd,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if ran.returncode not in fine:
        raise Failed(f"{' '.join(map(str, command))} ended with exit code {ran.returncode}:\n{ran.stdout}")
    return ran.stdout


def last_line(text: str) -> str:
    """The last line of a command's output."""
    return text.strip().splitlines()[-1]


def tell(line: str, *, began: float | None = None) -> None:
    """Print a line at once, with the seconds since it began."""
    print(line if began is None else f"{line}  ({time.monotonic() - began:.1f} s)", flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
