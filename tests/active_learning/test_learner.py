"""The loop in Python: what a query depends on, what it returns, and what it refuses."""

import jax
import numpy as np
import pytest

from collective_variables import _errors
from collective_variables.active_learning import choosing, fitting, learner
from collective_variables.networks import sequential

pytestmark = pytest.mark.usefixtures("quick_compilation")

NAN = float("nan")
QUICK = fitting.FitSettings(n_networks=2, n_epochs=15)
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(40, 3)) * [1.0, 100.0, 0.0]
TRUTH = np.sin(X[:, 0]) + X[:, 1] / 100.0


def make(**options):
    return learner.ActiveLearner(["dense 6"], **{"settings": QUICK} | options)


def targets(rows, values=TRUTH):
    y = np.full(len(values), NAN) if values.dtype.kind == "f" else np.full(len(values), None)
    y[rows] = values[rows]
    return y


def test_three_rounds_label_new_rows_and_lower_the_error():
    thorough = fitting.FitSettings(n_networks=2, n_epochs=200, weight_decay=0.1)
    loop, labelled, errors = make(settings=thorough), [], []
    for _ in range(3):
        rows = loop.query(X, targets(labelled), 2)
        assert len(set(rows)) == 2 and not set(rows) & set(labelled)
        labelled += rows.tolist()
        errors.append(np.abs(loop.fit(X, targets(labelled)).predict(X) - TRUTH).mean())
    assert errors[-1] < 0.5 * np.abs(TRUTH - TRUTH.mean()).mean() and errors[-1] < 0.5 * errors[0]


def exact_kernel(loop):
    """The mean kernel of the trained networks, from all derivatives of their outputs."""
    points = np.zeros(X.shape)
    points[:, :2] = (X[:, :2] - X[:, :2].mean(axis=0)) / X[:, :2].std(axis=0)
    kernel = np.zeros((40, 40))
    for params in loop.params_:
        slopes = jax.jacrev(loop.network_.apply)(params, points.astype(np.float32))
        flat = np.concatenate(
            [np.asarray(leaf, np.float64).reshape(40, -1) for leaf in jax.tree.leaves(slopes)],
            axis=1,
        )
        kernel += flat @ flat.T / 2
    return kernel


def test_the_choice_is_that_of_bait_on_the_kernel_of_the_trained_networks():
    loop = make(kernel="ntk")
    rows = loop.query(X, targets([1, 5, 9, 22]), 5)
    kernel = exact_kernel(loop)
    # A label leaves 1 % of the variance of a row whose variance is the mean one.
    squared_noise = 0.01 * np.diag(kernel).mean()
    for known in (1, 5, 9, 22):
        kernel -= np.outer(kernel[known], kernel[known]) / (kernel[known, known] + squared_noise)
    for row in rows:
        scores = (kernel**2).sum(axis=0) / (np.diag(kernel) + squared_noise)
        scores[[1, 5, 9, 22]] = -1.0
        assert row == np.argmax(scores)
        kernel -= np.outer(kernel[row], kernel[row]) / (kernel[row, row] + squared_noise)


@pytest.mark.parametrize("method", ["bait", "max-det", "max-diag", "frank-wolfe"])
def test_the_scale_of_a_kernel_changes_no_choice_and_the_noise_is_an_option(method):
    y, matrix = targets([0, 1, 2, 3]), np.exp(-((X[:, :1] - X[:, 0]) ** 2))
    rows = make(method=method, kernel=matrix).query(X, y, 36).tolist()
    assert make(method=method, kernel=1e6 * matrix).query(X, y, 36).tolist() == rows
    same = make(method=method, kernel=matrix, options={"noise": 0.1})  # k(x, x) is 1
    assert same.query(X, y, 36).tolist() == rows
    assert make(method=method, kernel="linear").query(0.0 * X, y, 2).tolist() == [4, 5]
    same = make(method=method, kernel=matrix, options={"noise": None})
    assert same.query(X, y, 36).tolist() == rows
    other = make(method=method, kernel=matrix, options={"noise": 3.0})
    assert other.query(X, y, 36).tolist() != rows


def test_numbers_are_chosen_by_bait_and_classes_by_lcmd():
    animals = np.array(["cat", "dog"])[(TRUTH > 0).astype(int)]
    for values, method in ((TRUTH, "bait"), (animals, "lcmd")):
        loop, y = make(seed=2), targets(np.arange(8), values)
        rows = loop.query(X, y, 6)
        assert loop.rule_.method == method
        assert rows.tolist() == make(seed=2, method=method).query(X, y, 6).tolist()


