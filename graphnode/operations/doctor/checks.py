"""Running checks: in parallel if they do not depend on one another, each for a limited time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from graphlib import TopologicalSorter
from typing import NamedTuple

from graphnode.errors import classify_error, one_line
from graphnode.operations import background
from graphnode.operations.background import NoAnswer
from graphnode.operations.doctor.findings import Finding, Severity, broken, unchecked, worst

#: Seconds that a check may take, and after which it counts as slow.
TIMEOUT_S = 20.0
SLOW_S = 2.0


class Check(NamedTuple):
    """Something to check.

    Parameters:
      name: its name in the report.
      run: checks, and returns the findings.
      needs: names of the checks without which this one makes no sense: it is not run if one of them found something
        broken, or was not run itself.
      missing: the reason why it cannot be run at all; empty if it can.
      covers: the further subjects that it reports on, if it gets that far.
    """

    name: str
    run: Callable[[], list[Finding]]
    needs: tuple[str, ...] = ()
    missing: str = ""
    covers: tuple[str, ...] = ()


def run_checks(
    checks: Sequence[Check],
    *,
    timeout_s: float = TIMEOUT_S,
    on_slow: Callable[[list[str]], None] = lambda _names: None,
) -> list[Finding]:
    """The findings of all checks, in the order of the checks. Raises nothing: a check that fails is a finding.

    Each subject of a check has one: what a check did not get to is not checked.

    Parameters:
      timeout_s: seconds that a check may take.
      on_slow: called with the names of the checks that have not answered after `SLOW_S`.
    """
    known = {check.name: check for check in checks}
    found: dict[str, list[Finding]] = {}
    order = TopologicalSorter({check.name: check.needs for check in checks})
    order.prepare()
    while order.is_active():
        ready = order.get_ready()
        for name in ready:
            check = known[name]
            if check.missing:
                found[name] = [unchecked(name, f"not checked: {check.missing}")]
            elif blocking := next((need for need in check.needs if _blocks(found[need])), None):
                found[name] = [unchecked(name, f"not checked: that needs {blocking} first")]
        _run([known[name] for name in ready if name not in found], found, timeout_s=timeout_s, on_slow=on_slow)
        order.done(*ready)
    for check in checks:
        seen = {finding.subject for finding in found[check.name]}
        found[check.name] += [
            unchecked(subject, f"not checked: that needs {check.name} first")
            for subject in check.covers
            if subject not in seen
        ]
    return [finding for check in checks for finding in found[check.name]]


def _blocks(findings: Sequence[Finding]) -> bool:
    return worst(findings) is Severity.BROKEN or all(found.severity is Severity.UNCHECKED for found in findings)


def _run(
    checks: Sequence[Check],
    found: dict[str, list[Finding]],
    *,
    timeout_s: float,
    on_slow: Callable[[list[str]], None],
) -> None:
    by = time.monotonic() + timeout_s
    running = {check.name: background.start(check.run, name=check.name) for check in checks}
    _, slow = wait(running.values(), timeout=min(SLOW_S, timeout_s))
    if slow:
        on_slow([name for name, check in running.items() if check in slow])
    for name, check in running.items():
        try:
            found[name] = background.answer_of(check, by=by)
        except NoAnswer:
            why = "The service hangs or is overloaded, or something on the way drops its answers."
            found[name] = [broken(name, f"no answer within {timeout_s:g} s", why=why)]
        except Exception as raised:
            found[name] = [broken(name, f"cannot be checked: {one_line(classify_error(raised))}")]
