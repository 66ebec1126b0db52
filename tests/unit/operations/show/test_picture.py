"""Positions and looks of a picture's nodes, names and edges."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.operations.show.drawing_svg import svg
from graphnode.operations.show.labels import Box, shortened, text_width, wrapped
from graphnode.operations.show.palette import DARK, LIGHT, LOOKS, ColourScheme, look
from graphnode.operations.show.picture import (
    ALL_EDGES,
    EDGES_BETWEEN_CLUSTERS,
    EDGES_PER_NODE,
    MOST_ISLANDS,
    Link,
    Picture,
    compose,
)
from graphnode.operations.show.stored_graph import Cluster, Edge, StoredGraph
from tests.unit.conftest import MakeGraph

#: Linear RGB as seen with each colour blindness. Machado, Oliveira and Fernandes 2009, severity 1.0:
#: https://www.inf.ufrgs.br/~oliveira/pubs_files/CVD_Simulation/CVD_Simulation.html
EYES = {
    "all cones": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.fixture(scope="module")
def drawn(make_graph: MakeGraph) -> Picture:
    """A picture of 12 clusters, nodes without a cluster, and more edges than are drawn."""
    return compose(make_graph(260, 12, without_cluster=6))


def linear(colour: str) -> np.ndarray:
    """A CSS colour as linear RGB. https://www.w3.org/TR/WCAG22/#dfn-relative-luminance"""
    values = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio"""
    darker, lighter = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """Linear RGB as CIELAB with the white point D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = (to_xyz @ np.clip(rgb, 0, 1)) / [0.9505, 1.0, 1.089]
    x, y, z = (math.cbrt(one) if one > 0.008856 else 7.787 * one + 16 / 116 for one in (x, y, z))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def box_of_node(picture: Picture, place: int) -> Box:
    node = picture.nodes[place]
    return Box(node.x - node.radius, node.y - node.radius, node.x + node.radius, node.y + node.radius)


def check_places(picture: Picture) -> None:
    """Check that all nodes and names are inside the picture and that nothing overlaps."""
    for node in picture.nodes:
        assert node.radius <= node.x <= picture.width - node.radius
        assert node.radius <= node.y <= picture.height - node.radius
    at = np.array([(node.x, node.y) for node in picture.nodes])
    radii = np.array([node.radius for node in picture.nodes])
    apart = np.hypot(*(at[:, None] - at[None]).transpose(2, 0, 1)) - radii[:, None] - radii[None]
    assert (apart[np.triu_indices(len(at), 1)] > 0).all()
    for one, other in itertools.combinations(picture.islands, 2):
        assert not one.label.overlaps(other.label)
    for island in picture.islands:
        assert island.label.left >= -1e-6
        assert island.label.top >= -1e-6
        assert island.label.right <= picture.width + 1e-6
        assert not any(island.label.overlaps(box_of_node(picture, place)) for place in range(len(picture.nodes)))


def test_nothing_overlaps_and_nothing_is_outside(drawn: Picture) -> None:
    assert len(drawn.islands) == 13
    check_places(drawn)


def test_the_same_graph_has_the_same_picture(make_graph: MakeGraph) -> None:
    graph = make_graph(60, 5)

    assert svg(compose(graph)) == svg(compose(graph))


def test_a_small_graph_has_names_at_its_nodes_that_overlap_nothing(make_graph: MakeGraph) -> None:
    picture = compose(make_graph(40, 6))

    check_places(picture)
    labels = [node.label[1] for node in picture.nodes if node.label]
    assert len(labels) > 30
    taken = [box_of_node(picture, place) for place in range(len(picture.nodes))]
    taken += [island.label for island in picture.islands]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(labels, 2))
    assert not any(label.overlaps(box) for label in labels for box in taken)


