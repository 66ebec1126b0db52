"""Replay the Dockerfile without Docker: run each line in a clean file system, then the image's commands in the result.

`python -m release.image`. The worker runs as in production: as process 1, without root or capabilities, on a read-only
root file system. PostgreSQL and LocalStack are embedded. This machine's Python replaces the base image, whose own
content is not checked.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
from ruamel.yaml import YAML

from graphnode.dev.stack import running_stack
from release.dockerfile import Config, Stage, context_of, copy_of, stages_of
from release.output import Failed, last_line, tell
from release.sandbox import Layers, Root, build_environment, enter_namespace, make_base

PROJECT = Path(__file__).resolve().parents[1]

#: The path of the stand-in AI server's corpus in the image.
CORPUS = "/opt/graphnode/lib/python3.11/site-packages/graphnode/dev/ai/corpus/sources"

#: Exit code 1 means warnings, which are right: there are no Firebase credentials.
DOCTOR = ["sh", "-c", "graphnode doctor || test $? -eq 1"]

#: Seconds that a start, or a whole graph generation, may take on a busy machine.
TIMEOUT_S = 300.0

POLL_S = 0.5


class Built(NamedTuple):
    """A replayed stage: its file system, its layers from top to bottom, and the configuration of its containers."""

    root: Root
    layers: Sequence[Layers]
    config: Config


def main() -> int:
    """Build the images and run them; the exit code."""
    enter_namespace()
    place = Path(tempfile.mkdtemp(prefix="graphnode-image-"))
    try:
        # The user of a container needs access.
        place.chmod(0o755)
        built = build(place)
        run(built)
    except Failed as failure:
        tell(f"FAILED: {failure}")
        return 1
    finally:
        # The mounts belong to this process. They must go before the directories below them can be removed.
        subprocess.run(["umount", "--recursive", "--lazy", *mounted(place)], check=False)  # noqa: S603, S607
        shutil.rmtree(place, ignore_errors=True)
    tell("All lines of the Dockerfile work.")
    return 0


def build(place: Path) -> dict[str, Built]:
    """Replay all stages; returns them by name. Raises Failed."""
    stages = stages_of(PROJECT / "Dockerfile")
    version = f"python:{sys.version_info.major}.{sys.version_info.minor}."
    images = {stage.base for stage in stages} - {stage.name for stage in stages}
    if any(not image.startswith(version) for image in images):
        raise Failed(
            f"The base is {', '.join(sorted(images))}, but this is Python {sys.version}. Run the base's Python."
        )

    context = place / "context"
    for name in sorted(context_of(PROJECT)):
        source, target = PROJECT / name, context / name
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    base = make_base(place)
    # Python's images have pip and a cache of the linker.
    with_pip = Root(place / "with-pip", [base])
    for command in (["ldconfig"], ["/usr/local/bin/python", "-m", "ensurepip", "--default-pip"]):
        with_pip.run(command, environment=Config().environment)
    below = [with_pip.layers, base]
    tell(f"This machine's Python {sys.version.split()[0]} replaces {', '.join(sorted(images))}.\n")

    built: dict[str, Built] = {}
    for stage in stages:
        parent = built.get(stage.base)
        layers, config = (parent.layers, parent.config) if parent else (below, Config())
        tell(f"FROM {stage.base} AS {stage.name}")
        root = Root(place / "stages" / stage.name, layers)
        config = replay(stage, root, config, context=context, built=built)
        built[stage.name] = Built(root, [root.layers, *layers], config)
        tell(f"      = {megabytes(root.layers.size())} more than {stage.base}\n")
    for name in ("worker", "ai"):
        added = sum(layers.size() for layers in built[name].layers[: -len(below)])
        tell(f"The image {name!r} adds {megabytes(added)} to its base.")
    return built


def replay(stage: Stage, root: Root, config: Config, *, context: Path, built: Mapping[str, Built]) -> Config:
    """Carry out the instructions of a stage; the configuration of its containers. Raises Failed."""
    for instruction in stage.instructions:
        began = time.monotonic()
        if instruction.name == "RUN":
            root.run(
                ["/bin/sh", "-c", instruction.value],
                environment=build_environment(config.environment),
                directory=config.directory,
                user=config.user,
            )
        elif instruction.name == "COPY":
            copied = copy_of(instruction)
            source = built[copied.stage].root.path if copied.stage else context
            target = root.path / str(Path(config.directory) / copied.target).lstrip("/")
            copy(source, copied.sources, target, into=copied.target.endswith("/") or len(copied.sources) > 1)
        config = config.after(instruction)
        if instruction.name == "WORKDIR":
            (root.path / config.directory.lstrip("/")).mkdir(parents=True, exist_ok=True)
        words = " ".join(instruction.value.split())
        tell(f"  {instruction.line:>3} {instruction.name} {words[:84]}{'…' if len(words) > 84 else ''}", began=began)
    return config


def copy(source: Path, names: Sequence[str], target: Path, *, into: bool) -> None:
    """Copy as Docker's COPY does. Raises Failed.

    Parameters:
      into: whether the target of a file is a directory. The content of a directory goes to the target itself.
    """
    for name in names:
        found = source / name.lstrip("/")
        if found.is_dir():
            shutil.copytree(found, target, symlinks=True, dirs_exist_ok=True)
        elif found.exists():
            place = target / found.name if into else target
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, place)
        else:
            raise Failed(f"COPY {name}: not found. Does .dockerignore exclude it?")


def run(built: Mapping[str, Built]) -> None:
    """Generate a graph with the images of the worker and the AI server, run as docker-compose.yml runs them."""
    services = YAML(typ="safe").load(PROJECT / "docker-compose.yml")["services"]
    for name in ("worker", "ai"):
        built[name].root.freeze()
    no_installer = "import importlib.util as i, sys; sys.exit(any(map(i.find_spec, ('pip', 'setuptools', 'wheel'))))"
    for python in ("/usr/local/bin/python", "/opt/graphnode/bin/python"):
        in_image(built["worker"], [python, "-c", no_installer])
    tell("\nThe worker's image has no pip, setuptools or wheel.")

    with ExitStack() as running:
        stack = running.enter_context(running_stack(tell=lambda line: tell(f"  {line}")))
        environment = {name: value for name, value in stack.environment.items() if value}
        environment |= {"GRAPHNODE_HEALTH_PORT": str(free_port()), "dramatiq_prom_port": str(free_port())}
        worker, ai = built["worker"], built["ai"]

        tell(last_line(in_image(worker, services["migrate"]["command"], environment)))
        tell(last_line(in_image(worker, DOCTOR, environment)))
        began = time.monotonic()
        worker_process = running.enter_context(started(worker, environment))
        wait_for("the worker's health", lambda: in_image(worker, worker.config.health, environment), worker_process)
        ready = services["worker"]["healthcheck"]["test"][1:]
        wait_for("its readiness", lambda: in_image(worker, ready, environment), worker_process)
        tell(f"{' '.join(worker.config.command)}: process 1, healthy and ready", began=began)

        began = time.monotonic()
        ai_process = running.enter_context(started(ai, {**environment, "GRAPHNODE_LOG_FORMAT": "console"}))
        asked = ["graphnode", "request", "graph", "--user", "ada", "--input", CORPUS, "--task-id", "task_image"]
        in_image(worker, asked, environment)

        def ended() -> None:
            tasks = json.loads(in_image(worker, ["graphnode", "task", "task_image", "--json"], environment))
            if [task["status"] for task in tasks] != ["COMPLETED"]:
                raise Failed(f"The task is {tasks}.")

        wait_for("the graph", ended, worker_process, ai_process)
        tell(f"{' '.join(ai.config.command)}: a graph was requested, generated and stored", began=began)

        for name, process in (("worker", worker_process), ("ai", ai_process)):
            began = time.monotonic()
            [first] = psutil.Process(process.pid).children()
            first.send_signal(signal.SIGTERM)
            grace_s = float(services[name]["stop_grace_period"].removesuffix("s"))
            try:
                code = process.wait(grace_s)
            except subprocess.TimeoutExpired:
                raise Failed(f"{name} still runs {grace_s:.0f} s after SIGTERM.") from None
            if code:
                raise Failed(f"{name} ended with exit code {code} after SIGTERM.")
            tell(f"{name}: exit code 0 after SIGTERM", began=began)


def in_image(built: Built, command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Run a command as `docker run` or `docker exec` would; its output. Raises Failed."""
    config = built.config
    variables = {**config.environment, **(environment or {})}
    return built.root.run(
        command, environment=variables, directory=config.directory, user=config.user, timeout_s=TIMEOUT_S
    )


