"""Record collective variables and the spectral position in anybody's training loop."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, PyTree
from threadpoolctl import ThreadpoolController

from collective_variables import _checks, _errors
from collective_variables.kernels import _calls
from collective_variables.kernels._traced import SHARED
from collective_variables.networks._arguments import ApplyFunction, checked_points, n_points
from collective_variables.observables import collective, spectrum
from collective_variables.training import schedules
from collective_variables.training.position import _gradients, factors

SPECTRAL = ("entropy", "trace", "effective_rank", "largest_eigenvalue_fraction")
DRIFT = ("drift", "initial_alignment")
POSITION = ("loss", *factors.Factors._fields)


class Cost(NamedTuple):
    """What a recording costs.

    Attributes:
        n_records: Number of records.
        seconds_first: Seconds of the first one, which compiles the programs.
        seconds_each: Seconds of each further one.
    """

    n_records: int
    seconds_first: float
    seconds_each: float

    @property
    def seconds(self) -> float:
        """Seconds of all records."""
        return self.seconds_first + (self.n_records - 1) * self.seconds_each


class _Started(NamedTuple):
    """What a record needs of JAX, which may still be computing it."""

    kernel: Float[Array, "n n"]
    gradients: _gradients.Started


class Recorder:
    """Record a network while any loop trains it.

    Call the object in every step; it returns at once unless the step is to be recorded. Steps are
    log-spaced by default: 0, 1, 2, 3, 4, 6, 9, 13, 19 and so on, 20 in a training of 2000 steps.

    A record has the loss and its decomposition (see `decompose`), the entropy and trace of the
    kernel, its drift from the first record, and its alignment with the targets. All are those of
    the recorded points. Parameters that are not finite give a row of NaN.

    Raises TypeError or ValueError for points, targets or numbers that are wrong.

    Args:
        apply_fn: The network, apply_fn(params, x) -> (n_points, n_outputs), which treats every
            point separately: without dropout, and with fixed statistics of batch normalisation.
            It may be the `apply` of a Flax module, or a function around an NNX or Equinox model.
        x: Points, an array or a tree of arrays with points along their first axes.
        targets: Their targets, as for `decompose`.
        loss: "mse", "cross-entropy", or a function loss(outputs, targets) that returns a number.
        every: Number of steps between records; None spaces them logarithmically.
        n_points: Largest number of points that are recorded, drawn at random; None for all.
        seed: Seed of the drawn points.

    Attributes:
        rows_: The rows of the recorded points.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import collective_variables as cv
        >>> def network(w, x):
        ...     return x @ w
        >>> x, targets = jnp.eye(2), jnp.ones((2, 1))
        >>> gradient = jax.grad(lambda w: jnp.mean((network(w, x) - targets) ** 2))
        >>> recorder, w = cv.Recorder(network, x, targets, every=10), jnp.zeros((2, 1))
        >>> for step in range(21):
        ...     recorder(step, w)
        ...     w = w - 0.1 * gradient(w)
        >>> print(recorder.table()[["step", "loss", "chi_net", "chi_pos"]].round(3).to_string())
           step   loss  chi_net  chi_pos
        0     0  1.000      2.0      0.5
        1    10  0.122      2.0      0.5
        2    20  0.015      2.0      0.5
    """

    def __init__(
        self,
        apply_fn: ApplyFunction,
        x: PyTree[Array],
        targets: PyTree[Array],
        *,
        loss: str | _gradients.LossFunction = "mse",
        every: int | None = None,
        n_points: int | None = 100,
        seed: int = 0,
    ):
        if not callable(loss):
            _checks.choice("loss", loss, schedules.LOSSES)
        for name, value in (("every", every), ("n_points", n_points)):
            if value is not None:
                _checks.integer(name, value, minimum=1)
        batch = _gradients.Batch(checked_points("x", x), jax.tree.map(jnp.asarray, targets))
        _gradients.check_batch("", batch)
        self.rows_ = _draw(batch, n_points, _checks.integer("seed", seed, minimum=0))
        self._batch = jax.tree.map(lambda leaf: leaf[self.rows_], batch)
        self._apply, self._loss, self._every = apply_fn, loss, every
        self._initial: Float[np.ndarray, "n n"] | None = None
        self._steps: list[int] = []
        self._rows: list[Future[dict[str, float]]] = []
        self._executor, self._libraries = ThreadPoolExecutor(1), ThreadpoolController()
        self._next = 0

    def __call__(self, step: int, params: PyTree[Array]) -> None:
        """Record this step if it is due.

        Args:
            step: The number of the step, from 0 on. A step that is left out counts as soon as a
                later one comes.
            params: The parameters before the step.

        Raises the errors of `record`.
        """
        if step >= self._next:
            self.record(step, params)

    def record(self, step: int, params: PyTree[Array]) -> None:
        """Record this step, due or not, such as the last one.

        The numbers are computed while the loop continues; `table` waits for them.

        Args:
            step: The number of the step.
            params: The parameters before the step.

        Raises:
            InvalidValueError: The step is not after the last recorded one.

        Also raises ValueError if the network does not fit the points, or the targets its outputs.
        """
        step = _checks.integer("step", step, minimum=0)
        if self._steps and step <= self._steps[-1]:
            raise _errors.InvalidValueError(
                f"step must be greater than the last recorded one, {self._steps[-1]}: "
                f"received {step}. Make a new recorder for another training."
            )
        started = self._start(params)
        if self._rows:
            self._rows[-1].result()  # so that the kernels of few records are in memory
        self._rows.append(self._executor.submit(self._measure, started))
        self._steps.append(step)
        self._next = self._after(step)

    def table(self) -> pd.DataFrame:
        """Return a row for each record.

        Returns:
            The columns step; loss, chi_loss, chi_net, chi_pos and delta_loss as in `decompose`;
            entropy (nats), trace, effective_rank and largest_eigenvalue_fraction of the mean over
            outputs, as in `collective_variables`; drift, the distance of the kernel from the first
            one relative to its norm, and initial_alignment, the alignment with it; and
            target_alignment, for targets in the shape of the outputs.
        """
        if not self._rows:
            return pd.DataFrame(columns=["step", *POSITION, *SPECTRAL, *DRIFT])
        rows = [row.result() for row in self._rows]
        return pd.DataFrame([{"step": step} | row for step, row in zip(self._steps, rows)])

    def figure(self) -> Any:
        """Return a Plotly figure of the table, with a panel for each quantity.

        The axis of steps is logarithmic, and so are those of loss and trace.

        Raises:
            InvalidValueError: Nothing has been recorded.
        """
        if not self._rows:
            raise _errors.InvalidValueError(
                "figure needs a record: received none. Call the recorder with step and parameters "
                "in each step of the training."
            )
        from collective_variables.training.any_loop import _figure  # needs an optional package

        return _figure.draw(self.table())

    def steps(self, n_steps: int) -> list[int]:
        """Return the steps that are recorded, if each step from 0 to n_steps calls the object."""
        steps = [0]
        while (later := self._after(steps[-1])) <= _checks.integer("n_steps", n_steps, minimum=0):
            steps.append(later)
        return steps

    def cost(self, params: PyTree[Array], n_steps: int) -> Cost:
        """Measure what the recording of a training costs, before it starts.

        The programs that it compiles are used later, so the first record then takes no longer than
        others.

        Args:
            params: Parameters of the network.
            n_steps: Number of steps of the training.

        Returns:
            The cost.
        """
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            self._values(self._start(params))
            seconds.append(time.perf_counter() - start)
        return Cost(len(self.steps(n_steps)), seconds[0], min(seconds[1:]))

    def _after(self, step: int) -> int:
        """Return the next step to record after this one."""
        if self._every is None:
            return step + max(1, step // 2)
        return (step // self._every + 1) * self._every

    def _start(self, params: PyTree[Array]) -> _Started:
        """Start the kernel and the gradients of these parameters."""
        x, _ = self._batch
        with SHARED.traceable(self._apply, params, x) as network:
            call = _calls.check_call(network, params, x, None, "mean", "auto", None)
            gradients = _gradients.start(network, call.params, self._batch, self._loss)
            return _Started(call.compute(), gradients)

    def _measure(self, started: _Started) -> dict[str, float]:
        # Further threads of BLAS would wait for the cores that the training uses.
        with self._libraries.limit(limits=1, user_api="blas"):
            return self._row(started)

    def _row(self, started: _Started) -> dict[str, float]:
        values, kernel = self._values(started)
        if self._initial is None:
            self._initial = kernel
        if not (np.isfinite(kernel).all() and np.isfinite(self._initial).all()):
            return values | dict.fromkeys(DRIFT, float("nan"))
        return values | {
            "drift": collective.relative_distance(kernel, self._initial),
            "initial_alignment": collective.kernel_alignment(kernel, self._initial),
        }

    def _values(self, started: _Started) -> tuple[dict[str, float], Float[np.ndarray, "n n"]]:
        """Return what depends on these parameters alone, and the kernel."""
        kernel, gradients = np.asarray(started.kernel), started.gradients.wait()
        n_outputs = gradients.by_outputs.shape[1]
        fitting = _gradients.like_outputs(self._loss, self._batch.targets, n_outputs)
        names = (*SPECTRAL, *(() if fitting is None else ("target_alignment",)))
        if not np.isfinite(kernel).all():
            return dict.fromkeys((*POSITION, *names), float("nan")), kernel
        variables = spectrum.collective_variables(spectrum.eigenvalues(kernel))
        if fitting is not None:
            variables["target_alignment"] = collective.target_alignment(kernel, fitting)
        rate = _gradients.compute_rate(gradients, gradients, n_outputs * variables["trace"])
        loss = {"loss": gradients.loss}
        return loss | rate._asdict() | {name: variables[name] for name in names}, kernel


def _draw(batch: _gradients.Batch, n_drawn: int | None, seed: int) -> np.ndarray:
    """Return the rows to record, ascending."""
    n = n_points(batch.x)
    if n_drawn is None or n_drawn >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, n_drawn, replace=False))
