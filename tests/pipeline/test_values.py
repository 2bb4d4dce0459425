"""params.yaml: what is read as a number, and one line for each wrong section, name and value."""

import copy
import json

import pytest
import yaml
from dvc.utils.serialize import parse_yaml
from project import ROOT

from nodes import _stage, _value_checks, _values

PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
WRONG = [  # a value of the committed params.yaml, and the whole line that refuses it
    (
        "fuel_TrainModel",
        "optimiser",
        "sgdd",
        "fuel_TrainModel.optimiser must be one of optax's that need only a "
        "learning rate and gradients, such as 'adam': received 'sgdd'.",
    ),
    (
        "fuel_TrainModel",
        "optimiser",
        None,
        "fuel_TrainModel.optimiser must be a text: received null. Write 'adam', "
        "the default, or another.",
    ),
    (
        "fuel_TrainModel",
        "learning_rate",
        [0.1],
        "fuel_TrainModel.learning_rate must be a number: received [0.1]. Write 0.1.",
    ),
    (
        "fuel_TrainModel",
        "learning_rate",
        [0.1, 0.2],
        "fuel_TrainModel.learning_rate must be a number: received [0.1, 0.2].",
    ),
    (
        "fuel_TrainModel",
        "learning_rate",
        "1e-3",
        "fuel_TrainModel.learning_rate must be a number: received '1e-3'. Write "
        "0.001 without quotation marks.",
    ),
    (
        "fuel_TrainModel",
        "learning_rate",
        "fast",
        "fuel_TrainModel.learning_rate must be a number: received 'fast'.",
    ),
    (
        "fuel_TrainModel",
        "learning_rate",
        True,
        "fuel_TrainModel.learning_rate must be a number: received true.",
    ),
    (
        "fuel_TrainModel",
        "learning_rate",
        {"a": 1},
        "fuel_TrainModel.learning_rate must be a number: received {a: 1}.",
    ),
    (
        "fuel_TrainModel",
        "n_epochs",
        1000.0,
        "fuel_TrainModel.n_epochs must be an integer: received 1000.0. Write 1000.",
    ),
    (
        "fuel_TrainModel",
        "n_epochs",
        2.5,
        "fuel_TrainModel.n_epochs must be an integer: received 2.5.",
    ),
    ("fuel_TrainModel", "n_epochs", 0, "fuel_TrainModel.n_epochs must be at least 1: received 0."),
    (
        "fuel_TrainModel",
        "record",
        {"epoch": [1]},
        "fuel_TrainModel.record must have names among epochs, n_train, n_test, "
        "subsample, observables, outputs, n_modes: received epoch. Write "
        "epochs.",
    ),
    (
        "fuel_TrainModel",
        "record",
        {"epochs": [1000]},
        "fuel_TrainModel: epochs must not exceed n_epochs: 1000 > 500.",
    ),
    (
        "fuel_TrainModel",
        "learnig_rate",
        0.1,
        "Parameters of fuel_TrainModel must be among loss, optimiser, "
        "learning_rate, n_epochs, batch_size, evaluate_every, trace_every, "
        "record: received learnig_rate. Write learning_rate.",
    ),
    (
        "fuel_ComputeNTK",
        "per_class",
        True,
        "fuel_ComputeNTK.per_class needs a problem of classification: received one of regression.",
    ),
    (
        "fuel_ComputeNTK",
        "per_class",
        "yes",
        "fuel_ComputeNTK.per_class must be true or false: received 'yes'. Write "
        "true without quotation marks.",
    ),
    (
        "fuel_ActiveLearning",
        "methods",
        {"lcmd": {}},
        "fuel_ActiveLearning.methods must have random, with which the others are compared: "
        "received lcmd.",
    ),
    (
        "fuel_ActiveLearning",
        "methods",
        {"random": {}, "mine": {"kernl": "ntk"}},
        "fuel_ActiveLearning.methods must have fields among method, kernel, n_features, options "
        "for mine, or {}: received {'kernl': 'ntk'}.",
    ),
    (
        "fuel_ActiveLearning",
        "n_batch",
        50,
        "fuel_ActiveLearning.n_start + n_rounds * n_batch must not exceed the pool: 310 > 272.",
    ),
    (
        "fuel_ActiveLearning",
        "n_pool",
        60,
        "fuel_ActiveLearning.n_start + n_rounds * n_batch must not exceed the pool: 70 > 60.",
    ),
    (
        "fuel_Ensemble",
        "n_points",
        5,
        "fuel_Ensemble.n_points must be a list or names with values: received 5. Write [5].",
    ),
    ("fuel_Ensemble", "n_points", [1], "fuel_Ensemble.n_points must be at least 2: received 1."),
    (
        "fuel_Ensemble",
        "n_members",
        None,
        "fuel_Ensemble.n_members must be an integer: received null. Write 20, "
        "the default, or another.",
    ),
    (
        "fuel_LoadDataset",
        "problem",
        "feul",
        "fuel_LoadDataset.problem must be one of concrete, fuel, gait, letters, mnist, "
        "mnist-60000, molecules, words: received 'feul'.",
    ),
    (
        "fuel_LoadDataset",
        "n_test",
        5000,
        "fuel_LoadDataset.n_test must be less than n_available, to leave a pool: 5000 >= 392.",
    ),
    (
        "fuel_Network",
        "layers",
        "dense 1",
        "fuel_Network.layers must be a list or null: received 'dense 1'. Write [dense 1].",
    ),
    (
        "fuel_Network",
        "layers",
        None,
        "fuel_Network: A network must have layers or a model: received neither.",
    ),
    (
        "fuel_Network",
        "activation",
        "rely",
        "fuel_Network.activation must be one of elu, erf, gelu, linear, relu, "
        "sigmoid, silu, softplus, tanh: received 'rely'.",
    ),
    (
        "fuel_RNDSelect",
        "options",
        None,
        "fuel_RNDSelect.options must be names with values: received null.",
    ),
    (
        "fuel_RNDSelect",
        "options",
        {"n_epochs": -1},
        "fuel_RNDSelect: n_epochs must be at least 0: received -1.",
    ),
    (
        "fuel_CorrelationAnalysis",
        "confidence",
        95,
        "fuel_CorrelationAnalysis.confidence must be less than 1: received 95.",
    ),
    ("all_Report", "seed", 1.5, "all_Report.seed must be an integer: received 1.5."),
    (
        "dynamics-mnist_ScalingStudy",
        "kind",
        "dens",
        "dynamics-mnist_ScalingStudy.kind must be one of conv, dense, "
        "graph-network, resnet, transformer: received 'dens'.",
    ),
    (
        "dynamics-agent_TrainAgent",
        "record",
        {"observables": ["alignment"]},
        "dynamics-agent_TrainAgent: The observables alignment need targets and "
        "a loss: received none.",
    ),
    (
        "dynamics-autoencoder_TrainAutoencoder",
        "beta",
        -1,
        "dynamics-autoencoder_TrainAutoencoder.beta must be at least 0.0: received -1.",
    ),
    (
        "dynamics_Findings",
        "resolution",
        "0.05",
        "dynamics_Findings.resolution must be a number: received '0.05'. Write "
        "0.05 without quotation marks.",
    ),
]


