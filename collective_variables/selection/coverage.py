"""Subsets that cover a pool in input space: k-center, k-means++, kernel herding and facility
location.
"""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from scipy.spatial.distance import pdist

from collective_variables import _checks, _memory
from collective_variables.ensembles import seeding
from collective_variables.selection import base

FIRST = ("random", "best")
MEDIAN_POINTS = 1000
CACHED = 2**18  # entries of a block of differences that stays in a core's cache
BLOCK = 2**23  # entries of a block of the kernel


def k_center(
    pool: Float[Array, "n_pool ..."], *, n_selected: int, key: PRNGKeyArray, n_members: int = 1
) -> base.Selection:
    """Choose always the point farthest from those chosen, from a first point drawn uniformly for
    every member.

    Farthest-first traversal (Gonzalez 1985; Sener, Savarese 2018, Algorithm 1) with the Euclidean
    distance of flattened points, which covers the pool within twice the smallest radius possible.
    Ties go to the lowest index. `distances` are to the nearest point chosen before, as are the mean
    and maximum over the pool; those of the first point are NaN.

    Raises ValueError for a pool that is not finite or too small.
    """
    points = _points(pool, n_selected, n_members)
    starts = _random_starts(key, n_members, len(points))
    indices, distances, means = np.moveaxis(
        _from_starts(partial(_farthest_first, points, n_selected), starts), 1, 0
    )
    return base.Selection(indices.astype(np.int64), distances, means, distances.copy())


def k_means_plus_plus(
    pool: Float[Array, "n_pool ..."], *, n_selected: int, key: PRNGKeyArray, n_members: int = 1
) -> base.Selection:
    """Draw every point with a probability proportional to its squared distance from the nearest one
    drawn before.

    The first centres of k-means++ (Arthur, Vassilvitskii 2007) by scikit-learn, with one trial for
    each. Where only copies of chosen points are left, the rest is drawn uniformly. Raises
    ValueError as `k_center` does.
    """
    from sklearn.cluster import kmeans_plusplus  # the library imports without scikit-learn

    points = _centred(
        _points(pool, n_selected, n_members)
    )  # float32 would be widened again for every point drawn

    def choose(seed: Int[np.ndarray, " words"]) -> Int[np.ndarray, " n_selected"]:
        random_state = np.random.RandomState(seed)
        _, indices = kmeans_plusplus(
            points, n_selected, random_state=random_state, n_local_trials=1
        )
        return _without_repeats(indices, np.random.default_rng(seed).permutation(len(points)))

    seeds = np.asarray(jax.random.key_data(seeding.member_keys(key, n_members)))
    return base.without_distances(np.array([choose(seed) for seed in seeds]))


def kernel_herding(
    pool: Float[Array, "n_pool ..."],
    *,
    n_selected: int,
    key: PRNGKeyArray,
    n_members: int = 1,
    bandwidth: float | None = None,
    first: str = "random",
) -> base.Selection:
    """Choose points whose kernel mean follows that of the pool.

    Herding (Chen, Welling, Smola 2010) among the points of the pool, none twice: after t points p
    the next is the x with the largest mean_y k(x, y) − Σ_p k(x, p) / (t + 1), with k(x, y) =
    exp(−|x − y|² / (2 bandwidth²)). Without a bandwidth it is `median_distance(pool)`. The first
    point is drawn uniformly for every member, or is the "best" by the same rule, which gives all
    members one subset.

    Raises ValueError as `k_center` does, and for a bandwidth that is not positive.
    """
    points = _points(pool, n_selected, n_members)
    _checks.choice("first", first, FIRST)
    bandwidth = _bandwidth(points, bandwidth)
    embedding = _kernel_mean(points, bandwidth)
    starts = _starts(first, embedding, key, n_members)
    return base.without_distances(
        _from_starts(partial(_herd, points, embedding, bandwidth, n_selected), starts)
    )


