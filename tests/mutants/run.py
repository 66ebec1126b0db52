"""Runs the checks of a mutant in a copy of the repository, first on the unchanged code, then with the mutation."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from tests.mutants.catalogue import Mutant
from tests.mutants.reporting import REPORT, Event, events

#: The files that a copy of the repository lacks.
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".graphnode", ".coverage*", ".hypothesis", ".*_cache", "__pycache__", "*.egg-info", "node_modules"
)

#: The time limit of checks in seconds: PATIENCE_S, and PATIENCE_FACTOR times what they took without a mutation.
PATIENCE_S = 60.0
PATIENCE_FACTOR = 4.0

#: The time limit of checks without a mutation, in seconds.
UNMUTATED_S = 900.0

#: Seconds that pytest has to stop its servers after the time limit.
GRACE_S = 20.0


class ChecksFail(Exception):
    """Checks fail on the unchanged code, so their result with a mutation would mean nothing."""


class Verdict(StrEnum):
    """The result of a mutant."""

    CAUGHT = "caught"
    """A test has failed."""
    TIMED_OUT = "timed out"
    """A test did not end, and the catalogue explains why that catches the mutant."""
    SURVIVED = "SURVIVED"
    """Every check passes."""
    HUNG = "HUNG"
    """A test did not end, without an explanation in the catalogue."""
    BROKEN = "BROKEN"
    """The mutated code does not run, so no check could test it."""


CAUGHT = (Verdict.CAUGHT, Verdict.TIMED_OUT)


class Outcome(NamedTuple):
    """The result of a mutant, with its reason.

    Parameters:
      name, what: of the mutant.
      check: the test that decided the verdict.
      message: the first line of the test's error.
      seconds: the duration of the checks.
    """

    name: str
    what: str
    verdict: Verdict
    check: str
    message: str
    seconds: float


class Ran(NamedTuple):
    """A run of pytest.

    Parameters:
      events: the events of the plugin `tests.mutants.reporting`.
      ended: whether it ended before the time limit.
      code: its exit code.
      output: its standard output and error.
      seconds: its duration.
    """

    events: list[Event]
    ended: bool
    code: int
    output: str
    seconds: float

    def of(self, what: str) -> list[Event]:
        """The events of this kind."""
        return [event for event in self.events if event.what == what]


class Trial:
    """Tries mutants in copies of a repository.

    Parameters:
      repository: never changed.
      scratch: an empty directory for the copies.
    """

    def __init__(self, repository: Path, scratch: Path) -> None:
        self.scratch = scratch
        #: The copy without a mutation. Its compiled files serve all other copies.
        self.unmutated = scratch / "unmutated"
        shutil.copytree(repository, self.unmutated, ignore=LEFT_OUT, symlinks=True)
        self._seconds: dict[str, dict[str, float]] = {}
        #: The most seconds that pytest took in addition to the tests.
        self._start_s = 0.0
        self._lock = threading.Lock()

    def see_pass(self, checks: Iterable[str]) -> None:
        """Run checks without a mutation, each only once. Raises ChecksFail unless all pass."""
        with self._lock:
            if not (fresh := sorted({check for check in checks if check not in self._seconds})):
                return
            ran = run_checks(self.unmutated, fresh, limit_s=UNMUTATED_S)
            if not ran.ended or ran.code:
                lines = [f"{event.test}: {event.message}" for event in ran.of("failed") + ran.of("error")]
                raise ChecksFail("\n".join(lines) or f"{' '.join(fresh)}:\n{ran.output[-2000:]}")
            self._start_s = max(self._start_s, ran.seconds - sum(event.seconds for event in ran.events))
            for check in fresh:
                self._seconds[check] = _seconds_of(check, ran)

    def mutate(self, mutant: Mutant) -> Outcome:
        """Try a mutant with its checks; if it survives, with all tests in their directories."""
        began = time.monotonic()
        with self._copy(mutant) as copy:
            verdict, event = self._examine(mutant, copy, mutant.checks)
            if verdict is Verdict.SURVIVED:
                verdict, event = self._examine(mutant, copy, mutant.wider_checks)
        seconds = time.monotonic() - began
        return Outcome(mutant.name, mutant.what, verdict, event.test, event.message, seconds)

    @contextmanager
    def _copy(self, mutant: Mutant) -> Iterator[Path]:
        copy = self.scratch / mutant.name
        # This copies the times of the files as well, so the compiled files stay valid.
        shutil.copytree(self.unmutated, copy, symlinks=True)
        try:
            mutant.apply(copy)
            yield copy
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def _examine(self, mutant: Mutant, copy: Path, checks: Sequence[str]) -> tuple[Verdict, Event]:
        self.see_pass(checks)
        passed = {test: seconds for check in checks for test, seconds in self._seconds[check].items()}
        limit_s = PATIENCE_S + PATIENCE_FACTOR * (self._start_s + sum(passed.values()))
        ran = run_checks(copy, checks, limit_s=limit_s)
        if failed := [event for event in ran.of("failed") if event.test in passed]:
            return Verdict.CAUGHT, failed[0]
        if not ran.ended:
            (*_, last) = ran.of("begin") or [Event("", "begin")]
            last.message = mutant.hangs or "did not end in time"
            return Verdict.TIMED_OUT if mutant.hangs else Verdict.HUNG, last
        if errors := ran.of("error"):
            return Verdict.BROKEN, errors[0]
        if ran.code:
            return Verdict.BROKEN, Event("", "error", message=ran.output.strip().rpartition("\n")[2])
        return Verdict.SURVIVED, Event("", "passed", message="every check passes")


def try_all(repository: Path, mutants: Sequence[Mutant], *, jobs: int) -> Iterator[Outcome]:
    """Try mutants, `jobs` at the same time; yields their outcomes in order.

    Raises OutdatedMutant before any check runs, and ChecksFail.
    """
    for mutant in mutants:
        mutant.mutated(repository)
    with tempfile.TemporaryDirectory(prefix="graphnode-mutants-", ignore_cleanup_errors=True) as scratch:
        trial = Trial(repository, Path(scratch))
        trial.see_pass(check for mutant in mutants for check in mutant.checks)
        with ThreadPoolExecutor(jobs) as threads:
            yield from threads.map(trial.mutate, mutants)


def run_checks(root: Path, checks: Sequence[str], *, limit_s: float) -> Ran:
    """Run checks in a copy of the repository.

    Parameters:
      root: the copy. The tests and their child processes import its modules.
      checks: node IDs of pytest, files or directories.
      limit_s: the time limit in seconds.
    """
    with tempfile.TemporaryDirectory(prefix="graphnode-mutants-report-") as directory:
        report, output = Path(directory, "report"), Path(directory, "output")
        report.touch()
        environment = {
            **os.environ,
            "PYTHONPATH": str(root),
            "HYPOTHESIS_PROFILE": "unshrunk",
            # No plugin is needed, and loading them is most of pytest's start.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            REPORT: str(report),
        }
        plugins = ["-p", "no:cacheprovider", "-p", "tests.mutants.reporting"]
        began = time.monotonic()
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "pytest", "-q", *plugins, *checks],
                cwd=root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                ended = _ends(process, limit_s)
            finally:
                _end(process)
        seconds = time.monotonic() - began
        return Ran(events(report), ended, process.returncode, output.read_text(errors="replace"), seconds)


def _ends(process: subprocess.Popen[bytes], limit_s: float) -> bool:
    try:
        process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a run that has not ended. The tests' child processes are guarded, and end with it."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        if not _ends(process, GRACE_S):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _seconds_of(check: str, ran: Ran) -> dict[str, float]:
    """The seconds of each test of a check."""
    seconds: dict[str, float] = {}
    for event in ran.of("passed"):
        if event.test.startswith(check):
            seconds[event.test] = seconds.get(event.test, 0.0) + event.seconds
    return seconds
