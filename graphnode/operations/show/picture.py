"""A graph as a picture: positions, looks and drawn edges, independent of a file format."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from graphnode.operations.show import layout
from graphnode.operations.show.labels import Box, OccupancyGrid, shortened, text_width, wrapped
from graphnode.operations.show.layout import Floats
from graphnode.operations.show.palette import Look, look
from graphnode.operations.show.stored_graph import Node, StoredGraph

#: Most islands. The smallest clusters share the last one if there are more.
MOST_ISLANDS = 100

#: Up to this many edges, all are drawn; of more, only the strongest.
ALL_EDGES = 400

#: Edges drawn in a larger graph: per node within its cluster, and per pair of clusters.
EDGES_PER_NODE = 2
EDGES_PER_CLUSTER_PAIR = 4

#: Most edges drawn between clusters.
EDGES_BETWEEN_CLUSTERS = 200

#: The weight of an edge that has none.
DEFAULT_WEIGHT = 0.5

#: Up to this many nodes, nodes have names too.
NAMED_NODES = 120

#: The least distance between two nodes is ROOM / sqrt(nodes), within the limits SPACINGS.
ROOM, SPACINGS = 380.0, (9.5, 62.0)

#: The font size of cluster names. It grows with the picture when the nodes' area exceeds FONT_ROOM squared.
FONT, FONT_ROOM = 13.0, 620.0

#: The height of a line of text, relative to its font size.
LINE = 1.2

#: The limits of a node's radius before its degree scales it.
RADII = (2.6, 7.0)


class PlacedNode(NamedTuple):
    """A node in the picture. `label` is the text and box of its name, or None if there is no space for it."""

    node: Node
    island: int
    x: float
    y: float
    radius: float
    label: tuple[str, Box] | None


class Island(NamedTuple):
    """A cluster in the picture.

    Parameters:
      lines: its name in lines; `label` is the box of that text, above the island.
      outline: the corners of its background.
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
    """An edge between two nodes, given by their indexes in the list of nodes."""

    source: int
    target: int
    weight: float


@dataclass(frozen=True)
class Picture:
    """Everything that a file format draws. Coordinates start at 0; y grows downwards.

    Parameters:
      links: all edges. `drawn` has the indexes of those in the picture; the page shows the others for a chosen node.
      width, height: in the unit of the coordinates, like `spacing` and `font`.
      spacing: the least distance between two nodes.
      font: the font size of cluster names.
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


class NodeGroup(NamedTuple):
    """The nodes of an island. `members` are their indexes."""

    name: str
    keywords: list[str]
    look: Look
    members: list[int]


def compose(graph: StoredGraph) -> Picture:
    """The picture of a graph that has at least one node."""
    indexes = {node.id: index for index, node in enumerate(graph.nodes)}
    links = [
        Link(
            indexes[edge.source],
            indexes[edge.target],
            # The column also accepts NaN and infinity.
            DEFAULT_WEIGHT if edge.weight is None or not math.isfinite(edge.weight) else edge.weight,
        )
        for edge in graph.edges
    ]
    spacing = float(np.clip(ROOM / math.sqrt(len(graph.nodes)), *SPACINGS))
    # A picture of a larger graph is scaled down more.
    font = FONT * max(1.0, math.sqrt(len(graph.nodes)) * spacing / FONT_ROOM)
    groups = _groups(graph)
    wanted = _wanted(graph, links)
    shapes = [layout.island(wanted[group.members], spacing=spacing) for group in groups]
    islands = _islands(groups, shapes, wanted, spacing=spacing, font=font)
    return Picture(
        graph=graph,
        nodes=_placed(graph.nodes, groups, shapes, islands, links, spacing=spacing, font=font),
        islands=islands,
        links=links,
        drawn=_drawn(links, _group_of_nodes(groups)),
        width=max(_around(island).right for island in islands),
        height=max(_around(island).bottom for island in islands),
        spacing=spacing,
        font=font,
    )


def _groups(graph: StoredGraph) -> list[NodeGroup]:
    """Clusters, the largest first; then the clusters without an island of their own, then nodes without a cluster."""
    members: dict[str | None, list[int]] = defaultdict(list)
    for index, node in enumerate(graph.nodes):
        members[node.cluster_id].append(index)
    clusters = [cluster for cluster in graph.clusters if cluster.id in members]
    own = len(clusters) if len(clusters) <= MOST_ISLANDS else MOST_ISLANDS - 1
    groups = [
        NodeGroup(cluster.name, cluster.keywords, look(index), members[cluster.id])
        for index, cluster in enumerate(clusters[:own])
    ]
    if others := clusters[own:]:
        gathered = [index for cluster in others for index in members[cluster.id]]
        groups.append(NodeGroup(f"{len(others)} smaller clusters", [], Look(None, "square"), gathered))
    if None in members:
        groups.append(NodeGroup("No cluster", [], Look(None, "circle"), members[None]))
    return groups


def _wanted(graph: StoredGraph, links: Sequence[Link]) -> Floats:
    """The position of each node by similarity alone."""
    numbers = {cluster.id: number for number, cluster in enumerate(graph.clusters)}
    ends = np.array([(link.source, link.target) for link in links], dtype=int).reshape(-1, 2)
    weights = np.array([max(link.weight, 0.01) for link in links])
    count = len(graph.nodes)
    one_way = csr_matrix((weights, (ends[:, 0], ends[:, 1])), shape=(count, count))
    return layout.project(
        [graph.embeddings.get(node.id) for node in graph.nodes],
        csr_matrix(one_way + one_way.T),
        np.array([-1 if node.cluster_id is None else numbers[node.cluster_id] for node in graph.nodes]),
    )


def _drawn(links: Sequence[Link], islands: Sequence[int]) -> list[int]:
    """The indexes of the edges to draw: all, or the strongest if there are many."""
    if len(links) <= ALL_EDGES:
        return list(range(len(links)))
    per_node: Counter[int] = Counter()
    per_pair: Counter[tuple[int, int]] = Counter()
    drawn = []
    for index in sorted(range(len(links)), key=lambda index: (-links[index].weight, index)):
        link = links[index]
        one, other = sorted((islands[link.source], islands[link.target]))
        if one == other:
            if min(per_node[link.source], per_node[link.target]) < EDGES_PER_NODE:
                per_node.update((link.source, link.target))
                drawn.append(index)
        elif per_pair[one, other] < EDGES_PER_CLUSTER_PAIR and per_pair.total() < EDGES_BETWEEN_CLUSTERS:
            per_pair[one, other] += 1
            drawn.append(index)
    return sorted(drawn)


def _islands(
    groups: Sequence[NodeGroup], shapes: Sequence[Floats], wanted: Floats, *, spacing: float, font: float
) -> list[Island]:
    """The islands at their positions in the picture, whose left and top edges are 0.

    Parameters:
      shapes: the positions of each group's nodes, relative to the island's origin.
      wanted: the position of each node by similarity alone.
    """
    islands = [_island(group, shape, spacing=spacing, font=font) for group, shape in zip(groups, shapes, strict=True)]
    origins = layout.arrange(
        np.array([wanted[group.members].mean(axis=0) for group in groups]),
        np.array([_around(island) for island in islands]),
        gap=font * 1.1,
    )
    origins -= np.min([_around(island)[:2] + origin for island, origin in zip(islands, origins, strict=True)], axis=0)
    return [_moved(island, *origin) for island, origin in zip(islands, origins.tolist(), strict=True)]


def _island(group: NodeGroup, shape: Floats, *, spacing: float, font: float) -> Island:
    """A group's island around the origin, with its name centred above it."""
    corners = layout.outline(shape, margin=spacing * 0.85)
    lines = wrapped(group.name, most=13)
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
    """The box around an island and its name."""
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


