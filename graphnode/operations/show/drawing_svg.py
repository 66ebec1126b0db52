"""A picture as one SVG file that follows the reader's light or dark scheme, also when embedded in a page."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring  # nosec B405 # written, not read

from graphnode.operations.show.labels import shortened, text_width
from graphnode.operations.show.palette import DARK, LIGHT, variable, variables
from graphnode.operations.show.picture import Island, Picture, PlacedNode

STYLE = Path(__file__).with_name("template") / "picture.css"

#: The margin around the picture, relative to its font size.
MARGIN = 1.6

#: The widths of links: a third of them has each, the weakest links the first.
STROKES = (0.5, 0.8, 1.25)

#: Links between two islands are bundled: the control points of their curves lie at this share of the line between them.
BUNDLE = 0.32


def svg(picture: Picture) -> str:
    """The text of an SVG file."""
    font, margin = picture.font, picture.font * MARGIN
    top, bottom = font * 4.6, font * 2.6
    texts = (title(picture), "title", 1.35), (counts(picture), "small", 0.92), (legend(picture), "small", 0.84)
    width = max(picture.width, *(text_width(text) * size * font for text, _, size in texts)) + 2 * margin
    height = picture.height + top + bottom
    root = Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {_number(width)} {_number(height)}",
            "width": _number(width),
            "height": _number(height),
            "role": "img",
            "aria-labelledby": "title desc",
        },
    )
    SubElement(root, "title", {"id": "title"}).text = title(picture)
    SubElement(root, "desc", {"id": "desc"}).text = description(picture)
    SubElement(root, "style").text = style()
    SubElement(root, "rect", {"class": "paper", "width": "100%", "height": "100%", "rx": _number(font * 0.7)})
    drawing = SubElement(root, "g", {"transform": f"translate({_number((width - picture.width) / 2)} {_number(top)})"})
    _draw(drawing, picture)
    for (text, kind, size), y in zip(texts, (font * 2.1, font * 3.6, height - font * 1.1), strict=True):
        _text(root, text, kind, x=margin, y=y, size=size * font)
    return tostring(root, encoding="unicode") + "\n"


def style() -> str:
    """The style sheet, with the colours of both schemes."""
    return (
        f":root{{color-scheme:light dark;{variables(LIGHT)}}}"
        f"@media(prefers-color-scheme:dark){{:root{{{variables(DARK)}}}}}\n" + STYLE.read_text()
    )


def title(picture: Picture) -> str:
    """The picture's title."""
    return f"The knowledge graph of {shortened(picture.graph.user_id, most=24)}"


def counts(picture: Picture) -> str:
    """Numbers of nodes, edges and clusters, and the graph's status."""
    graph = picture.graph
    parts = [
        _counted(len(graph.nodes), "node"),
        _counted(len(graph.edges), "edge"),
        _counted(len(graph.clusters), "cluster"),
    ]
    if graph.updated_at:
        parts.append(f"{graph.status} {graph.updated_at:%Y-%m-%d}")
    return " · ".join(parts)


def legend(picture: Picture) -> str:
    """How to read the picture, in one line."""
    parts = ["Close nodes are similar."]
    if picture.links:
        parts.append("Larger nodes have more edges.")
    if any(picture.nodes[link.source].island != picture.nodes[link.target].island for link in picture.links):
        parts.append("Grey curves connect clusters.")
    if len(picture.drawn) < len(picture.links):
        parts.append(f"Only the strongest {len(picture.drawn):,} edges are drawn.")
    return " ".join(parts)


def description(picture: Picture) -> str:
    """The picture in words, for screen readers: its clusters, the largest first."""
    listed = "; ".join(f"{island.name} ({_counted(island.size, 'node')})" for island in picture.islands)
    return f"{counts(picture)}. {listed}."


def _draw(parent: Element, picture: Picture) -> None:
    islands = SubElement(parent, "g", {"class": "grounds"})
    for island in picture.islands:
        corners = " ".join(f"{_number(x)},{_number(y)}" for x, y in island.outline)
        SubElement(islands, "polygon", {"class": "ground", "points": corners, "style": _fill(island)})
    _draw_links(SubElement(parent, "g", {"class": "links"}), picture)
    members: dict[int, list[PlacedNode]] = defaultdict(list)
    for placed in picture.nodes:
        members[placed.island].append(placed)
    for number, island in enumerate(picture.islands):
        group = SubElement(parent, "g", {"class": "node", "style": _fill(island)})
        for placed in members[number]:
            _draw_node(group, placed, island)
    for placed in picture.nodes:
        if placed.label:
            text, box = placed.label
            size = (box.bottom - box.top) / 1.15
            _text(parent, text, "word", x=(box.left + box.right) / 2, y=box.bottom - size * 0.27, size=size)
    for island in picture.islands:
        _draw_name(parent, island, picture.font)


