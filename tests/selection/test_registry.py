import ast
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collective_variables.ensembles import seeding
from collective_variables.networks import sequential
from collective_variables.selection import (
    base,
    by_kernel,
    coverage,
    registry,
    rnd,
    rnd_linearised,
    stratified,
)

pytestmark = pytest.mark.usefixtures("quick_float64")

GENERATOR = np.random.default_rng(0)
INPUTS = GENERATOR.normal(size=(24, 4))
CLASSES = np.arange(24) % 3
NETWORK = sequential.build_network(["dense 5", "dense 3"], parametrisation="ntk")
PROBLEM = registry.Problem(INPUTS, np.eye(3)[CLASSES], "classification", NETWORK, 7)
REGRESSION = PROBLEM._replace(targets=INPUTS[:, :3], task="regression")
BUDGET = registry.Budget(6, 2)
PREDICTIONS = {"predictions": GENERATOR.dirichlet(np.ones(3), size=(2, 24))}
QUICK = {
    "rnd": {"n_epochs": 3},
    "best-entropy": {"n_sets": 4},
    "margin": PREDICTIONS,
    "predictive-entropy": PREDICTIONS,
    "ensemble-variance": PREDICTIONS,
}
# The choices of these fit the whole batch, whose size decides on clusters.
NOT_NESTED = ("typiclust", "prob-cover")
KEY = jax.random.key(5)
LABELLED = [3, 20, 8]


def chosen(method, problem=PROBLEM, budget=BUDGET, **options):
    return registry.select_by(method, problem, budget, QUICK.get(method, {}) | options)


def assert_equal(selection, expected):
    for name in ("indices", "distances", "mean_distances", "max_distances"):
        np.testing.assert_array_equal(getattr(selection, name), getattr(expected, name))


every_method = pytest.mark.parametrize("method", registry.SELECTION_METHODS)


@every_method
def test_every_method_chooses_rows_of_the_pool_without_repeats_and_again_the_same(method):
    selection = chosen(method)
    assert selection.indices.shape == selection.distances.shape == (2, 6)
    for row in selection.indices.tolist():
        assert len(set(row)) == 6 and set(row) <= set(range(24))
    assert_equal(chosen(method), selection)


@every_method
def test_one_member_is_the_first_of_several(method):
    alone = chosen(method, budget=BUDGET._replace(n_members=1))
    np.testing.assert_array_equal(alone.indices, chosen(method).indices[:1])


def key(purpose):
    return seeding.key(7, purpose)


def test_methods_are_the_functions_that_the_docstring_names():
    size = {"n_selected": 6, "n_members": 2}
    initial = {
        "n_selected": 6,
        "key": key("selection"),
        "initialisation_keys": seeding.member_keys(key("initialisation"), 2),
    }
    assert_equal(chosen("random"), base.random(24, key=key("subsets"), **size))
    assert_equal(
        chosen("stratified"), stratified.stratified(PROBLEM.targets, key=key("selection"), **size)
    )
    assert_equal(chosen("k-center"), coverage.k_center(INPUTS, key=key("selection"), **size))
    assert_equal(
        chosen("k-means++"), coverage.k_means_plus_plus(INPUTS, key=key("selection"), **size)
    )
    assert_equal(
        chosen("kernel-herding"), coverage.kernel_herding(INPUTS, key=key("selection"), **size)
    )
    assert_equal(
        chosen("facility-location"),
        coverage.facility_location(INPUTS, key=key("selection"), **size),
    )
    assert_equal(chosen("log-determinant"), by_kernel.log_determinant(INPUTS, NETWORK, **initial))
    assert_equal(chosen("trace"), by_kernel.largest_trace(INPUTS, NETWORK, **initial))
    assert_equal(
        chosen("best-entropy"), by_kernel.best_entropy(INPUTS, NETWORK, **initial, n_sets=4)
    )
    assert_equal(chosen("greedy"), by_kernel.greedy(INPUTS, NETWORK, **initial))
    assert_equal(
        chosen("rnd-linearised"),
        rnd_linearised.select(
            INPUTS, rnd_linearised.LinearisedRNDSettings(), key=key("rnd"), **size
        ),
    )
    assert_equal(
        chosen("rnd"),
        rnd.select(INPUTS, NETWORK, rnd.RNDSettings(n_epochs=3), key=key("rnd"), **size),
    )


OPTIONS = {
    "stratified": {"allocation": "equal"},
    "rnd-linearised": {"criterion": "largest", "depth": 1, "labelled": [3]},
    "rnd": {"distance": "lp", "restart": "cold", "labelled": [3]},
    "kernel-herding": {"bandwidth": 0.5},
    "facility-location": {"first": "best"},
    "best-entropy": {"sizes": [2, 4]},
    "greedy": {"objective": "trace-entropy"},
}


