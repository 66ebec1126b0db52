"""`python -m tests.mutants`: its verdicts on a small repository, and whether every mutant still applies."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutants.__main__ import REPOSITORY
from tests.mutants.catalogue import CATALOGUE, Mutant, OutdatedMutant
from tests.mutants.run import ChecksFail, Outcome, Verdict, try_all

COUNTING = "def after(number):\n    return number + 1\n"

IMPORT = "from counting import after\n\n"

CHECKS = {
    "seeing/test_seeing.py": IMPORT + "def test_counts_up():\n    assert after(1) > 1\n",
    "blind/test_blind.py": IMPORT + "def test_counts():\n    assert after(1) is not None\n",
    "beside/test_beside.py": IMPORT + "def test_counts():\n    assert after(1) is not None\n",
    "beside/test_more.py": IMPORT + "def test_counts_up():\n    assert after(1) > 1\n",
    "fixture/test_fixture.py": "import pytest\n"
    + IMPORT
    + "@pytest.fixture(autouse=True)\ndef counted():\n    assert after(1) > 1\n\ndef test_counts():\n    pass\n",
    "endless/test_endless.py": "import time\n"
    + IMPORT
    + "def test_arrives():\n    at = 1\n    while at < 9:\n        at = after(at)\n        time.sleep(0.01)\n",
}

MUTANT = Mutant(
    name="caught",
    what="one less instead of one more",
    file="counting.py",
    old="return number + 1",
    new="return number - 1",
    checks=("seeing/test_seeing.py",),
)

MUTANTS = [
    MUTANT,
    replace(MUTANT, name="seen by none", checks=("blind/test_blind.py",)),
    replace(MUTANT, name="seen by another", checks=("beside/test_beside.py",)),
    replace(MUTANT, name="seen by a fixture", checks=("fixture/test_fixture.py",)),
    replace(MUTANT, name="does not import", old="def after", new="def before"),
    replace(MUTANT, name="does not run", new="return nummer"),
    replace(MUTANT, name="loses a file", new="return open('nowhere')"),
    replace(MUTANT, name="endless", checks=("endless/test_endless.py",)),
    replace(MUTANT, name="endless, explained", checks=("endless/test_endless.py",), hangs="it never arrives"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small repository with its checks and a copy of this tool."""
    made = tmp_path_factory.mktemp("repository")
    shutil.copytree(REPOSITORY / "tests" / "mutants", made / "tests" / "mutants")
    (made / "counting.py").write_text(COUNTING)
    for name, text in CHECKS.items():
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_text(text)
    return made


@pytest.fixture(scope="module")
def outcomes(made: Path) -> Iterator[dict[str, Outcome]]:
    """The outcomes of the small repository's mutants, by name."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tests.mutants.run.PATIENCE_S", 6.0)
        yield {outcome.name: outcome for outcome in try_all(made, MUTANTS, jobs=2)}


@pytest.fixture
def changed(made: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A function that copies the small repository with another text of its module."""

    def change(counting: str) -> Path:
        copy = tmp_path / "changed"
        shutil.copytree(made, copy)
        (copy / "counting.py").write_text(counting)
        return copy

    return change


def exists(check: str) -> bool:
    """Whether a check names existing tests."""
    file, *names = check.split("::")
    found: ast.AST = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
    for name in names:
        below = {
            node.name: node for node in ast.iter_child_nodes(found) if isinstance(node, ast.ClassDef | ast.FunctionDef)
        }
        if name not in below:
            return False
        found = below[name]
    return True


@pytest.mark.parametrize("mutant", CATALOGUE, ids=lambda mutant: mutant.name)
def test_every_mutation_still_applies_and_its_checks_are_there(mutant: Mutant) -> None:
    mutant.mutated(REPOSITORY)

    assert all(map(exists, mutant.checks))


def test_no_mutation_uses_a_name_that_is_not_there(tmp_path: Path) -> None:
    for mutant in CATALOGUE:
        (tmp_path / f"{mutant.name}{Path(mutant.file).suffix}").write_text(mutant.mutated(REPOSITORY), encoding="utf-8")

    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--no-cache",
        "--select",
        "F821,F823",
        str(tmp_path),
    ]
    checked = subprocess.run(command, capture_output=True, text=True)

    assert checked.returncode == 0, checked.stdout


def test_names_are_unique() -> None:
    assert len({mutant.name for mutant in CATALOGUE}) == len(CATALOGUE)


def test_a_mutation_whose_text_is_gone_fails_loudly_before_anything_runs(changed: Callable[[str], Path]) -> None:
    repository = changed("def after(number):\n    return 1 + number\n")

    with pytest.raises(OutdatedMutant, match=r"caught: the text is missing in counting\.py:\nreturn number"):
        list(try_all(repository, [MUTANT], jobs=1))


def test_a_mutation_of_a_text_that_is_there_twice_is_refused(changed: Callable[[str], Path]) -> None:
    with pytest.raises(OutdatedMutant, match="occurs 2 times"):
        MUTANT.mutated(changed(COUNTING * 2))


def test_a_mutation_that_is_no_python_is_refused(made: Path) -> None:
    with pytest.raises(OutdatedMutant, match=r"the changed counting\.py is not valid Python"):
        replace(MUTANT, new="return number -").mutated(made)


def test_checks_that_fail_on_the_code_as_it_is_say_nothing(changed: Callable[[str], Path]) -> None:
    repository = changed("def after(number):\n    return number + 1 - 2\n")

    with pytest.raises(ChecksFail, match=r"seeing/test_seeing\.py::test_counts_up: AssertionError: assert 0 > 1"):
        list(try_all(repository, [MUTANT], jobs=1))


def test_the_test_that_fails_has_caught_it_and_the_repository_stays_as_it_is(
    outcomes: dict[str, Outcome], made: Path
) -> None:
    caught = outcomes["caught"]

    assert (caught.verdict, caught.check) == (Verdict.CAUGHT, "seeing/test_seeing.py::test_counts_up")
    assert caught.message == "AssertionError: assert 0 > 1"
    assert (made / "counting.py").read_text() == COUNTING


def test_what_no_check_sees_has_survived(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["seen by none"].verdict is Verdict.SURVIVED


def test_what_the_first_checks_do_not_see_the_others_of_their_directory_may(outcomes: dict[str, Outcome]) -> None:
    caught = outcomes["seen by another"]

    assert (caught.verdict, caught.check) == (Verdict.CAUGHT, "beside/test_more.py::test_counts_up")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("does not import", "ImportError: cannot import name 'after'"),
        ("does not run", "NameError: name 'nummer' is not defined"),
        ("loses a file", "FileNotFoundError: [Errno 2] No such file or directory: 'nowhere'"),
        ("seen by a fixture", "AssertionError: assert 0 > 1"),
    ],
)
def test_what_fails_before_a_test_could_see_anything_has_caught_nothing(
    outcomes: dict[str, Outcome], name: str, message: str
) -> None:
    assert outcomes[name].verdict is Verdict.BROKEN
    assert message in outcomes[name].message


@pytest.mark.parametrize(
    ("name", "verdict", "message"),
    [
        ("endless", Verdict.HUNG, "did not end in time"),
        ("endless, explained", Verdict.TIMED_OUT, "it never arrives"),
    ],
)
def test_a_test_that_does_not_end_has_seen_it_only_if_the_catalogue_says_why(
    outcomes: dict[str, Outcome], name: str, verdict: Verdict, message: str
) -> None:
    found = outcomes[name]

    assert (found.verdict, found.check, found.message) == (verdict, "endless/test_endless.py::test_arrives", message)
