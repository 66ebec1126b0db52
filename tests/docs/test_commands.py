"""Every command in a document can be typed as shown, and a test runs it.

tests/e2e runs the commands of `graphnode`: in the situations of docs/runbook.md, and in a stack with data
(tests/e2e/test_document_commands.py). The tests here only parse each command, with its program's own parser.
"""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from configparser import ConfigParser
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import click
import pytest
from botocore import xform_name
from ruamel.yaml import YAML

from graphnode import cli
from graphnode.operations.dead_letters.advice import ADVICE
from graphnode.settings import FIELDS, OTHERS, environment_name
from release.dockerfile import stages_of
from tests.docs.pages import PROJECT, RUN, Code, Command, document, paths
from tests.docs.test_contract import names_in

COMMANDS = [command for path in paths() for command in document(path).commands]

STACK = "e2e/test_development_stack.py"

#: The tests of commands that run until they are stopped, or that need a stack of their own, by the command's begin.
RUN_BY = {
    "dramatiq graphnode.actors": "e2e/test_results.py",
    "graphnode ai": "e2e/test_ai.py",
    "graphnode console": "e2e/test_console.py",
    "graphnode demo": f"{STACK}::test_the_demo_is_as_it_should_be",
    "graphnode dev": f"{STACK}::test_dev_keeps_its_database_stops_in_time_and_runs_once_in_a_directory",
    "graphnode status --watch": "integration/test_status.py",
    "graphnode worker": "e2e/test_logs.py::test_no_secret_is_logged_and_every_line_is_an_event",
    "promtool": "deploy/test_alerts.py::test_promtool_finds_the_alerts_right",
}

#: Commands that no test runs, and why. They are parsed like all others.
NOT_RUN = {
    "make test": "it runs the tests, and .ci/run calls it",
    "make coverage": "it runs the same tests as make test",
    "make lint": ".ci/run calls it before the tests",
    "make install": "it has installed what the tests run in",
    "make demo": "a test runs graphnode demo",
    "make dev": "a test runs graphnode dev",
    "make chaos": "ten minutes; e2e/test_chaos.py runs for a minute or two",
    "make contract": "it needs npm's registry; the tests in tests/contract are run",
    "make fuzz": "an hour; tools/test_fuzz.py runs the same targets",
    "make mutants": "ten minutes; tools/test_mutants.py runs small ones",
    "make audit": "it needs PyPI",
    "make lock": "it needs PyPI, and changes the repository",
    "make format": "it changes the repository",
    "make clean": "it would remove the tests' environment",
    "make image-check": "it needs root, PyPI and minutes",
    "make release-check": "it needs PyPI and minutes",
    "python -m benchmarks.": "minutes each; their arithmetic is tested",
    "python -m tests.chaos": "see make chaos",
    "python -m tests.fuzz": "see make fuzz",
    "python -m tests.mutants": "see make mutants",
    "python -m pytest": "it runs the tests",
    "pip install": "it needs PyPI; make install and make release-check do it",
}

#: Variables in documents that are no settings of the worker.
OTHER_VARIABLES = {
    *OTHERS,
    "CHAOS_MINUTES",  # make's
    "CHAOS_FAULT",
    "CHAOS_SEED",
    "FUZZ_MINUTES",
    "PYTHONS",
    "HYPOTHESIS_PROFILE",  # the tests'
    "KILL_POINTS",
    "OTEL_SERVICE_NAME",  # OpenTelemetry's
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_TRACES_SAMPLER",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_BSP_…",
    "OTEL_SDK_DISABLED",
}


class Parsed(BaseException):
    """A program has parsed its arguments, and would begin now."""


class InvalidCommand(Exception):
    """A command cannot be typed as shown."""


def ids(command: Command) -> str:
    return str(command)


@pytest.fixture(autouse=True)
def nothing_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs stop after parsing their arguments."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_end(*arguments: Any, **options: Any) -> None:
        parse(*arguments, **options)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_end)


@pytest.mark.parametrize("command", sorted(set(COMMANDS)), ids=ids)
def test_a_command_can_be_typed_as_shown(command: Command) -> None:
    try:
        check(command.words, whole=command.typed)
    except InvalidCommand as error:
        pytest.fail(f"{command}\n{error}")


@pytest.mark.parametrize("command", sorted({c for c in COMMANDS if c.typed}), ids=ids)
def test_a_typed_command_is_run_by_a_test_or_says_what_it_needs(command: Command) -> None:
    line = " ".join(command.words)
    if command.words[0] in ("aws", "docker"):
        wanted = "AWS" if command.words[0] == "aws" else "Docker"
        assert wanted in command.needs, f"{command}\nHave its chapter say that it needs {wanted}."
        return
    is_covered = (
        RUN.match(line)
        or any(line.startswith(known) for known in (*RUN_BY, *NOT_RUN))
        or command.needs & {"AWS", "Docker"}
        or command.words[0] in ("export", "cd")
    )
    assert is_covered, (
        f"{command}\nNo test runs it. Name its test in RUN_BY of this file, or the reason in NOT_RUN, "
        "or have its chapter say that it needs AWS or Docker."
    )


