"""What a status means together, and what an operator types next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from graphnode.operations.status.sources import Status


class NextStep(NamedTuple):
    """A command, and what it is for."""

    command: str
    purpose: str


def next_steps(status: Status) -> Iterator[NextStep]:
    """What to type next, the most urgent first; nothing if all is well."""
    seen = status.activity
    if not status.awaited and (seen is None or any(queue.problem for queue in status.queues)):
        yield NextStep("graphnode doctor", "says what is wrong with what is not seen, and what mends it")
    elif seen and seen.outages:
        yield NextStep("graphnode doctor", "checks what keeps the workers from taking messages")
    if seen and not any(not worker.is_late for worker in seen.workers):
        yield NextStep("graphnode worker", "starts a worker: none takes messages")
    if dead_letters(status):
        yield NextStep("graphnode dlq list", "lists the dead letters by reason, and says what to do")


def dead_letters(status: Status) -> int:
    """The dead letters that are on the queues now, as far as they are seen."""
    return sum(queue.dead_letters or 0 for queue in status.queues)


def dead_letters_explained(status: Status) -> str:
    """Why there are more or fewer dead letters now than messages given up in the last 24 hours; empty if not.

    A letter that is not from a worker was moved by SQS, or is the AI server's.
    """
    seen = status.activity
    if not seen or not seen.failures_are_exact or not status.queues or any(queue.problem for queue in status.queues):
        return ""
    now, given_up = dead_letters(status), sum(seen.given_up.values())
    if now > given_up:
        return f"{_letters(now)} now: {now - given_up:,} older, or not from a worker"
    if now < given_up:
        return f"{_letters(now)} now: the others are redriven or deleted, or being read"
    return ""


def _letters(count: int) -> str:
    return f"{count:,} dead letter{'s' * (count != 1)}"
