"""A graph as a picture: what stands where, how it looks, which edges are drawn. Its formats are other modules'."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from graphnode.operations.show import layout
from graphnode.operations.show.labels import Box, Page, broken, shortened, text_width
from graphnode.operations.show.layout import Floats
from graphnode.operations.show.palette import Look, look
from graphnode.operations.show.reading import Node, StoredGraph

#: How many clusters have an island of their own: the others, the smallest, share one.
MOST_ISLANDS = 100

#: Up to this many edges all of them are drawn, beyond it the strongest.
ALL_EDGES = 400

#: Of a larger graph: the edges drawn of a node to its own cluster's, and of two clusters.
OF_A_NODE = 2
OF_TWO_CLUSTERS = 4

#: Edges between clusters that are drawn at most, the strongest.
BETWEEN_CLUSTERS = 200

#: What an edge without a weight counts.
USUAL_WEIGHT = 0.5

#: Up to this many nodes the picture has names at the nodes, too.
NAMED_NODES = 120

#: The least distance of two nodes, by their number: all nodes together are given the same room, within these limits.
ROOM, SPACINGS = 380.0, (9.5, 62.0)

#: The size of the clusters' names while all nodes together have no more room than so much squared.
FONT, FONT_ROOM = 13.0, 620.0

#: The height of a line of text, in the size of its font.
LINE = 1.2

#: The limits of a node's usual radius.
RADII = (2.6, 7.0)


class PlacedNode(NamedTuple):
    """A node in the picture. `label` is its name's text and box, if there is room for it."""

    node: Node
    island: int
    x: float
    y: float
    radius: float
    label: tuple[str, Box] | None


class Island(NamedTuple):
    """A cluster in the picture.

    Parameters:
      lines: its name, as it stands above it; `label` is that text's box.
      outline: the corners of its ground.
    """

    name: str
    keywords: list[str]
    size: int
    look: Look
    lines: list[str]
    label: Box
    outline: list[tuple[float, float]]
    x: float
    y: float


class Link(NamedTuple):
    """An edge, between places of the list of nodes."""

    source: int
    target: int
    weight: float


@dataclass(frozen=True)
class Picture:
    """Everything that a format draws.

    Parameters:
      links: all edges; `drawn` has the places of those in the picture, the others are shown for a chosen node.
      width, height: in units of the coordinates, which begin at 0; y grows downwards.
      spacing: the least distance of two nodes, in the same unit.
      font: the size of the clusters' names, in the same unit.
    """

    graph: StoredGraph
    nodes: list[PlacedNode]
    islands: list[Island]
    links: list[Link]
    drawn: list[int]
    width: float
    height: float
    spacing: float
    font: float


class Group(NamedTuple):
    """The nodes of an island, by their places."""

    name: str
    keywords: list[str]
    look: Look
    members: list[int]


def compose(graph: StoredGraph) -> Picture:
    """Lay a graph out. It has at least one node."""
    places = {node.id: place for place, node in enumerate(graph.nodes)}
    links = [
        Link(
            places[edge.source],
            places[edge.target],
            # The table takes NaN and infinity, too, from whoever writes it.
            USUAL_WEIGHT if edge.weight is None or not math.isfinite(edge.weight) else edge.weight,
        )
        for edge in graph.edges
    ]
    spacing = float(np.clip(ROOM / math.sqrt(len(graph.nodes)), *SPACINGS))
    # A picture of a larger graph is looked at from farther away.
    font = FONT * max(1.0, math.sqrt(len(graph.nodes)) * spacing / FONT_ROOM)
    groups = _groups(graph)
    wanted = _wanted(graph, links, places)
    shapes = [layout.island(wanted[group.members], spacing=spacing) for group in groups]
    islands = _islands(groups, shapes, wanted, spacing=spacing, font=font)
    return Picture(
        graph=graph,
        nodes=_placed(graph.nodes, groups, shapes, islands, links, spacing=spacing, font=font),
        islands=islands,
        links=links,
        drawn=_drawn(links, _belongs(groups)),
        width=max(_around(island).right for island in islands),
        height=max(_around(island).bottom for island in islands),
        spacing=spacing,
        font=font,
    )


