"""Test the claims of Tovey et al. 2023 (P1) on a table of runs: effects, intervals, verdicts.

P1: Tovey, Krippendorf, Nikolaou, Holm (2023), "Towards a Phenomenological Understanding of Neural
Networks: Data".
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from collective_variables.analysis import (
    correlation,
    learning_curves,
    permutation,
    spread,
    statistics,
)
from collective_variables.papers import claims

SELECTION = (
    ("C7", ["min_test_loss"], "lower"),
    ("C8", ["final_test_loss"], "lower"),
    ("C9", ["entropy", "trace"], "higher"),
)

_BELOW, _ABOVE = (-np.inf, 0.0), (0.0, np.inf)
_LESS, _MORE = (-np.inf, -claims.NEGLIGIBLE), (claims.NEGLIGIBLE, np.inf)
_FLAT = (-claims.CLEAR, claims.CLEAR)
CLAIMS: claims.Claims = {
    "C1": claims.Claim(
        "A larger starting NTK trace yields models with better generalization capacity, as "
        "demonstrated by their lower test loss … across different data-sets, architectures, and "
        "initializations.",
        "Spearman's correlation of trace and minimum test loss",
        _BELOW,
        _LESS,
        limits=claims.CORRELATION,
    ),
    "C2": claims.Claim(
        "In the dense models, a similar trend can be identified with the larger entropy data-sets "
        "resulting in lower test loss.",
        "Spearman's correlation of entropy and minimum test loss, dense networks",
        _BELOW,
        _LESS,
        limits=claims.CORRELATION,
    ),
    "C3": claims.Claim(
        "In the case of the convolutional models, this trend is non-existent.",
        "Spearman's correlation of entropy and minimum test loss, convolutional networks (no "
        f"trend: within ±{claims.CLEAR})",
        _FLAT,
        _FLAT,
        limits=claims.CORRELATION,
    ),
    "C4": claims.Claim(
        "At lower trace values … they in general take on a larger range of values, whereas at "
        "larger traces the spread of the values becomes slim. … Data-sets with larger starting "
        "entropy, no matter their size, will take on a smaller range.",
        "Spearman's correlation of the variable and the deviation of ln(minimum test loss) from "
        "what size and variable predict, given the size",
        _BELOW,
        _LESS,
        limits=claims.CORRELATION,
    ),
    "C5": claims.Claim(
        "It is the collective variables themselves and not simply data-set size that are "
        "responsible for the results.",
        "Spearman's correlation of the variable and minimum test loss, given the size",
        _BELOW,
        _LESS,
        limits=claims.CORRELATION,
    ),
    "C6": claims.Claim(
        "Larger values of the collective variables results in larger train losses during training.",
        "Spearman's correlation of the variable and minimum train loss",
        _ABOVE,
        _MORE,
        limits=claims.CORRELATION,
    ),
    "C7": claims.Claim(
        "Data-sets generated using RND consistently outperform those constructed using random data "
        "selection. This is true for all data-set sizes, problems, and ML tasks.",
        "minimum test loss relative to random subsets, mean over the sizes",
        _BELOW,
        _BELOW,
        limits=claims.RELATIVE,
    ),
    "C8": claims.Claim(
        "RND selected data-sets not only provide better minimum loss but also appear less "
        "susceptible to over-fitting.",
        "final test loss relative to random subsets, mean over the sizes",
        _BELOW,
        _BELOW,
        limits=claims.RELATIVE,
    ),
    "C9": claims.Claim(
        "In each case, RND selected data-sets have a higher starting entropy and/or NTK trace than "
        "those selected randomly.",
        "entropy or trace, whichever supports it, relative to random subsets, mean over the sizes",
        _ABOVE,
        _ABOVE,
        any_of=("variable",),
        limits=claims.RELATIVE,
    ),
    "C10": claims.Claim(
        "[In the NTK parametrisation the trace] takes on values two orders of magnitude smaller "
        "than those in LeCun initialization.",
        "log10 of the trace in the LeCun parametrisation over that in the NTK parametrisation",
        (1.5, 2.5),
        (1.5, 2.5),
    ),
    "C11": claims.Claim(
        "[The trace] turns out empirically to be well approximated by its largest eigenvalue.",
        "mean of largest eigenvalue over trace (well approximated: at least 0.9)",
        (0.9, 1.0),
        (0.9, 1.0),
        limits=claims.FRACTION,
    ),
}


def evidence(
    runs: pd.DataFrame,
    *,
    convolutional: Collection[str] = (),
    algorithm: str = "rnd",
    n_resamples: int = 1000,
    n_permutations: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
    degree: int = 3,
) -> pd.DataFrame:
    """Estimate the effect of each claim in each group, parametrisation and variable of the runs.

    Groups with several methods are P1's Experiment 2, the others its Experiment 1. A group with one
    subset size has no learning curve, and so no rows for C7 to C9.

    Args:
        runs: The table that `statistics` takes.
        convolutional: Groups whose network has convolutions. P1 claims C3 for them in place of C2.
        algorithm: The method of Experiment 2 that is RND as in P1 (Algorithm 1).
        n_resamples: Number of bootstrap resamples.
        n_permutations: Number of permutations of runs, and of flips of members' signs.
        confidence: Confidence of all intervals, and 1 - level of the tests.
        seed: Seed of resamples, permutations and sign flips.
        degree: Degree of the polynomial that removes the subset size.

    Returns:
        One row per claim, group, parametrisation and variable with these columns:

        - effect (see `CLAIMS`), with its interval lower and upper.
        - p_value: of the null hypothesis, from permutations or sign flips. NaN without a test. For
          C7 to C9 it tests "at every size", and is the largest over the sizes
          (`learning_curves.sequential`).
        - p_value_holm: corrected over all tests of the table (Holm 1979).
        - n: number of runs or pairs.
        - n_lower, n_undecided, n_higher: numbers of sizes at which the method is below random
          subsets, undecided, and above (C7 to C9).
        - verdict.
    """
    compared = statistics.compares_methods(runs)
    has_curve = compared & statistics.has_several_sizes(runs)
    first, second = runs[~compared], runs[has_curve & runs["method"].isin(["random", algorithm])]
    converged = runs[~runs["diverged"]]
    options = {"confidence": confidence, "seed": seed}
    numbers = {"n_resamples": n_resamples, "n_permutations": n_permutations, "degree": degree}
    parts = [_largest_eigenvalues(converged[converged["method"] == "random"], confidence)]
    if len(first):
        parts.append(_correlations(first, set(convolutional), **numbers, **options))
        parts.append(_spreads(first, **numbers, **options))
        parts.append(_parametrisations(first[~first["diverged"]], confidence))
    if len(second):
        parts += [
            _selection(second, *described, n_permutations, **options) for described in SELECTION
        ]
    table = pd.concat([part for part in parts if len(part)], ignore_index=True).reindex(
        columns=[*claims.ROW, *claims.SIZES]
    )
    table = claims.in_limits(table, CLAIMS)
    table["p_value_holm"] = statistics.holm(table["p_value"])
    table["verdict"] = [_verdict(row, 1 - confidence) for row in table.itertuples()]
    order = table["claim"].map(list(CLAIMS).index)
    return table.iloc[order.argsort(kind="stable")].reset_index(drop=True)


def _correlations(
    runs: pd.DataFrame,
    convolutional: Collection[str],
    *,
    n_resamples: int,
    n_permutations: int,
    degree: int,
    confidence: float,
    seed: int,
) -> pd.DataFrame:
    """Return the rows of C1, C2, C3, C5 and C6."""
    variables, parts = ["entropy", "trace"], []
    outcomes = {
        "min_test_loss": ("spearman", "spearman given size"),
        "min_train_loss": ("spearman",),
    }
    intervals = correlation.correlations(
        runs,
        [*variables, *outcomes],
        n_resamples=n_resamples,
        confidence=confidence,
        seed=seed,
        degree=degree,
    )
    for outcome, kinds in outcomes.items():
        tests = permutation.permutation_tests(
            runs, variables, outcome, n_permutations=n_permutations, seed=seed, degree=degree
        )
        outcome_intervals = intervals[intervals["y_variable"] == outcome].rename(
            columns={"x_variable": "variable"}
        )
        merged = tests.drop(columns="coefficient").merge(
            outcome_intervals,
            on=["group", "parametrisation", "kind", "variable"],
            suffixes=("", "_interval"),
        )
        parts.append(merged[merged["kind"].isin(kinds)].assign(outcome=outcome))
    table = pd.concat(parts).rename(columns={"coefficient": "effect", "n_runs": "n"})
    table["claim"] = _correlation_claims(table, convolutional)
    # C3 claims that there is no correlation, which a test of no correlation cannot support.
    return table.assign(p_value=table["p_value"].mask(table["claim"] == "C3"))


def _correlation_claims(table: pd.DataFrame, convolutional: Collection[str]) -> np.ndarray:
    """Return the claim to which each correlation belongs."""
    is_train = table["outcome"] != "min_test_loss"
    is_given_size = table["kind"] == "spearman given size"
    is_trace = table["variable"] == "trace"
    entropy_claims = np.where(table["group"].isin(convolutional), "C3", "C2")
    return np.select([is_train, is_given_size, is_trace], ["C6", "C5", "C1"], entropy_claims)


def _spreads(runs: pd.DataFrame, **options: float) -> pd.DataFrame:
    """Return the rows of C4, with the options of `spread.spread`."""
    table = spread.spread(runs, **options)
    table = table[(table["statistic"] == "spearman given size") & (table["scale"] == "ln")]
    return table.rename(columns={"value": "effect", "n_runs": "n"}).assign(claim="C4")


def _parametrisations(runs: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Return the rows of C10, for which runs of both parametrisations on the same subset pair."""
    wide = runs.pivot(
        index=["group", "member", "n_points"], columns="parametrisation", values="trace"
    )
    if not {"lecun", "ntk"} <= set(wide.columns):
        return pd.DataFrame()
    ratios = np.log10(wide["lecun"] / wide["ntk"]).dropna()
    return _means(ratios, ["group"], confidence).assign(
        claim="C10", parametrisation="both", variable="trace"
    )


