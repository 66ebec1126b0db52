"""What make installs, and when."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from graphnode.dev import install_lock
from tests.docs.pages import PROJECT

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")

STAMPS = [".venv/.installed-test", ".venv/.installed-localstack"]
SOURCES = ["setup.cfg", "pyproject.toml", "locks/ai.txt", "locks/localstack.txt"]

#: A uv that only says what it was asked, and which index it was given.
UV = '#!/bin/sh\necho "uv $*"\necho "index: $UV_DEFAULT_INDEX"\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in which everything is installed, by a make of time 101; its sources are of time 100."""
    shutil.copy(PROJECT / "Makefile", tmp_path)
    for name in SOURCES:
        touch(tmp_path / name, at=100)
    lock = tmp_path / Path(install_lock.__file__).relative_to(PROJECT)
    lock.parent.mkdir(parents=True)
    shutil.copy(install_lock.__file__, lock)
    uv = tmp_path / ".venv" / "bin" / "uv"
    uv.parent.mkdir(parents=True)
    uv.write_text(UV)
    uv.chmod(0o755)
    interpreter = tmp_path / "python"
    interpreter.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    interpreter.chmod(0o755)
    touch(interpreter, at=99)
    (uv.parent / "python").symlink_to(interpreter)
    for name in (".venv/.uv", *STAMPS):
        touch(tmp_path / name, at=101)
    return tmp_path


def touch(path: Path, *, at: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (at, at))


def lock_of(name: str) -> str:
    return (PROJECT / "locks" / f"{name}.txt").read_text()


def make(checkout: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "UV_"))}
    return subprocess.run(
        ["make", *arguments], cwd=checkout, env={**environment, **variables}, capture_output=True, text=True
    )


def is_current(checkout: Path, stamp: str) -> bool:
    return make(checkout, "--question", stamp).returncode == 0


@pytest.mark.parametrize("stamp", STAMPS)
def test_nothing_is_current_before_the_first_installation(checkout: Path, stamp: str) -> None:
    (checkout / stamp).unlink()

    assert not is_current(checkout, stamp)


@pytest.mark.parametrize(
    ("stamp", "source"),
    [(STAMPS[0], "setup.cfg"), (STAMPS[0], "pyproject.toml"), (STAMPS[0], SOURCES[2]), (STAMPS[1], SOURCES[3])],
)
def test_an_installation_is_current_until_one_of_its_sources_changes(checkout: Path, stamp: str, source: str) -> None:
    assert is_current(checkout, stamp)

    touch(checkout / source, at=102)
    assert not is_current(checkout, stamp)


@pytest.mark.parametrize("stamp", STAMPS)
def test_an_environment_whose_python_has_gone_is_made_anew(checkout: Path, stamp: str) -> None:
    (checkout / "python").unlink()

    planned = make(checkout, "--dry-run", stamp).stdout

    assert "-m venv --clear .venv" in planned
    assert f"touch {stamp}" in planned


@pytest.mark.parametrize(
    "variables",
    [
        {"PIP_INDEX_URL": "https://mirror/simple"},
        {"PIP_CONFIG_FILE": "pip.conf"},
        {"PIP_INDEX_URL": "https://other/simple", "UV_DEFAULT_INDEX": "https://mirror/simple"},
    ],
)
def test_uv_gets_the_index_that_pip_is_configured_with(checkout: Path, variables: dict[str, str]) -> None:
    (checkout / "pip.conf").write_text("[global]\nindex-url = https://mirror/simple\n")
    touch(checkout / "setup.cfg", at=102)

    installed = make(checkout, STAMPS[0], **variables)

    assert installed.returncode == 0, installed.stderr
    assert "index: https://mirror/simple" in installed.stdout


@pytest.mark.parametrize(
    ("stamp", "asked"),
    [
        (STAMPS[0], "uv pip install --python .venv/bin/python --constraint locks/ai.txt --editable .[test]"),
        (STAMPS[1], "--require-hashes --requirement locks/localstack.txt"),
    ],
)
def test_what_is_locked_is_installed_by_its_hash(checkout: Path, stamp: str, asked: str) -> None:
    (checkout / stamp).unlink()

    assert asked in make(checkout, stamp, V="1").stdout


@pytest.mark.parametrize("name", ["ai", "build", "localstack", "worker"])
def test_each_package_of_a_lock_has_one_version_and_hashes(name: str) -> None:
    _, *entries = re.split(r"^(?=[a-zA-Z])", lock_of(name), flags=re.MULTILINE)

    assert entries
    assert all(re.match(r"\S+==\S+ .*\n +--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)


def test_localstack_is_locked_as_it_is_pinned() -> None:
    pinned = re.findall(r"^([\w-]+)(?:\[.*\])?==(\S+)$", (PROJECT / "localstack/requirements.txt").read_text(), re.M)

    assert len(pinned) > 5
    for name, version in pinned:
        assert re.search(rf"^{name}(\[.*\])?=={version} ", lock_of("localstack"), re.MULTILINE | re.IGNORECASE), name


@pytest.mark.parametrize("vulnerable", ["locks/ai.txt", "locks/localstack.txt"])
def test_an_audit_that_finds_something_fails_and_names_the_lock(checkout: Path, vulnerable: str) -> None:
    (checkout / ".venv/bin/uv").write_text(f'#!/bin/sh\ncase "$*" in *{vulnerable}*) exit 1;; esac\n')

    audited = make(checkout, "audit")

    assert audited.returncode == 2
    assert f"a vulnerability in {vulnerable}," in audited.stdout


def test_an_audit_that_finds_nothing_looks_at_each_lock(checkout: Path) -> None:
    audited = make(checkout, "audit")

    assert audited.returncode == 0, audited.stdout
    assert all(
        f"pip-audit --strict --disable-pip --require-hashes --requirement {lock}" in audited.stdout
        for lock in SOURCES[2:]
    )


def test_an_installation_that_fails_shows_its_output_and_is_not_current(checkout: Path) -> None:
    (checkout / ".venv" / "bin" / "uv").write_text("#!/bin/sh\necho 'error: no such package' >&2\nexit 2\n")
    touch(checkout / "setup.cfg", at=102)

    failed = make(checkout, STAMPS[0])

    assert failed.returncode == 2
    assert "error: no such package" in failed.stdout
    assert not is_current(checkout, STAMPS[0])


def test_a_second_make_waits_until_the_first_has_installed() -> None:
    with Path(install_lock.__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.Popen(
            [sys.executable, "-I", install_lock.__file__, "echo", "installed"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert second.stderr
        assert second.stderr.readline() == "Another make is installing into .venv: waiting for it.\n"
        assert second.poll() is None

    assert second.communicate()[0] == "installed\n"
