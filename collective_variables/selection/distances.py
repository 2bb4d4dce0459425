"""Define distances between the representations of a predictor and a target network, for RND."""

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
    """Return one of the distances `NAMES`, a function (predicted, representations) -> (n_points,).

    It serves as the score of points and as a loss. Let a be a prediction and b a representation.

    - mean-squared: the mean over outputs of (a − b)², the distance of Tovey et al. 2023.
    - power: the mean of |a − b|^p with p = `order`, not infinite.
    - exponential: the mean of 1 − exp(−|a − b| / `scale`), which never exceeds 1.
    - lp: ‖a − b‖_p with p = `order` ≥ 1, infinity included.
    - cosine: 1 − cos(a, b), from 0 to 2.
    - angular: the angle between a and b over π, from 0 to 1.
    - hypersphere: ‖a − b‖_p (1 − cos(a, b)) with p = `order`.
    - mahalanobis: √((a − b)ᵀ S⁺ (a − b)). S⁺ is the pseudo-inverse of S = `covariance`, the
      `distances.covariance` of the target's representations of the pool. It ignores differences in
      directions in which the target does not vary, and is 0 everywhere if S is 0. It uses the
      eigenvalues of S above n_outputs machine epsilons of its dtype times the largest one.
    - wasserstein: the earth mover's distance between the softmaxes of a and b. It moves probability
      along the outputs in their order, one step for each: Σ |cumulative difference|.
    - kullback-leibler: the cross-entropy −Σ softmax(b) ln softmax(a) in nats, less that of b with
      itself, which leaves the gradient by a unchanged. It is not symmetric.

    With a single output the softmax is always 1, and the last two distances are always 0.

    Each distance is at least 0, and 0 to round-off for equal vectors. Cosine, angular and
    hypersphere are 0 for all parallel vectors, so with a single output they depend only on the
    sign. A zero vector (all entries below the smallest normal number) has a separate direction that
    is orthogonal to all others. Its cosine distance from any other vector is 1 and its angular
    distance 0.5; both are 0 from another zero vector.

    The dtype is that of the arguments. Gradients are finite unless they overflow. Where no gradient
    exists it is 0: for a norm of 0, and for the direction of a zero vector.

    Args:
        name: One of `NAMES`. Each distance ignores the options that it does not need.
        order: The power or norm p, at least 1, for power, lp and hypersphere.
        scale: The scale of exponential, above 0.
        covariance: S of mahalanobis, which is factorised here, once.

    Returns:
        The distance.

    Raises:
        ValueError: mahalanobis has no covariance.

    Also raises TypeError or ValueError for an unknown name, an order that is not a number of at
    least 1 (finite for power), or a scale that is not above 0.
    """
    check(name, order=order, scale=scale)
    order = float(order)
    scale = float(scale)
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
    """Return the covariance of the outputs over the points, divided by n_points.

    It is exactly 0 if all points are equal. Squares below the smallest normal number of the dtype
    vanish: in float32 those of representations below 1e-19.
    """
    # Relative to the first point, because the mean of equal numbers is not always that number.
    shifted = representations - representations[:1]
    centred = shifted - jnp.mean(shifted, axis=0, keepdims=True)
    return jnp.matmul(centred.T, centred, precision="highest") / len(representations)


def absolute(x: Array) -> Array:
    """Return |x| with the gradient 0 at 0, where `jnp.abs` has the gradient 1."""
    return x * jax.lax.stop_gradient(jnp.sign(x))


def directions(vectors: Representations) -> Float[Array, "n_points n_outputs+1"]:
    """Return unit vectors with one more entry: the direction of zero vectors, and 0 for others."""
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
    """Return 1 − cos as half the squared distance of unit vectors."""
    # This form does not cancel for nearly parallel vectors.
    return jnp.sum((directions(predicted) - directions(representations)) ** 2, axis=-1) / 2


def _angular(
    predicted: Representations, representations: Representations
) -> Float[Array, " n_points"]:
    """Return the angle between unit vectors by Kahan's formula."""
    # It is accurate where the arccosine of their product is not.
    first = directions(predicted)
    second = directions(representations)
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
    """Return Σ q (d + exp(−d) − 1) with d = ln q − ln p."""
    # It equals Σ q d, because p and q both sum to 1, but no term is negative.
    first, second = _log_softmaxes(predicted, representations)
    d = second - first
    p = jnp.exp(first)
    q = jnp.exp(second)
    # The first form keeps the digits of small differences, the second does not overflow.
    near = q * (d + jnp.expm1(-jnp.clip(d, -1.0, 1.0)))
    return jnp.sum(jnp.maximum(jnp.where(jnp.abs(d) < 1.0, near, p - q + q * d), 0.0), axis=-1)


def _log_softmaxes(
    predicted: Representations, representations: Representations
) -> Float[Array, "2 n_points n_outputs"]:
    """Return both in one array: separately, equal vectors could be rounded differently."""
    return jax.nn.log_softmax(jnp.stack([predicted, representations]))


def _whitening(
    covariance: Float[Array, "n_outputs n_outputs"],
) -> Float[Array, "n_outputs n_outputs"]:
    """Return W with W Wᵀ = S⁺; the columns of eigenvalues that are 0 up to round-off are 0."""
    values, vectors = jnp.linalg.eigh(jnp.asarray(covariance))
    is_large = values > len(values) * jnp.finfo(values.dtype).eps * values[-1]
    roots = jnp.sqrt(jnp.where(is_large, values, 1.0))
    return vectors * jnp.where(is_large, 1 / roots, 0.0)[None, :]


def _norms(vectors: Representations, order: float = 2.0) -> Float[Array, " n_points"]:
    scaled, scale, zero = _scaled(vectors)
    norms = jnp.linalg.norm(scaled, ord=order, axis=-1, keepdims=True)
    return jnp.where(zero, 0.0, scale * norms)[..., 0]


def _scaled(
    vectors: Representations,
) -> tuple[Representations, Float[Array, "n_points 1"], Bool[Array, "n_points 1"]]:
    """Return each vector divided by a scale, the scale, and which vectors are zero.

    The scale is a vector's largest entry, so that no square under- or overflows. It is treated as a
    constant: norms are homogeneous and directions do not depend on it, so the gradients of both
    stay right. Zero vectors become vectors of ones, at which norms have a gradient.
    """
    tiny = jnp.finfo(vectors.dtype).tiny
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(vectors), axis=-1, keepdims=True))
    # Tiny vectors count as zero too: the gradient of their direction, the inverse of their length,
    # would overflow.
    zero = largest < tiny
    # XLA multiplies by the inverse, which would be flushed to 0 for a scale above 1/tiny.
    scale = jnp.where(zero, 1.0, jnp.minimum(largest, 1 / tiny))
    return jnp.where(zero, 1.0, vectors / scale), scale, zero
