"""Record collective variables of a network's kernels while the network is trained."""

import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from collective_variables import _checks, _memory
from collective_variables.ensembles import batching
from collective_variables.kernels import empirical
from collective_variables.networks._arguments import ApplyFunction
from collective_variables.observables import spectrum, subsampling
from collective_variables.training import _quantities, schedules

Rule = dict[str, int] | Sequence[int]

LABELS = ("points", "epoch")  # the first columns of every table, behind those of the run


@dataclass(frozen=True)
class Settings:
    """Set the epochs and points at which kernels are computed, and what is recorded.

    Args:
        epochs: {"every": k}, {"log_spaced": n} or a list (see `recorded_epochs`).
        n_train: Largest number of train points, the first ones; None for all.
        n_test: Largest number of test points, the first ones; None for all.
        subsample: {"n_samples", "sample_size"}. The variables are then means over random samples of
            these points, with standard deviations between samples (Tovey et al. 2024). The samples
            are the same at all epochs. None for the kernel of all points.
        observables: Any of `_quantities.OBSERVABLES` and `_quantities.TABLES`, in addition to the
            variables of the spectrum, which are always recorded.
        outputs: "mean" or "sum", as in `empirical.empirical_ntk`.
        n_modes: Number of leading modes in the table "modes".
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
        names = _checks.unique("observables", self.observables) if len(self.observables) else ()
        for name in names:
            _checks.choice("observables", name, (*_quantities.OBSERVABLES, *_quantities.TABLES))
        for name in ("n_train", "n_test"):
            if getattr(self, name) is not None:
                _checks.integer(name, getattr(self, name), minimum=2)
        if self.subsample is not None:
            subsampling.check_subsample(self.subsample, smallest=2)
            if tables := set(self.observables) & set(_quantities.TABLES):
                raise ValueError(
                    f"Observables {', '.join(sorted(tables))} need the kernel of all points and "
                    f"cannot be combined with subsample: received {self.subsample}."
                )
        _checks.integer("n_modes", self.n_modes, minimum=1)


def recorded_epochs(
    rule: Rule, n_epochs: int, *, evaluate_every: int = 1
) -> Int[np.ndarray, " n_recorded"]:
    """Return the epochs of a recording, ascending; 0 and n_epochs are always among them.

    Args:
        rule: {"every": k} for each k-th epoch; {"log_spaced": n} for at most n epochs whose
            distances grow by a factor; or a list.
        n_epochs: Epochs of the training.
        evaluate_every: Epochs between two stops of the training, to whose multiples all are
            rounded.

    Raises:
        ValueError: The rule has another form, or an epoch is outside the training.
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
    """Hold points of one kind; targets is None for points such as an agent's observations."""

    inputs: Float[np.ndarray, "n_points ..."]
    targets: Float[np.ndarray, "n_points n_outputs"] | None = None


class Kernels(NamedTuple):
    """Hold the kernel of some points and what is computed with it (see `_quantities.Moment`)."""

    kernel: Float[np.ndarray, "k k"]
    gradient: Float[np.ndarray, "k n_outputs"] | None
    others: dict[str, Float[np.ndarray, "k k"]]


