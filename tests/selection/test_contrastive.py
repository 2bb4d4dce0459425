"""Contrastive losses against loops over plain numbers."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close

from collective_variables.selection import contrastive

PREDICTED, REPRESENTATIONS = np.random.default_rng(0).normal(size=(2, 6, 3))
OPTIONS = {"scale": 0.4, "repulsion": 0.3, "confinement": 0.2}
each = pytest.mark.parametrize("name", contrastive.NAMES)

pytestmark = pytest.mark.usefixtures("quick_float64")


def cosine(a, b):
    return (
        sum(x * y for x, y in zip(a, b))
        / math.sqrt(sum(x * x for x in a))
        / math.sqrt(sum(y * y for y in b))
    )


def by_loops(name, predicted, representations, scale, repulsion, confinement):
    """The loss of every point, one number after another."""
    n, losses = len(predicted), []
    for i, a in enumerate(predicted):
        if name == "info-nce":
            likenesses = [math.exp(cosine(a, b) / scale) for b in representations]
            losses.append(-math.log(likenesses[i] / sum(likenesses)))
            continue
        own = sum((x - y) ** 2 for x, y in zip(a, representations[i])) / len(a)
        others = [
            sum(math.exp(-abs(x - y) / scale) for x, y in zip(a, representations[j])) / len(a)
            for j in range(n)
            if j != i
        ]
        bowl = sum(x**4 for x in a) / len(a)
        losses.append(
            own + (repulsion * sum(others) / len(others) if others else 0.0) + confinement * bowl
        )
    return losses


@functools.cache
def compiled(name):
    loss = contrastive.build(name, **OPTIONS)

    def both(predicted, representations, n_points):
        def total(predicted):
            losses = loss(predicted, representations, n_points)
            return jnp.sum(jnp.where(jnp.arange(len(predicted)) < n_points, losses, 0.0)), losses

        return jax.value_and_grad(total, has_aux=True)(predicted)

    return jax.jit(both)


def evaluate(name, predicted, representations, n_points):
    """Losses of all rows, and the gradient of the sum over the points by the predictions."""
    (_, losses), gradient = compiled(name)(predicted, representations, n_points)
    return np.asarray(losses), np.asarray(gradient)


@each
@pytest.mark.parametrize("n_points", [1, 2, 6])
def test_losses_are_those_of_loops_whatever_the_padding(name, n_points):
    expected = by_loops(
        name, PREDICTED[:n_points].tolist(), REPRESENTATIONS[:n_points].tolist(), **OPTIONS
    )
    losses, _ = evaluate(name, PREDICTED, REPRESENTATIONS, n_points)
    np.testing.assert_allclose(losses[:n_points], expected, rtol=1e-13, atol=1e-15)


@each
@pytest.mark.parametrize("n_points", [1, 4])
def test_gradients_are_those_of_finite_differences_and_zero_for_padding(name, n_points):
    _, gradient = evaluate(name, PREDICTED, REPRESENTATIONS, n_points)
    assert (gradient[n_points:] == 0).all()
    step = 1e-5
    for place in np.ndindex(n_points, 3):
        values = []
        for sign in (1, -1):
            moved = PREDICTED[:n_points].copy()
            moved[place] += sign * step
            values.append(
                sum(by_loops(name, moved.tolist(), REPRESENTATIONS[:n_points].tolist(), **OPTIONS))
            )
        assert gradient[place] == pytest.approx((values[0] - values[1]) / (2 * step), abs=1e-8)


def test_a_single_point_has_nothing_to_be_told_from_and_without_points_all_is_finite():
    losses, gradient = evaluate("info-nce", PREDICTED, REPRESENTATIONS, 1)
    assert losses[0] == pytest.approx(0.0, abs=1e-15) and np.abs(gradient).max() < 1e-15
    for name in contrastive.NAMES:
        assert all(
            np.isfinite(array).all() for array in evaluate(name, PREDICTED, REPRESENTATIONS, 0)
        )


def test_the_right_pairs_have_a_smaller_loss_than_exchanged_ones():
    for name in contrastive.NAMES:
        right, _ = evaluate(name, REPRESENTATIONS, REPRESENTATIONS, 6)
        exchanged, _ = evaluate(name, REPRESENTATIONS[::-1].copy(), REPRESENTATIONS, 6)
        assert right.mean() < exchanged.mean()


@each
def test_gradients_are_finite_for_equal_and_for_zero_vectors(name):
    predicted = np.zeros((6, 3))
    for representations in (np.zeros((6, 3)), REPRESENTATIONS):
        assert all(
            np.isfinite(array).all() for array in evaluate(name, predicted, representations, 6)
        )


def test_repulsion_and_confinement_of_zero_leave_the_mean_squared_difference():
    loss = contrastive.build("isolated-potential", repulsion=0.0)
    assert_close(
        loss(PREDICTED, REPRESENTATIONS, 6), np.mean((PREDICTED - REPRESENTATIONS) ** 2, axis=1)
    )


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("triplet", {}, "loss must be one of info-nce, isolated-potential: received 'triplet'."),
        ("info-nce", {"scale": 0.0}, "scale must be greater than 0.0: received 0.0."),
        ("info-nce", {"repulsion": -0.1}, "repulsion must be at least 0.0: received -0.1."),
        (
            "isolated-potential",
            {"confinement": math.inf},
            "confinement must be finite: received inf.",
        ),
    ],
)
def test_wrong_arguments_are_one_error_that_names_them(name, options, message):
    with pytest.raises(ValueError) as caught:
        contrastive.build(name, **options)
    assert str(caught.value) == message
