"""A comparison in sentences: units, how much chosen rows are worth, and cautions."""

import numpy as np
import pytest
from comparisons import compared, setting

from collective_variables.cli.results import comparison

SPLIT = "Intervals are for this pool and these test points: another --seed draws others."


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
        SPLIT,
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
        SPLIT,
    ]


def test_a_single_network_has_no_interval():
    sentences = told(compared(twice_as_good, n_members=1), n_members=1)
    assert "10 rows chosen by k-center are worth about 20 random ones." in sentences
    assert "A single network has no interval: --members 2 or more gives one." in sentences
    assert SPLIT not in sentences


def test_few_networks_are_a_caution():
    caution = "Caution: intervals from 3 networks are rough; --members sets the number."
    assert caution in told(compared(twice_as_good, n_members=3), n_members=3)
    assert not comparison.cautions(compared(twice_as_good), setting())


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


ADVANTAGE = "No advantage over random rows is shown: "


def answer(losses, sizes=(10, 20, 40), n_members=4, **changes):
    made = compared(losses, sizes=sizes, n_members=n_members)
    return comparison.answer(made, setting(n_members=n_members, **changes))


def at(sizes, factor=0.5):
    """k-center has a loss that differs from that of random rows at some sizes only."""
    return lambda method, size: factor if method == "k-center" and size in sizes else 1.0


def test_the_answer_is_the_largest_size_and_how_much_lower_its_loss_is():
    # Losses are 1 to 1.03 and half of that: the difference is 0.5075 and t is 3.182.
    assert answer(at([40]), sizes=[40]) == (
        "40 rows chosen by k-center give a test loss 50 % lower than as many random ones: by 0.508 "
        "(95 % interval: 0.497 to 0.518 variances of the target)."
    )


@pytest.mark.parametrize(
    "better, first, last",
    [
        ([10, 20, 40], "40 rows chosen", "So it is at every size tried, from 10 rows on."),
        ([20, 40], "40 rows chosen", "Below 20 rows choose at random: no advantage"),
        ([20], "20 rows chosen", "At 10 and 40 rows choose at random: no advantage"),
        ([10], "10 rows chosen", "At 20 and 40 rows choose at random: no advantage"),
    ],
)
def test_the_answer_says_from_which_size_on_it_holds(better, first, last):
    text = answer(at(better))
    assert text.startswith(first) and " 50 % lower than " in text and last in text


def test_rows_that_are_worse_than_random_ones_are_no_gain():
    text = answer(at([10, 20, 40], 2.0))
    assert text.startswith("40 rows chosen by k-center give a test loss 100 % higher than as many")
    assert text.endswith("variances of the target). Choose at random.")


def test_what_is_undecided_has_the_interval_and_is_no_gain():
    made = compared(lambda *_: 1.0, sizes=[10])
    is_loss = made.differences["variable"] == "min_test_loss"
    made.differences.loc[is_loss, ["lower", "upper"]] = -0.25, 0.125
    assert comparison.answer(made, setting()) == (
        f"{ADVANTAGE}10 rows chosen by k-center have a test loss from 0.25 lower to 0.125 higher "
        "than as many random ones (95 % interval, variances of the target). Choose at random."
    )


def test_the_answer_has_the_unit_of_the_loss():
    options = {"task": "classification", "target": None}
    assert answer(at([40]), **options).count("0.518).") == 1
    assert "0.518 nats)" in answer(at([40]), **options, loss="cross-entropy")


def test_there_is_no_answer_without_an_interval():
    assert answer(at([40]), n_members=1) == (
        "There is no answer: a single network has no interval, and --members 2 or more gives one."
    )
    assert answer(lambda *_: np.nan).startswith("There is no answer: all 24 trainings diverged: ")
    alone = compared(at([40]))
    alone = alone._replace(differences=alone.differences[:0])
    assert comparison.answer(alone, setting()) == (
        "There is no answer: random selection was compared with no other method."
    )
    lost = answer(lambda method, size: np.nan if method == "k-center" else 1.0)
    assert lost == "There is no answer: fewer than two networks of a size did not diverge."


def test_an_answer_with_cautions_says_that_they_apply():
    text = answer(lambda method, size: np.nan if (method, size) == ("k-center", 40) else 1 / size)
    assert text.startswith(ADVANTAGE) and text.endswith("The cautions below apply.")
    assert "20 rows chosen" in text
