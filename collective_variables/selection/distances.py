"""Distances between the representations of a predictor and of a target network, for random network
distillation (RND).
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from collective_variables import _checks

Representations = Float[Array, "n_points n_outputs"]
Distance = Callable[[Representations, Representations], Float[Array, " n_points"]]

NAMES = (
    "mean-squared",
    "power",
    "lp",
    "exponential",
    "cosine",
    "angular",
    "hypersphere",
    "mahalanobis",
    "wasserstein",
    "kullback-leibler",
)


def check(name: str, *, order: float, scale: float) -> None:
    """Raise the errors of `build` for a name, an order or a scale."""
    _checks.choice("distance", name, NAMES)
    if order != math.inf or name == "power":
        _checks.number("order", order, minimum=1.0)
    _checks.number("scale", scale, above=0.0)


def build(
    name: str,
    *,
    order: float = 2.0,
    scale: float = 1.0,
    covariance: Float[Array, "n_outputs n_outputs"] | None = None,
) -> Distance:
    """The distance of one of `NAMES`: a function (predicted, representations) -> (n_points,), for
    scores and as a loss.

    mean-squared: mean over outputs of (a − b)², the one of Tovey et al. 2023. power: of |a − b|^p
    with p = `order`, not
    infinite. exponential: of 1 − exp(−|a − b| / `scale`), which large differences raise no further
    than 1.
    lp: ‖a − b‖_p with p = `order` ≥ 1, infinity included.
    cosine: 1 − cos(a, b), from 0 to 2. angular: the angle between a and b over π, from 0 to 1.
    hypersphere: ‖a − b‖_p (1 − cos(a, b)) with p = `order`.
    mahalanobis: √((a − b)ᵀ S⁺ (a − b)), S⁺ the pseudo-inverse of S = `covariance`, the
    `distances.covariance` of the target's representations of the pool. It doesn't see a difference
    in directions in which the target doesn't vary, and is 0 everywhere if S is 0. The eigenvalues
    of S that count are those above n_outputs machine epsilons of its dtype times the largest one.
    wasserstein, kullback-leibler: between the softmaxes of a and b, distributions over the outputs.
    The first moves probability along the outputs in their order, one step for each, Σ |cumulative
    difference|; the second, asymmetric, is their cross-entropy −Σ softmax(b) ln softmax(a) in nats
    less that of b with itself, so that both have one gradient by a. A single output has the softmax
    1 whatever it is, and no distance.

    Each is at least 0, and 0 to round-off for equal vectors; cosine, angular and hypersphere are 0
    for all that are parallel, so that of a single output they see the sign alone. A zero vector
    (all entries below the smallest normal
    number) has a direction of its own, orthogonal to all others: its cosine distance from any other
    is 1 and its angular one 0.5, both are 0 from another zero vector. All is computed in the dtype
    of the arguments. Gradients are
    finite unless they overflow, also where there is none: 0 for a norm of 0 and for the direction
    of a zero vector.

    `order` enters lp, power and hypersphere alone, `scale` exponential and `covariance`
    mahalanobis, so that one set of options serves every name; the factors of S are computed here,
    once. Raises TypeError or ValueError for an unknown name, an order that isn't a number of at
    least 1 (for power a finite one), a scale that isn't above 0, or mahalanobis without covariance.
    """
    check(name, order=order, scale=scale)
    order, scale = float(order), float(scale)
    match name:
        case "mean-squared":
            return _mean_squared
        case "power":
            return partial(_power, order)
        case "lp":
            return partial(_lp, order)
        case "exponential":
            return partial(_exponential, scale)
        case "cosine":
            return _cosine
        case "angular":
            return _angular
        case "hypersphere":
            return partial(_hypersphere, order)
        case "wasserstein":
            return _wasserstein
        case "kullback-leibler":
            return _kullback_leibler
    if covariance is None:
        raise ValueError("covariance must be given for the distance mahalanobis: received None.")
    return partial(_mahalanobis, _whitening(covariance))


def covariance(representations: Representations) -> Float[Array, "n_outputs n_outputs"]:
    """Covariance of the outputs over the points, divided by n_points; exactly 0 where all points
    are equal.

    Squares below the smallest normal number of the dtype vanish: in float32 those of
    representations below 1e-19.
    """
    # From the first point on: the mean of equal numbers isn't always that number.
    shifted = representations - representations[:1]
    centred = shifted - jnp.mean(shifted, axis=0, keepdims=True)
    return jnp.matmul(centred.T, centred, precision="highest") / len(representations)


def absolute(x: Array) -> Array:
    """|x|, with the gradient 0 at 0, where that of `jnp.abs` is 1."""
    return x * jax.lax.stop_gradient(jnp.sign(x))


def directions(vectors: Representations) -> Float[Array, "n_points n_outputs+1"]:
    """Unit vectors, with one more entry that is the direction of zero vectors and 0 for all
    others.
    """
    scaled, _, zero = _scaled(vectors)
    units = scaled / jnp.linalg.norm(scaled, axis=-1, keepdims=True)
    return jnp.concatenate([jnp.where(zero, 0.0, units), zero.astype(vectors.dtype)], axis=-1)


def _mean_squared(
    predicted: Representations, representations: Representations
) -> Float[Array, " n_points"]:
    return jnp.mean((predicted - representations) ** 2, axis=-1)


def _power(
    order: float, predicted: Representations, representations: Representations
) -> Float[Array, " n_points"]:
    return jnp.mean(absolute(predicted - representations) ** order, axis=-1)


def _exponential(
    scale: float, predicted: Representations, representations: Representations
) -> Float[Array, " n_points"]:
    return jnp.mean(-jnp.expm1(-absolute(predicted - representations) / scale), axis=-1)


def _lp(
    order: float, predicted: Representations, representations: Representations
) -> Float[Array, " n_points"]:
    return _norms(predicted - representations, order)


def _cosine(
    predicted: Representations, representations: Representations
) -> Float[Array, " n_points"]:
    """1 − cos as half the squared distance of unit vectors, which doesn't cancel for nearly
    parallel ones.
    """
    return jnp.sum((directions(predicted) - directions(representations)) ** 2, axis=-1) / 2


def _angular(
    predicted: Representations, representations: Representations
) -> Float[Array, " n_points"]:
    """Kahan's formula for the angle between unit vectors, accurate where the arccosine of their
    product isn't.
    """
    first, second = directions(predicted), directions(representations)
    return jnp.arctan2(_norms(first - second), _norms(first + second)) * (2 / math.pi)


def _hypersphere(
    order: float, predicted: Representations, representations: Representations
) -> Float[Array, " n_points"]:
    return _lp(order, predicted, representations) * _cosine(predicted, representations)


def _mahalanobis(
    whitening: Float[Array, "n_outputs n_outputs"],
    predicted: Representations,
    representations: Representations,
) -> Float[Array, " n_points"]:
    whitening = whitening.astype(predicted.dtype)
    return _norms(jnp.matmul(predicted - representations, whitening, precision="highest"))


def _wasserstein(
    predicted: Representations, representations: Representations
) -> Float[Array, " n_points"]:
    p, q = jnp.exp(_log_softmaxes(predicted, representations))
    return jnp.sum(absolute(jnp.cumsum(p - q, axis=-1)[..., :-1]), axis=-1)


def _kullback_leibler(
    predicted: Representations, representations: Representations
) -> Float[Array, " n_points"]:
    """Σ q (d + exp(−d) − 1) with d = ln q − ln p: as Σ q d, for both sum to 1, but no term is
    negative.
    """
    first, second = _log_softmaxes(predicted, representations)
    d, p, q = second - first, jnp.exp(first), jnp.exp(second)
    # The one keeps the digits of small differences, the other doesn't overflow.
    near = q * (d + jnp.expm1(-jnp.clip(d, -1.0, 1.0)))
    return jnp.sum(jnp.maximum(jnp.where(jnp.abs(d) < 1.0, near, p - q + q * d), 0.0), axis=-1)


def _log_softmaxes(
    predicted: Representations, representations: Representations
) -> Float[Array, "2 n_points n_outputs"]:
    """Of both in one array: computed apart they may round differently, and equal ones differ."""
    return jax.nn.log_softmax(jnp.stack([predicted, representations]))


def _whitening(
    covariance: Float[Array, "n_outputs n_outputs"],
) -> Float[Array, "n_outputs n_outputs"]:
    """W with W Wᵀ = S⁺; a column for each eigenvalue, 0 for those that are 0 up to round-off."""
    values, vectors = jnp.linalg.eigh(jnp.asarray(covariance))
    kept = values > len(values) * jnp.finfo(values.dtype).eps * values[-1]
    return vectors * jnp.where(kept, 1 / jnp.sqrt(jnp.where(kept, values, 1.0)), 0.0)[None, :]


def _norms(vectors: Representations, order: float = 2.0) -> Float[Array, " n_points"]:
    scaled, scale, zero = _scaled(vectors)
    norms = jnp.linalg.norm(scaled, ord=order, axis=-1, keepdims=True)
    return jnp.where(zero, 0.0, scale * norms)[..., 0]


def _scaled(
    vectors: Representations,
) -> tuple[Representations, Float[Array, "n_points 1"], Bool[Array, "n_points 1"]]:
    """Each vector over a scale, so that no square under- or overflows; the scale; and which vectors
    are zero.

    The scale, a vector's largest entry, is taken for constant: norms are homogeneous and directions
    don't depend on it, so that the gradients of both stay right. Zero vectors become ones without
    gradient, on which norms have one.
    """
    tiny = jnp.finfo(vectors.dtype).tiny
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(vectors), axis=-1, keepdims=True))
    # Not of 0 alone: a direction's gradient, the inverse of the length, overflows below the
    # smallest normal number.
    zero = largest < tiny
    # XLA multiplies by the inverse, which is flushed to 0 for a scale above 1/tiny.
    scale = jnp.where(zero, 1.0, jnp.minimum(largest, 1 / tiny))
    return jnp.where(zero, 1.0, vectors / scale), scale, zero