def facility_location(
    pool: Float[Array, "n_pool ..."],
    *,
    n_selected: int,
    key: PRNGKeyArray,
    n_members: int = 1,
    bandwidth: float | None = None,
    first: str = "random",
) -> base.Selection:
    """Choose always the point that most increases Σ_y max_p k(y, p), the similarity of the pool to
    its nearest choices.

    Greedy maximisation, from the "best" first point to 1 − 1/e of the largest sum possible
    (Nemhauser, Wolsey, Fisher 1978), with Minoux's (1978) bounds on what need not be computed
    again. Kernel, `bandwidth` and `first` are those of `kernel_herding`. The kernel of the whole
    pool is held in float32: 4 n_pool² bytes, 0.4 GiB for 10,000 points.

    Raises ValueError as `kernel_herding` does, and MemoryError for a kernel that is larger than
    what is free.
    """
    points = _points(pool, n_selected, n_members)
    _checks.choice("first", first, FIRST)
    _memory.check(f"The similarities of {len(points)} points", 4 * len(points) ** 2)
    similarity = np.empty((len(points), len(points)), np.float32)
    for start, block in _kernel_blocks(points, _bandwidth(points, bandwidth)):
        stop = start + len(block)
        similarity[start:stop, start:], similarity[start:, start:stop] = block, block.T
    gains = similarity.sum(axis=1, dtype=np.float64)
    starts = _starts(first, gains, key, n_members)
    return base.without_distances(
        _from_starts(partial(_cover, similarity, gains, n_selected), starts)
    )


def median_distance(pool: Float[Array, "n_pool ..."], /) -> float:
    """The median Euclidean distance of the pairs among at most 1000 points of the pool, the same
    ones for every key.

    Copies, at distance 0, are left out: they tell nothing about the scale. 1.0 for a pool of copies
    alone.
    """
    points = np.asarray(pool).reshape(len(pool), -1)
    if len(points) > MEDIAN_POINTS:
        points = points[np.random.default_rng(0).choice(len(points), MEDIAN_POINTS, replace=False)]
    distances = pdist(points)
    distances = distances[distances > 0]
    return float(np.median(distances)) if len(distances) else 1.0


def _points(pool: Array, n_selected: int, n_members: int) -> Float[np.ndarray, "n_pool n_features"]:
    pool = np.asarray(pool)
    base.check_budget(len(pool), n_selected, n_members)
    _checks.finite("pool", pool)
    return pool.reshape(len(pool), -1).astype(np.result_type(pool.dtype, np.float32), copy=False)


def _bandwidth(points: np.ndarray, bandwidth: float | None) -> float:
    return (
        median_distance(points)
        if bandwidth is None
        else _checks.number("bandwidth", bandwidth, above=0.0)
    )


def _starts(
    first: str, scores: np.ndarray, key: PRNGKeyArray, n_members: int
) -> Int[np.ndarray, " n_members"]:
    return (
        np.full(n_members, np.argmax(scores))
        if first == "best"
        else _random_starts(key, n_members, len(scores))
    )


def _random_starts(key: PRNGKeyArray, n_members: int, n_pool: int) -> Int[np.ndarray, " n_members"]:
    # Of fixed width, so that 64-bit mode draws the same points.
    draw = jax.vmap(lambda member_key: jax.random.randint(member_key, (), 0, n_pool, "int32"))
    return np.asarray(draw(seeding.member_keys(key, n_members)))


def _from_starts(
    choose: Callable[[int], np.ndarray], starts: Int[np.ndarray, " n_members"]
) -> np.ndarray:
    """choose(start) of every member; nothing else differs between members, so that each start is
    computed once.
    """
    different, members = np.unique(starts, return_inverse=True)
    return np.array([choose(start) for start in different.tolist()])[members]


def _farthest_first(
    points: np.ndarray, n_selected: int, start: int
) -> Float[np.ndarray, "3 n_selected"]:
    """Rows: the indices, the distance at which each was chosen, and the mean over the pool at that
    time.
    """
    chosen = np.full((3, n_selected), np.nan)
    chosen[0, 0] = point = start
    nearest = np.full(len(points), np.inf, points.dtype)
    for step in range(1, n_selected):
        np.minimum(nearest, _squared_distances(points, point), out=nearest)
        nearest[point] = -1.0  # behind a copy of it, which is at 0
        point = int(np.argmax(nearest))
        distances = np.sqrt(np.maximum(nearest, 0.0))
        chosen[:, step] = point, distances[point], distances.mean()
    return chosen


