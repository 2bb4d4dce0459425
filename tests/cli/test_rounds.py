"""Rounds of labelling on the command line: the game that is played, and what is said about it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pages import Elements

from collective_variables.active_learning import fitting, rounds
from collective_variables.cli import commands, dry_run, main
from collective_variables.cli import rounds as games
from collective_variables.cli.forecast import rounds as forecasts
from collective_variables.cli.results import rounds as results
from collective_variables.data import encoding
from collective_variables.data._errors import DataError
from collective_variables.kernels import empirical

pytestmark = pytest.mark.usefixtures("quick_compilation", "standard_promotion")
RNG = np.random.default_rng(0)
N_ROWS = 40
X = RNG.normal(size=(N_ROWS, 2)) * [1.0, 10.0] + [0.0, 50.0]
Y = np.where(np.arange(N_ROWS) % 10 == 9, np.nan, 1000 + 30 * X[:, 0])
TABLE = encoding.encode_table({"a": X[:, 0], "b": X[:, 1], "y": Y}, ["y"])
FEW = fitting.FitSettings(n_networks=2, n_epochs=2)
SETTINGS = {"n_points": 4, "n_rounds": 2, "methods": ["lcmd"], "settings": FEW}
SMALL = ("--layers", "dense 16", "--epochs", 2, "--members", 2, "--n-points", 4)


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A table with a number and two classes to predict, which some rows lack."""
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame(X, columns=["a", "b"]).assign(y=Y)
    table["class"] = np.where(X[:, 0] > 0, "high", "low")
    table.to_csv("table.csv", index=False)


def run(capsys, *arguments):
    code = main.main(["compare", "table.csv", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_each_repeat_has_a_split_of_the_rows_with_a_target_in_their_own_unit():
    options = SETTINGS | {"n_test": 6, "seed": 5, "scaling": "standard"}
    game = games.prepare(TABLE, "table", **options, n_members=3)
    first = encoding.split_table(TABLE, "table", n_test=6, seed=5, input_scaling="standard")
    np.testing.assert_array_equal(game.splits[0].inputs, first.inputs)
    known = set(Y[~np.isnan(Y)])
    tests = []
    for split in game.splits:
        assert (len(split.inputs), len(split.test_inputs)) == (30, 6)
        pool, test = set(split.targets[:, 0]), set(split.test_targets[:, 0])
        assert pool | test == known and not pool & test
        np.testing.assert_allclose(split.inputs.mean(axis=0), 0.0, atol=1e-5)
        np.testing.assert_allclose(split.inputs.std(axis=0), 1.0, atol=1e-5)
        tests.append(frozenset(test))
    assert len(set(tests)) == 3
    longer = games.prepare(TABLE, "table", **options, n_members=4)
    assert [set(split.test_targets[:, 0]) for split in longer.splits[:3]] == tests
    assert game.plan.sizes == [4, 8, 12] and list(game.rules) == ["random", "lcmd"]


def test_no_two_seeds_share_the_split_of_a_repeat():
    splits = [
        frozenset(split.test_targets[:, 0])
        for seed in range(4)
        for split in games.prepare(TABLE, "t", **SETTINGS, n_members=4, seed=seed).splits
    ]
    assert len(set(splits)) == 16


def test_a_regression_is_played_printed_and_written(file, capsys):
    arguments = ("--target", "y", "--ignore", "class", "--rounds", 1, *SMALL)
    options = ("--runs", "r.csv", "--page", "p.html", "--quiet")
    code, text, words = run(capsys, *arguments, *options)
    assert (code, words) == (0, "")
    lines = text.splitlines()
    assert lines[0] == "mean error with a 95 % interval:"
    assert lines[1].split() == ["method", "n_labelled", "error", "lower", "upper"]
    assert [line.split()[:2] for line in lines[2:6]] == [
        [method, size] for method in ("random", "bait") for size in ("4", "8")
    ]
    assert "error minus that of random selection, with a 95 % interval:" in lines
    assert "Error: the root mean squared error, in the unit of y, on 7 test points." in text
    assert "After 1 round (8 labels), bait has an error of" in text
    assert "Intervals are over 2 repeats of one table." in text
    played = pd.read_csv("r.csv")
    assert tuple(played) == rounds.COLUMNS and len(played) == 2 * 2 * 2
    table = encoding.read_table("table.csv", ["y"], ignored=["class"])
    settings = SETTINGS | {
        "methods": ["bait"],
        "n_rounds": 1,
        "settings": fitting.FitSettings(n_epochs=2),
    }
    game = games.prepare(table, "table", **settings, n_members=2, network=["dense 16"])
    expected = game.play().drop(columns=["fit_seconds", "choice_seconds"])
    pd.testing.assert_frame_equal(played[list(expected)], expected, check_dtype=False)
    elements = Elements(Path("p.html").read_text())
    assert elements.texts[3].startswith("After 1 round (8 labels), BAIT has an error of")
    assert {"Error", "Entropy S", "Trace Tr", "Number of labels"} <= set(elements.texts)
    for name, value in {"methods": "bait", "epochs": "2", "learning-rate": "0.01"}.items():
        assert elements.texts[elements.texts.index(name) + 1] == value


def test_classes_are_compared_by_their_accuracy_in_json(file, capsys):
    arguments = ("--target", "class", "--ignore", "y", "--rounds", 1, *SMALL)
    code, text, _ = run(capsys, *arguments, "--methods", "random", "ensemble-variance", "--json")
    values = json.loads(text)
    assert code == 0 and {row["method"] for row in values["summary"]} == {
        "random",
        "ensemble-variance",
    }
    accuracy = pd.DataFrame(values["rounds"]).groupby(["method", "n_labelled"])["accuracy"].mean()
    for row in values["summary"]:
        assert row["accuracy"] == pytest.approx(accuracy[row["method"], row["n_labelled"]])
        assert row["entropy"] > 0 and row["trace"] > 0
    final = values["differences"][0]
    expected = accuracy["ensemble-variance", 8] - accuracy["random", 8]
    assert final["measure"] == "final"
    assert final["mean_difference"] == pytest.approx(expected)
    assert "Accuracy: the share of right classes on 8 test points." in " ".join(values["sentences"])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--n-points", 4, 8), "--n-points must be a single number with --rounds, the rows of"),
        (("--n-points", 0), "--n-points must be at least 1: received 0."),
        (("--rounds", 0), "--rounds must be at least 1: received 0."),
        (("--members", 0), "--members must be at least 1: received 0."),
        (("--epochs", 0), "--epochs must be at least 1: received 0."),
        (("--learning-rate", 0), "--learning-rate must be greater than 0"),
        (("--loss", "mse"), "--loss must not be given with --rounds"),
        (("--methods", "stratified"), "stratified needs the target of every row"),
        (("--methods", "margin"), "margin needs probabilities of classes, and the task is a reg"),
        (("--rounds", 7), "--rounds 7 label 32 rows, 4 at first and in each round. The pool has"),
        (("--n-test", 36), "--n-test must be from 1 to 35"),
        (("--seed", -1), "--seed must be at least 0: received -1."),
        (("--layers", "dense x"), "dense x"),
    ],
)
def test_wrong_input_is_one_line_and_2_before_any_work(
    arguments, message, file, capsys, monkeypatch
):
    monkeypatch.setattr(rounds, "play", None)
    start = ("--target", "y", "--ignore", "class", "--rounds", 2, "--n-points", 4, "--quiet")
    code, text, words = run(capsys, *start, *arguments)
    assert (code, text) == (2, "") and words.count("\n") == 1
    assert words.startswith(f"error: {message}") or message in words


