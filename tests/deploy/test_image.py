"""The Dockerfile and the compose file, checked without Docker. `make image-check` runs the Dockerfile's lines."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from configparser import ConfigParser
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from ruamel.yaml import YAML

from graphnode.settings import FIELDS, AiSettings, Settings, environment_name, read_settings
from graphnode.worker.exporter import HOST, SWITCH
from release.dockerfile import (
    Config,
    Instruction,
    Stage,
    UnknownInstruction,
    context_of,
    copy_of,
    exec_form,
    stages_of,
)
from release.image import copy
from release.output import Failed

PROJECT = Path(__file__).parents[2]
LOCKS = PROJECT / "locks"

#: Environment variables of a worker that are not settings: AWS's credentials, and the switch of Dramatiq's exporter.
NOT_SETTINGS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", SWITCH, HOST}

#: The services that run this project's images.
OURS = ("migrate", "worker", "ai", "console")


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    return stages_of(PROJECT / "Dockerfile")


@pytest.fixture(scope="module")
def configs(stages: list[Stage]) -> dict[str, Config]:
    """How containers of each stage run."""
    found: dict[str, Config] = {}
    for stage in stages:
        config = found.get(stage.base, Config())
        for instruction in stage.instructions:
            config = config.after(instruction)
        found[stage.name] = config
    return found


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(PROJECT / "docker-compose.yml")
    return loaded


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


def tool(name: str) -> str | None:
    """The path of a program in this environment or on PATH."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


@pytest.mark.skipif(not tool("hadolint"), reason="hadolint is not installed: the Dockerfile is not linted")
def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    ran = subprocess.run([tool("hadolint") or "", PROJECT / "Dockerfile"], capture_output=True, text=True, check=False)

    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr


def test_the_base_is_pinned_to_one_release_of_a_slim_python_that_the_package_supports(stages: list[Stage]) -> None:
    bases = {stage.base for stage in stages} - {stage.name for stage in stages}

    assert len(bases) == 1
    pinned = re.fullmatch(r"python:(3\.\d+)\.\d+-slim-[a-z]+", bases.pop())
    assert pinned
    assert f"Python :: {pinned[1]}\n" in (PROJECT / "setup.cfg").read_text()


@pytest.mark.parametrize(("stage", "command"), [("worker", "worker"), ("ai", "ai")])
def test_sigterm_reaches_the_program_for_no_shell_is_between(
    stage: str, command: str, configs: dict[str, Config]
) -> None:
    assert configs[stage].command == ["graphnode", command]


@pytest.mark.parametrize("stage", ["worker", "ai"])
def test_the_image_runs_as_a_user_by_number_that_is_not_root(stage: str, configs: dict[str, Config]) -> None:
    uid, _, gid = configs[stage].user.partition(":")

    assert int(uid) > 0
    assert int(gid) > 0


def test_docker_build_makes_the_worker_and_asks_graphnode_health_for_its_health(
    stages: list[Stage], configs: dict[str, Config]
) -> None:
    assert stages[-1].name == "worker"
    assert configs["worker"].health == ["graphnode", "health"]
    assert configs["worker"].environment["GRAPHNODE_HEALTH_PORT"]
    assert configs["ai"].health == ()


def test_all_that_the_dockerfile_copies_is_in_the_builds_context_and_nothing_secret(stages: list[Stage]) -> None:
    context = context_of(PROJECT)
    copies = [copy_of(one) for stage in stages for one in stage.instructions if one.name == "COPY"]
    wanted = {source for copied in copies if not copied.stage for source in copied.sources}

    assert wanted
    assert wanted <= context
    assert not {name for name in context if name.startswith((".git", ".venv", ".graphnode", ".env"))}


def test_packages_come_from_a_lock_with_hashes_as_wheels_alone(stages: list[Stage]) -> None:
    runs = [one.value for stage in stages for one in stage.instructions if one.name == "RUN"]
    installs = [part for run in runs for part in run.split("&&") if re.search(r"\bpip\b.* install ", part)]
    locked = [part for part in installs if "--require-hashes --only-binary :all: --requirement locks/" in part]
    own = [part for part in installs if "--no-deps --no-index /wheels/*.whl" in part]

    assert {lock for part in locked for lock in re.findall(r"locks/(\w+)\.txt", part)} == {"build", "worker", "ai"}
    assert len(own) == 1
    assert len(installs) == len(locked) + len(own)


@pytest.mark.parametrize("name", ["build", "worker", "ai"])
def test_each_package_of_a_lock_has_one_version_and_hashes_and_no_registry_is_named(name: str) -> None:
    text = (LOCKS / f"{name}.txt").read_text()
    entries = re.split(r"\n(?=\S)", re.sub(r"(?m)^ *#.*\n?", "", text).strip())

    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9][a-z0-9.-]*(\[[a-z0-9,-]+\])?==[0-9]\S* ", entry), entry
        assert "--hash=sha256:" in entry
    assert "://" not in text
    assert "index" not in text


