from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import structlog

from graphnode.settings import LogSettings
from graphnode.telemetry import log_writer
from graphnode.telemetry.logs import QUIET, SAID_ELSEWHERE, configure_logs, log_suppressed_lines
from graphnode.text import escaped

Lines = Callable[[], list[dict[str, Any]]]
Written = Callable[[], str]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    """Reads what the logs have written to stderr. After the test the logging configuration is restored."""
    root, known, stderr = logging.getLogger(), structlog.get_config(), io.StringIO()
    levels = {name: logging.getLogger(name).level for name in (*QUIET, *SAID_ELSEWHERE, None)}
    # Not in `sys` itself: pytest puts its own there for each phase of a test.
    monkeypatch.setattr(log_writer, "sys", SimpleNamespace(stderr=stderr))
    # Dramatiq's handler.
    root.handlers[:] = [logging.StreamHandler(stderr)]

    def read() -> str:
        for handler in root.handlers:
            handler.flush()
        return stderr.getvalue()

    yield read
    log_suppressed_lines()
    read()
    root.handlers.clear()
    structlog.configure(**{**known, "cache_logger_on_first_use": False})
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def lines(written: Written) -> Lines:
    """Reads the lines so far, each decoded from JSON."""
    configure_logs(LogSettings(log_level="debug"))
    return lambda: [json.loads(line) for line in written().splitlines()]


def test_an_event_is_one_line_of_json(lines: Lines) -> None:
    structlog.get_logger("graphnode.test").info("done\nand over", task_id="t-1", seconds=0.5, name="교토")

    (line,) = lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("timestamp"))
    assert line == {
        "event": "done\nand over",
        "level": "info",
        "logger": "graphnode.test",
        "task_id": "t-1",
        "seconds": 0.5,
        "name": "교토",
    }


@pytest.mark.parametrize("value", ["half a pair: \ud800", {1, 2}, object(), {(1, 2): 3}])
def test_a_line_is_written_whatever_its_values_are(value: object, lines: Lines) -> None:
    structlog.get_logger("graphnode.test").info("strange", value=value)

    assert [line["event"] for line in lines()] == ["strange"]


def test_libraries_log_in_the_same_form_and_exceptions_have_a_stack_without_their_text(lines: Lines) -> None:
    try:
        try:
            raise KeyError("the user's secret")
        except KeyError as error:
            raise ValueError("the user's secret") from error
    except ValueError:
        logging.getLogger("dramatiq.broker.SQSBroker").critical("Unexpected failure in %s.", "a hook", exc_info=True)

    (line,) = lines()
    assert (line["event"], line["level"], line["logger"], line["error"]) == (
        "Unexpected failure in a hook.",
        "critical",
        "dramatiq.broker.SQSBroker",
        "ValueError",
    )
    assert re.search(r"in test_libraries.*KeyError\n.*in test_libraries.*ValueError$", line["stack"], re.DOTALL)
    # The stack shows source lines of this test, and these contain the text as a literal.
    assert "KeyError: " not in line["stack"]


@pytest.mark.parametrize(
    "name", ["botocore.endpoint", "peewee", "urllib3.connectionpool", "google.auth", "graphnode.actors.add_node"]
)
def test_libraries_log_only_warnings_and_worse_at_any_level(
    name: str, written: Written, request: pytest.FixtureRequest
) -> None:
    # google-auth does this if it is used before logs are configured.
    logging.getLogger("google").propagate = False
    lines: Lines = request.getfixturevalue("lines")
    logging.getLogger(name).debug("the body: %s", "…")
    logging.getLogger(name).info("the body: %s", "…")
    logging.getLogger(name).warning("heard")

    assert [line["event"] for line in lines()] == ["heard"]


def test_a_repeated_line_is_logged_ten_times_for_each_reason_and_then_counted(lines: Lines) -> None:
    log = structlog.get_logger("graphnode.test")
    for _ in range(25):
        log.error("dead letter", reason="INVALID_DOCUMENT")
        log.info("done")
    log.error("dead letter", reason="WRONG_OWNER")

    log_suppressed_lines()

    events = [(line["event"], line.get("reason")) for line in lines()]
    assert events.count(("dead letter", "INVALID_DOCUMENT")) == 10
    assert events.count(("dead letter", "WRONG_OWNER")) == 1
    assert events.count(("done", None)) == 25
    (suppressed,) = (line for line in lines() if line["event"] == "left out")
    assert (suppressed["of"], suppressed["reason"], suppressed["lines"]) == ("dead letter", "INVALID_DOCUMENT", 15)


def test_a_librarys_repeated_line_is_one_kind_whatever_its_arguments_are(lines: Lines) -> None:
    for number in range(12):
        logging.getLogger("a.library").warning("failed %d", number)

    log_suppressed_lines()

    assert [line["event"] for line in lines()][-2:] == ["failed 9", "left out"]


def test_a_line_on_a_terminal_is_readable(written: Written) -> None:
    configure_logs(LogSettings(log_format="console"))

    structlog.get_logger("graphnode.test").info("done", task_id="t-1")

    assert re.search(r"\[info +\] done +\[graphnode\.test\] task_id=t-1\n$", written())


#: Control characters that a terminal executes, line ends that forge a line, and characters that disguise a name.
HOSTILE = "ada\x1b[2J\x1b]0;title\x07\x9b31m\x85\r\n2026-11-25T00:00:00Z [info] forged\u202e\u2066\u2028\u200b\x00\x7f"


@pytest.mark.parametrize("end", ["", "\ud800"])
@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_value_from_outside_neither_breaks_a_line_nor_controls_a_terminal(
    written: Written, log_format: Literal["console", "json"], end: str
) -> None:
    configure_logs(LogSettings(log_format=log_format))

    structlog.get_logger("graphnode.test").info(
        "done", task_id=HOSTILE + end, user_id=f"eve {HOSTILE}", error=HOSTILE[:9]
    )

    text = written()
    assert text.count("\n") == 1
    assert escaped(text, but="\n") == text
    assert re.search(r"forged\\+u202e", text)
    if log_format == "json":
        assert json.loads(text)["task_id"] == HOSTILE + end
