"""The ledger of failures: what it keeps of a message that has a dead letter."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import dramatiq
import pytest

from graphnode.errors import InvalidEnvelope
from graphnode.sqs.deliveries import Delivery
from graphnode.sqs.verdicts import DeadLetter
from graphnode.storage.database import database
from graphnode.worker.ledger import DatabaseLedger
from tests.integration.conftest import Query

pytestmark = pytest.mark.usefixtures("storage")

DEAD = DeadLetter("INVALID_ENVELOPE", "userId: got 'Ada'", 2, InvalidEnvelope("userId: got 'Ada'", log="userId"))

TASK = {"task_id": "task_add_node_ada_1", "task_type": "ADD_NODE_RESULT", "user_id": "ada"}


def delivery(**options: Any) -> Delivery:
    """A message with these options."""
    return Delivery(
        dramatiq.Message[None]("results", "add_node", (), {}, options, message_id="m"),
        queue_url="https://sqs/results",
        body="{}",
        sqs_id="m-1",
        receipt_handle="r-1",
        receive_count=2,
        sent_at=datetime.now(UTC),
        visibility_s=60,
    )


def test_a_dead_letter_is_kept_with_its_task_and_its_message(query: Query) -> None:
    ledger, message = DatabaseLedger(), delivery(log_fields=TASK)
    assert not ledger.is_given_up(message)

    ledger.give_up(message, DEAD)

    assert ledger.is_given_up(message)
    rows = query("SELECT message_id, task_id, user_id, attempt, reason, error, given_up FROM task_attempts")
    assert rows == [("m-1", TASK["task_id"], "ada", 2, "INVALID_ENVELOPE", "userId: got 'Ada'", True)]


def test_a_dead_letter_that_names_no_user_quotes_nothing(query: Query) -> None:
    ledger, message = DatabaseLedger(), delivery()

    ledger.give_up(message, DEAD)

    assert ledger.is_given_up(message)
    assert query("SELECT message_id, task_id, error, given_up FROM task_attempts") == [("m-1", None, "userId", True)]


def test_a_thread_that_has_used_the_ledger_lets_others_have_its_connection() -> None:
    ledger, message = DatabaseLedger(), delivery()

    ledger.give_up(message, DEAD)
    assert database.connection().is_spare  # type: ignore[no-untyped-call]
    ledger.is_given_up(message)
    assert database.connection().is_spare  # type: ignore[no-untyped-call]
