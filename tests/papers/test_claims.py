"""Claims on made-up runs whose answer is known, and the rules of a verdict one by one."""

import functools
import json

import numpy as np
import pandas as pd
import pytest

from collective_variables.analysis import statistics
from collective_variables.papers import claims, claims_2023

QUICK = {"n_resamples": 200, "n_permutations": 2000}
SIZES = [10, 20, 40, 80]


def experiment_1(group, n_runs, beyond_size=0.0, fraction=0.5, ratio=100.0, shrinks=0.0):
    """Runs whose loss depends on the size, and on what trace and entropy are beyond it with this
    strength.
    """
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
        about = {
            "group": group,
            "parametrisation": parametrisation,
            "method": "random",
            "diverged": False,
        }
        tables.append(
            pd.DataFrame(columns | {"member": np.arange(n_runs), "n_points": n}).assign(**about)
        )
    return pd.concat(tables, ignore_index=True)


def experiment_2(group, advantage, exception=None):
    """20 members at four sizes; the loss of the method "rnd" is lower by this fraction, but at
    one size higher.
    """
    generator, tables = np.random.default_rng(len(group)), []
    member, n = (array.ravel() for array in np.meshgrid(np.arange(20), SIZES, indexing="ij"))
    for method in ("random", "rnd", "rnd-linearised"):
        gain = np.where(n == exception, -advantage, advantage) * (method == "rnd")
        noise = 0.02 * generator.normal(size=(3, len(n)))
        columns = {
            "entropy": np.log(n) * (1 + gain) + noise[0],
            "trace": n * np.exp(noise[1]),
            "min_test_loss": n**-0.5 * (1 - gain) * np.exp(noise[2]),
            "largest_eigenvalue_fraction": 0.95 + noise[0] / 10,
        }
        columns |= {
            "final_test_loss": 2 * columns["min_test_loss"],
            "min_train_loss": np.full(len(n), 0.1),
        }
        about = {"group": group, "parametrisation": "ntk", "method": method, "diverged": False}
        tables.append(pd.DataFrame(columns | {"member": member, "n_points": n}).assign(**about))
    return pd.concat(tables, ignore_index=True)


@functools.cache
def evidence(name):
    runs = {
        "size alone": lambda: experiment_1("size-dense", 1500),
        "beyond size": lambda: experiment_1(
            "beyond-dense", 400, beyond_size=0.8, fraction=0.95, ratio=10.0
        ),
        "shrinking": lambda: experiment_1("shrinking-dense", 1000, shrinks=1.0),
        "convolutional": lambda: experiment_1("convolutional", 200),
        "better": lambda: experiment_2("better", 0.2),
        "but at one size": lambda: experiment_2("worse", 0.2, exception=40),
        "none": lambda: experiment_2("none", 0.0),
    }[name]()
    return claims_2023.evidence(runs, convolutional=["convolutional"], **QUICK)


def verdicts(name, claim, variable=None):
    table = evidence(name)
    table = table[
        (table["claim"] == claim) & ((table["variable"] == variable) | (variable is None))
    ]
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


def test_one_of_entropy_and_trace_that_is_larger_everywhere_is_enough():
    assert verdicts("better", "C9", "entropy") == {"supported"} and verdicts(
        "better", "C9", "trace"
    ) == {"undecided"}
    assert (
        claims.judge_claims(evidence("better"), claims_2023.CLAIMS).set_index("claim")["verdict"][
            "C9"
        ]
        == "supported"
    )
    assert (
        claims.judge_claims(evidence("none"), claims_2023.CLAIMS).set_index("claim")["verdict"][
            "C9"
        ]
        == "undecided"
    )


def test_evidence_is_about_algorithm_1_and_says_at_how_many_sizes():
    row = evidence("but at one size").set_index("claim").loc["C7"]
    assert (row["n_lower"], row["n_undecided"], row["n_higher"]) == (3, 0, 1) and row["n"] == 20
    assert row["lower"] < row["effect"] < row["upper"]
    assert row["effect"] == pytest.approx(
        (0.8**3 * 1.2) ** (1 / 4) - 1, abs=0.05
    )  # about a mean over sizes
    assert row["p_value"] > 0.9


