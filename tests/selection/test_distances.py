"""Distances against loops over plain numbers, and at the places where a simpler formula fails."""

import functools
import math
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close
from scipy import special, stats

from collective_variables.selection import distances

GENERATOR = np.random.default_rng(0)
PREDICTED, TARGET = GENERATOR.normal(size=(2, 40, 4))
A, B = PREDICTED.astype(np.float32), TARGET.astype(np.float32)
COVARIANCE = np.cov(TARGET.T, bias=True)
SCALE = 0.7
DIRECTIONAL = [("cosine", 2.0), ("angular", 2.0), ("hypersphere", 2.0), ("hypersphere", math.inf)]
HOMOGENEOUS = [*(("lp", order) for order in (1, 1.5, 2.0, math.inf)), *DIRECTIONAL]
ELEMENTWISE = [
    ("mean-squared", 2.0),
    *(("power", order) for order in (1, 1.5, 2.0, 3.0)),
    ("exponential", 2.0),
]
OF_SOFTMAXES = [("wasserstein", 2.0), ("kullback-leibler", 2.0)]
CASES = [*ELEMENTWISE, *HOMOGENEOUS, ("mahalanobis", 2.0), *OF_SOFTMAXES]
each = pytest.mark.parametrize("name, order", CASES)


@functools.cache
def compiled(name, order):
    def both(covariance, *pair):
        distance = distances.build(name, order=order, scale=SCALE, covariance=covariance)
        return distance(*pair), jax.grad(lambda *pair: jnp.sum(distance(*pair)), argnums=(0, 1))(
            *pair
        )

    return jax.jit(both)


def evaluate(name, order, predicted, representations, covariance=COVARIANCE):
    """Distances, and the gradients of their sum by both arguments; the covariance is cast to their
    dtype.
    """
    values, gradients = compiled(name, order)(
        covariance.astype(predicted.dtype), predicted, representations
    )
    return np.asarray(values), np.asarray(gradients)


def distance(name, *arguments, order=2.0):
    return evaluate(name, order, *arguments)[0]


def norm(a, order):
    return (
        max(map(abs, a))
        if order == math.inf
        else math.fsum(abs(x) ** order for x in a) ** (1 / order)
    )


def inner(a, b):
    return math.fsum(x * y for x, y in zip(a, b))


def pair_distance(name, order, inverse, a, b):
    """One distance between two lists of numbers, neither of them zero."""
    difference = [x - y for x, y in zip(a, b)]
    p, q = ([math.exp(x) / math.fsum(map(math.exp, vector)) for x in vector] for vector in (a, b))
    cosine = inner(a, b) / norm(a, 2) / norm(b, 2)
    return {
        "mean-squared": lambda: statistics.fmean(x**2 for x in difference),
        "power": lambda: statistics.fmean(abs(x) ** order for x in difference),
        "exponential": lambda: statistics.fmean(1 - math.exp(-abs(x) / SCALE) for x in difference),
        "lp": lambda: norm(difference, order),
        "cosine": lambda: 1 - cosine,
        "angular": lambda: math.acos(cosine) / math.pi,
        "hypersphere": lambda: norm(difference, order) * (1 - cosine),
        "mahalanobis": lambda: math.sqrt(
            inner(difference, [inner(row, difference) for row in inverse])
        ),
        "wasserstein": lambda: stats.wasserstein_distance(range(len(a)), range(len(a)), p, q),
        "kullback-leibler": lambda: stats.entropy(q, p),
    }[name]()


def reference(name, order, predicted, representations, covariance=COVARIANCE):
    inverse = np.linalg.pinv(covariance, rcond=1e-6, hermitian=True).tolist()
    rows = (array.astype(np.float64).tolist() for array in (predicted, representations))
    return [pair_distance(name, order, inverse, a, b) for a, b in zip(*rows)]


# values


@each
def test_every_distance_is_that_of_plain_numbers(name, order):
    actual = distance(name, A, B, order=order)
    assert actual.dtype == np.float32
    assert_close(actual, reference(name, order, A, B))


