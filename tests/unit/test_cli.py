from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from graphnode import __version__, cli
from graphnode.cli import maintenance, requests
from graphnode.errors import NothingStored
from graphnode.requests import Requested

#: Runs the command with arguments; returns its exit code (or last message), its output and its errors.
Run = Callable[..., tuple[object, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for name in ("DATABASE_URL", "AWS_REGION", "SQS_RESULT_QUEUE_URL", "GRAPHNODE_HEALTH_PORT"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["graphnode", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        output, errors = capsys.readouterr()
        return ended.value.code, output, errors

    return run


def test_it_prints_its_version(run: Run) -> None:
    assert run("--version")[:2] == (0, f"graphnode, version {__version__}\n")


def test_each_command_has_a_help(run: Run) -> None:
    for command in cli.commands.commands:
        code, output, _ = run(command, "--help")

        assert code == 0
        assert "Usage:" in output


def test_an_error_of_ours_is_one_message_and_no_traceback(run: Run) -> None:
    code, _, errors = run("migrate")

    assert str(code).startswith("graphnode: DATABASE_URL is missing: set it to a PostgreSQL URL")
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "command",
    [
        ["migrate"],
        ["dlq", "list"],
        ["task", "ID"],
        ["health"],
        ["deliver", "graph", "--user", "u"],
        ["request", "graph", "--user", "u", "--input", "s3://b/k"],
        ["ai"],
        ["settings"],
        ["doctor"],
        ["status"],
    ],
)
def test_an_error_about_a_missing_setting_names_env_file(run: Run, command: list[str]) -> None:
    code, _, errors = run(*command)

    assert code != 0
    assert "--env-file FILE, or GRAPHNODE_ENV_FILE" in f"{code}{errors}"


def test_a_file_with_settings_can_be_named_by_a_variable(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "stack.env"
    monkeypatch.setenv("GRAPHNODE_ENV_FILE", str(file))
    gone = run("migrate")
    file.write_text("GRAPHNODE_LOG_LEVEL=info\n")
    without = run("migrate")
    file.write_text("DATABASE_URL=postgresql://me:secret@127.0.0.1:1/db\n")
    whole = run("migrate")

    assert gone[0] == 2
    assert "(env var: 'GRAPHNODE_ENV_FILE')" in gone[2]
    assert "DATABASE_URL is missing: set it to a PostgreSQL URL" in str(without[0])
    assert str(whole[0]).startswith("graphnode: PostgreSQL cannot be reached")


def test_a_database_that_cannot_be_reached_is_one_message_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # Port 1 is tcpmux: nobody listens there.
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:secret@127.0.0.1:1/db")

    code, _, _ = run("migrate")

    assert str(code).startswith("graphnode: PostgreSQL cannot be reached")
    assert "secret" not in str(code)


#: A deployment of which nothing can be reached: port 1 is tcpmux, where nobody listens.
UNREACHABLE = {
    "DATABASE_URL": "postgresql://me:hunter2@127.0.0.1:1/db",
    "AWS_REGION": "us-east-1",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_ACCESS_KEY_ID": "hunter2",
    "AWS_SECRET_ACCESS_KEY": "hunter2",
    "SQS_RESULT_QUEUE_URL": "http://127.0.0.1:1/results",
    "SQS_REQUEST_QUEUE_URL": "http://127.0.0.1:1/requests",
    "S3_PAYLOAD_BUCKET": "payloads",
}


@pytest.mark.parametrize(
    ("name", "value", "commands"),
    [
        (
            "DATABASE_URL",
            "postgresql://me:hunter2/hunter3@127.0.0.1:1/db",
            ["migrate", "prune --older-than 90d", "task t", "show ada", "status", "doctor", "settings", "dev"],
        ),
        ("DATABASE_URL", "postgresql://me:@[hunter2/db", ["doctor", "doctor --json"]),
        ("AWS_ENDPOINT_URL", "http://me:hunter2@127.0.0.1:1/hunter3", ["dlq list", "status", "doctor", "settings"]),
    ],
)
def test_a_url_with_a_raw_password_is_refused_by_each_command_and_shown_by_none(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str, commands: list[str]
) -> None:
    for variable, given in {**UNREACHABLE, name: value}.items():
        monkeypatch.setenv(variable, given)

    for command in commands:
        said = " ".join(map(str, run(*command.split())))

        assert f"{name} is a value that is not shown here" in " ".join(said.split()), command
        assert "hunter" not in said


def test_an_error_shows_no_character_that_a_terminal_obeys(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_path: Path | None) -> None:
        raise NothingStored("of eve\x1b[2J\u202e\nnothing")

    monkeypatch.setattr(maintenance, "environment_of", fail)

    assert run("migrate")[0] == "graphnode: of eve\\x1b[2J\\u202e\nnothing"


def test_a_bug_shows_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_path: Path | None) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(maintenance, "environment_of", fail)
    monkeypatch.setattr(sys, "argv", ["graphnode", "migrate"])

    with pytest.raises(ZeroDivisionError):
        cli.main()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["video"], "is unknown; choose one of graph, progress,"),
        (["graph", "--half", "block"], "--half and --group are for microscope"),
        (["graph", "--group", "g"], "--half and --group are for microscope"),
        (["summary", "--document", __file__, "--features", __file__], "are for graph results"),
        (["graph", "--features", __file__], "go with --document"),
        (["graph", "--status", "FAILED", "--document", __file__], "has no documents"),
        (["progress", "--document", __file__], "has no documents"),
    ],
)
def test_misuse_of_deliver_ends_with_exit_code_2(run: Run, arguments: list[str], told: str) -> None:
    code, _, errors = run("deliver", *arguments, "--user", "u")

    assert code == 2
    assert told in " ".join(errors.split())


