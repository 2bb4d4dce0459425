"""Claims on made-up runs whose answer is known, and the rules of a verdict one by one."""

import functools

import numpy as np
import pandas as pd
import pytest

from collective_variables import claims, statistics

QUICK = {"n_resamples": 200, "n_permutations": 2000}
SIZES = [10, 20, 40, 80]


def of_experiment_1(group, n_runs, beyond_size=0.0, fraction=0.5, ratio=100.0, shrinks=0.0):
    """Runs whose loss depends on the size, and on what trace and entropy are beyond it with this strength."""
    generator = np.random.default_rng(len(group))
    n = np.exp(generator.uniform(np.log(5), np.log(250), n_runs)).round().astype(int)
    own, noise = generator.normal(size=(2, n_runs))
    loss = n**-0.5 * np.exp(0.3 * noise * np.exp(-shrinks * own) - 0.3 * beyond_size * own)
    tables = []
    for parametrisation, scale in (("lecun", ratio), ("ntk", 1.0)):
        columns = {
            "entropy": 0.5 * np.log(n) + 0.2 * own,
            "trace": scale * n * np.exp(0.2 * own),
            "largest_eigenvalue_fraction": fraction + 0.01 * noise,
            "min_test_loss": loss,
            "min_train_loss": n * np.exp(0.1 * noise),
        }
        about = {"group": group, "parametrisation": parametrisation, "method": "random", "diverged": False}
        tables.append(pd.DataFrame(columns | {"member": np.arange(n_runs), "n_points": n}).assign(**about))
    return pd.concat(tables, ignore_index=True)


def of_experiment_2(group, advantage, exception=None):
    """20 members at four sizes; the loss of the method "paper" is lower by this fraction, but at one size higher."""
    generator, tables = np.random.default_rng(len(group)), []
    member, n = (of.ravel() for of in np.meshgrid(np.arange(20), SIZES, indexing="ij"))
    for method in ("random", "paper", "rnd"):
        gain = np.where(n == exception, -advantage, advantage) * (method == "paper")
        noise = 0.02 * generator.normal(size=(3, len(n)))
        columns = {
            "entropy": np.log(n) * (1 + gain) + noise[0],
            "trace": n * np.exp(noise[1]),
            "min_test_loss": n**-0.5 * (1 - gain) * np.exp(noise[2]),
            "largest_eigenvalue_fraction": 0.95 + noise[0] / 10,
        }
        columns |= {"final_test_loss": 2 * columns["min_test_loss"], "min_train_loss": np.full(len(n), 0.1)}
        about = {"group": group, "parametrisation": "ntk", "method": method, "diverged": False}
        tables.append(pd.DataFrame(columns | {"member": member, "n_points": n}).assign(**about))
    return pd.concat(tables, ignore_index=True)


@functools.cache
def found(name):
    runs = {
        "size alone": lambda: of_experiment_1("size-dense", 1500),
        "beyond size": lambda: of_experiment_1("beyond-dense", 400, beyond_size=0.8, fraction=0.95, ratio=10.0),
        "shrinking": lambda: of_experiment_1("shrinking-dense", 1000, shrinks=1.0),
        "convolutional": lambda: of_experiment_1("a-conv", 200),
        "better": lambda: of_experiment_2("better", 0.2),
        "but at one size": lambda: of_experiment_2("worse", 0.2, exception=40),
        "none": lambda: of_experiment_2("none", 0.0),
    }[name]()
    return claims.evidence(runs, **QUICK)


def verdicts(name, claim, variable=None):
    table = found(name)
    table = table[(table["claim"] == claim) & ((table["variable"] == variable) | (variable is None))]
    return set(table["verdict"])


