"""The doctor's findings as lines for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from textwrap import wrap

from graphnode.operations.doctor.findings import Finding, Severity
from graphnode.text import escaped, printable

#: The most characters of a line. A command that cannot be broken is longer.
WIDTH = 80

#: Characters of a subject, and of all that stands before a finding's text.
SUBJECT_WIDTH = 20
INDENT = 2 + SUBJECT_WIDTH

#: The mark and the word of each severity, in the order of the last line.
MARKS: Mapping[Severity, tuple[str, str]] = {
    Severity.BROKEN: ("✗", "broken"),
    Severity.WARNING: ("!", "warning"),
    Severity.UNCHECKED: ("-", "not checked"),
    Severity.FINE: ("✓", "fine"),
}


def report(findings: Iterable[Finding]) -> Iterator[str]:
    """The lines of a report: each finding, below it the reason and the remedy, and at the end the counts."""
    counts = dict.fromkeys(MARKS, 0)
    for found in findings:
        counts[found.severity] += 1
        mark, _ = MARKS[found.severity]
        first, *others = wrap(printable(found.what), WIDTH - INDENT, break_on_hyphens=False) or [""]
        yield f"{mark} {found.subject:<{SUBJECT_WIDTH}}{first}"
        yield from (f"{'':{INDENT}}{line}" for line in others)
        for name, text in (("why:", _wrapped(printable(found.why))), ("mend:", _remedy(escaped(found.mend, but="\n")))):
            for place, line in enumerate(text):
                yield f"    {name if place == 0 else '':<6}{line}"
    yield ""
    shown = [f"{count} {MARKS[severity][1]}" for severity, count in counts.items() if count]
    if counts[Severity.WARNING] > 1:
        shown = [f"{words}s" if words.endswith("warning") else words for words in shown]
    yield f"{', '.join(shown).capitalize()}."


def _wrapped(text: str) -> list[str]:
    return wrap(text, WIDTH - 10, break_long_words=False, break_on_hyphens=False)


def _remedy(text: str) -> list[str]:
    """A remedy in lines that can be copied: JSON is broken at blanks, a command before an option."""
    if text.startswith("{"):
        return _wrapped(text)
    return [line for each in text.split("\n") for line in _command(each)]


def _command(text: str) -> list[str]:
    width = WIDTH - 10
    if len(text) <= width:
        return _wrapped(text)
    lines = [""]
    for number, word in enumerate(text.split(" --")):
        part = word if number == 0 else f"--{word}"
        if lines[-1] and len(lines[-1]) + len(part) + 3 > width:
            lines[-1] += " \\"
            lines.append(f"  {part}")
        else:
            lines[-1] = f"{lines[-1]} {part}".strip() if number == 0 else f"{lines[-1]} {part}"
    return lines