def test_each_command_of_graphnode_is_shown_as_typed_in_a_document_and_so_it_is_run() -> None:
    shown = {leaf(command.words) for command in COMMANDS if command.words[0] == "graphnode" and command.typed}

    assert set(leaves(cli.commands, "graphnode")) - {leaf(known.split()) for known in RUN_BY} <= shown


@pytest.mark.parametrize("proof", RUN_BY.values())
def test_each_test_that_is_said_to_run_a_command_exists(proof: str) -> None:
    file, _, name = proof.partition("::")

    assert (PROJECT / "tests" / file).exists()
    assert not name or name in names_in(file)


def test_run_by_and_not_run_name_only_commands_that_a_document_has() -> None:
    lines = {" ".join(command.words) for command in COMMANDS} | {f"make {name}" for name in targets()}

    assert {known for known in (*RUN_BY, *NOT_RUN) if not any(line.startswith(known) for line in lines)} == set()


CODES = [code for path in paths() for code in document(path).codes]
VARIABLE = re.compile(
    r"(?:GRAPHNODE|AWS|SQS|S3|OTEL|SENTRY|FIREBASE|GOOGLE|dramatiq_prom|CHAOS|FUZZ|KILL|HYPOTHESIS)_[\w…]+"
)


@pytest.mark.parametrize(
    "code", sorted({c for c in CODES if VARIABLE.match(c.text)}), ids=lambda c: f"{c.document.name}:{c.line}: {c.text}"
)
def test_a_named_variable_exists(code: Code) -> None:
    # A dead letter's reason looks like a variable.
    known = {environment_name(field) for field in FIELDS} | OTHER_VARIABLES | set(ADVICE)

    assert code.text.partition("=")[0] in known, "neither a setting, a reason, nor in OTHER_VARIABLES of this file"


def check(words: Sequence[str], *, whole: bool) -> None:
    """Check that a program accepts its arguments. Raises InvalidCommand."""
    match words:
        case ["graphnode", *arguments]:
            check_click(cli.commands, "graphnode", arguments, whole=whole)
        case ["make", *arguments]:
            check_make(arguments)
        case ["python", "-m", "pytest", *arguments]:
            check_pytest(arguments)
        case ["python", "-m", module] if module.endswith(".…") and not whole:
            check_files([module.removesuffix(".…")])
        case ["python", "-m", module, *arguments]:
            check_module(module, arguments)
        case ["python", "-c", program]:
            compile(program, "<document>", "exec")
        case ["dramatiq", *arguments]:
            check_dramatiq(arguments)
        case ["docker", *arguments]:
            check_docker(arguments, whole=whole)
        case ["aws", service, operation, *arguments]:
            check_aws(service, operation, arguments)
        case ["pip", "install", *packages]:
            check_packages(packages)
        case ["promtool", "check" | "test", "rules", file] if (PROJECT / file).exists():
            pass
        case ["export", *assignments] if all("=" in one for one in assignments):
            pass
        case ["psql", _, "-f", file]:
            check_files([file])
        case ["psql", _, "-c", _]:
            pass
        case ["git", "clone" | "switch" | "rebase" | "push", *_] | ["cd", _]:
            pass
        case _:
            raise InvalidCommand("unknown program: have `check` in this file parse it")


def check_click(command: click.Command, name: str, arguments: Sequence[str], *, whole: bool) -> None:
    """Check a click program. A command that a sentence only names may lack arguments and values."""
    chosen, rest = resolve(command, arguments)
    if not whole:
        known = {name for parameter in chosen.params for name in parameter.opts} | {"--help", "-h"}
        takes_any = chosen.context_settings.get("ignore_unknown_options")
        if not takes_any and (unknown := [one for one in rest if one.startswith("-") and one not in known]):
            raise InvalidCommand(f"no option {' '.join(unknown)} of {chosen.name}")
        return
    try:
        # Commands inherit settings such as `-h` from the program's context, and keep them for the next test.
        program = click.Context(command, info_name=name, **command.context_settings)
        chosen.make_context(chosen.name or name, list(rest), parent=program)
    except click.exceptions.Exit:
        pass
    except click.BadParameter as error:
        # The reader has the file, and replaces words in capitals.
        if "does not exist" not in error.message and "'REASON' is unknown" not in error.message:
            raise InvalidCommand(error.format_message()) from None
    except click.UsageError as error:
        raise InvalidCommand(error.format_message()) from None


