"""docs/architecture.md is true: its rooms, who imports whom, and every thread."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import graphnode

PACKAGE = Path(graphnode.__file__).parent
PROJECT = PACKAGE.parent
DOCUMENT = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")

#: Every module of the package, as a path below it.
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))

#: A row of a table, as its cells.
Row = list[str]

#: Where threads are that are no worker's; the last one's is of `graphnode migrate`.
ELSEWHERE = ("console/", "dev/", "operations/", "storage/migration_locks.py")


def chapter(heading: str) -> str:
    """The text of a chapter."""
    return DOCUMENT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def table(heading: str) -> list[Row]:
    """The rows of the table in a chapter."""
    lines = chapter(heading).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    assert len(rows) > 2, f"no table in the chapter {heading}"
    return rows[2:]


def named(cell: str) -> list[str]:
    """What a cell names as code."""
    return re.findall(r"`([^`]+)`", cell)


def floors() -> dict[str, int]:
    """The floor of each room in the chapter on imports, the ground being 0."""
    (drawn,) = re.findall(r"```text\n(.*?)```", chapter("Who imports whom"), re.DOTALL)
    lines = drawn.strip().splitlines()[::-1]
    return {room.strip(): floor for floor, line in enumerate(lines) for room in line.split("|")}


def room_of(module: Path) -> str:
    """The room of a module: the first folder below the package, or the module itself."""
    return module.parts[0].removesuffix(".py")


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


def dotted(module: Path) -> str:
    """The module's dotted name."""
    return ".".join(("graphnode", *module.with_suffix("").parts)).removesuffix(".__init__")


def test_the_top_of_the_package_has_the_rooms_of_the_document_and_nothing_else() -> None:
    described = set()
    for room, _ in table("Where a line of code belongs"):
        first, *beside = named(room)
        described |= {first, *(str(Path(first).parent / name) for name in beside)}
    there = {f"graphnode/{path.name}" for path in PACKAGE.glob("[!_]*.py")}
    there |= {f"graphnode/{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    tracked = {
        f"{path.name}/"
        for path in PROJECT.iterdir()
        if path.is_dir() and path.name[0] not in "._" and not path.name.endswith(".egg-info")
    }

    assert described == there | (tracked - {"graphnode/", "docs/", "build/", "dist/"})


def test_each_file_that_a_room_names_is_there() -> None:
    for room, about in table("Where a line of code belongs"):
        first, *_ = named(room)
        place = PROJECT / first if first.endswith("/") else (PROJECT / first).parent
        for name in re.findall(r"`([\w./]+(?:\.py|/))`", about):
            assert any((start / name).exists() for start in (place, PACKAGE)), f"{first}: {name}"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_point_down_one_way(module: Path) -> None:
    rooms = floors()
    own = room_of(module)
    if own in ("__init__", "request_payloads"):
        return
    reached = {name.split(".")[1] for name in imports(dotted(module)) if name.startswith("graphnode.")}

    assert {room for room in reached - {own} if rooms[room] >= rooms[own]} == set()


def test_only_the_package_of_the_actors_imports_what_puts_a_process_together() -> None:
    importing = {dotted(module) for module in MODULES if "graphnode.worker.startup" in imports(dotted(module))}

    assert importing == {"graphnode.actors"}


def reached_by(room: str) -> dict[str, list[str]]:
    """All that a room of the package reaches, by whatever way, and by which: the modules on it, from the room's own."""
    starts = [dotted(module) for module in MODULES if room_of(module) == room]
    found = {start: [start] for start in starts}
    left = list(found)
    while left:
        module = left.pop()
        # errors.py classifies the libraries' errors: whoever raises one of ours has imported them.
        if module.startswith("graphnode") and module != "graphnode.errors":
            new = imports(module) - found.keys()
            found |= {name: [*found[module], name] for name in new}
            left += new
    return found


NEVER = {named(room)[0]: named(never) for room, never, _ in table("Who imports whom")}


@pytest.mark.parametrize("room", NEVER)
def test_a_room_does_not_reach_what_the_document_says_it_does_not(room: str) -> None:
    ways = reached_by(room)

    assert NEVER[room]
    for name in NEVER[room]:
        package = f"graphnode.{name}" if name in floors() else name
        led = [way for reached, way in ways.items() if reached == package or reached.startswith(f"{package}.")]
        assert led == [], f"{room} reaches {name}: {' → '.join(led[0])}"


def test_a_library_that_a_room_does_not_reach_is_one_that_another_does() -> None:
    used = {name.split(".")[0] for module in MODULES for name in imports(dotted(module))}

    assert {name for never in NEVER.values() for name in never} <= used | set(floors())


def test_no_two_classes_have_one_name() -> None:
    places = defaultdict(list)
    for module in MODULES:
        for node in ast.parse((PACKAGE / module).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name[0] != "_":
                places[node.name].append(str(module))

    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


def test_two_modules_of_one_name_are_a_task_types_a_commands_or_the_notifications() -> None:
    task_types = {module.stem for module in MODULES if module.parts[0] == "actors"}
    places = defaultdict(list)
    for module in MODULES:
        is_command = module.parts[0] == "cli"
        is_stand_in = module.parts[:2] == ("dev", "ai") and module.stem in task_types
        if not (is_command or is_stand_in or module.stem in ("__init__", "notifications")):
            places[module.stem].append(str(module))

    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


def test_each_unit_test_stands_in_the_room_of_its_module_and_begins_with_its_name() -> None:
    rooms = PROJECT / "tests" / "unit"
    lost = []
    for test in rooms.rglob("test_*.py"):
        place = PACKAGE / test.parent.relative_to(rooms)
        subject = test.stem.removeprefix("test_")
        names = {path.stem for path in place.glob("[!_]*.py")} | {
            path.name for path in place.iterdir() if path.is_dir()
        }
        if not any(subject == name or subject.startswith(f"{name}_") for name in names):
            lost.append(str(test.relative_to(PROJECT)))

    assert lost == []


def test_each_thread_of_a_worker_is_in_the_table() -> None:
    started = set()
    for module in MODULES:
        if not str(module).startswith(ELSEWHERE):
            text = (PACKAGE / module).read_text(encoding="utf-8")
            started |= set(re.findall(r'(?:Thread|super\(\)\.__init__)\(.*\bname=f?"([a-z-]+)[{"]', text))
    in_table = {name.removesuffix("…") for name, *_ in table("Processes and threads") for name in named(name)}

    assert {"poller-", "settlement-"} <= started
    assert in_table == started
