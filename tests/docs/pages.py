"""Reads the project's documents for the tests: their headings, links, commands and inline code."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.anchors import anchors_plugin

PROJECT = Path(__file__).parents[2]

#: Directories whose Markdown files are data or belong to other projects.
NO_DOCUMENTS = {"corpus", "node_modules", "build", "dist"}

#: The languages of blocks with commands: after `$ `, or one in each line.
CONSOLE = "console"
SCRIPTS = ("sh", "bash")

#: The first words of commands that a sentence names.
PROGRAMS = ("make", "graphnode", "python", "docker", "aws", "dramatiq", "pip", "promtool", "npm", "git", "uv")

#: Separators of two commands in a line.
BETWEEN = ("&&", "|")

#: A variable that is set in front of a command.
ASSIGNMENT = re.compile(r"[A-Z_]+=\S+")

#: Where a chapter says that its commands need more than this machine.
NEEDS = re.compile(r"\b(?i:needs?|with) (AWS|Docker)\b")

#: Commands that tests/e2e runs as shown: in the situations of docs/runbook.md, and in a stack with data. The other
#: commands run until they are stopped.
RUN = re.compile(r"graphnode (?!(?:console|dev|demo|worker)\b|ai$|ai (?!--help)|status --watch)")


class Link(NamedTuple):
    """A link or a picture.

    Parameters:
      target: its target, as written.
    """

    document: Path
    line: int
    target: str


class Code(NamedTuple):
    """Inline code."""

    document: Path
    line: int
    text: str


class Command(NamedTuple):
    """A command in a document.

    Parameters:
      words: the command, without the variables in front of it and without `.venv/bin/`.
      typed: whether it is in a block, to be typed. If not, a sentence names it, and it may lack arguments.
      needs: AWS or Docker, if its chapter or the document's first chapter says so.
      says: the lines below it in its block.
    """

    document: Path
    line: int
    words: tuple[str, ...]
    typed: bool
    needs: frozenset[str]
    says: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.document.relative_to(PROJECT)}:{self.line}: {shlex.join(self.words)}"


class Document(NamedTuple):
    """A document.

    Parameters:
      anchors: the fragments that a link to it may have.
      codes: its inline code.
    """

    path: Path
    anchors: frozenset[str]
    links: list[Link]
    codes: list[Code]
    commands: list[Command]


def paths() -> list[Path]:
    """The paths of all documents of the project."""
    found = []
    for directory, directories, files in os.walk(PROJECT):
        directories[:] = [name for name in directories if name[0] != "." and name not in NO_DOCUMENTS]
        found += [Path(directory, name) for name in files if name.endswith(".md")]
    return sorted(found)


@cache
def document(path: Path) -> Document:
    """The document, read once."""
    markdown = MarkdownIt("commonmark").enable("table").use(anchors_plugin, max_level=6)
    text = path.read_text(encoding="utf-8")
    tokens = markdown.parse(text)
    chapters = list(_chapters(tokens, text))
    read = Document(path, frozenset(str(token.attrs["id"]) for token in tokens if "id" in token.attrs), [], [], [])
    for token, line in _with_lines(tokens):
        own = next(said for begin, said in reversed(chapters) if begin <= line)
        needs = frozenset(NEEDS.findall(own) + NEEDS.findall(chapters[0][1]))
        if token.type == "fence":
            read.commands.extend(_typed(path, line, token, needs))
        for child in token.children or ():
            if child.type == "code_inline":
                code = " ".join(child.content.split())
                read.codes.append(Code(path, line, code))
                read.commands.extend(_named(path, line, code, needs))
            elif child.type in ("link_open", "image"):
                read.links.append(Link(path, line, str(child.attrs.get("href") or child.attrs["src"])))
    return read


def _with_lines(tokens: list[Token]) -> Iterator[tuple[Token, int]]:
    """The tokens with their first lines. A cell of a table has the line of its row."""
    line = 1
    for token in tokens:
        line = token.map[0] + 1 if token.map else line
        yield token, line


def _chapters(tokens: list[Token], text: str) -> Iterator[tuple[int, str]]:
    """The first line and the text of each chapter."""
    lines = text.splitlines()
    begins = [token.map[0] for token in tokens if token.type == "heading_open" and token.map]
    for begin, end in zip(begins, [*begins[1:], len(lines)], strict=True):
        yield begin + 1, " ".join(lines[begin:end])


def _typed(path: Path, line: int, block: Token, needs: frozenset[str]) -> Iterator[Command]:
    language = block.info.strip()
    lines = block.content.replace("\\\n", " ").splitlines()
    if language in SCRIPTS:
        lines = [f"$ {one}" for one in lines]
    elif language != CONSOLE:
        return
    numbers = [number for number, one in enumerate(lines) if one.startswith("$ ")]
    for number, end in zip(numbers, [*numbers[1:], len(lines)], strict=True):
        says = tuple(lines[number + 1 : end])
        for words in _commands(lines[number].removeprefix("$ ")):
            yield Command(path, line + number + 1, words, True, needs, says)


def _named(path: Path, line: int, code: str, needs: frozenset[str]) -> Iterator[Command]:
    for words in _commands(code) if re.match(r"(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?[a-z]+ ", code) else ():
        if words[0] in PROGRAMS:
            yield Command(path, line, words, False, needs)


def _commands(line: str) -> Iterator[tuple[str, ...]]:
    """The commands of a line, which may end with a comment."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        # An apostrophe: this is a sentence.
        return
    while words:
        end = next((at for at, word in enumerate(words) if word in BETWEEN), len(words))
        command = words[:end]
        while command and ASSIGNMENT.fullmatch(command[0]):
            command = command[1:]
        if command:
            yield (command[0].removeprefix(".venv/bin/"), *command[1:])
        words = words[end + 1 :]
