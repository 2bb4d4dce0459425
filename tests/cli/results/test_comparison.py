"""A comparison in sentences: units, how much chosen rows are worth, and cautions."""

import numpy as np
import pytest
from comparisons import compared, setting

from collective_variables.cli.results import comparison


def twice_as_good(method, size):
    """Each row of k-center is worth two random ones."""
    return 1 / (size if method == "random" else 2 * size)


def told(made, **changes):
    return comparison.sentences(made, setting(**changes))


def test_chosen_rows_are_worth_as_many_random_ones_as_have_their_loss():
    sentences = told(compared(twice_as_good))
    assert sentences[:2] == [
        "Loss: mean squared error, in units of the target's variance; the smallest of 500 epochs "
        "on 50 test points, as the mean over 4 networks. The pool has 200 rows.",
        "Root-mean-square errors are in the unit of price.",
    ]
    assert sentences[2:] == [
        "10 rows chosen by k-center are worth about 20 random ones (95 % interval: 20 to 20).",
        "20 rows chosen by k-center are worth about 40 random ones (95 % interval: 40 to 40).",
        "40 rows chosen by k-center are worth more than 40 random ones "
        "(95 % interval: 40 to more than 40).",
    ]


def test_rows_that_are_worth_less_than_the_smallest_size():
    sentences = told(compared(lambda method, size: twice_as_good(method, size) ** -1))
    assert "10 rows chosen by k-center are worth fewer than 10 random ones" in " ".join(sentences)


@pytest.mark.parametrize(
    "factor, verdict",
    [
        (0.5, "a smaller loss than as many random ones"),
        (2.0, "a larger loss than as many random ones"),
        (1.0, "no difference from as many random ones is shown"),
    ],
)
def test_a_single_size_is_compared_with_as_many_random_rows(factor, verdict):
    made = compared(lambda method, size: factor if method == "k-center" else 1.0, sizes=[10])
    assert told(made)[2:] == [
        f"10 rows chosen by k-center: {verdict}.",
        "Several sizes after --n-points tell how many random rows these are worth.",
    ]


def test_a_single_network_has_no_interval():
    sentences = told(compared(twice_as_good, n_members=1), n_members=1)
    assert "10 rows chosen by k-center are worth about 20 random ones." in sentences
    assert "A single network has no interval: --members 2 or more gives one." in sentences


def test_errors_are_in_the_unit_of_the_target():
    table = comparison.summary(compared(twice_as_good), setting())
    factors = np.sqrt(1 + 0.01 * np.arange(4))
    row = table[(table["method"] == "random") & (table["n_points"] == 20)].iloc[0]
    assert row["root_mean_square_error"] == pytest.approx(3.0 * np.mean(factors) / np.sqrt(20))
    assert "max_test_accuracy" not in table and "n_diverged" not in table


@pytest.mark.parametrize("loss, unit", [("mse", "classes as 0 and 1"), ("cross-entropy", "nats")])
def test_classes_have_an_accuracy(loss, unit):
    changes = {"task": "classification", "loss": loss, "target": None}
    made = compared(twice_as_good, accuracy=0.75)
    table = comparison.summary(made, setting(**changes))
    assert (table["max_test_accuracy"] == 0.75).all() and "root_mean_square_error" not in table
    assert unit in told(made, **changes)[0]


def test_few_test_points_are_a_caution():
    made = compared(twice_as_good)
    assert "Caution: 1 test point says little; --n-test sets the number." in told(made, n_test=1)
    assert "Caution: 19 test points say little; --n-test sets the number." in told(made, n_test=19)
    assert not any("test point says" in text or "say little" in text for text in told(made))


def test_trainings_that_diverge_are_counted_and_all_of_them_are_a_failure():
    def partly(method, size):
        return np.nan if (method, size) == ("k-center", 40) else 1 / size

    some = compared(partly)
    caution = "Caution: 4 of 24 trainings diverged and are left out: lower --learning-rate, now 1."
    assert caution in told(some, learning_rate=1.0)
    assert comparison.failure(some, setting()) == ""
    table = comparison.summary(some, setting())
    assert table["n_diverged"].tolist() == [0, 0, 0, 0, 0, 4] or table["n_diverged"].sum() == 4
    every = compared(lambda *_: np.inf)
    assert comparison.failure(every, setting(learning_rate=1e9)) == (
        "All 24 trainings diverged: lower --learning-rate, now 1e+09."
    )
    assert not any("nan" in text for text in told(every))


def test_networks_that_end_far_off_are_a_caution():
    made = compared(twice_as_good)
    made.runs.loc[:2, "final_train_loss"] = 1e6
    caution = "3 of 24 trainings end with a loss above 10 on their own rows: lower --learning-rate"
    assert any(caution in text for text in told(made))
