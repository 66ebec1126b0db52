"""Checks of refusals and of accepted values. A check raises Finding."""

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

#: The most characters of a refusal, which becomes an attribute of a dead letter, a line on a terminal, a task's error.
LONGEST_REFUSAL = 1000

#: The most bytes of an index row in PostgreSQL. https://www.postgresql.org/docs/current/btree.html
LONGEST_INDEX_ROW = 2704

#: The overhead in bytes of an index row, and of each text in it.
INDEX_ROW_BYTES, INDEX_TEXT_BYTES = 16, 4

#: The longest user ID of an envelope in bytes of UTF-8: 200 characters of four bytes.
LONGEST_USER_ID = 800

#: The range of PostgreSQL's `integer`.
INTEGERS = range(-(2**31), 2**31)

Row = NodeRow | EdgeRow | ClusterRow | SubclusterRow

#: The columns of each table's keys, without `user_id`.
KEYS: dict[type[Row], Sequence[Sequence[str]]] = {
    NodeRow: [["id"], ["orig_id"], ["cluster_id"]],
    EdgeRow: [["source", "target"]],
    ClusterRow: [["id"]],
    SubclusterRow: [["id"], ["cluster_id"]],
}


class Finding(Exception):
    """A decoder is wrong."""


def refused(error: GraphNodeError, kinds: type[GraphNodeError] | tuple[type[GraphNodeError], ...]) -> None:
    """Check that a refusal has the right class, names a place and a reason, is short, and can be printed."""
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
    """Check that PostgreSQL accepts a text: it is UTF-8 without NUL."""
    if text is None:
        return
    if "\0" in text:
        raise Finding(f"{where} has a NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Finding(f"{where} is not UTF-8") from None


def stored_key(where: str, *values: str | int | None) -> None:
    """Check that these values fit into an index row."""
    texts = [value for value in values if isinstance(value, str)]
    for text in texts:
        stored_text(text, where)
    size = INDEX_ROW_BYTES + sum(len(text.encode()) + INDEX_TEXT_BYTES for text in texts)
    if size > LONGEST_INDEX_ROW:
        raise Finding(f"{where} has {size} bytes: too many for an index")


def stored_json(value: Any, where: str) -> None:
    """Check that PostgreSQL accepts a value as `jsonb`: without NUL and without unpaired surrogates."""
    try:
        text = msgspec.json.encode(value)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError, ValueError, TypeError) as error:
        raise Finding(f"{where} cannot be written as JSON: {error!r}") from None
    # msgspec writes a backslash in a text as two.
    if b"\\u0000" in text.replace(b"\\\\", b""):
        raise Finding(f"{where} has a NUL")


def stored_rows(rows: Iterable[Row], where: str) -> None:
    """Check that PostgreSQL accepts the rows of a table: each value, each key, and each line of COPY."""
    for row in rows:
        for name, value in zip(row._fields, row, strict=True):
            _stored_value(value, f"{where}.{name}")
        for key in KEYS[type(row)]:
            stored_key(f"{where}'s key {key}", "u" * LONGEST_USER_ID, *(getattr(row, name) for name in key))
        (line,) = copy_lines([row])
        if line.count(b"\t") != len(row) - 1 or line.count(b"\n") != 1:
            raise Finding(f"{where} makes a malformed line of COPY: {line[:200]!r}")


def _stored_value(value: Any, where: str) -> None:
    match value:
        case bool() | None | datetime():
            pass
        case str():
            stored_text(value, where)
        case int():
            if value not in INTEGERS:
                raise Finding(f"{where} is {value}: not an integer of PostgreSQL")
        case float():
            if not math.isfinite(value):
                raise Finding(f"{where} is {value}")
        case _:
            stored_json(value, where)


def same(one: Any, other: Any, what: str) -> None:
    """Check that two results are the same. NaN counts as the same as NaN."""
    if repr(one) != repr(other):
        raise Finding(f"{what}: {repr(one)[:200]} and {repr(other)[:200]}")