def _herd(
    points: np.ndarray, embedding: np.ndarray, bandwidth: float, n_selected: int, start: int
) -> Int[np.ndarray, " n_selected"]:
    attraction, repulsion, indices = embedding.copy(), np.zeros(len(points)), [start]
    while len(indices) < n_selected:
        attraction[indices[-1]] = -np.inf
        repulsion += _gaussian(_squared_distances(points, indices[-1]), bandwidth)
        indices.append(int(np.argmax(attraction - repulsion / (len(indices) + 1))))
    return np.array(indices)


def _cover(
    similarity: np.ndarray, gains: np.ndarray, n_selected: int, start: int
) -> Int[np.ndarray, " n_selected"]:
    """A gain only shrinks as points are chosen, so an old one bounds it: the largest is chosen once
    it is a new one.

    Gains are in float64, as two points that are nearest to each other tie: only then does the lower
    index win.
    """
    bounds, nearest, indices = gains.copy(), np.zeros(len(gains)), [start]
    while len(indices) < n_selected:
        bounds[indices[-1]] = -np.inf
        np.maximum(nearest, similarity[indices[-1]], out=nearest)
        new = np.zeros(len(gains), bool)
        while not new[point := int(np.argmax(bounds))]:
            bounds[point] = np.maximum(similarity[point] - nearest, 0.0).sum()
            new[point] = True
        indices.append(point)
    return np.array(indices)


def _without_repeats(indices: np.ndarray, spare: np.ndarray) -> Int[np.ndarray, " n_selected"]:
    """`indices` with the next unused point of `spare` in place of each that came before, so that
    subsets stay nested.
    """
    used, rest = {}, iter(spare.tolist())
    for index in indices.tolist():
        used[next(point for point in rest if point not in used) if index in used else index] = None
    return np.array(list(used))


def _squared_distances(points: np.ndarray, point: int) -> Float[np.ndarray, " n_pool"]:
    """Of all points from one, by differences: copies are at exactly 0 and near points keep the digits that they lose in
    |x|² + |y|² − 2 x·y, in the same time, since both wait for the memory.
    """
    squared = np.empty(len(points), points.dtype)
    n_rows = max(1, CACHED // max(1, points.shape[1]))
    for start in range(0, len(points), n_rows):
        rows = slice(start, start + n_rows)
        differences = points[rows] - points[point]
        np.vecdot(differences, differences, out=squared[rows])
    return squared


def _kernel_blocks(
    points: np.ndarray, bandwidth: float
) -> Iterator[tuple[int, Float[np.ndarray, "n_rows n_columns"]]]:
    """(start, block): rows of the kernel from `start` on, with the columns from `start` on, as it
    is symmetric.

    Matrix products lose digits of distances, so they are of centred points in float64.
    """
    points = _centred(points)
    norms = np.vecdot(points, points)
    n_rows = max(1, BLOCK // len(points))
    for start in range(0, len(points), n_rows):
        rows = slice(start, start + n_rows)
        squared = norms[rows, None] + norms[start:] - 2.0 * points[rows] @ points[start:].T
        np.fill_diagonal(squared, 0.0)
        yield start, _gaussian(np.maximum(squared, 0.0, out=squared), bandwidth)


def _kernel_mean(points: np.ndarray, bandwidth: float) -> Float[np.ndarray, " n_pool"]:
    """mean_y k(x, y) of every x."""
    sums = np.zeros(len(points))
    for start, block in _kernel_blocks(points, bandwidth):
        stop = start + len(block)
        sums[start:stop] += block.sum(axis=1)
        sums[stop:] += block[:, len(block) :].sum(axis=0)
    return sums / len(points)


def _gaussian(squared: np.ndarray, bandwidth: float) -> np.ndarray:
    return np.exp(squared * (-0.5 / bandwidth**2))


def _centred(points: np.ndarray) -> Float[np.ndarray, "n_pool n_features"]:
    points = points.astype(np.float64)
    return points - points.mean(axis=0)
