"""Running checks: those that do not depend on one another at the same time, each for a limited time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from graphlib import TopologicalSorter
from typing import NamedTuple

from graphnode.errors import one_line, sorted_error
from graphnode.operations.doctor.findings import Finding, Severity, broken, unchecked, worst

#: Seconds that a check has.
TIMEOUT_S = 20.0


class Check(NamedTuple):
    """Something to look at.

    Parameters:
      name: what a report calls it.
      run: looks, and says what it found.
      needs: the checks that it makes no sense without: when one of them finds something broken, or was not made itself,
        this one is not made.
      lacks: why it cannot be made at all; empty if it can.
    """

    name: str
    run: Callable[[], list[Finding]]
    needs: tuple[str, ...] = ()
    lacks: str = ""


def examine(checks: Sequence[Check], *, timeout_s: float = TIMEOUT_S) -> list[Finding]:
    """Make all checks; their findings in the checks' order. Nothing is raised: a check that fails is a finding."""
    known = {check.name: check for check in checks}
    found: dict[str, list[Finding]] = {}
    order = TopologicalSorter({check.name: check.needs for check in checks})
    order.prepare()
    while order.is_active():
        ready = order.get_ready()
        for name in ready:
            check = known[name]
            if check.lacks:
                found[name] = [unchecked(name, f"not checked: {check.lacks}")]
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
            answers[check.name] = [broken(check.name, f"cannot be checked: {one_line(sorted_error(raised))}")]

    # Daemons: one that hangs in a library must not keep the program from ending.
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