@each
def test_in_float64_distances_are_those_of_plain_numbers_and_gradients_their_slopes(
    quick_float64, name, order
):
    pair, step = np.stack([PREDICTED, TARGET]), 1e-5
    values, gradients = evaluate(name, order, *pair)
    assert values.dtype == np.float64
    assert_close(values, reference(name, order, *pair))
    for side, output in np.ndindex(2, 4):
        shift = np.zeros((2, 1, 4))
        shift[side, 0, output] = step
        ends = (reference(name, order, *(pair + sign * shift)) for sign in (1, -1))
        np.testing.assert_allclose(
            gradients[side, :, output], np.subtract(*ends) / (2 * step), rtol=1e-5, atol=1e-8
        )


KNOWN = {
    "equal": ([3, 4, 0, 0], [3, 4, 0, 0]),
    "parallel": ([3, 4, 0, 0], [6, 8, 0, 0]),
    "orthogonal": ([3, 4, 0, 0], [-4, 3, 0, 0]),
    "opposite": ([3, 4, 0, 0], [-3, -4, 0, 0]),
    "one zero": ([3, 4, 0, 0], [0, 0, 0, 0]),
    "other zero": ([0, 0, 0, 0], [3, 4, 0, 0]),
    "both zero": ([0, 0, 0, 0], [0, 0, 0, 0]),
}


@pytest.mark.parametrize(
    "name, order, expected",
    [
        ("mean-squared", 2.0, [0, 6.25, 12.5, 25, 6.25, 6.25, 0]),
        ("power", 1, [0, 1.75, 2, 3.5, 1.75, 1.75, 0]),
        ("power", 3.0, [0, 22.75, 86, 182, 22.75, 22.75, 0]),
        ("lp", 1, [0, 7, 8, 14, 7, 7, 0]),
        ("lp", 2.0, [0, 5, math.sqrt(50), 10, 5, 5, 0]),
        ("lp", math.inf, [0, 4, 7, 8, 4, 4, 0]),
        ("cosine", 2.0, [0, 0, 1, 2, 1, 1, 0]),
        ("angular", 2.0, [0, 0, 0.5, 1, 0.5, 0.5, 0]),
        ("hypersphere", 2.0, [0, 0, math.sqrt(50), 20, 5, 5, 0]),
        ("hypersphere", math.inf, [0, 0, 7, 16, 4, 4, 0]),
        (
            "mahalanobis",
            2.0,
            [0, math.sqrt(13), math.sqrt(49.25), math.sqrt(52), math.sqrt(13), math.sqrt(13), 0],
        ),
    ],
)
def test_equal_parallel_orthogonal_opposite_and_zero_vectors_have_the_known_distances(
    name, order, expected
):
    pair = np.zeros((2, 40, 4), np.float32)  # zeros behind: the shape that is compiled already
    pair[:, :7] = np.swapaxes(list(KNOWN.values()), 0, 1)
    actual = distance(name, *pair, np.diag([1.0, 4.0, 1.0, 1.0]), order=order)
    assert_close(actual[:7], expected, operations=4)
    np.testing.assert_array_equal(actual[6:], 0.0)


@pytest.mark.parametrize("name, farthest", [("cosine", 2.0), ("angular", 1.0)])
def test_opposite_vectors_are_the_farthest_and_not_equal_as_in_the_authors_package(name, farthest):
    assert_close(distance(name, A, -A), np.full(40, farthest))
    assert_close(distance(name, A, B) + distance(name, A, -B), np.full(40, farthest))


@each
def test_distances_are_symmetric_and_never_negative_and_zero_to_round_off_for_equal_vectors(
    name, order
):
    there, back = distance(name, A, B, order=order), distance(name, B, A, order=order)
    if name != "kullback-leibler":
        assert_close(there, back, operations=4)
    equal, near = (distance(name, A, other, order=order) for other in (A, A * np.float32(1 + 2e-7)))
    assert min(there.min(), equal.min(), near.min()) >= 0
    assert equal.max() <= np.finfo(np.float32).eps
    if name not in (
        "cosine",
        "angular",
    ):  # whose unit vectors a compiled function may round differently
        np.testing.assert_array_equal(equal, 0.0)


