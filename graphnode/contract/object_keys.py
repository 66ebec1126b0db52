"""Which objects in S3 a message may name: keys that are keys, below the prefixes that are allowed."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: Stands in a prefix for the ID of the user whom a message names.
USER = "{user_id}"

#: Prefixes, each of whole segments: it ends in `/`, or `graph/ada` would be the beginning of `graph/adam/` as well.
_PREFIX = r"(?:(?:[^,{}/\s]+|\{user_id\})/)+"
PATTERN = rf"^{_PREFIX}(?:,\s*{_PREFIX})*$"

#: The most bytes of a key. https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
LONGEST_KEY_BYTES = 1024

#: A URL or an ARN: s3://bucket/key, file:///etc/passwd, arn:aws:s3:::bucket/key.
NO_KEY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|arn:", re.IGNORECASE)

#: Controls: a line break in a key makes two of it where keys are listed a line each, as `graphnode forget` does.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

#: Segments that a proxy or another S3 than AWS's own may take for a way out: of the prefix, and of the bucket.
UPWARD = frozenset({".", ".."})


def fault_of(key: str) -> str | None:
    """What is wrong with a key whoever names it; the words follow on the key. None: nothing."""
    if NO_KEY.match(key):
        return "is a URL or an ARN: a key is expected"
    if UPWARD.intersection(re.split(r"[/\\]", key)):
        return "has a segment . or .."
    if CONTROL.search(key):
        return "has a control character"
    if len(key.encode(errors="surrogatepass")) > LONGEST_KEY_BYTES:
        return f"is longer than {LONGEST_KEY_BYTES} bytes"
    return None


def is_allowed(key: str, prefixes: Sequence[str], *, user_id: str) -> bool:
    """Whether a key is below one of the prefixes.

    Parameters:
      prefixes: `{user_id}` in one is the user's ID, which must be one segment: an ID with `/` would reach elsewhere.
      user_id: the user whom the message names.
    """
    mine = (prefix for prefix in prefixes if "/" not in user_id or USER not in prefix)
    return key.startswith(tuple(prefix.replace(USER, user_id) for prefix in mine))


def prefixes_of(text: str) -> list[str]:
    """The prefixes of a text that matches `PATTERN`."""
    return [prefix.strip() for prefix in text.split(",")]
