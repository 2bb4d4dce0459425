"""Describe how a network is trained: loss, optimiser, epochs and batch size."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from collective_variables import _checks
from collective_variables.training import trace_scaling


def mean_squared_error(
    outputs: Float[Array, "n_points n_outputs"], targets: Float[Array, "n_points n_outputs"]
) -> Float[Array, " n_points"]:
    """Return the squared error of each point, averaged over the outputs."""
    return jnp.mean((outputs - targets) ** 2, axis=-1)


def cross_entropy(
    outputs: Float[Array, "n_points n_outputs"], targets: Float[Array, "n_points n_outputs"]
) -> Float[Array, " n_points"]:
    """Return the cross-entropy of each point in nats; outputs are logits, targets one-hot."""
    return optax.softmax_cross_entropy(outputs, targets)


LOSSES: dict[str, Callable[[Array, Array], Array]] = {
    "mse": mean_squared_error,
    "cross-entropy": cross_entropy,
}


@dataclass(frozen=True)
class Schedule:
    """Describe how a network is trained: loss, optimiser, epochs and batch size.

    Tovey et al. 2023 name only Adam; the other defaults are ours.

    Args:
        loss: "mse", the mean over points and outputs (also for one-hot targets), or
            "cross-entropy", in nats.
        optimiser: Name of an optimiser of optax that takes a learning rate, such as "adam",
            "sgd" or "adamw".
        learning_rate: Learning rate of the optimiser, positive.
        n_epochs: Passes over the subset.
        batch_size: Points per step; None takes all of them (full batch).
        evaluate_every: Epochs between two evaluations of the losses; must divide `n_epochs`.
        trace_every: Steps after which the learning rate is set again, in inverse proportion to
            the trace of the kernel of all points of the subset (`scale_by_trace`). None leaves it
            to the optimiser.

    Raises:
        TypeError: If a value has the wrong type.
        ValueError: If a value is out of range, `evaluate_every` does not divide `n_epochs`, or
            optax has no such optimiser.

    Example:
        >>> import collective_variables as cv
        >>> schedule = cv.Schedule(n_epochs=100, evaluate_every=25, batch_size=32)
        >>> schedule.epochs.tolist()
        [0, 25, 50, 75, 100]
    """

    loss: str = "mse"
    optimiser: str = "adam"
    learning_rate: float = 0.005
    n_epochs: int = 500
    batch_size: int | None = None
    evaluate_every: int = 1
    trace_every: int | None = None

    def __post_init__(self) -> None:
        _checks.choice("loss", self.loss, LOSSES)
        _checks.number("learning_rate", self.learning_rate, above=0.0)
        _checks.integer("n_epochs", self.n_epochs, minimum=1)
        _checks.integer("evaluate_every", self.evaluate_every, minimum=1)
        if self.batch_size is not None:
            _checks.integer("batch_size", self.batch_size, minimum=1)
        if self.trace_every is not None:
            _checks.integer("trace_every", self.trace_every, minimum=1)
        if self.n_epochs % self.evaluate_every:
            raise ValueError(
                "evaluate_every must divide n_epochs: "
                f"received {self.evaluate_every} and {self.n_epochs}."
            )
        self.transformation()

    @property
    def epochs(self) -> Int[np.ndarray, " n_evaluations"]:
        """Epochs after which the losses are evaluated; 0 is before training."""
        return np.arange(0, self.n_epochs + 1, self.evaluate_every)

    def transformation(
        self, trace_fn: trace_scaling.TraceFunction | None = None
    ) -> optax.GradientTransformation:
        """Return the optimiser.

        Args:
            trace_fn: trace_fn(params) returns the trace of the kernel. Updates with `trace_every`
                need it; the initial state does not.

        Raises:
            ValueError: optax has no such optimiser that needs only a learning rate and gradients.
        """
        factory = getattr(optax, self.optimiser, None) if isinstance(self.optimiser, str) else None
        try:
            optimiser = factory(learning_rate=self.learning_rate)
            _check_needs_only_gradients(optimiser)
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                "optimiser must be one of optax's that need only a learning rate and gradients, "
                f"such as 'adam': received {self.optimiser!r}."
            ) from error
        if self.trace_every is None:
            return optimiser
        scaling = trace_scaling.scale_by_trace(trace_fn, every=self.trace_every)
        return optax.chain(optimiser, scaling)


def _check_needs_only_gradients(optimiser: optax.GradientTransformation) -> None:
    """Trace one update, which fails for an optimiser that needs the loss, such as a line search."""
    # Optax mixes integers and floats.
    with jax.numpy_dtype_promotion("standard"):
        jax.eval_shape(
            lambda weights: optimiser.update(weights, optimiser.init(weights), weights),
            jnp.zeros((2, 2)),
        )
