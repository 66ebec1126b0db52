from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import graphnode.dev.ai
from graphnode.dev.ai.text_sources import TextSource, read_inputs

if TYPE_CHECKING:
    from graphnode.dev.ai.placement import PlacedSource

CORPUS = Path(graphnode.dev.ai.__file__).with_name("corpus")

NOW = datetime(2026, 5, 24, 8, 2, tzinfo=UTC)

MakeSource = Callable[..., TextSource]


def files(folder: str) -> dict[str, bytes]:
    """A folder of the corpus as a request's inputs."""
    return {f"in/{folder}/{file.name}": file.read_bytes() for file in sorted((CORPUS / folder).iterdir())}


@pytest.fixture(scope="session")
def sources() -> list[TextSource]:
    """The sources of the corpus's graph."""
    return read_inputs(files("sources"))[0]


@pytest.fixture(scope="session")
def later() -> list[TextSource]:
    """The sources that are added to that graph."""
    return read_inputs(files("later"))[0]


@pytest.fixture(scope="session")
def graph(sources: list[TextSource]) -> dict[str, Any]:
    """The corpus's graph document."""
    from graphnode.dev.ai.graph_generation import make_graph

    return make_graph(sources, generated_at=NOW).document


@pytest.fixture(scope="session")
def known(sources: list[TextSource], graph: dict[str, Any]) -> list[PlacedSource]:
    """The known sources of the corpus's graph."""
    from graphnode.dev.ai.placement import PlacedSource

    return [
        PlacedSource.of(
            source,
            cluster_id=node["cluster_id"],
            cluster_name=node["cluster_name"],
            task_id="t-0",
            node_id=node["id"],
        )
        for source, node in zip(sources, graph["nodes"], strict=True)
    ]


@pytest.fixture
def make_source() -> MakeSource:
    """Makes sources with one section of text."""

    def make(name: str, text: str, **changes: Any) -> TextSource:
        fields = {"kind": "file", "title": name, "created": None, "updated": None, "extension": "txt"}
        return TextSource(orig_id=name, sections=[text], **{**fields, **changes})

    return make
