"""Rounds of labelling: what rules share, what each row of the table says, and what goes wrong."""

import jax
import numpy as np
import pytest

from collective_variables.active_learning import choosing, fitting, labels, rounds
from collective_variables.networks import sequential

pytestmark = pytest.mark.usefixtures("quick_compilation")

GENERATOR = np.random.default_rng(0)
POINTS = GENERATOR.normal(size=(60, 2)).astype(np.float32)
VALUES = 50.0 + 10.0 * np.sin(POINTS[:, :1].astype(float))
SPLIT = rounds.Split(POINTS[:45], VALUES[:45], POINTS[45:], VALUES[45:])
NETWORK = sequential.build_network(["dense 6", "dense 1"], activation="tanh")
PLAN = rounds.Plan((6, 10, 14), fitting.FitSettings(n_networks=2, n_epochs=20))
RULES = {
    "random": choosing.Rule("random"),
    "lcmd": choosing.Rule("lcmd", "linear"),
    "variance": choosing.Rule("ensemble-variance"),
}


@pytest.fixture(scope="module")
def played():
    return rounds.play(NETWORK, [SPLIT, SPLIT], RULES, PLAN, task="regression")


def test_every_rule_repeat_and_round_has_a_row(played):
    assert tuple(played.columns) == rounds.COLUMNS and len(played) == 3 * 2 * 3
    for _, run in played.groupby(["method", "repeat"]):
        assert run["n_labelled"].tolist() == [6, 10, 14] and run["round"].tolist() == [0, 1, 2]
    assert played[["error", "entropy", "trace"]].notna().all(axis=None)
    assert played["accuracy"].isna().all()


def test_rules_share_first_rows_and_networks_and_repeats_differ(played):
    first = played[played["round"] == 0].pivot_table(
        index="repeat", columns="method", values="error"
    )
    assert (first.nunique(axis=1) == 1).all() and first["lcmd"].nunique() == 2
    last = played[played["round"] == 2].groupby("method")["error"].mean()
    assert last.nunique() == 3


def test_the_numbers_are_those_of_a_plain_loop(played):
    """Round 1 of LCMD in the first repeat, step by step."""
    keys = {
        name: jax.random.fold_in(jax.random.fold_in(jax.random.key(0), number), 0)
        for number, name in ((0, "initialisation"), (1, "subsets"))
    }
    initial = [
        NETWORK.init(jax.random.fold_in(keys["initialisation"], member), POINTS[:1])
        for member in range(2)
    ]
    order = jax.random.permutation(jax.random.fold_in(keys["subsets"], 0), 45)
    labelled = sorted(np.asarray(order)[:6].tolist())
    for _ in range(4):  # the farthest point of the heaviest cluster
        squared = ((POINTS[:45, None] - POINTS[None, labelled]) ** 2).sum(axis=2)
        owners, nearest = squared.argmin(axis=1), squared.min(axis=1)
        heaviest = np.bincount(owners, nearest).argmax()
        labelled.append(int(np.argmax(np.where(owners == heaviest, nearest, -1))))
    known = VALUES[sorted(labelled)]
    scaled = ((known - known.mean()) / known.std()).astype(np.float32)
    trained = fitting.fit(
        NETWORK,
        POINTS[sorted(labelled)],
        scaled,
        task="regression",
        initial=initial,
        settings=PLAN.settings,
    )
    outputs = np.mean([NETWORK.apply(params, POINTS[45:]) for params in trained], axis=0)
    error = np.sqrt(np.mean((outputs * known.std() + known.mean() - VALUES[45:]) ** 2))
    slopes = jax.jacrev(NETWORK.apply)(initial[0], POINTS[labelled])
    flat = np.concatenate([np.reshape(leaf, (10, -1)) for leaf in jax.tree.leaves(slopes)], axis=1)
    row = played.query("method == 'lcmd' and repeat == 0 and round == 1").iloc[0]
    for name, kernel in (("", flat @ flat.T), ("batch_", flat[6:] @ flat[6:].T)):
        shares = np.linalg.eigvalsh(kernel.astype(np.float64)).clip(1e-300)
        shares /= shares.sum()
        assert row[f"{name}trace"] == pytest.approx(np.trace(kernel), rel=1e-4)
        assert row[f"{name}entropy"] == pytest.approx(-(shares * np.log(shares)).sum(), rel=1e-3)
    assert row["error"] == pytest.approx(error, rel=1e-4)


