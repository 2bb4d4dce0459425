"""Statistics of rounds of labelling, next to loops over repeats and curves on a fine grid."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.isotonic import IsotonicRegression

from collective_variables.analysis import labelling_curves

TOLERANCE = dict(rtol=1e-9, atol=1e-12)
SIZES = (20, 40, 60, 80)


def table(errors, sizes=SIZES):
    """Rounds with the given errors [repeats rounds] of each method."""
    rows = [
        (method, repeat, number, sizes[number], error)
        for method, values in errors.items()
        for repeat, curve in enumerate(np.asarray(values, float))
        for number, error in enumerate(curve)
    ]
    columns = ["method", "repeat", "round", "n_labelled", "error"]
    played = pd.DataFrame(rows, columns=columns)
    others = {"accuracy": 1 - played["error"], "entropy": 2 + played["error"]}
    return played.assign(**others, trace=100 * played["n_labelled"])


def drawn(n_repeats=6, seed=0):
    """Errors that fall, of which those of lcmd are lower."""
    generator = np.random.default_rng(seed)
    noise = generator.uniform(0.0, 0.05, (3, n_repeats, 4))
    falls = np.array([0.8, 0.6, 0.5, 0.4])
    return {
        "random": falls + noise[0],
        "lcmd": falls - [0.0, 0.1, 0.15, 0.1] + noise[1],
        "bait": falls + [0.0, 0.05, 0.1, 0.1] + noise[2],
    }


def interval(values):
    values = np.asarray(values, float)
    sem = np.sqrt(np.sum((values - values.mean()) ** 2) / (len(values) - 1) / len(values))
    margin = stats.t.ppf(0.975, len(values) - 1) * sem
    return values.mean() - margin, values.mean() + margin


def test_means_and_intervals_are_those_of_a_loop_over_repeats():
    errors = drawn()
    errors["lcmd"][2, 3] = np.nan
    result = labelling_curves.summary(table(errors)).set_index(["method", "n_labelled"])
    for method, values in errors.items():
        for number, size in enumerate(SIZES):
            row = result.loc[method, size]
            kept = [value for value in values[:, number] if value == value]
            assert (row["n_repeats"], row["n_diverged"]) == (len(kept), 6 - len(kept))
            low, high = interval(kept)
            found = row[["error", "error_lower", "error_upper"]].astype(float)
            np.testing.assert_allclose(found, [np.mean(kept), low, high], **TOLERANCE)
            found = row[["accuracy", "accuracy_lower", "accuracy_upper"]].astype(float)
            np.testing.assert_allclose(found, [1 - np.mean(kept), 1 - high, 1 - low], **TOLERANCE)
    assert list(dict.fromkeys(result.index.get_level_values(0))) == list(errors)


def test_intervals_end_where_a_variable_does_and_one_repeat_has_none():
    wide = labelling_curves.summary(table({"random": [[0.01], [0.99]]}, [20])).iloc[0]
    assert (wide["error_lower"], wide["accuracy_lower"], wide["accuracy_upper"]) == (0, 0, 1)
    played = table({"random": [[0.5, 0.4], [0.5, 0.6]], "lcmd": [[0.5, 0.9], [0.5, 0.1]]}, [4, 8])
    error, accuracy = (
        labelling_curves.differences(played, name).iloc[0] for name in ("error", "accuracy")
    )
    assert error["lower"] == pytest.approx(-0.5) and error["upper"] > 1
    assert (accuracy["lower"], accuracy["upper"]) == (-1, 1)
    single = labelling_curves.summary(table({"random": [[0.5]]}, [20])).iloc[0]
    assert single["error"] == 0.5 and single[["error_lower", "error_upper"]].isna().all()


@pytest.mark.parametrize("variable, sign", [("error", -1), ("accuracy", 1)])
def test_differences_are_paired_over_repeats_with_a_result(variable, sign):
    errors = drawn(seed=1)
    errors["random"][0, 3] = np.nan
    errors["lcmd"][4, 1:] = np.nan
    result = labelling_curves.differences(table(errors), variable)
    assert result["method"].tolist() == ["lcmd", "lcmd", "bait", "bait"]
    for row in result.itertuples():
        pairs = []
        for repeat in range(6):
            curves = (errors[row.method][repeat], errors["random"][repeat])
            if variable == "accuracy":
                curves = tuple(1 - curve for curve in curves)
            measured = [
                curve[3] if row.measure == "final" else (curve[1] + curve[2] + curve[3]) / 3
                for curve in curves
            ]
            if not np.isnan(measured).any():
                pairs.append(measured)
        differences = [own - other for own, other in pairs]
        mean, other = sum(differences) / len(pairs), sum(other for _, other in pairs) / len(pairs)
        assert (row.n_pairs, row.n_diverged) == (len(pairs), 6 - len(pairs))
        wins = sum(sign * difference > 0 for difference in differences) / len(pairs)
        expected = [mean, *interval(differences), mean / other, wins]
        found = [row.mean_difference, row.lower, row.upper, row.relative_difference, row.win_rate]
        np.testing.assert_allclose(found, expected, **TOLERANCE)
        assert row.value - row.reference_value == pytest.approx(mean)


def test_random_rows_alone_are_compared_with_nothing():
    played = table({"random": drawn()["random"]})
    assert labelling_curves.differences(played).empty and labelling_curves.savings(played).empty


def on_a_grid(curve, error):
    """The smallest number of labels at which a monotone curve is as low as the error."""
    falling = IsotonicRegression(increasing=False).fit_transform(SIZES, curve)
    grid = np.exp(np.linspace(np.log(SIZES[0]), np.log(SIZES[-1]), 200_001))
    low = np.flatnonzero(np.interp(np.log(grid), np.log(SIZES), falling) <= error + 1e-12)
    return grid[low[0]] if len(low) else np.inf


@pytest.mark.parametrize("seed", range(3))
def test_savings_are_those_of_curves_on_a_fine_grid(seed):
    errors = drawn(seed=seed)
    result = labelling_curves.savings(table(errors)).set_index(["method", "role"])
    for method in ("lcmd", "bait"):
        own, other = errors[method].mean(axis=0), errors["random"].mean(axis=0)
        for role, curve, error in (("method", own, other[-1]), ("reference", other, own[-1])):
            found = result.loc[(method, role), "n_labelled"]
            assert found == pytest.approx(on_a_grid(curve, error), rel=1e-4)
    assert result.loc[("lcmd", "method"), "n_labelled"] < 80
    assert np.isinf(result.loc[("lcmd", "reference"), "n_labelled"])


def test_intervals_of_savings_are_those_of_all_resamples():
    errors = {name: values[:3] for name, values in drawn(seed=4).items() if name != "bait"}
    row = labelling_curves.savings(table(errors), n_resamples=4000).iloc[0]
    every = [
        on_a_grid(errors["lcmd"][rows].mean(axis=0), errors["random"][rows].mean(axis=0)[-1])
        for rows in map(list, itertools.product(range(3), repeat=3))
    ]
    # With three repeats the widened percentiles lie beyond every resample.
    assert stats.norm.sf(stats.t.ppf(0.975, 2) * np.sqrt(3 / 2)) < 1 / 27
    assert row["lower"] == pytest.approx(min(every), rel=1e-4)
    assert row["upper"] == pytest.approx(max(every), rel=1e-4)


def test_an_error_beyond_the_rounds_has_no_number_and_one_on_a_plateau_the_first():
    random = [[0.5, 0.4, 0.3, 0.2]] * 2
    result = labelling_curves.savings(
        table({"random": random, "level": [[0.5, 0.2, 0.2, 0.2]] * 2, "low": [[0.1] * 4] * 2})
    ).set_index(["method", "role"])
    columns = ["n_labelled", "lower", "upper"]
    assert result.loc[("level", "method"), columns].tolist() == pytest.approx([40, 40, 40])
    assert result.loc[("level", "reference"), columns].tolist() == pytest.approx([80, 80, 80])
    assert result.loc[("low", "method"), columns].tolist() == [0, 0, 20]
    assert result.loc[("low", "reference"), columns].tolist() == [np.inf, 80, np.inf]


def test_repeats_that_diverged_are_on_no_curve():
    errors = drawn(seed=5)
    whole = labelling_curves.savings(table({name: curve[1:] for name, curve in errors.items()}))
    errors["random"][0, 2] = np.nan
    pd.testing.assert_frame_equal(labelling_curves.savings(table(errors)), whole)
    errors["random"][:] = np.nan
    none = labelling_curves.savings(table(errors))
    assert none["n_labelled"].isna().all() and (none["n_pairs"] == 0).all()


def test_wrong_tables_are_refused():
    played = table(drawn())
    for wrong, words in (
        (played.drop(columns="trace"), "played must have the columns trace"),
        (played[:0], "played must have a row at least"),
        (pd.concat([played, played]), "72 occur twice"),
        (played[played["method"] != "random"], "reference must be one of bait, lcmd"),
    ):
        with pytest.raises(ValueError, match=words):
            labelling_curves.differences(wrong)