def refusal(sections):
    with pytest.raises(_values.ParameterError) as error:
        _values.check(sections)
    return str(error.value)


def test_the_committed_values_are_all_usable():
    _values.check(PARAMS)


@pytest.mark.parametrize(("section", "name", "value", "line"), WRONG)
def test_a_wrong_value_is_one_line_with_what_to_write(section, name, value, line):
    params = copy.deepcopy(PARAMS)
    params[section][name] = value
    assert refusal(params) == line


def test_an_option_that_a_method_has_not_is_named_with_the_one_that_is_near():
    params = copy.deepcopy(PARAMS)
    params["fuel_RNDSelect"]["options"] = {"n_epoch": 3}
    line = refusal(params)
    assert line.startswith("fuel_RNDSelect: Options of rnd are distance, order, scale, loss")
    assert line.endswith("labelled: received n_epoch. Write n_epochs.")
    params["fuel_SelectSubset-k-center"]["method"] = "k-centre"
    params["fuel_RNDSelect"]["options"] = {}
    assert refusal(params).startswith(
        "fuel_SelectSubset-k-center.method must be one of bait, best-entropy"
    )


def test_every_kind_of_stage_with_parameters_has_a_check():
    kinds = {_values.stage_class(section).__name__ for section in PARAMS}
    assert kinds | {"LoadFile"} == {*_value_checks.CHECKS, "Report"}
    assert {*_values.MODULES, "SelectSubset", *_values.SUMMARIES.values()} == kinds | {"LoadFile"}


