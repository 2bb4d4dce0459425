"""Find out what predicts the test loss of a network before training, and how well it could.

    python -m studies.predict_loss [PART ...]
    python -m studies.predict_loss tables

Parts are the groups of Experiment 1 (fuel-dense, mnist-dense) and of Experiment 2 (fuel, concrete,
gait, mnist), and the crossed designs (crossed-fuel, crossed-mnist, crossed-conv, crossed-order);
the default is all of them. Problems, networks, sizes and trainings are those of params.yaml, with
the first parametrisation of each group.

In the groups all predictors of each run are computed before training. Their ranks are correlated
with those of the minimum test loss, plain and given the number of points. Runs of Experiment 1 are
those at the paper's scale, whose losses reference/paper keeps; their subsets and networks are drawn
again from the seeds, and must have the entropy and trace that were kept.

In a crossed design every network is trained on every subset. The variance of ln(minimum test loss)
at a given number of points then splits into the shares of the subset, of the network, and of both
together. A predictor that sees only one of them can explain no more than its share. All points are
one batch, so nothing else is random; crossed-order has batches of 32 in two orders, and "neither"
is the share of the order.

Correlations are written to reference/predictors.csv and shares to reference/predictors-shares.csv,
from which the tables are printed.
"""

import itertools
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree
from scipy import stats

from benchmarks._markdown import table as markdown_table
from collective_variables.analysis import correlation, statistics
from collective_variables.data import problems
from collective_variables.ensembles import batching, execution, seeding, subset_sizes
from collective_variables.experiment.select import select_subsets
from collective_variables.kernels import empirical
from collective_variables.networks import parameters, sequential
from collective_variables.observables import predictors, spectrum
from collective_variables.selection import base
from collective_variables.training import ensemble_training, loop, schedules
from collective_variables.training.position import factors
from studies.compare_methods import train_options
from studies.paper_scale import (
    RESULTS,
    Sections,
    build_networks,
    load_data,
    read_group,
    read_parameters,
    selections,
)

ROOT = Path(__file__).resolve().parents[1]
CORRELATIONS = ROOT / "reference/predictors.csv"
SHARES = ROOT / "reference/predictors-shares.csv"
KEPT_GROUPS = ("fuel-dense", "mnist-dense")  # runs at the paper's scale
GROUPS = (*KEPT_GROUPS, "fuel", "concrete", "gait", "mnist")
KEPT_TOLERANCE = 0.01  # of entropy and trace, which another machine computed
PREDICTORS = (
    "n_points",
    "entropy",
    "trace",
    "effective_entropy",
    "trace_per_point",
    *predictors.NAMES,
    "near_score",
    *factors.Factors._fields,
)
KINDS = ("spearman", "spearman given size")
LOSS = "min_test_loss"
RESAMPLES = 1000


class Design(NamedTuple):
    """A crossed design: a group's problem, network and training, and what is crossed."""

    group: str
    n_subsets: int
    n_networks: int
    sizes: tuple[int, ...]
    batch_size: int | None = None
    n_orders: int = 1


DESIGNS = {
    "crossed-fuel": Design("fuel-dense", 20, 20, (20, 60, 200)),
    "crossed-mnist": Design("mnist-dense", 20, 20, (20, 60, 200)),
    "crossed-conv": Design("mnist-conv", 5, 5, (10, 25, 60)),
    "crossed-order": Design("fuel-dense", 20, 20, (60,), 32, 2),
}
PARTS = (*GROUPS, *DESIGNS)


