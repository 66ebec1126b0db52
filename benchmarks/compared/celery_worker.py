"""One of the workers that `benchmarks.compare` sets side by side: Celery on SQS.

It runs in an environment of its own, which has Celery and not this project. Set up for at-least-once, as Celery's
documentation says: acknowledged late, requeued when its process dies, failures left to SQS with a back-off policy.
`python -m benchmarks.compared.celery_worker` sends the messages that standard input lists, in JSON.
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
        # Its default of 1 s is also its wait while its prefetch is full, and makes four messages a second of it.
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
    """Do the work, and give up what is hopeless."""
    try:
        work.handle(name, kind, seconds)
    except work.Hopeless as error:
        raise Reject(str(error), requeue=False) from error


task = app.task(handle, name=TASK)


if __name__ == "__main__":
    for message in json.load(sys.stdin):
        task.apply_async(kwargs=message)
