"""The alerts, their chapters in the runbook, the dashboard, and the names of metrics in all of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from graphnode.worker.metrics import Instruments

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "deploy"
DOCUMENT = (PROJECT / "docs/metrics.md").read_text()
NAME = re.compile(r"\bgraphnode_[a-z_]+")


@pytest.fixture(scope="module")
def exported() -> set[str]:
    """The names of all samples in Prometheus."""
    registry = CollectorRegistry()
    Instruments(registry)
    names = set()
    for metric in registry.collect():
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(metric.type, [""])
        names |= {metric.name + ending for ending in endings}
    return names


@pytest.mark.parametrize("name", ["grafana.json", "alerts.yml", "alerts_test.yml"])
def test_alerts_and_dashboard_ask_for_metrics_that_the_worker_exports(name: str, exported: set[str]) -> None:
    asked = set(NAME.findall((DEPLOY / name).read_text()))

    assert asked
    assert asked <= exported


def test_the_document_has_each_metric_and_no_other(exported: set[str]) -> None:
    told = {found.partition("{")[0] for found in re.findall(r"^\| `(graphnode_[^`]+)`", DOCUMENT, re.MULTILINE)}

    assert told == {re.sub("_(bucket|sum|count)$", "", name) for name in exported}


def test_each_alert_has_a_chapter_in_the_runbook() -> None:
    runbook = (PROJECT / "docs/runbook.md").read_text()
    chapters = {title.lower().replace(" ", "-") for title in re.findall(r"^## (.+)$", runbook, re.MULTILINE)}
    alerts = (DEPLOY / "alerts.yml").read_text()

    links = re.findall(r"docs/runbook.md#(\S+)", alerts)
    assert len(links) == alerts.count("- alert:")
    assert set(links) == chapters


def test_the_dashboard_has_a_unit_and_an_explanation_for_each_of_at_most_twenty_panels() -> None:
    panels = [panel for panel in json.loads((DEPLOY / "grafana.json").read_text())["panels"] if panel["type"] != "row"]

    assert len(panels) <= 20
    for panel in panels:
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed: the alerts are not tested")
@pytest.mark.parametrize("arguments", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")])
def test_promtool_finds_the_alerts_right(arguments: tuple[str, ...]) -> None:
    ran = subprocess.run(["promtool", *arguments], cwd=DEPLOY, capture_output=True, text=True, timeout=60, check=False)

    assert ran.returncode == 0, ran.stdout + ran.stderr