@pytest.mark.parametrize(
    ("name", "extras"), [("worker", {"console", "otel", "sentry"}), ("ai", {"console", "otel", "sentry", "ai"})]
)
def test_a_lock_has_all_that_setup_cfg_asks_for(name: str, extras: set[str]) -> None:
    config = ConfigParser()
    config.read(PROJECT / "setup.cfg")
    asked = config["options"]["install_requires"].split("\n")
    for extra in extras:
        asked += config["options.extras_require"][extra].split("\n")
    packages = {re.split(r"[<>=;\[ ]", line)[0] for line in asked if line}
    locked = set(re.findall(r"(?m)^([a-z0-9.-]+)", (LOCKS / f"{name}.txt").read_text()))

    assert packages
    assert packages <= locked


def test_the_two_images_have_the_same_versions_of_what_both_have() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"(?m)^([a-z0-9.\[\],-]+==\S+)", (LOCKS / f"{name}.txt").read_text()))

    assert pins("worker") < pins("ai")


def test_the_tests_run_with_the_versions_that_the_images_have() -> None:
    pins = map(Requirement, re.findall(r"(?m)^([a-z0-9].*?) \\$", (LOCKS / "ai.txt").read_text()))
    expected = {pin.name: str(pin.specifier) for pin in pins if pin.marker is None or pin.marker.evaluate()}

    assert expected
    assert {name: f"=={version(name)}" for name in expected} == expected


