"""Decoding of requests, as tolerant as the worker's decoding of results."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import dramatiq
import msgspec

from graphnode.contract.bodies import ids_of_body
from graphnode.contract.envelopes import LONGEST_TASK_ID, spellings
from graphnode.contract.object_keys import check_keys
from graphnode.contract.requests import REQUESTS, AnyRequest, problem_of
from graphnode.contract.values import utc
from graphnode.errors import ForbiddenKey, InvalidEnvelope, InvalidRequest, UnknownTaskType
from graphnode.text import LONGEST_PROBLEM, excerpt

#: The Dramatiq queue of requests, and the only actor, which handles all of them.
REQUEST_QUEUE = "requests"
ACTOR = "serve"


class ReceivedRequest(NamedTuple):
    """A decoded request. `sent_at` is the producer's time; the documents of the answer carry it too."""

    task_id: str
    sent_at: datetime
    payload: AnyRequest


def to_message(body: str, *, message_id: str, sent_at: datetime, receive_count: int) -> dramatiq.Message[None]:
    """Decode an SQS message's body to a Dramatiq message. Parameters as in `graphnode.contract.bodies.to_message`.

    Raises InvalidEnvelope or UnknownTaskType.
    """
    received = read(body, sent_at=sent_at)
    fields = {
        "task_id": received.task_id,
        "task_type": received.payload.request_type,
        "user_id": received.payload.user_id,
    }
    return dramatiq.Message(
        queue_name=REQUEST_QUEUE,
        actor_name=ACTOR,
        args=(received,),
        kwargs={},
        options={"log_fields": fields},
        message_id=message_id,
        message_timestamp=int(sent_at.timestamp() * 1000),
    )


def read(body: str, *, sent_at: datetime) -> ReceivedRequest:
    """Decode a request. Raises InvalidEnvelope or UnknownTaskType."""
    try:
        envelope = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidEnvelope(f"the body is not JSON ({excerpt(str(error), most=LONGEST_PROBLEM)})") from None
    except UnicodeEncodeError as error:
        raise InvalidEnvelope(f"the body is not UTF-8 text: {error.reason}") from None
    if not isinstance(envelope, dict):
        raise InvalidEnvelope("the body is not a JSON object")
    task_id, task_type = ids_of_body(body)
    if not task_id or len(task_id) > LONGEST_TASK_ID:
        raise InvalidEnvelope(f"taskId: expected a text of 1 to {LONGEST_TASK_ID} characters")
    if task_type not in REQUESTS:
        raise UnknownTaskType(
            f"taskType is {excerpt(task_type or '')}: it is not a request (known: {', '.join(REQUESTS)})"
        )
    payload = _payload(envelope.get("payload"), REQUESTS[task_type])
    return ReceivedRequest(task_id, utc(envelope.get("timestamp")) or sent_at, payload)


def _payload(fields: Any, kind: type[AnyRequest]) -> AnyRequest:
    """Decode a payload in camelCase or snake_case. null and "" mean that a field is missing."""
    if not isinstance(fields, dict):
        raise InvalidEnvelope("payload: expected an object")
    given = {}
    for field in msgspec.structs.fields(kind):
        values = [fields[name] for name in sorted(spellings(field.name)) if fields.get(name) not in (None, "")]
        if values:
            given[field.encode_name] = values[0]
    try:
        payload = msgspec.convert(given, kind, strict=False)
        check_keys(payload.s3_keys)
    except msgspec.ValidationError as error:
        raise InvalidEnvelope(f"payload: {problem_of(error)}") from None
    except (InvalidRequest, ForbiddenKey) as error:
        raise InvalidEnvelope(f"payload: {error}") from None
    return payload
