"""Compares the tables, pushes and dead letters after a run with the contract. It shares no code with the worker.

Results of one user that arrive together may take effect in any order. PostgreSQL recorded the order (`journal.py`). The
model applies the messages in that order, and must end with exactly the same tables. So every row is checked, and no
order is assumed. A message without an effect must be a repeat, or older than what is stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tests.chaos.journal import Attempt, Effect, PushStep
from tests.chaos.model import contract
from tests.chaos.model.contract import ENDED_BY, Refused
from tests.chaos.model.state import Message, Notification, State
from tests.chaos.model.tables import Tables
from tests.chaos.schedule import KINDS
from tests.chaos.traffic import DURING_THE_RUN, Traffic

#: The beginning of a registration token that FCM no longer knows.
GONE = "gone"

#: The attempts that a task's row may have. The contract promises no number, but the worker stops after too many.
ATTEMPTS = range(9)

#: Identifies a message: task ID, type, status, and for progress the time.
Key = tuple[str, str, str, datetime | None]


class Letter(NamedTuple):
    """A dead letter: its body and its reason."""

    body: str
    reason: str


class Notified(NamedTuple):
    """The push columns of a notification's row."""

    id: str
    user_id: str
    push_status: str


class Take(NamedTuple):
    """A push that FCM accepted."""

    notification_id: str
    token: str
    at: datetime


class Found(NamedTuple):
    """The state after a run.

    Parameters:
      tables: the rows, as `tests.chaos.model.tables` reads them.
      inconsistent: contradictions within the tables.
      effects, pushes: the records of `journal.py`.
      notified: the notifications.
      devices: the stored registration tokens.
      takes: the pushes that FCM accepted.
      letters: the dead letters.
      attempts: the attempts that were charged to messages.
      left: messages that are still on a queue.
    """

    tables: Tables
    inconsistent: Mapping[str, list[Any]]
    effects: Sequence[Effect]
    pushes: Mapping[str, Sequence[PushStep]]
    notified: Sequence[Notified]
    devices: frozenset[str]
    takes: Sequence[Take]
    letters: Sequence[Letter]
    attempts: Sequence[Attempt] = ()
    left: int = 0


class Verdict:
    """The differences, counted by kind, with a line for each."""

    def __init__(self) -> None:
        self.counts = Counter[str]()
        self.lines: list[str] = []

    def add(self, kind: str, line: str) -> None:
        """Add one difference."""
        self.counts[kind] += 1
        self.lines.append(f"{kind}: {line}")

    @property
    def is_good(self) -> bool:
        """Whether there is no difference."""
        return not self.lines


def check(traffic: Traffic, found: Found) -> Verdict:
    """All differences between the state after a run and the contract."""
    verdict = Verdict()
    expected = _explain(traffic, found, verdict)
    _compare_rows(expected, found, traffic, verdict)
    _compare_pushes(found, traffic, verdict)
    _compare_letters(traffic, found, verdict)
    _blame(found, verdict)
    for name, rows in found.inconsistent.items():
        verdict.add("wrong_rows", f"{name}: {rows}")
    if found.left:
        verdict.add("lost", f"{found.left} messages were still on a queue when the drain timed out")
    return verdict


# Effects and their order.