def test_a_classification_counts_wrong_classes():
    classes = np.eye(2)[(POINTS[:, 0] > 0).astype(int)]
    split = rounds.Split(POINTS[:45], classes[:45], POINTS[45:], classes[45:])
    network = sequential.build_network(["dense 6", "dense 2"])
    rules = {"margin": choosing.Rule("margin")}
    played = rounds.play(network, [split], rules, PLAN, task="classification")
    np.testing.assert_allclose(played["error"], 1 - played["accuracy"])
    assert played["error"].iloc[-1] < 0.4


def test_one_network_may_be_tested_while_a_committee_chooses(played):
    single = rounds.play(
        NETWORK,
        [SPLIT],
        {"random": RULES["random"]},
        PLAN._replace(settings=fitting.FitSettings(n_networks=1, n_epochs=20)),
        task="regression",
    )
    tested = rounds.play(
        NETWORK, [SPLIT], {"random": RULES["random"]}, PLAN._replace(n_tested=1), task="regression"
    )
    np.testing.assert_array_equal(single["error"], tested["error"])
    both = played.query("method == 'random' and repeat == 0")["error"]
    assert not np.array_equal(both, tested["error"])


def test_a_diverged_training_leaves_nan_and_stops_no_other_rule(monkeypatch):
    fit, calls = fitting.fit, []

    def failing(*arguments, **options):
        calls.append(len(arguments[1]))
        if len(calls) == 2:
            raise rounds._errors.ComputationError("diverged")
        return fit(*arguments, **options)

    monkeypatch.setattr(fitting, "fit", failing)
    rules = {name: RULES[name] for name in ("random", "lcmd")}
    played = rounds.play(NETWORK, [SPLIT], rules, PLAN, task="regression")
    errors = played.set_index(["method", "round"])["error"].isna()
    assert errors["random"].tolist() == [False, True, True] and not errors["lcmd"].any()


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (PLAN._replace(sizes=(6,)), "two ascending numbers"),
        (PLAN._replace(sizes=(6, 6)), "two ascending numbers"),
        (PLAN._replace(sizes=(6, 46)), "45 rows of the pool: received 46"),
        (PLAN._replace(sizes=(0, 6)), "sizes"),
    ],
)
def test_wrong_sizes_are_errors_before_any_training(plan, message):
    with pytest.raises(ValueError, match=message):
        rounds.play(NETWORK, [SPLIT], RULES, plan, task="regression")


def test_an_untrained_network_is_tested_where_all_labels_are_the_same():
    same = rounds.Split(POINTS[:45], np.zeros((45, 1)), POINTS[45:], VALUES[45:])
    rules = {name: RULES[name] for name in ("random", "lcmd", "variance")}
    played = rounds.play(NETWORK, [same], rules, PLAN, task="regression")
    assert played["error"].notna().all()
    traces = played[played["round"] == 2].set_index("method")["trace"]
    # Without predictions the committee's rows are random ones.
    assert traces["variance"] == traces["random"] != traces["lcmd"]
    assert not choosing.can_train(labels.read_labels(np.zeros(3), 3))


@pytest.mark.parametrize("method", choosing.CLASS_METHODS)
def test_rules_for_classes_are_errors_in_a_regression(method):
    rules = {"random": RULES["random"], "rule": choosing.Rule(method)}
    with pytest.raises(ValueError, match=f"{method} needs probabilities of classes"):
        rounds.play(NETWORK, [SPLIT], rules, PLAN, task="regression")