class Problem(NamedTuple):
    """What the runs of a group share."""

    data: problems.Dataset
    network: sequential.Network
    schedule: schedules.Schedule

    @classmethod
    def load(cls, sections: Sections) -> "Problem":
        """Return the problem of a group."""
        network = next(iter(build_networks(sections["Network"]).values()))
        schedule = schedules.Schedule(**train_options(sections["TrainModel"]))
        return cls(load_data(sections), network, schedule)

    def train(self, runs: ensemble_training.Runs, name: str) -> Float[np.ndarray, " n_runs"]:
        """Return the minimum test loss of each run."""
        pool = loop.Points(self.data.inputs, self.data.targets)
        test = loop.Points(self.data.test_inputs, self.data.test_targets)
        (curves,) = ensemble_training.train_ensemble(
            self.network, pool, test, [runs], schedule=self.schedule, progress=name
        )
        return np.asarray(curves.test_loss).min(axis=1)

    def predict(self, key: PRNGKeyArray, rows: Int[np.ndarray, " n"]) -> dict[str, float]:
        """Return all predictors of a network, drawn by a key, on rows of the pool."""
        params, n = _draw(self.network, key, self.data.inputs[:1]), len(rows)
        width = batching.bucket(n, len(self.data.inputs))  # so that few sizes are compiled
        padded = np.concatenate([rows, np.repeat(rows[:1], width - n)])
        weights = np.where(np.arange(width) < n, np.float32(1 / n), np.float32(0))
        x, targets = self.data.inputs[padded], self.data.targets[padded]
        kernel, slopes, hidden = _measure(
            self.network, self.schedule.loss, params, x, targets, weights
        )
        kernel, targets = np.asarray(kernel)[:n, :n], targets[:n]
        variables = spectrum.collective_variables(spectrum.eigenvalues(kernel))
        chi_net = float(np.trace(kernel)) * targets.shape[1]
        position = factors.from_slopes(float(slopes.chi_loss), chi_net, float(slopes.delta_loss))
        return {
            **{name: variables[name] for name in PREDICTORS if name in variables},
            **predictors.kernel_predictors(kernel, targets),
            "near_score": predictors.near_score([layer[:n] for layer in hidden]),
            **position._asdict(),
        }


@partial(jax.jit, static_argnums=(0, 1))
def _measure(
    network: sequential.Network,
    loss: str,
    params: PyTree[Array],
    x: Float[Array, "n_points ..."],
    targets: Float[Array, "n_points n_outputs"],
    weights: Float[Array, " n_points"],
) -> tuple[Float[Array, "n_points n_points"], factors.Slopes, list[Array]]:
    """Return the kernel, the squared derivatives of the weighted loss, and the activations."""
    kernel = empirical.empirical_ntk(network.apply, params, x)
    slopes = factors.compute_slopes(
        network.apply,
        params,
        x,
        lambda outputs: jnp.vdot(weights, schedules.LOSSES[loss](outputs, targets)),
    )
    return kernel, slopes, activations(network, params, x)


_draw = jax.jit(parameters.initialise, static_argnums=0)


def activations(
    network: sequential.Network, params: PyTree[Array], x: Float[Array, "n_points ..."]
) -> list[Float[Array, "n_points width"]]:
    """Return what each layer but the last gives, before and after the activation."""
    _, state = network.apply(params, x, capture_intermediates=True)
    found = state["intermediates"].values()  # the outputs of the network are a tuple among them
    layers = [value["__call__"][0] for value in found if isinstance(value, dict)]
    function = sequential.ACTIVATIONS[network.activation]
    hidden = [layer.reshape(len(x), -1) for layer in layers[:-1]]
    return [values for layer in hidden for values in (layer, function(layer))]


def group_runs(group: str, *, n_kept: int | None = None) -> pd.DataFrame:
    """Return the predictors and the loss of each run of an experiment.

    Args:
        group: One of `GROUPS`.
        n_kept: Number of kept runs, the first ones; None for all.
    """
    if group in KEPT_GROUPS:
        sections, kept = read_parameters(group), kept_runs(group)[:n_kept]
        sections["Ensemble"]["n_members"] = len(kept)
        problem = Problem.load(sections)
        ((method, _, runs),) = _measured(group, sections, problem)
        check_kept(runs, kept)
        runs = runs.assign(method=method, **{LOSS: kept[LOSS].to_numpy()})
    else:
        sections = read_group(group)
        problem = Problem.load(sections)
        runs = pd.concat(
            [
                table.assign(method=method, **{LOSS: problem.train(drawn, group)})
                for method, drawn, table in _measured(group, sections, problem)
            ],
            ignore_index=True,
        )
    labels = {"group": group, "parametrisation": problem.network.parametrisation}
    return runs.assign(**labels, diverged=~np.isfinite(runs[LOSS]))


def kept_runs(group: str) -> pd.DataFrame:
    """Return the runs at the paper's scale in the first parametrisation."""
    table = pd.read_csv(RESULTS / f"{group}.csv.gz")
    return table[table["parametrisation"] == table["parametrisation"].iloc[0]]