def test_p_values_are_corrected_over_the_whole_table():
    table = evidence("size alone")
    tested = table[table["p_value"].notna()]
    np.testing.assert_allclose(
        tested["p_value_holm"], statistics.holm(table["p_value"])[tested.index]
    )
    assert (tested["p_value_holm"] >= tested["p_value"]).all() and (
        tested["p_value_holm"] > tested["p_value"]
    ).any()
    assert table.loc[table["claim"].isin(["C3", "C10", "C11"]), "p_value"].isna().all()


def test_a_judgement_has_every_claim_in_order_with_its_words_and_a_reason():
    both = pd.concat(
        [evidence("better"), evidence("but at one size"), evidence("none")], ignore_index=True
    )
    table = claims.judge_claims(both, claims_2023.CLAIMS).set_index("claim")
    assert list(table.index) == list(claims_2023.CLAIMS)
    assert table.loc["C1", ["verdict", "why"]].tolist() == ["undecided", "No runs available."]
    other = claims.judge_claims(evidence("size alone"), claims_2023.CLAIMS).set_index("claim")
    why = other.loc["C6", "why"]
    assert "size-dense (lecun, entropy)" in why and "size-dense (lecun, trace)" in why
    assert table.loc["C7", "verdict"] == "not supported"
    assert table.loc["C7", "why"] == (
        "Supported in 1 of 3: better (ntk); not supported in 1 of 3: worse (ntk); "
        "undecided in 1 of 3: none (ntk)."
    )


