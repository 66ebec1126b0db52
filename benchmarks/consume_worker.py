"""The worker that `benchmarks.consume` measures: a no-op actor on this project's broker, or on dramatiq_sqs's."""

from __future__ import annotations

import os

import dramatiq
import dramatiq_sqs
from dramatiq import Worker

from graphnode.broker import SQSBroker
from graphnode.metrics import Metrics
from graphnode.middleware import Ledger, worker_middleware
from graphnode.outages import Outages
from graphnode.queues import Options, Queue
from graphnode.traces import CARRIER, Traces
from graphnode.verdicts import RetryPolicy

ENDPOINT = os.environ["BENCHMARK_ENDPOINT"]
QUEUE = os.environ["BENCHMARK_QUEUE"]
QUEUE_URL = os.environ["BENCHMARK_QUEUE_URL"]
REGION = "us-east-1"

#: Those who look on, by the name of the broker that is measured with them.
OBSERVERS = {"metrics": Metrics, "traces": Traces}


def graphnode_broker(name: str) -> SQSBroker:
    """This project's broker, with the middleware of its worker, and with the observer of that name, if it is one's."""

    def prepare(worker: Worker) -> None:
        broker.connect(threads=worker.worker_threads)

    broker = SQSBroker(
        lambda: Options(
            queues={QUEUE: Queue(url=QUEUE_URL)},
            region=REGION,
            endpoint_url=ENDPOINT,
            poll_grace_s=1.0,
            message_attributes=CARRIER if name == "traces" else (),
        ),
        outages=Outages({}),
        middleware=[
            *([OBSERVERS[name]()] if name in OBSERVERS else []),
            *worker_middleware(
                prepare=prepare,
                policy=RetryPolicy,
                ledger=Ledger(lambda delivery, _: delivery.receive_count, lambda _: None, lambda *_: None),
                shutdown_timeout_s=lambda: 25.0,
                document_memory=lambda: 0,
            ),
        ],
    )
    return broker


def baseline_broker() -> dramatiq.Broker:
    """dramatiq_sqs as it comes."""
    broker: dramatiq.Broker = dramatiq_sqs.SQSBroker(region_name=REGION, endpoint_url=ENDPOINT)
    return broker


BROKER = os.environ["BENCHMARK_BROKER"]
dramatiq.set_broker(baseline_broker() if BROKER == "dramatiq_sqs" else graphnode_broker(BROKER))


@dramatiq.actor(queue_name=QUEUE)
def no_op(number: int) -> None:
    """Do nothing."""
