"""Make `.venv`: this project with what its tests need, and LocalStack in an environment of its own inside it.

`make` runs this file with the system's Python, so it needs nothing but the standard library.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
ENVIRONMENT = CHECKOUT / ".venv"
LOCALSTACK = ENVIRONMENT / "localstack"

#: Written last: the installation is as new as this file.
STAMP = ENVIRONMENT / ".installed"

#: What the installation is made from.
SOURCES = ("setup.cfg", "pyproject.toml", "localstack/requirements.txt")

#: Seconds between two signs of life: on a terminal, and in a log.
REDRAW_S = 0.2
DOT_S = 2.0


def main() -> int:
    """Install what is missing or out of date; the exit code."""
    # This very file is the lock of a second make at the same time.
    with Path(__file__).open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another make is installing into .venv: waiting for it.\n")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if is_current():
            return 0
        try:
            install()
        except subprocess.CalledProcessError as error:
            command = " ".join(map(str, error.cmd))
            say(f"\n{error.output}\n`{command}` failed (exit code {error.returncode}).\n")
            return 1
        except KeyboardInterrupt:
            say("\nInterrupted: the next make starts over.\n")
            return 130
        STAMP.touch()
    return 0


def is_current() -> bool:
    """Whether everything was installed after its sources last changed."""
    return STAMP.exists() and all((CHECKOUT / source).stat().st_mtime <= STAMP.stat().st_mtime for source in SOURCES)


def install() -> None:
    """Make both environments. Raises subprocess.CalledProcessError with the failed step's output."""
    python = ENVIRONMENT / "bin" / "python"
    pip = ["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    if not _works(python):
        step("Making .venv", [sys.executable, "-m", "venv", "--clear", ENVIRONMENT])
    step("Installing graphnode and what its tests need", [python, *pip, "--editable", f"{CHECKOUT}[test]"])

    server_python = LOCALSTACK / "bin" / "python"
    if not _works(server_python):
        step("Making LocalStack's environment", [sys.executable, "-m", "venv", "--clear", LOCALSTACK])
    requirements = CHECKOUT / "localstack" / "requirements.txt"
    step("Installing LocalStack", [server_python, *pip, "--requirement", requirements])

    # LocalStack would make this index at every start, which takes it 4 s.
    index = LOCALSTACK / "usr" / "lib" / "localstack"
    shutil.rmtree(index, ignore_errors=True)
    index.mkdir(parents=True)
    step(
        "Indexing AWS's services for LocalStack",
        [server_python, "-m", "localstack.aws.spec"],
        environment={"FILESYSTEM_ROOT": str(LOCALSTACK), "OVERRIDE_IN_DOCKER": "0"},
    )


def step(title: str, command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None) -> None:
    """Run a command that takes long, showing that it lives. With V=1 its whole output is shown.

    Raises subprocess.CalledProcessError with its output.
    """
    started = time.monotonic()
    say(f"{title} …")
    if os.environ.get("V"):
        say("\n")
        subprocess.run(command, env=os.environ | (environment or {}), cwd=CHECKOUT, check=True)  # noqa: S603
        return
    process = subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | (environment or {}),
        cwd=CHECKOUT,
        text=True,
        errors="replace",
    )
    output: list[str] = []
    reader = threading.Thread(target=output.extend, args=[process.stdout], daemon=True)
    reader.start()
    try:
        while reader.is_alive():
            reader.join(REDRAW_S if sys.stdout.isatty() else DOT_S)
            _show_life(title, output, seconds=time.monotonic() - started)
    except BaseException:
        process.terminate()
        raise
    finally:
        process.wait()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output="".join(output))
    seconds = f"{time.monotonic() - started:.0f} s"
    say(f"\r\x1b[K{title} … {seconds}\n" if sys.stdout.isatty() else f" {seconds}\n")


def say(text: str) -> None:
    """Write to the terminal at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def _show_life(title: str, output: Sequence[str], *, seconds: float) -> None:
    """Redraw the line with the command's newest output; where there is no terminal, a dot."""
    if sys.stdout.isatty():
        detail = next((line.strip() for line in reversed(output) if not line.startswith("WARNING")), "")
        say(f"\r\x1b[K{title} … {seconds:.0f} s  {detail}"[: shutil.get_terminal_size().columns + 3])
    else:
        say(".")


def _works(python: Path) -> bool:
    """Whether there is such a Python, and it runs: an environment is broken when the system's Python went."""
    command: list[str | Path] = [python, "-m", "pip", "--version"]
    return python.exists() and not subprocess.run(command, capture_output=True, check=False).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
