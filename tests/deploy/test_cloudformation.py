"""The CloudFormation template agrees with the simulation, the worker's settings and its IAM policy."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode import decode

from benchmarks import autoscale, fleet
from benchmarks.fleet import Datapoint

DEPLOY = Path(__file__).parents[2] / "deploy"

#: The most that Fargate waits between SIGTERM and SIGKILL.
#: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html
FARGATE_STOP_TIMEOUT_S = 120


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    found, faults = decode(str(DEPLOY / "cloudformation.yml"))
    assert not faults
    assert found
    return dict(found)


@pytest.fixture(scope="module")
def resources(template: dict[str, Any]) -> dict[str, Any]:
    return {name: resource["Properties"] for name, resource in template["Resources"].items()}


@pytest.fixture(scope="module")
def scaling(resources: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = resources["BacklogScaling"]["TargetTrackingScalingPolicyConfiguration"]
    return found


@pytest.fixture(scope="module")
def worker(resources: dict[str, Any]) -> dict[str, Any]:
    (found,) = [c for c in resources["Worker"]["ContainerDefinitions"] if c["Name"] == "worker"]
    return dict(found)


def test_the_simulated_scaling_is_the_templates(template: dict[str, Any], scaling: dict[str, Any]) -> None:
    defaults = {name: parameter.get("Default") for name, parameter in template["Parameters"].items()}

    assert defaults["AcceptableLatency"] == autoscale.ACCEPTABLE_S
    target = autoscale.BUSY * autoscale.ACCEPTABLE_S / autoscale.MIX_MESSAGE_S
    assert defaults["BacklogPerTask"] == pytest.approx(target, rel=0.001)
    assert (defaults["MinTasks"], defaults["MaxTasks"]) == (autoscale.LEAST, autoscale.MOST)
    assert scaling["ScaleOutCooldown"] == autoscale.OUT_COOLDOWN_S
    assert scaling["ScaleInCooldown"] == autoscale.IN_COOLDOWN_S


@pytest.mark.parametrize("running", [0, 1, 7])
@pytest.mark.parametrize("latency", [15, 60])
def test_the_metric_math_is_what_was_simulated(
    scaling: dict[str, Any], monkeypatch: pytest.MonkeyPatch, running: int, latency: int
) -> None:
    monkeypatch.setattr(autoscale, "ACCEPTABLE_S", latency)
    point = Datapoint(visible=1200, in_flight=30, sent=600, running=running)
    metrics = {metric["Id"]: metric for metric in scaling["CustomizedMetricSpecification"]["Metrics"]}
    expression = metrics["backlog_per_task"]["Expression"]["Fn::Sub"].replace("${AcceptableLatency}", str(latency))
    words = {
        "FILL": lambda values, _: values,
        "IF": lambda condition, one, other: one if condition else other,
        "visible": point.visible,
        "in_flight": point.in_flight,
        "sent": point.sent,
        "tasks": point.running,
    }

    assert eval(expression, words) == pytest.approx(autoscale.backlog_and_arrivals(point))  # noqa: S307
    assert [name for name, metric in metrics.items() if metric["ReturnData"]] == ["backlog_per_task"]
    assert {
        name: metric["MetricStat"]["Metric"]["MetricName"] for name, metric in metrics.items() if "MetricStat" in metric
    } == {
        "visible": "ApproximateNumberOfMessagesVisible",
        "in_flight": "ApproximateNumberOfMessagesNotVisible",
        "sent": "NumberOfMessagesSent",
        "tasks": "RunningTaskCount",
    }


def test_a_stop_has_time_for_the_poll_and_for_what_runs(worker: dict[str, Any]) -> None:
    environment = {variable["Name"]: variable["Value"] for variable in worker["Environment"]}
    grace, shutdown = (float(environment[f"GRAPHNODE_{name}"]) for name in ("POLL_GRACE", "SHUTDOWN_TIMEOUT"))

    assert (grace, shutdown) == (fleet.POLL_GRACE_S, fleet.SHUTDOWN_TIMEOUT_S)
    assert grace + shutdown < worker["StopTimeout"] <= FARGATE_STOP_TIMEOUT_S


def test_a_task_is_as_large_as_the_one_that_was_paid_for(resources: dict[str, Any]) -> None:
    assert int(resources["Worker"]["Cpu"]) == fleet.VCPUS * 1024
    assert int(resources["Worker"]["Memory"]) == fleet.MEMORY_GB * 1024


def test_secrets_come_from_secrets_manager_alone(resources: dict[str, Any]) -> None:
    containers = [resources[name]["ContainerDefinitions"] for name in ("Worker", "Prune")]

    for container in itertools.chain(*containers):
        plain = {variable["Name"] for variable in container.get("Environment", [])}
        assert not plain & {"DATABASE_URL", "FIREBASE_CREDENTIALS_JSON", "SENTRY_DSN"}
        assert "DATABASE_URL" in {secret.get("Name") for secret in container["Secrets"]}


def test_a_dead_letter_has_its_document_as_long_as_it_is_kept(
    template: dict[str, Any], resources: dict[str, Any]
) -> None:
    rules = resources["Payloads"]["LifecycleConfiguration"]["Rules"]
    (days,) = [rule["ExpirationInDays"]["Ref"] for rule in rules if "ExpirationInDays" in rule]
    kept_s = {resources[name]["MessageRetentionPeriod"] for name in resources if name.endswith("DeadLetters")}

    assert template["Parameters"][days]["MinValue"] * 86_400 > max(kept_s)


def grants(statements: list[dict[str, Any]], arn: Callable[[Any], str]) -> set[tuple[str, str]]:
    """The pairs of an action and a resource that these statements allow."""
    return {
        (action, arn(resource)) for part in statements for action in part["Action"] for resource in part["Resource"]
    }


def test_the_workers_role_may_do_what_its_policy_says_and_nothing_else(resources: dict[str, Any]) -> None:
    (policy,) = resources["TaskRole"]["Policies"]
    names = {
        "Results.Arn": "arn:aws:sqs:REGION:ACCOUNT:RESULTS",
        "ResultsDeadLetters.Arn": "arn:aws:sqs:REGION:ACCOUNT:RESULTS_DLQ",
        "Payloads.Arn": "arn:aws:s3:::BUCKET",
        "${Payloads.Arn}/*": "arn:aws:s3:::BUCKET/*",
    }

    def arn(resource: dict[str, Any]) -> str:
        return names[resource["Fn::Sub"] if "Fn::Sub" in resource else ".".join(resource["Fn::GetAtt"])]

    told = json.loads((DEPLOY / "iam-worker.json").read_text())["Statement"]
    assert {statement["Effect"] for statement in policy["PolicyDocument"]["Statement"]} == {"Allow"}
    assert grants(policy["PolicyDocument"]["Statement"], arn) == grants(told, str)
