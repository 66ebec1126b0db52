"""From the body of an SQS message to a typed envelope for its actor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, get_args

import dramatiq
import msgspec

from graphnode.contract.envelopes import (
    LONGEST_ID,
    LONGEST_TASK_ID,
    RESULT_QUEUE,
    ROUTES,
    Envelope,
    Payload,
    ResultPayload,
    Status,
    camel_case,
    field_name,
)
from graphnode.contract.repairs import Warnings
from graphnode.contract.requests import REQUESTS
from graphnode.contract.task_ids import NO_TASK, parse_task_id
from graphnode.contract.values import MOST_AHEAD
from graphnode.errors import InvalidEnvelope, MisplacedRequest, UnknownTaskType
from graphnode.text import LONGEST_PROBLEM, excerpt

#: The most characters of a refused value that an error's text quotes.
EXCERPT = 80

# msgspec analyzes a type at its first use. If two threads do that at once, the process crashes.
_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_string = msgspec.json.Decoder(str)

#: No field has a name of more characters: longer keys are skipped.
LONGEST_FIELD_NAME = 64


def to_message(body: str, *, message_id: str, sent_at: datetime, receive_count: int) -> dramatiq.Message[None]:
    """Turn the body of a result into a Dramatiq message for its actor.

    Parameters:
      body: the envelope in JSON.
      message_id: SQS's ID of the message, for the logs. It is the task's ID where a result's names no task.
      sent_at: SQS's SentTimestamp, used when the producer gives no timestamp, or one in the future.
      receive_count: SQS's ApproximateReceiveCount.

    Raises InvalidEnvelope, UnknownTaskType or MisplacedRequest, all permanent.
    """
    decoded = _decode_object(body)
    fields, _ = _given_fields(decoded)
    if "task_type" not in fields and (event := _foreign_event(decoded)):
        raise InvalidEnvelope(f"the body is {event}")
    task_type = _required_text(fields, "task_type")
    if task_type in REQUESTS:
        raise MisplacedRequest(
            f"taskType is {task_type}: a request belongs on the request queue, not on the result queue"
        )
    if task_type not in ROUTES:
        raise UnknownTaskType(
            f"taskType is {_quoted(task_type)}: no actor handles it (known: {', '.join(ROUTES)})",
            log="no actor handles this taskType",
        )
    route = ROUTES[task_type]
    task_id = _task_id(fields)
    if task_id == NO_TASK and issubclass(route.payload, ResultPayload):
        task_id = message_id
    warnings: Warnings = {}
    envelope = Envelope(
        task_id=task_id,
        task_type=route.task_type,
        timestamp=_believed(_timestamp(fields.get("timestamp"), sent_at), sent_at, warnings),
        payload=decode_payload(fields.get("payload"), route.payload),
        attempt=receive_count,
        warnings=warnings,
    )
    return result_message(envelope, message_id=message_id, sent_at=sent_at, actor=route.actor)


def result_message(
    envelope: Envelope[Any],
    *,
    message_id: str,
    sent_at: datetime,
    actor: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> dramatiq.Message[None]:
    """The Dramatiq message for the actor of an envelope.

    Parameters:
      message_id, sent_at: SQS's.
      actor: the actor's name; None: the one of the results of this task type.
      options: more options of the message.
    """
    return dramatiq.Message(
        queue_name=RESULT_QUEUE,
        actor_name=actor or ROUTES[envelope.task_type].actor,
        args=(envelope,),
        kwargs={},
        options={"log_fields": _log_fields(envelope), **(options or {})},
        message_id=message_id,
        message_timestamp=int(sent_at.timestamp() * 1000),
    )


def _log_fields(envelope: Envelope[Any]) -> dict[str, str]:
    fields = {"task_id": envelope.task_id, "task_type": envelope.task_type}
    user_id = envelope.payload.user_id
    return {**fields, "user_id": user_id} if user_id else fields


class BodySummary(NamedTuple):
    """What can be read of a body, valid or not.

    Parameters:
      s3_keys: the S3 keys and key prefixes in its payload.
      bucket: their bucket, if it is not the payload bucket.
      notification_id: only in the worker's own messages.
    """

    task_id: str | None = None
    task_type: str | None = None
    user_id: str | None = None
    s3_keys: tuple[str, ...] = ()
    bucket: str | None = None
    notification_id: str | None = None


def summarize_body(body: str) -> BodySummary:
    """What can be read of the body of a result or request. Never fails: dead letters are summarized too."""
    try:
        fields, _ = _given_fields(_decode_object(body))
    except InvalidEnvelope:
        return BodySummary()
    payload = fields.get("payload")
    named, _ = _given_fields(payload) if isinstance(payload, dict) else ({}, {})
    keys = [key for name, value in named.items() if "s3_" in name for key in _texts(value)]
    task_id, task_type, user_id, bucket = (
        next(iter(_texts(value)), None)
        for value in (fields.get("task_id"), fields.get("task_type"), named.get("user_id"), named.get("bucket"))
    )
    return BodySummary(task_id if task_id != NO_TASK else None, task_type, user_id, tuple(keys), bucket)


def ids_of_body(body: str) -> tuple[str | None, str | None]:
    """Task ID and task type of a body; None for what cannot be read."""
    found = summarize_body(body)
    return found.task_id, found.task_type


def lane_of_body(body: str) -> str | None:
    """The user whose graph a result belongs to, as far as its body names one: this user's results are handled in turn.

    Only the names of fields are decoded, and the user's ID: quick, and small in memory, for any body. Never fails.
    """
    try:
        fields = _raw_fields(body.removeprefix("\ufeff").encode())
        named = _raw_fields(fields["payload"]) if "payload" in fields else {}
        user_id, task_id = _raw_text(named.get("user_id")), _raw_text(fields.get("task_id"))
        if user_id is None and task_id and len(task_id) <= LONGEST_TASK_ID:
            user_id = parse_task_id(task_id).user_id
        return user_id if user_id and len(user_id) <= LONGEST_ID else None
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _raw_fields(text: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """An object's fields by name, undecoded. Raises msgspec's errors."""
    return {
        field_name(key): value
        for key, value in reversed(_raw_object.decode(text).items())
        if len(key) <= LONGEST_FIELD_NAME and bytes(value) not in (b"null", b'""')
    }


def _raw_text(value: msgspec.Raw | None) -> str | None:
    return _raw_string.decode(value) if value is not None else None


def _texts(value: Any) -> list[str]:
    """The value if it is text, or the texts in a list."""
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]


def decode_payload(fields: Any, kind: type[Payload]) -> Payload:
    """Decode a payload in either spelling; null and "" mean that a field was not given. Raises InvalidEnvelope."""
    if not isinstance(fields, dict):
        raise InvalidEnvelope(f"payload: expected an object, got {_quoted(fields)}", log="payload: expected an object")
    given, keys = _given_fields(fields)
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid_payload(str(error), given, keys) from None


def _given_fields(fields: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields that have a value, by name; and the key that the producer used for each."""
    given: dict[str, Any] = {}
    keys: dict[str, str] = {}
    for key, value in fields.items():
        if len(key) > LONGEST_FIELD_NAME:
            # Keys are cached by field_name: a thousand keys of a megabyte each would fill the memory.
            continue
        name = field_name(key)
        if value not in (None, "") and name not in given:
            given[name], keys[name] = value, key
    return given, keys


