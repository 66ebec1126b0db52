"""There is advice for each reason of a dead letter."""

from __future__ import annotations

from graphnode import errors
from graphnode.errors import AwsFault, GraphNodeError, ServiceFault
from graphnode.operations.dead_letters.advice import ADVICE, OF_EARLIER_VERSIONS, UNEXPLAINED, UNKNOWN, advice
from graphnode.sqs.verdicts import DeadLetter, RetryPolicy


def classes(kind: type[GraphNodeError]) -> set[type[GraphNodeError]]:
    return {kind}.union(*(classes(sub) for sub in kind.__subclasses__() if sub.__module__ == errors.__name__))


def test_every_reason_a_message_can_be_given_up_for_has_its_advice() -> None:
    policy = RetryPolicy(max_attempts=1)
    of_messages = classes(errors.PermanentError) | classes(errors.TransientError) - {ServiceFault, AwsFault}
    verdicts = {kind.reason: policy.decide(kind(), attempt=1) for kind in of_messages}

    reasons = {reason for reason, verdict in verdicts.items() if isinstance(verdict, DeadLetter)}
    assert set(ADVICE) == reasons | OF_EARLIER_VERSIONS | {UNEXPLAINED}


def test_a_reason_of_a_newer_worker_is_said_to_be_unknown() -> None:
    assert advice("NEW") == UNKNOWN
