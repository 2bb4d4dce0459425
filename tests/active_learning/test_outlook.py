"""Outlooks against power laws, the quantiles of scipy, and data whose noise is known."""

import jax
import numpy as np
import pytest
from scipy import stats

from collective_variables import _errors
from collective_variables.active_learning import fitting, outlook
from collective_variables.active_learning.labels import read_labels
from collective_variables.networks import sequential

pytestmark = pytest.mark.usefixtures("quick_compilation")

SETTINGS = fitting.FitSettings(1, n_epochs=150, learning_rate=0.1, weight_decay=0.0)
LINEAR = sequential.build_network(["dense 1"])


def problem(n=60, *, task="regression", scale=1.0):
    """A linear target with noise 0.5, in some unit; or its sign."""
    generator = np.random.default_rng(4)
    inputs = generator.normal(size=(n, 3)).astype(np.float32)
    y = scale * (inputs @ [1.0, 2.0, 0.0] + 0.5 * generator.normal(size=n))
    y = np.where(y > 0, "yes", "no") if task == "classification" else y
    return inputs, read_labels(y, n)


def estimate(network, inputs, labels, *, n_more=20, settings=SETTINGS, seed=0):
    return outlook.outlook(network, inputs, labels, n_more=n_more, settings=settings, seed=seed)


def with_errors(monkeypatch, errors, sizes, task):
    """The outlook if the tests of 48 and 24 points gave these errors."""
    monkeypatch.setattr(outlook, "_tested", lambda *_: (np.array(errors), sizes))
    return estimate(LINEAR, *problem(60, task=task))


@pytest.mark.parametrize("exponent", [0.0, 0.4, 1.3])
def test_the_score_follows_a_power_law(monkeypatch, exponent):
    sizes = (48.0, 24.0)
    errors = [[3.0 * size**-exponent] * 60 for size in sizes]
    result = with_errors(monkeypatch, errors, sizes, "regression")
    std = problem()[1].std[0]
    for size, score in [(60, result.now), (80, result.with_more)]:
        np.testing.assert_allclose(score, std * np.sqrt(3.0 * size**-exponent), rtol=1e-9)
    assert result.exponent == pytest.approx(exponent / 2)
    assert result.constant == pytest.approx(std * 60 / 59)


def test_more_points_are_never_worse(monkeypatch):
    result = with_errors(monkeypatch, [[2.0] * 60, [1.0] * 60], (48.0, 24.0), "regression")
    assert result.exponent == 0
    assert result.now == result.with_more


def test_the_exponent_is_weighed_with_its_prior(monkeypatch):
    generator = np.random.default_rng(0)
    errors = generator.exponential(size=(2, 60)) * [[1.0], [4.0]]
    result = with_errors(monkeypatch, errors, (48.0, 24.0), "regression")
    means = errors.mean(axis=1)
    # The variance of ln(mean) to first order, which the Bayesian bootstrap has too.
    shift = errors[1] / means[1] - errors[0] / means[0]
    variance = 2.25 * shift.var() / 60 / np.log(2) ** 2
    weight = 0.3**2 / (0.3**2 + variance)
    expected = weight * np.log2(means[1] / means[0]) + (1 - weight) * 0.5
    assert result.exponent == pytest.approx(expected / 2, rel=0.03)


def test_the_interval_is_that_of_a_mean_but_wider(monkeypatch):
    errors = np.random.default_rng(1).exponential(size=60)
    result = with_errors(monkeypatch, [errors, errors], (60.0, 30.0), "regression")
    assert result.exponent == 0
    half = 1.5 * 1.96 * errors.std() / errors.mean() / np.sqrt(60)
    width = 2 * np.log(result.now.upper / result.now.lower)
    assert width == pytest.approx(2 * half, rel=0.1)
    draws = np.random.default_rng(2).dirichlet(np.ones(60), 4000) @ errors
    quantiles = np.sqrt(errors.mean() * (errors.mean() / np.quantile(draws, [0.975, 0.025])) ** 1.5)
    np.testing.assert_allclose(result.now[1:], problem()[1].std[0] * quantiles, rtol=0.03)


@pytest.mark.parametrize("n_wrong", [0, 9])
def test_the_interval_of_a_rate_is_jeffreys(monkeypatch, n_wrong):
    errors = np.arange(60) < n_wrong
    result = with_errors(monkeypatch, [errors, errors], (60.0, 30.0), "classification")
    rate = (n_wrong + 0.5) / 61
    assert result.now.value == pytest.approx(1 - rate)
    quantiles = stats.beta(n_wrong + 0.5, 60 - n_wrong + 0.5).ppf([0.025, 0.975])
    lower, upper = rate * (quantiles / rate) ** 1.5
    np.testing.assert_allclose(result.now[1:], [1 - upper, 1 - lower], atol=0.02)
    shares = problem(60, task="classification")[1].targets.mean(axis=0)
    assert result.constant == shares.max()


