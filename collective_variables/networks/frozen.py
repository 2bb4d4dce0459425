"""Networks that learn with the features of their initial parameters, which stay as they are."""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from collective_variables import _checks

INITIAL = "constants"  # the collection of the parameters that stay
KINDS = ("linearised", "last-layer")


@dataclass(frozen=True)
class Frozen:
    """A network whose kernel does not change while it learns.

    Its variables are {"params": the changes that are learned, 0 at first; "constants": the initial
    parameters of the network}. Derivatives with respect to the latter are 0.

    Attributes:
        network: The network, a Flax module.
        kind: "linearised", f(θ₀) + ∂f(θ₀)/∂θ · (θ − θ₀), whose kernel is that of the network before
            training; or "last-layer", which learns its last dense layer only, on random features.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import collective_variables as cv
        >>> from collective_variables.networks import frozen
        >>> network = cv.build_network(["dense 8", "dense 1"])
        >>> linearised = frozen.Frozen(network, "linearised")
        >>> variables = linearised.init(jax.random.key(0), jnp.ones((1, 3)))
        >>> x = jnp.eye(3)
        >>> initial = linearised.apply(variables, x)
        >>> bool((initial == network.apply(variables["constants"], x)).all())
        True
    """

    network: nn.Module
    kind: str

    def __post_init__(self) -> None:
        _checks.choice("kind", self.kind, KINDS)

    def init(self, key: PRNGKeyArray, x: Float[Array, "n_points ..."]) -> PyTree[Array]:
        """Return the variables at first."""
        initial = self.network.init(key, x)
        learned = initial["params"]
        if self.kind == "last-layer":
            name = _last_layer(learned)
            learned = {name: learned[name]}
        return {"params": jax.tree.map(jnp.zeros_like, learned), INITIAL: initial}

    def apply(
        self, variables: PyTree[Array], x: Float[Array, "n_points ..."]
    ) -> Float[Array, "n_points n_outputs"]:
        """Return the outputs of points."""
        initial, change = jax.lax.stop_gradient(variables[INITIAL]), variables["params"]
        if self.kind == "linearised":
            outputs, changes = jax.jvp(
                lambda params: self.network.apply(params, x), (initial,), ({"params": change},)
            )
            return outputs + changes
        moved = {
            name: jax.tree.map(jnp.add, initial["params"][name], change[name]) for name in change
        }
        return self.network.apply({"params": initial["params"] | moved}, x)


def _last_layer(params: PyTree[Array]) -> str:
    """Return the name of the last dense layer, as Flax numbers layers of a kind."""
    numbers = [int(name.removeprefix("Dense_")) for name in params if name.startswith("Dense_")]
    if not numbers:
        raise ValueError(f"last-layer needs a dense layer: received {', '.join(params)}.")
    return f"Dense_{max(numbers)}"
