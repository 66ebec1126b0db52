"""Every link of a document leads to an existing place, and every named path exists."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.pages import PROJECT, Link, document, paths

#: A path below a directory, to a file with one of these endings or to a directory. Patterns, URLs and S3 keys with
#: placeholders do not match.
PATH = re.compile(r"\.?[A-Za-z][\w.-]*/(?:[\w.-]+/)*(?:[\w-]+\.(?:cfg|js|json|md|py|sql|svg|toml|ts|txt|yml))?")

#: Directories that a path may start in, besides the project's and the document's own.
PLACES = ("graphnode", "tests", "contract", "deploy")

#: Begins of S3 keys, and of files that a program creates.
NO_PATHS = re.compile(r"(?:ai/known|graph|summary|input|inputs|results|requests|chats|postgres|\.graphnode|\.fuzz)/")

#: Files that the reader of a document creates.
MADE = {"graphnode/actors/search_index.py"}

#: Links in files other than Markdown.
IN_CODE = re.compile(r"(?<![\w/])(?:docs|deploy|contract)/[\w-]+\.(?:md|json|yml|sql)(?:#[\w-]+)?")


@pytest.mark.parametrize("path", paths(), ids=lambda path: str(path.relative_to(PROJECT)))
def test_a_document_begins_with_a_title_and_its_purpose(path: Path) -> None:
    title, *rest = path.read_text(encoding="utf-8").splitlines()

    assert title.startswith("# ")
    assert re.match(r"[A-Z`\[*]", rest[1]), "the lines below the title must say what the document is for"


@pytest.mark.parametrize("path", paths(), ids=lambda path: str(path.relative_to(PROJECT)))
def test_each_link_leads_somewhere(path: Path) -> None:
    lost = [f"{link.line}: {link.target}" for link in document(path).links if not leads_somewhere(link)]

    assert lost == []


def leads_somewhere(link: Link) -> bool:
    """Whether a link's file and the place in it exist. External links are not opened, but must be HTTPS."""
    parts = urlsplit(link.target)
    if parts.scheme or parts.netloc:
        return parts.scheme == "https" and "." in (parts.hostname or "")
    target = (link.document.parent / unquote(parts.path)).resolve() if parts.path else link.document
    if not target.exists() or not target.is_relative_to(PROJECT):
        return False
    return not parts.fragment or (target.suffix == ".md" and parts.fragment in document(target).anchors)


@pytest.mark.parametrize("path", paths(), ids=lambda path: str(path.relative_to(PROJECT)))
def test_each_named_path_exists(path: Path) -> None:
    named = {code.text.partition("::")[0]: code.line for code in document(path).codes}

    assert {name: line for name, line in named.items() if is_lost(name, directory=path.parent)} == {}


def is_lost(name: str, *, directory: Path) -> bool:
    """Whether this is a path to a missing file."""
    places = (PROJECT, directory, *(PROJECT / place for place in PLACES))
    is_path = PATH.fullmatch(name) and not NO_PATHS.match(name) and name not in MADE
    return bool(is_path) and not any((place / name).exists() for place in places)


@pytest.mark.parametrize("name", ["graphnode/gone.py", "docs/gone.md", "gone/", "storage/gone.py", "deploy/gone.yml"])
def test_a_missing_path_is_detected(name: str) -> None:
    assert is_lost(name, directory=PROJECT)


def test_each_page_is_in_the_index() -> None:
    index = PROJECT / "docs" / "README.md"
    listed = {(index.parent / link.target.partition("#")[0]).resolve() for link in document(index).links}
    pages = {*index.parent.glob("*.md"), PROJECT / "contract" / "README.md"} - {index}

    assert pages <= listed, "docs/README.md lists every page"


def test_links_in_code_and_deployment_files_lead_somewhere() -> None:
    lost = []
    for pattern in ("graphnode/**/*.py", "deploy/*", "Makefile", "Dockerfile", "docker-compose.yml"):
        for path in PROJECT.glob(pattern):
            if path.is_file() and path.suffix != ".md":
                lost += [f"{path.relative_to(PROJECT)}: {found}" for found in lost_in(path)]
    assert lost == []


def lost_in(path: Path) -> list[str]:
    """The links of a file that lead to missing places."""
    lost = []
    for found in IN_CODE.findall(path.read_text(encoding="utf-8")):
        name, _, fragment = found.partition("#")
        target = PROJECT / name
        if not target.exists() or (fragment and fragment not in document(target).anchors):
            lost.append(found)
    return lost


def test_links_that_lead_nowhere_are_detected(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Other\n\n## A `place` in it\n")
    written = tmp_path / "some.md"
    written.write_text(
        "# Some\n\n[1](other.md#a-place-in-it) [2](other.md#gone) [3](gone.md) [4](#some) [5](#other)\n"
        "[6](http://example.com/) [7](https://example.com/) [8](https://nowhere)\n\n| a | ![9](gone.svg) |\n|---|---|\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.docs.test_links.PROJECT", tmp_path)
        lost = [link.target for link in document(written).links if not leads_somewhere(link)]

    assert lost == ["other.md#gone", "gone.md", "#other", "http://example.com/", "https://nowhere", "gone.svg"]
