"""Reads a Dockerfile into stages of instructions, and computes the environment, user, directory and command of each.

It supports only the instructions of this project's Dockerfile, and refuses all others instead of ignoring them.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import NamedTuple

from docker.utils.build import exclude_paths
from dockerfile_parse.parser import DockerfileParser

#: The PATH of Python's images.
BASE_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"


class UnknownInstruction(Exception):
    """The Dockerfile has an instruction that this module does not support."""


class Instruction(NamedTuple):
    """One instruction.

    Parameters:
      line: its first line, from 1.
      name: `RUN`, `COPY`, …
      value: the text after the name, its lines joined.
    """

    line: int
    name: str
    value: str


class Stage(NamedTuple):
    """A stage of the build.

    Parameters:
      name: its name, or its number if it has no name.
      base: the name of an earlier stage, or of an image.
      instructions: all instructions after FROM.
    """

    name: str
    base: str
    instructions: Sequence[Instruction]


class Config(NamedTuple):
    """How a container of an image runs.

    Parameters:
      environment: environment variables.
      directory: the working directory.
      user: `UID:GID`; empty for root.
      command: the default command; empty before a CMD.
      health: the command of the health check; empty without one.
    """

    environment: Mapping[str, str] = {"PATH": BASE_PATH}
    directory: str = "/"
    user: str = ""
    command: Sequence[str] = ()
    health: Sequence[str] = ()

    def after(self, instruction: Instruction) -> Config:
        """The configuration after an instruction. Raises UnknownInstruction."""
        name, value = instruction.name, instruction.value
        if name in ("RUN", "COPY"):
            return self
        if name == "WORKDIR":
            return self._replace(directory=str(Path(self.directory) / value))
        if name == "USER":
            return self._replace(user=value)
        if name == "CMD":
            return self._replace(command=exec_form(instruction, value))
        if name == "HEALTHCHECK":
            _, _, command = value.partition("CMD ")
            return self._replace(health=() if value == "NONE" else exec_form(instruction, command))
        if name == "ENV":
            pairs = [pair.partition("=") for pair in shlex.split(value)]
            return self._replace(
                environment={
                    **self.environment,
                    **{key: Template(text).safe_substitute(self.environment) for key, _, text in pairs},
                }
            )
        raise UnknownInstruction(f"line {instruction.line}: {name} is not supported.")


class Copy(NamedTuple):
    """A COPY instruction.

    Parameters:
      stage: the source stage; None for the build context.
      sources: paths in the stage or the context.
      target: a path, absolute or relative to the working directory.
    """

    stage: str | None
    sources: Sequence[str]
    target: str


def stages_of(path: Path) -> list[Stage]:
    """The stages of a Dockerfile, in order."""
    with path.open("rb") as file:
        structure = DockerfileParser(fileobj=file).structure
    stages: list[Stage] = []
    for part in structure:
        if part["instruction"] == "COMMENT":
            continue
        if part["instruction"] == "FROM":
            base, _, name = part["value"].partition(" AS ")
            stages.append(Stage(name or str(len(stages)), base, []))
        else:
            instructions = [
                *stages[-1].instructions,
                Instruction(part["startline"] + 1, part["instruction"], part["value"]),
            ]
            stages[-1] = stages[-1]._replace(instructions=instructions)
    return stages


def copy_of(instruction: Instruction) -> Copy:
    """Read a COPY. Raises UnknownInstruction for an option other than --from, and for a pattern."""
    words = shlex.split(instruction.value)
    stage = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else None
    if any(word.startswith("--") or set(word) & set("*?[") for word in words):
        raise UnknownInstruction(f"line {instruction.line}: COPY supports only --from and plain paths.")
    return Copy(stage, words[:-1], words[-1])


def exec_form(instruction: Instruction, text: str) -> list[str]:
    """A command in exec form. Raises UnknownInstruction for shell form, whose shell would not pass on SIGTERM."""
    try:
        command: list[str] = json.loads(text)
    except ValueError:
        raise UnknownInstruction(f"line {instruction.line}: {instruction.name} is not a JSON array.") from None
    return command


def context_of(project: Path) -> set[str]:
    """The paths in Docker's build context of a project: files and directories that .dockerignore does not exclude."""
    lines = (project / ".dockerignore").read_text().splitlines()
    found: set[str] = exclude_paths(str(project), [line for line in lines if line and not line.startswith("#")])
    return found
