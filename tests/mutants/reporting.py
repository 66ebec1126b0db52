"""A pytest plugin: writes what becomes of each test, and ends the run at the first failure that counts.

A failure counts where a test itself has failed. What breaks before it, in a fixture or while tests are collected, or
because a name, a module or a file is not there, says nothing of what the code does.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import msgspec
import pytest

#: The variable that names the file to write to.
REPORT = "MUTANTS_REPORT"

#: What is raised where code does not run at all, or where a file or a process that a test needs is not there.
NOTHING_SEEN = (ImportError, SyntaxError, NameError, OSError)


class Event(msgspec.Struct):
    """Something that pytest tells.

    Parameters:
      test: the test's node ID, or the file's where its tests could not be collected.
      what: `begin`; `passed` a phase of it; `failed`: the test itself, which counts; `error`: anything else.
      seconds: what the phase took.
      message: the first line of what was raised.
    """

    test: str
    what: str
    seconds: float = 0.0
    message: str = ""


def events(report: Path) -> list[Event]:
    """What was written so far."""
    return [msgspec.json.decode(line, type=Event) for line in report.read_bytes().splitlines()]


def pytest_runtest_logstart(nodeid: str) -> None:
    """A test begins."""
    _write(Event(nodeid, "begin"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A phase of a test is over."""
    report = yield
    if not report.failed or call.excinfo is None:
        # Only what has run has passed.
        what = "passed" if report.passed else "skipped"
        _write(Event(item.nodeid, what, report.duration))
        return report
    counts = call.when == "call" and not issubclass(call.excinfo.type, NOTHING_SEEN)
    message = next(iter(call.excinfo.exconly().splitlines()), "")
    _write(Event(item.nodeid, "failed" if counts else "error", report.duration, message))
    if counts:
        item.session.shouldfail = "one failure is enough"
    return report


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """The tests of a file were collected, or could not be."""
    if report.failed:
        _write(Event(report.nodeid, "error", message=report.longreprtext.strip().rpartition("\n")[2]))


def _write(event: Event) -> None:
    with Path(os.environ[REPORT]).open("ab") as file:
        file.write(msgspec.json.encode(event) + b"\n")
