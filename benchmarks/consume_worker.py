"""The worker that `benchmarks.consume` measures: a no-op actor on this project's broker or on dramatiq_sqs's."""

from __future__ import annotations

import os

import dramatiq
import dramatiq_sqs

from benchmarks.brokers import REGION, graphnode_broker
from graphnode.worker.metrics import Metrics
from graphnode.worker.traces import CARRIER, Traces

ENDPOINT = os.environ["BENCHMARK_ENDPOINT"]
QUEUE = os.environ["BENCHMARK_QUEUE"]

#: The middleware that is measured, by the name in BENCHMARK_BROKER.
OBSERVERS = {"metrics": Metrics, "traces": Traces}


def make_broker(name: str) -> dramatiq.Broker:
    """dramatiq_sqs's broker with its defaults, or this project's broker, with the observer of this name if any."""
    if name == "dramatiq_sqs":
        baseline: dramatiq.Broker = dramatiq_sqs.SQSBroker(region_name=REGION, endpoint_url=ENDPOINT)
        return baseline
    return graphnode_broker(
        queue=QUEUE,
        queue_url=os.environ["BENCHMARK_QUEUE_URL"],
        endpoint=ENDPOINT,
        observers=[OBSERVERS[name]()] if name in OBSERVERS else [],
        message_attributes=CARRIER if name == "traces" else (),
    )


dramatiq.set_broker(make_broker(os.environ["BENCHMARK_BROKER"]))


@dramatiq.actor(queue_name=QUEUE)
def no_op(number: int) -> None:
    """Do nothing."""
