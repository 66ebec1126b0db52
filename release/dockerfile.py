"""A Dockerfile as stages of instructions, and what each leaves to the next: environment, user, directory, command.

Only what this project's Dockerfile says is known; anything else is refused, so that nothing is passed over in silence.
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

#: What the images of Python begin with.
BASE_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"


class UnknownInstruction(Exception):
    """The Dockerfile says something that is not known here."""


class Instruction(NamedTuple):
    """One instruction.

    Parameters:
      line: where it begins, from 1.
      name: `RUN`, `COPY`, …
      value: what follows it, its lines joined.
    """

    line: int
    name: str
    value: str


class Stage(NamedTuple):
    """What one FROM begins.

    Parameters:
      name: its name, or its number where it has none.
      base: the name of a stage before it, or of an image.
      instructions: all but FROM.
    """

    name: str
    base: str
    instructions: Sequence[Instruction]


class Config(NamedTuple):
    """How a container of an image runs.

    Parameters:
      environment: variables and their values.
      directory: where commands run.
      user: `UID:GID`; empty for root.
      command: what runs when no other command is given; empty before a CMD.
      health: the command of the health check; empty without one.
    """

    environment: Mapping[str, str] = {"PATH": BASE_PATH}
    directory: str = "/"
    user: str = ""
    command: Sequence[str] = ()
    health: Sequence[str] = ()

    def after(self, instruction: Instruction) -> Config:
        """What an instruction makes of it. Raises UnknownInstruction."""
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
        raise UnknownInstruction(f"line {instruction.line}: {name} is not known here.")


class Copy(NamedTuple):
    """What a COPY says.

    Parameters:
      stage: the stage it copies from; None for the build's context.
      sources: paths in it.
      target: a path, relative to the stage's directory if it is not absolute.
    """

    stage: str | None
    sources: Sequence[str]
    target: str


def stages_of(path: Path) -> list[Stage]:
    """All stages of a Dockerfile, in order."""
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
    """What a COPY says. Raises UnknownInstruction for an option or a pattern."""
    words = shlex.split(instruction.value)
    stage = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else None
    if any(word.startswith("--") or set(word) & set("*?[") for word in words):
        raise UnknownInstruction(f"line {instruction.line}: only --from and plain paths are known of COPY.")
    return Copy(stage, words[:-1], words[-1])


def exec_form(instruction: Instruction, text: str) -> list[str]:
    """A command as a JSON array. Raises UnknownInstruction for a shell's, which would stand between it and SIGTERM."""
    try:
        command: list[str] = json.loads(text)
    except ValueError:
        raise UnknownInstruction(f"line {instruction.line}: {instruction.name} is not a JSON array.") from None
    return command


def context_of(project: Path) -> set[str]:
    """The paths that Docker would have of a project: files and directories that .dockerignore leaves in."""
    lines = (project / ".dockerignore").read_text().splitlines()
    found: set[str] = exclude_paths(str(project), [line for line in lines if line and not line.startswith("#")])
    return found
