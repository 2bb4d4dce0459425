"""Losses of a predictor that hold each point against all others, for random network distillation
(RND).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from collective_variables import _checks
from collective_variables.selection import distances

Representations = Float[Array, "size n_outputs"]
Loss = Callable[[Representations, Representations, Int[Array, ""] | int], Float[Array, " size"]]

NAMES = ("info-nce", "isolated-potential")


def check(*, repulsion: float, confinement: float) -> None:
    """Raise the errors of `build` for a repulsion or a confinement."""
    _checks.number("repulsion", repulsion, minimum=0.0)
    _checks.number("confinement", confinement, minimum=0.0)


def build(
    name: str, *, scale: float = 1.0, repulsion: float = 0.01, confinement: float = 0.0
) -> Loss:
    """The loss of one of `NAMES`: a function (predicted, representations, n_points) -> (size,), to
    be averaged.

    The first `n_points` rows are the points, each a positive pair of its own prediction a_i and
    representation b_i and a negative one of a_i and the b_j of every other point. The rest is
    padding: finite rows that change no point's loss and whose own losses mean nothing.

    info-nce: −ln(exp(cos(a_i, b_i) / t) / Σ_j exp(cos(a_i, b_j) / t)) in nats with the temperature
    t = `scale` (van den Oord, Li, Vinyals 2018; Chen et al. 2020). It is 0 for a single point, sees
    directions alone, and of a single output the sign; zero vectors are as in `distances.build`.
    isolated-potential: the sum of an attraction to the own representation, mean over outputs of
    (a_i − b_i)²; a repulsion from the others', `repulsion` times the mean over j ≠ i and outputs of
    exp(−|a_i − b_j| / `scale`); and a confinement, `confinement` times the mean over outputs of
    a_i⁴.

    In the authors' package positive pairs are two points of one class, both predicted: the losses
    of a network that learns classes. A predictor has none, only targets of its own. Raises
    ValueError or TypeError for an unknown name, a scale that isn't above 0 or a negative repulsion
    or confinement.
    """
    _checks.choice("loss", name, NAMES)
    _checks.number("scale", scale, above=0.0)
    check(repulsion=repulsion, confinement=confinement)
    if name == "info-nce":
        return partial(_info_nce, float(scale))
    return partial(_isolated_potential, float(scale), float(repulsion), float(confinement))


def _info_nce(
    scale: float,
    predicted: Representations,
    representations: Representations,
    n_points: Int[Array, ""] | int,
) -> Float[Array, " size"]:
    directions = distances.directions(predicted), distances.directions(representations)
    cosines = jnp.matmul(directions[0], directions[1].T, precision="highest") / scale
    among = jax.nn.logsumexp(jnp.where(_are_points(cosines, n_points), cosines, -jnp.inf), axis=1)
    return among - jnp.diagonal(cosines)


def _isolated_potential(
    scale: float,
    repulsion: float,
    confinement: float,
    predicted: Representations,
    representations: Representations,
    n_points: Int[Array, ""] | int,
) -> Float[Array, " size"]:
    apart = distances.absolute(predicted[:, None] - representations[None])
    near = jnp.mean(jnp.exp(-apart / scale), axis=-1)
    others = _are_points(near, n_points) & ~jnp.eye(len(near), dtype=bool)
    n_others = jnp.maximum(jnp.asarray(n_points, near.dtype) - 1.0, 1.0)
    repelled = jnp.sum(jnp.where(others, near, 0.0), axis=1) / n_others
    attracted = jnp.mean((predicted - representations) ** 2, axis=-1)
    return attracted + repulsion * repelled + confinement * jnp.mean(predicted**4, axis=-1)


def _are_points(pairs: Float[Array, "size size"], n_points: Int[Array, ""] | int) -> Array:
    """(1, size) whether a column is a point and not padding; the first always is, for sums without
    a point.
    """
    return (jnp.arange(len(pairs)) < jnp.maximum(n_points, 1))[None]
