"""The claims of Tovey et al. 2023 (P1), each held against a table of runs: effects, intervals,
verdicts.

P1: Tovey, Krippendorf, Nikolaou, Holm (2023), "Towards a Phenomenological Understanding of Neural
Networks: Data".
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from collective_variables.analysis import beyond_size, correlation, learning_curves, statistics
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
        "A larger starting NTK trace yields models with better generalization capacity, as demonstrated by their lower test "
        "loss … across different data-sets, architectures, and initializations.",
        "Spearman's correlation of trace and minimum test loss",
        _BELOW,
        _LESS,
    ),
    "C2": claims.Claim(
        "In the dense models, a similar trend can be identified with the larger entropy data-sets resulting in lower test "
        "loss.",
        "Spearman's correlation of entropy and minimum test loss, dense networks",
        _BELOW,
        _LESS,
    ),
    "C3": claims.Claim(
        "In the case of the convolutional models, this trend is non-existent.",
        f"Spearman's correlation of entropy and minimum test loss, convolutional networks; none within ±{claims.CLEAR}",
        _FLAT,
        _FLAT,
    ),
    "C4": claims.Claim(
        "At lower trace values … they in general take on a larger range of values, whereas at larger traces the spread of the "
        "values becomes slim. … Data-sets with larger starting entropy, no matter their size, will take on a smaller range.",
        "Spearman's correlation of the variable and the deviation of ln(minimum test loss) from what size and variable "
        "predict, given the size",
        _BELOW,
        _LESS,
    ),
    "C5": claims.Claim(
        "It is the collective variables themselves and not simply data-set size that are responsible for the results.",
        "Spearman's correlation of the variable and minimum test loss, given the size",
        _BELOW,
        _LESS,
    ),
    "C6": claims.Claim(
        "Larger values of the collective variables results in larger train losses during training.",
        "Spearman's correlation of the variable and minimum train loss",
        _ABOVE,
        _MORE,
    ),
    "C7": claims.Claim(
        "Data-sets generated using RND consistently outperform those constructed using random data selection. This is true for "
        "all data-set sizes, problems, and ML tasks.",
        "minimum test loss relative to random subsets, mean over the sizes",
        _BELOW,
        _BELOW,
    ),
    "C8": claims.Claim(
        "RND selected data-sets not only provide better minimum loss but also appear less susceptible to over-fitting.",
        "final test loss relative to random subsets, mean over the sizes",
        _BELOW,
        _BELOW,
    ),
    "C9": claims.Claim(
        "In each case, RND selected data-sets have a higher starting entropy and/or NTK trace than those selected randomly.",
        "entropy or trace relative to random subsets, mean over the sizes",
        _ABOVE,
        _ABOVE,
        any_of=("variable",),
    ),
    "C10": claims.Claim(
        "[In the NTK parametrisation the trace] takes on values two orders of magnitude smaller than those in LeCun "
        "initialization.",
        "log10 of the trace in the LeCun parametrisation over that in the NTK parametrisation",
        (1.5, 2.5),
        (1.5, 2.5),
    ),
    "C11": claims.Claim(
        "[The trace] turns out empirically to be well approximated by its largest eigenvalue.",
        "largest eigenvalue over trace, mean; well from 0.9 on",
        (0.9, 1.0),
        (0.9, 1.0),
    ),
}


def evidence(
    runs: pd.DataFrame,
    *,
    convolutional: Collection[str] = (),
    algorithm: str = "paper",
    n_resamples: int = 1000,
    n_permutations: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
    degree: int = 3,
) -> pd.DataFrame:
    """One row for each claim, group, parametrisation and variable that `runs` can tell something
    of.

    `runs` is the table that `statistics` takes. Groups with several methods are P1's Experiment 2,
    in which `algorithm` is the method that stands for RND as P1 describes it; the others are its
    Experiment 1. convolutional: the groups whose network has convolutions, of which P1 claims
    something else. A group of one size has no curve, and none of C7 to C9.

    Columns: claim, group, parametrisation, variable; effect (see `CLAIMS`) with its interval lower
    and upper; p_value of the hypothesis without the effect, where there is a test, by permutations
    or sign flips (n_permutations of them); p_value_holm, corrected over all tests of the table
    (Holm 1979); n, runs or pairs; n_lower, n_undecided and n_higher, the sizes at which the method
    is below random, neither and above (C7 to C9); verdict. There the p-value is of "at every size",
    the largest of all sizes (`learning_curves.sequential`).
    """
    compared = statistics.compares_methods(runs)
    has_curve = compared & statistics.has_several_sizes(runs)
    first, second = runs[~compared], runs[has_curve & runs["method"].isin(["random", algorithm])]
    converged = runs[~runs["diverged"]]
    options = {"confidence": confidence, "seed": seed}
    parts = [_of_eigenvalues(converged[converged["method"] == "random"], confidence)]
    if len(first):
        parts.append(
            _of_correlations(
                first, set(convolutional), n_resamples, n_permutations, degree, **options
            )
        )
        parts.append(_of_spread(first, n_resamples, n_permutations, degree, **options))
        parts.append(_of_parametrisations(first[~first["diverged"]], confidence))
    if len(second):
        parts += [_of_selection(second, *of, n_permutations, **options) for of in SELECTION]
    table = pd.concat([part for part in parts if len(part)], ignore_index=True).reindex(
        columns=[*claims.ROW, *claims.SIZES]
    )
    table["p_value_holm"] = statistics.holm(table["p_value"])
    table["verdict"] = [_verdict(row, 1 - confidence) for row in table.itertuples()]
    order = table["claim"].map(list(CLAIMS).index)
    return table.iloc[order.argsort(kind="stable")].reset_index(drop=True)


def _of_correlations(
    runs: pd.DataFrame,
    convolutional: Collection[str],
    n_resamples: int,
    n_permutations: int,
    degree: int,
    *,
    confidence: float,
    seed: int,
) -> pd.DataFrame:
    """C1, C2, C3, C5 and C6."""
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
        tests = beyond_size.permutation_tests(
            runs, variables, outcome, n_permutations=n_permutations, seed=seed, degree=degree
        )
        keys = ["group", "parametrisation", "kind"]
        of_outcome = intervals[intervals["y_variable"] == outcome].rename(
            columns={"x_variable": "variable"}
        )
        joined = tests.drop(columns="coefficient").merge(
            of_outcome, on=[*keys, "variable"], suffixes=("", "_interval")
        )
        parts.append(joined[joined["kind"].isin(kinds)].assign(outcome=outcome))
    table = pd.concat(parts).rename(columns={"coefficient": "effect", "n_runs": "n"})
    on_test, given = table["outcome"] == "min_test_loss", table["kind"] == "spearman given size"
    of_trace, of_entropy = (
        table["variable"] == "trace",
        np.where(table["group"].isin(convolutional), "C3", "C2"),
    )
    table["claim"] = np.select([~on_test, given, of_trace], ["C6", "C5", "C1"], default=of_entropy)
    # What C3 is of is an equivalence, for which the test of no correlation is none.
    return table.assign(p_value=table["p_value"].mask(table["claim"] == "C3"))


def _of_spread(
    runs: pd.DataFrame,
    n_resamples: int,
    n_permutations: int,
    degree: int,
    *,
    confidence: float,
    seed: int,
) -> pd.DataFrame:
    """C4."""
    numbers = {
        "n_resamples": n_resamples,
        "n_permutations": n_permutations,
        "seed": seed,
        "degree": degree,
    }
    table = beyond_size.spread(runs, confidence=confidence, **numbers)
    table = table[(table["statistic"] == "spearman given size") & (table["scale"] == "ln")]
    return table.rename(columns={"value": "effect", "n_runs": "n"}).assign(claim="C4")


def _of_parametrisations(runs: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """C10: runs of both parametrisations on the same subset are pairs."""
    wide = runs.pivot(
        index=["group", "member", "n_points"], columns="parametrisation", values="trace"
    )
    if not {"lecun", "ntk"} <= set(wide.columns):
        return pd.DataFrame()
    ratios = np.log10(wide["lecun"] / wide["ntk"]).dropna()
    return _means(ratios, ["group"], confidence).assign(
        claim="C10", parametrisation="both", variable="trace"
    )


def _of_eigenvalues(runs: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """C11, each member by its mean over sizes."""
    keys = ["group", "parametrisation"]
    members = runs.groupby([*keys, "member"], sort=False)["largest_eigenvalue_fraction"].mean()
    return _means(members, keys, confidence).assign(claim="C11", variable="largest eigenvalue")


def _means(values: pd.Series, keys: list[str], confidence: float) -> pd.DataFrame:
    """Means of a series over all but the levels `keys` of its index, with Student's interval."""
    grouped = values.groupby(level=keys, sort=False)
    n, mean = grouped.count(), grouped.mean()
    margin = grouped.sem() * stats.t.isf((1 - confidence) / 2, n - 1)
    return pd.DataFrame(
        {"effect": mean, "lower": mean - margin, "upper": mean + margin, "n": n}
    ).reset_index()


def _of_selection(
    runs: pd.DataFrame,
    claim: str,
    variables: Sequence[str],
    alternative: str,
    n_permutations: int,
    *,
    confidence: float,
    seed: int,
) -> pd.DataFrame:
    """C7, C8 or C9."""
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
    of_losses, scale = (
        table["variable"].isin(statistics.LOSSES),
        table["relative_difference"] / table["mean_difference"],
    )
    relative = {
        end: np.where(of_losses, np.expm1(table[end]), table[end] * scale)
        for end in ("lower", "upper")
    }
    return table.assign(
        claim=claim, effect=table["relative_difference"], n=table["n_pairs"], **relative
    )


def _verdict(row: NamedTuple, level: float) -> str:
    claim = CLAIMS[row.claim]
    if row.claim in ("C7", "C8", "C9"):
        contrary = row.n_lower if claim.supports == _ABOVE else row.n_higher
        if row.p_value_holm <= level:
            return claims.SUPPORTED
        return (
            claims.NOT_SUPPORTED
            if contrary or claims.is_apart(row, claim.needs)
            else claims.UNDECIDED
        )
    return claims.interval_verdict(row, claim, level)