def _explain(traffic: Traffic, found: Found, verdict: Verdict) -> dict[str, State]:
    """The rows that each user's tables must have, from the effects in the order of their commits."""
    states = {user_id: State() for user_id in traffic.users}
    for workspace in traffic.workspaces:
        states[workspace.user_id].microscope_workspaces[workspace.id] = workspace
    for document in traffic.documents:
        states[document.user_id].microscope_documents[document.id] = document
    for task in traffic.requests:
        state = contract.after_registration(states[task.user_id], task.task_id, task.task_type, user_id=task.user_id)
        states[task.user_id] = contract.after_sweep(state, task.user_id)
    sent = {key_of(delivery.message): delivery for delivery in traffic.deliveries if delivery.message}
    seen: set[Key] = set()
    for effect in found.effects:
        key = key_of_effect(effect)
        delivery = sent.get(key)
        if delivery is None or delivery.message is None or delivery.user_id != effect.user_id:
            verdict.add("wrong_rows", f"an effect without a message: {effect}")
        elif key in seen:
            verdict.add("applied_twice", f"{effect.task_type} {effect.task_id} {effect.status} at {effect.at}")
        else:
            seen.add(key)
            try:
                states[effect.user_id] = contract.after(states[effect.user_id], delivery.message, attempt=0)
            except Refused as refusal:
                verdict.add("wrong_rows", f"{effect} must be refused: {refusal}")
    dead = {letter.body for letter in found.letters}
    bodies: dict[Key, set[str]] = {}
    for delivery in traffic.deliveries:
        if delivery.message:
            bodies.setdefault(key_of(delivery.message), set()).add(delivery.body)
    for key, delivery in sent.items():
        if key in seen or delivery.message is None or bodies[key] & dead:
            continue  # a dead letter is not lost; _compare_letters checks whether it is right
        if contract.after(states[delivery.user_id], delivery.message, attempt=0) != states[delivery.user_id]:
            verdict.add("lost", f"{' '.join(key[:3])} had no effect; its body is {delivery.body[:200]}")
    return states


def key_of(message: Message) -> Key:
    """The key of a message."""
    body = message.body
    task_type = ENDED_BY.get(body["taskType"], body["taskType"])
    if body["taskType"] in ENDED_BY:
        return body["taskId"], task_type, "PROGRESS", contract.moment(body["timestamp"])
    return body["taskId"], task_type, body["payload"]["status"], None


def key_of_effect(effect: Effect) -> Key:
    """The key of the message that had this effect. A superseded result was sent as COMPLETED."""
    if effect.status == "PROGRESS" and effect.progress_at:
        return effect.task_id, effect.task_type, effect.status, effect.progress_at.astimezone(UTC)
    status = "COMPLETED" if effect.status == "SUPERSEDED" else effect.status
    return effect.task_id, effect.task_type, status, None


# Rows.


def _compare_rows(expected: Mapping[str, State], found: Found, traffic: Traffic, verdict: Verdict) -> None:
    tables = [state.tables() for state in expected.values()]
    for name in State().tables():
        wanted = [_comparable(row, traffic) for rows in tables for row in rows[name]]
        stored = [_comparable(row, None) for row in found.tables[name]]
        if name == "notifications":
            _compare_notifications(wanted, stored, verdict)
            continue
        lacking, surplus = _difference(wanted, stored), _difference(stored, wanted)
        for row in surplus:
            verdict.add("wrong_rows", f"{name}: not expected: {row}")
        for row in lacking:
            verdict.add("wrong_rows", f"{name}: missing: {row}")


def _compare_notifications(wanted: list[Any], stored: list[Any], verdict: Verdict) -> None:
    """Each notification must be stored once, and its push must have the right status."""
    events_wanted = [row._replace(push_status="") for row in wanted]
    events_stored = [row._replace(push_status="") for row in stored]
    known = set(map(frozen, events_wanted))
    missing = _difference(events_wanted, events_stored)
    for row in missing:
        verdict.add("notifications_missing", f"missing: {row}")
    surplus = _difference(events_stored, events_wanted)
    for row in surplus:
        kind = "notifications_twice" if frozen(row) in known else "wrong_rows"
        verdict.add(kind, f"notifications: not expected: {row}")
    if not missing and not surplus:
        for row in _difference(wanted, stored):
            verdict.add("notifications_missing", f"wrong push status; expected: {row}")


def _comparable(row: Any, traffic: Traffic | None) -> Any:
    """A row without the values that the contract does not promise, or that only SQS knows.

    Parameters:
      traffic: for a row of the model, which does not know the devices; None for a stored row.
    """
    if hasattr(row, "attempts") and row.attempts in ATTEMPTS:
        row = row._replace(attempts=0)
    sent_at = getattr(row, "source_timestamp", None)
    if sent_at and DURING_THE_RUN < sent_at <= datetime.now(UTC):
        row = row._replace(source_timestamp=DURING_THE_RUN)
    if traffic and isinstance(row, Notification) and row.push_status == "PENDING":
        row = row._replace(push_status="SENT" if traffic.devices.get(row.user_id) else "SKIPPED")
    return row


