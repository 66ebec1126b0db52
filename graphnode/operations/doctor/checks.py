"""Running checks: in parallel if they do not depend on one another, each for a limited time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from graphlib import TopologicalSorter
from typing import NamedTuple

from graphnode.errors import classify_error, one_line
from graphnode.operations.doctor.findings import Finding, Severity, broken, unchecked, worst

#: Seconds that a check may take.
TIMEOUT_S = 20.0


class Check(NamedTuple):
    """Something to check.

    Parameters:
      name: its name in the report.
      run: checks, and returns the findings.
      needs: names of the checks without which this one makes no sense: it is not run if one of them found something
        broken, or was not run itself.
      missing: the reason why it cannot be run at all; empty if it can.
    """

    name: str
    run: Callable[[], list[Finding]]
    needs: tuple[str, ...] = ()
    missing: str = ""


def run_checks(checks: Sequence[Check], *, timeout_s: float = TIMEOUT_S) -> list[Finding]:
    """The findings of all checks, in the order of the checks. Raises nothing: a check that fails is a finding."""
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
        _run([known[name] for name in ready if name not in found], found, timeout_s=timeout_s)
        order.done(*ready)
    return [finding for check in checks for finding in found[check.name]]


def _blocks(findings: Sequence[Finding]) -> bool:
    return worst(findings) is Severity.BROKEN or all(found.severity is Severity.UNCHECKED for found in findings)


def _run(checks: Sequence[Check], found: dict[str, list[Finding]], *, timeout_s: float) -> None:
    answers: dict[str, list[Finding]] = {}

    def run(check: Check) -> None:
        try:
            answers[check.name] = check.run()
        except Exception as raised:
            answers[check.name] = [broken(check.name, f"cannot be checked: {one_line(classify_error(raised))}")]

    # Daemons: a check that hangs in a library must not keep the program from ending.
    threads = [threading.Thread(target=run, args=(check,), name=check.name, daemon=True) for check in checks]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    for check in checks:
        late = broken(
            check.name, f"no answer within {timeout_s:g} s", why="A firewall that drops packets, most likely."
        )
        found[check.name] = answers.get(check.name, [late])
