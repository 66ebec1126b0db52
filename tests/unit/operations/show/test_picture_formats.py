"""The three outputs of `graphnode show` (SVG, HTML page, terminal) are complete, safe and readable."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from graphnode.operations.show.drawing_svg import svg
from graphnode.operations.show.overview import LISTED, overview
from graphnode.operations.show.page import page
from graphnode.operations.show.picture import Picture, compose
from graphnode.operations.show.stored_graph import Cluster, Overview, StoredGraph, StoredNotification
from tests.unit.conftest import MakeGraph

SVG = "{http://www.w3.org/2000/svg}"

#: A name that tries to break out of the markup.
HOSTILE = (
    "</script><script>document.title='hacked'</script><img src=x onerror=alert(1)> {{script}} ]]> & \"'"
    "\"><img onerror=alert(1)></title></svg><svg onload=alert(1)>' onmouseover='alert(1) <!-- `${alert(1)}` \\u003c"
)

FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu"]
Opened = Callable[[str, str], str]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def graph(make_graph: MakeGraph) -> StoredGraph:
    return make_graph(40, 10, without_cluster=2)


@pytest.fixture(scope="module")
def picture(graph: StoredGraph) -> Picture:
    return compose(graph)


@pytest.fixture(scope="module")
def hostile(graph: StoredGraph) -> Picture:
    """A picture whose texts all try to break out of the markup."""
    return compose(
        replace(
            graph,
            user_id=HOSTILE,
            clusters=[cluster._replace(name=HOSTILE, keywords=[HOSTILE]) for cluster in graph.clusters],
            nodes=[
                node._replace(orig_id=HOSTILE, title=HOSTILE, keywords=[HOSTILE], source_type=HOSTILE)
                for node in graph.nodes
            ],
        )
    )


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """Opens a document in Chromium; returns the DOM that the browser built."""

    def run(text: str, name: str) -> str:
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        return subprocess.run(
            [CHROMIUM or "", *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", file.as_uri()],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout

    return run


class Elements(HTMLParser):
    """The elements of a page as (name, attributes), and the text of each script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._is_code = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._is_code = tag in ("script", "style")
        if self._is_code:
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._is_code = False

    def handle_data(self, data: str) -> None:
        if self._is_code:
            self.texts[-1] += data


def test_the_svg_has_a_mark_with_a_tooltip_for_each_node(picture: Picture) -> None:
    root = ElementTree.fromstring(svg(picture))

    marks = [mark for group in root.iterfind(f".//{SVG}g[@class='node']") for mark in group]
    assert sorted(mark.findtext(f"{SVG}title") or "" for mark in marks) == sorted(
        f"{node.node.title}\n{node.node.orig_id}\n{picture.islands[node.island].name}\n{', '.join(node.node.keywords)}"
        for node in picture.nodes
    )
    # The ninth and tenth cluster reuse the first hues, with squares.
    assert {mark.tag.removeprefix(SVG) for mark in marks} == {"circle", "polygon"}


def test_the_svg_has_a_title_and_description_for_screen_readers(picture: Picture) -> None:
    root = ElementTree.fromstring(svg(picture))

    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == "The knowledge graph of ada"
    described = root.findtext(f"{SVG}desc") or ""
    assert described.startswith("40\u00a0nodes · ")
    assert all(island.name in described for island in picture.islands)
    shown = {"".join(name.itertext()) for name in root.iterfind(f".//{SVG}text[@class='name']")}
    assert {"Cluster number 0", "No cluster"} <= shown


def test_the_svg_has_light_and_dark_colours_and_loads_nothing(picture: Picture) -> None:
    text = svg(picture)

    assert "@media(prefers-color-scheme:dark)" in text
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"url\(|@import|href", text)


def test_texts_of_users_stay_texts_in_the_svg(hostile: Picture) -> None:
    root = ElementTree.fromstring(svg(hostile))

    allowed = {"svg", "title", "desc", "style", "rect", "text", "tspan", "g", "polygon", "circle", "path"}
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == allowed
    assert HOSTILE in (root.findtext(f".//{SVG}g[@class='node']/*/{SVG}title") or "")


def test_texts_of_users_stay_texts_in_the_page(hostile: Picture) -> None:
    elements = Elements(page(hostile))

    names = [name for name, _ in elements.found]
    assert names.count("script") == 2
    assert "img" not in names
    _, data, script = elements.texts
    shown = json.loads(data)
    assert {node["title"] for node in shown["nodes"]} == {HOSTILE}
    assert "innerHTML" not in script


