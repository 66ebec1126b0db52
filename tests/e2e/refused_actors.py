"""The worker's actors with fault injection: SQS refuses the operations that the file REFUSED_OPERATIONS names.

`SendMessage` is refused for dead-letter queues only.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from graphnode.actors import broker
from graphnode.clients.aws import Aws

__all__ = ["broker"]

#: What botocore gets in place of an answer.
REFUSAL = SimpleNamespace(status_code=403), {"Error": {"Code": "AccessDenied", "Message": ""}, "ResponseMetadata": {}}


def refuse(model: Any, params: dict[str, Any], **_: Any) -> object:
    """The refusal of an operation. None: SQS is asked."""
    if model.name not in Path(os.environ["REFUSED_OPERATIONS"]).read_text().split():
        return None
    return REFUSAL if model.name != "SendMessage" or b'-dlq"' in params["body"] else None


def client_that_is_refused(self: Aws, *arguments: Any) -> Any:
    """A client that asks `refuse` first."""
    made = client(self, *arguments)
    made.meta.events.register("before-call.sqs", refuse)
    return made


client = Aws.client
Aws.client = client_that_is_refused  # type: ignore[assignment, method-assign]