@pytest.mark.parametrize(
    "name, claim, expected",
    [
        ("size alone", "C1", "supported"),
        ("size alone", "C2", "supported"),
        ("size alone", "C4", "not supported"),
        ("shrinking", "C4", "supported"),
        ("size alone", "C5", "not supported"),
        ("size alone", "C6", "supported"),
        ("size alone", "C10", "supported"),
        ("size alone", "C11", "not supported"),
        ("beyond size", "C5", "supported"),
        ("beyond size", "C10", "not supported"),
        ("beyond size", "C11", "supported"),
        ("convolutional", "C3", "not supported"),
        ("better", "C7", "supported"),
        ("better", "C8", "supported"),
        ("but at one size", "C7", "not supported"),
        ("none", "C7", "undecided"),
    ],
)
def test_each_claim_has_the_verdict_that_the_runs_were_made_for(name, claim, expected):
    assert verdicts(name, claim) == {expected}


def test_of_entropy_and_trace_one_that_is_larger_everywhere_is_enough():
    assert verdicts("better", "C9", "entropy") == {"supported"} and verdicts("better", "C9", "trace") == {"undecided"}
    assert claims.judged(found("better")).set_index("claim")["verdict"]["C9"] == "supported"
    assert claims.judged(found("none")).set_index("claim")["verdict"]["C9"] == "undecided"


def test_evidence_is_of_the_papers_algorithm_and_says_at_how_many_sizes():
    row = found("but at one size").set_index("claim").loc["C7"]
    assert (row["n_lower"], row["n_undecided"], row["n_higher"]) == (3, 0, 1) and row["n"] == 20
    assert row["lower"] < row["effect"] < row["upper"]
    assert row["effect"] == pytest.approx((0.8**3 * 1.2) ** (1 / 4) - 1, abs=0.05)  # about a mean over sizes
    assert row["p_value"] > 0.9


def test_p_values_are_corrected_over_the_whole_table():
    table = found("size alone")
    tested = table[table["p_value"].notna()]
    np.testing.assert_allclose(tested["p_value_holm"], statistics.holm(table["p_value"])[tested.index])
    assert (tested["p_value_holm"] >= tested["p_value"]).all() and (tested["p_value_holm"] > tested["p_value"]).any()
    assert table.loc[table["claim"].isin(["C3", "C10", "C11"]), "p_value"].isna().all()


def test_a_judgement_has_every_claim_in_order_with_its_words_and_a_reason():
    both = pd.concat([found("better"), found("but at one size"), found("none")], ignore_index=True)
    table = claims.judged(both).set_index("claim")
    assert list(table.index) == list(claims.CLAIMS)
    assert table.loc["C1", ["verdict", "why"]].tolist() == ["undecided", "No run tells."]
    of_both = claims.judged(found("size alone")).set_index("claim").loc["C6", "why"]
    assert "size-dense (lecun, entropy)" in of_both and "size-dense (lecun, trace)" in of_both
    assert table.loc["C7", "verdict"] == "not supported"
    assert table.loc["C7", "why"] == (
        "Supported in 1 of 3: better (ntk); not supported in 1 of 3: worse (ntk); undecided in 1 of 3: none (ntk)."
    )


@pytest.mark.parametrize(
    "claim, lower, upper, p_value, expected",
    [
        ("C1", -0.5, -0.2, 0.01, "supported"),
        ("C1", -0.5, -0.2, 0.2, "undecided"),  # after the correction
        ("C1", -0.5, 0.1, 0.2, "undecided"),
        ("C1", -0.09, 0.05, 0.9, "not supported"),  # negligible
        ("C1", 0.2, 0.4, 0.01, "not supported"),
        ("C1", np.nan, np.nan, np.nan, "undecided"),
        ("C3", -0.2, 0.1, np.nan, "supported"),
        ("C3", -0.4, 0.1, np.nan, "undecided"),
        ("C3", -0.9, -0.5, np.nan, "not supported"),
        ("C6", 0.2, 0.4, 0.01, "supported"),
        ("C10", 1.9, 2.1, np.nan, "supported"),
        ("C10", 2.4, 2.6, np.nan, "undecided"),
        ("C11", 0.3, 0.4, np.nan, "not supported"),
    ],
)
def test_a_verdict_follows_from_the_interval_and_the_corrected_test(claim, lower, upper, p_value, expected):
    row = pd.DataFrame({"claim": [claim], "lower": lower, "upper": upper, "p_value_holm": p_value})
    assert claims._verdict(next(row.itertuples()), 0.05) == expected
