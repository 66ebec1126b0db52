"""Migrations let workers continue: squawk checks their SQL, and the tests here check what squawk does not know.

Migrations of earlier releases are applied already: they are not checked, and must not change what they do.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from graphnode.storage import schema
from tests import previous_release

NEXT_RELEASE = Path(__file__).parents[2] / "next_release"
UPGRADING = Path(__file__).parents[3] / "docs" / "upgrading.md"
FILES = sorted(schema.MIGRATIONS.glob("[0-9]*.py"))
RELEASED = previous_release.migrations()
NEW = [file for file in FILES if file.stem not in RELEASED]

#: The oldest supported PostgreSQL.
POSTGRES = "13.0"

#: Rules of squawk that are a matter of style, or that `graphnode migrate` follows for every migration.
LEFT_OUT = (
    "prefer-bigint-over-int",
    "prefer-bigint-over-smallint",
    "prefer-identity",
    "prefer-robust-stmts",
    "prefer-text-field",
    "require-lock-timeout",
    "require-statement-timeout",
)

#: Rules against removing what code may still use. A migration with a FLOOR may: older code does not start after it.
CONTRACTS = ("ban-drop-column", "ban-drop-table", "renaming-column", "renaming-table", "adding-required-field")


#: Whoever wants the table waits behind such a statement, for as long as it waits for its lock itself.
LOCKS_READERS_OUT = re.compile(r"\bALTER TABLE \w+\s+(?!VALIDATE CONSTRAINT)")


class Recorder:
    """Records the SQL of a migration, in place of the database."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        #: Statements outside a transaction, whose waits and times have no limits.
        self.unlimited: list[str] = []
        self._in_transaction = False

    def execute_sql(self, statement: str, parameters: object = None) -> Any:
        """Record the statement, unless it changes rows or the session; it has no result."""
        if not statement.lstrip().startswith(("SELECT", "SET", "WITH")):
            self.statements.append(statement.strip().rstrip(";") + ";")
            if not self._in_transaction:
                self.unlimited.append(statement)
        return SimpleNamespace(fetchone=lambda: None, rowcount=0)

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """A transaction without effect."""
        self._in_transaction = True
        yield
        self._in_transaction = False


def load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def faults(file: Path, directory: Path) -> list[str]:
    """The rules that a migration breaks."""
    module, recorder = load(file), Recorder()
    module.up(None, recorder)
    is_atomic, floor = getattr(module, "atomic", True), getattr(module, "FLOOR", None)
    text = directory / f"{file.stem}.sql"
    text.write_text("\n".join(recorder.statements))
    left_out = LEFT_OUT + (CONTRACTS if floor else ())
    options = [f"--exclude={','.join(left_out)}", f"--pg-version={POSTGRES}", "--reporter=json"]
    options += ["--assume-in-transaction"] if is_atomic else ["--no-assume-in-transaction"]
    squawk = Path(sys.executable).with_name("squawk")
    ran = subprocess.run([squawk, *options, text], capture_output=True, text=True, check=False)
    found = [report["rule_name"] for report in json.loads(ran.stdout)]

    sql = text.read_text()
    made = set(re.findall(r"CREATE TABLE (\w+)", sql))
    changed = set(re.findall(r"ALTER TABLE (?:ONLY )?(?:IF EXISTS )?(\w+)", sql)) - made
    if is_atomic and len(changed) > 1:
        found.append("more-than-one-table")
    if not is_atomic and any(LOCKS_READERS_OUT.search(statement) for statement in recorder.unlimited):
        found.append("waits-without-limit")
    if not floor and re.search(r"\bDROP DEFAULT\b", sql):
        found.append("drops-a-default")
    if floor and not is_atomic:
        found.append("contract-outside-a-transaction")
    return found


def breaking(statements: str, directory: Path, *, head: str = "") -> list[str]:
    file = directory / "9009_bad.py"
    file.write_text(f"{head}\n\n\ndef up(migrator, db):\n    db.execute_sql({statements!r})\n")
    return faults(file, directory)


