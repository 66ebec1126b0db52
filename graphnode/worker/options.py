"""What the settings mean for the broker."""

from __future__ import annotations

import os

from graphnode.clients import s3
from graphnode.contract.bodies import ids_of_body, lane_of_body
from graphnode.contract.envelopes import RESULT_QUEUE
from graphnode.contract.rejections import to_message_or_rejection
from graphnode.settings import settings
from graphnode.sqs.queues import Options, Queue
from graphnode.sqs.verdicts import RetryPolicy
from graphnode.worker import traces


def broker_options() -> Options:
    """The broker's options. Raises SettingsError."""
    known = settings()
    return Options(
        queues={
            RESULT_QUEUE: Queue(
                url=known.sqs_result_queue_url,
                decode=to_message_or_rejection,
                ids_of_body=ids_of_body,
                lane_of_body=lane_of_body,
            ),
        },
        aws=s3.aws(),
        retry=retry_policy(),
        visibility_s=known.visibility_timeout,
        poll_wait_s=known.poll_wait,
        poll_grace_s=known.poll_grace,
        shutdown_timeout_s=known.shutdown_timeout,
        message_attributes=traces.CARRIER if traces.are_wanted(os.environ) else (),
    )


def retry_policy() -> RetryPolicy:
    """How often and how fast a message or a push is tried again."""
    known = settings()
    return RetryPolicy(
        max_attempts=known.max_attempts,
        backoff_min_s=known.backoff_min,
        backoff_max_s=known.backoff_max,
    )
