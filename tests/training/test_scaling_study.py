"""The networks of a scaling study, its tables, and power laws with a known exponent."""

import numpy as np
import pandas as pd
import pytest
from helpers import assert_close

from collective_variables.analysis import power_law
from collective_variables.networks import sequential
from collective_variables.training import (
    ensemble_training,
    loop,
    recorded_training,
    recording,
    scaling_study,
    schedules,
    study_cases,
)
from collective_variables.training.study_cases import Case

GENERATOR = np.random.default_rng(0)
POOL = loop.Points(GENERATOR.normal(size=(12, 4)), np.eye(3)[np.arange(12) % 3])
TEST = loop.Points(GENERATOR.normal(size=(5, 4)), np.eye(3)[np.arange(5) % 3])
INDICES = np.stack([np.random.default_rng(seed).permutation(12)[:8] for seed in range(2)])
STUDIES = {
    "width": {"activation": "relu", "width": [3, 5], "depth": 1},
    "depth": {"activation": ["relu"], "width": 3, "depth": [1, 2]},
}


def case(activation="relu", width=3, depth=1, n_points=8, batch_size=4, **others):
    return Case(activation, width, depth, n_points, batch_size, **others)


def test_a_study_is_every_combination_of_its_values():
    grid = {"activation": ["relu", "tanh"], "width": [4, 8], "depth": 2}
    data = {
        "activation": "relu",
        "width": 3,
        "depth": 1,
        "n_points": [2, 8],
        "batch_size": [4, 8],
        "label_noise": 0.5,
    }
    cases = study_cases.list_cases(STUDIES | {"grid": grid, "data": data}, n_points=8, batch_size=4)
    assert cases["grid"] == [case(name, width, 2) for name in ("relu", "tanh") for width in (4, 8)]
    assert cases["width"] == [case(), case(width=5)] and cases["depth"] == [case(), case(depth=2)]
    # No batch has more points than there are.
    expected = [(2, 2), (2, 2), (8, 4), (8, 8)]
    assert cases["data"] == [
        case(n_points=n, batch_size=batch, label_noise=0.5) for n, batch in expected
    ]


def test_a_study_without_a_batch_size_has_all_points_in_one():
    study = {
        "activation": "relu",
        "width": 3,
        "depth": 1,
        "n_points": [4, 8],
        "weight_scale": [1.0, 2.0],
    }
    cases = study_cases.list_cases({"all": study}, n_points=8, batch_size=None)["all"]
    assert [one.batch_size for one in cases] == [one.n_points for one in cases] == [4, 4, 8, 8]
    assert [one.weight_scale for one in cases] == [1.0, 2.0] * 2


def test_networks_are_those_of_the_case():
    images = loop.Points(np.zeros((2, 8, 8, 1)), np.zeros((2, 3)))
    for kind, expected in {
        "dense": ["dense 7", "dense 7", "dense 7", "dense 3"],
        "conv": ["conv 7 3x3", "avgpool 2x2", "conv 7 3x3", "avgpool 2x2", "conv 7 3x3", "dense 3"],
    }.items():
        for name in sequential.PARAMETRISATIONS:
            network = scaling_study.build_case(
                case("tanh", 7, 3), kind, images, images, parametrisation=name
            )
            assert network == sequential.build_network(
                expected, activation="tanh", parametrisation=name
            )
        assert scaling_study.build_case(case(), kind, images, images) == scaling_study.build_case(
            case(), kind, images, images, parametrisation="lecun"
        )
    tokens = loop.Points(np.array([[1.0, 5.0]]), np.zeros((1, 2)))
    network = scaling_study.build_case(
        case("silu", 8, 3), "transformer", tokens, tokens._replace(inputs=np.array([[7.0, 0.0]]))
    )
    assert (
        network.width,
        network.n_layers,
        network.n_tokens,
        network.n_outputs,
        network.activation,
    ) == (
        8,
        3,
        7,
        2,
        "silu",
    )
    network = scaling_study.build_case(case("tanh", 8, 3), "resnet", images, images)
    assert (network.width, network.n_blocks, network.n_outputs, network.activation) == (
        8,
        3,
        3,
        "tanh",
    )
    network = scaling_study.build_case(case("tanh", 8, 3), "graph-network", images, images)
    assert (network.width, network.n_steps, network.n_outputs, network.activation) == (
        8,
        3,
        3,
        "tanh",
    )


