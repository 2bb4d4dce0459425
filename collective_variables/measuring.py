"""Kernels and spectra of every member's subsets, before training."""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree
from threadpoolctl import ThreadpoolController

from collective_variables import checks, ensembles, networks, ntk, spectrum


Spectra = list[list[spectrum.Spectrum]]


def measure(
    network: networks.Network,
    pool: Float[np.ndarray, "n_pool ..."],
    keys: PRNGKeyArray,
    subsets: Sequence[Int[np.ndarray, "n_members n_selected"]],
    n_points: Int[np.ndarray, "n_members n_sizes"],
    /,
    *,
    progress: str = "",
) -> list[Spectra]:
    """For each array of `subsets` and each member the spectra of the NTK on its first n indices, n in `n_points`.

    Member m's network is `networks.initialise` with keys[m], whatever the subset. Its kernel is computed once, on its
    largest subset, and the smaller, nested ones are leading blocks of it. Raises ValueError for a pool that is not finite,
    an index outside it, or subsets that are too small.
    """
    checks.finite("pool", pool)
    n_selected = min(subset.shape[1] for subset in subsets)
    if n_points.max() > n_selected:
        raise ValueError(f"n_points must not exceed the points selected: {n_points.max()} > {n_selected}.")
    for subset in subsets:
        checks.rows("subsets", subset, len(pool))
    # Apart from the kernel, which is compiled for every padded size: random numbers compile slowly.
    initialise = ensembles.over_members(lambda pool, key: networks.initialise(network, key, pool))
    function = ensembles.over_members(partial(_kernel, network))
    pool = jnp.asarray(pool)
    with ensembles.Progress(progress, len(subsets) * len(n_points), "kernels") as bar:

        def run(task: tuple[int, int]) -> list[spectrum.Spectrum]:
            subset, member = task
            width = ensembles.bucket(int(n_points[member].max()), subsets[subset].shape[1])
            rows = subsets[subset][member : member + 1, :width]
            params = initialise(pool, keys[member : member + 1])
            kernel = np.asarray(function(pool, params, rows))[0]
            bar.advance()
            return spectrum.leading(kernel, n_points[member])

        tasks = list(itertools.product(range(len(subsets)), range(len(n_points))))
        # One thread of LAPACK in each of ours: more get in each other's way, and small eigenproblems take 100 times longer.
        with ThreadpoolController().limit(limits=1, user_api="blas"):
            spectra = ensembles.run_in_threads(run, tasks)
    return [spectra[start : start + len(n_points)] for start in range(0, len(spectra), len(n_points))]


def _kernel(network: nn.Module, pool: Array, params: PyTree[Array], rows: Int[Array, " width"]) -> Array:
    return ntk.empirical_ntk(network.apply, params, pool[rows])


def table(spectra: Spectra, n_points: Int[np.ndarray, "n_members n_sizes"], /) -> pd.DataFrame:
    """One row per member and subset size: member, n_points and its collective variables."""
    return pd.DataFrame(
        {"member": member, "n_points": int(n), **spectrum.collective_variables(one.eigenvalues)}
        for member, (row, sizes) in enumerate(zip(spectra, n_points))
        for one, n in zip(row, sizes)
    )


class RoundOff(NamedTuple):
    """What round-off did to the spectra: how many eigenvalues were negative, of how many, and the worst over λ_max."""

    n_eigenvalues: int
    n_negative: int
    worst_relative: float


def round_off(spectra: Spectra, /) -> RoundOff:
    """Count the eigenvalues that were negative and set to 0."""
    flat = [one for row in spectra for one in row]
    worst = min((one.most_negative / one.eigenvalues[-1] for one in flat if one.eigenvalues[-1] > 0), default=0.0)
    return RoundOff(sum(len(one.eigenvalues) for one in flat), sum(one.n_negative for one in flat), worst)


def padded(spectra: Spectra, /) -> Float[np.ndarray, "n_members n_sizes n_largest"]:
    """All eigenvalues, ascending, in one array; NaN behind the n_points that a kernel has."""
    n_largest = max(len(one.eigenvalues) for row in spectra for one in row)
    array = np.full((len(spectra), len(spectra[0]), n_largest), np.nan)
    for member, row in enumerate(spectra):
        for place, one in enumerate(row):
            array[member, place, : len(one.eigenvalues)] = one.eigenvalues
    return array
