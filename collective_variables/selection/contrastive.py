"""Define contrastive losses for RND, which compare each point with all others."""

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
    """Return one of the losses `NAMES`: (predicted, representations, n_points) -> (size,).

    Its values are to be averaged. The first `n_points` rows are the points. Each point i is a
    positive pair of its prediction a_i and its representation b_i, and a negative pair of a_i and
    the b_j of every other point. The other rows are padding: they are finite, change no point's
    loss, and their losses mean nothing.

    - info-nce: −ln(exp(cos(a_i, b_i) / t) / Σ_j exp(cos(a_i, b_j) / t)) in nats with the
      temperature t = `scale` (van den Oord, Li, Vinyals 2018; Chen et al. 2020). It is 0 for a
      single point. It depends only on directions, and with a single output only on the sign. Zero
      vectors are treated as in `distances.build`.
    - isolated-potential: the sum of three terms. The attraction is the mean over outputs of (a_i −
      b_i)². The repulsion is `repulsion` times the mean over j ≠ i and outputs of exp(−|a_i − b_j|
      / `scale`). The confinement is `confinement` times the mean over outputs of a_i⁴.

    In the authors' package positive pairs are two points of one class, both predicted. Those are
    the losses of a network that learns classes; a predictor has targets instead of classes.

    Args:
        name: One of `NAMES`.
        scale: The temperature, or the length of the repulsion.
        repulsion: Weight of the repulsion.
        confinement: Weight of the confinement.

    Returns:
        The loss.

    Raises TypeError or ValueError for an unknown name, a scale that is not above 0, or a negative
    repulsion or confinement.
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
    first = distances.directions(predicted)
    second = distances.directions(representations)
    cosines = jnp.matmul(first, second.T, precision="highest") / scale
    all_pairs = jax.nn.logsumexp(
        jnp.where(_are_points(cosines, n_points), cosines, -jnp.inf), axis=1
    )
    return all_pairs - jnp.diagonal(cosines)


def _isolated_potential(
    scale: float,
    repulsion: float,
    confinement: float,
    predicted: Representations,
    representations: Representations,
    n_points: Int[Array, ""] | int,
) -> Float[Array, " size"]:
    differences = distances.absolute(predicted[:, None] - representations[None])
    closeness = jnp.mean(jnp.exp(-differences / scale), axis=-1)
    are_others = _are_points(closeness, n_points) & ~jnp.eye(len(closeness), dtype=bool)
    n_others = jnp.maximum(jnp.asarray(n_points, closeness.dtype) - 1.0, 1.0)
    repulsions = jnp.sum(jnp.where(are_others, closeness, 0.0), axis=1) / n_others
    attractions = jnp.mean((predicted - representations) ** 2, axis=-1)
    return attractions + repulsion * repulsions + confinement * jnp.mean(predicted**4, axis=-1)


def _are_points(pairs: Float[Array, "size size"], n_points: Int[Array, ""] | int) -> Array:
    """Return (1, size) whether a column is a point and not padding."""
    # The first column always counts, so that sums over no points stay finite.
    return (jnp.arange(len(pairs)) < jnp.maximum(n_points, 1))[None]