@pytest.mark.parametrize("name", ["cosine", "angular"])
@pytest.mark.parametrize("angle", [1e-3, 1e-4, 1e-5])
def test_small_angles_keep_digits_in_float32_where_the_naive_formula_has_none(name, angle):
    units = PREDICTED / np.linalg.norm(PREDICTED, axis=1)[:, None]
    normal = TARGET - np.sum(TARGET * units, axis=1)[:, None] * units
    normal /= np.linalg.norm(normal, axis=1)[:, None]
    a, b = (
        (2 * units).astype(np.float32),
        (3 * (math.cos(angle) * units + math.sin(angle) * normal)).astype(np.float32),
    )
    exact = [
        array.astype(np.float64) / np.linalg.norm(array.astype(np.float64), axis=1)[:, None]
        for array in (a, b)
    ]
    angles = 2 * np.arcsin(
        np.linalg.norm(exact[0] - exact[1], axis=1) / 2
    )  # those that rounding to float32 has left
    cosines = np.sum(a * b, axis=1) / np.sqrt(np.sum(a**2, axis=1) * np.sum(b**2, axis=1))
    expected, naive = {
        "cosine": (2 * np.sin(angles / 2) ** 2, 1 - cosines),
        "angular": (angles / math.pi, np.arccos(np.minimum(cosines, 1.0)) / math.pi),
    }[name]
    allowed = 4 * np.finfo(np.float32).eps / angle
    assert np.abs(distance(name, a, b) / expected - 1).max() < allowed
    assert naive.dtype == np.float32 and np.abs(naive / expected - 1).max() > 20 * allowed


@pytest.mark.parametrize("name, order", HOMOGENEOUS)
@pytest.mark.parametrize("scale", [np.float32(2.0**-100), np.float32(2.0**100)])
def test_tiny_and_huge_vectors_keep_their_distances_where_their_squares_leave_float32(
    name, order, scale
):
    factor = scale if name in ("lp", "hypersphere") else np.float32(1.0)
    values, gradients = evaluate(name, order, scale * A, scale * B)
    expected_values, expected_gradients = evaluate(name, order, A, B)
    assert_close(values / factor, expected_values)
    assert_close(gradients * (scale / factor), expected_gradients)
    with np.errstate(over="ignore", under="ignore"):
        assert np.isin(np.sum((scale * A) ** 2, axis=1), (0.0, np.inf)).all()


@pytest.mark.parametrize("name", ["lp", "cosine", "angular"])
def test_vectors_whose_inverse_is_below_the_smallest_normal_number_keep_their_distances(name):
    scale = np.float32(2.0**127)
    a, b = (array / np.abs(array).max(axis=1)[:, None] for array in (A, B))
    b = a / 2 + b / 8
    factor = scale if name == "lp" else np.float32(1.0)
    assert_close(distance(name, scale * a, scale * b) / factor, distance(name, a, b))


@pytest.mark.parametrize("name, order", DIRECTIONAL)
def test_a_vector_below_the_smallest_normal_number_is_a_zero_vector(name, order):
    tiny, zero = np.full_like(A, 1e-39), np.zeros_like(A)
    for pair, ordinary in (
        ((A, tiny), (A, zero)),
        ((tiny, A), (zero, A)),
        ((tiny, -tiny), (zero, zero)),
    ):
        values, gradients = evaluate(name, order, *pair)
        assert_close(values, distance(name, *ordinary, order=order))
        assert np.isfinite(gradients).all()


def test_the_exponential_distance_grows_with_the_difference_unlike_in_the_authors_package():
    values = [
        distance("exponential", A, A + np.float32(shift))[0] for shift in (0.0, 0.1, 1.0, 100.0)
    ]
    assert values[0] == 0 and values == sorted(values) and values[-1] == 1


def test_wasserstein_knows_which_output_is_which():
    """The authors' package takes the softmaxes for samples, of which a permutation has the same."""
    certain = 50 * np.eye(4, dtype=np.float32)[[0, 0, 0, 3]]
    moved = 50 * np.eye(4, dtype=np.float32)[[0, 1, 3, 0]]
    pair = np.zeros((2, 40, 4), np.float32)
    pair[:, :4] = certain, moved
    assert_close(distance("wasserstein", *pair)[:4], [0, 1, 3, 3])


