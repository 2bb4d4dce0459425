"""`select` by a rule for batches is the rule on the features of the kernel."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collective_variables.ensembles import seeding
from collective_variables.kernels import empirical, infinite_width
from collective_variables.kernels.features import sketches
from collective_variables.networks import parameters, sequential
from collective_variables.selection import coverage, registry
from collective_variables.selection.batches import features as pivoted
from collective_variables.selection.batches import kernels, methods, uncertainty
from collective_variables.selection.batches.first_batch import max_herding, prob_cover, typiclust
from collective_variables.selection.batches.rules import (
    bait,
    frank_wolfe,
    k_means_plus_plus,
    lcmd,
    max_det,
    max_diag,
    max_dist,
)

pytestmark = pytest.mark.usefixtures("quick_float64")

RULES = {
    "max-diag": max_diag.max_diag,
    "max-det": max_det.max_det,
    "max-dist": max_dist.max_dist,
    "bait": bait.bait,
    "frank-wolfe": frank_wolfe.frank_wolfe,
    "lcmd": lcmd.lcmd,
    "typiclust": typiclust.typiclust,
    "prob-cover": prob_cover.prob_cover,
    "max-herding": max_herding.max_herding,
    "k-means++": k_means_plus_plus.k_means_plus_plus,
}
OPTIONS = {
    "max-diag": {"noise": 0.5},
    "max-det": {"noise": 0.5},
    "bait": {"noise": 0.5},
    "frank-wolfe": {"noise": 0.5},
    "typiclust": {"n_neighbours": 2},
    "prob-cover": {"radius": 0.7},
    "max-herding": {"bandwidth": 0.3},
}
PREDICTIONS = {
    "margin": uncertainty.margin,
    "predictive-entropy": uncertainty.predictive_entropy,
    "ensemble-variance": uncertainty.ensemble_variance,
}
POOL = np.random.default_rng(0).normal(size=(20, 3))
LABELLED = [7, 2, 16]
KEY = jax.random.key(5)
NETWORK = sequential.build_network(["dense 5", "dense 2"], parametrisation="ntk", b_std=0.3)
PARAMS = jax.tree.map(
    lambda leaf: np.asarray(leaf, np.float64), NETWORK.init(jax.random.key(1), jnp.ones((1, 3)))
)
NTK = {"kernel": "ntk", "params": PARAMS, "network": NETWORK}

every_rule = pytest.mark.parametrize("method", RULES)


def select(method, n=5, pool=POOL, **options):
    options = {"kernel": "linear", "members": 2, "key": KEY} | options
    return registry.select(pool, n, method=method, **options).indices


def directly(method, features, n, labelled, **options):
    """The rows of two members by the rule itself."""
    rule = RULES[method]
    seeds = np.asarray(jax.random.key_data(seeding.member_keys(KEY, 2)))
    draws = "seed" in inspect.signature(rule).parameters
    return [
        rule(features, n, labelled, **options, **({"seed": seed} if draws else {})).tolist()
        for seed in seeds
    ]


def test_every_rule_and_baseline_is_registered():
    assert set(methods.METHODS) == {*RULES, *PREDICTIONS} - {"k-means++"}
    assert set(methods.METHODS) < set(registry.SELECTION_METHODS)


@every_rule
@pytest.mark.parametrize("labelled", [[], LABELLED], ids=str)
def test_a_method_is_the_rule_on_the_points(method, labelled):
    for options in ({}, OPTIONS.get(method, {})):
        expected = directly(method, POOL, 5, labelled, **options)
        assert select(method, labelled=labelled, **options).tolist() == expected


@every_rule
def test_labelled_rows_come_first_as_they_were_given(method):
    options = {"labelled": LABELLED, "kernel": "linear"}
    problem = registry.Problem(POOL, POOL[:, :2], "regression", NETWORK, 3)
    selection = registry.select_by(method, problem, registry.Budget(6, 2), options)
    assert selection.indices[:, :3].tolist() == [LABELLED] * 2
    assert np.isnan(selection.distances).all() and selection.distances.shape == (2, 6)


MATRIX = np.exp(-((POOL[:, None] - POOL) ** 2).sum(axis=2))


def rbf(x1, x2):
    return np.exp(-((x1[:, None] - x2) ** 2).sum(axis=2))


@pytest.mark.parametrize("method", ["lcmd", "bait", "typiclust", "k-means++"])
@pytest.mark.parametrize("kernel", [MATRIX, jnp.asarray(MATRIX, jnp.float32), rbf])
def test_a_matrix_or_a_function_of_points_is_a_kernel(method, kernel):
    matrix = MATRIX if kernel is rbf else kernel
    features = pivoted.from_kernel(matrix, 20, 20).features
    np.testing.assert_allclose(features @ features.T, MATRIX, rtol=0, atol=1e-4)
    expected = directly(method, features, 5, LABELLED)
    assert select(method, labelled=LABELLED, kernel=kernel).tolist() == expected
    few = pivoted.from_kernel(matrix, 20, 3).features
    chosen = select(method, labelled=LABELLED, kernel=kernel, n_features=3)
    assert chosen.tolist() == directly(method, few, 5, LABELLED)


@pytest.mark.parametrize("method", ["lcmd", "k-means++"])
def test_kernels_of_a_network_are_those_of_the_library(method):
    exact = empirical.empirical_ntk(NETWORK.apply, PARAMS, POOL)
    limit = infinite_width.infinite_width_ntk(["dense 1"] * 2, POOL, b_std=0.3)
    for kernel, options in (
        (exact, NTK),
        (limit, {"kernel": "infinite-width", "network": NETWORK}),
    ):
        features = pivoted.from_kernel(kernel, 20, 20).features
        expected = directly(method, features, 5, LABELLED)
        assert select(method, labelled=LABELLED, **options).tolist() == expected


def test_a_sketch_follows_from_the_key_and_shares_nothing_with_the_rule():
    sketch_key = jax.random.fold_in(KEY, methods.SKETCH)
    features = sketches.ntk_features(NETWORK.apply, PARAMS, POOL, 8, key=sketch_key)
    for method in ("lcmd", "k-means++"):
        chosen = select(method, **NTK | {"kernel": "sketch"}, n_features=8)
        assert chosen.tolist() == directly(method, features, 5, [])
    taken = [*jax.random.key_data(seeding.member_keys(KEY, 100)).tolist()]
    taken.append(jax.random.key_data(jax.random.fold_in(KEY, seeding.MAX_SEED)).tolist())
    assert jax.random.key_data(sketch_key).tolist() not in taken


@pytest.mark.parametrize("kernel", ["ntk", "sketch"])
def test_without_params_every_member_has_its_untrained_network(kernel):
    keys = jax.random.split(jax.random.key(8), 3)
    options = {"kernel": kernel, "network": NETWORK, "initialisation_keys": keys, "n_features": 8}
    chosen = select("lcmd", members=3, **options)
    sketch_keys = seeding.member_keys(jax.random.fold_in(KEY, methods.SKETCH), 3)
    for rows, key, sketch_key in zip(chosen.tolist(), keys, sketch_keys):
        params = parameters.initialise(NETWORK, key, jnp.asarray(POOL))
        features = kernels.features(
            POOL, kernel, network=NETWORK, params=params, n_features=8, key=sketch_key
        )
        assert rows == lcmd.lcmd(features, 5).tolist()
    assert len(set(map(tuple, chosen.tolist()))) > 1
    alone = select("lcmd", members=1, **options | {"initialisation_keys": keys[:1]})
    assert alone.tolist() == chosen[:1].tolist()


def test_features_that_members_share_are_computed_once(monkeypatch):
    calls = []
    compute = kernels.features
    monkeypatch.setattr(
        kernels, "features", lambda *values, **names: calls.append(1) or compute(*values, **names)
    )
    rows = select("typiclust", members=3, **NTK)
    assert len(calls) == 1 and rows.shape == (3, 5)


def test_k_means_plus_plus_without_a_kernel_is_that_of_the_coverage():
    for labelled in ([], LABELLED):
        expected = coverage.k_means_plus_plus(
            POOL, n_selected=5 + len(labelled), key=KEY, n_members=2, labelled=labelled
        ).indices[:, len(labelled) :]
        chosen = registry.select(
            POOL, 5, method="k-means++", key=KEY, members=2, labelled=labelled
        ).indices
        np.testing.assert_array_equal(chosen, expected)
        np.testing.assert_array_equal(select("k-means++", labelled=labelled, kernel=None), expected)


@every_rule
def test_a_label_on_top_of_the_farthest_row_changes_the_choice(method):
    """The row that is chosen first gets a copy, and the copy is labelled.

    Margin, entropy and variance are left out: they look at each prediction alone, and at labels not
    at all.
    """
    options = {"n_neighbours": 2} if method == "typiclust" else {}
    far = np.concatenate([POOL, 8.0 + 0.1 * POOL[:6]])
    before = select(method, 2, far, members=1, **options)[0].tolist()
    pool = np.concatenate([far, far[before[:1]]])
    after = select(method, 2, pool, members=1, labelled=[len(far)], **options)[0].tolist()
    assert before[0] not in after
    unlabelled = select(method, 2, pool, members=1, **options)[0].tolist()
    assert after != unlabelled


def test_an_option_with_a_number_for_each_point_reaches_the_rule():
    weights = np.random.default_rng(2).uniform(size=20)
    expected = lcmd.lcmd(POOL, 5, LABELLED, weights=weights).tolist()
    assert select("lcmd", labelled=LABELLED, weights=weights).tolist() == [expected] * 2


@pytest.mark.parametrize("method", PREDICTIONS)
def test_predictions_choose_the_same_for_every_member(method):
    predictions = np.random.default_rng(1).dirichlet(np.ones(3), size=(4, 20))
    expected = PREDICTIONS[method](predictions, 5, LABELLED).tolist()
    chosen = registry.select(
        POOL, 5, method=method, key=KEY, members=2, labelled=LABELLED, predictions=predictions
    ).indices
    assert chosen.tolist() == [expected] * 2
    with pytest.raises(ValueError) as caught:
        registry.select(POOL[:19], 5, method=method, key=KEY, predictions=predictions)
    assert str(caught.value) == (
        "predictions must have a row for each of the 19 points: received the shape (4, 20, 3)."
    )


@pytest.mark.parametrize(
    "method, options, message",
    [
        ("lcmd", {"kernel": "ntk"}, "network must be given for the kernel ntk: received None."),
        ("lcmd", {"kernel": "rbf"}, "kernel must be one of infinite-width, linear, ntk, sketch"),
        ("lcmd", {"kernel": MATRIX[:5]}, "(20, 20): received the shape (5, 20)."),
        ("lcmd", {"noise": 1.0}, "Options of lcmd are labelled, kernel, params, n_features"),
        ("bait", {"noise": 0.0}, "noise must be greater than 0.0: received 0.0."),
        ("typiclust", {"n_neighbours": 0}, "n_neighbours must be at least 1: received 0."),
        ("k-means++", {"kernel": None, "n_features": 3}, "n_features needs a kernel: received"),
        ("k-means++", {"kernel": None, "params": PARAMS}, "params needs a kernel: received"),
        (
            "lcmd",
            {"kernel": "ntk", "network": NETWORK, "initialisation_keys": KEY},
            "initialisation_keys must have the shape (2,), for networks without params: received",
        ),
    ],
)
def test_wrong_options_are_one_error_before_a_kernel_is_computed(
    method, options, message, monkeypatch
):
    monkeypatch.setattr(kernels, "features", None)
    with pytest.raises((ValueError, TypeError), match=re.escape(message)) as caught:
        select(method, **options)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "method", [name for name, known in registry.OPTIONS.items() if "kernel" in known]
)
def test_every_rule_names_a_kernel_of_zeros(method):
    with pytest.raises(ValueError, match="kernel must have K\\(x, x\\) > 0 .* received a matrix"):
        select(method, kernel=np.zeros((20, 20)))
