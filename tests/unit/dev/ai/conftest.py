from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import graphnode.dev.ai
from graphnode.dev.ai.reading import Source, read_inputs

if TYPE_CHECKING:
    from graphnode.dev.ai.placing import Placed

CORPUS = Path(graphnode.dev.ai.__file__).with_name("corpus")

NOW = datetime(2026, 5, 24, 8, 2, tzinfo=UTC)

MakeSource = Callable[..., Source]


def files(folder: str) -> dict[str, bytes]:
    """A folder of the corpus as a request's inputs."""
    return {f"in/{folder}/{file.name}": file.read_bytes() for file in sorted((CORPUS / folder).iterdir())}


@pytest.fixture(scope="session")
def sources() -> list[Source]:
    """What the corpus's graph is made of."""
    return read_inputs(files("sources"))[0]


@pytest.fixture(scope="session")
def later() -> list[Source]:
    """What comes to that graph later."""
    return read_inputs(files("later"))[0]


@pytest.fixture(scope="session")
def graph(sources: list[Source]) -> dict[str, Any]:
    """The corpus's graph document."""
    from graphnode.dev.ai.graph import make_graph

    return make_graph(sources, generated_at=NOW).document


@pytest.fixture(scope="session")
def known(sources: list[Source], graph: dict[str, Any]) -> list[Placed]:
    """What the stand-in knows of the corpus's graph."""
    from graphnode.dev.ai.placing import Placed

    return [
        Placed(
            orig_id=source.name,
            kind=source.kind,
            title=source.title,
            sections=source.sections,
            cluster_id=node["cluster_id"],
            cluster_name=node["cluster_name"],
            task_id="t-0",
            id=node["id"],
        )
        for source, node in zip(sources, graph["nodes"], strict=True)
    ]


@pytest.fixture
def make_source() -> MakeSource:
    """Sources of a text each."""

    def make(name: str, text: str, **changes: Any) -> Source:
        fields = {"kind": "file", "title": name, "created": None, "updated": None, "extension": "txt"}
        return Source(orig_id=name, sections=[text], **{**fields, **changes})

    return make