@pytest.mark.parametrize("method", [method for method in OPTIONS if method != "stratified"])
def test_options_reach_the_method(method):
    assert not np.array_equal(chosen(method, **OPTIONS[method]).indices, chosen(method).indices)


def test_options_of_stratified_reach_it():
    uneven = PROBLEM._replace(targets=np.eye(3)[np.maximum(0, np.arange(24) - 21)])
    counts = np.bincount(
        uneven.targets.argmax(axis=1)[chosen("stratified", uneven, allocation="equal").indices[0]],
        minlength=3,
    )
    assert sorted(counts.tolist()) == [1, 1, 4]


@pytest.mark.parametrize("method", ["rnd-linearised", "rnd"])
def test_per_class_chooses_equally_many_of_each(method):
    for row in chosen(method, per_class=True).indices:
        assert np.bincount(CLASSES[row]).tolist() == [2, 2, 2]
    with pytest.raises(
        ValueError, match="per_class needs a classification: received a regression."
    ):
        chosen(method, REGRESSION, per_class=True)


@every_method
def test_a_network_that_cannot_be_trained_on_the_problem_is_an_error_before_anything_is_chosen(
    method, monkeypatch
):
    monkeypatch.setitem(registry.SELECTION_METHODS, method, None)
    with pytest.raises(ValueError, match="as many outputs as the targets: 3 != 2."):
        chosen(method, PROBLEM._replace(targets=PROBLEM.targets[:, :2]))


def test_rnd_can_have_a_wider_representation_or_other_layers():
    size = {"n_selected": 6, "n_members": 2, "key": key("rnd")}
    wide = sequential.build_network(["dense 5", "dense 16"], parametrisation="ntk")
    assert_equal(
        chosen("rnd", width=16), rnd.select(INPUTS, wide, rnd.RNDSettings(n_epochs=3), **size)
    )
    other = sequential.build_network(["dense 2", "dense 7"], parametrisation="ntk")
    selection = chosen("rnd", layers=["dense 2", "dense 7"])
    assert_equal(selection, rnd.select(INPUTS, other, rnd.RNDSettings(n_epochs=3), **size))
    with pytest.raises(
        ValueError, match=r"layers and width must not both be given: received \['dense 2'\] and 3."
    ):
        chosen("rnd", layers=["dense 2"], width=3)
    with pytest.raises(ValueError, match="width must be at least 1: received 0."):
        chosen("rnd", width=0)


def test_the_checkpoints_of_rnd_go_to_the_store_of_the_budget():
    store = {}
    chosen("rnd", budget=BUDGET._replace(store=store))
    assert len(store) == 2


@pytest.mark.parametrize(
    "method, options, error, message",
    [
        (
            "best",
            {},
            ValueError,
            f"method must be one of {', '.join(sorted(registry.SELECTION_METHODS))}: "
            "received 'best'.",
        ),
        (
            "kernel-herding",
            {"width": 3},
            TypeError,
            "Options of kernel-herding are labelled, bandwidth, first: received width.",
        ),
        ("random", {"first": "best"}, TypeError, "Options of random are labelled: received first."),
        ("k-center", None, TypeError, "options must be a dictionary: received None."),
        ("rnd-linearised", {"depth": 0}, ValueError, "depth must be at least 1: received 0."),
        (
            "stratified",
            {"task": "regression"},
            TypeError,
            "Options of stratified are labelled, allocation, n_strata: received task.",
        ),
    ],
)
def test_wrong_methods_and_options_are_one_error_that_names_them(method, options, error, message):
    with pytest.raises(error) as caught:
        registry.select_by(method, PROBLEM, BUDGET, options)
    assert str(caught.value) == message


def test_every_option_that_is_listed_is_taken():
    assert all("labelled" in registry.OPTIONS[method] for method in registry.SELECTION_METHODS)
    rest = {"labelled": [], "per_class": False, "layers": None, "width": None}
    for method, settings in registry.SETTINGS.items():
        options = {}
        for name in registry.OPTIONS[method]:
            options[name] = getattr(settings(), name) if hasattr(settings, name) else rest[name]
        assert set(options) == set(registry.OPTIONS[method])
        assert chosen(method, **options | QUICK.get(method, {})).indices.shape == (2, 6)


