"""Positions of nodes and clusters: each cluster is an island, similar nodes and similar islands are close together.

Everything is seeded and runs in one thread, so the same graph always gives the same picture.
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

#: Weight of a node's neighbours, and of its cluster's mean, relative to its own embedding.
NEIGHBOURS_SHARE = 0.6
CLUSTER_SHARE = 0.8

#: Dimensions of the input of t-SNE.
MOST_DIMENSIONS = 32

#: Fewest nodes for t-SNE; with fewer, its perplexity would be too small.
FEWEST_FOR_TSNE = 8

#: Iterations of t-SNE, including the 250 of its early exaggeration. Half of its default: islands are reshaped later.
ITERATIONS = 500

#: Width divided by height of the whole picture.
ASPECT = 1.55

#: Scales for the wanted distances between islands. All are tried; the one with the smallest picture wins.
CLOSENESS = (0.3, 0.4, 0.5, 0.65, 0.8, 0.95)

#: Positions that are tried at once for a box.
TRIES = 1024

#: How evenly an island's nodes spread around its centre: 0 keeps each node's angle, 1 makes a disc.
EVENNESS = 0.6

#: The golden angle: steps of this size spread points evenly around a centre.
GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


def project(embeddings: Sequence[Sequence[float] | None], links: csr_matrix, clusters: Ints) -> Floats:
    """A point per node in the plane, similar nodes close together; wider than high.

    Similarity is computed from the embeddings of the node, its neighbours and its cluster. A node without an embedding
    gets the mean of its neighbours. If no node has an embedding, only links count.

    Parameters:
      embeddings: one per node; those of an unusual width are ignored.
      links: the symmetric matrix of link weights.
      clusters: the number of each node's cluster, or -1.
    """
    if len(clusters) == 1:
        return np.zeros((1, 2))
    # Several threads add numbers in varying order, and t-SNE makes the rounding differences visible.
    with threadpool_limits(1):
        rows = _features(_unit_rows(embeddings) if any(embeddings) else _link_rows(links), links, clusters)
        if len(rows) >= FEWEST_FOR_TSNE:
            perplexity = min(30.0, (len(rows) - 1) / 3)
            rows = TSNE(2, init="pca", perplexity=perplexity, max_iter=ITERATIONS, random_state=0).fit_transform(rows)
        return np.asarray(PCA(2, svd_solver="full").fit_transform(rows), dtype=np.float64)


def island(points: Floats, *, spacing: float) -> Floats:
    """The nodes of an island packed around the origin, each roughly in its original direction.

    Parameters:
      points: the nodes' points as `project` returns them.
      spacing: the least distance between two nodes.
    """
    offsets = _whitened(points - points.mean(axis=0))
    distances = np.hypot(*offsets.T)
    angles = np.arctan2(offsets[:, 1], offsets[:, 0])
    ranks = np.argsort(np.argsort(distances, kind="stable"), kind="stable")
    angles = np.where(distances > 1e-9, angles, (ranks * GOLDEN_ANGLE) % (2 * math.pi) - math.pi)
    turns = np.argsort(np.argsort(angles, kind="stable"), kind="stable")
    even = (turns + 0.5) / len(turns) * 2 * math.pi - math.pi
    angles = angles + EVENNESS * (even - angles)
    radii = spacing * 0.56 * np.sqrt(ranks + 0.25) * (len(points) > 1)
    return _spread(np.c_[radii * np.cos(angles), radii * np.sin(angles)], spacing)


def outline(points: Floats, *, margin: float) -> Floats:
    """The corners of a convex hull with round corners around the points, counter-clockwise."""
    turns = np.linspace(0, 2 * math.pi, 24, endpoint=False)
    around = (points[:, None, :] + margin * np.c_[np.cos(turns), np.sin(turns)][None]).reshape(-1, 2)
    return np.asarray(around[ConvexHull(around).vertices], dtype=np.float64)


def arrange(origins: Floats, boxes: Floats, *, gap: float) -> Floats:
    """Origins of boxes that do not overlap, each as close as possible to its wanted position.

    Parameters:
      origins: the wanted origins, in any unit.
      boxes: left, top, right and bottom of each, relative to its origin.
      gap: the least distance between two boxes.
    """
    sizes = boxes[:, 2:] - boxes[:, :2] + gap
    extent = np.maximum(np.ptp(origins, axis=0), 1e-9)
    height = math.sqrt(float(sizes.prod(axis=1).sum()) / ASPECT)
    wanted = ((origins - origins.min(axis=0)) / extent - 0.5) * [height * ASPECT, height]
    tried = [_packed(wanted * closeness, sizes, step=gap / 2) for closeness in CLOSENESS]
    centres = min(tried, key=lambda centres: _width(centres, sizes))
    return np.asarray(centres - (boxes[:, 2:] + boxes[:, :2]) / 2, dtype=np.float64)


def _unit_rows(embeddings: Sequence[Sequence[float] | None]) -> Floats:
    """Embeddings as rows of length 1; zeros where one is missing or of an unusual width."""
    ((width, _),) = Counter(len(embedding) for embedding in embeddings if embedding).most_common(1)
    rows = np.zeros((len(embeddings), width))
    for row, embedding in zip(rows, embeddings, strict=True):
        if embedding and len(embedding) == width:
            row[:] = embedding
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), dtype=np.float64)


def _features(own: Floats, links: csr_matrix, clusters: Ints) -> Floats:
    """A row per node that similarity is computed from, in 2 to `MOST_DIMENSIONS` dimensions."""
    shares = csr_matrix(links / np.maximum(np.asarray(links.sum(axis=1)).reshape(-1, 1), 1e-12))
    missing = ~own.any(axis=1)
    own[missing] = (shares @ own)[missing]
    means = _cluster_means(own, clusters)
    missing = ~own.any(axis=1)
    own[missing] = means[missing]
    rows = np.asarray(own + NEIGHBOURS_SHARE * (shares @ own) + CLUSTER_SHARE * means, dtype=np.float64)
    if min(rows.shape) > MOST_DIMENSIONS:
        rows = PCA(MOST_DIMENSIONS, svd_solver="covariance_eigh").fit_transform(rows)
    if rows.shape[1] == 1:
        rows = np.c_[rows, np.zeros(len(rows))]
    # Identical nodes have no first principal component: a little noise gives them one.
    scale = float(rows.std()) or 1.0
    jitter = np.random.default_rng(0).normal(scale=scale * 1e-3, size=rows.shape)
    return np.asarray(rows + jitter, dtype=np.float64)


def _link_rows(links: csr_matrix) -> Floats:
    """Rows that are similar for nodes with similar links."""
    count = links.shape[0]
    near = csr_matrix(links + identity(count))
    scaled = near.multiply(1 / np.sqrt(np.asarray(near.sum(axis=1)).ravel()))
    if count <= MOST_DIMENSIONS:
        return np.asarray(scaled.toarray(), dtype=np.float64)
    return np.asarray(TruncatedSVD(MOST_DIMENSIONS, random_state=0).fit_transform(csr_matrix(scaled)))


def _cluster_means(rows: Floats, clusters: Ints) -> Floats:
    """The mean of each node's cluster; zeros for nodes without a cluster."""
    means = np.zeros_like(rows)
    for cluster in np.unique(clusters[clusters >= 0]):
        members = clusters == cluster
        means[members] = rows[members].mean(axis=0)
    return means


