"""Where nodes and clusters lie: islands of alike nodes, and alike islands near one another.

Everything is seeded and runs in one thread, so the same graph has the same picture.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, identity
from scipy.spatial import ConvexHull, KDTree
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.intp]

#: How much a node's neighbours, and its cluster's mean, count beside its own embedding.
NEIGHBOURS_SHARE = 0.6
CLUSTER_SHARE = 0.8

#: Dimensions that t-SNE gets.
MOST_DIMENSIONS = 32

#: Below this number of nodes t-SNE has nothing to work with.
FEWEST_FOR_TSNE = 8

#: Steps of t-SNE, of which the first 250 exaggerate: half of the usual number, for the islands' shapes are made later.
ITERATIONS = 500

#: Width by height of the whole picture.
ASPECT = 1.55

#: How far apart islands are wanted, by the room that they need. Which becomes the smallest picture is tried.
CLOSENESS = (0.3, 0.4, 0.5, 0.65, 0.8, 0.95)

#: Places that are tried at once for a box.
TRIES = 1024

#: How evenly an island's nodes are spread around its middle: 0 leaves each on its side, 1 makes a disc.
EVENNESS = 0.6

#: The angle between two leaves of a stem: spreads what lies in one place evenly.
GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


def plane(embeddings: Sequence[Sequence[float] | None], links: csr_matrix, clusters: Ints) -> Floats:
    """Places in the plane at which alike nodes are near one another, a row a node; wider than high.

    What a node is like is its embedding, its neighbours' and its cluster's. A node without an embedding gets its
    neighbours' mean. Without any embedding at all, the links alone count.

    Parameters:
      embeddings: a row a node; rows of another width than most are left out.
      links: the weights between nodes, symmetric.
      clusters: the number of each node's cluster, or -1.
    """
    if len(clusters) == 1:
        return np.zeros((1, 2))
    # The sums of several threads come in any order, and t-SNE makes the difference visible.
    with threadpool_limits(1):
        alike = _alike(_directions(embeddings) if any(embeddings) else _by_links(links), links, clusters)
        if len(alike) >= FEWEST_FOR_TSNE:
            perplexity = min(30.0, (len(alike) - 1) / 3)
            alike = TSNE(2, init="pca", perplexity=perplexity, max_iter=ITERATIONS, random_state=0).fit_transform(alike)
        return np.asarray(PCA(2, svd_solver="full").fit_transform(alike), dtype=np.float64)


def island(places: Floats, *, spacing: float) -> Floats:
    """Gather nodes around the origin, as close together as `spacing` allows, each still on its side.

    Parameters:
      places: where the plane has them.
      spacing: the least distance between two.
    """
    offsets = _rounded(places - places.mean(axis=0))
    distances = np.hypot(*offsets.T)
    angles = np.arctan2(offsets[:, 1], offsets[:, 0])
    ranks = np.argsort(np.argsort(distances, kind="stable"), kind="stable")
    angles = np.where(distances > 1e-9, angles, (ranks * GOLDEN_ANGLE) % (2 * math.pi) - math.pi)
    turns = np.argsort(np.argsort(angles, kind="stable"), kind="stable")
    even = (turns + 0.5) / len(turns) * 2 * math.pi - math.pi
    angles = angles + EVENNESS * (even - angles)
    radii = spacing * 0.56 * np.sqrt(ranks + 0.25) * (len(places) > 1)
    return _apart(np.c_[radii * np.cos(angles), radii * np.sin(angles)], spacing)


def outline(places: Floats, *, margin: float) -> Floats:
    """The corners of a round-cornered hull about the places, counter-clockwise."""
    turns = np.linspace(0, 2 * math.pi, 24, endpoint=False)
    around = (places[:, None, :] + margin * np.c_[np.cos(turns), np.sin(turns)][None]).reshape(-1, 2)
    return np.asarray(around[ConvexHull(around).vertices], dtype=np.float64)


def arrange(centres: Floats, boxes: Floats, *, gap: float) -> Floats:
    """Place boxes so that none overlaps another, from the middle outwards: each as near as it can to where it belongs.

    Parameters:
      centres: where the boxes' origins are wanted, in any unit.
      boxes: left, top, right, bottom of each, from its origin.
      gap: the least distance between two boxes.

    Returns the boxes' origins.
    """
    sizes = boxes[:, 2:] - boxes[:, :2] + gap
    extent = np.maximum(np.ptp(centres, axis=0), 1e-9)
    height = math.sqrt(float(sizes.prod(axis=1).sum()) / ASPECT)
    wanted = ((centres - centres.min(axis=0)) / extent - 0.5) * [height * ASPECT, height]
    tried = [_packed(wanted * closeness, sizes, step=gap / 2) for closeness in CLOSENESS]
    middles = min(tried, key=lambda middles: _room(middles, sizes))
    return np.asarray(middles - (boxes[:, 2:] + boxes[:, :2]) / 2, dtype=np.float64)


def _directions(embeddings: Sequence[Sequence[float] | None]) -> Floats:
    """Embeddings as rows of length 1; zeros for those that are missing."""
    ((width, _),) = Counter(len(embedding) for embedding in embeddings if embedding).most_common(1)
    rows = np.zeros((len(embeddings), width))
    for row, embedding in zip(rows, embeddings, strict=True):
        if embedding and len(embedding) == width:
            row[:] = embedding
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), dtype=np.float64)


def _alike(own: Floats, links: csr_matrix, clusters: Ints) -> Floats:
    """What a node is like, in `MOST_DIMENSIONS` or fewer but at least 2."""
    shares = csr_matrix(links / np.maximum(np.asarray(links.sum(axis=1)).reshape(-1, 1), 1e-12))
    missing = ~own.any(axis=1)
    own[missing] = (shares @ own)[missing]
    means = _cluster_means(own, clusters)
    missing = ~own.any(axis=1)
    own[missing] = means[missing]
    alike = np.asarray(own + NEIGHBOURS_SHARE * (shares @ own) + CLUSTER_SHARE * means, dtype=np.float64)
    if min(alike.shape) > MOST_DIMENSIONS:
        alike = PCA(MOST_DIMENSIONS, svd_solver="covariance_eigh").fit_transform(alike)
    if alike.shape[1] == 1:
        alike = np.c_[alike, np.zeros(len(alike))]
    # Nodes that are all the same have no first direction to be spread along.
    scale = float(alike.std()) or 1.0
    jitter = np.random.default_rng(0).normal(scale=scale * 1e-3, size=alike.shape)
    return np.asarray(alike + jitter, dtype=np.float64)


def _by_links(links: csr_matrix) -> Floats:
    """What nodes are like by whom they are linked with."""
    count = links.shape[0]
    near = csr_matrix(links + identity(count))
    scaled = near.multiply(1 / np.sqrt(np.asarray(near.sum(axis=1)).ravel()))
    if count <= MOST_DIMENSIONS:
        return np.asarray(scaled.toarray(), dtype=np.float64)
    return np.asarray(TruncatedSVD(MOST_DIMENSIONS, random_state=0).fit_transform(csr_matrix(scaled)))


def _cluster_means(rows: Floats, clusters: Ints) -> Floats:
    """The mean of each node's cluster; zeros without one."""
    means = np.zeros_like(rows)
    for cluster in np.unique(clusters[clusters >= 0]):
        members = clusters == cluster
        means[members] = rows[members].mean(axis=0)
    return means