def _groups(graph: StoredGraph) -> list[Group]:
    """The islands, the largest first; then what is too small for one of its own, then what has no cluster."""
    members: dict[str | None, list[int]] = defaultdict(list)
    for place, node in enumerate(graph.nodes):
        members[node.cluster_id].append(place)
    clusters = [cluster for cluster in graph.clusters if cluster.id in members]
    own = len(clusters) if len(clusters) <= MOST_ISLANDS else MOST_ISLANDS - 1
    groups = [
        Group(cluster.name, cluster.keywords, look(place), members[cluster.id])
        for place, cluster in enumerate(clusters[:own])
    ]
    if others := clusters[own:]:
        gathered = [place for cluster in others for place in members[cluster.id]]
        groups.append(Group(f"{len(others)} smaller clusters", [], Look(None, "square"), gathered))
    if None in members:
        groups.append(Group("No cluster", [], Look(None, "circle"), members[None]))
    return groups


def _wanted(graph: StoredGraph, links: Sequence[Link], places: dict[int, int]) -> Floats:
    """Where each node would lie by its likeness alone."""
    numbers = {cluster.id: number for number, cluster in enumerate(graph.clusters)}
    ends = np.array([(link.source, link.target) for link in links], dtype=int).reshape(-1, 2)
    weights = np.array([max(link.weight, 0.01) for link in links])
    count = len(places)
    one_way = csr_matrix((weights, (ends[:, 0], ends[:, 1])), shape=(count, count))
    return layout.plane(
        [graph.embeddings.get(node.id) for node in graph.nodes],
        csr_matrix(one_way + one_way.T),
        np.array([-1 if node.cluster_id is None else numbers[node.cluster_id] for node in graph.nodes]),
    )


def _drawn(links: Sequence[Link], islands: Sequence[int]) -> list[int]:
    """The places of the edges to draw: all of a few, the strongest of many."""
    if len(links) <= ALL_EDGES:
        return list(range(len(links)))
    of_node: Counter[int] = Counter()
    of_pair: Counter[tuple[int, int]] = Counter()
    drawn = []
    for place in sorted(range(len(links)), key=lambda place: (-links[place].weight, place)):
        link = links[place]
        one, other = sorted((islands[link.source], islands[link.target]))
        if one == other:
            if min(of_node[link.source], of_node[link.target]) < OF_A_NODE:
                of_node.update((link.source, link.target))
                drawn.append(place)
        elif of_pair[one, other] < OF_TWO_CLUSTERS and of_pair.total() < BETWEEN_CLUSTERS:
            of_pair[one, other] += 1
            drawn.append(place)
    return sorted(drawn)


def _islands(
    groups: Sequence[Group], shapes: Sequence[Floats], wanted: Floats, *, spacing: float, font: float
) -> list[Island]:
    """The islands where they lie in the picture, whose left and top are 0.

    Parameters:
      shapes: where each group's nodes lie, from its island's origin.
      wanted: where each node would lie by its likeness alone.
    """
    islands = [_island(group, shape, spacing=spacing, font=font) for group, shape in zip(groups, shapes, strict=True)]
    origins = layout.arrange(
        np.array([wanted[group.members].mean(axis=0) for group in groups]),
        np.array([_around(island) for island in islands]),
        gap=font * 1.1,
    )
    origins -= np.min([_around(island)[:2] + origin for island, origin in zip(islands, origins, strict=True)], axis=0)
    return [_moved(island, *origin) for island, origin in zip(islands, origins.tolist(), strict=True)]