def check_kept(runs: pd.DataFrame, kept: pd.DataFrame) -> None:
    """Raise ValueError unless the runs have the sizes, entropies and traces of those kept."""
    if runs["n_points"].tolist() != kept["n_points"].tolist():
        raise ValueError("Subsets must have the sizes of the kept runs: others were drawn.")
    for name in ("entropy", "trace"):
        differences = np.abs(runs[name].to_numpy() / kept[name].to_numpy() - 1.0)
        if not differences.max() <= KEPT_TOLERANCE:
            raise ValueError(
                f"{name} must be that of the kept runs: the largest relative difference is "
                f"{differences.max():.3g}, of run {differences.argmax()}."
            )


def _measured(
    group: str, sections: Sections, problem: Problem
) -> Iterator[tuple[str, ensemble_training.Runs, pd.DataFrame]]:
    """Yield each method of a group with its runs and their predictors."""
    ensemble = sections["Ensemble"]
    n_members, seed, sizes = (ensemble[name] for name in ("n_members", "seed", "n_points"))
    subsets = select_subsets(
        problem.data,
        problem.network,
        selections(sections),
        subset_sizes.largest(sizes),
        n_members,
        seed=seed,
        progress=group,
    )
    n_points = subset_sizes.draw(sizes, n_members=n_members, seed=seed)
    for method, indices in subsets.items():
        runs = ensemble_training.runs(indices, n_points, seed=seed)
        with execution.Progress(f"{group}, {method}", len(runs.n_points), "runs") as bar:
            found = []
            for key, rows, n in zip(runs.initialisation_keys, runs.indices, runs.n_points):
                found.append(problem.predict(key, rows[:n]) | {"n_points": n})
                bar.advance()
        yield method, runs, pd.DataFrame(found).assign(member=range(len(found)))