def test_the_docstring_of_the_methods_describes_each_of_them():
    body = ast.parse(inspect.getsource(registry)).body
    names = [getattr(getattr(node, "target", None), "id", "") for node in body]
    text = body[names.index("SELECTION_METHODS") + 1].value.value
    assert [line[2:].partition(":")[0] for line in text.splitlines() if line[:2] == "- "] == list(
        registry.SELECTION_METHODS
    )


# the public function


def select(method, n=6, pool=INPUTS, **changed):
    """With all that any method needs."""
    arguments = {
        "key": KEY,
        "members": 2,
        "network": NETWORK,
        "targets": CLASSES,
    } | QUICK.get(method, {})
    return registry.select(pool, n, method=method, **arguments | changed)


@every_method
def test_a_selection_by_key_is_that_of_the_stages_with_the_same_keys(method):
    options = {}
    if method in ("log-determinant", "trace", "best-entropy", "greedy"):
        options["initialisation_keys"] = seeding.member_keys(key("initialisation"), 2)
    purpose = registry.PURPOSES.get(method, "selection")
    assert_equal(select(method, key=key(purpose), **options), chosen(method))


@every_method
def test_points_beyond_those_labelled_are_new_and_nested_and_one_member_is_the_first(method):
    sizes = {"sizes": [5, 9]} if method == "best-entropy" else {}
    selection = select(method, labelled=LABELLED, **sizes)
    assert selection.indices.shape == selection.distances.shape == (2, 6)
    for row in selection.indices.tolist():
        assert len({*row, *LABELLED}) == 9
    if method not in NOT_NESTED:
        short = select(method, 2, labelled=LABELLED, members=1)
        np.testing.assert_array_equal(short.indices, selection.indices[:1, :2])
    whole = chosen(method, budget=registry.Budget(9, 2), labelled=LABELLED, **sizes).indices
    assert (whole[:, :3] == LABELLED).all()


@every_method
def test_all_points_that_are_left_can_be_chosen(method):
    indices = select(method, 21, labelled=np.array(LABELLED)).indices
    assert np.sort(indices).tolist() == [sorted(set(range(24)) - set(LABELLED))] * 2


def test_without_initialisation_keys_networks_follow_from_the_key():
    first, again = select("greedy"), select("greedy")
    assert_equal(first, again)
    assert not np.array_equal(first.indices, select("greedy", key=jax.random.key(6)).indices)


@pytest.mark.parametrize(
    "targets, task",
    [
        (CLASSES, "classification"),
        (CLASSES.astype(np.uint8)[:, None], "classification"),
        (CLASSES.tolist(), "classification"),
        (np.array(["cat", "dog", "bird"])[CLASSES], "classification"),
        (CLASSES == 1, "classification"),
        (np.eye(3)[CLASSES], "classification"),
        (np.eye(3, dtype=int)[CLASSES], "classification"),
        (CLASSES.astype(float), "regression"),
        (INPUTS[:, 0], "regression"),
        (INPUTS[:, :2], "regression"),
        (CLASSES[:, None] * [1, 0], "regression"),
    ],
    ids=str,
)
def test_the_task_follows_from_the_targets_unless_it_is_an_option(targets, task):
    table, derived = stratified.learning_problem(targets, None, 24)
    assert derived == task and table.shape[0] == 24 and table.ndim == 2
    if task == "classification":
        assert (table.sum(axis=1) == 1).all() and len(np.unique(table.argmax(axis=1))) > 1
    same = select("stratified", targets=targets, task=task)
    np.testing.assert_array_equal(select("stratified", targets=targets).indices, same.indices)
    assert stratified.learning_problem(CLASSES, "regression", 24)[1] == "regression"


def test_classes_are_numbered_in_their_order_and_take_turns():
    named = select("stratified", targets=np.array(["b", "c", "a"])[CLASSES], allocation="equal")
    for row in named.indices:
        assert np.bincount(CLASSES[row]).tolist() == [2, 2, 2]
    for method in ("rnd", "rnd-linearised"):
        for row in select(method, per_class=True).indices:
            assert np.bincount(CLASSES[row]).tolist() == [2, 2, 2]


def test_lists_and_whole_numbers_are_points_too():
    whole = np.round(10 * INPUTS).astype(np.int8)
    for method in ("rnd", "rnd-linearised", "k-center", "greedy"):
        single, double = (select(method, pool=whole.astype(t)) for t in (np.float32, np.float64))
        assert_equal(select(method, pool=whole), single)
        assert_equal(select(method, pool=jnp.asarray(whole)), single)
        assert_equal(select(method, pool=whole.tolist()), double)


