"""The ledger of failures: how often a message has failed, kept in the database with its task's attempts."""

from __future__ import annotations

from graphnode.contract.task_ids import parse_task_id
from graphnode.errors import GraphNodeError
from graphnode.sqs.deliveries import Delivery
from graphnode.sqs.verdicts import DeadLetter
from graphnode.storage import failures
from graphnode.storage.database import database
from graphnode.storage.failures import Subject
from graphnode.telemetry.stacks import stack_of


class DatabaseLedger:
    """Counts failures by SQS's message ID, and lists them with the message's task. Raises psycopg2's errors."""

    def count(self, delivery: Delivery, error: GraphNodeError) -> int:
        """Record a failure of a message; how often it has failed by now."""
        return failures.record_failure(
            delivery.sqs_id,
            reason=error.reason,
            error=str(error),
            stack=stack_of(error),
            subject=subject_of(delivery),
        )

    def clear(self, delivery: Delivery) -> None:
        """Forget the failures of a message that has succeeded."""
        failures.clear_failures(delivery.sqs_id)

    def give_up(self, delivery: Delivery, dead: DeadLetter) -> None:
        """Record that SQS has taken a message's dead letter."""
        subject = subject_of(delivery)
        try:
            failures.record_dead_letter(
                delivery.sqs_id,
                attempt=dead.attempt,
                reason=dead.reason,
                # A row that names no user is not found when one is forgotten: it quotes nothing.
                error=dead.error if subject else dead.cause.log_text,
                stack=stack_of(dead.cause),
                subject=subject,
            )
        finally:
            # The thread that sends letters needs its connection rarely.
            database.give_back()

    def is_given_up(self, delivery: Delivery) -> bool:
        """Whether SQS has taken a message's dead letter."""
        try:
            return failures.is_dead_letter(delivery.sqs_id)
        finally:
            database.give_back()


def subject_of(delivery: Delivery) -> Subject | None:
    """The task that a message is about; None for the worker's own messages."""
    fields = delivery.options.get("log_fields", {})
    if "task_id" not in fields:
        return None
    user_id = fields.get("user_id") or parse_task_id(fields["task_id"]).user_id
    return Subject(fields["task_id"], fields["task_type"], user_id)