def correlate(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the rank correlations of all predictors with the loss, plain and given the size.

    Intervals are from the bootstrap over runs. p-values are those of Student's test, with the
    degrees of freedom that the polynomial in the size leaves.
    """
    table = correlation.correlations(runs, (*PREDICTORS, LOSS), n_resamples=RESAMPLES)
    table = table[(table["y_variable"] == LOSS) & (table["x_variable"] != LOSS)]
    table = table[table["kind"].isin(KINDS)].dropna(subset="coefficient")
    lost = np.where(table["kind"] == KINDS[1], 3, 0)  # the degree of the polynomial
    freedom = table["n_runs"] - 2 - lost
    t = table["coefficient"] * np.sqrt(freedom / (1 - table["coefficient"] ** 2))
    table = table.assign(p_value=2 * stats.t.sf(np.abs(t), freedom))
    return table.rename(columns={"x_variable": "predictor"})[
        ["group", "kind", "predictor", "coefficient", "lower", "upper", "n_runs", "p_value"]
    ]


def crossed_losses(design: Design, name: str) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each size with ln(minimum test loss), (n_subsets, n_networks, n_orders)."""
    problem = Problem.load(read_group(design.group))
    problem = problem._replace(schedule=replace(problem.schedule, batch_size=design.batch_size))
    subsets = base.random(
        len(problem.data.inputs),
        n_selected=max(design.sizes),
        n_members=design.n_subsets,
        key=seeding.key(0, "subsets"),
    ).indices
    keys = [
        seeding.member_keys(seeding.key(0, use), n)
        for use, n in (("initialisation", design.n_networks), ("batches", design.n_orders))
    ]
    shape = design.n_subsets, design.n_networks, design.n_orders
    places = np.array(list(itertools.product(*map(range, shape)))).T
    for size in design.sizes:
        runs = ensemble_training.Runs(
            keys[0][places[1]],
            keys[1][places[2]],
            subsets[places[0], :size],
            np.full(places.shape[1], size),
        )
        yield size, np.log(problem.train(runs, f"{name}, {size} points")).reshape(shape)


def split_variance(values: Float[np.ndarray, "s w k"]) -> dict[str, float]:
    """Return the shares of the variance from subset, network, both together, and neither.

    They are the components of a two-way layout with random effects, by the mean squares of its
    analysis of variance (Searle, Casella, McCulloch 1992, section 4.7), negative ones as 0. With
    one order there is no share of neither, and that of both contains it.

    Args:
        values: (n_subsets, n_networks, n_orders).
    """
    n_s, n_w, n_k = values.shape
    cells, mean = values.mean(axis=2), values.mean()
    rows, columns = cells.mean(axis=1), cells.mean(axis=0)
    by_subset = n_w * n_k * np.sum((rows - mean) ** 2) / (n_s - 1)
    by_network = n_s * n_k * np.sum((columns - mean) ** 2) / (n_w - 1)
    rest = cells - rows[:, None] - columns[None] + mean
    by_both = n_k * np.sum(rest**2) / ((n_s - 1) * (n_w - 1))
    neither = 0.0
    if n_k > 1:
        neither = np.sum((values - cells[:, :, None]) ** 2) / (n_s * n_w * (n_k - 1))
    parts = {
        "subset": max(0.0, (by_subset - by_both) / (n_w * n_k)),
        "network": max(0.0, (by_network - by_both) / (n_s * n_k)),
        "both": max(0.0, (by_both - neither) / n_k),
        "neither": neither,
    }
    total = sum(parts.values())
    return {name: part / total for name, part in parts.items()}


def shares(design: Design, name: str) -> pd.DataFrame:
    """Return the shares of the variance at each size, with 95 % intervals.

    The intervals resample subsets and networks (Owen 2007, the pigeonhole bootstrap).
    """
    generator, rows = np.random.default_rng(0), []
    for size, values in crossed_losses(design, name):
        samples = []
        for _ in range(RESAMPLES):
            chosen = [generator.integers(n, size=n) for n in values.shape[:2]]
            samples.append(split_variance(values[np.ix_(*chosen, range(design.n_orders))]))
        ends = pd.DataFrame(samples).quantile([0.025, 0.975])
        for part, share in split_variance(values).items():
            lower, upper = ends[part]
            rows.append((name, size, values.std(ddof=1), part, share, lower, upper))
    columns = ["design", "n_points", "standard_deviation", "part", "share", "lower", "upper"]
    return pd.DataFrame(rows, columns=columns)


def correlations_table(table: pd.DataFrame) -> str:
    """Return the correlations of each predictor in each group, those that are found in bold."""
    table = table.assign(found=statistics.holm(table["p_value"]) < 0.05)
    rows = []
    for kind, predictor in itertools.product(KINDS, PREDICTORS):
        part = table[(table["kind"] == kind) & (table["predictor"] == predictor)]
        cells = {row.group: _coefficient(row) for row in part.itertuples()}
        if cells:
            words = "given n" if kind == KINDS[1] else "plain"
            names = predictor.replace("_", " ")
            rows.append([names, words, *(cells.get(group, "–") for group in GROUPS)])
    return markdown_table(["predictor", "correlation", *GROUPS], rows)


def _coefficient(row: tuple) -> str:
    text = f"{row.coefficient:+.2f} [{row.lower:+.2f}, {row.upper:+.2f}]"
    return f"**{text}**" if row.found else text


def shares_table(table: pd.DataFrame) -> str:
    """Return the shares of the variance in each design at each size."""
    rows = []
    for (name, size), part in table.groupby(["design", "n_points"], sort=False):
        design = DESIGNS[name]
        crossed = f"{design.n_subsets} × {design.n_networks}"
        cells = [
            "–"
            if row.part == "neither" and design.n_orders == 1
            else f"{row.share:.0%} [{row.lower:.0%}, {row.upper:.0%}]"
            for row in part.itertuples()
        ]
        deviation = f"{part['standard_deviation'].iloc[0]:.2f}"
        rows.append([name, crossed, str(size), deviation, *cells])
    header = ["design", "subsets × networks", "points", "deviation of ln loss"]
    return markdown_table([*header, "subset", "network", "both", "neither"], rows)


def _update(path: Path, column: str, name: str, part: pd.DataFrame) -> None:
    """Replace the rows of a part in a file."""
    if path.exists():
        known = pd.read_csv(path)
        part = pd.concat([known[known[column] != name], part], ignore_index=True)
    part.to_csv(path, index=False, float_format="%.6g")


def main() -> None:
    """Run the named parts, or all, and print the tables."""
    for part in [] if sys.argv[1:] == ["tables"] else sys.argv[1:] or PARTS:
        if part in DESIGNS:
            _update(SHARES, "design", part, shares(DESIGNS[part], part))
        else:
            _update(CORRELATIONS, "group", part, correlate(group_runs(part)))
    print(
        correlations_table(pd.read_csv(CORRELATIONS)), shares_table(pd.read_csv(SHARES)), sep="\n\n"
    )


if __name__ == "__main__":
    main()