def test_alike_nodes_are_near_one_another_and_so_are_alike_clusters(make_graph: MakeGraph) -> None:
    graph = make_graph(90, 3, edges_each=0)
    far, near, topic = np.eye(24)[0], np.eye(24)[1], np.eye(24)[2:4]
    random = np.random.default_rng(0)
    means = {"c0": far, "c1": near, "c2": near + 0.4 * np.eye(24)[5]}
    topics = {node.id: number % 2 for number, node in enumerate(graph.nodes)}
    embeddings = {
        node.id: (means[node.cluster_id or ""] + 0.5 * topic[topics[node.id]] + random.normal(0, 0.02, 24)).tolist()
        for node in graph.nodes
    }

    picture = compose(replace(graph, embeddings=embeddings, edges=[]))

    islands = [np.array([island.x, island.y]) for island in picture.islands]
    assert np.linalg.norm(islands[1] - islands[2]) < np.linalg.norm(islands[1] - islands[0])
    for number in range(3):
        members = [node for node in picture.nodes if node.island == number]
        pairs = list(itertools.combinations(members, 2))
        same = [math.dist(a[2:4], b[2:4]) for a, b in pairs if topics[a.node.id] == topics[b.node.id]]
        other = [math.dist(a[2:4], b[2:4]) for a, b in pairs if topics[a.node.id] != topics[b.node.id]]
        assert np.mean(same) < 0.8 * np.mean(other)


def test_without_embeddings_linked_nodes_are_close(make_graph: MakeGraph) -> None:
    graph = replace(make_graph(60, 2, edges_each=0), embeddings={})
    parts = {node.id: number % 2 for number, node in enumerate(graph.nodes)}
    edges = [
        Edge(one.id, other.id, 0.9)
        for one, other in itertools.combinations(graph.nodes, 2)
        if parts[one.id] == parts[other.id] and one.cluster_id == other.cluster_id
    ]

    picture = compose(replace(graph, edges=edges))

    check_places(picture)
    members = [node for node in picture.nodes if node.island == 0]
    pairs = list(itertools.combinations(members, 2))
    same = [math.dist(a[2:4], b[2:4]) for a, b in pairs if parts[a.node.id] == parts[b.node.id]]
    other = [math.dist(a[2:4], b[2:4]) for a, b in pairs if parts[a.node.id] != parts[b.node.id]]
    assert np.mean(same) < 0.8 * np.mean(other)


@pytest.mark.parametrize("nodes", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("embedded", [True, False])
def test_a_graph_of_a_few_nodes_has_a_picture(make_graph: MakeGraph, nodes: int, embedded: bool) -> None:
    graph = make_graph(nodes, 2, edges_each=0)

    check_places(compose(graph if embedded else replace(graph, edges=[], embeddings={})))


@pytest.mark.parametrize(
    "embedding", [[1.0], [0.0, 0.0, 0.0], [0.5] * 40], ids=["of one number", "of zeros", "all the same"]
)
def test_indistinct_embeddings_still_give_a_picture(make_graph: MakeGraph, embedding: list[float]) -> None:
    graph = make_graph(30, 3)

    check_places(compose(replace(graph, embeddings={node.id: embedding for node in graph.nodes})))


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), 1e308, -3.0, 0.0])
def test_unusual_weights_still_give_a_picture(make_graph: MakeGraph, weight: float) -> None:
    graph = make_graph(30, 3)
    odd = [edge._replace(weight=weight) if place % 2 else edge for place, edge in enumerate(graph.edges)]

    check_places(compose(replace(graph, edges=odd)))


def test_missing_embeddings_and_unusual_widths_still_give_a_picture(make_graph: MakeGraph) -> None:
    graph = make_graph(40, 3)
    for place, node in enumerate(graph.nodes):
        if place % 3 == 0:
            del graph.embeddings[node.id]
        elif place % 5 == 0:
            graph.embeddings[node.id] = [1.0, 2.0]

    check_places(compose(graph))


