"""Writes the contract's files, and finds those that are out of date."""

from __future__ import annotations

from pathlib import Path

import msgspec

from graphnode.contract.schemas.asyncapi import asyncapi
from graphnode.contract.schemas.json_schemas import schemas
from graphnode.contract.schemas.typescript import typescript


def contract_files() -> dict[str, str]:
    """The contract's files, by their path in its directory."""
    made = schemas()
    return {
        **{f"schemas/{path}.json": _json(schema) for path, schema in made.items()},
        "asyncapi.json": _json(asyncapi()),
        "graphnode.d.ts": typescript(made),
    }


def export(directory: Path) -> list[str]:
    """Update the files in a directory, and delete schemas that no longer exist. Returns the changed paths."""
    files = contract_files()
    changed = outdated(directory)
    for path in changed:
        file = directory / path
        if path in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(files[path], encoding="utf-8")
        else:
            file.unlink()
    return changed


def outdated(directory: Path) -> list[str]:
    """The paths of the files in a directory that are old, missing or superfluous."""
    files = contract_files()
    there = {file.relative_to(directory).as_posix() for file in (directory / "schemas").rglob("*.json")}
    differing = [
        path
        for path, text in files.items()
        if not (file := directory / path).is_file() or file.read_text(encoding="utf-8") != text
    ]
    return sorted({*differing, *(there - files.keys())})


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"
