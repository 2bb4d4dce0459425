"""Test how trace, Rényi-2 rank and entropy of a kernel grow with the number of points.

    python -m studies.growth_laws [PART ...]
    python -m studies.growth_laws tables

Parts are fuel (dense network, up to all 392 rows) and mnist (dense network, up to all 60,000
images); the default is both. Networks are those of params.yaml, untrained. Random entries of the
kernel, of 2000 pairs of points, predict trace and Rényi-2 rank of every size (`growth_laws`). The
kernel of that size is then computed, in tiles for large ones, and its entropy up to 4000 points.

Results are written to reference/growth-laws.csv, from which the table is printed.
"""

import itertools
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, PyTree

from benchmarks._markdown import table as markdown_table
from collective_variables.data import problems
from collective_variables.kernels import empirical
from collective_variables.networks import parameters, sequential
from collective_variables.observables import spectrum
from collective_variables.observables.growth import laws
from studies.paper_scale import build_networks, read_group

RESULTS = Path(__file__).resolve().parents[1] / "reference/growth-laws.csv"
N_PAIRS = 2000
MOST_DECOMPOSED = 4000
TILE = 2000
N_NETWORKS = 3
PARTS = {
    "fuel": ("fuel-dense", "fuel", (50, 100, 200, 392)),
    "mnist": ("mnist-dense", "mnist-60000", (50, 200, 1000, 4000, 16_000, 60_000)),
}


def points(problem: str) -> Float[np.ndarray, "n_points ..."]:
    """Return all rows of a problem in random order."""
    data = problems.load_problem(problem)
    rows = np.concatenate([data.inputs, data.test_inputs])
    return rows[np.random.default_rng(0).permutation(len(rows))]


def norms(
    network: sequential.Network,
    params: PyTree[Array],
    x: Float[np.ndarray, "n_points ..."],
    sizes: tuple[int, ...],
    tile: int = TILE,
) -> dict[int, tuple[float, float]]:
    """Return Tr K and ‖K‖_F² of the first n points for each size n, tile by tile."""
    traces, squares = np.zeros(len(sizes)), np.zeros(len(sizes))
    # A tile ends at every size, so that it belongs to a size as a whole.
    bounds = sorted({*range(0, max(sizes), tile), *sizes})
    spans = list(itertools.pairwise(bounds))
    for place, (first, last) in enumerate(spans):
        inside = np.array(sizes) >= last
        for start, stop in spans[: place + 1]:
            second = None if start == first else x[start:stop]
            block = np.asarray(
                empirical.empirical_ntk(network.apply, params, x[first:last], second)
            )
            square = np.einsum("ij,ij->", block, block, dtype=np.float64)
            squares[inside] += square if second is None else 2 * square
            if second is None:
                traces[inside] += np.trace(block, dtype=np.float64)
    return {n: (traces[i], squares[i]) for i, n in enumerate(sizes)}


def measure(part: str) -> pd.DataFrame:
    """Return measured and predicted values for each network and size."""
    group, problem, sizes = PARTS[part]
    network = next(iter(build_networks(read_group(group)["Network"]).values()))
    x, rows = points(problem), []
    for number in range(N_NETWORKS):
        params = parameters.initialise(network, jax.random.key(number), x)
        pairs = np.random.default_rng(number).choice(len(x), size=(N_PAIRS, 2))
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        kernels = _kernels(network, params, x[pairs])
        for n, (trace, square) in norms(network, params, x, sizes).items():
            entropy = np.nan
            if n <= MOST_DECOMPOSED:
                entropy = spectrum.entropy(
                    np.asarray(empirical.empirical_ntk(network.apply, params, x[:n]))
                )
            found = laws.growth_laws(kernels, n)
            measured = {"trace": trace, "renyi2_rank": trace**2 / square, "entropy": entropy}
            predicted = {
                f"predicted_{name}": value
                for name, value in found._asdict().items()
                if name != "limit"
            }
            rows.append({"part": part, "network": number, "n_points": n} | measured | predicted)
        print(f"{part}: {number + 1} of {N_NETWORKS} networks", file=sys.stderr, flush=True)
    return pd.DataFrame(rows)


@partial(jax.jit, static_argnums=0)
def _kernels(
    network: sequential.Network, params: PyTree[Array], groups: Float[Array, "n_groups k ..."]
) -> Float[Array, "n_groups k k"]:
    """Return the kernel of each group of points."""
    return jax.lax.map(
        lambda x: empirical.empirical_ntk(network.apply, params, x), groups, batch_size=100
    )


def describe(table: pd.DataFrame) -> str:
    """Return means over networks, and how far predictions are off."""
    rows = []
    for (part, n), group in table.groupby(["part", "n_points"], sort=False):
        cells = []
        for name in ("trace", "renyi2_rank"):
            misses = group[f"predicted_{name}"] / group[name] - 1
            error = (group[f"predicted_{name}_error"] / group[name]).mean()
            cells += [f"{group[name].mean():.4g}", f"{100 * misses.abs().max():.1f} %"]
            cells.append(f"{100 * error:.1f} %")
        entropy = group["entropy"].mean()
        rank = "–" if np.isnan(entropy) else f"{np.exp(group['entropy']).mean():.4g}"
        rows.append([part, f"{n:,}", *cells, rank])
    words = ["trace", "at most off by", "standard error"]
    header = ["problem", "points", *words, "Rényi-2 rank", *words[1:], "exp S"]
    return markdown_table(header, rows)


def main() -> None:
    """Run the named parts, or all, and print the table."""
    for part in [] if sys.argv[1:] == ["tables"] else sys.argv[1:] or PARTS:
        found = measure(part)
        if RESULTS.exists():
            known = pd.read_csv(RESULTS)
            found = pd.concat([known[known["part"] != part], found], ignore_index=True)
        found.to_csv(RESULTS, index=False, float_format="%.6g")
    print(describe(pd.read_csv(RESULTS)))


if __name__ == "__main__":
    main()