def test_a_table_without_targets_is_refused():
    bare = encoding.encode_table({"a": X[:, 0], "b": X[:, 1]}, [])
    with pytest.raises(DataError, match="A problem must have a target"):
        games.prepare(bare, "bare", **SETTINGS)


def test_without_rounds_epochs_rate_and_loss_are_as_before(file, capsys, monkeypatch):
    received = {}

    def compare(dataset, **settings):
        received.update(settings)
        raise DataError("enough")

    monkeypatch.setattr(commands, "compare", compare)
    run(capsys, "--target", "y", "--n-points", 4, "--quiet")
    schedule = received["schedule"]
    assert (schedule.loss, schedule.n_epochs, schedule.learning_rate) == ("mse", 500, 0.005)
    assert list(received["methods"]) == ["rnd-linearised"]


def test_a_dry_run_forecasts_more_for_more_repeats(file, capsys):
    seconds = []
    for n_members in (2, 2000):
        game = games.prepare(TABLE, "t", **SETTINGS, n_members=n_members, network=["dense 3"])
        forecast = dry_run.forecast_rounds(game)
        assert forecast.n_bytes > 0
        seconds.append(forecast.seconds)
    (low, high), (later, _) = seconds
    assert 0 < low <= high < later
    arguments = ("--target", "y", "--ignore", "class", "--rounds", 1, *SMALL, "--dry-run")
    code, text, _ = run(capsys, *arguments, "--methods", "random", "ensemble-variance", "--quiet")
    assert code == 0 and text.startswith("It would take ")


