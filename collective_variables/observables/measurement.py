"""Kernels and collective variables of every member's subsets, before training."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from collective_variables import _checks
from collective_variables.ensembles import _types, batching, execution, seeding
from collective_variables.kernels import empirical, infinite_width, products
from collective_variables.networks import parameters, sequential
from collective_variables.observables import _capacity, _member
from collective_variables.observables._member import Settings
from collective_variables.observables.spectrum import Spectrum

Limit = Callable[[Float[Array, "n_points ..."]], Float[Array, "n_points n_points"]]
Spectra = list[list[list[Spectrum]]]  # by member, size and output
Task = tuple[int, int]  # place of an array of subsets, and a member

MIN_FOR_ACCURACY = 64  # points that subsampling.required takes


class RoundOff(NamedTuple):
    """What round-off did to the spectra: how many eigenvalues were negative, of how many, and the
    worst over λ_max.
    """

    n_eigenvalues: int
    n_negative: int
    worst_relative: float


class Measurement(NamedTuple):
    """What was measured on one array of subsets.

    eigenvalues: (n_members, n_sizes, n_largest), ascending, NaN behind those that a kernel has and
    where it was not decomposed; with outputs "per-output" (n_members, n_sizes, n_outputs,
    n_largest).
    tables: those of `_member.COLUMNS`, with the columns member and n_points in front; empty where
    not asked for.
    done: how it was computed, in words.
    """

    eigenvalues: Float[np.ndarray, "n_members n_sizes *n_outputs n_largest"]
    round_off: RoundOff
    tables: dict[str, pd.DataFrame]
    done: dict[str, str]


class Pool(NamedTuple):
    """The points to draw subsets from; classes, where each is measured by itself (see
    `classes_of`).
    """

    inputs: Float[np.ndarray, "n_pool ..."]
    targets: Float[np.ndarray, "n_pool n_outputs"]
    classes: Int[np.ndarray, " n_pool"] | None = None


def measure_ensemble(
    network: sequential.Network,
    pool: Pool,
    subsets: Sequence[Int[np.ndarray, "n_members n_selected"]],
    n_points: Int[np.ndarray, "n_members n_sizes"],
    /,
    *,
    seed: int,
    settings: Settings = Settings(),
    limit: Limit | None = None,
    progress: str = "",
) -> list[Measurement]:
    """For each array of `subsets` and each member what `settings` asks for, on its first n indices,
    n in `n_points`.

    n_points ascends along its rows. Member m's network is drawn with the key m of the purpose
    "initialisation" of `seed`, whatever the subset. Its kernel is computed once, on its largest
    subset, and the smaller, nested ones are
    leading blocks of it. limit: the kernel of infinite width of points (see `limit_of`), with which
    networks in the parametrisation "ntk" are compared; computed once for all members with the same
    points.

    Raises ValueError for a pool that is not finite, an index outside it, subsets that are too small
    and settings that do not suit them; MemoryError, before any kernel is computed, if one that is
    needed does not fit the free memory.
    """
    _check(pool, subsets, n_points, settings, has_limit=limit is not None)
    n_members, largest = len(n_points), int(n_points.max())
    analytic = None
    if limit is not None and network.parametrisation == "ntk":
        analytic = _analytic(
            limit, pool.inputs, pool.targets.shape[1] if settings.outputs == "sum" else 1
        )
    with (
        jax.enable_x64(settings.dtype == "float64"),
        execution.Progress(progress, len(subsets) * n_members, "kernels") as bar,
    ):
        widest = pool.inputs[: max(batching.bucket(largest, subset.shape[1]) for subset in subsets)]
        course = _capacity.plan_ensemble(
            network, widest, n_points, settings, has_limit=limit is not None
        )
        kernels = _Kernels(network, pool.inputs, seed, n_members, settings)

        def of_points(tasks: list[Task], advance: _types.Advance) -> dict[Task, _member.Result]:
            """The results of tasks that have the same points, where these are needed."""
            first, most = max(tasks, key=lambda task: n_points[task[1]].max())
            results = {}
            # Every thread has a setting of its own.
            with jax.default_matmul_precision("highest"):
                of_limit = (
                    analytic(_padded(subsets[first][most], n_points[most])) if analytic else None
                )
                for place, number in tasks:
                    rows = subsets[place][number]
                    member = _member.Member(
                        *kernels.of_member(number, rows, n_points[number], course),
                        targets=pool.targets[rows],
                        classes=None if pool.classes is None else pool.classes[rows],
                        limit=of_limit,
                        key=partial(_key, seed, number),
                    )
                    results[place, number] = _member.measure_member(
                        member, n_points[number], course.n_exact, settings
                    )
                    advance(1)
            return results

        tasks = _tasks(subsets, n_members, by_points=analytic is not None)
        parts = execution.run(of_points, tasks, bar, together=course.together)
    results = {task: result for part in parts for task, result in part.items()}
    done = _capacity.describe(course, largest, settings)
    of_subsets = [
        [results[place, number] for number in range(n_members)] for place in range(len(subsets))
    ]
    return [_measured(of_members, settings, done) for of_members in of_subsets]


def infinite_width_limit(
    layers: Sequence[str],
    *,
    parametrisations: Sequence[str],
    activation: str,
    padding: str,
    b_std: float | None,
) -> Limit:
    """`infinite_width.infinite_width_ntk` of a network; ValueError, before anything is computed,
    for one without.
    """
    if "ntk" not in parametrisations:
        raise ValueError(
            f"infinite_width needs the parametrisation ntk: received {', '.join(parametrisations)}."
        )
    _checks.choice("activation for infinite_width", activation, infinite_width.ANALYTIC_ACTIVATIONS)
    options = {"activation": activation, "padding": padding, "b_std": b_std}
    return partial(infinite_width.infinite_width_ntk, layers, **options)


def classes_of(
    targets: Float[np.ndarray, "n_pool n_outputs"], task: str
) -> Int[np.ndarray, " n_pool"]:
    """The class of each point from one-hot targets; ValueError for a task other than
    classification.
    """
    if task != "classification":
        raise ValueError(f"per_class needs a problem of classification: received one of {task}.")
    return np.argmax(targets, axis=1)


def metrics(measured: dict[str, Measurement], /) -> dict[str, str | dict[str, float]]:
    """How the kernels were computed, and for each label what round-off did and the means over
    members of its limits.
    """
    words = {
        name: [of.done[name] for of in measured.values()]
        for name in next(iter(measured.values())).done
    }
    numbers = {
        label: of.round_off._asdict() | _mean_limit(of.tables["limits"])
        for label, of in measured.items()
    }
    return {name: "; ".join(dict.fromkeys(texts)) for name, texts in words.items()} | numbers


def _mean_limit(limits: pd.DataFrame) -> dict[str, float]:
    names = ("relative_distance", "alignment") if len(limits) else ()
    return {f"infinite_width_{name}": float(limits[name].mean()) for name in names}


def _check(
    pool: Pool,
    subsets: Sequence[np.ndarray],
    n_points: np.ndarray,
    settings: Settings,
    *,
    has_limit: bool,
) -> None:
    _checks.finite("pool", pool.inputs)
    n_selected, smallest = (
        min(subset.shape[1] for subset in subsets),
        int(n_points.max(axis=1).min()),
    )
    if n_points.max() > n_selected:
        raise ValueError(
            f"n_points must not exceed the points selected: {n_points.max()} > {n_selected}."
        )
    if (np.diff(n_points, axis=1) < 0).any():
        raise ValueError(f"n_points must ascend along its rows: received {n_points.tolist()}.")
    for subset in subsets:
        _checks.rows("subsets", subset, len(pool.inputs))
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


def _tasks(subsets: Sequence[np.ndarray], n_members: int, *, by_points: bool) -> list[list[Task]]:
    """All tasks, each by itself, or those together that have the same points."""
    found: dict[object, list[Task]] = {}
    for task in np.ndindex(len(subsets), n_members):
        found.setdefault(subsets[task[0]][task[1]].tobytes() if by_points else task, []).append(
            task
        )
    return list(found.values())


def _padded(
    rows: Int[np.ndarray, " n_selected"], sizes: Int[np.ndarray, " n_sizes"]
) -> Int[np.ndarray, " width"]:
    """The indices of the largest subset and some behind them, so that kernels of few sizes are
    compiled.
    """
    return rows[: batching.bucket(int(sizes.max()), len(rows))]


def _analytic(
    limit: Limit, inputs: Float[np.ndarray, "n_pool ..."], scale: int
) -> Callable[[Int[np.ndarray, " n"]], Float[np.ndarray, "n n"]]:
    """The kernel of infinite width of rows of `inputs`, times `scale`."""
    compiled = batching.over_members(lambda _, points: limit(points))

    def of_rows(rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n n"]:
        # In float32 the angle between nearly parallel points keeps half of the digits.
        with jax.enable_x64(True):
            return np.asarray(compiled((), inputs[None, rows].astype(np.float64)))[0] * scale

    return of_rows


class _Kernels:
    """The networks of an ensemble and their kernels on points of `inputs`, each part compiled
    once.
    """

    def __init__(
        self,
        network: sequential.Network,
        inputs: np.ndarray,
        seed: int,
        n_members: int,
        settings: Settings,
    ):
        self._apply, self._settings, self._inputs = (
            network.apply,
            settings,
            jnp.asarray(inputs, settings.dtype),
        )
        self._keys = seeding.member_keys(seeding.key(seed, "initialisation"), n_members)
        # Drawn in float32, as for training, so that the networks are the same in float64.
        self._point = jnp.asarray(inputs[:1], jnp.float32)
        # Apart from the kernel, which is compiled for every padded size: random numbers compile
        # slowly.
        self._draw = batching.over_members(partial(_draw, network, settings.dtype))
        self._in_one_block = batching.over_members(
            lambda inputs, params, rows: self._kernel(params, inputs[rows])
        )

    def of_member(
        self,
        number: int,
        rows: Int[np.ndarray, " n_selected"],
        sizes: Int[np.ndarray, " n_sizes"],
        course: _capacity.Plan,
    ) -> tuple[np.ndarray | None, Callable, Callable]:
        """A member's kernel as far as it is decomposed, and functions for others (see
        `_member.Member`).
        """
        settings = self._settings
        n_exact = max((int(n) for n in sizes if n <= course.n_exact), default=0)

        def computed(chosen: Int[np.ndarray, " k"]) -> Float[np.ndarray, "..."]:
            return np.asarray(
                self._kernel(self._params(number), self._inputs[rows[chosen]], settings.block_size)
            )

        def kernel_of(chosen: Int[np.ndarray, " k"]) -> Float[np.ndarray, "k k"]:
            return kernel[np.ix_(chosen, chosen)] if chosen.max() < n_exact else computed(chosen)

        def product_of(n: int) -> products.KernelProduct:
            options = {"outputs": settings.outputs, "block_size": settings.block_size}
            return products.kernel_product(
                self._apply, self._params(number), self._inputs[rows[:n]], **options
            )

        kernel = None
        if course.together:
            padded = _padded(rows, sizes)
            kernel = np.asarray(
                self._in_one_block(self._inputs, self._drawn(number), padded[None])
            )[0]
        elif n_exact:
            kernel = computed(np.arange(n_exact))
        return kernel, kernel_of, product_of

    def _params(self, number: int) -> PyTree[Array]:
        """Parameters of a member's network."""
        return jax.tree.map(lambda leaf: leaf[0], self._drawn(number))

    def _drawn(self, number: int) -> PyTree[Array]:
        """Parameters with a leading axis of one member."""
        return self._draw(self._point, self._keys[number : number + 1])

    def _kernel(self, params: PyTree[Array], points: Array, block_size: int | None = None) -> Array:
        options = {
            "outputs": self._settings.outputs,
            "implementation": self._settings.implementation,
        }
        return empirical.empirical_ntk(
            self._apply, params, points, block_size=block_size, **options
        )


