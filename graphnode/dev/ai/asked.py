"""Requests as they come off the queue: read as liberally as the worker reads results."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import dramatiq
import msgspec

from graphnode.contract import envelopes, requests
from graphnode.contract.requests import AnyRequest, check_keys, problem_of
from graphnode.contract.values import utc
from graphnode.errors import InvalidEnvelope, InvalidRequest, UnknownTaskType
from graphnode.text import LONGEST_PROBLEM, excerpt

#: The Dramatiq queue that carries requests, and the one actor that serves them.
REQUEST_QUEUE = "requests"
ACTOR = "serve"

#: By the contract's name.
KINDS: dict[str, type[AnyRequest]] = {kind.request_type: kind for kind in requests.KINDS}


class Asked(NamedTuple):
    """A request.

    Parameters:
      task_id: its task's ID.
      sent_at: when the producer sent it: what documents that answer it are dated by.
      payload: what it asks for.
    """

    task_id: str
    sent_at: datetime
    payload: AnyRequest


def to_message(body: str, *, message_id: str, sent_at: datetime, receive_count: int) -> dramatiq.Message[None]:
    """Turn an SQS message's body into a Dramatiq message; the parameters are `graphnode.contract.envelopes.to_message`'s.

    Raises InvalidEnvelope or UnknownTaskType.
    """
    asked = read(body, sent_at=sent_at)
    fields = {"task_id": asked.task_id, "task_type": asked.payload.request_type, "user_id": asked.payload.user_id}
    return dramatiq.Message(
        queue_name=REQUEST_QUEUE,
        actor_name=ACTOR,
        args=(asked,),
        kwargs={},
        options={"log_fields": fields},
        message_id=message_id,
        message_timestamp=int(sent_at.timestamp() * 1000),
    )


def read(body: str, *, sent_at: datetime) -> Asked:
    """Read a request. Raises InvalidEnvelope or UnknownTaskType."""
    try:
        envelope = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidEnvelope(f"the body is not JSON ({excerpt(str(error), most=LONGEST_PROBLEM)})") from None
    except UnicodeEncodeError as error:
        raise InvalidEnvelope(f"the body is not UTF-8 text: {error.reason}") from None
    if not isinstance(envelope, dict):
        raise InvalidEnvelope("the body is not a JSON object")
    task_id, task_type = envelopes.peek(body)
    if not task_id or len(task_id) > envelopes.LONGEST_TASK_ID:
        raise InvalidEnvelope(f"taskId: expected a text of 1 to {envelopes.LONGEST_TASK_ID} characters")
    if task_type not in KINDS:
        raise UnknownTaskType(f"taskType is {excerpt(task_type or '')}: it is no request (known: {', '.join(KINDS)})")
    payload = _payload(envelope.get("payload"), KINDS[task_type])
    return Asked(task_id, utc(envelope.get("timestamp")) or sent_at, payload)


def _payload(fields: Any, kind: type[AnyRequest]) -> AnyRequest:
    """A payload in either spelling; null and "" mean that a field was not given."""
    if not isinstance(fields, dict):
        raise InvalidEnvelope("payload: expected an object")
    given = {}
    for field in msgspec.structs.fields(kind):
        spellings = {field.encode_name, field.name, _camel_case(field.name)}
        if field.name == "group_id":
            spellings |= {"workspaceId", "workspace_id"}
        values = [fields[name] for name in sorted(spellings) if fields.get(name) not in (None, "")]
        if values:
            given[field.encode_name] = values[0]
    try:
        payload = msgspec.convert(given, kind, strict=False)
        check_keys(payload)
    except msgspec.ValidationError as error:
        raise InvalidEnvelope(f"payload: {problem_of(error)}") from None
    except InvalidRequest as error:
        raise InvalidEnvelope(f"payload: {error}") from None
    return payload


def _camel_case(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(map(str.capitalize, rest))
