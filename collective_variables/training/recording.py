"""What is recorded of a network while it is trained: collective variables of its kernels on train
and on test points.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.linalg
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from collective_variables import _checks, _memory
from collective_variables.ensembles import batching
from collective_variables.kernels import empirical
from collective_variables.networks._arguments import ApplyFunction
from collective_variables.observables import collective, spectrum, subsampling
from collective_variables.training import schedules

Row = dict[str, float]
Rule = dict[str, int] | Sequence[int]

LABELS = ("points", "epoch")  # the first columns of every table, behind those of the run


@dataclass(frozen=True)
class Settings:
    """At which epochs and on which points kernels are computed, and what is kept of them.

    epochs: {"every": k}, {"log_spaced": n} or a list (see `epochs_of`).
    n_train, n_test: at most so many points of each kind, the first ones; None for all.
    subsample: {"n_samples", "sample_size"}: the variables are means over random samples of these
        points, and their standard deviations between samples stand beside them (Tovey et al. 2024);
        the samples are the same at all epochs. None for the kernel of all points.
    observables: any of `OBSERVABLES` and `TABLES`, beside the variables of the spectrum, which are
    always there.
    outputs: "mean" or "sum", of `empirical.empirical_ntk`. n_modes: leading modes in the table
    "modes".
    """

    epochs: Rule = field(default_factory=lambda: {"log_spaced": 20})
    n_train: int | None = None
    n_test: int | None = None
    subsample: dict[str, int] | None = None
    observables: Sequence[str] = ("drift", "alignment")
    outputs: str = "mean"
    n_modes: int = 10

    def __post_init__(self) -> None:
        _checks.choice("outputs", self.outputs, spectrum.ONE_KERNEL)
        for name in (
            _checks.unique("observables", self.observables) if len(self.observables) else ()
        ):
            _checks.choice("observables", name, (*OBSERVABLES, *TABLES))
        for name in ("n_train", "n_test"):
            if getattr(self, name) is not None:
                _checks.integer(name, getattr(self, name), minimum=2)
        if self.subsample is not None:
            subsampling.check_subsample(self.subsample, smallest=2)
            if tables := set(self.observables) & set(TABLES):
                raise ValueError(
                    f"observables of all points can't be had of samples: received {', '.join(sorted(tables))}."
                )
        _checks.integer("n_modes", self.n_modes, minimum=1)


def recorded_epochs(
    rule: Rule, n_epochs: int, *, evaluate_every: int = 1
) -> Int[np.ndarray, " n_recorded"]:
    """Ascending epochs of a recording; 0 and n_epochs are always among them.

    rule: {"every": k} for each k-th epoch; {"log_spaced": n} for at most n epochs whose distances
    grow by a factor; or a list. All are rounded to multiples of `evaluate_every`, at which a
    training can be looked at. Raises TypeError or ValueError for another rule or an epoch that is
    not in the training.
    """
    if not isinstance(rule, dict):
        epochs = [
            _checks.integer("epochs", epoch, minimum=0) for epoch in _checks.unique("epochs", rule)
        ]
        if max(epochs) > n_epochs:
            raise ValueError(f"epochs must not exceed n_epochs: {max(epochs)} > {n_epochs}.")
    elif set(rule) == {"every"}:
        epochs = np.arange(0, n_epochs, _checks.integer("epochs.every", rule["every"], minimum=1))
    elif set(rule) == {"log_spaced"}:
        n = _checks.integer("epochs.log_spaced", rule["log_spaced"], minimum=2)
        epochs = np.geomspace(min(evaluate_every, n_epochs), n_epochs, n - 1)
    else:
        raise ValueError(
            f"epochs must be a list or have one of every and log_spaced: received {rule!r}."
        )
    rounded = np.rint(np.asarray(epochs) / evaluate_every).astype(np.int64) * evaluate_every
    return np.unique(np.concatenate([[0], rounded, [n_epochs]]))


class Points(NamedTuple):
    """Points of one kind; targets None where there are none, as for the observations of an
    agent.
    """

    inputs: Float[np.ndarray, "n_points ..."]
    targets: Float[np.ndarray, "n_points n_outputs"] | None = None


class Moment(NamedTuple):
    """The kernel of k points at one epoch, and what goes with it.

    initial: the kernel of the same points at the first epoch. gradient: of each point's loss by its
    outputs. others: further kernels of these points, by name (see `KERNELS`). targets and gradient
    are None where there are none.
    """

    kernel: Float[np.ndarray, "k k"]
    initial: Float[np.ndarray, "k k"]
    targets: Float[np.ndarray, "k n_outputs"] | None
    gradient: Float[np.ndarray, "k n_outputs"] | None
    others: dict[str, Float[np.ndarray, "k k"]]


class Observable(NamedTuple):
    """of(moment) gives a value for each of `columns`; other: a kernel of `KERNELS` that it
    needs.
    """

    columns: tuple[str, ...]
    of: Callable[[Moment], Sequence[float]]
    needs_targets: bool = False
    other: str | None = None


def _spectral(moment: Moment) -> list[float]:
    found = spectrum.collective_variables(spectrum.eigenvalues(moment.kernel))
    return [found[name] for name in spectrum.SPECTRAL]


def _drift(moment: Moment) -> tuple[float, ...]:
    """‖K − K_0‖/‖K_0‖, the alignment ⟨K, K_0⟩/(‖K‖ ‖K_0‖), and the angle in radians of which that
    is the cosine.
    """
    cosine = collective.kernel_alignment(moment.kernel, moment.initial)
    angle = math.acos(min(max(cosine, -1.0), 1.0))
    return collective.relative_distance(moment.kernel, moment.initial), cosine, angle


def _alignment(moment: Moment) -> list[float]:
    return [
        collective.target_alignment(moment.kernel, moment.targets, centred=centred)
        for centred in (False, True)
    ]


def _magnitude(moment: Moment) -> tuple[float, float]:
    return collective.magnitude_entropy(moment.kernel), collective.magnitude_variance(moment.kernel)


def _loss_derivative(moment: Moment) -> tuple[float]:
    """Mean over points of ‖∂loss/∂outputs‖."""
    return (float(np.linalg.norm(moment.gradient.astype(np.float64), axis=1).mean()),)


def _loss_kernel(moment: Moment) -> tuple[float, float]:
    values = spectrum.eigenvalues(moment.others["loss"])
    return spectrum.entropy(values), spectrum.trace(values)


def _fisher(moment: Moment) -> tuple[float]:
    return (float(np.trace(moment.others["fisher"], dtype=np.float64)),)


SPECTRUM = Observable(spectrum.SPECTRAL, _spectral)
OBSERVABLES = {
    "drift": Observable(("drift", "initial_alignment", "rotation"), _drift),
    "alignment": Observable(
        ("target_alignment", "centred_target_alignment"), _alignment, needs_targets=True
    ),
    "cosine": Observable(
        ("cosine_entropy",), lambda moment: (collective.cosine_entropy(moment.kernel),)
    ),
    "magnitude": Observable(("magnitude_entropy", "magnitude_variance"), _magnitude),
    "loss-derivative": Observable(("loss_derivative",), _loss_derivative, needs_targets=True),
    "loss-kernel": Observable(
        ("loss_entropy", "loss_trace"), _loss_kernel, needs_targets=True, other="loss"
    ),
    "fisher": Observable(("fisher_trace",), _fisher, needs_targets=True, other="fisher"),
}


def _loss_outputs(apply_fn: ApplyFunction, loss: str) -> ApplyFunction:
    """The loss of each point as the only output, so that its kernel is the Gram matrix of the
    losses' gradients.
    """

    def losses(params: PyTree[Array], points: tuple[Array, Array]) -> Float[Array, "k 1"]:
        return schedules.LOSSES[loss](apply_fn(params, points[0]), points[1])[:, None]

    return losses


def _fisher_outputs(apply_fn: ApplyFunction, loss: str) -> ApplyFunction:
    """Outputs g with Σ_c ∂g_c ∂g_cᵀ the Fisher information matrix of a point: the trace of the sum
    over points is their kernel's.

    Cross-entropy: √p_c ln p_c with p_c held fixed in front, as Σ_c p_c ∂ln p_c ∂ln p_cᵀ. Mean
    squared error: outputs are means of normal distributions of variance 1, so g is the outputs
    themselves.
    """
    if loss == "mse":
        return lambda params, points: apply_fn(params, points[0])

    def scores(params: PyTree[Array], points: tuple[Array, Array]) -> Float[Array, "k n_outputs"]:
        logarithms = jax.nn.log_softmax(apply_fn(params, points[0]))
        return jnp.exp(jax.lax.stop_gradient(logarithms) / 2) * logarithms

    return scores


KERNELS = {"loss": _loss_outputs, "fisher": _fisher_outputs}


class Table(NamedTuple):
    """of(moment, settings) gives rows with `columns`, of the kernel of all points."""

    columns: tuple[str, ...]
    of: Callable[[Moment, Settings], list[Row]]


def _classes(moment: Moment, settings: Settings) -> list[Row]:
    """Each class by itself (second is missing), and each union of two with their mutual
    information.
    """
    classes = np.argmax(moment.targets, axis=1)
    rows = {int(value): np.flatnonzero(classes == value) for value in np.unique(classes)}
    values = {
        value: spectrum.eigenvalues(moment.kernel[np.ix_(chosen, chosen)])
        for value, chosen in rows.items()
    }
    entropies = {value: spectrum.entropy(of) for value, of in values.items()}
    found = [
        {
            "first": value,
            "n_in_classes": len(rows[value]),
            "entropy": entropies[value],
            "trace": spectrum.trace(of),
        }
        for value, of in values.items()
    ]
    for first, second in itertools.combinations(rows, 2):
        chosen = np.concatenate([rows[first], rows[second]])
        of_union = spectrum.eigenvalues(moment.kernel[np.ix_(chosen, chosen)])
        entropy = spectrum.entropy(of_union)
        both = {"first": first, "second": second, "n_in_classes": len(chosen), "entropy": entropy}
        information = collective.mutual_information(entropies[first], entropies[second], entropy)
        found.append(both | {"trace": spectrum.trace(of_union), "mutual_information": information})
    return found


def _modes(moment: Moment, settings: Settings) -> list[Row]:
    """The leading modes v of the first epoch's kernel K_0: λ = vᵀK_0v, vᵀKv, and ‖vᵀ
    ∂loss/∂outputs‖.

    By Tovey et al. 2023, eq. 6, the error along v should fall at a rate in proportion to λ.
    """
    n = len(moment.kernel)
    of = (max(0, n - settings.n_modes), n - 1)
    values, vectors = scipy.linalg.eigh(moment.initial.astype(np.float64), subset_by_index=of)
    now = np.einsum(
        "ik,ij,jk->k", vectors, moment.kernel.astype(np.float64), vectors, optimize=True
    )
    residuals = np.linalg.norm(vectors.T @ moment.gradient, axis=1)
    columns = zip(values[::-1], now[::-1], residuals[::-1])
    return [dict(zip(MODES, (number, *map(float, row)))) for number, row in enumerate(columns)]


MODES = ("mode", "eigenvalue", "eigenvalue_now", "residual")
TABLES = {
    "classes": Table(
        ("first", "second", "n_in_classes", "entropy", "trace", "mutual_information"), _classes
    ),
    "modes": Table(MODES, _modes),
}


class Recorder:
    """Records networks of one architecture: `recording` begins the record of one of them.

    apply_fn(params, inputs) -> (n_points, n_outputs) treats every point by itself. loss: of
    `schedules.LOSSES`, for the observables that need targets; None where there are none.
    """

    def __init__(self, apply_fn: ApplyFunction, settings: Settings, /, *, loss: str | None = None):
        self.settings = settings
        self.observables = [
            SPECTRUM,
            *(OBSERVABLES[name] for name in settings.observables if name in OBSERVABLES),
        ]
        self.tables = {name: TABLES[name] for name in settings.observables if name in TABLES}
        need = [
            name
            for name in settings.observables
            if name in TABLES or OBSERVABLES[name].needs_targets
        ]
        if loss is None and need:
            raise ValueError(
                f"The observables {', '.join(need)} need targets and a loss: received none."
            )
        others = {
            of.other: KERNELS[of.other](apply_fn, loss) for of in self.observables if of.other
        }

        def of_sample(params: PyTree[Array], inputs: Array, targets: Array | None) -> tuple:
            kernel = empirical.empirical_ntk(apply_fn, params, inputs, outputs=settings.outputs)
            if targets is None:
                return kernel, None, {}
            total = lambda outputs: jnp.sum(schedules.LOSSES[loss](outputs, targets))
            gradient = jax.grad(total)(apply_fn(params, inputs))
            further = {
                name: empirical.empirical_ntk(of, params, (inputs, targets), outputs="sum")
                for name, of in others.items()
            }
            return kernel, gradient, further

        def of_samples(
            points: Points, params: PyTree[Array], rows: Int[Array, "n_samples k"]
        ) -> tuple:
            return jax.lax.map(
                lambda rows: of_sample(
                    params, *jax.tree.map(lambda leaf: leaf[rows], tuple(points))
                ),
                rows,
            )

        self._of_samples = batching.over_members(of_samples)

    def columns(self, table: str) -> list[str]:
        """The columns of a table: "recording" or one of `TABLES`."""
        if table in TABLES:
            return [*LABELS, *TABLES[table].columns]
        names = [name for of in self.observables for name in of.columns]
        if self.settings.subsample is None:
            return [*LABELS, *names]
        return [*LABELS, *names, *(f"{name}_standard_deviation" for name in names)]

    def recording(
        self,
        points: dict[str, Points],
        /,
        *,
        key: PRNGKeyArray | None = None,
        widths: dict[str, int] | None = None,
    ) -> "Recording":
        """Begin the record of a network on `points`, by their kind: "train", "test", or any other.

        key: draws the samples. widths: for kinds of points that come in many numbers, how many
        points their kernels are padded to, so that few sizes are compiled; nothing else changes.
        """
        return Recording(self, points, key, widths or {})

    def moments(
        self,
        points: Points,
        params: PyTree[Array],
        rows: Int[np.ndarray, "n_samples k"],
        width: int,
    ) -> list[tuple[np.ndarray, np.ndarray | None, dict[str, np.ndarray]]]:
        """Kernel, gradient and further kernels of each sample."""
        k = rows.shape[1]
        padded = np.concatenate([rows, np.repeat(rows[:, :1], max(0, width - k), axis=1)], axis=1)
        _memory.check(
            f"Kernels of {k} points", 16 * padded.shape[1] ** 2 * (1 + len(self.observables))
        )
        one = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], (params, padded))
        found = jax.tree.map(lambda leaf: np.asarray(leaf)[0], self._of_samples(points, *one))
        kernels, gradients, others = found
        return [
            (
                kernels[place, :k, :k],
                None if gradients is None else gradients[place, :k],
                {name: of[place, :k, :k] for name, of in others.items()},
            )
            for place in range(len(rows))
        ]


class Recording:
    """The record of one network: `record` at each epoch in turn; `tables` has what was found."""

    def __init__(
        self,
        recorder: Recorder,
        points: dict[str, Points],
        key: PRNGKeyArray | None,
        widths: dict[str, int],
    ):
        self._recorder, self._widths = recorder, widths
        self._points = {kind: Points(*of) for kind, of in points.items()}
        subsample = recorder.settings.subsample
        self._rows, self._initial = {}, {}
        for place, (kind, of) in enumerate(self._points.items()):
            n = len(of.inputs)
            if subsample is None:
                self._rows[kind] = np.arange(n)[None]
                continue
            if subsample["sample_size"] > n:
                raise ValueError(
                    f"sample_size must not exceed the {kind} points: {subsample['sample_size']} > {n}."
                )
            keys = jax.random.split(jax.random.fold_in(key, place), subsample["n_samples"])
            draws = jax.vmap(lambda of_sample: jax.random.permutation(of_sample, n))(keys)
            self._rows[kind] = np.asarray(draws)[:, : subsample["sample_size"]]
        self._found: dict[str, list[Row]] = {
            "recording": [],
            **{name: [] for name in recorder.tables},
        }
        self._executor = ThreadPoolExecutor(len(self._points))
        self._waiting: list[tuple[dict[str, str | int], Future]] = []

    def record(self, epoch: int, params: PyTree[Array]) -> None:
        """Add the rows of one epoch; the first call is that of the initial network.

        What follows from the kernels is computed while the training goes on, until the next call or
        that of `tables`, which raise what went wrong there.
        """
        moments = {
            kind: self._moments(kind, points, params) for kind, points in self._points.items()
        }
        self._collect()
        for kind, of_kind in moments.items():
            labels = {"points": kind, "epoch": int(epoch)}
            self._waiting.append((labels, self._executor.submit(self._rows_of, of_kind)))

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """ "recording", a row for each epoch and kind of points, and each of `TABLES` that was
        asked for.
        """
        self._collect()
        return {
            name: pd.DataFrame(rows, columns=self._recorder.columns(name))
            for name, rows in self._found.items()
        }

    def _collect(self) -> None:
        """Wait for the rows of the last epoch, so that no more than one is in memory as kernels."""
        for labels, rows in self._waiting:
            for name, of_table in rows.result().items():
                self._found[name] += [labels | row for row in of_table]
        self._waiting = []

    def _moments(self, kind: str, points: Points, params: PyTree[Array]) -> list[Moment]:
        rows = self._rows[kind]
        found = self._recorder.moments(
            points, params, rows, self._widths.get(kind, 0) if len(rows) == 1 else 0
        )
        initial = self._initial.setdefault(kind, [kernel for kernel, _, _ in found])
        return [
            Moment(
                kernel,
                first,
                None if points.targets is None else points.targets[chosen],
                gradient,
                others,
            )
            for (kernel, gradient, others), first, chosen in zip(found, initial, rows)
        ]

    def _rows_of(self, moments: list[Moment]) -> dict[str, list[Row]]:
        """Of each table the rows of one kind of points, without their labels."""
        rows = {"recording": [self._row(moments)]}
        if np.isfinite(moments[0].kernel).all():
            of_kernel = self._recorder.tables.items()
            rows |= {
                name: table.of(moments[0], self._recorder.settings) for name, table in of_kernel
            }
        return rows

    def _row(self, moments: list[Moment]) -> Row:
        """Means over samples, and standard deviations where there are several; NaN where a kernel
        is not finite.
        """
        columns = [name for of in self._recorder.observables for name in of.columns]
        values = np.array([self._values(moment) for moment in moments])
        row = dict(zip(columns, values.mean(axis=0).tolist()))
        if len(moments) > 1:
            deviations = values.std(axis=0, ddof=1).tolist()
            row |= {f"{name}_standard_deviation": value for name, value in zip(columns, deviations)}
        return row

    def _values(self, moment: Moment) -> list[float]:
        observed = self._recorder.observables
        if all(np.isfinite(kernel).all() for kernel in (moment.kernel, *moment.others.values())):
            return [value for of in observed for value in of.of(moment)]
        return [math.nan for of in observed for _ in of.columns]
