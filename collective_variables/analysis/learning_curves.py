"""Whole learning curves of two ways to choose points, compared over the members that they share.

Source: the claims of Tovey, Krippendorf, Nikolaou, Holm (2023), "Towards a Phenomenological
Understanding of Neural
Networks: Data" (P1), Figures 4 and 5: subsets of a method give lower test losses than those of a
reference, and larger entropy or trace, "at every size". The subsets of a member are nested, so its
sizes are dependent and only members repeat: the sign flips and the bootstrap here therefore take
whole members.

Runs are a table with one row per trained network, as in `statistics`. The results have rows for
each block: a group, parametrisation, method other than the reference, and variable. n_pairs counts
the pairs of runs (or of whole curves) that enter, n_diverged those left out because a run diverged.
One method gives an empty table.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy import special, stats
from scipy.optimize import isotonic_regression

from collective_variables import _checks
from collective_variables.analysis.statistics import (
    ENSEMBLE,
    LOSSES,
    VARIABLES,
    checked_runs,
    holm,
    paired_differences,
    paired_runs,
    tail_probability,
)

BLOCK = [*ENSEMBLE, "variable"]
COUNTS = ["n_pairs", "n_diverged"]
T_TEST = ["mean_difference", "standard_error", "lower", "upper", "p_value"]
SEQUENCES = ["n_from_smallest", "up_to", "n_from_largest", "down_to"]
ROUND_OFF = 1e-9  # standardised sums of some tens of terms that differ by less are ties


def effects(
    runs: pd.DataFrame,
    variables: Sequence[str] = VARIABLES,
    *,
    reference: str = "random",
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Standardised paired effects of each size, and p-values corrected for the number of sizes.

    One row per block and size: n_points, n_pairs, n_diverged; `effect` J d_z, where d_z = mean /
    standard deviation of the differences method - reference (Cohen 1988) and J = Γ(f/2) / (√(f/2)
    Γ((f-1)/2)), f = n_pairs - 1, takes its bias away (Hedges 1981), NaN for fewer than 3 pairs;
    `lower` and `upper`, an interval of the population's mean / standard deviation, exact for normal
    differences, from the noncentral t distribution of d_z √n_pairs (Steiger and Fouladi 1997);
    `p_value` of the paired t test, two-sided; `p_value_holm`, corrected over the sizes of the block
    (Holm 1979).
    """
    tail = tail_probability(confidence)
    table = paired_differences(
        runs, _checks.unique("variables", variables), reference=reference, confidence=confidence
    )
    n, t = table["n_pairs"], table["mean_difference"] / table["standard_error"]
    half = (n.where(n > 2) - 1) / 2
    table["effect"] = (
        np.exp(special.gammaln(half) - special.gammaln(half - 0.5)) / np.sqrt(half) * t / np.sqrt(n)
    )
    t = t.where(
        np.isfinite(t)
    )  # differences without any spread have an infinite effect and no interval
    table["lower"], table["upper"] = (
        special.nctdtrinc(n - 1, p, t) / np.sqrt(n) for p in (1 - tail, tail)
    )
    # An undefined test is still a size at which the claim is not shown.
    corrected = (
        table["p_value"].fillna(1.0).groupby([table[name] for name in BLOCK]).transform(holm)
    )
    table["p_value_holm"] = corrected.where(table["p_value"].notna())
    return table[
        [*BLOCK, "n_points", *COUNTS, "effect", "lower", "upper", "p_value", "p_value_holm"]
    ]


def verdicts(effects: pd.DataFrame, *, confidence: float = 0.95) -> pd.DataFrame:
    """At how many sizes a table of `effects` shows the method lower than the reference, higher, or
    neither.

    One row per block: n_sizes, n_lower, n_undecided, n_higher. A size is decided if p_value_holm <=
    1 - confidence, so that within a block the probability of any false decision is at most 1 -
    confidence.
    """
    decided = effects["p_value_holm"] <= 2 * tail_probability(confidence)
    lower, higher = decided & (effects["effect"] < 0), decided & (effects["effect"] > 0)
    table = effects[BLOCK].assign(
        n_sizes=1, n_lower=lower, n_undecided=~(lower | higher), n_higher=higher
    )
    return table.groupby(BLOCK, sort=False).sum().reset_index()