@pytest.mark.parametrize(
    ("section", "ending"),
    [
        ("fuel_TrainModl", "received fuel_TrainModl. Write fuel_TrainModel."),
        ("fuel_trainmodel", "received fuel_trainmodel. Write fuel_TrainModel."),
        ("all_report", "received all_report. Write all_Report."),
        ("dynamics_Finding", "received dynamics_Finding. Write dynamics_Findings."),
        ("fuel", "SelectSubset-NAME: received fuel."),
        ("all_Network", "SelectSubset-NAME: received all_Network."),
        ("fuell_TrainModel", "Write fuel_TrainModel, or run `python main.py` if it is new."),
        (
            "houses_LoadDataset",
            "houses_LoadDataset of params.yaml is no stage of the graph. "
            "Run `python main.py` if it is new.",
        ),
    ],
)
def test_a_section_of_no_stage_is_one_line_with_the_name_that_is_near(section, ending):
    graph = json.loads((ROOT / "zntrack.json").read_text())
    with pytest.raises(_values.ParameterError) as error:
        _values.check_known([section], graph)
    assert str(error.value).endswith(ending) and "\n" not in str(error.value)
    _values.check_known(PARAMS, graph)


@pytest.mark.parametrize(
    "text", ["1e-3", "1e-05", "1.5e5", "2E3", "-1e+2", "1.e2", "0.001", "10", "1.5", "-3"]
)
def test_a_number_is_the_number_that_dvc_takes_it_for(text):
    content = f"a_TrainModel: {{learning_rate: {text}}}\n"
    values = _values.parse(content, "params.yaml")
    assert values == parse_yaml(content, "params.yaml")
    assert isinstance(values["a_TrainModel"]["learning_rate"], int | float)


@pytest.mark.parametrize("text", ["'1e-3'", "e5", "1e", "v1e3", "1e3abc", "1-3"])
def test_a_text_stays_a_text(text):
    assert isinstance(_values.parse(f"a: {{b: {text}}}", "params.yaml")["a"]["b"], str)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a_B: {}\nc_D: {}\na_B: {}\n", "params.yaml must be YAML: a_B is written twice"),
        ("a_B: {c: 1, c: 2}\n", "params.yaml must be YAML: c is written twice"),
        ("a_B:\n\tc: 1\n", "params.yaml must be YAML: while scanning"),
        ("text\n", "params.yaml must have sections <group>_<Stage>: received text."),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(text, line):
    with pytest.raises(_values.ParameterError) as error:
        _values.parse(text, "params.yaml")
    assert str(error.value).startswith(line) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (_values.ParameterError("a_B.c must be 1."), "a_B.c must be 1."),
        (MemoryError("A kernel needs\n 8 GiB."), "fuel_ComputeNTK: A kernel needs 8 GiB."),
        (
            OSError(28, "No space left on device"),
            "fuel_ComputeNTK: [Errno 28] No space left on device",
        ),
        (FloatingPointError("It diverged."), "fuel_ComputeNTK: It diverged."),
        (MemoryError(), "fuel_ComputeNTK: MemoryError"),
    ],
)
def test_what_a_person_can_mend_is_one_line(error, line):
    assert _stage.is_explained(error) and _stage.in_one_line("fuel_ComputeNTK", error) == line


@pytest.mark.parametrize(
    "error", [KeyError("a"), ValueError("shapes"), AssertionError(), TypeError()]
)
def test_a_bug_keeps_its_traceback(error):
    assert not _stage.is_explained(error)