def _largest_eigenvalues(runs: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Return the rows of C11, with the mean over sizes of each member."""
    keys = ["group", "parametrisation"]
    members = runs.groupby([*keys, "member"], sort=False)["largest_eigenvalue_fraction"].mean()
    return _means(members, keys, confidence).assign(claim="C11", variable="largest eigenvalue")


def _means(values: pd.Series, keys: list[str], confidence: float) -> pd.DataFrame:
    """Average a series over all but the levels `keys` of its index, with Student's interval."""
    grouped = values.groupby(level=keys, sort=False)
    n, mean = grouped.count(), grouped.mean()
    margin = grouped.sem() * stats.t.isf((1 - confidence) / 2, n - 1)
    return pd.DataFrame(
        {"effect": mean, "lower": mean - margin, "upper": mean + margin, "n": n}
    ).reset_index()


def _selection(
    runs: pd.DataFrame,
    claim: str,
    variables: Sequence[str],
    alternative: str,
    n_permutations: int,
    *,
    confidence: float,
    seed: int,
) -> pd.DataFrame:
    """Return the rows of C7, C8 or C9."""
    options = {"confidence": confidence, "n_resamples": n_permutations, "seed": seed}
    keys = ["group", "parametrisation", "method", "variable"]
    areas = learning_curves.areas(runs, variables, **options)
    sizes = learning_curves.verdicts(
        learning_curves.effects(runs, variables, confidence=confidence), confidence=confidence
    )
    every = learning_curves.sequential(runs, variables, **options)
    every = every.loc[every["alternative"] == alternative, [*keys, "p_every"]].rename(
        columns={"p_every": "p_value"}
    )
    table = areas.drop(columns="p_value").merge(sizes, on=keys).merge(every, on=keys)
    # Areas of losses are logarithms; those of other variables have a unit.
    is_loss = table["variable"].isin(statistics.LOSSES)
    scale = table["relative_difference"] / table["mean_difference"]
    relative = {
        end: np.where(is_loss, np.expm1(table[end]), table[end] * scale)
        for end in ("lower", "upper")
    }
    return table.assign(
        claim=claim, effect=table["relative_difference"], n=table["n_pairs"], **relative
    )


def _verdict(row: NamedTuple, level: float) -> str:
    claim = CLAIMS[row.claim]
    if row.claim not in ("C7", "C8", "C9"):
        return claims.interval_verdict(row, claim, level)
    if row.p_value_holm <= level and claims.is_inside(row, claim):
        return claims.SUPPORTED
    n_contrary = row.n_lower if claim.supports == _ABOVE else row.n_higher
    if n_contrary or claims.is_apart(row, claim.needs):
        return claims.NOT_SUPPORTED
    return claims.UNDECIDED
