"""The worker's actors, in processes that record their calls to AWS in a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from botocore.client import BaseClient

from graphnode.actors import broker

__all__ = ["broker"]

make_call = BaseClient._make_api_call  # type: ignore[attr-defined]


def record_call(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
    """Record a call, and make it."""
    model = client.meta.service_model
    of_queue = parameters.get("QueueUrl") or parameters.get("QueueName", "")
    of_bucket = "/".join(filter(None, (parameters.get("Bucket"), parameters.get("Key"))))
    with Path(os.environ["RECORDED_CALLS"]).open("a") as file:
        file.write(f"{model.endpoint_prefix}\t{operation}\t{of_queue.rpartition('/')[2] or of_bucket}\n")
    return make_call(client, operation, parameters)


BaseClient._make_api_call = record_call  # type: ignore[attr-defined]