def test_each_subset_has_the_network_that_its_rows_alone_give():
    inputs, labels = problem()
    subsets = [np.arange(7, 50), np.array([3, 1, 58])]
    initial = fitting.initialise(LINEAR, inputs, jax.random.split(jax.random.key(0), 2))
    options = {"task": "regression", "settings": SETTINGS}
    together = fitting.fit_subsets(
        LINEAR, inputs, labels.targets, subsets, initial=initial, **options
    )
    for rows, params, trained in zip(subsets, initial, together):
        alone = fitting.fit(LINEAR, inputs[rows], labels.targets[rows], initial=[params], **options)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), trained, alone[0])


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_no_row_is_tested_by_a_network_that_has_seen_it(monkeypatch, task):
    """Networks that know their training rows alone would make no error on them."""
    inputs, labels = problem(33, task=task)
    subsets = []

    def remember(*arguments, initial, **_):
        subsets.append(arguments[3])
        assert len(initial) == len(arguments[3])
        return arguments[3]

    def seen(network, trained, inputs):
        outputs = np.zeros((len(trained), len(inputs), labels.targets.shape[1]))
        for known, output in zip(trained, outputs):
            output[known] = 7.0
        return outputs

    tested = []
    monkeypatch.setattr(fitting, "fit_subsets", remember)
    monkeypatch.setattr(fitting, "outputs", seen)
    monkeypatch.setattr(outlook, "_row_errors", lambda _, o, rows: tested.append(o) or o[0, :, 0])
    settings = fitting.FitSettings(n_networks=2)
    assert estimate(LINEAR, inputs, labels, settings=settings) is not None
    assert all((outputs == 0).all() for outputs in tested)
    large, small = subsets
    assert (len(large), len(small)) == (10, 20)
    for number in range(5):
        train, halves = large[2 * number], small[4 * number : 4 * number + 4]
        assert len(train) in (26, 27)
        np.testing.assert_array_equal(halves[0], halves[1])
        np.testing.assert_array_equal(np.sort(np.concatenate(halves[::2])), train)
        if task == "classification":
            counts = [labels.targets[half].sum(axis=0) for half in halves[::2]]
            assert np.abs(counts[0] - counts[1]).max() <= 1
    held_out = np.concatenate([np.setdiff1d(np.arange(33), rows) for rows in large[::2]])
    np.testing.assert_array_equal(np.sort(held_out), np.arange(33))


def test_the_error_is_in_the_unit_of_the_target():
    result = estimate(LINEAR, *problem())
    assert result.now.lower < 0.56 < result.now.upper  # noise and three coefficients
    assert result.with_more.value <= result.now.value
    assert result.constant == pytest.approx(np.sqrt(5.25), rel=0.2)
    assert result.is_better
    other = estimate(LINEAR, *problem(scale=1000.0))
    np.testing.assert_allclose(other.now, 1000 * np.array(result.now), rtol=1e-3)
    assert result == estimate(LINEAR, *problem())


def test_the_accuracy_of_classes():
    network = sequential.build_network(["dense 2"])
    inputs, labels = problem(task="classification")
    result = estimate(network, inputs, labels, settings=SETTINGS)
    assert 0.75 < result.now.value < 1
    assert 0 <= result.now.lower < result.now.value < result.now.upper <= 1
    assert result.now.value <= result.with_more.value
    assert result.is_better


def test_several_targets_are_in_standard_deviations():
    inputs, _ = problem()
    labels = read_labels(np.column_stack([inputs @ [1, 0, 0], 100 * inputs @ [0, 1, 1]]), 60)
    network = sequential.build_network(["dense 2"])
    result = estimate(network, inputs, labels)
    assert result.now.value < 0.1
    assert result.constant == pytest.approx(60 / 59)
    assert "standard deviations for rows" in result.in_words()[0]


def test_words():
    now, later = outlook.Estimate(1.912, 1.63, 2.31), outlook.Estimate(1.7, 1.41, 2.1)
    result = outlook.Outlook("regression", 60, 20, 1, now, later, 4.12, 0.3)
    assert result.in_words("price") == [
        "With the 60 labels so far, the error of price is about 1.9 (1.6 to 2.3) for rows like the "
        "labelled ones; a constant prediction has 4.1.",
        "20 more labels would bring about 1.7 (1.4 to 2.1).",
        "Rows that a method chose can be harder than the rest of the pool.",
    ]
    worse = result._replace(constant=1.5).in_words()
    assert worse[1] == "So far the network is no better than that."
    high, higher = outlook.Estimate(0.87, 0.8, 0.92), outlook.Estimate(0.891, 0.82, 0.94)
    classes = outlook.Outlook("classification", 60, 20, 3, high, higher, 0.4, 0.3)
    assert classes.in_words()[:2] == [
        "With the 60 labels so far, the accuracy is about 0.87 (0.8 to 0.92) for rows like the "
        "labelled ones; the commonest class for all rows has 0.4.",
        "20 more labels would bring about 0.89 (0.82 to 0.94).",
    ]


@pytest.mark.parametrize(
    "y", [np.arange(9.0), np.ones(20), ["a"] * 20], ids=["few", "one", "class"]
)
def test_too_little_has_no_outlook(y):
    labels = read_labels(y, len(y))
    assert estimate(LINEAR, np.ones((len(y), 3), np.float32), labels) is None


def test_points_that_are_not_those_of_the_labels_are_refused():
    inputs, labels = problem()
    with pytest.raises(ValueError, match="inputs must be the 60 labelled points: received 59"):
        estimate(LINEAR, inputs[1:], labels)
    with pytest.raises(ValueError, match="n_more must be at least 1"):
        estimate(LINEAR, inputs, labels, n_more=0)


def test_a_training_that_diverges_is_reported():
    settings = fitting.FitSettings(n_networks=1, n_epochs=20, learning_rate=1e30)
    with pytest.raises(_errors.ComputationError, match="diverged"):
        estimate(LINEAR, *problem(), settings=settings)
