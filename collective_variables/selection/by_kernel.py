"""Choose subsets by determinant, trace or entropy of the kernel of each member's network.

The functions share their first arguments, which `log_determinant` describes.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from scipy.special import entr
from threadpoolctl import ThreadpoolController

from collective_variables import _checks, _memory
from collective_variables.ensembles import seeding
from collective_variables.kernels import empirical, products
from collective_variables.networks import parameters
from collective_variables.selection import _cholesky, base

OBJECTIVES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "entropy": lambda entropies, traces: entropies,
    "trace-entropy": lambda entropies, traces: entropies * traces,
}
SENSES = {"maximise": 1.0, "minimise": -1.0}
ENTRIES = 2**21  # entries of the subsets' kernels that are decomposed together
STEP = 0.6  # of the trapezoidal rule in ln s, which errs by about exp(−2 π² / STEP), 5e-15
# The values of s, for kernels whose eigenvalues are at most 1.
NODES = np.exp(np.arange(-33.0, 33.0, STEP))[:, None]

Kernel = Float[np.ndarray, "n_pool n_pool"]
Subset = TypeVar("Subset")


def log_determinant(
    pool: Float[Array, "n_pool ..."],
    network: nn.Module,
    *,
    n_selected: int,
    key: PRNGKeyArray,
    initialisation_keys: PRNGKeyArray,
    labelled: Sequence[int] = (),
) -> base.Selection:
    """Choose points that each most increase ln det K(T, T) of the points T chosen so far.

    K is the kernel of `empirical.empirical_ntk` of the network that training starts from, in the
    dtype of `pool`. The choice is computed in float64, and one kernel is in memory at a time.

    This is the Cholesky factorisation with pivoting, and the greedy mode of the determinantal point
    process with the kernel K (Chen, Zhang, Zhou 2018).

    Args:
        pool: (n_pool, ...) points.
        network: The network. Member m has the parameters `parameters.initialise(network,
            initialisation_keys[m], pool)`.
        n_selected: Number of points of each member; it counts labelled points.
        key: Draws what is random, here nothing.
        initialisation_keys: (n_members,) keys of the initial parameters.
        labelled: Rows that count as chosen. They come first, without a distance.

    Returns:
        The selection. `distances` are K(x, x) − K(x, T) K(T, T)⁻¹ K(T, x), the variance of a point
        x given T. For a copy of a chosen point they are the round-off of K.

    Raises ValueError for a pool that is not finite or too small, and MemoryError for a kernel
    larger than the free memory.
    """
    points, labelled = _points(pool, n_selected, initialisation_keys, labelled)
    _check_memory(points, 8 * n_selected * len(points))

    def choose(kernel: Kernel, generator: np.random.Generator) -> _cholesky.Pivots:
        return _cholesky.pivots(
            lambda rows, columns: (
                kernel[rows] if columns is None else kernel[np.ix_(rows, columns)]
            ),
            np.diag(kernel).astype(np.float64),
            _cholesky.Rule(criterion="largest"),
            n_selected=n_selected,
            generator=generator,
            known=labelled,
        )

    members = _members(choose, points, network, key, initialisation_keys)
    return base.Selection(*map(np.stack, zip(*members)))


def largest_trace(
    pool: Float[Array, "n_pool ..."],
    network: nn.Module,
    *,
    n_selected: int,
    key: PRNGKeyArray,
    initialisation_keys: PRNGKeyArray,
    labelled: Sequence[int] = (),
) -> base.Selection:
    """Return the points in the order of K(x, x), largest first; ties go to the lowest row.

    No subset with the same labelled points and as many points has a larger trace. Networks and
    errors are those of `log_determinant`; only the diagonal of the kernel is computed.
    """
    points, labelled = _points(pool, n_selected, initialisation_keys, labelled)
    indices = []
    for initialisation_key in initialisation_keys:
        params = initialise(network, initialisation_key, points[:1])
        diagonal = np.array(products.kernel_product(network.apply, params, points).diagonal)
        order = np.argsort(-diagonal, kind="stable")
        others = order[~np.isin(order, labelled)]
        indices.append([*labelled, *others][:n_selected])
    return base.without_distances(np.array(indices))


def best_entropy(
    pool: Float[Array, "n_pool ..."],
    network: nn.Module,
    *,
    n_selected: int,
    key: PRNGKeyArray,
    initialisation_keys: PRNGKeyArray,
    labelled: Sequence[int] = (),
    n_sets: int = 100,
    sizes: Sequence[int] | None = None,
) -> base.Selection:
    """Return the best of `n_sets` random subsets by the von Neumann entropy of their kernel.

    The ascending subset sizes `sizes` count labelled points; n_selected is added if it is not the
    last, and None stands for n_selected only. The subset of each size is the best of `n_sets`
    extensions of the one before, and the first extends the labelled points. Each extension is drawn
    uniformly from all other points, so the sets may overlap.

    Networks and errors are those of `log_determinant`. Also raises ValueError for sizes that do not
    ascend, exceed n_selected, or do not exceed the labelled points.
    """
    points, labelled = _points(pool, n_selected, initialisation_keys, labelled)
    _checks.integer("n_sets", n_sets, minimum=1)
    sizes = _sizes(sizes, n_selected, len(labelled))
    _check_memory(points)

    def choose(kernel: Kernel, generator: np.random.Generator) -> Int[np.ndarray, " n_selected"]:
        chosen = np.array(labelled, np.int64)
        for size in sizes:
            unused = np.setdiff1d(np.arange(len(kernel)), chosen)
            extensions = [
                generator.choice(unused, size - len(chosen), replace=False) for _ in range(n_sets)
            ]
            sets = np.hstack([np.tile(chosen, (n_sets, 1)), extensions])
            chosen = sets[np.argmax(set_entropies(kernel, sets))]
        return chosen

    subsets = _members(choose, points, network, key, initialisation_keys)
    return base.without_distances(np.array(subsets))


def greedy(
    pool: Float[Array, "n_pool ..."],
    network: nn.Module,
    *,
    n_selected: int,
    key: PRNGKeyArray,
    initialisation_keys: PRNGKeyArray,
    labelled: Sequence[int] = (),
    objective: str = "entropy",
    sense: str = "maximise",
    n_candidates: int | None = None,
) -> base.Selection:
    """Return the points with the largest objective of their kernel, chosen one after another.

    The `objective` is "entropy", the von Neumann entropy S, or "trace-entropy", S times the trace;
    the `sense` "minimise" takes the smallest. Each choice is among `n_candidates` unused points,
    drawn anew each time; None stands for all of them. S of a single point is always 0, so the first
    point is the candidate that makes the best pair with another one. Ties go to the lowest row.
    Networks and errors are those of `log_determinant`.
    """
    points, labelled = _points(pool, n_selected, initialisation_keys, labelled)
    value = OBJECTIVES[_checks.choice("objective", objective, OBJECTIVES)]
    sign = SENSES[_checks.choice("sense", sense, SENSES)]
    n_candidates = (
        len(points)
        if n_candidates is None
        else _checks.integer("n_candidates", n_candidates, minimum=1)
    )
    _check_memory(points)

    def score(entropies: np.ndarray, traces: np.ndarray) -> np.ndarray:
        return sign * value(entropies, traces)

    def choose(kernel: Kernel, generator: np.random.Generator) -> Int[np.ndarray, " n_selected"]:
        chosen = list(labelled)
        while len(chosen) < n_selected:
            candidates = np.setdiff1d(np.arange(len(kernel)), chosen)
            if n_candidates < len(candidates):
                candidates = np.sort(generator.choice(candidates, n_candidates, replace=False))
            scores = (
                score(*with_each(kernel, chosen, candidates))
                if chosen
                else best_pair_scores(kernel, candidates, score)
            )
            chosen.append(int(candidates[np.argmax(scores)]))
        return np.array(chosen)

    subsets = _members(choose, points, network, key, initialisation_keys)
    return base.without_distances(np.array(subsets))


def _points(
    pool: Array, n_selected: int, initialisation_keys: PRNGKeyArray, labelled: Sequence[int]
) -> tuple[Float[Array, "n_pool ..."], list[int]]:
    """Return the points and the labelled rows, or raise if they cannot be used."""
    points = jnp.asarray(pool)
    if jnp.ndim(initialisation_keys) != 1:
        received = jnp.shape(initialisation_keys)
        raise ValueError(
            f"initialisation_keys must have the shape (n_members,): received {received}."
        )
    labelled = base.check_budget(len(points), n_selected, len(initialisation_keys), labelled)
    _checks.finite("pool", np.asarray(points))
    return points, labelled


def _check_memory(points: Float[Array, "n_pool ..."], n_more: int = 0) -> None:
    _memory.check(
        f"The kernel entries of {len(points)} points",
        points.dtype.itemsize * len(points) ** 2 + n_more,
    )


def _sizes(sizes: Sequence[int] | None, n_selected: int, n_labelled: int) -> list[int]:
    sizes = [_checks.integer("sizes", size, minimum=1) for size in ([] if sizes is None else sizes)]
    if sizes != sorted(set(sizes)):
        raise ValueError(f"sizes must ascend: received {sizes}.")
    if sizes and sizes[-1] > n_selected:
        raise ValueError(f"sizes must not exceed n_selected: {sizes[-1]} > {n_selected}.")
    if sizes and sizes[0] <= n_labelled:
        raise ValueError(
            f"sizes must exceed the points already labelled: {sizes[0]} <= {n_labelled}."
        )
    return sizes + [n_selected] * (n_selected not in sizes)


# Compiled here, so that all calls for a network share a compilation.
initialise = jax.jit(parameters.initialise, static_argnums=0)


def _members(
    choose: Callable[[Kernel, np.random.Generator], Subset],
    points: Float[Array, "n_pool ..."],
    network: nn.Module,
    key: PRNGKeyArray,
    initialisation_keys: PRNGKeyArray,
) -> list[Subset]:
    """Return choose(kernel, generator) for every member."""

    def choose_for(initialisation_key: PRNGKeyArray, seed: Int[np.ndarray, " words"]) -> Subset:
        params = initialise(network, initialisation_key, points[:1])
        kernel = np.asarray(empirical.empirical_ntk(network.apply, params, points))
        _checks.finite("kernel", kernel)
        # With more threads the many small eigenproblems take ten times as long if the cores are
        # busy.
        with ThreadpoolController().limit(limits=1, user_api="blas"):
            return choose(kernel, np.random.default_rng(seed))

    seeds = np.asarray(jax.random.key_data(seeding.member_keys(key, len(initialisation_keys))))
    return list(map(choose_for, initialisation_keys, seeds))


def set_entropies(
    kernel: Kernel, sets: Int[np.ndarray, "n_sets n_points"]
) -> Float[np.ndarray, " n_sets"]:
    """Return the entropy of each set's kernel, as in `spectrum` but 0 for a kernel of zeros."""
    at_once = max(1, ENTRIES // sets.shape[1] ** 2)
    parts = [sets[start : start + at_once] for start in range(0, len(sets), at_once)]
    values = [
        np.linalg.eigvalsh(kernel[part[:, :, None], part[:, None, :]].astype(np.float64))
        for part in parts
    ]
    values = np.maximum(np.concatenate(values), 0.0)
    totals = values.sum(axis=1, keepdims=True)
    return entr(values / np.where(totals > 0, totals, 1.0)).sum(axis=1)


def best_pair_scores(
    kernel: Kernel,
    candidates: Int[np.ndarray, " n_candidates"],
    score: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Float[np.ndarray, " n_candidates"]:
    """Return the largest score(entropies, traces) of each candidate paired with another one."""
    # The two eigenvalues of a pair have a closed form.
    diagonal = kernel[candidates, candidates].astype(np.float64)
    best = np.empty(len(candidates))
    for place, point in enumerate(candidates):
        traces = diagonal + diagonal[place]
        gaps = np.hypot(diagonal - diagonal[place], 2.0 * kernel[point, candidates])
        shares = 0.5 + 0.5 * np.divide(gaps, traces, out=np.ones_like(traces), where=gaps < traces)
        scores = score(entr(shares) + entr(1.0 - shares), traces)
        scores[place] = -np.inf
        best[place] = scores.max()
    return best


def with_each(
    kernel: Kernel, chosen: list[int], candidates: Int[np.ndarray, " n_candidates"]
) -> tuple[Float[np.ndarray, " n_candidates"], Float[np.ndarray, " n_candidates"]]:
    """Return entropy and trace of the kernel of the chosen points T and each candidate.

    No further eigenvalues are computed. Let λ be the eigenvalues of K(T, T), and z be K(T, x) in
    its eigenvectors. A point x with K(x, x) = d multiplies det(K(T, T) + s) by
    h(s) = d + s − Σ z² / (λ + s). Since λ ln λ = ∫ λ / (1 + s) − λ / (λ + s) ds over all s ≥ 0,
    the point adds ∫ d / (1 + s) − 1 + s h'(s) / h(s) ds to Σ λ ln λ. The form below loses no
    digits for large s.
    """
    values, vectors = np.linalg.eigh(kernel[np.ix_(chosen, chosen)].astype(np.float64))
    values = np.maximum(values, 0.0)
    d = kernel[candidates, candidates].astype(np.float64)
    total = (values.sum() + d.max()) or 1.0
    values = values / total
    d = d / total
    squares = (vectors.T @ kernel[np.ix_(chosen, candidates)] / total) ** 2
    # Below round-off z has the noise of K, which must not be divided by less.
    inverse = 1.0 / (np.maximum(values, len(chosen) * jnp.finfo(kernel.dtype).eps) + NODES)
    first = np.minimum(inverse @ squares, d)  # so that h ≥ s, whatever the round-off
    second = inverse**2 @ squares
    numerator = d * (d - 1.0 - first) / (1.0 + NODES) + first + NODES * second
    added = STEP * (NODES * numerator / (d + NODES - first)).sum(axis=0)
    traces = values.sum() + d
    positive = np.where(traces > 0, traces, 1.0)
    return np.log(positive) - (added - entr(values).sum()) / positive, total * traces