def _rounded(offsets: Floats) -> Floats:
    """As wide in one direction as in every other: round islands leave little room between them."""
    if len(offsets) < 3:
        return offsets
    variances, ways = np.linalg.eigh(np.cov(offsets.T))
    return np.asarray(offsets @ ways / np.sqrt(np.maximum(variances, 1e-12)) @ ways.T, dtype=np.float64)


def _apart(places: Floats, spacing: float) -> Floats:
    """Push places apart that are nearer than `spacing`, and hold the rest together."""
    places = places.copy()
    for step in range(200):
        pairs = KDTree(places).query_pairs(spacing, output_type="ndarray")
        if not len(pairs):
            break
        one, other = pairs.T
        ways = places[one] - places[other]
        distances = np.hypot(*ways.T)
        ways[distances < 1e-9], distances[distances < 1e-9] = [1e-9, 0.0], 1e-9
        moves = ways / distances[:, None] * ((spacing - distances) * 0.42)[:, None]
        np.add.at(places, one, moves)
        np.add.at(places, other, -moves)
        if step < 120:
            places *= 0.997
    return places


def _packed(wanted: Floats, sizes: Floats, *, step: float) -> Floats:
    """The middles of boxes of which none overlaps another, those in the middle having their places first."""
    order = np.argsort(np.hypot(wanted[:, 0] / ASPECT, wanted[:, 1]), kind="stable")
    middles = np.zeros_like(wanted)
    for number, place in enumerate(order):
        placed = order[:number]
        middles[place] = _nearest_free(wanted[place], sizes[place], middles[placed], sizes[placed], step=step)
    return middles


def _room(middles: Floats, sizes: Floats) -> float:
    """How wide a picture of the right shape must be to hold the boxes."""
    width, height = (middles + sizes / 2).max(axis=0) - (middles - sizes / 2).min(axis=0)
    return max(float(width), float(height) * ASPECT)


def _nearest_free(wanted: Floats, size: Floats, middles: Floats, sizes: Floats, *, step: float) -> Floats:
    """The place nearest to the wanted one at which a box of this size overlaps none of the others."""
    least = (size + sizes) / 2
    first = 0
    while True:
        # The seeds of a sunflower: each is a little farther away than the one before, and all ways are tried alike.
        seeds = np.arange(first, first + TRIES)
        ways = np.c_[np.cos(seeds * GOLDEN_ANGLE) * ASPECT, np.sin(seeds * GOLDEN_ANGLE)]
        tried = wanted + step * np.sqrt(seeds)[:, None] * ways
        overlaps = (np.abs(tried[:, None] - middles[None]) < least[None]).all(axis=2).any(axis=1)
        if not overlaps.all():
            return np.asarray(tried[overlaps.argmin()], dtype=np.float64)
        first += TRIES
