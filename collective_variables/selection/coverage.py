"""Cover a pool in input space: k-center, k-means++, kernel herding and facility location."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from scipy.spatial.distance import pdist

from collective_variables import _checks, _extras, _memory
from collective_variables.ensembles import seeding
from collective_variables.selection import base

FIRST = ("random", "best")
MEDIAN_POINTS = 1000
CACHED = 2**18  # entries of a block of differences that stays in a core's cache
BLOCK = 2**23  # entries of a block of the kernel

Beginning = tuple[int, ...]  # the points that a member begins with


def k_center(
    pool: Float[Array, "n_pool ..."],
    *,
    n_selected: int,
    key: PRNGKeyArray,
    n_members: int = 1,
    labelled: Sequence[int] = (),
) -> base.Selection:
    """Choose, one after another, the point that is farthest from those chosen.

    This is farthest-first traversal (Gonzalez 1985; Sener, Savarese 2018, Algorithm 1) with the
    Euclidean distance of flattened points. It covers the pool within twice the smallest radius
    possible. Ties go to the lowest index.

    Args:
        pool: (n_pool, ...) points.
        n_selected: Number of points of each member; it counts labelled points.
        key: Draws the first point of every member uniformly.
        n_members: Number of members.
        labelled: Rows that count as chosen, instead of the random first point. They come first.

    Returns:
        The selection. `distances` are those to the nearest point chosen before, as are the mean and
        maximum over the pool. They are NaN for the first point and for labelled points.

    Raises ValueError for a pool that is not finite or too small.
    """
    points, labelled = _points(pool, n_selected, n_members, labelled)
    beginnings = _beginnings(labelled, None, key, n_members, len(points))
    choose = partial(_farthest_first, points, n_selected)
    indices, distances, means = np.moveaxis(_members(choose, beginnings), 1, 0)
    return base.Selection(indices.astype(np.int64), distances, means, distances.copy())


def k_means_plus_plus(
    pool: Float[Array, "n_pool ..."],
    *,
    n_selected: int,
    key: PRNGKeyArray,
    n_members: int = 1,
    labelled: Sequence[int] = (),
) -> base.Selection:
    """Return points drawn in proportion to their squared distance from the chosen ones.

    These are the first centres of k-means++ (Arthur, Vassilvitskii 2007) by scikit-learn, with one
    trial for each. If only copies of chosen points are left, the rest is drawn uniformly.
    `labelled` and errors are those of `k_center`.
    """
    points, labelled = _points(pool, n_selected, n_members, labelled)
    points = _centred(points)  # float32 would be widened again for every point drawn

    def choose(seed: Int[np.ndarray, " words"]) -> Int[np.ndarray, " n_selected"]:
        generator = np.random.default_rng(seed)
        if labelled:
            return _draw_by_squares(points, labelled, n_selected, generator)
        with _extras.required("sklearn"):
            from sklearn.cluster import kmeans_plusplus
        random_state = np.random.RandomState(seed)
        _, indices = kmeans_plusplus(
            points, n_selected, random_state=random_state, n_local_trials=1
        )
        return _without_repeats(indices, generator.permutation(len(points)))

    seeds = np.asarray(jax.random.key_data(seeding.member_keys(key, n_members)))
    return base.without_distances(np.array([choose(seed) for seed in seeds]))


def kernel_herding(
    pool: Float[Array, "n_pool ..."],
    *,
    n_selected: int,
    key: PRNGKeyArray,
    n_members: int = 1,
    labelled: Sequence[int] = (),
    bandwidth: float | None = None,
    first: str = "random",
) -> base.Selection:
    """Return points whose kernel mean follows that of the pool (Chen, Welling, Smola 2010).

    The kernel is k(x, y) = exp(−|x − y|² / (2 bandwidth²)). After t points p the next is the unused
    x with the largest mean_y k(x, y) − Σ_p k(x, p) / (t + 1). The default `bandwidth` is
    `median_distance(pool)`. The `first` point is "random", drawn uniformly for every member, or
    "best", chosen by the same rule. "best" gives all members one subset.

    `labelled` and errors are those of `k_center`. Also raises ValueError for a bandwidth that is
    not positive.
    """
    points, labelled = _points(pool, n_selected, n_members, labelled)
    _checks.choice("first", first, FIRST)
    bandwidth = _bandwidth(points, bandwidth)
    embedding = _kernel_mean(points, bandwidth)
    best = int(np.argmax(embedding)) if first == "best" else None
    beginnings = _beginnings(labelled, best, key, n_members, len(points))
    choose = partial(_herd, points, embedding, bandwidth, n_selected)
    return base.without_distances(_members(choose, beginnings))


def facility_location(
    pool: Float[Array, "n_pool ..."],
    *,
    n_selected: int,
    key: PRNGKeyArray,
    n_members: int = 1,
    labelled: Sequence[int] = (),
    bandwidth: float | None = None,
    first: str = "random",
) -> base.Selection:
    """Return points that each most increase Σ_y max_p k(y, p), chosen one after another.

    This sum is the similarity of the pool's points y to the nearest chosen point p. From the "best"
    first point, the greedy choice reaches 1 − 1/e of the largest sum possible (Nemhauser, Wolsey,
    Fisher 1978). Minoux's (1978) bounds save most of the sums.

    Kernel, `bandwidth` and `first` are those of `kernel_herding`. The kernel of the whole pool is
    held in float32: 4 n_pool² bytes, 0.4 GiB for 10,000 points. Raises the errors of
    `kernel_herding`, and MemoryError for a kernel larger than the free memory.
    """
    points, labelled = _points(pool, n_selected, n_members, labelled)
    _checks.choice("first", first, FIRST)
    _memory.check(f"The similarities of {len(points)} points", 4 * len(points) ** 2)
    similarity = np.empty((len(points), len(points)), np.float32)
    for start, block in _kernel_blocks(points, _bandwidth(points, bandwidth)):
        stop = start + len(block)
        similarity[start:stop, start:] = block
        similarity[start:, start:stop] = block.T
    gains = similarity.sum(axis=1, dtype=np.float64)
    best = int(np.argmax(gains)) if first == "best" else None
    beginnings = _beginnings(labelled, best, key, n_members, len(points))
    choose = partial(_cover, similarity, gains, n_selected)
    return base.without_distances(_members(choose, beginnings))


def median_distance(pool: Float[Array, "n_pool ..."], /) -> float:
    """Return the median Euclidean distance of the pairs among at most 1000 points of the pool.

    The points are the same for every key. Copies, at distance 0, are left out, because they do not
    indicate the scale. The result is 1.0 for a pool that holds only copies.
    """
    points = np.asarray(pool).reshape(len(pool), -1)
    if len(points) > MEDIAN_POINTS:
        points = points[np.random.default_rng(0).choice(len(points), MEDIAN_POINTS, replace=False)]
    distances = pdist(points)
    distances = distances[distances > 0]
    return float(np.median(distances)) if len(distances) else 1.0


def _points(
    pool: Array, n_selected: int, n_members: int, labelled: Sequence[int]
) -> tuple[Float[np.ndarray, "n_pool n_features"], list[int]]:
    """Return the flattened points and the labelled rows, or raise if they cannot be used."""
    pool = np.asarray(pool)
    labelled = base.check_budget(len(pool), n_selected, n_members, labelled)
    _checks.finite("pool", pool)
    dtype = np.result_type(pool.dtype, np.float32)
    return pool.reshape(len(pool), -1).astype(dtype, copy=False), labelled


def _bandwidth(points: np.ndarray, bandwidth: float | None) -> float:
    if bandwidth is None:
        return median_distance(points)
    return _checks.number("bandwidth", bandwidth, above=0.0)


def _beginnings(
    labelled: list[int], best: int | None, key: PRNGKeyArray, n_members: int, n_pool: int
) -> list[Beginning]:
    """Return each member's labelled points, or the best first point, or a random one."""
    if labelled or best is not None:
        return [tuple(labelled or [best])] * n_members
    # Of fixed width, so that 64-bit mode draws the same points.
    draw = jax.vmap(lambda member_key: jax.random.randint(member_key, (), 0, n_pool, "int32"))
    starts = np.asarray(draw(seeding.member_keys(key, n_members)))
    return [(start,) for start in starts.tolist()]


