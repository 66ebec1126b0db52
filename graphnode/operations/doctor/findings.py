"""What a check has found, and how it is told."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from textwrap import wrap

import msgspec

#: The most characters of a line. A command that has no place to break is longer.
WIDTH = 80

#: Characters of what is looked at, and of all that stands before a finding's text.
SUBJECT_WIDTH = 20
INDENT = 2 + SUBJECT_WIDTH


class Severity(IntEnum):
    """How bad it is; the worst one is the exit code."""

    FINE = 0
    UNCHECKED = -1
    WARNING = 1
    BROKEN = 2


MARKS: Mapping[Severity, str] = {
    Severity.FINE: "✓",
    Severity.UNCHECKED: "-",
    Severity.WARNING: "!",
    Severity.BROKEN: "✗",
}

WORDS: Mapping[Severity, str] = {
    Severity.FINE: "fine",
    Severity.UNCHECKED: "not checked",
    Severity.WARNING: "warning",
    Severity.BROKEN: "broken",
}


class Finding(msgspec.Struct, frozen=True):
    """What was found of a subject.

    Parameters:
      subject: what was looked at, in a few words.
      severity: how bad it is.
      what: what is so, in one sentence.
      why: what follows from it, or where it comes from.
      mend: the one command or IAM statement that mends it.
    """

    subject: str
    severity: Severity
    what: str
    why: str = ""
    mend: str = ""


def fine(subject: str, what: str) -> Finding:
    """Nothing is wrong with it."""
    return Finding(subject, Severity.FINE, what)


def unchecked(subject: str, what: str) -> Finding:
    """It could not be looked at."""
    return Finding(subject, Severity.UNCHECKED, what)


def warning(subject: str, what: str, *, why: str = "", mend: str = "") -> Finding:
    """The worker works; not as well as it might, or not for ever."""
    return Finding(subject, Severity.WARNING, what, why, mend)


def broken(subject: str, what: str, *, why: str = "", mend: str = "") -> Finding:
    """The worker does not start, or cannot do part of what it is for."""
    return Finding(subject, Severity.BROKEN, what, why, mend)


def worst(findings: Iterable[Finding]) -> Severity:
    """The worst of them; what is not checked is not bad by itself, for what kept it from being checked is."""
    return max((finding.severity for finding in findings if finding.severity > 0), default=Severity.FINE)


def without(findings: Iterable[Finding], secrets: Iterable[str]) -> list[Finding]:
    """The same findings with every secret taken out of their texts, wherever a library may have put it."""
    hidden = sorted({secret for secret in secrets if len(secret) > 3}, key=len, reverse=True)

    def clean(text: str) -> str:
        for secret in hidden:
            text = text.replace(secret, "***")
        return text

    return [
        Finding(found.subject, found.severity, clean(found.what), clean(found.why), clean(found.mend))
        for found in findings
    ]


def command(*words: str) -> str:
    """A command line; each word is quoted as the shell needs it."""
    return shlex.join(words)


def statement(actions: Iterable[str], *resources: str) -> str:
    """An IAM statement that allows these actions, to add to the worker's policy."""
    allowed = {
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": resources[0] if len(resources) == 1 else resources,
    }
    return msgspec.json.format(msgspec.json.encode(allowed), indent=0).decode()


def report(findings: Iterable[Finding]) -> Iterator[str]:
    """The lines for a terminal of 80 columns: one a finding, and below it what to do if something is wrong."""
    counts = dict.fromkeys((Severity.BROKEN, Severity.WARNING, Severity.UNCHECKED, Severity.FINE), 0)
    for found in findings:
        counts[found.severity] += 1
        first, *others = wrap(found.what, WIDTH - INDENT, break_on_hyphens=False) or [""]
        yield f"{MARKS[found.severity]} {found.subject:<{SUBJECT_WIDTH}}{first}"
        yield from (f"{'':{INDENT}}{line}" for line in others)
        for name, text in (
            ("why", wrap(found.why, WIDTH - 10, break_on_hyphens=False, break_long_words=False)),
            ("mend", _mend(found.mend)),
        ):
            for place, line in enumerate(text):
                yield f"    {name + ':' if place == 0 else '':<6}{line}"
    yield ""
    told = [f"{count} {WORDS[severity]}" for severity, count in counts.items() if count]
    if counts[Severity.WARNING] > 1:
        told = [f"{words}s" if words.endswith(WORDS[Severity.WARNING]) else words for words in told]
    yield f"{', '.join(told).capitalize()}."


def _mend(text: str) -> list[str]:
    """A remedy in lines that can be copied: JSON may break at its blanks, a command before its options."""
    width = WIDTH - 10
    if len(text) <= width or text.startswith("{"):
        return wrap(text, width, break_long_words=False, break_on_hyphens=False)
    lines = [""]
    for number, word in enumerate(text.split(" --")):
        part = word if number == 0 else f"--{word}"
        if lines[-1] and len(lines[-1]) + len(part) + 3 > width:
            lines[-1] += " \\"
            lines.append(f"  {part}")
        else:
            lines[-1] = f"{lines[-1]} {part}".strip() if number == 0 else f"{lines[-1]} {part}"
    return lines