def test_the_choice_is_that_of_lcmd_on_the_kernel_of_the_trained_networks():
    loop = make(kernel="ntk", method="lcmd")
    rows = loop.query(X, targets([1, 5, 9, 22]), 5)
    kernel = exact_kernel(loop)
    squared = np.diag(kernel)[:, None] + np.diag(kernel) - 2 * kernel
    centres = [1, 5, 9, 22]
    for row in rows:
        owners = squared[:, centres].argmin(axis=1)
        nearest = squared[:, centres].min(axis=1)
        heaviest = np.bincount(owners, nearest).argmax()
        assert row == np.argmax(np.where(owners == heaviest, nearest, -1))
        centres.append(row)


def test_the_same_seed_gives_the_same_rows_and_another_seed_others():
    y = targets([0, 1, 2])
    first = make(seed=3).query(X, y, 6)
    assert first.tolist() == make(seed=3).query(X, y, 6).tolist()
    assert first.tolist() != make(seed=4).query(X, y, 6).tolist()


def test_a_warm_start_continues_and_a_fresh_one_repeats():
    y = targets(np.arange(12))
    fresh, warm = make(), make(start="warm")
    for _ in range(2):
        fresh.fit(X, y), warm.fit(X, y)
        fits = [loop.predict(X) for loop in (fresh, warm)]
        if _ == 0:
            first = fits
    np.testing.assert_array_equal(fits[0], first[0])
    assert np.abs(fits[1] - TRUTH)[:12].mean() < np.abs(first[1] - TRUTH)[:12].mean()


def test_without_labels_or_with_one_kind_the_networks_are_untrained_and_it_says_so():
    loop = make()
    assert len(loop.query(X, np.full(40, NAN), 3)) == 3
    assert loop.reason_ == "No row has a label, so the networks are untrained."
    assert len(loop.query(X, targets([0, 1, 2], np.array(["cat"] * 40)), 3)) == 3
    assert loop.reason_ == "All 3 labels are the same, so the networks are untrained."
    with pytest.raises(ValueError, match="two different targets"):
        loop.predict(X)


def test_a_class_may_appear_in_a_later_round_and_rows_may_come_and_go():
    animals = np.array(["cat", "dog", "emu"])[np.arange(40) % 3]
    loop = make(start="warm")
    loop.query(X, targets([0, 1, 3, 4], animals), 4)
    assert loop.labels_.classes.tolist() == ["cat", "dog"]
    loop.query(np.r_[X, X[:5] + 1.0], np.r_[targets([0, 1, 2], animals), [None] * 5], 4)
    assert loop.labels_.classes.tolist() == ["cat", "dog", "emu"]
    assert set(loop.predict(X)) <= {"cat", "dog", "emu"}
    np.testing.assert_allclose(loop.predict_proba(X).sum(axis=1), 1.0)


def test_a_network_may_have_outputs_for_classes_without_a_label():
    network = sequential.build_network(["dense 4", "dense 3"])
    loop = learner.ActiveLearner(network, settings=QUICK)
    y = targets([0, 1, 3, 4], np.arange(40).astype(object) % 2)
    assert len(loop.query(X, y, 3)) == 3
    assert set(loop.predict(X)) <= {0, 1}


@pytest.mark.parametrize("method", ["margin", "predictive-entropy", "ensemble-variance"])
def test_predictions_choose(method):
    animals = np.array(["cat", "dog"])[(TRUTH > 0).astype(int)]
    loop = make(method=method)
    labelled = [0, 1, 2, 3, 4, 5]
    rows = loop.query(X, targets(labelled, animals), 34)
    outputs = fitting.outputs(loop.network_, loop.params_, loop._prepare(X)).astype(float)
    chances = np.exp(outputs) / np.exp(outputs).sum(axis=-1, keepdims=True)
    mean = np.sort(chances.mean(axis=0), axis=1)
    scores = {
        "margin": mean[:, 1] - mean[:, 0],
        "predictive-entropy": (mean * np.log(mean)).sum(axis=1),
        "ensemble-variance": -outputs.var(axis=0).sum(axis=1),
    }[method]
    assert np.all(np.diff(scores[rows]) >= -1e-6)
    with pytest.raises(ValueError, match="two different labels"):
        loop.query(X, np.full(40, NAN), 2)