def _whitened(offsets: Floats) -> Floats:
    """The offsets with the same variance in all directions: round islands leave little space between them."""
    if len(offsets) < 3:
        return offsets
    variances, ways = np.linalg.eigh(np.cov(offsets.T))
    return np.asarray(offsets @ ways / np.sqrt(np.maximum(variances, 1e-12)) @ ways.T, dtype=np.float64)


def _spread(points: Floats, spacing: float) -> Floats:
    """The points at least `spacing` apart, and still close together."""
    points = points.copy()
    for step in range(200):
        pairs = KDTree(points).query_pairs(spacing, output_type="ndarray")
        if not len(pairs):
            break
        one, other = pairs.T
        ways = points[one] - points[other]
        distances = np.hypot(*ways.T)
        ways[distances < 1e-9], distances[distances < 1e-9] = [1e-9, 0.0], 1e-9
        moves = ways / distances[:, None] * ((spacing - distances) * 0.42)[:, None]
        np.add.at(points, one, moves)
        np.add.at(points, other, -moves)
        if step < 120:
            points *= 0.997
    return points


def _packed(wanted: Floats, sizes: Floats, *, step: float) -> Floats:
    """Centres of boxes that do not overlap. Boxes near the centre of the picture are placed first."""
    order = np.argsort(np.hypot(wanted[:, 0] / ASPECT, wanted[:, 1]), kind="stable")
    centres = np.zeros_like(wanted)
    for number, box in enumerate(order):
        placed = order[:number]
        centres[box] = _nearest_free(wanted[box], sizes[box], centres[placed], sizes[placed], step=step)
    return centres


def _width(centres: Floats, sizes: Floats) -> float:
    """The width of the smallest picture with the right aspect that holds the boxes."""
    width, height = (centres + sizes / 2).max(axis=0) - (centres - sizes / 2).min(axis=0)
    return max(float(width), float(height) * ASPECT)


def _nearest_free(wanted: Floats, size: Floats, centres: Floats, sizes: Floats, *, step: float) -> Floats:
    """The position closest to the wanted one where a box of this size overlaps no other."""
    least = (size + sizes) / 2
    first = 0
    while True:
        # A sunflower spiral: each seed is a little farther away than the one before, in all directions evenly.
        seeds = np.arange(first, first + TRIES)
        ways = np.c_[np.cos(seeds * GOLDEN_ANGLE) * ASPECT, np.sin(seeds * GOLDEN_ANGLE)]
        tried = wanted + step * np.sqrt(seeds)[:, None] * ways
        overlaps = (np.abs(tried[:, None] - centres[None]) < least[None]).all(axis=2).any(axis=1)
        if not overlaps.all():
            return np.asarray(tried[overlaps.argmin()], dtype=np.float64)
        first += TRIES