def resolve(command: click.Command, arguments: Sequence[str]) -> tuple[click.Command, Sequence[str]]:
    """The command that the arguments select, and its own arguments."""
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        found = command.commands.get(arguments[0])
        if found is None:
            raise InvalidCommand(f"no command {arguments[0]}")
        command, arguments = found, arguments[1:]
    return command, arguments


def leaf(words: Sequence[str]) -> str:
    """The full name of the selected command."""
    command, names = cli.commands, ["graphnode"]
    for word in words[1:]:
        if not isinstance(command, click.Group) or word not in command.commands:
            break
        command = command.commands[word]  # type: ignore[assignment]
        names.append(word)
    return " ".join(names)


def leaves(command: click.Command, name: str) -> Iterator[str]:
    if isinstance(command, click.Group):
        for word, below in command.commands.items():
            yield from leaves(below, f"{name} {word}")
    else:
        yield name


def targets() -> set[str]:
    """The targets of the Makefile."""
    return set(re.findall(r"^([a-z-]+):.*##", (PROJECT / "Makefile").read_text(), re.MULTILINE))


def check_make(arguments: Sequence[str]) -> None:
    makefile = (PROJECT / "Makefile").read_text()
    for argument in arguments:
        name, assigned, _ = argument.partition("=")
        if assigned and not re.search(rf"\$\({name}\b|\$\(if \$\({name}\)|^{name} \?=", makefile, re.MULTILINE):
            raise InvalidCommand(f"the Makefile does not use {name}")
        if not assigned and name not in targets():
            raise InvalidCommand(f"the Makefile has no target {name}")
    modules = r"-m ((?:tests\.(?:chaos|fuzz|mutants)|graphnode)\b[\w.]*)([^|;\n]*)"
    for module, rest in re.findall(modules, recipe(tuple(arguments))):
        check_module(module, shlex.split(rest))


@cache
def recipe(arguments: tuple[str, ...]) -> str:
    """What make would run. Raises InvalidCommand."""
    made = subprocess.run(["make", "--dry-run", *arguments], cwd=PROJECT, capture_output=True, text=True)
    if made.returncode:
        raise InvalidCommand(made.stderr)
    return made.stdout


def check_pytest(arguments: Sequence[str]) -> None:
    check_files([one for one in arguments if "/" in one])


def check_files(names: Sequence[str]) -> None:
    if missing := [name for name in names if not (PROJECT / name).exists()]:
        raise InvalidCommand(f"there is no {' '.join(missing)}")


def check_module(name: str, arguments: Sequence[str]) -> None:
    """Check a program of this project, which uses argparse or click."""
    try:
        package = importlib.import_module(name)
        module = importlib.import_module(f"{name}.__main__") if hasattr(package, "__path__") else package
    except ModuleNotFoundError as error:
        raise InvalidCommand(str(error)) from None
    main = module.main
    if isinstance(main, click.Command):
        check_click(main, name, arguments, whole=True)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *arguments])
        if not {"argparse", "option_parser"} & vars(module).keys():
            if arguments:
                raise InvalidCommand(f"{name} takes no arguments")
            return
        try:
            main()
        except Parsed:
            pass
        except SystemExit:
            raise InvalidCommand(f"{name} does not take {' '.join(arguments)}") from None


def check_dramatiq(arguments: Sequence[str]) -> None:
    from dramatiq.cli import make_argument_parser

    try:
        make_argument_parser().parse_args([one for one in arguments if one != "OPTIONS"])
    except Parsed:
        pass
    except SystemExit:
        raise InvalidCommand("dramatiq does not take these arguments") from None


def check_docker(arguments: Sequence[str], *, whole: bool) -> None:
    """Check that services, profiles and stages exist, and the command that a container runs."""
    if arguments[0] == "build":
        stages = {stage.name for stage in stages_of(PROJECT / "Dockerfile")}
        if "--target" in arguments and arguments[arguments.index("--target") + 1] not in stages:
            raise InvalidCommand("the Dockerfile has no such stage")
    if arguments[0] != "compose":
        return
    services = YAML(typ="safe").load(PROJECT / "docker-compose.yml")["services"]
    profiles = {profile for service in services.values() for profile in service.get("profiles", [])}
    if "--profile" in arguments and arguments[arguments.index("--profile") + 1] not in profiles:
        raise InvalidCommand("docker-compose.yml has no such profile")
    if "exec" in arguments or "run" in arguments:
        at = next((at for at, word in enumerate(arguments) if word in services), None)
        if at is None:
            raise InvalidCommand("docker-compose.yml has no such service")
        if rest := arguments[at + 1 :]:
            check(rest, whole=whole)


