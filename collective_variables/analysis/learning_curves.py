"""Compare whole learning curves of two selection methods over the members that they share.

Source: the claims of Tovey, Krippendorf, Nikolaou, Holm (2023), "Towards a Phenomenological
Understanding of Neural Networks: Data" (P1), Figures 4 and 5: subsets of a method give lower test
losses than those of a reference, and larger entropy or trace, "at every size". The subsets of a
member are nested, so its sizes are dependent and only members repeat. The sign flips and the
bootstrap here therefore take whole members.

Runs are a table with one row per trained network, as in `statistics`. The results have rows for
each block: a group, parametrisation, method other than the reference, and variable. n_pairs counts
the pairs of runs (or of whole curves) that enter, n_diverged those left out because a run diverged.
Runs of a single method give an empty table.

The functions share their arguments: the `variables` to compare, the method that is the `reference`,
the `confidence` of intervals and tests, the number of random resamples or sign flips `n_resamples`,
and their `seed`.
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
    difference_range,
    holm,
    paired_differences,
    paired_runs,
    tail_probability,
    within,
)

BLOCK = [*ENSEMBLE, "variable"]
COUNTS = ["n_pairs", "n_diverged"]
T_TEST = ["mean_difference", "standard_error", "lower", "upper", "p_value"]
SEQUENCES = ["n_from_smallest", "up_to", "n_from_largest", "down_to"]
ROUND_OFF = 1e-9  # standardised sums of some tens of terms that differ by less are ties
CENSORED = {0.0: "fewer than the smallest size", np.inf: "more than the largest size"}


def effects(
    runs: pd.DataFrame,
    variables: Sequence[str] = VARIABLES,
    *,
    reference: str = "random",
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Return standardised paired effects of each size, with p-values corrected for all sizes.

    One row per block and size: n_points, n_pairs, n_diverged and the following columns.

    - effect: J d_z, where d_z = mean / standard deviation of the differences method - reference
      (Cohen 1988) and J = Γ(f/2) / (√(f/2) Γ((f-1)/2)), f = n_pairs - 1, removes its bias (Hedges
      1981). NaN for fewer than 3 pairs.
    - lower, upper: an interval of the population's mean / standard deviation, exact for normal
      differences, from the noncentral t distribution of d_z √n_pairs (Steiger and Fouladi 1997).
    - p_value: of the paired t test, two-sided.
    - p_value_holm: corrected over the sizes of the block (Holm 1979).
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
    # Differences without any spread have an infinite effect and no interval.
    t = t.where(np.isfinite(t))
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
    """Return how many sizes in a table of `effects` are lower, higher, or undecided.

    One row per block: n_sizes, n_lower, n_undecided, n_higher, compared with the reference. A size
    is decided if p_value_holm <= 1 - confidence. Within a block the probability of any false
    decision is then at most 1 - confidence.
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
    """Return the areas under learning curves, one independent number per member, compared in pairs.

    The area A of a member is the mean of y over ln n, by the trapezoid rule from the smallest to
    the largest size; y is ln loss for losses, otherwise the variable itself, in its unit. Only
    members with every size enter.

    One row per block: n_sizes, n_pairs, n_diverged and the following columns.

    - mean_difference: of A, method - reference, with its standard_error σ/√n_pairs, Student's
      interval lower and upper, and p_value (two-sided).
    - p_value_flips: the fraction of sign flips of members whose mean is at least as far from 0
      (Fisher 1935): all 2^n_pairs flips, or `n_resamples` random ones if there are more.
    - relative_difference: exp(mean_difference) - 1 for losses (-0.1 is 10 % lower, as a geometric
      mean over sizes and members), otherwise mean_difference / mean A of the reference.
    """
    tail = tail_probability(confidence)
    n_resamples = _checks.integer("n_resamples", n_resamples, minimum=1)
    columns = [*BLOCK, "n_sizes", *COUNTS, *T_TEST, "p_value_flips", "relative_difference"]
    rows = []
    for key, pairs in _blocks(runs, variables, reference):
        sizes, curves, counts = _curves(key, pairs)
        method_areas, reference_areas = np.trapezoid(curves, np.log(sizes)) / np.log(
            sizes[-1] / sizes[0]
        )
        differences = pd.Series(method_areas - reference_areas)
        mean, error, df = differences.mean(), differences.sem(), len(differences) - 1
        margin, limits = error * stats.t.isf(tail, df), difference_range(key[-1])
        p_value = 2 * stats.t.sf(abs(mean) / error if error > 0 else np.nan, df)
        scores = np.abs(_scores(differences.to_numpy()[:, None], n_resamples, seed))
        p_flips = np.mean(scores >= scores[0] - ROUND_OFF)
        relative = np.expm1(mean) if key[-1] in LOSSES else mean / pd.Series(reference_areas).mean()
        t_test = (mean, error, *within(mean - margin, mean + margin, limits), p_value)
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
    """Return tests of whether the method is below or above the reference at some or at every size.

    Two rows per block, `alternative` lower and higher, each with one-sided tests at the level
    1 - confidence: n_sizes, n_pairs (at the size with fewest), n_diverged (over all sizes), and the
    following columns.

    - p_some: for "at some size", from the most extreme standardised mean of all sizes (Westfall and
      Young 1993).
    - p_every: for "at every size", the largest p-value of a size, an intersection-union test
      (Berger 1982).
    - n_from_smallest: number of sizes that are significant when tested from the smallest on, until
      one is not. This is a fixed sequence, with family-wise error 1 - confidence (Maurer, Hothorn,
      Lehmacher 1995). `up_to` is the last of them, NaN for none.
    - n_from_largest: the same from the largest size on. `down_to` is the last of them.

    The level applies to each alternative and each of the two orders separately.

    A p-value is the fraction of sign flips of whole members, all 2^members or `n_resamples` random
    ones if there are more, that are at least as extreme. It is exact, whatever the dependence of
    sizes, if without an effect a difference is as likely as its negative. For skewed differences it
    is approximate, like that of the t test.
    """
    level = 2 * tail_probability(confidence)
    n_resamples = _checks.integer("n_resamples", n_resamples, minimum=1)
    columns = [*BLOCK, "alternative", "n_sizes", *COUNTS, "p_some", "p_every", *SEQUENCES]
    rows = []
    for key, pairs in _blocks(runs, variables, reference):
        differences = pairs.pivot(index="member", columns="n_points", values="difference")
        sizes, counts = differences.columns, (differences.count().min(), pairs["diverged"].sum())
        scores = _scores(differences.to_numpy(), n_resamples, seed)
        for alternative, signed in (("lower", -scores), ("higher", scores)):
            p_sizes = np.mean(signed >= signed[0] - ROUND_OFF, axis=0)
            extreme = signed.max(axis=1)
            p_some = np.mean(extreme >= extreme[0] - ROUND_OFF)
            sequences = (
                *_first_sizes(p_sizes <= level, sizes),
                *_first_sizes(p_sizes[::-1] <= level, sizes[::-1]),
            )
            rows.append((*key, alternative, len(sizes), *counts, p_some, p_sizes.max(), *sequences))
    return pd.DataFrame(rows, columns=columns)


