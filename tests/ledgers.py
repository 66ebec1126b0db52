"""A ledger of failures for tests that run the worker's middleware without a database."""

from __future__ import annotations

from collections import Counter

from graphnode.errors import GraphNodeError
from graphnode.sqs.deliveries import Delivery
from graphnode.sqs.verdicts import DeadLetter


class MemoryLedger:
    """Counts failures in memory, by message ID."""

    def __init__(self) -> None:
        self.failures = Counter[str]()
        self.letters: list[str] = []

    def count(self, delivery: Delivery, error: GraphNodeError) -> int:
        """Count a failure; how often the message has failed by now."""
        self.failures[delivery.sqs_id] += 1
        return self.failures[delivery.sqs_id]

    def clear(self, delivery: Delivery) -> None:
        """Do nothing: tests read the count."""

    def give_up(self, delivery: Delivery, dead: DeadLetter) -> None:
        """Keep the message's ID."""
        self.letters.append(delivery.sqs_id)

    def is_given_up(self, delivery: Delivery) -> bool:
        """Whether it was kept."""
        return delivery.sqs_id in self.letters
