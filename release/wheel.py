"""Build sdist and wheel, and try the wheel as a user installs it: in a clean environment, away from the checkout.

`python -m release.wheel [PYTHON …]` tries it with each of these Pythons; the default is the running one. `graphnode
doctor` checks embedded servers, and `graphnode demo` starts its own. Only LocalStack comes from the checkout.
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
from release.output import Failed, last_line, tell

PROJECT = Path(__file__).resolve().parents[1]

#: The exit code of `graphnode doctor` if there are only warnings: there are no Firebase credentials.
WARNINGS = 1


def main(pythons: Sequence[str]) -> int:
    """Build the wheel and try it; the exit code."""
    with tempfile.TemporaryDirectory(prefix="graphnode-release-", ignore_cleanup_errors=True) as made:
        place = Path(made)
        # PostgreSQL's user needs access, because the environment has PostgreSQL's programs.
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
    """Build the sdist, and the wheel from it; the path of the wheel. Raises Failed."""
    pinned: list[str | Path] = ["--build-constraints", PROJECT / "locks" / "build.txt", "--require-hashes"]
    uv = Path(sys.prefix) / "bin" / "uv"
    run([uv, "build", "--quiet", "--python", sys.executable, *pinned, "--out-dir", directory, PROJECT], cwd=PROJECT)
    files = sorted(path.name for path in directory.iterdir() if path.suffix in (".gz", ".whl"))
    expected = [f"graphnode_worker-{__version__}-py3-none-any.whl", f"graphnode_worker-{__version__}.tar.gz"]
    if files != expected:
        raise Failed(f"The build made {files} instead of {expected}.")
    for name in files:
        tell(f"{name}: {(directory / name).stat().st_size / 1e3:.0f} kB")
    return directory / expected[0]


def check_contents(wheel: Path) -> None:
    """Check that the wheel has exactly the package's files in git, and the licence. Raises Failed."""
    listed = run(["git", "ls-files", "-z", "graphnode"], cwd=PROJECT).split("\0")
    expected = {name for name in listed if name}
    names = zipfile.ZipFile(wheel).namelist()
    found = {name for name in names if name.startswith("graphnode/")}
    if found != expected:
        raise Failed(f"The wheel lacks {sorted(expected - found)}, and must not have {sorted(found - expected)}.")
    if "graphnode/py.typed" not in found:
        raise Failed("The wheel has no py.typed.")
    if f"graphnode_worker-{__version__}.dist-info/licenses/LICENSE" not in names:
        raise Failed("The wheel has no LICENSE.")
    tell(f"The wheel has the right {len(found)} files, including py.typed.")


def try_out(wheel: Path, python: str, place: Path) -> None:
    """Install the wheel in a clean environment, and run `graphnode doctor` and the demo from it. Raises Failed."""
    environment = place / "environment"
    run([python, "-m", "venv", environment], cwd=PROJECT)
    installed = environment / "bin" / "python"
    began = time.monotonic()
    run([installed, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}[dev]"], cwd=place)
    version = run([installed, "--version"], cwd=place).strip()
    tell(f"{version}: installed with the extra `dev`", began=began)

    # The wheel lacks LocalStack's files. Nothing else comes from the checkout.
    shutil.copytree(FILES, place / "localstack")
    program = environment / "bin" / "graphnode"
    clean = {"PATH": f"{program.parent}{os.pathsep}{os.defpath}", "HOME": str(place)}
    shown = run([program, "--version"], cwd=place, variables=clean).strip()
    if shown != f"graphnode, version {__version__}":
        raise Failed(f"graphnode --version says {shown}.")
    where = "import graphnode; print(graphnode.__file__)"
    if not run([installed, "-c", where], cwd=place, variables=clean).startswith(str(environment)):
        raise Failed("The running package is not the installed one.")

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
    """Run a command; its output. Raises Failed.

    Parameters:
      variables: its whole environment; None for that of this process.
      fine: the exit codes of success.
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