def test_the_page_runs_only_its_own_code_and_loads_nothing(picture: Picture) -> None:
    text = page(picture)

    elements = Elements(text)
    style, _, script = elements.texts
    (policy,) = (
        found["content"] for _, found in elements.found if found.get("http-equiv") == "Content-Security-Policy"
    )
    style_digest, script_digest = (
        base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in (style, script)
    )
    assert policy == f"default-src 'none'; style-src 'sha256-{style_digest}'; script-src 'sha256-{script_digest}'"
    assert not any({"src", "href", "style", "onclick"} & set(attributes) for _, attributes in elements.found)
    # An XML namespace is not loaded.
    assert set(re.findall(r"https?://[^\"']*", text)) == {"http://www.w3.org/2000/svg"}


def test_the_page_has_every_node_and_edge(picture: Picture) -> None:
    shown = json.loads(Elements(page(picture)).texts[1])

    assert [node["id"] for node in shown["nodes"]] == [node.node.orig_id for node in picture.nodes]
    assert [tuple(link[:2]) for link in shown["links"]] == [link[:2] for link in picture.links]
    assert [island["name"] for island in shown["islands"]] == [island.name for island in picture.islands]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH: the page is not opened in a browser")
def test_a_browser_draws_the_page_and_runs_no_user_text(hostile: Picture, opened: Opened) -> None:
    document = opened(page(hostile), "graph.html")

    elements = Elements(document)
    assert dict(elements.found)["html"]["data-ready"] == "40"
    assert [name for name, _ in elements.found].count("script") == 2
    assert "<title>The knowledge graph of &lt;/script" in document
    # One button for each cluster, three to zoom.
    assert [name for name, _ in elements.found].count("button") == 11 + 3


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH: the picture is not opened in a browser")
def test_a_browser_runs_no_user_text_in_the_svg(hostile: Picture, opened: Opened) -> None:
    # Opened by itself, not inside an <img>: only then would an SVG's scripts run.
    document = opened(svg(hostile), "graph.svg")

    elements = Elements(document)

    assert dict(elements.found)["svg"]
    assert not {"script", "img", "iframe", "foreignobject"} & {name for name, _ in elements.found}
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    assert "&lt;script&gt;document.title" in document


def printed(shown: Overview) -> list[str]:
    """The overview's lines at 80 columns, without colour."""
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(overview(shown))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def of(graph: StoredGraph, notifications: list[StoredNotification] | None = None) -> Overview:
    return Overview(graph, len(graph.nodes), len(graph.edges), 2, notifications or [])


def test_the_overview_shows_status_counts_clusters_and_notifications(graph: StoredGraph) -> None:
    notification = StoredNotification(
        datetime(2026, 5, 24, 12, 30, tzinfo=UTC), "GRAPH_GENERATION_COMPLETED", "SENT", {"nodeCount": 40}
    )

    lines = printed(of(graph, [notification]))

    assert max(map(len, lines)) <= 80
    assert lines[0] == "ada  CREATED · updated 2026-05-24 12:00 UTC"
    assert lines[1] == f"40 nodes · {len(graph.edges)} edges · 10 clusters"
    text = " ".join(" ".join(lines).split())
    assert re.search(r"\d+ █+ Cluster number 0 tea, coffee", text)
    assert re.search(r"2 █+ no cluster", text)
    assert "2026-05-24 12:30 GRAPH_GENERATION_COMPLETED push SENT nodeCount 40" in text


def test_the_overview_sums_up_the_smallest_of_many_clusters(graph: StoredGraph) -> None:
    clusters = [Cluster(f"c{number}", f"Cluster {number}", 3, []) for number in range(LISTED + 7)]

    text = " ".join(" ".join(printed(of(replace(graph, clusters=clusters)))).split())

    assert re.search(r"21 █+ 7 smaller clusters", text)
    assert f"Cluster {LISTED}" not in text


def test_the_overview_of_a_user_without_a_graph_says_so(graph: StoredGraph) -> None:
    nothing = StoredGraph(user_id="ada", status=None, updated_at=None, clusters=[])

    assert printed(Overview(nothing, 0, 0, 0, [])) == ["ada  has no graph"]


def test_rich_markup_in_a_name_is_shown_as_text(graph: StoredGraph) -> None:
    clusters = [Cluster("c0", "[bold]Tea[/bold] :tea:", 3, ["[red]hot[/red]"])]

    text = " ".join(printed(of(replace(graph, clusters=clusters))))

    assert "[bold]Tea[/bold] :tea:" in text
    assert "[red]hot[/red]" in text
