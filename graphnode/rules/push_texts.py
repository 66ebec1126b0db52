"""The text and data of a push, within FCM's limit."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

import msgspec

from graphnode.contract.notifications import NOTICES, PushText
from graphnode.text import ZERO_WIDTH_JOINER, without_unprintable

#: The most bytes of a push's payload: FCM's limit of 4,096 without what it adds for APNs (`gcm.message_id`,
#: `google.c.…`, `aps`). https://firebase.google.com/docs/cloud-messaging/concept-options
LARGEST_PAYLOAD_BYTES = 4096 - 384

#: The body is cut to this many bytes first; then the data is cut.
LEAST_BODY_BYTES = 512

#: The data by which an app finds the notification. They are never cut.
KEYS = ("type", "taskId", "notificationId")

ELLIPSIS = "…"

#: The skin tones of emoji: like combining marks and the joiner, they belong to the character before them.
SKIN_TONES = range(0x1F3FB, 0x1F400)


def push_text(event: str, payload: Mapping[str, Any]) -> PushText:
    """Title and body of a push; names in the body are without unprintable characters."""
    text = NOTICES[event].push
    assert text, "a notification without a text is not pushed"  # noqa: S101
    shown = {name: without_unprintable(value) if isinstance(value, str) else value for name, value in payload.items()}
    return text._replace(body=text.body.format_map(shown))


def push_data(event: str, notification_id: str, payload: Mapping[str, Any]) -> dict[str, str]:
    """The data of a push: strings, always with `type` and `taskId` (the contract). Other values become JSON."""
    values = {
        key: value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for key, value in payload.items()
        if value is not None
    }
    return {"taskId": "", **values, "type": event, "notificationId": notification_id}


def truncate_to_fcm_limit(text: PushText, data: Mapping[str, str]) -> tuple[PushText, dict[str, str]]:
    """Text and data within FCM's limit: the body is cut first; if that is not enough, the longest data.

    The app finds the whole text by the notification's ID.
    """
    room = LARGEST_PAYLOAD_BYTES - len(msgspec.json.encode({"title": text.title, "body": "", **data}))
    least = min(_size(text.body), LEAST_BODY_BYTES)
    fitting = dict(data)
    while room < least and (others := [key for key in fitting if key not in KEYS and fitting[key] != ELLIPSIS]):
        longest = max(others, key=lambda key: _size(fitting[key]))
        size = _size(fitting[longest])
        fitting[longest] = truncate(fitting[longest], max_bytes=max(size - (least - room), size // 2))
        room += size - _size(fitting[longest])
    return text._replace(body=truncate(text.body, max_bytes=room)), fitting


def truncate(text: str, *, max_bytes: int) -> str:
    """The text, cut to `max_bytes` of JSON with an ellipsis. Characters that a reader sees as one are not split."""
    if _size(text) <= max_bytes:
        return text
    room, end = max_bytes - _size(ELLIPSIS), 0
    while end < len(text) and (room := room - _size(text[end])) >= 0:
        end += 1
    while end > 0 and _belong_together(text[end - 1], text[end]):
        end -= 1
    return text[:end].rstrip() + ELLIPSIS


def _belong_together(left: str, right: str) -> bool:
    is_mark = unicodedata.category(right).startswith("M") or ord(right) in SKIN_TONES
    return is_mark or ZERO_WIDTH_JOINER in (left, right)


def _size(text: str) -> int:
    """The size in bytes as JSON, without the quotes."""
    return len(msgspec.json.encode(text)) - 2
