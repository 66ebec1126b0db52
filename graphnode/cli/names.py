"""Options whose values are names of this program."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import click


class Name(click.types.StringParamType):
    """A known name, in any letter case. Of another one it says which names are near.

    Parameters:
      name: what it is called in the help, such as REASON.
      known: the names.
      more: said of a name that is unknown.
    """

    def __init__(self, name: str, known: Iterable[str], *, more: str = "") -> None:
        self.name = name
        self._known = {each.upper(): each for each in known}
        self._more = f" {more}" if more else ""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as this program writes it. Fails for an unknown one."""
        typed = str(value).strip().upper()
        if typed not in self._known:
            self.fail(f"{value!r} is unknown. {self._hint(typed)}{self._more}", param, ctx)
        return self._known[typed]

    def _hint(self, typed: str) -> str:
        near = get_close_matches(typed.replace("-", "_"), self._known, n=2)
        names = " or ".join(self._known[each] for each in near)
        return f"Did you mean {names}?" if near else f"It is one of {', '.join(sorted(self._known.values()))}."
