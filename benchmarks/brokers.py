"""This project's broker with the worker's middleware, for the benchmarks' own actors."""

from __future__ import annotations

from collections.abc import Sequence

from dramatiq import Middleware

from graphnode.broker import SQSBroker
from graphnode.clients.aws import Aws
from graphnode.sqs.circuit_breaker import CircuitBreaker
from graphnode.sqs.queues import Options, Queue
from graphnode.sqs.verdicts import RetryPolicy
from graphnode.worker.middleware import ReceiveCounts, worker_middleware

REGION = "us-east-1"

#: Seconds that a stop waits for the poll in progress; the same as in development.
POLL_GRACE_S = 1.0


def graphnode_broker(
    *,
    queue: str,
    queue_url: str,
    endpoint: str,
    visibility_s: int = 60,
    policy: RetryPolicy | None = None,
    breaker: CircuitBreaker | None = None,
    observers: Sequence[Middleware] = (),
    message_attributes: Sequence[str] = (),
) -> SQSBroker:
    """A broker for one queue of messages in Dramatiq's encoding.

    Parameters:
      queue: the name of the Dramatiq queue.
      queue_url: its URL; the queue must have a redrive policy.
      endpoint: the URL of SQS.
      visibility_s: the visibility timeout in seconds.
      policy: the retry policy.
      breaker: the services whose outage stops the polls.
      observers: more middleware.
      message_attributes: the message attributes that polls ask for.
    """

    return SQSBroker(
        lambda: Options(
            queues={queue: Queue(url=queue_url)},
            aws=Aws(region=REGION, endpoint_url=endpoint),
            visibility_s=visibility_s,
            poll_grace_s=POLL_GRACE_S,
            retry=policy or RetryPolicy(),
            message_attributes=message_attributes,
        ),
        breaker=breaker or CircuitBreaker({}),
        middleware=[
            *observers,
            *worker_middleware(
                prepare=lambda broker, worker: broker.connect(threads=worker.worker_threads),
                ledger=ReceiveCounts(),
                document_memory=0,
            ),
        ],
    )
