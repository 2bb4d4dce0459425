"""Record collective variables of a network's kernels while the network is trained."""

import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import jax
import numpy as np
import pandas as pd
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from collective_variables import _checks, _memory
from collective_variables.networks._arguments import ApplyFunction
from collective_variables.observables import spectrum, subsampling
from collective_variables.training import _quantities, _recorded_kernels
from collective_variables.training._recorded_kernels import PointLoss, Points

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
    observables: Sequence[str] = ("drift", "alignment", "position")
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


class Recorder:
    """Record networks of one architecture: `recording` starts the record of one of them.

    Args:
        apply_fn: apply_fn(params, inputs) -> (n_points, n_outputs), which treats points separately.
        settings: What to record.
        loss: One of `schedules.LOSSES`, for points with targets; a function loss(outputs, inputs,
            context) -> (n_points,), for observables that need a loss but no targets; or None.
    """

    def __init__(
        self,
        apply_fn: ApplyFunction,
        settings: Settings,
        /,
        *,
        loss: str | PointLoss | None = None,
    ):
        self.settings = settings
        known, tables = _quantities.OBSERVABLES, _quantities.TABLES
        names = settings.observables
        self.observables = [
            _quantities.SPECTRUM,
            *(known[name] for name in names if name in known),
        ]
        self.tables = {name: tables[name] for name in names if name in tables}
        offered = {name: known[name].needs in _offered(loss) for name in names if name in known}
        need = [name for name in names if not offered.get(name, isinstance(loss, str))]
        if need:
            raise ValueError(
                f"The observables {', '.join(need)} need targets and a loss: received none."
            )
        others = {observable.other for observable in self.observables} - {None}
        self.kernels = _recorded_kernels.SampleKernels(
            apply_fn, loss, settings.outputs, others, has_position="position" in names
        )

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


def _offered(loss: str | PointLoss | None) -> tuple[str, ...]:
    """Return what `_quantities.Observable.needs` may be with a loss."""
    if loss is None:
        return ("",)
    return ("", "loss", "targets") if isinstance(loss, str) else ("", "loss")


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

    def record(self, epoch: int, params: PyTree[Array], context: PyTree[Array] = None) -> None:
        """Add the rows of one epoch; the first call is that of the initial network.

        `context` is passed on to the loss, if that is a function.

        The quantities of the kernels are computed while the training continues. The next call, or
        reading `tables`, waits for them and raises their errors.
        """
        moments = {
            kind: self._moments(kind, points, params, context)
            for kind, points in self._points.items()
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
        self, kind: str, points: Points, params: PyTree[Array], context: PyTree[Array]
    ) -> list[_quantities.Moment]:
        samples = self._samples[kind]
        width = self._widths.get(kind, 0) if len(samples) == 1 else 0
        k, n_observables = samples.shape[1], len(self._recorder.observables)
        _memory.check(f"Kernels of {k} points", 16 * max(k, width) ** 2 * (1 + n_observables))
        kernels = self._recorder.kernels(points, params, context, samples, width)
        is_mean = self._recorder.settings.outputs == "mean"
        initial = self._initial.setdefault(kind, [sample.kernel for sample in kernels])
        return [
            _quantities.Moment(
                now.kernel,
                first,
                None if points.targets is None else points.targets[chosen],
                now.gradient,
                now.others,
                now.delta_loss,
                is_mean,
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
            return [value for observable in observables for value in observable.compute(moment)]
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