def test_a_committee_weighs_the_distances():
    y = targets(np.arange(8))
    plain = make(method="lcmd").query(X, y, 6)
    loop = make(method="lcmd", options={"weights": choosing.COMMITTEE})
    rows = loop.query(X, y, 6)
    assert rows.tolist() != plain.tolist()
    fitted = choosing.Fitted(loop.network_, loop.params_, loop.labels_)
    outputs = fitting.outputs(loop.network_, loop.params_, loop._prepare(X))
    np.testing.assert_allclose(
        choosing.disagreement(loop._prepare(X), fitted),
        np.abs(outputs[0] - outputs[1])[:, 0] / 2,
        rtol=1e-4,
    )


@pytest.mark.parametrize("values", [TRUTH, np.where(TRUTH > 0, "cat", "dog").astype(object)])
def test_only_classes_have_a_committee_by_default(values):
    y = targets(np.arange(8), values)
    default, weighed, plain = (
        make(method="lcmd", options=options).query(X, y, 6).tolist()
        for options in ({}, {"weights": choosing.COMMITTEE}, {"weights": None})
    )
    assert weighed != plain
    assert default == (plain if values is TRUTH else weighed)


@pytest.mark.parametrize("kernel", ["infinite-width", "linear", np.eye(40)])
def test_other_kernels_need_no_training(kernel):
    loop = make(kernel=kernel)
    y = targets([0, 1, 2])
    assert len(set(loop.query(X, y, 5)) - {0, 1, 2}) == 5
    assert loop.reason_ == "bait does not use a trained network."
    with pytest.raises(ValueError, match="call fit"):
        loop.predict(X)


def test_only_candidates_are_chosen():
    rows = make().query(X, targets([0, 1, 2]), 4, candidates=[0, 10, 11, 12, 13])
    assert set(rows) == {10, 11, 12, 13}


@pytest.mark.parametrize("is_function", [False, True])
def test_a_kernel_of_the_pool_keeps_its_rows_among_candidates(is_function):
    def function(x1, x2):
        return np.exp(-(((x1[:, None] - x2) / [1.0, 100.0, 1.0]) ** 2).sum(axis=2))

    matrix = function(X, X)
    candidates = [3, 7, 20, 21, 30, 31, 39]
    loop = make(kernel=function if is_function else matrix, normalisation="none")
    rows = loop.query(X, targets([0, 1]), 3, candidates=candidates)
    kept = np.array([0, 1, *candidates])
    alone = make(kernel=matrix[np.ix_(kept, kept)]).query(X[kept], targets([0, 1])[kept], 3)
    assert rows.tolist() == kept[alone].tolist()


def test_a_copy_of_the_row_that_would_be_chosen_changes_the_choice():
    y = targets([0, 1, 2])
    loop = make(kernel="ntk", method="lcmd", normalisation="none")
    row = loop.query(X, y, 1)[0]
    with_copy = np.r_[X, X[[row]]]
    # Its label is the prediction, so that the networks hardly change.
    again = make(kernel="ntk", method="lcmd", normalisation="none")
    assert again.query(with_copy, np.r_[y, loop.predict(X[[row]])], 1)[0] != row


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make().query(X, TRUTH, 1), "all 40 rows of y are labelled"),
        (lambda: make().query(X, targets([0]), 40), "may be chosen: 40 > 39"),
        (lambda: make().query(X, targets([0]), 0), "batch_size"),
        (lambda: make().query(X, targets([0])[:39], 1), "each of the 40 rows"),
        (lambda: make().query(X * NAN, targets([0]), 1), "X"),
        (lambda: make(method="best"), "method"),
        (lambda: make(kernel="rbf"), "kernel"),
        (lambda: make(start="cold"), "start"),
        (lambda: make(method="margin").query(X, targets([0, 1]), 2), "margin needs prob.*classes"),
        (lambda: make().fit(X, targets([0, 1])).predict(X[:, :2]), r"shape \(3,\), as in fit"),
        (lambda: make().predict(X), "call fit"),
        (lambda: make().certify(X, TRUTH, [0]), "call query first"),
        (lambda: make().fit(X, targets([0, 1])).predict_proba(X), "needs a classification"),
    ],
)
def test_wrong_arguments_are_one_sentence(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_a_diverged_training_loses_no_label():
    y = targets([0, 1, 2])
    before = y.copy()
    with pytest.raises(_errors.ComputationError, match="Labels and rows are unchanged"):
        make(settings=fitting.FitSettings(1, 10, 1e30)).query(X, y, 2)
    np.testing.assert_array_equal(y, before)