def test_kullback_leibler_has_the_gradient_of_the_cross_entropy(quick_float64):
    def cross_entropy(predicted):
        return -jnp.sum(jax.nn.softmax(TARGET) * jax.nn.log_softmax(predicted))

    gradients = evaluate("kullback-leibler", 2.0, PREDICTED, TARGET)[1][0]
    assert_close(gradients, np.asarray(jax.grad(cross_entropy)(PREDICTED)), operations=1000)


@pytest.mark.parametrize("shift", [1e-3, 1e-2, 300.0])
def test_kullback_leibler_keeps_digits_of_near_distributions_and_is_finite_for_far_ones(shift):
    near = (A + np.float32(shift) * B).astype(np.float32)
    values, gradients = evaluate("kullback-leibler", 2.0, near, A)
    with np.errstate(under="ignore"):
        logarithms = [
            array.astype(np.float64) - special.logsumexp(array.astype(np.float64), axis=1)[:, None]
            for array in (near, A)
        ]
        expected = np.sum(np.exp(logarithms[1]) * (logarithms[1] - logarithms[0]), axis=1)
    np.testing.assert_allclose(values, expected, rtol=2e-3)
    assert np.isfinite(gradients).all()


# gradients, members


@each
@pytest.mark.parametrize(
    "place", ["equal", "opposite", "one zero", "other zero", "both zero", "on an axis"]
)
def test_gradients_are_finite_at_every_kink(name, order, place):
    zero, axis = np.zeros_like(A), np.eye(4, dtype=np.float32)[np.zeros(40, int)]
    pair = {
        "equal": (A, A),
        "opposite": (A, -A),
        "one zero": (A, zero),
        "other zero": (zero, A),
        "both zero": (zero, zero),
        "on an axis": (axis, 2 * axis),
    }[place]
    _, gradients = evaluate(name, order, *pair)
    assert np.isfinite(gradients).all()
    if place == "both zero" or (place == "equal" and name not in ("cosine", "angular")):
        np.testing.assert_array_equal(gradients, 0.0)


def test_the_plain_length_has_no_gradient_between_equal_vectors():
    gradient = jax.grad(lambda a, b: jnp.sum(jnp.sqrt(jnp.sum((a - b) ** 2, axis=1))))(
        jnp.asarray(A), jnp.asarray(A)
    )
    assert np.isnan(gradient).all()


@pytest.mark.parametrize("name", distances.NAMES)
def test_members_in_one_compiled_function_have_the_distances_of_each_alone(name):
    def member_distances(predicted, representations):
        covariance = distances.covariance(representations) if name == "mahalanobis" else None
        return distances.build(name, scale=SCALE, covariance=covariance)(predicted, representations)

    expected = [distance(name, a, b, np.cov(b.T, bias=True)) for a, b in ((A, B), (B, A))]
    assert_close(jax.jit(jax.vmap(member_distances))(np.stack([A, B]), np.stack([B, A])), expected)


# Mahalanobis


@pytest.mark.parametrize("n_points", [1, 40])
def test_the_covariance_is_that_of_numpy(n_points):
    representations = B[:n_points] + np.float32(3.0)
    expected = np.cov(representations.T.astype(np.float64), bias=True)
    assert_close(distances.covariance(jnp.asarray(representations)), expected)


def test_mahalanobis_with_fewer_points_than_outputs_takes_the_pseudo_inverse():
    predicted, representations = GENERATOR.normal(size=(2, 5, 9)).astype(np.float32)
    covariance = np.cov(representations.T.astype(np.float64), bias=True)
    assert np.linalg.matrix_rank(covariance, rtol=1e-6) == 4
    actual = distance(
        "mahalanobis",
        predicted,
        representations,
        distances.covariance(jnp.asarray(representations)),
    )
    assert_close(actual, reference("mahalanobis", 2.0, predicted, representations, covariance))


def test_mahalanobis_is_the_same_for_every_invertible_map_of_the_representations(quick_float64):
    mapping = GENERATOR.normal(size=(4, 4))
    mapped = PREDICTED @ mapping, TARGET @ mapping
    actual = distance("mahalanobis", *mapped, mapping.T @ COVARIANCE @ mapping)
    np.testing.assert_allclose(actual, distance("mahalanobis", PREDICTED, TARGET), rtol=1e-10)
    assert not np.allclose(distance("lp", *mapped), distance("lp", PREDICTED, TARGET), rtol=0.1)


