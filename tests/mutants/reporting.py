"""A pytest plugin that reports the result of each test, and ends the run at the first failure that counts.

A failure counts if the test itself failed. It does not count in a fixture or during collection, or if a name, a module
or a file is missing: then the code did not run as intended, and the test has not shown that it is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import msgspec
import pytest

#: The environment variable with the path of the report.
REPORT = "MUTANTS_REPORT"

#: The errors of code that does not run, or of a test whose files or processes are missing.
NOT_COUNTED = (ImportError, SyntaxError, NameError, OSError)


class Event(msgspec.Struct):
    """An event of a test.

    Parameters:
      test: the node ID of the test, or of its file if the collection failed.
      what: `begin`; `passed` or `skipped` for a phase; `failed` for a failure that counts; `error` for any other.
      seconds: the duration of the phase.
      message: the first line of the error.
    """

    test: str
    what: str
    seconds: float = 0.0
    message: str = ""


def events(report: Path) -> list[Event]:
    """The events in a report."""
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
        what = "passed" if report.passed else "skipped"
        _write(Event(item.nodeid, what, report.duration))
        return report
    counts = call.when == "call" and not issubclass(call.excinfo.type, NOT_COUNTED)
    message = next(iter(call.excinfo.exconly().splitlines()), "")
    _write(Event(item.nodeid, "failed" if counts else "error", report.duration, message))
    if counts:
        item.session.shouldfail = "one failure is enough"
    return report


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """The collection of a file is over."""
    if report.failed:
        _write(Event(report.nodeid, "error", message=report.longreprtext.strip().rpartition("\n")[2]))


def _write(event: Event) -> None:
    with Path(os.environ[REPORT]).open("ab") as file:
        file.write(msgspec.json.encode(event) + b"\n")
