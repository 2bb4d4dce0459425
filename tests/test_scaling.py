"""The networks of a scaling study, its tables, and power laws with a known exponent."""

import numpy as np
import pandas as pd
import pytest
from helpers import assert_close

from collective_variables import networks, recorded_training, recording, scaling, training
from collective_variables.scaling import Shape

GENERATOR = np.random.default_rng(0)
POOL = training.Points(GENERATOR.normal(size=(12, 4)), np.eye(3)[np.arange(12) % 3])
TEST = training.Points(GENERATOR.normal(size=(5, 4)), np.eye(3)[np.arange(5) % 3])
INDICES = np.stack([np.random.default_rng(seed).permutation(12)[:8] for seed in range(2)])
STUDIES = {
    "width": {"activation": "relu", "width": [3, 5], "depth": 1},
    "depth": {"activation": ["relu"], "width": 3, "depth": [1, 2]},
}


def test_a_study_is_every_combination_of_its_values():
    found = scaling.shapes({"map": {"activation": ["relu", "tanh"], "width": [4, 8], "depth": 2}} | STUDIES)
    assert found["map"] == [Shape("relu", 4, 2), Shape("relu", 8, 2), Shape("tanh", 4, 2), Shape("tanh", 8, 2)]
    assert found["width"] == [Shape("relu", 3, 1), Shape("relu", 5, 1)]


def test_layers_are_those_of_the_shape():
    assert Shape("relu", 7, 2).layers("dense", 3) == ["dense 7", "dense 7", "dense 3"]
    assert Shape("relu", 7, 3).layers("conv", 3) == [
        "conv 7 3x3", "avgpool 2x2", "conv 7 3x3", "avgpool 2x2", "conv 7 3x3", "dense 3"
    ]


@pytest.mark.usefixtures("quick_float64")
def test_the_table_has_the_recording_of_every_network():
    chosen = [Shape("relu", 3, 1), Shape("tanh", 5, 2)]
    schedule, settings = training.Schedule(n_epochs=2, batch_size=4), recording.Settings(epochs=[0])
    found = scaling.train(chosen, "dense", POOL, TEST, INDICES, schedule=schedule, settings=settings, seed=1)
    assert found.n_diverged == 0
    table = scaling.of_study(found.recording, chosen[1:])
    network = networks.build(["dense 5", "dense 5", "dense 3"], activation="tanh")
    runs = training.runs(INDICES, np.full((2, 1), 8), seed=1)
    (alone,) = recorded_training.train_ensemble(network, POOL, TEST, [runs], schedule=schedule, settings=settings)
    expected = alone.tables["recording"]
    assert table["member"].tolist() == expected["run"].tolist() == [0] * 4 + [1] * 4
    for column in expected.columns.drop(["run", "points", "accuracy"]):
        assert_close(table[column].to_numpy(float), expected[column].to_numpy(float), operations=1000)
    assert (table[["activation", "width", "depth"]] == ["tanh", 5, 2]).all(axis=None)


@pytest.mark.usefixtures("quick_float64")
def test_networks_that_diverged_are_counted():
    schedule = training.Schedule(n_epochs=2, optimiser="sgd", learning_rate=1e200)
    settings = recording.Settings(epochs=[0])
    found = scaling.train([Shape("relu", 3, 1)], "dense", POOL, TEST, INDICES, schedule=schedule, settings=settings, seed=1)
    assert found.n_diverged == 2


def test_every_network_is_checked_before_the_first_is_trained(monkeypatch):
    monkeypatch.setattr(recorded_training, "train_ensemble", lambda *_, **__: pytest.fail("trained"))
    options = {"schedule": training.Schedule(n_epochs=2), "settings": recording.Settings(epochs=[0]), "seed": 1}
    with pytest.raises(ValueError, match="images"):
        scaling.train([Shape("relu", 3, 1)], "conv", POOL, TEST, INDICES, **options)
    with pytest.raises(ValueError, match="kind must be one of conv, dense"):
        scaling.train([Shape("relu", 3, 1)], "graph", POOL, TEST, INDICES, **options)


def test_a_power_law_has_its_exponent():
    generator = np.random.default_rng(0)
    widths = np.repeat([10, 30, 100, 300], 5)
    exact = pd.DataFrame({"width": widths, "trace": 3.0 * widths**0.7})
    fit = scaling.power_law(exact, "width", "trace")
    assert fit.exponent == pytest.approx(0.7) and fit.r_squared == pytest.approx(1.0) and fit.standard_error < 1e-6
    inside = 0
    for _ in range(200):
        noisy = exact.assign(trace=exact["trace"] * np.exp(0.3 * generator.normal(size=20)))
        fit = scaling.power_law(noisy, "width", "trace")
        inside += abs(fit.exponent - 0.7) < 1.96 * fit.standard_error
    assert 178 <= inside <= 200


def test_a_power_law_needs_three_values():
    with pytest.raises(ValueError, match="at least 3 values of width: received 2"):
        scaling.power_law(pd.DataFrame({"width": [1, 2, 2], "trace": [1.0, 2.0, 3.0]}), "width", "trace")


@pytest.mark.parametrize(
    ("studies", "error", "message"),
    [
        ({}, TypeError, "studies must name at least one study"),
        ({"a": {"width": 3, "depth": 1}}, ValueError, "The study a must have activation, width and depth"),
        ({"a": {"activation": "relu", "width": [3, 3], "depth": 1}}, ValueError, "width of a"),
        ({"a": {"activation": "step", "width": 3, "depth": 1}}, ValueError, "activation of a must be one of"),
        ({"a": {"activation": "relu", "width": 3, "depth": 0}}, ValueError, "depth of a must be at least 1: received 0"),
        ({"a": {"activation": "relu", "width": 3.0, "depth": 1}}, TypeError, "width of a must be an integer"),
    ],
)
def test_studies_that_make_no_sense_are_refused(studies, error, message):
    with pytest.raises(error, match=message):
        scaling.shapes(studies)