def test_mahalanobis_of_an_isotropic_covariance_is_the_length_over_its_standard_deviation():
    assert_close(distance("mahalanobis", A, B, 9 * np.eye(4)), distance("lp", A, B) / 3)


def test_mahalanobis_does_not_see_directions_in_which_the_target_does_not_vary():
    constant, shift = np.where(np.arange(4) == 3, np.float32(0.1), B), np.float32([0, 0, 0, 5])
    covariance = distances.covariance(jnp.asarray(constant))
    expected = distance("mahalanobis", A, constant, covariance)
    assert_close(distance("mahalanobis", A + shift, constant, covariance), expected)
    assert (expected > 0).all()


def test_mahalanobis_of_equal_representations_is_zero_with_a_gradient_of_zero():
    equal = np.full_like(A, 0.1)
    assert (
        jnp.mean(jnp.asarray(equal), axis=0)[0] != equal[0, 0]
    )  # deviations from the rounded mean leave a covariance
    values, gradients = evaluate(
        "mahalanobis", 2.0, A, equal, distances.covariance(jnp.asarray(equal))
    )
    np.testing.assert_array_equal(values, 0.0)
    np.testing.assert_array_equal(gradients, 0.0)


def test_a_covariance_in_float64_leaves_the_distance_in_the_dtype_of_its_arguments(quick_float64):
    actual = distances.build("mahalanobis", covariance=COVARIANCE)(jnp.asarray(A), jnp.asarray(B))
    assert_close(actual, reference("mahalanobis", 2.0, A, B))
    assert actual.dtype == jnp.float32


# options


@pytest.mark.parametrize("name", distances.NAMES)
def test_an_order_and_a_covariance_change_only_the_distances_that_use_them_compiled_or_not(name):
    order = 3.0 if name == "power" else math.inf
    changed = distances.build(
        name, order=order, scale=SCALE, covariance=9 * COVARIANCE.astype(np.float32)
    )
    values = changed(jnp.asarray(A), jnp.asarray(B))
    plain = distance(name, A, B)
    if name in ("lp", "hypersphere", "power"):
        assert_close(values, distance(name, A, B, order=order))
        assert not np.allclose(values, plain)
    else:
        assert_close(values, plain / 3 if name == "mahalanobis" else plain)


@pytest.mark.parametrize(
    "name, options, error, message",
    [
        (
            "euclidean",
            {},
            ValueError,
            "distance must be one of angular, cosine, exponential, hypersphere, kullback-leibler, "
            "lp, mahalanobis, mean-squared, power, wasserstein: received 'euclidean'.",
        ),
        (
            2,
            {},
            TypeError,
            "distance must be one of angular, cosine, exponential, hypersphere, kullback-leibler, "
            "lp, mahalanobis, mean-squared, power, wasserstein: received 2.",
        ),
        ("lp", {"order": 0.5}, ValueError, "order must be at least 1.0: received 0.5."),
        ("lp", {"order": math.nan}, ValueError, "order must be finite: received nan."),
        ("power", {"order": math.inf}, ValueError, "order must be finite: received inf."),
        (
            "exponential",
            {"scale": 0.0},
            ValueError,
            "scale must be greater than 0.0: received 0.0.",
        ),
        ("hypersphere", {"order": True}, TypeError, "order must be a number: received True."),
        ("cosine", {"order": None}, TypeError, "order must be a number: received None."),
        (
            "lp",
            {"order": "inf"},
            TypeError,
            "order must be a number: received 'inf'. YAML reads 1e-3 as text: write 0.001.",
        ),
        (
            "mahalanobis",
            {},
            ValueError,
            "covariance must be given for the distance mahalanobis: received None.",
        ),
    ],
)
def test_wrong_options_are_one_error_that_names_them(name, options, error, message):
    with pytest.raises(error) as caught:
        distances.build(name, **options)
    assert isinstance(caught.value, error) and str(caught.value) == message
