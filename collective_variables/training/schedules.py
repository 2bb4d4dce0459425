"""How a network is trained: loss, optimiser, epochs and batch size."""

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
) -> Array:
    """(n_points,) squares of the difference, averaged over the outputs."""
    return jnp.mean((outputs - targets) ** 2, axis=-1)


def cross_entropy(
    outputs: Float[Array, "n_points n_outputs"], targets: Float[Array, "n_points n_outputs"]
) -> Array:
    """(n_points,) cross-entropy in nats between the softmax of the outputs and one-hot targets."""
    return optax.softmax_cross_entropy(outputs, targets)


LOSSES: dict[str, Callable[[Array, Array], Array]] = {
    "mse": mean_squared_error,
    "cross-entropy": cross_entropy,
}


@dataclass(frozen=True)
class Schedule:
    """How a network is trained; Tovey et al. 2023 name only Adam, the rest is ours.

    loss: "mse" (mean over points and outputs; also for one-hot targets) or "cross-entropy".
    optimiser: name of any optimiser of optax that takes a learning rate, such as "adam", "sgd" or
    "adamw".
    n_epochs: passes over the subset. batch_size: points a step, None for all of them (full batch).
    evaluate_every: epochs between two evaluations of the losses; must divide n_epochs.
    trace_every: steps after which the learning rate is set anew, in inverse proportion to the trace
    of the kernel of all points of the subset (`trace_scaling.scale_by_trace`); None leaves it to
    the optimiser.
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
                f"evaluate_every must divide n_epochs: received {self.evaluate_every} and {self.n_epochs}."
            )
        self.transformation()

    @property
    def epochs(self) -> Int[np.ndarray, " n_evaluations"]:
        """The epochs after which the losses are evaluated; 0 is before training."""
        return np.arange(0, self.n_epochs + 1, self.evaluate_every)

    def transformation(
        self, trace_of: trace_scaling.TraceOf | None = None
    ) -> optax.GradientTransformation:
        """The optimiser; raises ValueError if optax has none of that name that needs a learning
        rate and gradients alone.

        trace_of(params): the trace of the kernel, for updates with `trace_every`; where a state
        begins there is no need of it.
        """
        factory = getattr(optax, self.optimiser, None) if isinstance(self.optimiser, str) else None
        try:
            made = factory(learning_rate=self.learning_rate)
            # Some want more than gradients, such as a line search the loss itself. Optax mixes
            # integers and floats.
            with jax.numpy_dtype_promotion("standard"):
                jax.eval_shape(
                    lambda weights: made.update(weights, made.init(weights), weights),
                    jnp.zeros((2, 2)),
                )
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                "optimiser must be one of optax's that need a learning rate and gradients alone, such as 'adam': "
                f"received {self.optimiser!r}."
            ) from error
        if self.trace_every is None:
            return made
        return optax.chain(made, trace_scaling.scale_by_trace(trace_of, every=self.trace_every))