def _group_of_nodes(groups: Sequence[NodeGroup]) -> list[int]:
    """The number of each node's group."""
    return [
        number
        for _, number in sorted((index, number) for number, group in enumerate(groups) for index in group.members)
    ]


def _placed(
    nodes: Sequence[Node],
    groups: Sequence[NodeGroup],
    shapes: Sequence[Floats],
    islands: Sequence[Island],
    links: Sequence[Link],
    *,
    spacing: float,
    font: float,
) -> list[PlacedNode]:
    """The nodes on their islands. A node with more edges is larger."""
    points = np.zeros((len(nodes), 2))
    for group, shape, island in zip(groups, shapes, islands, strict=True):
        points[group.members] = shape + np.array([island.x, island.y])
    degrees = Counter(end for link in links for end in (link.source, link.target))
    most = max(degrees.values(), default=1)
    usual = float(np.clip(spacing * 0.27, *RADII))
    radii = [usual * (0.75 + 0.6 * math.sqrt(degrees[index] / most)) for index in range(len(nodes))]
    labels = _node_labels(nodes, points, radii, islands, font) if len(nodes) <= NAMED_NODES else {}
    return [
        PlacedNode(
            node=node,
            island=island,
            x=float(points[index, 0]),
            y=float(points[index, 1]),
            radius=radii[index],
            label=labels.get(index),
        )
        for index, (node, island) in enumerate(zip(nodes, _group_of_nodes(groups), strict=True))
    ]


def _node_labels(
    nodes: Sequence[Node], points: Floats, radii: Sequence[float], islands: Sequence[Island], font: float
) -> dict[int, tuple[str, Box]]:
    """Names of nodes where there is space, by index: the first keyword. Nodes with more edges come first."""
    grid = OccupancyGrid(font * 4)
    for island in islands:
        grid.take(island.label)
    for (x, y), radius in zip(points.tolist(), radii, strict=True):
        grid.take(Box(x - radius, y - radius, x + radius, y + radius))
    size = font * 0.76
    named = {}
    for index in sorted(range(len(nodes)), key=lambda index: (-radii[index], index)):
        text = shortened(nodes[index].keywords[0] if nodes[index].keywords else nodes[index].title, most=12)
        half, high = text_width(text) * size / 2, size * 1.15
        (x, y), away = points[index].tolist(), radii[index] + 1.5
        beside = [
            Box(x - half, y + away, x + half, y + away + high),
            Box(x - half, y - away - high, x + half, y - away),
            Box(x + away, y - high / 2, x + away + 2 * half, y + high / 2),
            Box(x - away - 2 * half, y - high / 2, x - away, y + high / 2),
        ]
        if box := grid.take_first_free(beside):
            named[index] = (text, box)
    return named
