"""Exported letters as lines of a file."""

from __future__ import annotations

import io

import pytest

from graphnode.errors import InvalidLetterFile
from graphnode.operations.dead_letters.letter_files import LetterRecord, read_records


def test_a_file_that_is_no_export_is_refused_by_its_line() -> None:
    good = b'{"queue":"results","message_id":"m","sent_at":"2026-05-24T12:00:00Z","received":1,"moved_by_sqs":false,'
    good += b'"attributes":{"a":{"type":"Binary","binary":"AAE="}},"body":"{"}\n'

    (record,) = read_records(io.BytesIO(good))

    assert record.letter().attributes == {"a": {"DataType": "Binary", "BinaryValue": b"\0\1"}}
    assert LetterRecord.of(record.letter(), "results") == record
    assert record.group_id is None
    in_group = LetterRecord.of(record.letter()._replace(group_id="ada"), "results")
    assert in_group.letter().group_id == "ada"
    with pytest.raises(InvalidLetterFile, match=r"^Line 2 is no letter"):
        list(read_records(io.BytesIO(good + b"{}\n")))


@pytest.mark.parametrize("line", [b'{"a": ' + b"[" * 5000, b'{"a": ' + b"[" * 300 + b"9" * 5000, b'"\xff"'])
def test_no_line_is_too_odd_to_be_refused_briefly(line: bytes) -> None:
    with pytest.raises(InvalidLetterFile, match=r"^Line 1 is no letter") as raised:
        list(read_records(io.BytesIO(line)))

    assert len(str(raised.value)) < 500
