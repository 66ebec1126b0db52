"""Each rule of docs/contract.md has a proof, and each proof is an existing test."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from graphnode.contract.envelopes import ROUTES

TESTS = Path(__file__).parents[1]
DOCUMENT = TESTS.parent / "docs" / "contract.md"

#: The rows of the tables whose second column is headed "proof": a rule, and its proofs.
RULES = [
    tuple(cell.strip() for cell in row.strip("|").split("|"))
    for table in re.findall(r"^\| rule \| proof \|\n\|---\|---\|\n((?:\|.*\n)+)", DOCUMENT.read_text(), re.MULTILINE)
    for row in table.splitlines()
]

PROOFS = sorted({proof for _, proofs in RULES for proof in re.findall(r"`([^`]+)`", proofs)})


@cache
def names_in(file: str) -> set[str]:
    """The names of a file's tests. Those in a class are `Class::test`."""
    names = set()
    for node in ast.parse((TESTS / file).read_text()).body:
        match node:
            case ast.FunctionDef(name=name):
                names.add(name)
            case ast.ClassDef(name=name, body=body):
                # The class of a state machine inherits its test.
                names |= {name} | {f"{name}::{method.name}" for method in body if isinstance(method, ast.FunctionDef)}
    return names


@pytest.mark.parametrize("task_type", ROUTES)
def test_the_document_has_each_type(task_type: str) -> None:
    assert f"| `{task_type}`" in DOCUMENT.read_text() or f", `{task_type}` |" in DOCUMENT.read_text(), (
        "write a row for it into the table of payloads"
    )


def test_the_documents_rules_are_found() -> None:
    assert len(RULES) > 60


@pytest.mark.parametrize(("rule", "proofs"), RULES, ids=lambda cell: cell[:60])
def test_each_rule_has_a_proof(rule: str, proofs: str) -> None:
    assert re.fullmatch(r"`[^`]+`(?: `[^`]+`)*", proofs), f"no test is named for: {rule}"


@pytest.mark.parametrize("proof", PROOFS)
def test_each_proof_is_a_test(proof: str) -> None:
    file, _, name = proof.partition("::")

    assert name.rpartition("::")[2].lower().startswith("test")
    assert name in names_in(file)
