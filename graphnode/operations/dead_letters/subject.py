"""Which letters an action is about, in words for the audit table: without user data, unless they are one user's."""

from __future__ import annotations

from typing import NamedTuple

from graphnode.contract.task_ids import parse_task_id
from graphnode.operations.dead_letters.letters import LetterFilter


class ActionSubject(NamedTuple):
    """The letters in words, and the user that they name; None if they name none."""

    text: str
    user_id: str | None


def subject_of(wanted: LetterFilter, *, queues: str = "", count: int | None = None) -> ActionSubject:
    """The subject of an action.

    Parameters:
      queues: the names of the queues; empty: all.
      count: how many letters match, if it is known.
    """
    user_id = wanted.user_id
    if wanted.task_id and not user_id:
        user_id = parse_task_id(wanted.task_id).user_id
    parts = ["dead letters" if count is None else f"{count:,} dead letter{'s' * (count != 1)}"]
    parts += [f"of {queues}"] if queues else []
    parts += [f"with {wanted.reason}"] if wanted.reason else []
    parts += [f"of type {wanted.task_type}"] if wanted.task_type else []
    parts += [f"older than {wanted.older_than}"] if wanted.older_than else []
    if wanted.task_id:
        parts.append(f"of task {wanted.task_id}" if user_id else "of one task")
    if wanted.user_id:
        parts.append(f"of user {wanted.user_id}")
    parts += ["that were chosen"] if wanted.message_ids else []
    return ActionSubject(" ".join(parts), user_id)
