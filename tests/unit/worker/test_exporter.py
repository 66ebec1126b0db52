from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from graphnode.errors import SettingsError
from graphnode.worker import exporter
from graphnode.worker.exporter import metrics_at, metrics_directory
from graphnode.worker.metrics import Metrics

#: Counts to three in a process of a command that shares metrics.
COUNTING = """
from prometheus_client import CollectorRegistry, Counter
Counter("counted", "Three.", registry=CollectorRegistry()).inc(3)
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the metrics, which does not exist yet."""
    path = tmp_path / "metrics"
    monkeypatch.setenv("dramatiq_prom_db", str(path))
    return path


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary directory."""
    monkeypatch.delenv("dramatiq_prom_db", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Where and what the exporter would serve."""
    calls: list[dict[str, Any]] = []

    def serve(_subject: str, **call: Any) -> int:
        calls.append(call)
        return 0

    monkeypatch.setattr("graphnode.worker.endpoint.serve", serve)
    monkeypatch.setenv("dramatiq_prom_port", "9191")
    return calls


@pytest.mark.usefixtures("directory")
def test_metrics_are_served_to_this_machine_only_unless_a_setting_says_otherwise(
    served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("dramatiq_prom_host", raising=False)

    assert exporter.serve() == 0
    monkeypatch.setenv("dramatiq_prom_host", "0.0.0.0")  # noqa: S104
    assert exporter.serve() == 0

    assert [(call["host"], call["port"]) for call in served] == [("127.0.0.1", 9191), ("0.0.0.0", 9191)]  # noqa: S104


def test_the_metrics_of_all_processes_are_one_answer(directory: Path) -> None:
    metrics_directory()
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-c", COUNTING], env={"PROMETHEUS_MULTIPROC_DIR": str(directory)}, check=True, timeout=60
        )

    answer = metrics_at("/metrics", directory)

    assert answer
    assert answer.content_type.startswith("text/plain; version=")
    assert b"counted_total 6.0" in answer.body
    assert metrics_at("/other", directory) is None


def test_their_directory_is_this_users_alone(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: temporary.stat().st_uid)

    made = metrics_directory()

    assert made.parent == temporary
    assert str(temporary.stat().st_uid) in made.name
    assert made.stat().st_mode & 0o777 == 0o700


def test_a_worker_whose_metrics_another_user_could_change_does_not_start_and_writes_none(
    temporary: Path, served: list[dict[str, Any]]
) -> None:
    others = temporary / "others"
    others.mkdir()
    place = metrics_directory()
    place.rmdir()
    place.symlink_to(others)

    with pytest.raises(SettingsError, match="is not this user's alone"):
        metrics_directory()
    with pytest.raises(SystemExit):
        Metrics().after_process_boot(None)  # type: ignore[arg-type]
    assert exporter.serve() == 1

    assert served == []
    assert list(others.iterdir()) == []
