"""The JSON that commands print."""

from __future__ import annotations

from typing import Any

import click


def echo_json(value: Any, *, on_one_line: bool = False) -> None:
    """Print a value as JSON, without a character that a terminal obeys or that cannot be seen."""
    import msgspec

    from graphnode.text import escaped_json

    # msgspec takes a negative indentation for none at all.
    indent = -1 if on_one_line else 2
    click.echo(escaped_json(msgspec.json.format(msgspec.json.encode(value), indent=indent).decode()))
