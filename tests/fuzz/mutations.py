"""Mutations of JSON that keep most of the structure, so that a decoder gets far before it meets the change."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import msgspec

from graphnode.contract import documents, envelopes
from graphnode.contract.requests import REQUESTS
from graphnode.operations.dead_letters import letter_files
from graphnode.sqs import queues

#: A placeholder for one of RAW_TOKENS, which `json` cannot write.
RAW = "\ue000raw\ue000"

#: Tokens that are invalid JSON, or that few decoders accept.
RAW_TOKENS = [
    *(b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400", b"1e-400", b"-0", b"-0.0", b"1E+2", b"01", b"1.", b".5"),
    *(b"9" * 20, b"9" * 400, b"9" * 5000, b"-" + b"9" * 310, b"0." + b"1" * 400, b"1" + b"0" * 308 + b"e1"),
    *(rb'"\ud800"', rb'"\udc00\ud800"', rb'"\ud83d\ude00"', rb'"\u0000"', rb'"\\u0000"', rb'"a\u0000\ud800b"'),
    *(b'"\x00"', b'"\xff"', b'"\xc0\x80"', b'"\xed\xa0\x80"', b'"\x1b[31m"', b'"\n"', rb'"\x"', b'"', rb'"\"'),
    *(b"[", b"]", b"{", b"}", b",", b"", b"\xef\xbb\xbf", b"'a'", b"undefined"),
    *(b"[" * 1200 + b"]" * 1200, b'{"a":' * 600 + b"1" + b"}" * 600),
]

#: Values near a limit, and values that look like another type.
ODD: list[Any] = [
    *(None, "", True, False, [], {}, [[]], [{}], {"a": None}, [None], [""], [1, "2"], {"id": 1}, {"": ""}),
    *(0, 1, -1, 2, 7, 0.5, -0.5, 99.5, 100, 100.5, 1e15, 1e300, -1e300, 5e-324, 3.5e38, 1716537728, 1716537728.5),
    *(2**31 - 1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**40),
    *("0", "-1", "7", "12.5", "1e400", "nan", "inf", "-Infinity", "2147483648", "1_0", "٣", " 5", "true", "null"),
    *("COMPLETED", "FAILED", "high", "hard", "chat", "pdf", "block", "raw_file", "from_graphnode", "note"),
    *("cluster_1", "c2", "conv-1", "note-1", "src0_conv-1", "ada_note-1", "pdf_uf-1_report", "uf-1", "src0_", "_"),
    *("task_microscope_file_ada_01KS5VASM0TJW13004M3R3FV5P_block", "2026-05-24T08:02:08", "2026-05-24T08:02:60"),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "yesterday"),
    *("a\0b", "\x1b[31m", "\x7f", "\u202e", "\n\r\t", "\\N", "\\", '"', "é😀", "\ufeff", "İ", "\u2028", "\ue000"),
    *("x" * 199, "x" * 401, "x" * 451, "x" * 3000, "9" * 5000, "😀" * 200, "😀" * 450, "ab " * 2000),
]

#: The most copies of an element, and their characters.
MOST_COPIES = 5000
MOST_COPIED_CHARACTERS = 20_000

Mutate = Callable[[bytes, int], bytes]


def _field_names() -> list[str]:
    modules = (documents, envelopes, queues, letter_files)
    structs = [kind for module in modules for kind in vars(module).values() if isinstance(kind, msgspec.StructMeta)]
    structs += REQUESTS.values()
    names = {name for struct in structs for name in (*struct.__struct_encode_fields__, *struct.__struct_fields__)}
    spelt = {spelling for name in names for spelling in envelopes.spellings(name)}
    return sorted({*names, *spelt, "taskType", "taskId", "clusters", "block_graph", "embeddings", "notification_id"})


FIELD_NAMES = _field_names()

#: All task types.
TASK_TYPES = sorted({*envelopes.ROUTES, *REQUESTS})


def mutated(data: bytes, most_bytes: int, seed: int, mutate: Mutate) -> bytes:
    """The data after a mutation.

    Parameters:
      most_bytes: the longest result.
      mutate: mutates bytes up to a length. It is used for data that is not JSON, and sometimes for JSON.
    """
    random = Random(seed)
    if random.random() < 0.2:
        return mutate(data, most_bytes)
    head, body = _split(data)
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return mutate(data, most_bytes)
    try:
        for _ in range(random.choice((1, 1, 2, 3, 5))):
            value = _changed(value, random)
        changed = head + _written(value, random)
    except RecursionError:
        # It could be read, but its nesting is too deep for writing.
        return mutate(data, most_bytes)
    return changed if len(changed) <= most_bytes else mutate(data, most_bytes)


def _split(data: bytes) -> tuple[bytes, bytes]:
    """The part before the last NUL (the attributes of a dead letter), and the JSON."""
    head, nul, body = data.rpartition(b"\0")
    return head + nul, body


def _written(value: Any, random: Random) -> bytes:
    text = json.dumps(value, ensure_ascii=random.random() < 0.5)
    marked = json.dumps(RAW), json.dumps(RAW, ensure_ascii=False)
    data = text.encode(errors="surrogatepass")
    for mark in marked:
        while (found := mark.encode()) in data:
            data = data.replace(found, random.choice(RAW_TOKENS), 1)
    return (b"\xef\xbb\xbf" + data) if random.random() < 0.01 else data


def _changed(value: Any, random: Random) -> Any:
    places = list(_places(value))
    if not places or random.random() < 0.01:
        return _odd(random)
    holder, key = random.choice(places)
    match random.randrange(11):
        case 10 if isinstance(holder, list):
            # What is cheap once may be dear a thousand times.
            written = json.dumps(holder[key])
            times = min(MOST_COPIES, 1 + MOST_COPIED_CHARACTERS // len(written))
            holder.extend(json.loads(written) for _ in range(times))
        case 0:
            del holder[key]
        case 1:
            holder[key] = RAW
        case 2 | 3 if isinstance(holder, dict):
            holder[random.choice(FIELD_NAMES)] = _odd(random)
        case 4 if isinstance(holder, dict):
            holder[random.choice(FIELD_NAMES)] = holder.pop(key)
        case 4 if isinstance(holder, list):
            holder.insert(random.randrange(len(holder) + 1), holder[key])
        case 5:
            other, other_key = random.choice(places)
            # A copy, so that no value contains itself.
            holder[key] = json.loads(json.dumps(other.get(other_key) if isinstance(other, dict) else other[other_key]))
        case 6:
            holder[key] = random.choice(([holder[key]], {random.choice(FIELD_NAMES): holder[key]}, [holder[key]] * 3))
        case 7 if isinstance(holder[key], str):
            text, at = holder[key], random.randrange(len(holder[key]) + 1)
            odd = random.choice([odd for odd in ODD if isinstance(odd, str)])
            holder[key] = text[:at] + odd + text[at:]
        case 8 if isinstance(holder, dict) and key == "taskType":
            holder[key] = random.choice(TASK_TYPES)
        case _:
            holder[key] = _odd(random)
    return value


def _odd(random: Random) -> Any:
    odd = random.choice(ODD)
    return json.loads(json.dumps(odd)) if isinstance(odd, dict | list) else odd


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """All places in a value, as pairs of an object or array and a key or index."""
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        items = holder.items() if isinstance(holder, dict) else enumerate(holder) if isinstance(holder, list) else ()
        for key, item in items:
            yield holder, key
            waiting.append(item)