def test_the_smallest_of_many_clusters_share_an_island(make_graph: MakeGraph) -> None:
    graph = make_graph(300, MOST_ISLANDS + 20, edges_each=0)
    used = {node.cluster_id for node in graph.nodes}
    graph = replace(graph, clusters=[cluster for cluster in graph.clusters if cluster.id in used])

    picture = compose(graph)

    check_places(picture)
    assert len(picture.islands) == MOST_ISLANDS
    assert picture.islands[-1].name == f"{len(used) - MOST_ISLANDS + 1} smaller clusters"
    assert sum(island.size for island in picture.islands) == 300


def test_nodes_without_a_cluster_are_a_grey_island(drawn: Picture) -> None:
    last = drawn.islands[-1]

    assert (last.name, last.size, last.look.hue) == ("No cluster", 6, None)
    assert {node.node.cluster_id for node in drawn.nodes if node.island == 12} == {None}


def test_all_edges_of_a_small_graph_are_drawn(make_graph: MakeGraph) -> None:
    picture = compose(make_graph(40, 4))

    assert picture.drawn == list(range(len(picture.links)))


def test_a_large_graph_shows_the_strongest_edges_of_each_node(drawn: Picture) -> None:
    assert len(drawn.links) > ALL_EDGES
    inner: list[Link] = []
    between: list[Link] = []
    for place in drawn.drawn:
        link = drawn.links[place]
        is_inner = drawn.nodes[link.source].island == drawn.nodes[link.target].island
        (inner if is_inner else between).append(link)
    assert len(inner) <= EDGES_PER_NODE * len(drawn.nodes)
    assert len(between) <= EDGES_BETWEEN_CLUSTERS
    for place, node in enumerate(drawn.nodes):
        own = [link for link in drawn.links if place in link[:2]]
        own = [link for link in own if all(drawn.nodes[end].island == node.island for end in link[:2])]
        assert not own or max(own, key=lambda link: link.weight) in inner


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_and_text_have_enough_contrast(scheme: ColourScheme) -> None:
    # WCAG 2.2, 1.4.11 and 1.4.3.
    assert all(contrast(hue, scheme.paper) >= 3 for hue in (*scheme.hues, scheme.none, scheme.line))
    assert all(contrast(text, scheme.paper) >= 4.5 for text in (scheme.ink, scheme.muted))


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_are_distinct_for_colour_blind_readers(scheme: ColourScheme, eyes: str) -> None:
    seen = [lab(np.array(EYES[eyes]) @ linear(hue)) for hue in scheme.hues]

    # A difference of 2.3 is just noticeable; colours that differ by 20 have different names.
    assert min(math.dist(one, other) for one, other in itertools.combinations(seen, 2)) > 20


def test_looks_are_distinct_until_they_repeat() -> None:
    assert len({look(place) for place in range(LOOKS)}) == LOOKS
    assert look(LOOKS) == look(0)


@given(st.text(min_size=1))
def test_a_wrapped_name_fits_its_lines(name: str) -> None:
    lines = wrapped(name, most=12)

    assert len(lines) <= 2
    assert all(text_width(line) <= 12 for line in lines)
    assert all(text_width(shortened(line, most=6)) <= 6 for line in lines)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("Tee", ["Tee"]),
        ("Cycling routes in the Alps", ["Cycling routes in the", "Alps"]),
        (
            "The lighthouse keeper's granddaughter and her archive",
            ["The lighthouse keeper's", "granddaughter and her…"],
        ),
        ("日本史の読書ノートと古い手紙の整理", ["日本史の読書ノートと古い", "手紙の整理"]),
        ("The lighthouse keeper's daughter and her archive", ["The lighthouse keeper's", "daughter and her archive"]),
    ],
)
def test_a_name_wraps_at_spaces_and_is_cut_at_the_end(name: str, lines: list[str]) -> None:
    assert wrapped(name, most=12.5) == lines


def test_a_cluster_without_nodes_has_no_island(make_graph: MakeGraph) -> None:
    graph: StoredGraph = make_graph(10, 2)
    graph = replace(graph, clusters=[*graph.clusters, Cluster("c9", "Empty", 0, [])])

    assert "Empty" not in [island.name for island in compose(graph).islands]
