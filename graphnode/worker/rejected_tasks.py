"""Tells the user when a result cannot be used: its task ends FAILED before its dead letter is sent."""

from __future__ import annotations

from typing import Any

import structlog
from dramatiq import Broker, MessageProxy, Middleware

from graphnode.broker import SQSBroker
from graphnode.contract.envelopes import ROUTES, Envelope
from graphnode.contract.rejections import rejected
from graphnode.errors import Postponed, TransientError, classify_error
from graphnode.sqs.deliveries import Delivery
from graphnode.sqs.verdicts import DeadLetter, Park
from graphnode.worker.blame import is_excused

log = structlog.get_logger("graphnode.worker")


class Rejections(Middleware):
    """Ends the task of a result that becomes a dead letter, as a FAILED result of the AI server would end it.

    It is done in one transaction, in the actor of the result. If that cannot be done now, the message starts again
    later. A redriven letter that succeeds still counts.
    """

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """End the task, after the verdict and before its letter."""
        assert isinstance(broker, SQSBroker)  # noqa: S101
        assert isinstance(message, Delivery)  # noqa: S101
        envelope = message.args[0] if message.args else None
        if not isinstance(message.verdict, DeadLetter) or not isinstance(envelope, Envelope):
            return
        end = None if envelope.is_rejected else rejected(envelope, message.verdict.reason)
        if end is None:
            return
        try:
            broker.get_actor(ROUTES[end.task_type].actor).fn(end)
        except Exception as raised:
            error = classify_error(raised)
            fields = {"reason": error.reason, "error": error.log_text}
            if isinstance(error, Postponed):
                verdict = broker.options.retry.decide(error, attempt=message.receive_count, parks=message.parks)
                log.debug("waits for its turn", **fields)
                message.verdict = verdict
            elif isinstance(error, TransientError) and is_excused(broker.breaker, message, error):
                log.info("will be started again", **fields)
                message.verdict = Park()
                message.met_outage = True
            else:
                # Another user's task, for example. The letter is sent all the same.
                log.warning("task not ended by its dead letter", **fields)