def test_the_compose_file_follows_the_compose_specifications_schema() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_docker_compose_finds_the_compose_file_right() -> None:
    candidates = [["docker", "compose"], ["docker-compose"]]
    works = [
        [program, *words[1:]]
        for words in candidates
        if (program := tool(words[0]))
        and not subprocess.run([program, *words[1:], "version"], capture_output=True, check=False).returncode
    ]
    if not works:
        pytest.skip("docker compose is not installed: it does not check the compose file")
    ran = subprocess.run(
        [*works[0], "--profile", "*", "config", "--quiet"], cwd=PROJECT, capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stderr


def resolved(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment of compose with the defaults of its variables."""
    return {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for name, value in environment.items()}


def test_the_worker_and_the_ai_server_take_the_environment_that_compose_gives_them(
    services: dict[str, dict[str, Any]], configs: dict[str, Config]
) -> None:
    read_settings({**configs["worker"].environment, **resolved(services["worker"]["environment"])}, Settings)
    read_settings(resolved(services["ai"]["environment"]), AiSettings)


@pytest.mark.parametrize("name", OURS)
def test_each_variable_that_compose_sets_is_one_that_the_program_reads(
    name: str, services: dict[str, dict[str, Any]]
) -> None:
    known = {environment_name(field) for field in FIELDS}

    assert set(services[name]["environment"]) <= known | NOT_SETTINGS


def test_the_queues_and_the_bucket_are_those_that_localstack_makes(services: dict[str, dict[str, Any]]) -> None:
    made = (PROJECT / "localstack/init/ready.d/10-queues-and-bucket.py").read_text()
    environment = services["worker"]["environment"]
    queues = {value.rpartition("/")[2] for name, value in environment.items() if name.endswith("_QUEUE_URL")}

    assert queues == {f"graphnode-{name}" for name in ("requests", "results")}
    assert '("requests", "results")' in made
    assert environment["S3_PAYLOAD_BUCKET"] == "graphnode-payloads"
    assert "./localstack/init:/etc/localstack/init:ro" in services["localstack"]["volumes"]


def test_foreign_images_are_pinned_to_a_version(services: dict[str, dict[str, Any]]) -> None:
    foreign = {name: service["image"] for name, service in services.items() if name not in OURS}

    assert set(foreign) == {"postgres", "localstack", "prometheus", "grafana"}
    for image in foreign.values():
        assert re.search(r":v?\d+\.\d+\.\d+(-[a-z0-9-]+)?$", image), image


def test_ports_are_on_the_loopback_address_alone(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", OURS)
def test_our_services_cannot_write_to_their_root_and_have_no_capability(
    name: str, services: dict[str, dict[str, Any]]
) -> None:
    service = services[name]

    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_only_prometheus_reaches_the_worker_and_from_inside_alone(services: dict[str, dict[str, Any]]) -> None:
    assert services["worker"]["environment"][HOST] == "0.0.0.0"  # noqa: S104
    assert "ports" not in services["worker"]
    assert "GRAPHNODE_HEALTH_HOST" not in services["worker"]["environment"]
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name


def test_a_service_starts_when_what_it_waits_for_is_healthy_or_done(services: dict[str, dict[str, Any]]) -> None:
    waits = {
        name: {other: wait["condition"] for other, wait in service["depends_on"].items()}
        for name, service in services.items()
        if "depends_on" in service
    }

    assert waits == {
        "migrate": {"postgres": "service_healthy"},
        "worker": {"migrate": "service_completed_successfully", "localstack": "service_healthy"},
        "console": {"migrate": "service_completed_successfully", "localstack": "service_healthy"},
        "ai": {"localstack": "service_healthy"},
        "prometheus": {"worker": "service_healthy"},
        "grafana": {"prometheus": "service_healthy"},
    }
    for wait in waits.values():
        for other, condition in wait.items():
            assert condition != "service_healthy" or services[other]["healthcheck"]["test"]


@pytest.mark.parametrize("name", ["worker", "ai"])
def test_a_stop_has_longer_than_the_poll_and_the_running_messages_may_take(
    name: str, services: dict[str, dict[str, Any]]
) -> None:
    defaults = {name: field.default for name, field in FIELDS.items()}

    assert int(services[name]["stop_grace_period"].removesuffix("s")) > (
        defaults["poll_grace"] + defaults["shutdown_timeout"]
    )


def test_what_is_stored_is_in_named_volumes(compose: dict[str, Any]) -> None:
    named = {
        volume.partition(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
        if not volume.startswith("./")
    }

    assert named == set(compose["volumes"])
    assert "postgres" in named


def test_files_that_compose_mounts_are_there_and_cannot_be_written(services: dict[str, dict[str, Any]]) -> None:
    mounts = [
        volume.split(":")
        for service in services.values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    ]

    assert mounts
    for source, _, mode in mounts:
        assert (PROJECT / source).exists()
        assert mode == "ro"


def test_prometheus_asks_the_workers_at_the_port_they_serve_and_judges_by_our_alerts(
    services: dict[str, dict[str, Any]],
) -> None:
    prometheus = YAML(typ="safe").load(PROJECT / "deploy/prometheus.yml")
    [job] = prometheus["scrape_configs"]
    [found] = job["dns_sd_configs"]

    assert found["names"] == ["worker"]
    assert str(found["port"]) == services["worker"]["environment"][SWITCH]
    assert prometheus["rule_files"] == ["alerts.yml"]
    assert services["prometheus"]["profiles"] == services["grafana"]["profiles"] == ["monitoring"]


def test_grafana_is_given_prometheus_and_our_dashboard(services: dict[str, dict[str, Any]]) -> None:
    [source] = YAML(typ="safe").load(PROJECT / "deploy/grafana/datasources.yml")["datasources"]
    [provider] = YAML(typ="safe").load(PROJECT / "deploy/grafana/dashboards.yml")["providers"]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]

    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert str(Path(home).parent) == provider["options"]["path"]
    assert f"./deploy/grafana.json:{home}:ro" in services["grafana"]["volumes"]


@pytest.mark.parametrize(
    "text",
    [
        "FROM python AS one\nADD https://example.com/file /file\n",
        "FROM python AS one\nENTRYPOINT graphnode\n",
        "FROM python AS one\nCMD graphnode worker\n",
        "FROM python AS one\nHEALTHCHECK CMD graphnode health\n",
    ],
)
def test_the_replay_refuses_what_it_does_not_know(text: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(text)
    [stage] = stages_of(tmp_path / "Dockerfile")

    with pytest.raises(UnknownInstruction, match="line 2"):
        Config().after(stage.instructions[0])


def test_the_replay_refuses_patterns_and_options_of_copy() -> None:
    for value in ("*.txt ./", "--chown=1 one two"):
        with pytest.raises(UnknownInstruction, match="line 7"):
            copy_of(Instruction(7, "COPY", value))


def test_a_stage_leaves_environment_user_and_directory_to_the_next() -> None:
    config = Config()
    for instruction in (
        Instruction(1, "ENV", 'PATH=/opt/bin:$PATH GREETING="good day"'),
        Instruction(2, "WORKDIR", "/source"),
        Instruction(3, "WORKDIR", "part"),
        Instruction(4, "USER", "7:8"),
        Instruction(5, "CMD", json.dumps(["one", "two"])),
    ):
        config = config.after(instruction)

    assert config.environment["PATH"].startswith("/opt/bin:/usr/local/bin:")
    assert config.environment["GREETING"] == "good day"
    assert (config.directory, config.user) == ("/source/part", "7:8")
    assert config.command == exec_form(Instruction(5, "CMD", ""), '["one", "two"]')


def test_the_replay_copies_as_docker_does_a_file_into_a_directory_and_what_is_in_a_directory(tmp_path: Path) -> None:
    (tmp_path / "from" / "package").mkdir(parents=True)
    (tmp_path / "from" / "package" / "module.py").write_text("1")
    (tmp_path / "from" / "readme").write_text("2")
    target = tmp_path / "to"

    copy(tmp_path / "from", ["readme"], target, into=True)
    copy(tmp_path / "from", ["readme"], target / "renamed", into=False)
    copy(tmp_path / "from", ["package"], target / "code", into=False)

    files = {str(path.relative_to(target)): path.read_text() for path in target.rglob("*") if path.is_file()}
    assert files == {"readme": "2", "renamed": "2", "code/module.py": "1"}


def test_the_replay_fails_where_docker_would_not_find_the_file(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="COPY locks"):
        copy(tmp_path, ["locks"], tmp_path / "to", into=False)