def test_progress_and_store_reach_the_methods_that_have_them(capsys):
    store = {}
    select("rnd", store=store, progress="choosing")
    assert len(store) == 2 and "choosing" in capsys.readouterr().err
    select("rnd-linearised", store=store, progress="again")
    assert "again" in capsys.readouterr().err
    select("k-center", store=store, progress="silent")
    assert not capsys.readouterr().err


UNFIT = np.full((24, 4), np.nan)  # for which each method raises an error as soon as it begins


@pytest.mark.parametrize("method", ["rnd", "log-determinant", "trace", "best-entropy", "greedy"])
def test_a_network_that_is_missing_is_an_error_before_any_work(method):
    with pytest.raises(ValueError) as caught:
        select(method, pool=UNFIT, network=None)
    assert str(caught.value) == f"network must be given for the method {method}: received None."


@pytest.mark.parametrize("method", ["margin", "predictive-entropy", "ensemble-variance"])
@pytest.mark.parametrize("options", [{}, {"predictions": None}], ids=str)
def test_predictions_that_are_missing_are_an_error(method, options):
    with pytest.raises(ValueError) as caught:
        registry.select(INPUTS, 2, method=method, key=KEY, **options)
    assert str(caught.value) == f"predictions must be given for the method {method}: received None."


@every_method
def test_what_a_method_does_not_need_may_be_missing(method):
    needs = inspect.signature(registry.SELECTION_METHODS[method]).parameters
    changed = {} if "network" in needs else {"network": None}
    changed |= {} if method == "stratified" else {"targets": None}
    assert_equal(select(method, **changed), select(method))


@pytest.mark.parametrize(
    "method, changed, error, message",
    [
        (
            "stratified",
            {"pool": UNFIT, "targets": None},
            ValueError,
            "targets must be given for the method stratified: received None.",
        ),
        (
            "rnd-linearised",
            {"pool": UNFIT, "targets": None, "per_class": True},
            ValueError,
            "targets must be given for per_class: received None.",
        ),
        (
            "rnd",
            {"targets": INPUTS, "per_class": True},
            ValueError,
            "per_class needs a classification: received a regression.",
        ),
        (
            "stratified",
            {"targets": CLASSES[:23]},
            ValueError,
            "targets must have a row for each of the 24 points: received the shape (23,).",
        ),
        (
            "stratified",
            {"task": "ranking"},
            ValueError,
            "task must be one of classification, regression: received 'ranking'.",
        ),
        ("random", {"n": 0}, ValueError, "n must be at least 1: received 0."),
        ("random", {"n": 2.0}, TypeError, "n must be an integer: received 2.0."),
        ("random", {"members": 0}, ValueError, "members must be at least 1: received 0."),
        (
            "random",
            {"n": 22, "labelled": LABELLED},
            ValueError,
            "n must not exceed the points that are not labelled: 22 > 21.",
        ),
        (
            "trace",
            {"labelled": [2, 2]},
            ValueError,
            "labelled must not repeat a row: received [2, 2].",
        ),
        ("trace", {"labelled": [2.5]}, TypeError, "labelled must be an integer: received 2.5."),
        (
            "trace",
            {"labelled": [24]},
            ValueError,
            "labelled must be rows of the pool, 0 to 23: received 24.",
        ),
        (
            "greedy",
            {"depth": 3},
            TypeError,
            "Options of greedy are labelled, objective, sense, n_candidates: received depth.",
        ),
        (
            "random",
            {"key": 0},
            TypeError,
            "key must be a JAX key, such as jax.random.key(0): received 0.",
        ),
        (
            "random",
            {"pool": 3.0},
            TypeError,
            "pool must be an array (n_pool, ...) of numbers: "
            "received the shape () and dtype float64.",
        ),
        (
            "random",
            {"pool": ["a", "b"]},
            TypeError,
            "pool must be an array (n_pool, ...) of numbers: "
            "received the shape (2,) and dtype <U1.",
        ),
    ],
)
def test_wrong_arguments_are_one_error_that_names_them(method, changed, error, message):
    with pytest.raises(error) as caught:
        select(method, **changed)
    assert str(caught.value) == message


@pytest.mark.parametrize("keys", [jax.random.split(KEY), jax.random.PRNGKey(0), None], ids=str)
def test_the_key_is_one_new_style_key(keys):
    with pytest.raises(TypeError, match="key must be a JAX key"):
        select("random", key=keys)


def test_an_object_that_is_no_network_is_refused_with_what_to_give():
    pool = np.random.default_rng(0).normal(size=(6, 2))
    with pytest.raises(ValueError, match=r"network must be a Flax module, .*: received dict\."):
        registry.select(pool, 2, method="greedy", network={}, key=jax.random.key(0))
