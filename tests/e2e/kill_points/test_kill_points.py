"""A process is killed once between any two steps of a message's handling: one effect, and the message is redelivered.

The points come from a handling without a kill, so a new step is included at once. `-s` prints all findings.
"""

from __future__ import annotations

import pytest

from graphnode.steps import STEPS
from tests.e2e.kill_points.conftest import Kills
from tests.e2e.kill_points.scenarios import SCENARIOS, Scenario
from tests.e2e.kill_points.slot import Finding

#: The table's head. Seconds are counted from the kill. No message is back before the next process is ready.
HEAD = f"{'handler':<28}{'killed':<24}{'next ready':>11}{'back':>8}  {'pushed':<8}effect"


def line(finding: Finding) -> str:
    """A finding as a row of the table."""
    pushes = ", ".join(map(str, finding.pushes)) or "-"
    said = "; ".join(finding.faults) or "once"
    times = f"{seconds(finding.ready_after_s):>11}{seconds(finding.back_after_s):>8}"
    return f"{finding.scenario:<28}{finding.point!s:<24}{times}  {pushes:<8}{said}"


def seconds(value: float | None) -> str:
    """A time as the table shows it."""
    return "not" if value is None else f"{value:.1f} s"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_kill_at_any_point_leaves_one_effect_and_the_message_is_delivered_again(
    kills: Kills, scenario: Scenario
) -> None:
    findings = kills.findings(scenario)

    print(f"\n{HEAD}")  # noqa: T201
    print("\n".join(map(line, findings)))  # noqa: T201
    assert findings
    assert [line(finding) for finding in findings if finding.faults] == []


def test_every_step_of_the_code_is_passed_by_a_scenario(passed: set[str]) -> None:
    assert set(STEPS) - passed == set()
