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
    is_exact,
)
from graphnode.contract.parts import Malformed, convert_parts, number_as_text
from graphnode.contract.repairs import (
    Warnings,
    add_count,
    without_lone_surrogates,
    without_not_finite,
    without_nul,
)
from graphnode.contract.requests import REQUESTS
from graphnode.contract.task_ids import NO_TASK, parse_task_id
from graphnode.contract.values import MOST_AHEAD
from graphnode.errors import InvalidEnvelope, MisplacedRequest, UnknownTaskType
from graphnode.text import LONGEST_PROBLEM, excerpt

#: The most characters of a refused value that an error's text quotes.
EXCERPT = 80

# msgspec analyzes a type at its first use. If two threads do that at once, the process crashes.
_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_name = msgspec.json.Decoder(str | int | float)

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
    warnings: Warnings = {}
    decoded = _decode_object(body, warnings)
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
    task_id = _task_id(fields, warnings)
    if task_id == NO_TASK and issubclass(route.payload, ResultPayload):
        task_id = message_id
    envelope = Envelope(
        task_id=task_id,
        task_type=route.task_type,
        timestamp=_timestamp(fields.get("timestamp"), sent_at, warnings),
        payload=decode_payload(fields.get("payload"), route.payload, warnings),
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
        fields, _ = _given_fields(_decode_object(body, {}))
    except InvalidEnvelope:
        return BodySummary()
    payload = fields.get("payload")
    named, _ = _given_fields(payload) if isinstance(payload, dict) else ({}, {})
    keys = [key for name, value in named.items() if "s3_" in name for key in _texts(value) if "\0" not in key]
    task_id, user_id = _as_id(fields.get("task_id")), _as_id(named.get("user_id"))
    task_type, bucket = (next(iter(_texts(value)), None) for value in (fields.get("task_type"), named.get("bucket")))
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
        if user_id := _raw_id(named.get("user_id"), longest=LONGEST_ID):
            return user_id
        task_id = _raw_id(fields.get("task_id"), longest=LONGEST_TASK_ID)
        return parse_task_id(task_id).user_id if task_id else None
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _raw_fields(text: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """An object's fields by name, undecoded. Raises msgspec's errors."""
    return {
        _name(key): value
        for key, value in reversed(_raw_object.decode(text).items())
        if bytes(value) not in (b"null", b'""')
    }


def _raw_id(value: msgspec.Raw | None, *, longest: int) -> str | None:
    """The text of an ID; None for what the decoder takes as not given."""
    try:
        found = _as_id(_raw_name.decode(value)) if value is not None else None
    except msgspec.ValidationError:
        return None
    return found if found and len(found) <= longest else None


def _as_id(value: Any) -> str | None:
    """The text of an ID, which may be a number; None for anything else, and for what PostgreSQL cannot store."""
    text = value if isinstance(value, str) else number_as_text(value)
    return text if text and "\0" not in text else None


def _texts(value: Any) -> list[str]:
    """The value if it is text, or the texts in a list."""
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]


def decode_payload(fields: Any, kind: type[Payload], warnings: Warnings) -> Payload:
    """Decode a payload in either spelling; null and "" mean that a field was not given.

    Parameters:
      warnings: counts the optional fields that are malformed: they count as not given.

    Raises InvalidEnvelope.
    """
    if not isinstance(fields, dict):
        raise InvalidEnvelope(f"payload: expected an object, got {_quoted(fields)}", log="payload: expected an object")
    given, keys = _given_fields(fields)
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError:
        pass
    try:
        return convert_parts(given, kind, warnings, at="payload")
    except Malformed as malformed:
        raise _invalid_payload(malformed, given, keys) from None


def _given_fields(fields: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields that have a value, by name; and the key that the producer used for each."""
    given: dict[str, Any] = {}
    keys: dict[str, str] = {}
    for key, value in fields.items():
        name = _name(key)
        if name and value not in (None, "") and name not in given:
            given[name], keys[name] = value, key
    return given, keys


def _name(key: str) -> str:
    """The field that a key means; empty for a key that is too long for any."""
    # Keys are cached by field_name: a thousand keys of a megabyte each would fill the memory.
    return field_name(key) if len(key) <= LONGEST_FIELD_NAME else ""


def _invalid_payload(malformed: Malformed, given: dict[str, Any], keys: dict[str, str]) -> InvalidEnvelope:
    """The error for a required field: it names the field by the producer's key, and quotes the value."""
    problem, name = malformed.problem, malformed.path.removeprefix(".")
    if missing := re.search(r"missing required field `(\w+)`", problem):
        return InvalidEnvelope(f"payload.{camel_case(missing[1])}: required, but not given")
    if name not in given:
        return InvalidEnvelope(f"payload.{problem}")
    if problem.startswith("Invalid enum value"):
        problem = f"Expected {' or '.join(get_args(Status))}"
    text = f"payload.{keys[name]}: {problem}"
    return InvalidEnvelope(f"{text}; it holds {_quoted(given[name])}", log=text)


def _decode_object(body: str, warnings: Warnings) -> dict[str, Any]:
    """The object that a body is, repaired as documents are. Raises InvalidEnvelope."""
    try:
        text = body.removeprefix("\ufeff").encode()
        fields = _parsed(text, warnings)
        if isinstance(fields, dict) and rb"\u0000" in text:
            fields = _with_exact(_parsed(without_nul(text, warnings), {}), fields)
    except (msgspec.DecodeError, RecursionError) as error:
        said = f"the body is not JSON ({excerpt(str(error), most=LONGEST_PROBLEM)})"
        raise InvalidEnvelope(f"{said}; it begins {_quoted(body)}", log=said) from None
    except UnicodeEncodeError as error:
        raise InvalidEnvelope(f"the body is not UTF-8 text: {error.reason}") from None
    if not isinstance(fields, dict):
        said = "the body is not a JSON object"
        raise InvalidEnvelope(f"{said}; it is {_quoted(fields)}", log=said)
    return fields


def _parsed(text: bytes, warnings: Warnings) -> Any:
    """The JSON value of a text. Lone surrogates, NaN and numbers like 1e400 are repaired. Raises msgspec's errors."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        repaired = without_not_finite(without_lone_surrogates(text, warnings), warnings)
        if repaired == text:
            raise
        return msgspec.json.decode(repaired)


def _with_exact(repaired: dict[str, Any], sent: dict[str, Any]) -> dict[str, Any]:
    """The repaired envelope, or payload, with the IDs and keys as they were sent."""
    fields = {key: value for key, value in repaired.items() if not is_exact(_name(key))}
    fields |= {key: value for key, value in sent.items() if is_exact(_name(key))}
    for key, value in fields.items():
        if _name(key) == "payload" and isinstance(value, dict) and isinstance(sent.get(key), dict):
            fields[key] = _with_exact(value, sent[key])
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


def _required_text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        found = f"it holds {_quoted(value)}" if value is not None else "it is not given"
        text = f"{camel_case(name)}: expected a text"
        raise InvalidEnvelope(f"{text}; {found}", log=text)
    return value


def _task_id(fields: dict[str, Any], warnings: Warnings) -> str:
    given = fields.get("task_id")
    if not isinstance(given, str) and (number := number_as_text(given)):
        add_count(warnings, "taskId read as text", 1)
        return number
    value = _required_text(fields, "task_id")
    if len(value) > LONGEST_TASK_ID:
        raise InvalidEnvelope(f"taskId: expected at most {LONGEST_TASK_ID} characters; it has {len(value)}")
    if "\0" in value:
        raise InvalidEnvelope("taskId: it holds the character U+0000, which PostgreSQL cannot store")
    return value


def _timestamp(value: Any, sent_at: datetime, warnings: Warnings) -> datetime:
    """The producer's time in UTC: UTC also where it has no zone. SQS's where it is missing, unreadable or far ahead."""
    if value is None:
        return sent_at
    try:
        time = datetime.fromisoformat(value)
        # OverflowError: the year 1 or 9999, which the zone moves out of the calendar.
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        add_count(warnings, "unreadable timestamp: replaced by SQS's", 1)
        return sent_at
    if time - sent_at > MOST_AHEAD:
        add_count(warnings, f"timestamp {time.isoformat()} is in the future: replaced by SQS's", 1)
        return sent_at
    return time


def _quoted(value: Any) -> str:
    shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return repr(shown if len(shown) <= EXCERPT else shown[:EXCERPT] + "…")
