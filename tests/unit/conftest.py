from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import dramatiq
import pytest

from graphnode.deliveries import Delivery

MakeDelivery = Callable[..., Delivery]


@pytest.fixture
def make_delivery() -> MakeDelivery:
    """Deliveries as a poll would make them."""
    made = 0

    def make(**changes: Any) -> Delivery:
        nonlocal made
        made += 1
        message = dramatiq.Message[None](
            queue_name="results", actor_name="work", args=(), kwargs={}, options={}, message_id=f"m-{made}"
        )
        fields: dict[str, Any] = {
            "queue_url": "https://sqs/results",
            "body": f"body {made}",
            "receipt_handle": f"r-{made}",
            "receive_count": 1,
            "sent_at": datetime.now(UTC),
            "visibility_s": 60,
        }
        return Delivery(message, **{**fields, **changes})

    return make
