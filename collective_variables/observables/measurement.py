"""Measure the kernels of an ensemble of untrained networks, on nested subsets of a pool of points.

`_capacity` plans what fits in memory, `_kernels` computes the kernels of each member, `_member`
measures one member, and `_results` joins the results into arrays and tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from collective_variables import _checks
from collective_variables.ensembles import _types, batching, execution
from collective_variables.kernels import infinite_width
from collective_variables.networks import sequential
from collective_variables.observables import _capacity, _kernels, _member
from collective_variables.observables._kernels import Limit
from collective_variables.observables._results import Measurement, join_results
from collective_variables.observables._settings import Settings

Subsets = Sequence[Int[np.ndarray, "n_members n_selected"]]
SubsetSizes = Int[np.ndarray, "n_members n_sizes"]
Task = tuple[int, int]  # place of an array of subsets, and a member

MIN_FOR_ACCURACY = 64  # points that `subsampling.plan_samples` requires


class Pool(NamedTuple):
    """The points from which subsets are drawn.

    Attributes:
        inputs: Inputs (n_pool, ...).
        targets: Targets (n_pool, n_outputs).
        classes: Class of each point, to measure each class separately (see `classes_of`); or None.
    """

    inputs: Float[np.ndarray, "n_pool ..."]
    targets: Float[np.ndarray, "n_pool n_outputs"]
    classes: Int[np.ndarray, " n_pool"] | None = None


def measure_ensemble(
    network: sequential.Network,
    pool: Pool,
    subsets: Subsets,
    n_points: SubsetSizes,
    /,
    *,
    seed: int,
    settings: Settings = Settings(),
    limit: Limit | None = None,
    progress: str = "",
) -> list[Measurement]:
    """Measure the kernels of an ensemble of untrained networks on nested subsets of points.

    For each member and each n of `n_points`, this computes the kernel on the first n indices and
    its collective variables (Tovey et al. 2023, eqs 5 and 7). A member's network is the same for
    all arrays of subsets. Its kernel is computed once per array, on its largest subset; the kernels
    of the smaller, nested subsets are leading blocks of it.

    Raises ValueError if the pool is not finite, or if an index lies outside it. Sizes that exceed
    the subsets, do not ascend or do not suit the settings are also a ValueError. Raises MemoryError
    if a kernel that must be formed does not fit in the free memory. All of this is checked before
    any kernel is computed.

    Args:
        network: A network from `build_network`. Member m is drawn with the key m of the purpose
            "initialisation" of `seed`, as for training.
        pool: Inputs (n_pool, ...) and targets (n_pool, n_outputs) of the points; with classes
            (n_pool,), each class is also measured separately.
        subsets: Arrays (n_members, n_selected) of rows of the pool.
        n_points: (n_members, n_sizes) sizes of the subsets, ascending along its rows.
        seed: Seed of the networks and of everything that is drawn at random.
        settings: How kernels and spectra are computed, and what else is measured.
        limit: Function that returns the kernel of infinite width of points (see
            `infinite_width_limit`), for comparison with networks in the parametrisation "ntk". It
            is computed once for all members with the same points.
        progress: Description of the progress bar; "" shows none.

    Returns:
        A `Measurement` for each array of `subsets`, with eigenvalues and tables.

    Example:
        >>> import numpy as np
        >>> import collective_variables as cv
        >>> from collective_variables.observables.measurement import Pool
        >>> generator = np.random.default_rng(0)
        >>> pool = Pool(generator.normal(size=(20, 3)), generator.normal(size=(20, 1)))
        >>> network = cv.build_network(["dense 8", "dense 1"], parametrisation="ntk")
        >>> subsets = [np.array([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]])]
        >>> sizes = np.array([[3, 5], [3, 5]])
        >>> (measurement,) = cv.measure_ensemble(network, pool, subsets, sizes, seed=0)
        >>> table = measurement.tables["collective_variables"]
        >>> print(table[["member", "n_points", "entropy", "trace"]].round(2).to_string(index=False))
         member  n_points  entropy  trace
              0         3     0.84   1.17
              0         5     1.33   1.95
              1         3     0.52   1.98
              1         5     1.00   2.64
    """
    _check(pool, subsets, n_points, settings, has_limit=limit is not None)
    with (
        jax.enable_x64(settings.dtype == "float64"),
        execution.Progress(progress, len(subsets) * len(n_points), "kernels") as bar,
    ):
        ensemble = _ensemble(network, pool, subsets, n_points, seed, settings, limit)
        plan = ensemble.plan
        parts = execution.run(ensemble.measure, ensemble.tasks(), bar, together=plan.together)
    results = {task: result for part in parts for task, result in part.items()}
    description = _capacity.describe_plan(plan, int(n_points.max()), settings)
    members = range(len(n_points))
    return [
        join_results([results[place, number] for number in members], settings.outputs, description)
        for place in range(len(subsets))
    ]


@dataclass(frozen=True, eq=False)
class _Ensemble:
    """The data that the measurements of all members share; workers receive it as a whole."""

    pool: Pool
    subsets: Subsets
    n_points: SubsetSizes
    seed: int
    settings: Settings
    plan: _capacity.Plan
    kernels: _kernels.EnsembleKernels
    limit: _kernels.LimitKernel | None

    def tasks(self) -> list[list[Task]]:
        """Return all tasks one by one; with a limit, tasks with the same points together."""
        groups: dict[object, list[Task]] = {}
        for task in np.ndindex(len(self.subsets), len(self.n_points)):
            place, number = task
            points = self.subsets[place][number].tobytes()
            groups.setdefault(task if self.limit is None else points, []).append(task)
        return list(groups.values())

    def measure(self, tasks: list[Task], advance: _types.Advance) -> dict[Task, _member.Result]:
        """Measure the members of tasks with the same points, in one thread."""
        results = {}
        # A thread does not inherit this JAX setting from the thread that started it.
        with jax.default_matmul_precision("highest"):
            limit = None if self.limit is None else self.limit.among(self._limit_rows(tasks))
            for task in tasks:
                number = task[1]
                results[task] = _member.measure_member(
                    self._member(task, limit),
                    self.n_points[number],
                    self.plan.n_exact,
                    self.settings,
                )
                advance(1)
        return results

    def _limit_rows(self, tasks: list[Task]) -> Int[np.ndarray, " width"]:
        """Return the padded rows of the largest subset of tasks with the same points."""
        place, number = max(tasks, key=lambda task: self.n_points[task[1]].max())
        return _kernels.padded_rows(self.subsets[place][number], int(self.n_points[number].max()))

    def _member(self, task: Task, limit: Float[np.ndarray, "width width"] | None) -> _member.Member:
        """Return the member of a task."""
        place, number = task
        rows = self.subsets[place][number]
        sizes = self.n_points[number]
        kernel = _kernels.MemberKernel(
            self.kernels,
            number,
            rows,
            max((int(n) for n in sizes if n <= self.plan.n_exact), default=0),
            in_one_block=self.plan.together,
        )
        classes = None if self.pool.classes is None else self.pool.classes[rows]
        targets = self.pool.targets[rows]
        return _member.Member(kernel, targets, classes, limit, self.seed, number)


def _ensemble(
    network: sequential.Network,
    pool: Pool,
    subsets: Subsets,
    n_points: SubsetSizes,
    seed: int,
    settings: Settings,
    limit: Limit | None,
) -> _Ensemble:
    """Plan the measurement and prepare its kernels; none is computed yet."""
    largest = int(n_points.max())
    width = max(batching.bucket(largest, subset.shape[1]) for subset in subsets)
    requirements = _capacity.Requirements(
        network, pool.inputs[:width], settings, has_limit=limit is not None
    )
    plan = _capacity.plan_ensemble(requirements, n_points)
    kernels = _kernels.EnsembleKernels(network, pool.inputs, seed, len(n_points), settings)
    limit_kernel = None
    if limit is not None and network.parametrisation == "ntk":
        scale = pool.targets.shape[1] if settings.outputs == "sum" else 1
        limit_kernel = _kernels.LimitKernel(limit, pool.inputs, scale)
    return _Ensemble(pool, subsets, n_points, seed, settings, plan, kernels, limit_kernel)


def _check(
    pool: Pool, subsets: Subsets, n_points: SubsetSizes, settings: Settings, *, has_limit: bool
) -> None:
    """Raise an error if the arguments of `measure_ensemble` do not suit each other."""
    _checks.finite("pool", pool.inputs)
    n_selected = min(subset.shape[1] for subset in subsets)
    if n_points.max() > n_selected:
        raise ValueError(
            f"n_points must not exceed the points selected: {n_points.max()} > {n_selected}."
        )
    if (np.diff(n_points, axis=1) < 0).any():
        raise ValueError(f"n_points must ascend along its rows: received {n_points.tolist()}.")
    for subset in subsets:
        _checks.rows("subsets", subset, len(pool.inputs))
    smallest = int(n_points.max(axis=1).min())
    if settings.subsample is not None and settings.subsample["sample_size"] > smallest:
        size = settings.subsample["sample_size"]
        raise ValueError(
            f"sample_size must not exceed the points of a member: {size} > {smallest}."
        )
    if settings.accuracy is not None:
        _checks.integer("points of a member, for accuracy,", smallest, minimum=MIN_FOR_ACCURACY)
    if has_limit:
        settings.check_one_kernel("infinite_width")
    if pool.classes is not None:
        settings.check_one_kernel("per_class")


def infinite_width_limit(
    layers: Sequence[str],
    *,
    parametrisations: Sequence[str],
    activation: str,
    padding: str,
    b_std: float | None,
) -> Limit:
    """Return `infinite_width.infinite_width_ntk` of a network as a function of points.

    Also raises the errors of `infinite_width.network_with_limit`, before anything is computed.

    Args:
        layers: As in `build_network`.
        parametrisations: The parametrisations of the networks to compare with.
        activation: As in `build_network`.
        padding: As in `build_network`.
        b_std: As in `build_network`.

    Returns:
        The function.

    Raises:
        ValueError: None of the networks has the parametrisation "ntk".
    """
    if "ntk" not in parametrisations:
        raise ValueError(
            f"infinite_width needs the parametrisation ntk: received {', '.join(parametrisations)}."
        )
    options = {"activation": activation, "padding": padding, "b_std": b_std}
    infinite_width.network_with_limit(layers, **options)
    return partial(infinite_width.infinite_width_ntk, layers, **options)


def classes_of(
    targets: Float[np.ndarray, "n_pool n_outputs"], task: str
) -> Int[np.ndarray, " n_pool"]:
    """Return the class of each point from one-hot targets.

    Args:
        targets: (n_pool, n_outputs) one-hot targets.
        task: The task of the problem.

    Returns:
        The classes, (n_pool,).

    Raises:
        ValueError: The task is not classification.
    """
    if task != "classification":
        raise ValueError(f"per_class needs a problem of classification: received one of {task}.")
    return np.argmax(targets, axis=1)


def metrics(measurements: dict[str, Measurement], /) -> dict[str, str | dict[str, float]]:
    """Summarise labelled measurements.

    Args:
        measurements: Measurements by label.

    Returns:
        How the kernels were computed, and numbers for each label: the effect of round-off, and the
        means over members of the distance and alignment to the limit of infinite width.
    """
    texts = {
        name: [measurement.description[name] for measurement in measurements.values()]
        for name in next(iter(measurements.values())).description
    }
    numbers = {
        label: measurement.round_off._asdict() | _mean_limit(measurement.tables["limits"])
        for label, measurement in measurements.items()
    }
    # Each text once, in its order.
    return {name: "; ".join(dict.fromkeys(parts)) for name, parts in texts.items()} | numbers


def _mean_limit(limits: pd.DataFrame) -> dict[str, float]:
    """Return the mean distance and alignment to the limit, if there is one."""
    names = ("relative_distance", "alignment") if len(limits) else ()
    return {f"infinite_width_{name}": float(limits[name].mean()) for name in names}