class Recorder:
    """Record networks of one architecture: `recording` starts the record of one of them.

    Args:
        apply_fn: apply_fn(params, inputs) -> (n_points, n_outputs), which treats points separately.
        settings: What to record.
        loss: One of `schedules.LOSSES`, for the observables that need targets; None for points
            without targets.
    """

    def __init__(self, apply_fn: ApplyFunction, settings: Settings, /, *, loss: str | None = None):
        self.settings = settings
        known, tables = _quantities.OBSERVABLES, _quantities.TABLES
        names = settings.observables
        self.observables = [
            _quantities.SPECTRUM,
            *(known[name] for name in names if name in known),
        ]
        self.tables = {name: tables[name] for name in names if name in tables}
        need = [name for name in names if name in tables or known[name].needs_targets]
        if loss is None and need:
            raise ValueError(
                f"The observables {', '.join(need)} need targets and a loss: received none."
            )
        self._apply, self._loss = apply_fn, loss
        others = {observable.other for observable in self.observables} - {None}
        self._others = {
            name: function(apply_fn, loss)
            for name, function in _quantities.KERNELS.items()
            if name in others
        }
        self._compute = batching.over_members(self._kernels_of_samples)

    def columns(self, table: str) -> list[str]:
        """Return the columns of a table: "recording" or one of `_quantities.TABLES`."""
        if table in _quantities.TABLES:
            return [*LABELS, *_quantities.TABLES[table].columns]
        names = self.names
        if self.settings.subsample is None:
            return [*LABELS, *names]
        return [*LABELS, *names, *(f"{name}_standard_deviation" for name in names)]

    @property
    def names(self) -> list[str]:
        """Columns of all observables."""
        return [name for observable in self.observables for name in observable.columns]

    def recording(
        self,
        points: dict[str, Points],
        /,
        *,
        key: PRNGKeyArray | None = None,
        widths: dict[str, int] | None = None,
    ) -> "Recording":
        """Return a new record of a network on `points`, by their kind: "train", "test", or another.

        The `key` draws the samples. `widths` are the numbers of points, by their kind, that kernels
        are padded to, so that few sizes are compiled. Padding changes nothing else.
        """
        return Recording(self, points, key, widths or {})

    def kernels(
        self,
        points: Points,
        params: PyTree[Array],
        rows: Int[np.ndarray, "n_samples k"],
        width: int,
    ) -> list[Kernels]:
        """Return the kernels of each sample, computed on `width` points if that is more than k."""
        k = rows.shape[1]
        padded = np.concatenate([rows, np.repeat(rows[:, :1], max(0, width - k), axis=1)], axis=1)
        _memory.check(
            f"Kernels of {k} points", 16 * padded.shape[1] ** 2 * (1 + len(self.observables))
        )
        member = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], (params, padded))
        samples = jax.tree.map(lambda leaf: np.asarray(leaf)[0], self._compute(points, *member))
        return [
            Kernels(
                samples.kernel[place, :k, :k],
                None if samples.gradient is None else samples.gradient[place, :k],
                {name: kernel[place, :k, :k] for name, kernel in samples.others.items()},
            )
            for place in range(len(rows))
        ]

    def _kernels_of_samples(
        self, points: Points, params: PyTree[Array], rows: Int[Array, "n_samples k"]
    ) -> Kernels:
        def one(chosen: Int[Array, " k"]) -> Kernels:
            return self._kernels(params, *jax.tree.map(lambda leaf: leaf[chosen], tuple(points)))

        return jax.lax.map(one, rows)

    def _kernels(self, params: PyTree[Array], inputs: Array, targets: Array | None) -> Kernels:
        kernel = empirical.empirical_ntk(self._apply, params, inputs, outputs=self.settings.outputs)
        if targets is None:
            return Kernels(kernel, None, {})

        def total(outputs: Array) -> Float[Array, ""]:
            return jnp.sum(schedules.LOSSES[self._loss](outputs, targets))

        gradient = jax.grad(total)(self._apply(params, inputs))
        others = {
            name: empirical.empirical_ntk(function, params, (inputs, targets), outputs="sum")
            for name, function in self._others.items()
        }
        return Kernels(kernel, gradient, others)


