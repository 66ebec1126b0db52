from __future__ import annotations

from pathlib import Path

import pytest

from graphnode.dev.child_log import Log


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "server.log")


def append(log: Log, text: bytes) -> None:
    with log.path.open("ab") as file:
        file.write(text)


def test_new_text_gives_each_text_once(log: Log) -> None:
    append(log, b"one\n")
    assert log.new_text() == "one\n"

    append(log, b"two\n")
    assert log.new_text() == "two\n"
    assert log.new_text() == ""


def test_a_character_that_is_half_written_waits_for_its_other_half(log: Log) -> None:
    append(log, "é".encode()[:1])
    assert log.new_text() == ""

    append(log, "é".encode()[1:])
    assert log.new_text() == "é"


def test_reading_all_of_it_does_not_change_what_is_new(log: Log) -> None:
    append(log, b"one\ntwo\n")

    assert log.text() == "one\ntwo\n"
    assert log.new_text() == "one\ntwo\n"


def test_the_tail_is_the_last_lines(log: Log) -> None:
    append(log, b"".join(b"line %d\n" % number for number in range(100)))

    assert log.tail(2) == "line 98\nline 99"


def test_it_can_be_read_when_the_file_is_gone(log: Log) -> None:
    append(log, b"the reason\n")
    log.path.unlink()

    assert log.tail() == "the reason"
