"""Which S3 keys a message may name: valid keys, below the allowed prefixes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from graphnode.errors import ForbiddenKey
from graphnode.text import LONGEST_PROBLEM, excerpt

#: In a prefix, it stands for the ID of the message's user.
USER = "{user_id}"

#: Prefixes of whole segments. Each ends in `/`: otherwise `graph/ada` would allow `graph/adam/` too.
_PREFIX = r"(?:(?:[^,{}/\s]+|\{user_id\})/)+"
PATTERN = rf"^{_PREFIX}(?:,\s*{_PREFIX})*$"

#: The most bytes of a key. https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
LONGEST_KEY_BYTES = 1024

#: A URL or an ARN: s3://bucket/key, file:///etc/passwd, arn:aws:s3:::bucket/key.
NO_KEY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|arn:", re.IGNORECASE)

#: Control characters. `graphnode forget` lists one key per line: a line break in a key would make two of it.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

#: With these segments, a proxy or an S3 that is not AWS's may leave the prefix or the bucket.
UPWARD = frozenset({".", ".."})


def check_keys(keys: Iterable[str], *, allowed: str | None = None, user_id: str = "") -> None:
    """Raise ForbiddenKey if a message may not name one of the keys.

    Parameters:
      allowed: the prefixes, in the form of `GRAPHNODE_S3_ALLOWED_PREFIXES`; None: any.
      user_id: the message's user.
    """
    prefixes = prefixes_of(allowed) if allowed else None
    for key in keys:
        fault = fault_of(key)
        if not fault and prefixes and not is_allowed(key, prefixes, user_id=user_id):
            fault = f"is below no prefix that results of {excerpt(user_id)!r} may name (GRAPHNODE_S3_ALLOWED_PREFIXES)"
        if fault:
            raise ForbiddenKey(f"The S3 key {excerpt(key, most=LONGEST_PROBLEM)!r} {fault}", log=f"an S3 key {fault}")


def fault_of(key: str) -> str | None:
    """Why no message may name a key, as the end of a sentence that begins with the key; None: it is valid."""
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
      prefixes: `{user_id}` stands for the user's ID. If that contains `/`, such a prefix allows nothing.
      user_id: the message's user.
    """
    usable = (prefix for prefix in prefixes if "/" not in user_id or USER not in prefix)
    return key.startswith(tuple(prefix.replace(USER, user_id) for prefix in usable))


def prefixes_of(text: str) -> list[str]:
    """The prefixes in a text that matches `PATTERN`."""
    return [prefix.strip() for prefix in text.split(",")]