def _first_sizes(significant: np.ndarray, sizes: Sequence[int]) -> tuple[int, float]:
    """Return how many sizes of a sequence precede the first insignificant one, and the last."""
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
    """Return how many points of the reference n points of the method are worth.

    One row per block and size n: n_points, n_pairs, n_diverged and the following columns.

    - n_equivalent: the size m at which the reference's curve reaches the method's mean ln loss at
      n. The curve is the mean of ln loss over members, made monotone by isotonic regression and
      linear in ln n between sizes. Only members with every size enter.
    - ratio: m/n with its interval `lower` and `upper`.
    - censored: an empty text if the loss lies within the curve. Otherwise m is inf with "more than
      the largest size", or 0 with "fewer than the smallest size". Ranks and medians of m then stay
      stay right.

    The interval claims no more than the sizes show: a censored resample counts as all from the
    largest size to inf, or all from 0 to the smallest size. It is the percentile bootstrap over
    members, where method and reference are drawn together, with percentiles widened from z to t
    √(n_pairs / (n_pairs - 1)) for few members (Hesterberg 2015).
    """
    _checks.choice("variable", variable, LOSSES)
    tail = tail_probability(confidence)
    n_resamples = _checks.integer("n_resamples", n_resamples, minimum=1)
    columns = [*BLOCK, "n_points", *COUNTS, "n_equivalent", "ratio", "lower", "upper", "censored"]
    rows = []
    for key, pairs in _blocks(runs, [variable], reference):
        sizes, curves, counts = _curves(key, pairs)
        n = curves.shape[1]
        equal, lower, upper = np.full((3, len(sizes)), np.nan)
        if n > 0:
            equal, _, _ = _reached(sizes, *curves.mean(axis=1))
        if n > 1:
            generator = np.random.default_rng(seed)
            weights = generator.multinomial(n, np.full(n, 1 / n), size=n_resamples) / n
            resamples = (weights @ curves).swapaxes(0, 1)
            _, least, most = np.stack([_reached(sizes, *means) for means in resamples], axis=1)
            widened = stats.norm.sf(stats.t.isf(tail, n - 1) * np.sqrt(n / (n - 1)))
            # A percentile that is one of the resamples: between 0 and inf nothing can be averaged.
            lower = np.quantile(least, widened, axis=0, method="inverted_cdf")
            upper = np.quantile(most, 1 - widened, axis=0, method="inverted_cdf")
        values = np.stack([equal, equal / sizes, lower / sizes, upper / sizes], axis=1)
        rows += [
            (*key, size, *counts, *row, CENSORED.get(row[0], ""))
            for size, row in zip(sizes, values)
        ]
    return pd.DataFrame(rows, columns=columns)