def _invalid_payload(problem: str, given: dict[str, Any], keys: dict[str, str]) -> InvalidEnvelope:
    """The error for msgspec's problem: it names the field by the producer's key, and quotes the value."""
    if missing := re.search(r"missing required field `(\w+)`", problem):
        return InvalidEnvelope(f"payload.{camel_case(missing[1])}: required, but not given")
    if found := re.match(r"(.*) - at `\$\.(\w+)", problem):
        expected, name = found[1], found[2]
        if expected.startswith("Invalid enum value"):
            expected = f"Expected {' or '.join(get_args(Status))}"
        text = f"payload.{keys[name]}: {expected}"
        return InvalidEnvelope(f"{text}; it holds {_quoted(given[name])}", log=text)
    return InvalidEnvelope(f"payload.{problem.removesuffix(' - at `$`')}")


def _decode_object(body: str) -> dict[str, Any]:
    try:
        fields = msgspec.json.decode(body.removeprefix("\ufeff"))
        holds_nul = "\\u0000" in body and _holds_nul(fields)
    except (msgspec.DecodeError, RecursionError) as error:
        text = f"the body is not JSON ({excerpt(str(error), most=LONGEST_PROBLEM)})"
        raise InvalidEnvelope(f"{text}; it begins {_quoted(body)}", log=text) from None
    except UnicodeEncodeError as error:
        raise InvalidEnvelope(f"the body is not UTF-8 text: {error.reason}") from None
    if not isinstance(fields, dict):
        text = "the body is not a JSON object"
        raise InvalidEnvelope(f"{text}; it is {_quoted(fields)}", log=text)
    if holds_nul:
        raise InvalidEnvelope("a text in the envelope holds the character U+0000, which PostgreSQL cannot store")
    return fields


def _foreign_event(fields: dict[str, Any]) -> str | None:
    """What an AWS service put around or in place of an envelope, and what mends it. None for any other body."""
    match fields:
        case {"Type": "Notification", "TopicArn": _}:
            return "an SNS notification: turn on raw message delivery in the topic's subscription"
        case {"detail-type": _, "source": _}:
            return "an EventBridge event: have the rule's target send only the envelope (input path $.detail)"
        case {"Records": [{"eventSource": "aws:s3"}, *_]} | {"Service": "Amazon S3", "Event": "s3:TestEvent"}:
            return "an S3 event notification: remove this queue from the bucket's event notifications"
    return None


def _holds_nul(value: Any) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(_holds_nul(key) or _holds_nul(item) for key, item in value.items())
        case list():
            return any(map(_holds_nul, value))
    return False


def _required_text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        found = f"it holds {_quoted(value)}" if value is not None else "it is not given"
        text = f"{camel_case(name)}: expected a text"
        raise InvalidEnvelope(f"{text}; {found}", log=text)
    return value


def _task_id(fields: dict[str, Any]) -> str:
    value = _required_text(fields, "task_id")
    if len(value) > LONGEST_TASK_ID:
        raise InvalidEnvelope(f"taskId: expected at most {LONGEST_TASK_ID} characters; it has {len(value)}")
    return value


def _timestamp(value: Any, sent_at: datetime) -> datetime:
    """The producer's timestamp in UTC: UTC also where it has no zone, and SQS's where it is missing (the contract)."""
    if value is None:
        return sent_at
    try:
        time = datetime.fromisoformat(value)
        # OverflowError: the year 1 or 9999, which the zone moves out of the calendar.
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        text = "timestamp: expected ISO 8601 or null"
        raise InvalidEnvelope(f"{text}; it holds {_quoted(value)}", log=text) from None


def _believed(timestamp: datetime, sent_at: datetime, warnings: Warnings) -> datetime:
    """The producer's timestamp, or SQS's if the producer's clock is ahead of it by too much."""
    if timestamp - sent_at <= MOST_AHEAD:
        return timestamp
    warnings[f"timestamp {timestamp.isoformat()} is in the future: replaced by SQS's"] = 1
    return sent_at


def _quoted(value: Any) -> str:
    shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return repr(shown if len(shown) <= EXCERPT else shown[:EXCERPT] + "…")