@pytest.mark.parametrize(
    ("kind", "parametrisation", "message"),
    [
        ("dense", "NTK", "parametrisation must be one of lecun, ntk"),
        (
            "resnet",
            "ntk",
            "parametrisation must be 'lecun' for the kind 'resnet'; only dense and conv have "
            "another: received 'ntk'",
        ),
    ],
)
def test_a_kind_has_the_parametrisations_that_exist(kind, parametrisation, message):
    with pytest.raises(ValueError, match=message):
        scaling_study.build_case(case(), kind, POOL, TEST, parametrisation=parametrisation)


@pytest.mark.usefixtures("quick_float64")
def test_the_table_has_the_recording_of_every_network():
    cases = [case(), case("tanh", 5, 2, n_points=6)]
    schedule, settings = (
        schedules.Schedule(n_epochs=2),
        recording.Settings(epochs=[0], observables=["modes"]),
    )
    options = {"schedule": schedule, "settings": settings, "seed": 1}
    trained = scaling_study.train_cases(
        cases, "dense", POOL, TEST, INDICES, task="classification", **options
    )
    assert trained.n_diverged == 0 and len(trained.tables["classes"]) == 0
    table = study_cases.study_rows(trained.tables["recording"], cases[1:])
    network = sequential.build_network(["dense 5", "dense 5", "dense 3"], activation="tanh")
    runs = ensemble_training.runs(INDICES, np.full((2, 1), 6), seed=1)
    in_batches = schedules.Schedule(n_epochs=2, batch_size=4)
    (alone,) = recorded_training.train_ensemble(
        network, POOL, TEST, [runs], schedule=in_batches, settings=settings
    )
    modes = study_cases.study_rows(trained.tables["modes"], cases[1:])
    assert_close(
        modes["eigenvalue_now"].to_numpy(),
        alone.tables["modes"]["eigenvalue_now"].to_numpy(),
        operations=1000,
    )
    expected = alone.tables["recording"]
    assert table["member"].tolist() == expected["run"].tolist() == [0] * 4 + [1] * 4
    for column in expected.columns.drop(["run", "points"]):
        known = expected[column].notna().to_numpy()
        assert (table[column].notna() == known).all()
        assert_close(
            table[column].to_numpy(float)[known],
            expected[column].to_numpy(float)[known],
            operations=1000,
        )
    # Weights and biases of 4 inputs, two layers of 5 and 3 outputs.
    assert (table["n_parameters"] == 5 * 5 + 6 * 5 + 6 * 3).all()
    assert (table[list(study_cases.AXES)] == ["tanh", 5, 2, 6, 4, 1.0, 0.0, "learned"]).all(
        axis=None
    )


@pytest.mark.usefixtures("quick_float64")
@pytest.mark.parametrize("features", ["linearised", "last-layer"])
def test_features_that_are_not_learned_leave_the_kernel_as_it_is(features):
    options = {
        "schedule": schedules.Schedule(n_epochs=4, learning_rate=0.05),
        "settings": recording.Settings(),
        "seed": 1,
        "task": "classification",
    }
    cases = [case(), case(features=features)]
    found = scaling_study.train_cases(cases, "dense", POOL, TEST, INDICES, **options)
    learned, kept = (
        study_cases.study_rows(found.tables["recording"], [one]).query("points == 'train'")
        for one in cases
    )
    first, last = kept[kept["epoch"] == 0], kept[kept["epoch"] == 4]
    assert (kept["drift"] < 1e-12).all() and (learned["drift"].iloc[-1] > 1e-3)
    assert (last["loss"].to_numpy() < first["loss"].to_numpy()).all()
    np.testing.assert_array_equal(
        first["loss"], learned.loc[learned["epoch"] == 0, "loss"], strict=False
    )
    n_learned = 3 * 4 + 3 + 3 * 3 + 3
    assert set(learned["n_parameters"]) == {n_learned}
    assert set(kept["n_parameters"]) == {n_learned if features == "linearised" else 12}


def test_features_that_are_not_learned_refuse_an_optimiser_that_would_change_them():
    options = {"settings": recording.Settings(), "seed": 1, "task": "classification"}
    decaying = schedules.Schedule(n_epochs=2, optimiser="adamw")
    with pytest.raises(ValueError, match="parameters without a gradient.*received 'adamw'"):
        scaling_study.train_cases(
            [case(features="linearised")],
            "dense",
            POOL,
            TEST,
            INDICES,
            schedule=decaying,
            **options,
        )


@pytest.mark.usefixtures("quick_float64")
def test_a_regression_has_no_accuracy():
    options = {
        "schedule": schedules.Schedule(n_epochs=2),
        "settings": recording.Settings(epochs=[0]),
        "seed": 1,
    }
    trained = scaling_study.train_cases(
        [case()], "dense", POOL, TEST, INDICES, task="regression", **options
    )
    assert trained.tables["recording"]["accuracy"].isna().all()