def check_aws(service: str, operation: str, arguments: Sequence[str]) -> None:
    """Check an operation and its parameters against AWS's API. `deploy` exists only in the AWS CLI."""
    options = [one for one in arguments if one.startswith("--")]
    if (service, operation) == ("cloudformation", "deploy"):
        known = {"--stack-name", "--template-file", "--capabilities", "--parameter-overrides"}
        check_parameters(arguments)
    elif (service, operation) == ("ecr", "get-login-password"):
        known = set()
    else:
        model = botocore.session.get_session().get_service_model(service)
        operations = {xform_name(name, "-"): name for name in model.operation_names}
        if operation not in operations:
            raise InvalidCommand(f"AWS's {service} has no {operation}")
        shape = model.operation_model(operations[operation]).input_shape
        known = {f"--{xform_name(name, '-')}" for name in (shape.members if shape else ())}
    if unknown := set(options) - known - {"--query", "--output", "--region"}:
        raise InvalidCommand(f"aws {service} {operation} has no {' '.join(sorted(unknown))}")


def check_parameters(arguments: Sequence[str]) -> None:
    """Check that a deployment has only parameters of the template, and all that have no default."""
    template = re.search(r"^Parameters:\n(.*?)^\S", (PROJECT / "deploy/cloudformation.yml").read_text(), re.M | re.S)
    assert template
    wants = {
        name: "Default:" in about
        for name, about in re.findall(r"^  (\w+):\n((?:    .*\n)+)", template[1], re.MULTILINE)
    }
    given = {one.partition("=")[0] for one in arguments[arguments.index("--parameter-overrides") + 1 :] if "=" in one}
    if wrong := given - wants.keys():
        raise InvalidCommand(f"the template has no parameter {' '.join(sorted(wrong))}")
    if lacking := {name for name, has_default in wants.items() if not has_default} - given:
        raise InvalidCommand(f"the template wants {' '.join(sorted(lacking))}")
    check_files([arguments[arguments.index("--template-file") + 1]])


def check_packages(packages: Sequence[str]) -> None:
    config = ConfigParser()
    config.read(PROJECT / "setup.cfg")
    for package in packages:
        found = re.fullmatch(r"graphnode-worker(?:\[([\w,]+)\])?", package)
        if not found:
            raise InvalidCommand(f"{package} is not this project")
        if unknown := set((found[1] or "").split(",")) - {"", *config["options.extras_require"]}:
            raise InvalidCommand(f"there is no extra {' '.join(unknown)}")


def test_a_wrong_command_is_detected() -> None:
    wrong = [
        "graphnode dlq redrive --reson X",
        "graphnode dlq redriv",
        "graphnode prune",
        "graphnode prune --older-than never",
        "make tests",
        "make chaos CHAOS_HOURS=1",
        "python -m benchmarks.consume --observd",
        "python -m benchmarks.gone",
        "python -m tests.mutants --all",
        "python -m pytest tests/gone",
        "dramatiq graphnode.actors --proceses 2",
        "docker compose exec workers graphnode status",
        "docker compose --profile observing up",
        "docker compose exec worker graphnode statu",
        "docker build --target gone .",
        "aws sqs purge-queues --queue-url U",
        "aws sqs purge-queue --url U",
        "aws cloudformation deploy --template-file deploy/cloudformation.yml --parameter-overrides Images=x",
        "pip install graphnode-worker[all]",
        "kubectl apply",
    ]
    found = []
    for line in wrong:
        try:
            check(line.split(), whole=True)
        except InvalidCommand:
            found.append(line)
    assert found == wrong


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_each_target_of_make_has_its_line_in_make_help() -> None:
    phony = re.findall(r"^\.PHONY: (.+)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)

    assert {name for line in phony for name in line.split()} == targets()


DOCUMENT = """# Some

This needs AWS, and `graphnode status` does not; `make` and `graphnode` are no commands.

```console
$ graphnode doctor    # exit code 2
✗ database            nobody listens
$ NAME=value .venv/bin/python -m pytest \\
    tests/unit && make lint
```

## More

Here one needs Docker.

| `HYPOTHESIS_PROFILE=nightly make test` | `it's graphnode` |
|---|---|

```sh
aws sts get-caller-identity | cat
```

```text
$ graphnode forget ada
```
"""


def test_the_commands_of_a_document_are_found(tmp_path: Path) -> None:
    written = tmp_path / "some.md"
    written.write_text(DOCUMENT)

    found = [(" ".join(one.words), one.typed, sorted(one.needs), one.says) for one in document(written).commands]

    assert found == [
        ("graphnode status", False, ["AWS"], ()),
        ("graphnode doctor", True, ["AWS"], ("✗ database            nobody listens",)),
        ("python -m pytest tests/unit", True, ["AWS"], ()),
        ("make lint", True, ["AWS"], ()),
        ("make test", False, ["AWS", "Docker"], ()),
        ("aws sts get-caller-identity", True, ["AWS", "Docker"], ()),
        ("cat", True, ["AWS", "Docker"], ()),
    ]