@pytest.mark.parametrize("metadata", ["nope", "[1]", "7"])
def test_metadata_other_than_an_object_are_refused_with_an_example(run: Run, metadata: str) -> None:
    code, _, errors = run(
        "request", "microscope", "--user", "u", "--input", "s3://b/k", "--group", "g", "--metadata", metadata
    )

    assert code == 2
    assert 'no JSON object such as {"pages": 3}' in " ".join(errors.split())


def test_a_database_that_is_not_the_stacks_own_is_not_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me@127.0.0.1:1/db")

    code, _, errors = run("dev", "--keep")

    assert code == 2
    assert "--keep is for the embedded PostgreSQL" in errors


def test_an_environment_file_needs_a_directory(run: Run, tmp_path: Path) -> None:
    code, _, errors = run("dev", "--env-file", str(tmp_path / "gone" / "stack.env"))

    assert code == 2
    assert "there is no directory" in errors


@pytest.mark.parametrize(("module", "extra"), [("psutil", "dev"), ("scipy", "ai")])
def test_a_command_that_needs_an_extra_names_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    def fail(_path: Path | None) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(maintenance, "environment_of", fail)

    code, _, _ = run("migrate")

    assert code == f"graphnode: this command needs {module}: pip install 'graphnode-worker[{extra}]'."


@pytest.mark.parametrize("age", ["90", "d", "-1d", "90 days", "999999d"])
def test_a_malformed_age_is_refused_with_what_is_expected(run: Run, age: str) -> None:
    code, _, errors = run("prune", "--older-than", age)

    assert code == 2
    assert "expected days or hours, such as 90d or 36h" in errors


#: What Python makes of the byte FF in an argument.
NO_UTF_8 = "ada\udcff"


@pytest.mark.parametrize(
    "command",
    [
        ["task", NO_UTF_8],
        ["show", NO_UTF_8],
        ["forget", NO_UTF_8, "--yes"],
        ["dlq", "show", NO_UTF_8],
        ["dlq", "delete", "ID", "--because", NO_UTF_8],
        ["dlq", "list", "--task", NO_UTF_8],
        ["deliver", "graph", "--user", NO_UTF_8],
        ["request", "graph", "--user", NO_UTF_8, "--input", "s3://b/k"],
        ["request", "graph", "--user", "ada", "--input", "s3://b/k", "--extra", "a", "--extra", NO_UTF_8],
        ["ai", "--side", NO_UTF_8],
    ],
    ids=" ".join,
)
def test_text_that_is_no_utf_8_is_misuse(run: Run, command: list[str]) -> None:
    code, _, errors = run(*command)

    assert code == 2
    assert errors.splitlines()[-1].startswith("Error: Invalid value for")
    assert errors.endswith(": it is not UTF-8 text.\n")


def test_a_path_need_not_be_utf_8(run: Run) -> None:
    code, _, _ = run("show", "ada", "--svg", NO_UTF_8)

    assert str(code).startswith("graphnode: DATABASE_URL is missing")


def test_a_request_prints_the_command_that_follows_it(capsys: pytest.CaptureFixture[str]) -> None:
    made = Requested("task_graph_ada b_1", ("task_graph_ada b_1",), published=True)

    requests._print(made, env_file=Path(".graphnode.env"))

    output, errors = capsys.readouterr()
    assert output == "task_graph_ada b_1\n"
    assert errors == "Follow it: graphnode task 'task_graph_ada b_1' --env-file .graphnode.env\n"


def test_the_console_says_which_port_is_taken() -> None:
    command = "from graphnode.cli import main; main()"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [sys.executable, "-c", command, "console", "--port", port],
            env={"PATH": "/usr/bin"}, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    assert ended.returncode == 1
    assert f"127.0.0.1:{port}: Address already in use. Choose another with --port." in ended.stderr


def test_the_console_listens_on_a_shared_address_only_with_a_token(run: Run) -> None:
    code, _, _ = run("console", "--host", "192.0.2.1")

    assert "set GRAPHNODE_CONSOLE_TOKEN" in str(code)