def code_of(text: str) -> str:
    """A migration without its docstrings: what it does."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
    return ast.dump(tree)


def test_released_migrations_do_what_they_did() -> None:
    assert RELEASED
    now = {file.stem: code_of(file.read_text()) for file in FILES if file.stem in RELEASED}
    assert now == {name: code_of(text) for name, text in RELEASED.items()}


def test_they_are_numbered_without_gaps() -> None:
    assert [int(file.stem[:4]) for file in FILES] == list(range(1, len(FILES) + 1))


@pytest.mark.parametrize("file", NEW + sorted(NEXT_RELEASE.glob("[0-9]*.py")), ids=lambda file: file.stem)
def test_a_migration_lets_workers_continue(file: Path, tmp_path: Path) -> None:
    assert faults(file, tmp_path) == []


def test_every_statement_of_the_worker_names_its_columns() -> None:
    """A later release adds columns, and this one runs beside it."""
    careless = re.compile(r"(?:SELECT|RETURNING)\s+(?:\w+\.)?\*|INSERT\s+INTO\s+\S+\s+(?:VALUES|SELECT)", re.IGNORECASE)
    found = [
        f"{file.name}: {match[0]}"
        for file in schema.MIGRATIONS.parents[1].rglob("*.py")
        if schema.MIGRATIONS not in file.parents
        for match in careless.finditer(file.read_text())
    ]

    assert found == []


def test_a_contract_leaves_the_previous_release_what_it_needs() -> None:
    assert {floor for file in NEW if (floor := getattr(load(file), "FLOOR", None))} <= RELEASED.keys()


@pytest.mark.parametrize(
    ("statements", "rule"),
    [
        ("ALTER TABLE tasks DROP COLUMN error", "ban-drop-column"),
        ("DROP TABLE device_tokens", "ban-drop-table"),
        ("ALTER TABLE tasks RENAME COLUMN error TO fault", "renaming-column"),
        ("ALTER TABLE tasks RENAME TO jobs", "renaming-table"),
        ("ALTER TABLE tasks ADD COLUMN more text NOT NULL", "adding-required-field"),
        ("ALTER TABLE tasks ALTER COLUMN attempts DROP DEFAULT", "drops-a-default"),
        ("ALTER TABLE tasks ALTER COLUMN attempts TYPE bigint", "changing-column-type"),
        ("ALTER TABLE tasks ALTER COLUMN error SET NOT NULL", "adding-not-nullable-field"),
        ("ALTER TABLE tasks ADD COLUMN at timestamptz DEFAULT clock_timestamp()", "adding-field-with-default"),
        ("ALTER TABLE tasks ADD CONSTRAINT c CHECK (attempts < 100)", "constraint-missing-not-valid"),
        ("ALTER TABLE tasks ADD CONSTRAINT u UNIQUE (error)", "disallowed-unique-constraint"),
        ("ALTER TABLE tasks ADD CONSTRAINT f FOREIGN KEY (user_id) REFERENCES graphs", "adding-foreign-key-constraint"),
        ("CREATE INDEX tasks_error ON tasks (error)", "require-concurrent-index-creation"),
        ("DROP INDEX tasks_open", "require-concurrent-index-deletion"),
        (
            "CREATE INDEX CONCURRENTLY tasks_error ON tasks (error); ALTER TABLE tasks ADD COLUMN more text",
            "ban-concurrent-index-creation-in-transaction",
        ),
        ("BEGIN; ALTER TABLE tasks ADD COLUMN more text; COMMIT", "transaction-nesting"),
        (
            "ALTER TABLE tasks ADD COLUMN more text; ALTER TABLE graphs ADD COLUMN more text",
            "more-than-one-table",
        ),
    ],
    ids=lambda value: value if "-" in value and " " not in value else "",
)
def test_a_migration_that_would_stop_workers_is_refused(statements: str, rule: str, tmp_path: Path) -> None:
    assert rule in breaking(statements, tmp_path)


def test_a_table_is_changed_outside_a_transaction_only_with_limits(tmp_path: Path) -> None:
    head = "atomic = False"

    assert "waits-without-limit" in breaking("ALTER TABLE tasks ADD COLUMN more text", tmp_path, head=head)
    assert breaking("ALTER TABLE tasks VALIDATE CONSTRAINT c", tmp_path, head=head) == []
    assert breaking("ALTER TABLE tasks ADD COLUMN more text", tmp_path) == []


def test_a_contract_may_remove_something_but_lock_no_longer(tmp_path: Path) -> None:
    head = "FLOOR = '0008_floor'"

    assert breaking("ALTER TABLE tasks DROP COLUMN error", tmp_path, head=head) == []
    assert "changing-column-type" in breaking("ALTER TABLE tasks ALTER error TYPE integer", tmp_path, head=head)
    assert "contract-outside-a-transaction" in breaking(
        "ALTER TABLE tasks DROP COLUMN error", tmp_path, head=f"{head}\natomic = False"
    )


@pytest.mark.parametrize("file", sorted(NEXT_RELEASE.glob("[0-9]*.py")), ids=lambda file: file.stem)
def test_the_document_shows_the_tested_migrations(file: Path) -> None:
    assert f"```python\n{file.read_text()}```" in UPGRADING.read_text()