def _difference(rows: Iterable[Any], others: Iterable[Any]) -> list[Any]:
    """The rows that the others lack, each as often as it is missing."""
    left = Counter(map(frozen, others))
    more = []
    for row in rows:
        if left[frozen(row)]:
            left[frozen(row)] -= 1
        else:
            more.append(row)
    return more


def frozen(value: Any) -> Any:
    """A hashable value that equals another one as in JSON: 1 equals 1.0, and the order of fields does not matter."""
    match value:
        case dict():
            return frozenset((name, frozen(field)) for name, field in value.items())
        case list() | tuple():
            return tuple(map(frozen, value))
    return value


# Pushes.


def _compare_pushes(found: Found, traffic: Traffic, verdict: Verdict) -> None:
    """Each push must reach each device; more than once only after a claim that never ended (docs/notifications.md)."""
    taken: dict[tuple[str, str], list[datetime]] = {}
    for take in found.takes:
        taken.setdefault((take.notification_id, take.token), []).append(take.at)
    known = {row.id for row in found.notified}
    pushed_to = set()
    for row in found.notified:
        if row.push_status in ("SENT", "FAILED"):
            pushed_to.add(row.user_id)
        for token in traffic.devices[row.user_id] if row.push_status == "SENT" else ():
            if not token.startswith(GONE) and (row.id, token) not in taken:
                verdict.add("notifications_missing", f"{row.id} is SENT, but {token} never got it")
    for (notification_id, token), times in taken.items():
        if notification_id not in known:
            verdict.add("wrong_rows", f"a push of {notification_id}, which is not stored, to {token}")
            continue
        steps = found.pushes.get(notification_id, [])
        claims = max((step.attempts for step in steps), default=0)
        done_at = next((step.at for step in steps if step.is_done), None)
        if len(times) > claims:
            verdict.add("notifications_twice", f"{notification_id} was claimed {claims} times; {token}: {times}")
        elif done_at and times[-1] > done_at:
            verdict.add(
                "notifications_twice", f"{notification_id} was done at {done_at}; {token} got it at {times[-1]}"
            )
    for user_id, tokens in traffic.devices.items():
        for token in tokens:
            is_kept = token in found.devices
            if is_kept == (token.startswith(GONE) and user_id in pushed_to):
                verdict.add("wrong_rows", f"device_tokens: {token} is {'still there' if is_kept else 'not there'}")


def repeated_pushes(takes: Iterable[Take]) -> int:
    """The number of pushes that a device got again."""
    return sum(times - 1 for times in Counter((take.notification_id, take.token) for take in takes).values())


# Dead letters.


def _compare_letters(traffic: Traffic, found: Found, verdict: Verdict) -> None:
    """Every poison message, and no other, must be a dead letter with the right reason. Duplicates are allowed."""
    poison = {delivery.body: delivery.reason for delivery in traffic.deliveries if delivery.reason}
    dead = {letter.body for letter in found.letters}
    for letter in found.letters:
        if poison.get(letter.body) != letter.reason:
            expected = poison.get(letter.body, "none")
            verdict.add("unexpected_dead_letters", f"{letter.reason} (expected: {expected}): {letter.body[:300]}")
    for body in poison.keys() - dead:
        verdict.add("lost", f"no dead letter for {body[:200]}")


# Attempts.


def _blame(found: Found, verdict: Verdict) -> None:
    """No attempt may be charged for an error that is everybody's."""
    errors = [kind.error for kind in KINDS.values() if kind.error]
    for attempt in found.attempts:
        if any(error in attempt.error for error in errors):
            verdict.add(
                "wrongly_charged", f"{attempt.task_id} at {attempt.at}: {attempt.reason}: {attempt.error[:300]}"
            )