def _members(choose: Callable[[Beginning], np.ndarray], beginnings: list[Beginning]) -> np.ndarray:
    """Return choose(beginning) for every member, computed once for each different beginning."""
    results = {beginning: choose(beginning) for beginning in sorted(set(beginnings))}
    return np.array([results[beginning] for beginning in beginnings])


def _farthest_first(
    points: np.ndarray, n_selected: int, beginning: Beginning
) -> Float[np.ndarray, "3 n_selected"]:
    """Return the indices, the distance of each when it was chosen, and the pool's mean then."""
    chosen = np.full((3, n_selected), np.nan)
    nearest = np.full(len(points), np.inf, points.dtype)
    for step in range(n_selected):
        if step < len(beginning):
            point = beginning[step]
        else:
            point = int(np.argmax(nearest))
            distances = np.sqrt(np.maximum(nearest, 0.0))
            chosen[1:, step] = distances[point], distances.mean()
        chosen[0, step] = point
        np.minimum(nearest, squared_distances(points, point), out=nearest)
        nearest[point] = -1.0  # behind a copy of it, which is at 0
    return chosen


def _draw_by_squares(
    points: np.ndarray, labelled: list[int], n_selected: int, generator: np.random.Generator
) -> Int[np.ndarray, " n_selected"]:
    """Return the points that k-means++ draws after the labelled ones."""
    # scikit-learn's function cannot start from given points.
    indices = []
    nearest = np.full(len(points), np.inf)
    for step in range(n_selected):
        if step < len(labelled):
            point = labelled[step]
        else:
            # Copies of chosen points are at exactly 0. They count only if nothing else is left.
            unused = ~np.isin(np.arange(len(points)), indices)
            weights = nearest if nearest.any() else unused
            point = int(generator.choice(len(points), p=weights / weights.sum()))
        indices.append(point)
        np.minimum(nearest, squared_distances(points, point), out=nearest)
    return np.array(indices)


