from __future__ import annotations

import io
import logging
import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from dramatiq.middleware import TimeLimitExceeded
from dramatiq.threading import raise_thread_exception
from structlog.testing import capture_logs

from graphnode.telemetry import log_writer
from graphnode.telemetry.log_writer import LogWriter

#: Seconds until a thread of a test counts as stuck.
PATIENCE_S = 30.0


class Output(io.StringIO):
    """An output that takes nothing while nobody reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.is_read = threading.Event()
        self.is_read.set()
        self.is_written_to = threading.Event()

    def write(self, text: str) -> int:
        self.is_written_to.set()
        if not self.is_read.wait(PATIENCE_S):
            # The test waits for a line that nobody reads. It fails sooner if the others pass.
            self.is_read.set()
        return super().write(text)

    def stall(self, logger: logging.Logger) -> None:
        """Stand still, with the writer in the middle of a line."""
        self.is_read.clear()
        self.is_written_to.clear()
        logger.info("stalled")
        assert self.is_written_to.wait(PATIENCE_S)


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Iterator[Output]:
    """What this process's stderr takes."""
    output = Output()
    # Not in `sys` itself: pytest puts its own there for each phase of a test.
    monkeypatch.setattr(log_writer, "sys", SimpleNamespace(stderr=output))
    yield output
    output.is_read.set()


@pytest.fixture
def writer() -> LogWriter:
    return LogWriter(most=100)


@pytest.fixture
def logger(writer: LogWriter) -> logging.Logger:
    """A logger whose only handler is the writer."""
    logger = logging.Logger("test")
    logger.addHandler(writer)
    return logger


def test_lines_are_written_in_order(output: Output, logger: logging.Logger, writer: LogWriter) -> None:
    for number in range(50):
        logger.info("%d", number)
    writer.flush()

    assert output.getvalue().split() == [str(number) for number in range(50)]


def test_the_lines_of_a_moment_are_one_write(
    output: Output, logger: logging.Logger, writer: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "GATHER_S", 0.5)
    written: list[str] = []
    monkeypatch.setattr(output, "write", written.append)

    for number in range(50):
        logger.info("%d", number)
    writer.flush()

    assert written == ["".join(f"{number}\n" for number in range(50))]


def test_at_the_end_of_a_process_no_line_waits_for_others(
    output: Output, logger: logging.Logger, writer: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger.info("first")
    writer.flush_each_line()
    monkeypatch.setattr(log_writer, "GATHER_S", 10 * PATIENCE_S)

    logger.info("last")

    assert output.getvalue() == "first\nlast\n"


def test_who_logs_does_not_wait_for_a_stalled_output_and_what_it_has_no_room_for_is_counted(
    output: Output, logger: logging.Logger, writer: LogWriter
) -> None:
    output.stall(logger)
    with capture_logs() as told:
        for number in range(103):
            logger.info("%d", number)
        output.is_read.set()
        writer.flush()
        logger.info("after")
        writer.flush()

    assert output.getvalue().split() == ["stalled", *map(str, range(100)), "after"]
    assert told == [{"event": "left out", "log_level": "warning", "reason": "NOT_READ", "lines": 3}]


def test_threads_that_are_interrupted_while_the_output_is_stalled_leave_no_lock_behind(
    output: Output, logger: logging.Logger, writer: LogWriter
) -> None:
    output.stall(logger)
    begun = threading.Semaphore(0)

    def log_for_ever() -> None:
        begun.release()
        try:
            while True:
                logger.info("again")
        except TimeLimitExceeded:
            pass

    threads = [threading.Thread(target=log_for_ever, daemon=True) for _ in range(5)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert begun.acquire(timeout=PATIENCE_S)
    for thread in threads:
        assert thread.ident
        raise_thread_exception(thread.ident, TimeLimitExceeded)
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    output.is_read.set()
    writer.flush()
    logger.info("after")
    writer.flush()

    assert output.getvalue().endswith("after\n")


def test_an_output_that_fails_ends_nothing(
    output: Output, logger: logging.Logger, writer: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_text: str) -> int:
        raise BrokenPipeError

    with monkeypatch.context() as broken:
        broken.setattr(output, "write", fail)
        logger.info("lost")
        writer.flush()
    logger.info("after")
    writer.flush()

    assert output.getvalue() == "after\n"


def test_a_forked_process_writes_its_own_lines_and_none_of_its_parents(
    output: Output, logger: logging.Logger, writer: LogWriter, tmp_path: Path
) -> None:
    def child() -> None:
        output.write = (tmp_path / "child").open("w", buffering=1).write  # type: ignore[assignment, method-assign]
        logger.info("of the child")
        sys.exit(3)

    output.stall(logger)
    logger.info("of the parent")
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(PATIENCE_S)
    output.is_read.set()
    writer.flush()

    assert process.exitcode == 3
    assert (tmp_path / "child").read_text() == "of the child\n"
    assert output.getvalue() == "stalled\nof the parent\n"


def test_after_flush_each_line_a_line_is_written_when_its_call_returns(
    output: Output, logger: logging.Logger, writer: LogWriter
) -> None:
    logger.info("first")
    writer.flush_each_line()

    for number in range(50):
        logger.info("%d", number)
        assert output.getvalue().endswith(f"\n{number}\n")


ENDING = """
import logging, sys
from graphnode.telemetry import log_writer
log_writer.FLUSH_S = {flush_s}
logger = logging.getLogger()
logger.addHandler(log_writer.LogWriter())
for number in range({lines}):
    logger.warning("%d %s", number, "x" * 100)
sys.exit(3)
"""


def test_a_process_that_ends_has_written_all_its_lines() -> None:
    script = ENDING.format(flush_s=PATIENCE_S, lines=5000)
    ended = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S)

    assert ended.returncode == 3
    assert [line.split()[0] for line in ended.stderr.splitlines()] == [str(number) for number in range(5000)]


def test_a_process_ends_although_nobody_reads_its_lines() -> None:
    script = ENDING.format(flush_s=0.1, lines=5000)
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) as process:
        assert process.wait(PATIENCE_S) == 3
