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
QUICK = {"paper": {"n_epochs": 3}, "best-entropy": {"n_sets": 4}}


def chosen(method, problem=PROBLEM, budget=BUDGET, **options):
    return registry.select_by(method, problem, budget, QUICK.get(method, {}) | options)


def assert_equal(found, expected):
    for name in ("indices", "distances", "mean_distances", "max_distances"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("method", registry.METHODS)
def test_every_method_chooses_rows_of_the_pool_without_repeats_and_again_the_same(method):
    found = chosen(method)
    assert found.indices.shape == found.distances.shape == (2, 6)
    assert all(len(set(row)) == 6 and set(row) <= set(range(24)) for row in found.indices.tolist())
    assert_equal(chosen(method), found)


@pytest.mark.parametrize("method", registry.METHODS)
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
        chosen("rnd"),
        rnd_linearised.select(INPUTS, rnd_linearised.Settings(), key=key("rnd"), **size),
    )
    assert_equal(
        chosen("paper"),
        rnd.select(INPUTS, NETWORK, rnd.Settings(n_epochs=3), key=key("rnd"), **size),
    )


OPTIONS = {
    "stratified": {"allocation": "equal"},
    "rnd": {"criterion": "largest", "depth": 1, "labelled": [3]},
    "paper": {"distance": "lp", "restart": "cold", "labelled": [3]},
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


@pytest.mark.parametrize("method", ["rnd", "paper"])
def test_per_class_chooses_equally_many_of_each(method):
    for row in chosen(method, per_class=True).indices:
        assert np.bincount(CLASSES[row]).tolist() == [2, 2, 2]
    with pytest.raises(
        ValueError, match="per_class needs a classification: received a regression."
    ):
        chosen(method, REGRESSION, per_class=True)


@pytest.mark.parametrize("method", registry.METHODS)
def test_a_network_that_cannot_be_trained_on_the_problem_is_an_error_before_anything_is_chosen(
    method, monkeypatch
):
    monkeypatch.setitem(registry.METHODS, method, None)
    with pytest.raises(ValueError, match="as many outputs as the targets: 3 != 2."):
        chosen(method, PROBLEM._replace(targets=PROBLEM.targets[:, :2]))


def test_the_paper_can_have_a_wider_representation_or_a_network_of_its_own():
    size = {"n_selected": 6, "n_members": 2, "key": key("rnd")}
    wide = sequential.build_network(["dense 5", "dense 16"], parametrisation="ntk")
    assert_equal(
        chosen("paper", width=16), rnd.select(INPUTS, wide, rnd.Settings(n_epochs=3), **size)
    )
    other = sequential.build_network(["dense 2", "dense 7"], parametrisation="ntk")
    found = chosen("paper", layers=["dense 2", "dense 7"])
    assert_equal(found, rnd.select(INPUTS, other, rnd.Settings(n_epochs=3), **size))
    with pytest.raises(
        ValueError, match=r"layers and width must not both be given: received \['dense 2'\] and 3."
    ):
        chosen("paper", layers=["dense 2"], width=3)
    with pytest.raises(ValueError, match="width must be at least 1: received 0."):
        chosen("paper", width=0)


def test_what_the_paper_keeps_goes_to_the_store_of_the_budget():
    store = {}
    chosen("paper", budget=BUDGET._replace(store=store))
    assert len(store) == 2


@pytest.mark.parametrize(
    "method, options, error, message",
    [
        (
            "best",
            {},
            ValueError,
            f"method must be one of {', '.join(sorted(registry.METHODS))}: received 'best'.",
        ),
        (
            "kernel-herding",
            {"width": 3},
            TypeError,
            "Options of kernel-herding are bandwidth, first: received width.",
        ),
        ("random", {"first": "best"}, TypeError, "Options of random are none: received first."),
        ("k-center", None, TypeError, "options must be a dictionary: received None."),
        ("rnd", {"depth": 0}, ValueError, "depth must be at least 1: received 0."),
        (
            "stratified",
            {"task": "regression"},
            TypeError,
            "Options of stratified are allocation, n_strata: received task.",
        ),
    ],
)
def test_wrong_methods_and_options_are_one_error_that_names_them(method, options, error, message):
    with pytest.raises(error) as caught:
        registry.select_by(method, PROBLEM, BUDGET, options)
    assert str(caught.value) == message


def test_every_option_that_is_listed_is_taken():
    values = {
        "rnd": rnd_linearised.Settings(),
        "paper": rnd.Settings(),
    }
    for method, settings in values.items():
        given = {
            name: getattr(settings, name)
            for name in registry.OPTIONS[method]
            if hasattr(settings, name)
        }
        rest = {"labelled": [], "per_class": False} | (
            {"layers": None, "width": None} if method == "paper" else {}
        )
        assert set(given) | set(rest) == set(registry.OPTIONS[method])
        assert chosen(method, **given | rest | QUICK.get(method, {})).indices.shape == (2, 6)
