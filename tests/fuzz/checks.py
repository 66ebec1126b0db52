"""What must hold of a refusal, and of what is accepted. A check raises Finding."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from graphnode.errors import GraphNodeError
from graphnode.rules.rows import ClusterRow, EdgeRow, NodeRow, SubclusterRow
from graphnode.storage.database import copy_lines
from graphnode.text import escaped

#: The most characters of a refusal's text. It is an attribute of the dead letter, a line on a terminal, a task's error.
LONGEST_REFUSAL = 1000

#: The most bytes of an index's row in PostgreSQL. https://www.postgresql.org/docs/current/btree.html
LONGEST_INDEX_ROW = 2704

#: Bytes that an index's row and each of its texts have beside their own.
INDEX_ROW_BYTES, INDEX_TEXT_BYTES = 16, 4

#: The longest user ID that an envelope may have, in bytes of UTF-8: 200 characters of four.
LONGEST_USER_ID = 800

#: What PostgreSQL's `integer` holds.
INTEGERS = range(-(2**31), 2**31)

Row = NodeRow | EdgeRow | ClusterRow | SubclusterRow

#: The columns of each table's keys beside `user_id`.
KEYS: dict[type[Row], Sequence[Sequence[str]]] = {
    NodeRow: [["id"], ["orig_id"], ["cluster_id"]],
    EdgeRow: [["source", "target"]],
    ClusterRow: [["id"]],
    SubclusterRow: [["id"], ["cluster_id"]],
}


class Finding(Exception):
    """What a target was made to find."""


def refused(error: GraphNodeError, kinds: type[GraphNodeError] | tuple[type[GraphNodeError], ...]) -> None:
    """See that a refusal is of the right class, names a place and a reason, is short, and can be printed."""
    text = str(error)
    if not isinstance(error, kinds):
        raise Finding(f"a refusal of the wrong class: {error!r}")
    if len(text) > LONGEST_REFUSAL:
        raise Finding(f"a refusal of {len(text)} characters: {text[:200]!r}")
    if text != escaped(text) or error.log_text != escaped(error.log_text):
        raise Finding(f"a refusal that cannot be printed: {text!r}")
    place, _, reason = text.partition(": ")
    if not place or not (reason or " " in place):
        raise Finding(f"a refusal without a place or a reason: {text!r}")


def stored_text(text: str | None, where: str) -> None:
    """See that PostgreSQL takes a text: it is UTF-8, and without NUL."""
    if text is None:
        return
    if "\0" in text:
        raise Finding(f"{where} has a NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Finding(f"{where} is no UTF-8") from None


def stored_key(where: str, *values: str | int | None) -> None:
    """See that a row of an index holds these values."""
    texts = [value for value in values if isinstance(value, str)]
    for text in texts:
        stored_text(text, where)
    size = INDEX_ROW_BYTES + sum(len(text.encode()) + INDEX_TEXT_BYTES for text in texts)
    if size > LONGEST_INDEX_ROW:
        raise Finding(f"{where} has {size} bytes: too many for an index")


def stored_json(value: Any, where: str) -> None:
    """See that PostgreSQL takes a value as `jsonb`: no NUL and no half of a surrogate pair in it."""
    try:
        text = msgspec.json.encode(value)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError, ValueError, TypeError) as error:
        raise Finding(f"{where} cannot be written as JSON: {error!r}") from None
    # msgspec writes a backslash of the text as two.
    if b"\\u0000" in text.replace(b"\\\\", b""):
        raise Finding(f"{where} has a NUL")


def stored_rows(rows: Iterable[Row], where: str) -> None:
    """See that PostgreSQL takes the rows of a table: each value, each key, and as a line of COPY."""
    for row in rows:
        for name, value in zip(row._fields, row, strict=True):
            _stored_value(value, f"{where}.{name}")
        for key in KEYS[type(row)]:
            stored_key(f"{where}'s key {key}", "u" * LONGEST_USER_ID, *(getattr(row, name) for name in key))
        (line,) = copy_lines([row])
        if line.count(b"\t") != len(row) - 1 or line.count(b"\n") != 1:
            raise Finding(f"{where} makes a line of COPY of another shape: {line[:200]!r}")


def _stored_value(value: Any, where: str) -> None:
    match value:
        case bool() | None | datetime():
            pass
        case str():
            stored_text(value, where)
        case int():
            if value not in INTEGERS:
                raise Finding(f"{where} is {value}: no integer of PostgreSQL's")
        case float():
            if not math.isfinite(value):
                raise Finding(f"{where} is {value}")
        case _:
            stored_json(value, where)


def same(one: Any, other: Any, what: str) -> None:
    """See that two results are the same. NaN is the same as NaN."""
    if repr(one) != repr(other):
        raise Finding(f"{what}: {repr(one)[:200]} and {repr(other)[:200]}")