def _draw_links(parent: Element, picture: Picture) -> None:
    """Draw links, in one path per cluster and width: so crossings are not darker."""
    paths: dict[tuple[int, int], list[str]] = defaultdict(list)
    widths, drawn = strokes(picture)
    for index, stroke in drawn.items():
        link = picture.links[index]
        one, other = picture.nodes[link.source], picture.nodes[link.target]
        if one.island == other.island:
            paths[one.island, stroke].append(f"M{_point(one.x, one.y)}L{_point(other.x, other.y)}")
        else:
            paths[-1, stroke].append(_curve(picture, one, other))
    for (island, stroke), lines in sorted(paths.items()):
        look = {"class": "between"} if island < 0 else {"class": "within", "style": _stroke(picture.islands[island])}
        SubElement(parent, "path", {**look, "stroke-width": f"{widths[stroke]:.2f}", "d": "".join(lines)})


def strokes(picture: Picture) -> tuple[list[float], dict[int, int]]:
    """The widths of the strokes, and the stroke of each drawn link by the link's index."""
    scale = picture.font / 13 * (1 + picture.spacing / 120)
    weights = sorted(picture.links[index].weight for index in picture.drawn)
    bounds = [weights[len(weights) * third // len(STROKES)] for third in range(1, len(STROKES)) if weights]
    return [width * scale for width in STROKES], {
        index: sum(picture.links[index].weight >= bound for bound in bounds) for index in picture.drawn
    }


def _draw_node(parent: Element, placed: PlacedNode, island: Island) -> None:
    x, y, radius = placed.x, placed.y, placed.radius
    match island.look.shape:
        case "circle":
            mark = SubElement(parent, "circle", {"cx": _number(x), "cy": _number(y), "r": _number(radius)})
        case shape:
            mark = SubElement(parent, "polygon", {"points": _points(corners(shape, x, y, radius))})
    SubElement(mark, "title").text = about(placed, island)


def about(placed: PlacedNode, island: Island) -> str:
    """A node's tooltip."""
    lines = [placed.node.title, placed.node.orig_id, island.name, ", ".join(placed.node.keywords)]
    return "\n".join(filter(None, dict.fromkeys(lines)))


def corners(shape: str, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """The corners of a shape that looks as large as a circle of this radius."""
    sides, turn, reach = {"square": (4, 45, 1.2), "triangle": (3, -90, 1.4), "diamond": (4, 0, 1.3)}[shape]
    angles = [math.radians(turn + 360 * side / sides) for side in range(sides)]
    return [(x + reach * radius * math.cos(angle), y + reach * radius * math.sin(angle)) for angle in angles]


def _draw_name(parent: Element, island: Island, font: float) -> None:
    middle, high = (island.label.left + island.label.right) / 2, font * 1.2
    text = SubElement(parent, "text", {"class": "name", "font-size": _number(font)})
    for number, line in enumerate(island.lines):
        at = {"x": _number(middle), "y": _number(island.label.top + high * (number + 1) - font * 0.3)}
        SubElement(text, "tspan", at).text = line


def _curve(picture: Picture, one: PlacedNode, other: PlacedNode) -> str:
    """A link between islands as an SVG path, bundled with the other links of these islands."""
    a, b = picture.islands[one.island], picture.islands[other.island]
    first = (a.x + (b.x - a.x) * BUNDLE, a.y + (b.y - a.y) * BUNDLE)
    second = (b.x + (a.x - b.x) * BUNDLE, b.y + (a.y - b.y) * BUNDLE)
    return f"M{_point(one.x, one.y)}C{_point(*first)} {_point(*second)} {_point(other.x, other.y)}"


def _text(parent: Element, text: str, kind: str, *, x: float, y: float, size: float) -> None:
    at = {"x": _number(x), "y": _number(y), "font-size": _number(size)}
    SubElement(parent, "text", {"class": kind, **at}).text = text


def _fill(island: Island) -> str:
    return f"fill:var({variable(island.look.hue)})"


def _stroke(island: Island) -> str:
    return f"stroke:var({variable(island.look.hue)})"


def _points(corners: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in corners)


def _point(x: float, y: float) -> str:
    return f"{_number(x)} {_number(y)}"


def _number(value: float) -> str:
    """A coordinate with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def _counted(count: int, what: str) -> str:
    return f"{count:,}\u00a0{what}" + "s" * (count != 1)