def _reached(
    sizes: np.ndarray, method_means: np.ndarray, reference_means: np.ndarray
) -> np.ndarray:
    """Return the sizes at which the reference's mean curve reaches the method's losses: [3 sizes].

    The second and third row are their bounds.
    """
    curve = isotonic_regression(reference_means, increasing=False).x
    x = np.log(sizes)
    outside = ((-np.inf, np.inf), (-np.inf, x[-1]), (x[0], np.inf))
    return np.exp(
        [np.interp(-method_means, -curve, x, left=few, right=many) for few, many in outside]
    )


def _blocks(
    runs: pd.DataFrame, variables: Sequence[str], reference: str
) -> Iterator[tuple[tuple, pd.DataFrame]]:
    """Yield the key of each block and its pairs of runs, NaN if one of the two diverged."""
    pairs = paired_runs(
        checked_runs(runs, _checks.unique("variables", variables)), variables, reference
    )
    values = ["value", "value_other"]
    pairs[values] = pairs[values].mask(pairs["diverged"])
    yield from pairs.groupby(BLOCK, sort=False)


def _curves(key: tuple, pairs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Return the sizes, the curves [2 members sizes], and n_pairs and n_diverged of curves.

    The first curves are the method's, the second the reference's. Only members with every size
    enter; losses become logarithms.

    Raises:
        ValueError: There are fewer than two sizes, or a loss is not positive.
    """
    values = pairs.pivot(index="member", columns="n_points", values=["value", "value_other"])
    sizes = values["value"].columns.to_numpy()
    if len(sizes) < 2:
        raise ValueError(
            f"n_points must have at least 2 sizes for the curve of {', '.join(map(str, key))}: "
            f"received {sizes.tolist()}."
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
    """Return Σd / √Σd² over members [flips sizes]: first of the data, then of flips of signs.

    The differences d are [members sizes]. The variance over flips is 1 at every size. No flip
    changes Σd², so Student's t is a growing function of the score. A missing difference adds
    nothing to either sum.
    """
    n, differences = len(differences), np.nan_to_num(differences)
    if 2**n <= n_resamples:
        flipped = np.arange(2**n)[:, None] >> np.arange(n) & 1
    else:
        flipped = np.random.default_rng(seed).integers(0, 2, (n_resamples, n))
        # The data count as one of the flips, so that the test keeps its level with few of them.
        flipped[0] = 0
    squares = np.sum(differences**2, axis=0)
    return (1 - 2 * flipped) @ differences / np.sqrt(np.where(squares > 0, squares, 1))
