"""Two of the workers in `benchmarks.compare`: this project's broker and dramatiq_sqs."""

from __future__ import annotations

import os
from typing import Any

import dramatiq
import dramatiq_sqs
from dramatiq.middleware import AgeLimit, Callbacks, Retries, ShutdownNotifications, TimeLimit

from benchmarks.brokers import REGION, graphnode_broker
from benchmarks.compared import work
from graphnode.errors import DatabaseFault, PermanentError
from graphnode.sqs.circuit_breaker import CircuitBreaker
from graphnode.sqs.verdicts import RetryPolicy

ENDPOINT = os.environ["COMPARE_ENDPOINT"]
QUEUE = os.environ["COMPARE_QUEUE"]
VISIBILITY_S = int(os.environ["COMPARE_VISIBILITY_S"])
ATTEMPTS = int(os.environ["COMPARE_ATTEMPTS"])
BACKOFF_S = int(os.environ["COMPARE_BACKOFF_S"])
IS_OURS = os.environ["COMPARE_WORKER"] == "graphnode"


def make_broker() -> dramatiq.Broker:
    """The broker that COMPARE_WORKER names. dramatiq_sqs has the middleware that its documentation lists."""
    if IS_OURS:
        return graphnode_broker(
            queue=QUEUE,
            queue_url=os.environ["COMPARE_QUEUE_URL"],
            endpoint=ENDPOINT,
            visibility_s=VISIBILITY_S,
            policy=RetryPolicy(max_attempts=ATTEMPTS, backoff_min_s=BACKOFF_S, backoff_max_s=BACKOFF_S),
            breaker=CircuitBreaker({DatabaseFault.service: lambda _fault: work.ask_service()}),
        )
    milliseconds = BACKOFF_S * 1000
    baseline: dramatiq.Broker = dramatiq_sqs.SQSBroker(
        region_name=REGION,
        endpoint_url=ENDPOINT,
        dead_letter=True,
        visibility_timeout=VISIBILITY_S,
        middleware=[
            AgeLimit(),
            TimeLimit(),
            ShutdownNotifications(),
            Callbacks(),
            Retries(max_retries=ATTEMPTS - 1, min_backoff=milliseconds, max_backoff=milliseconds),
        ],
    )
    return baseline


dramatiq.set_broker(make_broker())


#: `throws` lists the errors that Dramatiq does not retry. In this project the error's class decides.
THROWS: dict[str, Any] = {} if IS_OURS else {"throws": (work.Hopeless,)}


@dramatiq.actor(queue_name=QUEUE, **THROWS)
def handle(name: str, kind: str, seconds: float) -> None:
    """Do the work, and raise the errors that this project's broker classifies."""
    try:
        work.handle(name, kind, seconds)
    except work.Hopeless as error:
        raise (PermanentError(f"hopeless: {name}") if IS_OURS else error) from error
    except ConnectionError as error:
        raise (DatabaseFault() if IS_OURS else error) from error