def areas(
    runs: pd.DataFrame,
    variables: Sequence[str] = VARIABLES,
    *,
    reference: str = "random",
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Paired differences of the area under the learning curve: one number for all sizes, with
    members independent.

    The area A of a member is the mean of y over ln n, by the trapezoid rule from the smallest to
    the largest size; y is ln loss for losses, otherwise the variable itself, in its unit. A member
    enters if it has every size.

    One row per block: n_sizes, n_pairs, n_diverged; mean_difference of A, method - reference, its
    standard_error σ/√n_pairs, Student's interval lower and upper, and p_value (two-sided);
    p_value_flips, the fraction of sign flips of members whose
    mean is at least as far from 0 (Fisher 1935): all 2^n_pairs flips, or `n_resamples` random ones
    if they are more; relative_difference exp(mean_difference) - 1 for losses (-0.1 is 10 % lower,
    as a geometric mean over sizes and members), otherwise mean_difference / mean A of the
    reference.
    """
    tail, n_resamples = (
        tail_probability(confidence),
        _checks.integer("n_resamples", n_resamples, minimum=1),
    )
    columns, rows = (
        [*BLOCK, "n_sizes", *COUNTS, *T_TEST, "p_value_flips", "relative_difference"],
        [],
    )
    for key, pairs in _blocks(runs, variables, reference):
        sizes, curves, counts = _curves(key, pairs)
        of_method, of_reference = np.trapezoid(curves, np.log(sizes)) / np.log(sizes[-1] / sizes[0])
        differences = pd.Series(of_method - of_reference)
        mean, error, df = differences.mean(), differences.sem(), len(differences) - 1
        margin = error * stats.t.isf(tail, df)
        p_value = 2 * stats.t.sf(abs(mean) / error if error > 0 else np.nan, df)
        scores = np.abs(_scores(differences.to_numpy()[:, None], n_resamples, seed))
        p_flips = np.mean(scores >= scores[0] - ROUND_OFF)
        relative = np.expm1(mean) if key[-1] in LOSSES else mean / pd.Series(of_reference).mean()
        t_test = (mean, error, mean - margin, mean + margin, p_value)
        rows.append((*key, len(sizes), *counts, *t_test, p_flips, relative))
    return pd.DataFrame(rows, columns=columns)


def sequential(
    runs: pd.DataFrame,
    variables: Sequence[str] = VARIABLES,
    *,
    reference: str = "random",
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Is the method lower (or higher) than the reference at some size, at every size, up to which,
    and from which?

    Two rows per block, `alternative` lower and higher, each with one-sided tests at the level 1 - confidence: n_sizes,
    n_pairs (at the size with fewest), n_diverged (over all sizes), and
    p_some            of "at some size": the most extreme standardised mean of all sizes (Westfall and Young 1993);
    p_every           of "at every size": the largest p-value of a size, an intersection-union test (Berger 1982);
    n_from_smallest   sizes shown when they are tested from the smallest on, until one is not significant: a fixed sequence,
                      with family-wise error 1 - confidence (Maurer, Hothorn, Lehmacher 1995); `up_to` is the last of them;
    n_from_largest    the same from the largest size on; `down_to` is the last of them. NaN: none.
    Each alternative, and each of the two orders, has the level for itself.

    A p-value is the fraction of sign flips of whole members, all 2^members or `n_resamples` random
    ones if they are more, that are at least as extreme. It is exact, whatever the dependence of
    sizes, if a difference is as likely as its negative where there is no effect; for skewed
    differences it is approximate, like that of the t test.
    """
    level, n_resamples = (
        2 * tail_probability(confidence),
        _checks.integer("n_resamples", n_resamples, minimum=1),
    )
    columns, rows = [*BLOCK, "alternative", "n_sizes", *COUNTS, "p_some", "p_every", *SEQUENCES], []
    for key, pairs in _blocks(runs, variables, reference):
        differences = pairs.pivot(index="member", columns="n_points", values="difference")
        sizes, counts = differences.columns, (differences.count().min(), pairs["diverged"].sum())
        scores = _scores(differences.to_numpy(), n_resamples, seed)
        for alternative, signed in (("lower", -scores), ("higher", scores)):
            p_sizes = np.mean(signed >= signed[0] - ROUND_OFF, axis=0)
            extreme = signed.max(axis=1)
            p_some = np.mean(extreme >= extreme[0] - ROUND_OFF)
            shown = (*_shown(p_sizes <= level, sizes), *_shown(p_sizes[::-1] <= level, sizes[::-1]))
            rows.append((*key, alternative, len(sizes), *counts, p_some, p_sizes.max(), *shown))
    return pd.DataFrame(rows, columns=columns)


def _shown(significant: np.ndarray, sizes: Sequence[int]) -> tuple[int, float]:
    """How many sizes of a fixed sequence come before the first that is not significant, and the
    last of them.
    """
    n_shown = int(np.logical_and.accumulate(significant).sum())
    return n_shown, float(sizes[n_shown - 1]) if n_shown else np.nan


def equivalents(
    runs: pd.DataFrame,
    variable: str = "min_test_loss",
    *,
    reference: str = "random",
    confidence: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """How many points of the reference n points of the method are worth.

    One row per block and size n: n_points, n_pairs, n_diverged; `n_equivalent`, the size m at which
    the reference's curve reaches the method's mean ln loss at n; `ratio` m/n with its interval
    `lower` and `upper`; `censored`. The curve is the mean of ln loss over members, made monotone by
    isotonic regression and linear in ln n between sizes. A member enters if it has every size.

    Where the loss lies outside the curve, m is inf and `censored` says "more than the largest
    size", or m is 0 and it says "fewer than the smallest size" (else it is an empty text), so that
    ranks and medians of m stay right and no mean hides
    it. The interval claims no more than the sizes show: a censored resample counts as all from the
    largest size to inf, or all from 0 to the smallest size. It is the percentile bootstrap over
    members, those of method and reference drawn together, with percentiles widened from z to t
    √(n_pairs / (n_pairs - 1)) for few members (Hesterberg 2015).
    """
    _checks.choice("variable", variable, LOSSES)
    tail, n_resamples = (
        tail_probability(confidence),
        _checks.integer("n_resamples", n_resamples, minimum=1),
    )
    columns, rows = (
        [*BLOCK, "n_points", *COUNTS, "n_equivalent", "ratio", "lower", "upper", "censored"],
        [],
    )
    labels = {0.0: "fewer than the smallest size", np.inf: "more than the largest size"}
    for key, pairs in _blocks(runs, [variable], reference):
        sizes, curves, counts = _curves(key, pairs)
        n = curves.shape[1]
        equal, lower, upper = np.full((3, len(sizes)), np.nan)
        if n > 0:
            equal, _, _ = _reached(sizes, *curves.mean(axis=1))
        if n > 1:
            drawn = (
                np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_resamples) / n
            )
            resamples = (drawn @ curves).swapaxes(0, 1)
            _, least, most = np.stack([_reached(sizes, *means) for means in resamples], axis=1)
            widened = stats.norm.sf(stats.t.isf(tail, n - 1) * np.sqrt(n / (n - 1)))
            # A percentile that is one of the resamples, because 0 and inf have nothing between
            # them.
            lower = np.quantile(least, widened, axis=0, method="inverted_cdf")
            upper = np.quantile(most, 1 - widened, axis=0, method="inverted_cdf")
        values = np.stack([equal, equal / sizes, lower / sizes, upper / sizes], axis=1)
        rows += [
            (*key, size, *counts, *row, labels.get(row[0], "")) for size, row in zip(sizes, values)
        ]
    return pd.DataFrame(rows, columns=columns)


def _reached(sizes: np.ndarray, of_method: np.ndarray, of_reference: np.ndarray) -> np.ndarray:
    """Sizes at which the reference's mean curve reaches the method's losses, and the bounds of
    them: [3 sizes].
    """
    curve, x = isotonic_regression(of_reference, increasing=False).x, np.log(sizes)
    outside = ((-np.inf, np.inf), (-np.inf, x[-1]), (x[0], np.inf))
    return np.exp([np.interp(-of_method, -curve, x, left=few, right=many) for few, many in outside])


def _blocks(
    runs: pd.DataFrame, variables: Sequence[str], reference: str
) -> Iterator[tuple[tuple, pd.DataFrame]]:
    """The key of each block, and its pairs of runs with the values of both, NaN if one of the two
    diverged.
    """
    pairs = paired_runs(
        checked_runs(runs, _checks.unique("variables", variables)), variables, reference
    )
    values = ["value", "value_other"]
    pairs[values] = pairs[values].mask(pairs["diverged"])
    yield from pairs.groupby(BLOCK, sort=False)


def _curves(key: tuple, pairs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """The sizes, the curves of method and reference [2 members sizes], and n_pairs and n_diverged
    of curves.

    Only members that have every size; losses become logarithms.
    """
    values = pairs.pivot(index="member", columns="n_points", values=["value", "value_other"])
    sizes = values["value"].columns.to_numpy()
    if len(sizes) < 2:
        of = ", ".join(map(str, key))
        raise ValueError(
            f"n_points must have at least 2 sizes for the curve of {of}: received {sizes.tolist()}."
        )
    curves = values.dropna().to_numpy(float).reshape(-1, 2, len(sizes)).swapaxes(0, 1)
    counts = curves.shape[1], pairs.loc[pairs["diverged"], "member"].nunique()
    if key[-1] not in LOSSES:
        return sizes, curves, counts
    if (curves <= 0).any():
        raise ValueError(
            f"{key[-1]} must be greater than 0 for its logarithm: received {curves.min()}."
        )
    return sizes, np.log(curves), counts


def _scores(differences: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """Σd / √Σd² over the members of differences [members sizes]: of the data, then of flips of
    signs [flips sizes].

    Its variance over flips is 1 at every size. No flip changes Σd², so Student's t is a growing
    function of it; a missing difference adds nothing to either sum.
    """
    n, differences = len(differences), np.nan_to_num(differences)
    if 2**n <= n_resamples:
        flipped = np.arange(2**n)[:, None] >> np.arange(n) & 1
    else:
        flipped = np.random.default_rng(seed).integers(0, 2, (n_resamples, n))
        flipped[0] = (
            0  # the data are one of the flips, so that the test keeps its level however few they are
        )
    squares = np.sum(differences**2, axis=0)
    return (1 - 2 * flipped) @ differences / np.sqrt(np.where(squares > 0, squares, 1))