@contextmanager
def started(built: Built, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The image's default command, running until the block ends. Adds its log to an error."""
    config = built.config
    with tempfile.TemporaryFile() as log:
        variables = {**config.environment, **environment}
        process = built.root.start(
            config.command, environment=variables, directory=config.directory, user=config.user, log=log
        )
        try:
            yield process
        except Failed as failure:
            log.seek(0)
            written = log.read().decode(errors="replace").splitlines()[-40:]
            raise Failed("\n".join([str(failure), f"The log of {' '.join(config.command)}:", *written])) from None
        finally:
            process.kill()
            process.wait()


def wait_for(what: str, check: Callable[[], object], *processes: subprocess.Popen[bytes]) -> None:
    """Wait until a check passes. Raises Failed if that takes too long, or if a process ends."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            check()
        except Failed as failure:
            if time.monotonic() > deadline or any(process.poll() is not None for process in processes):
                raise Failed(f"{what} is still missing: {failure}") from None
            time.sleep(POLL_S)
        else:
            return


def mounted(place: Path) -> list[str]:
    """The mount points below a directory, the newest first."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [path for line in reversed(lines) if (path := line.split()[1]).startswith(f"{place}/")]


def free_port() -> int:
    """A free port on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def megabytes(size: int) -> str:
    """A size in megabytes, as printed text."""
    return f"{size / 1e6:.0f} MB"


if __name__ == "__main__":
    sys.exit(main())