def _key(seed: int, number: int, purpose: str) -> PRNGKeyArray:
    """A member's key, as in `seeding.member_keys`."""
    return jax.random.fold_in(seeding.key(seed, purpose), number)


def _draw(
    network: sequential.Network, dtype: str, inputs: Array, key: PRNGKeyArray
) -> PyTree[Array]:
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype), parameters.initialise(network, key, inputs)
    )


def _measured(
    results: list[_member.Result], settings: Settings, done: dict[str, str]
) -> Measurement:
    spectra, tables = [result.spectra for result in results], {}
    for name, columns in _member.COLUMNS.items():
        rows = [
            {"member": member} | row
            for member, result in enumerate(results)
            for row in result.rows[name]
        ]
        tables[name] = pd.DataFrame(rows, columns=["member", "n_points", *columns])
    eigenvalues = pad_eigenvalues(spectra)
    if settings.outputs != "per-output":
        eigenvalues = eigenvalues[:, :, 0]
    return Measurement(eigenvalues, round_off(spectra), tables, done)


def round_off(spectra: Spectra, /) -> RoundOff:
    """Count the eigenvalues that were negative and set to 0."""
    flat = [one for of_member in spectra for of_size in of_member for one in of_size]
    worst = min(
        (one.most_negative / one.eigenvalues[-1] for one in flat if one.eigenvalues[-1] > 0),
        default=0.0,
    )
    return RoundOff(
        sum(len(one.eigenvalues) for one in flat), sum(one.n_negative for one in flat), float(worst)
    )


def pad_eigenvalues(
    spectra: Spectra, /
) -> Float[np.ndarray, "n_members n_sizes n_kernels n_largest"]:
    """All eigenvalues, ascending, in one array of one kernel a size at least; NaN where there is
    none.
    """
    flat = [of_size for of_member in spectra for of_size in of_member]
    n_kernels = max(1, *map(len, flat))
    n_largest = max((len(one.eigenvalues) for of_size in flat for one in of_size), default=0)
    array = np.full((len(flat), n_kernels, n_largest), np.nan)
    for place, of_size in enumerate(flat):
        for output, one in enumerate(of_size):
            array[place, output, : len(one.eigenvalues)] = one.eigenvalues
    return array.reshape(len(spectra), len(spectra[0]), n_kernels, n_largest)