@pytest.mark.parametrize(
    "claim, lower, upper, p_value, expected",
    [
        ("C1", -0.5, -0.2, 0.01, "supported"),
        ("C1", -0.5, -0.2, 0.2, "undecided"),  # after the correction
        ("C1", -0.5, 0.1, 0.2, "undecided"),
        ("C1", -0.09, 0.05, 0.9, "not supported"),  # negligible
        ("C1", -0.09, -0.05, 0.001, "not supported"),  # there, and negligible
        ("C1", -0.11, -0.05, 0.001, "supported"),
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
def test_a_verdict_follows_from_the_interval_and_the_corrected_test(
    claim, lower, upper, p_value, expected
):
    row = pd.DataFrame({"claim": [claim], "lower": lower, "upper": upper, "p_value_holm": p_value})
    assert claims_2023._verdict(next(row.itertuples()), 0.05) == expected


def test_a_run_that_diverged_does_not_enter_parametrisations_and_eigenvalues():
    runs = experiment_1("dense", 60)
    clean = claims_2023.evidence(runs, **QUICK)
    spoilt = runs["member"] == 3
    runs.loc[spoilt, ["trace", "largest_eigenvalue_fraction"]] = 1e30
    runs.loc[spoilt, "diverged"] = True
    table = claims_2023.evidence(runs, **QUICK)
    for claim, n in (("C10", 59), ("C11", 59)):
        rows, before = (part[part["claim"] == claim] for part in (table, clean))
        assert set(rows["n"]) == {n}
        np.testing.assert_allclose(rows["effect"], before["effect"], atol=0.05)


def test_a_group_of_one_size_has_no_curve_and_leaves_the_others_as_they_are():
    several = experiment_2("better", 0.2)
    one = experiment_2("one", 0.2).query("n_points == 20")
    without_one, both = (
        claims_2023.evidence(runs, **QUICK) for runs in (several, pd.concat([several, one]))
    )
    assert set(both.loc[both["claim"].isin(["C7", "C8", "C9"]), "group"]) == {"better"}
    better = both[both["group"] == "better"].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        better.drop(columns="p_value_holm"), without_one.drop(columns="p_value_holm")
    )


def test_another_claim_about_entropy_is_tested_if_the_network_is_convolutional():
    runs = experiment_1("one", 60)
    for claim, other, convolutional in (("C2", "C3", []), ("C3", "C2", ["one"])):
        table = claims_2023.evidence(runs, convolutional=convolutional, **QUICK)
        names = table["claim"].tolist()
        assert names.count(claim) == 2 and other not in names


def test_a_judgement_says_how_far_the_effects_and_their_intervals_reach():
    table = claims.judge_claims(evidence("size alone"), claims_2023.CLAIMS).set_index("claim")
    rows = evidence("size alone").query("claim == 'C6'")
    assert len(rows) == 4
    expected = [
        rows["effect"].min(),
        rows["effect"].max(),
        rows["lower"].min(),
        rows["upper"].max(),
    ]
    assert table.loc["C6", list(claims.ENDS)].tolist() == expected
    assert table.loc["C7", list(claims.ENDS)].isna().all()


def test_a_sentence_names_few_cases_and_counts_many():
    groups = [evidence("size alone").assign(group=name) for name in ("a", "b")]
    table = claims.judge_claims(pd.concat(groups), claims_2023.CLAIMS).set_index("claim")
    assert table.loc["C6", "why"] == "Supported in all 8."
    assert table.loc["C1", "why"] == "Supported in all 4: a (lecun), a (ntk), b (lecun), b (ntk)."


def test_the_record_is_that_of_the_tables_and_can_be_written_as_json():
    table = evidence("size alone")
    text = json.dumps(claims.claims_record(table, claims_2023.CLAIMS), allow_nan=False)
    record = json.loads(text)
    judgements = claims.judge_claims(table, claims_2023.CLAIMS)
    assert [entry["claim"] for entry in record] == list(claims_2023.CLAIMS)
    assert [entry["verdict"] for entry in record] == judgements["verdict"].tolist()
    rows, expected = record[0]["evidence"], table[table["claim"] == "C1"]
    assert [row["effect"] for row in rows] == expected["effect"].tolist()
    assert rows[0]["n_lower"] is None
    assert record[6]["evidence"] == [] and record[6]["smallest"] is None


def test_an_interval_of_a_fraction_does_not_exceed_one_so_that_a_claim_of_one_can_hold():
    runs = experiment_1("one", 4).assign(largest_eigenvalue_fraction=[1.0, 1.0, 1.0, 0.94] * 2)
    rows = claims_2023.evidence(runs, **QUICK).query("claim == 'C11'")
    assert set(rows["upper"]) == {1.0} and set(rows["verdict"]) == {"supported"}
    assert (rows["lower"] > 0.9).all()


def test_of_entropy_or_trace_the_one_that_decides_is_shown_and_the_rule_holds_for_it():
    rows = evidence("better").query("claim == 'C9'")
    assert set(rows["verdict"]) == {"supported", "undecided"}
    (row,) = rows[rows["verdict"] == "supported"].to_dict("records")
    shown = claims.judge_claims(evidence("better"), claims_2023.CLAIMS).set_index("claim").loc["C9"]
    assert shown["verdict"] == "supported"
    assert shown[list(claims.ENDS)].tolist() == [
        row[name] for name in ("effect", "effect", "lower", "upper")
    ]
    assert shown["lower"] > shown["boundaries"][0] == 0.0


def test_a_significant_test_alone_supports_no_claim_whose_interval_reaches_the_other_side():
    row = pd.DataFrame(
        {"claim": ["C9"], "lower": -0.004, "upper": 0.5, "p_value_holm": 0.001, "n_lower": 0}
    )
    assert claims_2023._verdict(next(row.itertuples()), 0.05) == "undecided"


@pytest.mark.parametrize("name", claims_2023.CLAIMS)
def test_limits_of_effects_contain_what_supports_a_claim_where_that_ends(name):
    claim = claims_2023.CLAIMS[name]
    assert claim.limits[0] < claim.limits[1]
    assert all(claim.limits[0] <= end <= claim.limits[1] for end in claim.boundaries)