class Recording:
    """Hold the record of one network: call `record` at each epoch in turn, then read `tables`."""

    def __init__(
        self,
        recorder: Recorder,
        points: dict[str, Points],
        key: PRNGKeyArray | None,
        widths: dict[str, int],
    ):
        self._recorder, self._widths = recorder, widths
        self._points = {kind: Points(*arrays) for kind, arrays in points.items()}
        self._samples = {
            kind: _draw_samples(kind, len(arrays.inputs), recorder.settings.subsample, key, place)
            for place, (kind, arrays) in enumerate(self._points.items())
        }
        self._initial: dict[str, list[np.ndarray]] = {}
        self._rows: dict[str, list[_quantities.Row]] = {
            name: [] for name in ("recording", *recorder.tables)
        }
        self._executor = ThreadPoolExecutor(len(self._points))
        self._waiting: list[tuple[dict[str, str | int], Future]] = []

    def record(self, epoch: int, params: PyTree[Array]) -> None:
        """Add the rows of one epoch; the first call is that of the initial network.

        The quantities of the kernels are computed while the training continues. The next call, or
        reading `tables`, waits for them and raises their errors.
        """
        moments = {
            kind: self._moments(kind, points, params) for kind, points in self._points.items()
        }
        self._collect()
        for kind, samples in moments.items():
            labels = {"points": kind, "epoch": int(epoch)}
            self._waiting.append((labels, self._executor.submit(self._rows_of_kind, samples)))

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Tables by name: "recording", with a row for each epoch and kind of points, and others."""
        self._collect()
        return {
            name: pd.DataFrame(rows, columns=self._recorder.columns(name))
            for name, rows in self._rows.items()
        }

    def _collect(self) -> None:
        """Wait for the last epoch, so that the kernels of only one epoch are in memory."""
        for labels, future in self._waiting:
            for name, rows in future.result().items():
                self._rows[name] += [labels | row for row in rows]
        self._waiting = []

    def _moments(
        self, kind: str, points: Points, params: PyTree[Array]
    ) -> list[_quantities.Moment]:
        samples = self._samples[kind]
        width = self._widths.get(kind, 0) if len(samples) == 1 else 0
        kernels = self._recorder.kernels(points, params, samples, width)
        initial = self._initial.setdefault(kind, [sample.kernel for sample in kernels])
        return [
            _quantities.Moment(
                now.kernel,
                first,
                None if points.targets is None else points.targets[chosen],
                now.gradient,
                now.others,
            )
            for now, first, chosen in zip(kernels, initial, samples)
        ]

    def _rows_of_kind(self, moments: list[_quantities.Moment]) -> dict[str, list[_quantities.Row]]:
        """Return the rows of one kind of points in each table, without their labels."""
        rows = {"recording": [self._row(moments)]}
        if np.isfinite(moments[0].kernel).all():
            n_modes = self._recorder.settings.n_modes
            rows |= {
                name: table.compute(moments[0], n_modes)
                for name, table in self._recorder.tables.items()
            }
        return rows

    def _row(self, moments: list[_quantities.Moment]) -> _quantities.Row:
        """Return means over samples, and standard deviations if there are several."""
        names = self._recorder.names
        values = np.array([self._values(moment) for moment in moments])
        row = dict(zip(names, values.mean(axis=0).tolist()))
        if len(moments) > 1:
            deviations = values.std(axis=0, ddof=1).tolist()
            row |= {f"{name}_standard_deviation": value for name, value in zip(names, deviations)}
        return row

    def _values(self, moment: _quantities.Moment) -> list[float]:
        """Return the values of all observables; NaN if a kernel is not finite."""
        if all(np.isfinite(kernel).all() for kernel in (moment.kernel, *moment.others.values())):
            observables = self._recorder.observables
            return [value for each in observables for value in each.compute(moment)]
        return [math.nan] * len(self._recorder.names)


def _draw_samples(
    kind: str, n: int, subsample: dict[str, int] | None, key: PRNGKeyArray | None, place: int
) -> Int[np.ndarray, "n_samples k"]:
    """Return the rows of each sample of n points of one kind; all points without `subsample`."""
    if subsample is None:
        return np.arange(n)[None]
    size = subsample["sample_size"]
    if size > n:
        raise ValueError(f"sample_size must not exceed the {kind} points: {size} > {n}.")
    keys = jax.random.split(jax.random.fold_in(key, place), subsample["n_samples"])
    orders = jax.vmap(lambda sample_key: jax.random.permutation(sample_key, n))(keys)
    return np.asarray(orders)[:, :size]