def _herd(
    points: np.ndarray,
    embedding: np.ndarray,
    bandwidth: float,
    n_selected: int,
    beginning: Beginning,
) -> Int[np.ndarray, " n_selected"]:
    indices = []
    attraction = embedding.copy()
    repulsion = np.zeros(len(points))
    for step in range(n_selected):
        if step < len(beginning):
            point = beginning[step]
        else:
            point = int(np.argmax(attraction - repulsion / (step + 1)))
        indices.append(point)
        attraction[point] = -np.inf
        repulsion += _gaussian(squared_distances(points, point), bandwidth)
    return np.array(indices)


def _cover(
    similarity: np.ndarray, gains: np.ndarray, n_selected: int, beginning: Beginning
) -> Int[np.ndarray, " n_selected"]:
    """Choose greedily; a gain only shrinks as points are chosen, so old gains are upper bounds."""
    # The point with the largest bound is chosen once its bound is a new gain. Gains are in float64,
    # because two points that are nearest to each other tie, and then the lower index must win.
    indices = []
    bounds = gains.copy()
    nearest = np.zeros(len(gains))
    for step in range(n_selected):
        if step < len(beginning):
            point = beginning[step]
        else:
            is_new = np.zeros(len(gains), bool)
            while not is_new[point := int(np.argmax(bounds))]:
                bounds[point] = np.maximum(similarity[point] - nearest, 0.0).sum()
                is_new[point] = True
        indices.append(point)
        bounds[point] = -np.inf
        np.maximum(nearest, similarity[point], out=nearest)
    return np.array(indices)


def _without_repeats(indices: np.ndarray, spare: np.ndarray) -> Int[np.ndarray, " n_selected"]:
    """Replace each repeated index by the next unused point of `spare`; subsets stay nested."""
    used = {}
    rest = iter(spare.tolist())
    for index in indices.tolist():
        used[next(point for point in rest if point not in used) if index in used else index] = None
    return np.array(list(used))


def squared_distances(points: np.ndarray, point: int) -> Float[np.ndarray, " n_pool"]:
    """Return the squared distances of all points from one of them."""
    # By differences: copies are then at exactly 0, and near points keep the digits that they lose
    # in |x|² + |y|² − 2 x·y. It takes the same time, since both forms wait for the memory.
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
    """Yield start and block: rows and columns of the symmetric kernel from `start` on."""
    # Matrix products lose digits of distances, so they use centred points in float64.
    points = _centred(points)
    norms = np.vecdot(points, points)
    n_rows = max(1, BLOCK // len(points))
    for start in range(0, len(points), n_rows):
        rows = slice(start, start + n_rows)
        squared = norms[rows, None] + norms[start:] - 2.0 * points[rows] @ points[start:].T
        np.fill_diagonal(squared, 0.0)
        yield start, _gaussian(np.maximum(squared, 0.0, out=squared), bandwidth)


def _kernel_mean(points: np.ndarray, bandwidth: float) -> Float[np.ndarray, " n_pool"]:
    """Return mean_y k(x, y) for every x."""
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
