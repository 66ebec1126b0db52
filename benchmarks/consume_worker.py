"""The worker that `benchmarks.consume` measures: a no-op actor on this project's broker, or on dramatiq_sqs's."""

from __future__ import annotations

import os

import dramatiq
import dramatiq_sqs
from dramatiq import Worker

from graphnode.broker import SQSBroker
from graphnode.middleware import Ledger, worker_middleware
from graphnode.outages import Outages
from graphnode.queues import Options, Queue
from graphnode.verdicts import RetryPolicy

ENDPOINT = os.environ["BENCHMARK_ENDPOINT"]
QUEUE = os.environ["BENCHMARK_QUEUE"]
QUEUE_URL = os.environ["BENCHMARK_QUEUE_URL"]
REGION = "us-east-1"


def graphnode_broker() -> SQSBroker:
    """This project's broker, with the middleware of its worker."""

    def prepare(worker: Worker) -> None:
        broker.connect(threads=worker.worker_threads)

    broker = SQSBroker(
        lambda: Options(queues={QUEUE: Queue(url=QUEUE_URL)}, region=REGION, endpoint_url=ENDPOINT, poll_grace_s=1.0),
        outages=Outages({}),
        middleware=worker_middleware(
            prepare=prepare,
            policy=RetryPolicy,
            ledger=Ledger(lambda delivery, _: delivery.receive_count, lambda _: None, lambda *_: None),
            shutdown_timeout_s=lambda: 25.0,
            document_memory=lambda: 0,
        ),
    )
    return broker


def baseline_broker() -> dramatiq.Broker:
    """dramatiq_sqs as it comes."""
    broker: dramatiq.Broker = dramatiq_sqs.SQSBroker(region_name=REGION, endpoint_url=ENDPOINT)
    return broker


dramatiq.set_broker(graphnode_broker() if os.environ["BENCHMARK_BROKER"] == "graphnode" else baseline_broker())


@dramatiq.actor(queue_name=QUEUE)
def no_op(number: int) -> None:
    """Do nothing."""