def _island(group: Group, shape: Floats, *, spacing: float, font: float) -> Island:
    """A group's island about the origin, with its name in the middle above it."""
    corners = layout.outline(shape, margin=spacing * 0.85)
    lines = broken(group.name, most=13)
    half = (max(map(text_width, lines)) + 0.6) * font / 2
    middle = float(corners[:, 0].min() + corners[:, 0].max()) / 2
    bottom = float(corners[:, 1].min()) - font * 0.25
    return Island(
        name=group.name,
        keywords=group.keywords,
        size=len(group.members),
        look=group.look,
        lines=lines,
        label=Box(middle - half, bottom - font * LINE * len(lines), middle + half, bottom),
        outline=[(x, y) for x, y in corners.tolist()],
        x=0.0,
        y=0.0,
    )


def _around(island: Island) -> Box:
    """The box of all of an island, its name included."""
    across, down = zip(*island.outline, strict=True)
    return Box(min(island.label.left, *across), island.label.top, max(island.label.right, *across), max(down))


def _moved(island: Island, x: float, y: float) -> Island:
    left, top, right, bottom = island.label
    return island._replace(
        label=Box(left + x, top + y, right + x, bottom + y),
        outline=[(across + x, down + y) for across, down in island.outline],
        x=x,
        y=y,
    )


def _belongs(groups: Sequence[Group]) -> list[int]:
    """Which group each node belongs to."""
    return [
        number
        for _, number in sorted((place, number) for number, group in enumerate(groups) for place in group.members)
    ]


def _placed(
    nodes: Sequence[Node],
    groups: Sequence[Group],
    shapes: Sequence[Floats],
    islands: Sequence[Island],
    links: Sequence[Link],
    *,
    spacing: float,
    font: float,
) -> list[PlacedNode]:
    """The nodes on their islands, the larger the more edges they have."""
    at = np.zeros((len(nodes), 2))
    for group, shape, island in zip(groups, shapes, islands, strict=True):
        at[group.members] = shape + np.array([island.x, island.y])
    degrees = Counter(end for link in links for end in (link.source, link.target))
    most = max(degrees.values(), default=1)
    usual = float(np.clip(spacing * 0.27, *RADII))
    radii = [usual * (0.75 + 0.6 * math.sqrt(degrees[place] / most)) for place in range(len(nodes))]
    labels = _node_labels(nodes, at, radii, islands, font) if len(nodes) <= NAMED_NODES else {}
    return [
        PlacedNode(
            node=node,
            island=island,
            x=float(at[place, 0]),
            y=float(at[place, 1]),
            radius=radii[place],
            label=labels.get(place),
        )
        for place, (node, island) in enumerate(zip(nodes, _belongs(groups), strict=True))
    ]


def _node_labels(
    nodes: Sequence[Node], at: Floats, radii: Sequence[float], islands: Sequence[Island], font: float
) -> dict[int, tuple[str, Box]]:
    """Names at the nodes where there is room: a node's first keyword, of the most linked nodes first."""
    page = Page(font * 4)
    for island in islands:
        page.take(island.label)
    for (x, y), radius in zip(at.tolist(), radii, strict=True):
        page.take(Box(x - radius, y - radius, x + radius, y + radius))
    size = font * 0.76
    named = {}
    for place in sorted(range(len(nodes)), key=lambda place: (-radii[place], place)):
        text = shortened(nodes[place].keywords[0] if nodes[place].keywords else nodes[place].title, most=12)
        half, high = text_width(text) * size / 2, size * 1.15
        (x, y), away = at[place].tolist(), radii[place] + 1.5
        beside = [
            Box(x - half, y + away, x + half, y + away + high),
            Box(x - half, y - away - high, x + half, y - away),
            Box(x + away, y - high / 2, x + away + 2 * half, y + high / 2),
            Box(x - away - 2 * half, y - high / 2, x - away, y + high / 2),
        ]
        if box := page.first_free(beside):
            named[place] = (text, box)
    return named