@pytest.mark.usefixtures("quick_float64")
def test_networks_that_diverged_are_counted():
    schedule = schedules.Schedule(n_epochs=2, optimiser="sgd", learning_rate=1e200)
    settings = recording.Settings(epochs=[0])
    options = {"schedule": schedule, "settings": settings, "seed": 1, "task": "classification"}
    assert (
        scaling_study.train_cases([case()], "dense", POOL, TEST, INDICES, **options).n_diverged == 2
    )


def test_every_network_is_checked_before_the_first_is_trained(monkeypatch):
    monkeypatch.setattr(
        recorded_training, "train_ensemble", lambda *_, **__: pytest.fail("trained")
    )
    options = {
        "schedule": schedules.Schedule(n_epochs=2),
        "settings": recording.Settings(epochs=[0]),
        "seed": 1,
    }
    with pytest.raises(ValueError, match="images"):
        scaling_study.train_cases(
            [case()], "conv", POOL, TEST, INDICES, task="classification", **options
        )
    noisy = [case(), case(label_noise=0.5)]
    options["schedule"] = schedules.Schedule(n_epochs=10, evaluate_every=5)
    with pytest.raises(ValueError, match="noise_from must be a multiple of evaluate_every"):
        scaling_study.train_cases(
            noisy, "dense", POOL, TEST, INDICES, task="classification", noise_from=8, **options
        )
    with pytest.raises(
        ValueError, match=f"kind must be one of {', '.join(sorted(scaling_study.KINDS))}"
    ):
        scaling_study.train_cases(
            [case()], "graph", POOL, TEST, INDICES, task="classification", **options
        )


def test_a_power_law_has_its_exponent():
    generator = np.random.default_rng(0)
    widths = np.repeat([10, 30, 100, 300], 5)
    exact = pd.DataFrame({"width": widths, "trace": 3.0 * widths**0.7})
    fit = power_law.fit_power_law(exact, "width", "trace")
    assert (
        fit.exponent == pytest.approx(0.7)
        and fit.r_squared == pytest.approx(1.0)
        and fit.standard_error < 1e-6
    )
    inside = 0
    for _ in range(200):
        noisy = exact.assign(trace=exact["trace"] * np.exp(0.3 * generator.normal(size=20)))
        fit = power_law.fit_power_law(noisy, "width", "trace")
        inside += abs(fit.exponent - 0.7) < 1.96 * fit.standard_error
    assert 178 <= inside <= 200


def test_a_power_law_needs_three_values():
    with pytest.raises(ValueError, match="at least 3 values of width: received 2"):
        power_law.fit_power_law(
            pd.DataFrame({"width": [1, 2, 2], "trace": [1.0, 2.0, 3.0]}), "width", "trace"
        )


@pytest.mark.parametrize(
    ("studies", "error", "message"),
    [
        ({}, TypeError, "studies must name at least one study"),
        (
            {"a": {"width": 3, "depth": 1}},
            ValueError,
            "The study a must have activation, width and depth",
        ),
        ({"a": {"activation": "relu", "width": [3, 3], "depth": 1}}, ValueError, "width of a"),
        (
            {"a": {"activation": "relu", "width": 3, "depth": 1, "seed": 1}},
            ValueError,
            "may have n_points, batch_size",
        ),
        (
            {"a": {"activation": "step", "width": 3, "depth": 1}},
            ValueError,
            "In the study a, activation must be one of",
        ),
        (
            {"a": {"activation": "relu", "width": 3, "depth": 0}},
            ValueError,
            "In the study a, depth must be at least 1: received 0",
        ),
        (
            {"a": {"activation": "relu", "width": 3.0, "depth": 1}},
            TypeError,
            "In the study a, width must be an integer",
        ),
        (
            {"a": {"activation": "relu", "width": 3, "depth": 1, "n_points": 9}},
            ValueError,
            "the points selected: 9 > 8",
        ),
        (
            {"a": {"activation": "relu", "width": 3, "depth": 1, "label_noise": 1.5}},
            ValueError,
            "a fraction: received 1.5",
        ),
        (
            {"a": {"activation": "relu", "width": 3, "depth": 1, "weight_scale": 0}},
            ValueError,
            "weight_scale must be greater than 0",
        ),
    ],
)
def test_studies_that_make_no_sense_are_refused(studies, error, message):
    with pytest.raises(error, match=message):
        study_cases.list_cases(studies, n_points=8, batch_size=4)