def test_the_counted_trainings_are_those_that_are_played(monkeypatch):
    widths = []

    def fit(network, inputs, targets, *, initial, **_):
        widths.append(max(16, 8 * -(-len(inputs) // 8)))  # of the sizes here
        return initial

    monkeypatch.setattr(fitting, "fit", fit)
    monkeypatch.setattr(empirical, "empirical_ntk", lambda *arguments: np.eye(len(arguments[2])))
    settings = SETTINGS | {"n_points": 8, "methods": ["k-center"], "n_members": 3}
    game = games.prepare(TABLE, "table", **settings, network=["dense 16"])
    game.play()
    counts = forecasts.trainings(game.plan.sizes, 3, 2)
    assert counts == {width: widths.count(width) for width in set(widths)}
    assert sum(counts.values()) == len(widths) == 3 * (1 + 2 * 2)


def made(lcmd, random=(3.0, 2.0, 1.0), n_repeats=5, spread=0.01):
    """Rounds with these mean errors, to which repeats add a part that methods share."""
    # Symmetric, so that means are the given ones.
    shared, own = np.linspace(-1, 1, n_repeats), np.cos(np.pi * np.arange(n_repeats))
    shared, own = shared - shared.mean(), own - own.mean()
    rows = [
        (method, repeat, number, 20 * (number + 1), error + 0.01 * shared[repeat] + noise)
        for method, errors in (("random", random), ("lcmd", lcmd))
        for repeat in range(n_repeats)
        for number, error in enumerate(errors)
        for noise in [spread * own[repeat] * (method == "lcmd")]
    ]
    played = pd.DataFrame(rows, columns=["method", "repeat", "round", "n_labelled", "error"])
    return played.assign(accuracy=1 - played["error"], entropy=1.0, trace=1.0)


def setting(**changes):
    values = results.Setting("regression", "price", 200, 50, 2, 20, 5, 3, 300, 0.01)
    return values._replace(**changes)


def said(played, **changes):
    made_setting = setting(**changes)
    evaluated = results.evaluate(played, made_setting)
    return evaluated, made_setting, " ".join(results.sentences(evaluated, made_setting))


def test_a_better_method_has_its_gain_and_the_labels_that_it_saves():
    played, made_setting, text = said(made((3.0, 1.0, 0.8)))
    assert "lcmd has an error of 0.8, random rows 1: 20 % lower (95 % interval: 19 to 21 % " in text
    assert "With about 40 labels lcmd is as good as random rows with 60 (95 % interval: " in text
    answer = results.answer(played, made_setting, str.upper)
    assert answer.startswith("After 2 rounds (60 labels), LCMD has an error of")
    assert "Choose at random" not in answer


def test_a_worse_method_is_said_to_be_worse():
    played, made_setting, text = said(made((3.0, 2.5, 2.0)))
    assert "% higher (95 % interval: " in text
    assert "With about 40 labels random rows are as good as lcmd with 60" in text
    assert results.answer(played, made_setting).endswith("Choose at random.")


def test_no_difference_and_few_repeats_are_said_to_be_so():
    played, made_setting, text = said(made((3.0, 2.0, 1.0), n_repeats=3, spread=0.1), n_repeats=3)
    assert "no difference is shown (95 % interval: " in text and " higher)." in text
    assert "Caution: intervals from 3 repeats are rough" in text and "as good as" not in text
    assert results.answer(played, made_setting).endswith(
        "Choose at random. The cautions below apply."
    )


def test_a_single_repeat_has_no_answer():
    played, made_setting, text = said(made((3.0, 1.0, 0.5), n_repeats=1), n_repeats=1)
    assert "lcmd has an error of 0.5, random rows 1: 50 % lower." in text
    assert "A single repeat of one table has no interval: --members 5 or more gives one." in text
    assert results.answer(played, made_setting).startswith("There is no answer: a single repeat")


def test_accuracies_differ_by_percentage_points():
    accuracies = made((0.5, 0.3, 0.1), random=(0.5, 0.35, 0.3), spread=0.005)
    _, _, text = said(accuracies, task="classification")
    assert "lcmd has an accuracy of 0.9, random rows 0.7: " in text
    assert " percentage points higher (95 % interval: " in text
    assert "With about 40 labels lcmd is as good as random rows with 60" in text


def test_trainings_that_diverged_are_counted():
    played = made((3.0, 1.0, 0.8))
    played.loc[(played["method"] == "lcmd") & (played["repeat"] == 1), ["error", "accuracy"]] = (
        np.nan
    )
    evaluated, made_setting, text = said(played)
    assert "in 1 of 10 runs a training diverged" in text and "now 0.01" in text
    counts = results.summary(evaluated, made_setting)["n_diverged"]
    assert counts.tolist() == [0, 0, 0, 1, 1, 1] and not results.failure(evaluated, made_setting)
    evaluated, made_setting, _ = said(played.assign(error=np.nan, accuracy=np.nan))
    assert results.failure(evaluated, made_setting).startswith("The first training of every")
    assert results.answer(evaluated, made_setting).startswith("There is no answer: the first")
