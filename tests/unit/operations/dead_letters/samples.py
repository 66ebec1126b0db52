"""Letters that tests change one thing of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from graphnode.operations.dead_letters.letters import Letter, LetterInfo
from graphnode.sqs.dead_letter import attributes

NOW = datetime(2026, 5, 24, 12, tzinfo=UTC)


def make_letter(body: str, *, moved_by_sqs: bool = False, **said: Any) -> Letter:
    """A letter, with a worker's attributes if any are given."""
    stated = {"error": "busy", "attempt": 8, "task_id": None, "task_type": None, "failed_at": NOW, "worker": "w:1"}
    attached: Any = attributes(body, **{**stated, **said}) if said else {}
    return Letter("m-1", body, attached, "r-1", 3, NOW - timedelta(hours=1), moved_by_sqs)


def make_info(**changes: Any) -> LetterInfo:
    """What is known of a letter."""
    known: dict[str, Any] = {
        "queue": "results",
        "message_id": "m-1",
        "reason": "SERVICE_BUSY",
        "stated": True,
        "error": "busy",
        "task_id": "t-1",
        "task_type": "ADD_NODE_RESULT",
        "user_id": "ada",
        "notification_id": None,
        "attempts": 8,
        "received": 1,
        "since": NOW - timedelta(minutes=5),
        "worker": "w:1",
        "body_bytes": 2,
    }
    return LetterInfo(**{**known, **changes})
