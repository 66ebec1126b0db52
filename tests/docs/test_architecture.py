"""docs/architecture.md is true: it has a room for every module, who reaches whom, and every thread."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import graphnode

PACKAGE = Path(graphnode.__file__).parent
PROJECT = PACKAGE.parent
DOCUMENT = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")

#: A row of a table, as its cells.
Row = list[str]

#: Where threads are that are no worker's; the last one's is of `graphnode migrate`.
ELSEWHERE = ("ai/", "dev/", "doctor/", "storage/migration_locks.py")


def table(heading: str) -> list[Row]:
    """The rows of the table in a chapter."""
    chapter = DOCUMENT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in chapter.splitlines() if line[:1] == "|"]
    assert len(rows) > 2, f"no table in the chapter {heading}"
    return rows[2:]


def named(cell: str) -> list[str]:
    """What a cell names as code."""
    return re.findall(r"`([^`]+)`", cell)


def rooms() -> set[str]:
    """The paths that the table of rooms names, seen from the project; a module beside another is in its directory."""
    found = set()
    for room, about in table("Where a line of code belongs"):
        first, *others = named(room)
        found.add(first)
        beside = [name for name in others if "/" not in name] + re.findall(r"`(\w+\.py)`", about)
        found |= {str(Path(first).parent / name) for name in beside} if first.endswith(".py") else set()
        found |= {name for name in others if "/" in name}
    return {name.rstrip("/") for name in found}


def test_each_module_and_each_directory_has_its_room() -> None:
    modules = {f"graphnode/{path.name}" for path in PACKAGE.glob("[!_]*.py")}
    packages = {f"graphnode/{path.parent.name}" for path in PACKAGE.glob("*/__init__.py")}
    directories = {
        path.name
        for path in PROJECT.iterdir()
        if path.is_dir() and path.name[0] not in "._" and not path.name.endswith(".egg-info")
    } - {"graphnode", "docs", "build", "dist"}

    assert modules | packages | directories == rooms()


def test_each_file_that_a_room_names_is_there() -> None:
    for room, about in table("Where a line of code belongs"):
        first, *_ = named(room)
        place = PROJECT / first if first.endswith("/") else (PROJECT / first).parent
        for name in re.findall(r"`([\w./]+(?:\.py|/))`", about):
            assert any((start / name).exists() for start in (place, PACKAGE, PROJECT)), f"{first}: {name}"


@cache
def imports(module: str) -> frozenset[str]:
    """What a module of the package imports, for more than its types: modules of the package, and others' packages."""
    path = PROJECT.joinpath(*module.split("."))
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8"))
    return frozenset(found for name in _imported(tree) for found in _modules(name))


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                pass
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(origin), names=names):
                yield from (f"{origin}.{alias.name}" for alias in names)
            case _:
                yield from _imported(node)


def _modules(name: str) -> Iterator[str]:
    """The modules that an imported name stands for: itself if it is one, and those that it is in."""
    parts = name.split(".")
    if parts[0] != "graphnode":
        yield parts[0]
        return
    for length in range(2, len(parts) + 1):
        path = PROJECT.joinpath(*parts[:length])
        if path.is_dir() or path.with_suffix(".py").exists():
            yield ".".join(parts[:length])


def reached_by(room: str) -> dict[str, list[str]]:
    """All that a room of the package reaches, by whatever way, and by which: the modules on it, from the room's own."""
    inside = PACKAGE / room
    own = [path.relative_to(PROJECT).with_suffix("") for path in inside.rglob("*.py")] if inside.is_dir() else []
    starts = [f"graphnode.{room}", *(".".join(path.parts).removesuffix(".__init__") for path in own)]
    found = {start: [start] for start in starts}
    left = list(found)
    while left:
        module = left.pop()
        # errors.py sorts the libraries' errors: whoever raises one of ours has imported them.
        if module.startswith("graphnode") and module != "graphnode.errors":
            new = imports(module) - found.keys()
            found |= {name: [*found[module], name] for name in new}
            left += new
    return found


NEVER = {named(room)[0]: named(never) for room, never, _ in table("Who knows whom")}


@pytest.mark.parametrize("room", NEVER)
def test_a_room_does_not_reach_what_the_document_says_it_does_not(room: str) -> None:
    ways = reached_by(room)

    assert NEVER[room]
    for name in NEVER[room]:
        package = f"graphnode.{name}"
        if not (PACKAGE / name).is_dir() and not (PACKAGE / f"{name}.py").exists():
            package = name
        led = [way for reached, way in ways.items() if reached == package or reached.startswith(f"{package}.")]
        assert led == [], f"{room} reaches {name}: {' → '.join(led[0])}"


def test_a_library_that_a_room_does_not_reach_is_one_that_another_does() -> None:
    used = {name for path in PACKAGE.rglob("*.py") for name in _imported(ast.parse(path.read_text(encoding="utf-8")))}
    packages = {name.split(".")[0] for name in used} | {path.stem for path in PACKAGE.iterdir()}

    assert {name for never in NEVER.values() for name in never} <= packages


def test_each_thread_of_a_worker_is_told() -> None:
    started = set()
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if not str(path.relative_to(PACKAGE)).startswith(ELSEWHERE):
            started |= set(re.findall(r'(?:Thread|super\(\)\.__init__)\(.*\bname=f?"([a-z-]+)[{"]', text))
    told = {name.removesuffix("…") for name, *_ in table("Processes and threads") for name in named(name)}

    assert {"poller-", "heartbeat"} <= started
    assert told == started
