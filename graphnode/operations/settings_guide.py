"""docs/settings.md, and each setting as a process sees it."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from textwrap import fill
from typing import NamedTuple

from graphnode.settings import FIELDS, OTHERS, SECRETS, Settings, environment_name, expected_of, is_secret
from graphnode.text import printable

#: Columns of the document's text.
WIDTH = 120

#: Headings of the document, by the field that each stands before.
HEADINGS: Mapping[str, str] = {
    "database_url": "Services",
    "visibility_timeout": "Receiving",
    "poll_grace": "Stopping",
    "max_attempts": "Retrying",
    "max_document_bytes": "Documents",
    "task_timeout": "Tasks and pushes",
    "health_port": "Monitoring",
}

#: What the document begins with.
BEGINNING = """
The variables that a worker reads from its environment: what each does, and when to change it. `graphnode settings
--markdown` writes this page from `graphnode/settings.py`; a test fails while they differ.

Required: {required}. The worker checks all variables before it starts, and reports every fault at once. An empty
variable counts as not set; one that begins with `GRAPHNODE_` and is not on this page is a fault. Secrets ({secrets})
are never printed. `graphnode settings` shows what a process would see, and where it comes from:
"""

EXAMPLE = """```console
$ graphnode settings --env-file .graphnode.env
Services
  DATABASE_URL                    file         not shown
  AWS_REGION                      file         us-east-1
[…]
Receiving
  GRAPHNODE_VISIBILITY_TIMEOUT    default      60
  GRAPHNODE_POLL_WAIT             environment  1
[…]
```"""


class ShownSetting(NamedTuple):
    """A setting as a process sees it.

    Parameters:
      field: of `Settings`.
      value: as it may be shown; empty if it is not set.
      source: `file`, `environment`, `default`, `not set` or `missing`.
    """

    field: str
    value: str
    source: str


def shown_settings(environment: Mapping[str, str], file: Mapping[str, str]) -> Iterator[ShownSetting]:
    """Each setting as a process sees it that has this environment and, on top of it, the variables of a file."""
    for field, known in FIELDS.items():
        name = environment_name(field)
        # An empty variable of the file hides the environment's.
        given = (file if name in file else environment).get(name, "").strip()
        if given:
            value = "not shown" if is_secret(name, given) else printable(given)
            yield ShownSetting(field, value, "file" if name in file else "environment")
        elif known.required:
            yield ShownSetting(field, "", "missing")
        elif known.default is None:
            yield ShownSetting(field, "", "not set")
        else:
            yield ShownSetting(field, str(known.default), "default")


def guides() -> dict[str, str]:
    """The text below each field of `Settings`, as its source has it: what the setting does, and when to set it."""
    (kind,) = ast.parse(inspect.getsource(Settings)).body
    found = {}
    for pair in pairwise(kind.body if isinstance(kind, ast.ClassDef) else ()):
        match pair:
            case ast.AnnAssign(target=ast.Name(id=field)), ast.Expr(value=ast.Constant(value=str(text))):
                found[field] = inspect.cleandoc(text)
    return found


def markdown() -> str:
    """The text of docs/settings.md."""
    required = [f"`{environment_name(field)}`" for field, known in FIELDS.items() if known.required]
    secrets = [f"`{name}`" for name in map(environment_name, FIELDS) if name in SECRETS]
    parts = ["# Settings", _text(BEGINNING.format(required=", ".join(required), secrets=", ".join(secrets))), EXAMPLE]
    for field, guide in guides().items():
        if field in HEADINGS:
            parts.append(f"## {HEADINGS[field]}")
        does, setting = guide.split("\n\n")
        expected = f"*{_default(field)}. Expected: {expected_of(FIELDS[field].type)}.*"
        parts += [f"### {environment_name(field)}", *map(_text, (expected, does, f"**Setting it:** {setting}"))]
    rows = [f"| `{name}` | {text} |" for name, text in OTHERS.items()]
    parts += ["## What others read", "\n".join(["| variable | who reads it |", "|---|---|", *rows])]
    return "\n\n".join(parts) + "\n"


def _default(field: str) -> str:
    known = FIELDS[field]
    if known.required:
        return "Required"
    if known.default is None:
        return "Not set by default"
    unit = ""
    if field.endswith(("_bytes", "_memory")):
        unit = f" ({known.default >> 30} GiB)" if known.default >= 1 << 30 else f" ({known.default >> 20} MiB)"
    return f"Default `{known.default}`{' (a day)' if known.default == 86_400 else unit}"


def _text(text: str) -> str:
    """Paragraphs, their lines filled, each setting's name a link to its section."""
    names = "|".join(map(environment_name, FIELDS))
    linked = re.sub(f"`({names})`", lambda name: f"[{name[0]}](#{name[1].lower()})", text)
    paragraphs = linked.strip().split("\n\n")
    return "\n\n".join(fill(one, WIDTH, break_long_words=False, break_on_hyphens=False) for one in paragraphs)
