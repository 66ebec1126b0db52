from __future__ import annotations

import ast
import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import botocore.exceptions
import pytest
import structlog

from graphnode.contract.bodies import to_message
from graphnode.contract.decoding import decode_graph
from graphnode.errors import GraphNodeError, log_text
from graphnode.settings import LogSettings, read_log_settings
from graphnode.telemetry.logs import QUIET, SAID_ELSEWHERE, configure_logs, log_suppressed_lines
from graphnode.text import escaped

PROJECT = Path(__file__).parents[3]

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What a process writes that has this handler alone. Afterwards logs are as they were."""
    root, known = logging.getLogger(), structlog.get_config()
    levels = {name: logging.getLogger(name).level for name in (*QUIET, *SAID_ELSEWHERE, None)}
    handler = logging.StreamHandler(io.StringIO())
    root.handlers[:] = [handler]
    yield handler.stream
    log_suppressed_lines()
    root.removeHandler(handler)
    structlog.configure(**{**known, "cache_logger_on_first_use": False})
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def lines(written: io.StringIO) -> Lines:
    """The lines so far, as JSON."""
    configure_logs(LogSettings(log_level="debug"))
    return lambda: [json.loads(line) for line in written.getvalue().splitlines()]


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
    structlog.get_logger("graphnode.test").info("odd", value=value)

    assert [line["event"] for line in lines()] == ["odd"]


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
    # The stack shows this test's own source, up to where the text is a literal in it.
    assert "KeyError: " not in line["stack"]


@pytest.mark.parametrize(
    "name", ["botocore.endpoint", "peewee", "urllib3.connectionpool", "google.auth", "graphnode.actors.add_node"]
)
def test_libraries_log_only_warnings_and_worse_at_any_level(
    name: str, written: io.StringIO, request: pytest.FixtureRequest
) -> None:
    # What google-auth does when it is used before logs are configured.
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
    (told,) = (line for line in lines() if line["event"] == "left out")
    assert (told["of"], told["reason"], told["lines"]) == ("dead letter", "INVALID_DOCUMENT", 15)


def test_a_librarys_repeated_line_is_one_kind_whatever_its_arguments_are(lines: Lines) -> None:
    for number in range(12):
        logging.getLogger("a.library").warning("failed %d", number)

    log_suppressed_lines()

    assert [line["event"] for line in lines()][-2:] == ["failed 9", "left out"]


def test_a_line_on_a_terminal_is_readable(written: io.StringIO) -> None:
    configure_logs(LogSettings(log_format="console"))

    structlog.get_logger("graphnode.test").info("done", task_id="t-1")

    assert re.search(r"\[info +\] done +\[graphnode\.test\] task_id=t-1\n$", written.getvalue())


#: What a terminal obeys, what forges a line, and what makes a name read as another.
OBEYED = "ada\x1b[2J\x1b]0;title\x07\x9b31m\x85\r\n2026-11-25T00:00:00Z [info] forged\u202e\u2066\x00\x7f\ud800"


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_value_from_outside_neither_breaks_a_line_nor_controls_a_terminal(
    written: io.StringIO, log_format: Literal["console", "json"]
) -> None:
    configure_logs(LogSettings(log_format=log_format))

    structlog.get_logger("graphnode.test").info("done", task_id=OBEYED, user_id=f"eve {OBEYED}", error=OBEYED[:9])

    text = written.getvalue()
    assert text.count("\n") == 1
    assert escaped(text, but="\n") == text
    assert re.search(r"forged\\+u202e", text)
    if log_format == "json":
        assert json.loads(text)["task_id"] == OBEYED


def test_log_settings_are_read_even_if_other_settings_are_wrong() -> None:
    environment = {"GRAPHNODE_LOG_FORMAT": "console", "GRAPHNODE_LOG_LEVEL": "loud", "AWS_REGION": "nowhere"}

    assert read_log_settings(environment) == LogSettings(log_format="console", log_level="info")


def raised(call: Callable[[], object]) -> GraphNodeError:
    with pytest.raises(GraphNodeError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("SECRET", "the body is not JSON (JSON is malformed: invalid character (byte 0))"),
        ('["SECRET"]', "the body is not a JSON object"),
        ('{"taskType": "SECRET"}', "no actor handles this taskType"),
        ('{"taskType": ["SECRET"]}', "taskType: expected a text"),
        (
            '{"taskType": "ADD_NODE_RESULT", "taskId": "t", "timestamp": "SECRET", "payload": {}}',
            "timestamp: expected ISO 8601 or null",
        ),
        ('{"taskType": "ADD_NODE_RESULT", "taskId": "t", "payload": "SECRET"}', "payload: expected an object"),
        (
            '{"taskType": "ADD_NODE_RESULT", "taskId": "t", "payload": {"userId": "u", "status": "SECRET"}}',
            "payload.status: Expected COMPLETED or FAILED",
        ),
    ],
)
def test_an_invalid_envelope_is_quoted_to_operators_but_not_in_logs(body: str, said: str) -> None:
    now = datetime.now(UTC)
    error = raised(lambda: to_message(body, message_id="m", sent_at=now, receive_count=1))

    assert log_text(error) == said
    assert "SECRET" in str(error) or body.startswith('{"taskType": ["')


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b'{"nodes": [{"id": "SECRET", "orig_id": "a"}]}', "nodes[0].id: expected int"),
        (b'{"nodes": [SECRET]}', "not JSON: invalid character (byte 11)"),
        (
            b'{"nodes": [], "edges": [], "metadata": {"clusters": {"SECRET": 1}}}',
            "metadata.clusters[…]: expected object",
        ),
    ],
)
def test_an_invalid_document_is_quoted_to_operators_but_not_in_logs(document: bytes, said: str) -> None:
    error = raised(lambda: decode_graph(document))

    assert "SECRET" in str(error)
    assert log_text(error) == said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("SECRET"), "ValueError"),
        (
            botocore.exceptions.EndpointConnectionError(endpoint_url="https://s3/bucket/SECRET"),
            "AWS cannot be reached (EndpointConnectionError)",
        ),
        (
            botocore.exceptions.ClientError(
                {"Error": {"Code": "AccessDenied", "Message": "SECRET"}, "ResponseMetadata": {"HTTPStatusCode": 403}},  # type: ignore[typeddict-item]
                "GetObject",
            ),
            "GetObject was refused (AccessDenied, HTTP 403)",
        ),
    ],
)
def test_the_text_of_a_librarys_error_is_not_in_logs(error: Exception, said: str) -> None:
    assert log_text(error) == said


def logged_events() -> set[tuple[str, str]]:
    """The level and the event of each line that the worker writes; the stand-in AI server is none."""
    return {
        (call.func.attr, str(call.args[0].value))
        for path in (PROJECT / "graphnode").rglob("*.py")
        if path.parent.name != "ai"
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "log"
        and call.func.attr in structlog.stdlib.BoundLogger.__dict__
        and isinstance(call.args[0], ast.Constant)
    }


def test_the_document_lists_every_logged_event_and_no_other() -> None:
    document = (PROJECT / "docs/logs.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(.+?)` \| (\w+) \|", document, re.MULTILINE)

    assert len(listed) == len(set(listed))
    assert {(level, event) for event, level in listed} == logged_events()
