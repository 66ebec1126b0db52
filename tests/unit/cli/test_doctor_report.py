from __future__ import annotations

import msgspec

from graphnode.cli.doctor_report import report
from graphnode.operations.doctor.findings import unchecked
from graphnode.operations.doctor.queue_check import CONSUMER_ACTIONS, judge_queue
from graphnode.operations.doctor.settings_check import judge_settings
from tests.unit.operations.test_doctor import queue


def test_a_report_is_aligned_within_80_columns_and_its_commands_can_be_copied() -> None:
    findings = [
        *judge_queue(queue(receives=5), max_attempts=8),
        *judge_queue(msgspec.structs.replace(queue(), denied=CONSUMER_ACTIONS), max_attempts=8),
        *judge_settings({}, ["DATABASE_URL is missing: set it to " + "a long explanation " * 8]),
        unchecked("clock", "not checked: no time is known"),
    ]

    lines = list(report(findings))

    beginnings = {line[:2] for line in lines if line and not line.startswith(" ")}
    assert beginnings == {"✓ ", "! ", "✗ ", "- ", "2 "}
    assert lines[-1] == "2 broken, 1 warning, 1 not checked, 4 fine."
    assert all(len(line) <= 80 for line in lines if "{" not in line and "https" not in line)
    continued = next(number for number, line in enumerate(lines) if line.endswith(" \\"))
    assert lines[continued + 1].strip().startswith("--")
