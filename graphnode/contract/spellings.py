"""The names that one field may have on the wire: camelCase, snake_case, and aliases."""

from __future__ import annotations

import re
from functools import lru_cache

#: Other names of a payload's field, all in snake_case.
ALIASES = {"workspace_id": "group_id"}

#: Fields that the AI server writes in snake_case instead of camelCase.
SNAKE_CASED = frozenset(
    {
        "chunks_count",
        "schema_name",
        "ingest_stats",
        "standardized_s3_key",
        "block_graph_s3_key",
        "images_s3_prefix",
    }
)


def spellings(name: str) -> list[str]:
    """Every name of a field on the wire; the first is the AI server's."""
    names = [name, *(alias for alias, field in ALIASES.items() if field == name)]
    usual = [each if each in SNAKE_CASED else camel_case(each) for each in names]
    return list(dict.fromkeys([*usual, *map(camel_case, names), *names]))


@lru_cache(maxsize=1024)
def field_name(key: str) -> str:
    """The field that a key of an envelope or payload means, in snake_case."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower()
    return ALIASES.get(name, name)


def camel_case(name: str) -> str:
    """A name in snake_case, written in camelCase."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
