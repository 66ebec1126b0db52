"""How things are, in sentences: what is wrong, how bad it is, and what to do. The worst comes first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import IntEnum
from typing import NamedTuple

from graphnode.operations.status.sources import Activity, QueueState, Status

#: A result that has waited longer than this is late: alerts.yml says so, too.
LATE_RESULT = timedelta(minutes=15)

#: Pushes that are due for longer than this have nobody who sends them.
LATE_PUSH = timedelta(minutes=10)

#: The part of the attempts of the last hour that may fail without a word.
USUAL_FAILURES = 0.1

#: With fewer attempts in the hour a rate says nothing.
FEWEST_ATTEMPTS = 20


class Urgency(IntEnum):
    """How bad a condition is."""

    UNSEEN = 1
    """Something could not be read."""
    ATTENTION = 2
    """It may heal by itself; look at it today."""
    URGENT = 3
    """Users wait, or their data does, until somebody acts."""


class Condition(NamedTuple):
    """Something that is not as it should be.

    Parameters:
      advice: what to do.
      chapter: its chapter in docs/runbook.md.
    """

    urgency: Urgency
    text: str
    advice: str
    chapter: str


def conditions(status: Status) -> list[Condition]:
    """What is wrong, the worst first; empty if all is well."""
    found = [*_unseen(status), *_dead_letters(status)]
    if status.activity:
        found += [*_workers(status.activity, status.queues), *_results(status), *_work(status.activity, status.at)]
    return sorted(found, key=lambda condition: -condition.urgency)


def _unseen(status: Status) -> Iterator[Condition]:
    for sentence in status.unseen:
        # The database has an upper bound of the age instead.
        if not sentence.startswith("Oldest messages"):
            yield Condition(Urgency.UNSEEN, sentence, "Run `graphnode doctor`: it says why.", "")
    sees_queues = any(queue.waiting is not None for queue in status.queues)
    if status.activity is None or not sees_queues:
        yield Condition(
            Urgency.URGENT,
            "The database is not seen." if status.activity is None else "No queue is seen.",
            "Workers that cannot reach it either keep every message and go on by themselves once it is back.",
            "outage",
        )


def _dead_letters(status: Status) -> Iterator[Condition]:
    for queue in status.queues:
        if queue.dead_letters:
            yield Condition(
                Urgency.URGENT,
                f"{_number(queue.dead_letters, 'dead letter')} of {queue.name}: nobody handles "
                f"{'it' if queue.dead_letters == 1 else 'them'} again by itself.",
                "Look at the reasons under Dead letters, mend the cause, then redrive.",
                "dead-letters",
            )


def _workers(activity: Activity, queues: list[QueueState]) -> Iterator[Condition]:
    running = [worker for worker in activity.workers if not worker.is_late]
    if not running:
        waiting = sum(queue.waiting or 0 for queue in queues if queue.name == "results")
        yield Condition(
            Urgency.URGENT,
            f"No worker is running; {_number(waiting, 'result')} wait on the queue. Nothing is lost yet.",
            "Start the workers. SQS keeps a message for as long as its queue's retention period says.",
            "results-stuck",
        )
    elif late := len(activity.workers) - len(running):
        yield Condition(
            Urgency.ATTENTION,
            f"{_number(late, 'worker process', 'worker processes')} stopped without a goodbye, or cannot reach the "
            "database.",
            "Look at the host. Its messages have come back to the queue by themselves.",
            "results-stuck",
        )
    for outage in activity.outages:
        yield Condition(
            Urgency.URGENT,
            f"{outage.service} is away for {_number(outage.processes, 'worker process', 'worker processes')}"
            f"{f': {outage.error}' if outage.error else ''}.",
            outage.advice or "The workers go on by themselves once it is back.",
            "outage",
        )


def _results(status: Status) -> Iterator[Condition]:
    for queue in status.queues:
        if queue.name != "results" or queue.oldest_s is None or queue.oldest_s < LATE_RESULT.total_seconds():
            continue
        # The database's age is that of the oldest open task, which may still be with the AI server.
        if queue.oldest_from == "CloudWatch" and queue.waiting:
            yield Condition(
                Urgency.ATTENTION,
                f"The oldest result waits for {queue.oldest_s / 60:,.0f} minutes.",
                "Start more workers, or look for what slows them down.",
                "results-late",
            )


def _work(activity: Activity, at: datetime) -> Iterator[Condition]:
    failed, ended = sum(activity.failed_attempts.values()), activity.throughput.last_hour
    if failed + ended >= FEWEST_ATTEMPTS and failed > USUAL_FAILURES * (failed + ended):
        reason = next(iter(activity.failed_attempts))
        yield Condition(
            Urgency.ATTENTION,
            f"{failed / (failed + ended):.0%} of the attempts of the last hour failed, most by {reason}.",
            "They are tried again by themselves. Look at a task with this reason.",
            "",
        )
    pushes = activity.notifications
    if pushes.due and pushes.oldest_created_at and at - pushes.oldest_created_at > LATE_PUSH:
        yield Condition(
            Urgency.ATTENTION,
            f"{_number(pushes.due, 'push', 'pushes')} are due, the oldest since {pushes.oldest_created_at:%H:%M} UTC.",
            "The app shows the notifications all the same. Look for FCM's error in a task's story.",
            "notifications-stuck",
        )


def _number(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
