"""One of the workers in `benchmarks.compare`: Celery on SQS.

It runs in its own environment, which has Celery and not this project. It is configured for at-least-once delivery as
Celery's documentation says: late acknowledgement, requeue when the process dies, and a back-off policy for failures.
`python -m benchmarks.compared.celery_worker` sends the messages in its standard input, a JSON array.
"""

from __future__ import annotations

import json
import os
import sys

from celery import Celery  # type: ignore[import-not-found]
from celery.exceptions import Reject  # type: ignore[import-not-found]

from benchmarks.compared import work

QUEUE = os.environ["COMPARE_QUEUE"]
ATTEMPTS = int(os.environ["COMPARE_ATTEMPTS"])
BACKOFF_S = int(os.environ["COMPARE_BACKOFF_S"])

TASK = "handle"

app = Celery("compared", broker=os.environ["COMPARE_ENDPOINT"].replace("http://", "sqs://test:test@"))
app.conf.update(
    broker_transport_options={
        "region": "us-east-1",
        # With the default of 1 s, kombu also waits 1 s whenever its prefetch is full: four messages a second.
        "polling_interval": 0.05,
        "predefined_queues": {
            QUEUE: {
                "url": os.environ["COMPARE_QUEUE_URL"],
                "access_key_id": "test",
                "secret_access_key": "test",
                "backoff_policy": dict.fromkeys(range(1, ATTEMPTS + 1), BACKOFF_S),
                "backoff_tasks": [TASK],
            }
        },
    },
    broker_connection_retry_on_startup=True,
    task_default_queue=QUEUE,
    task_acks_late=True,
    task_acks_on_failure=False,
    task_reject_on_worker_lost=True,
    worker_enable_remote_control=False,
    worker_prefetch_multiplier=1,
)


def handle(name: str, kind: str, seconds: float) -> None:
    """Do the work, and reject a message with a permanent error."""
    try:
        work.handle(name, kind, seconds)
    except work.Hopeless as error:
        raise Reject(str(error), requeue=False) from error


task = app.task(handle, name=TASK)


if __name__ == "__main__":
    for message in json.load(sys.stdin):
        task.apply_async(kwargs=message)
