"""Say how well chosen rows cover a pool, and what is gained over random rows, without labels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from collective_variables import _checks, _errors
from collective_variables.active_learning import _coverage
from collective_variables.active_learning import noise as noises
from collective_variables.selection import base
from collective_variables.selection.batches import _pool

LEAST_NOISE = 1e-5  # of the root of the largest, below which Cholesky factors may not exist
ROUND_OFF = 1e-9  # of a gain
LEAST_LEFT = 1e-12  # share of the variance that is round-off
QUANTILES = 0.025, 0.975


class Certificate(NamedTuple):
    """Hold how well labelled and chosen rows cover a pool, in one kernel.

    Variances are posterior variances of a Gaussian process that knows labelled and chosen rows up
    to the noise, as shares of the mean prior variance. Distances are |φ(x) − φ(y)|. All are over
    the evaluated rows.

    Attributes:
        n_pool: Number of rows of the pool.
        n_evaluated: Number of evaluated rows.
        n_labelled: Number of labelled rows.
        n_chosen: Number of chosen rows.
        noise: Standard deviation of the labels, in the unit of the features.
        mean_variance: Mean variance left.
        largest_variance: Largest variance left.
        covering_radius: Largest distance of a row from its nearest labelled or chosen one; infinite
            if no row is known.
        random_mean_variance: The mean variance left after random rows instead of the chosen ones,
            averaged over the draws.
        random_largest_variance: The largest variance left, averaged likewise.
        random_covering_radius: The covering radius, averaged likewise.
        gain: Expected reduction of the mean squared error against random rows,
            1 − mean_variance / random_mean_variance. It is negative if random rows are better.
        gain_error: Standard error of the gain from the finite number of draws.
        gain_lower: Lower end of the interval that holds the gain over 95 % of random draws.
        gain_upper: Its upper end.
        n_to_halve_variance: Number of further rows that halve the mean variance left, each the one
            with the largest variance; None if more than `n_further` are needed.
        n_to_halve_radius: Number of further rows that halve the covering radius, each the one
            farthest from all others; None if more than `n_further` are needed, or if the radius is
            infinite.
        n_further: How many further rows were allowed.

    Example:
        >>> import collective_variables as cv
        >>> certificate = cv.certify([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0]], [0, 2], seed=0)
        >>> certificate.n_chosen, f"{certificate.covering_radius:.1f}"
        (2, '0.1')
    """

    n_pool: int
    n_evaluated: int
    n_labelled: int
    n_chosen: int
    noise: float
    mean_variance: float
    largest_variance: float
    covering_radius: float
    random_mean_variance: float
    random_largest_variance: float
    random_covering_radius: float
    gain: float
    gain_error: float
    gain_lower: float
    gain_upper: float
    n_to_halve_variance: int | None
    n_to_halve_radius: int | None
    n_further: int

    @property
    def is_better(self) -> bool:
        """Whether the interval of the gain is above 0: random draws are worse almost always."""
        return self.gain_lower > ROUND_OFF

    @property
    def is_useless(self) -> bool:
        """Whether the chosen rows are no better than the mean of random ones, up to its error."""
        return self.n_chosen > 0 and self.gain <= ROUND_OFF + 2.0 * self.gain_error

    def in_words(self) -> list[str]:
        """Return the certificate in sentences; the last one says whether random rows would do."""
        known = f"{self.n_labelled} labelled and {self.n_chosen} chosen rows"
        sentences = [
            f"With {known} known, {_share(self.mean_variance)} of the prior variance is left on "
            f"average, and at most {_share(self.largest_variance)} of its mean."
        ]
        if np.isfinite(self.covering_radius):
            sentences.append(
                f"Every row is within {self.covering_radius:.3g} of one of them in the kernel's "
                "metric."
            )
        if self.n_chosen:
            sentences.append(
                f"With random rows in place of the chosen ones these would be "
                f"{_share(self.random_mean_variance)}, {_share(self.random_largest_variance)} and "
                f"{self.random_covering_radius:.3g}."
            )
        if self.n_further:
            distance = f"; to halve the distance, {self._further(self.n_to_halve_radius)}"
            sentences.append(
                f"To halve the variance left takes {self._further(self.n_to_halve_variance)}"
                f"{distance if np.isfinite(self.covering_radius) else ''}."
            )
        if self.n_evaluated < self.n_pool:
            sentences.append(
                f"These numbers are over {self.n_evaluated} random rows of the {self.n_pool}."
            )
        if not self.n_chosen:
            return [*sentences, "No row was chosen, so there is no gain over random rows."]
        interval = f"({_share(self.gain_lower)} to {_share(self.gain_upper)})"
        if self.is_better:
            return [
                *sentences,
                f"The expected squared error is {_share(self.gain)} {interval} below that of "
                "random rows, if the kernel fits the labels.",
            ]
        return [
            *sentences,
            f"The gain in the expected squared error is {_share(self.gain)} {interval}.",
            "Nothing is gained over random rows in this kernel: take random ones."
            if self.is_useless
            else "Random rows are worse on average, but a lucky draw may be as good.",
        ]

    def _further(self, number: int | None) -> str:
        if number is None:
            return f"more than {self.n_further} further rows"
        return f"{number} further row{'' if number == 1 else 's'}"


def _share(value: float) -> str:
    percent = round(100 * value, 6) + 0.0  # no -0
    return f"{percent:.2g} %" if abs(percent) < 99.5 else f"{percent:.0f} %"


def certify(
    features: ArrayLike,
    rows: Sequence[int] | np.ndarray,
    labelled: Sequence[int] | np.ndarray = (),
    *,
    noise: float | None = None,
    n_random: int = 50,
    n_evaluated: int = 2000,
    seed: int,
) -> Certificate:
    """Return a certificate of chosen rows, which needs no labels.

    The posterior variance is the expected squared error of a Gaussian process with this kernel
    (Rasmussen, Williams 2006, eq. 2.24). Its mean over the pool is the criterion of Cohn (1996). It
    is compared with that of random rows in the same number, with the same labelled rows.

    The interval is for the gain over one random draw, since one draw is the alternative. Random
    rows in place of the chosen ones would have an interval above 0 in about 4 of 100 cases. The
    gain over the mean of all draws is known far better, up to `gain_error`, so that a useless
    difference could be significant. The gain is real as far as the kernel fits the labels.

    Larger pools are evaluated on random rows, among which labelled and chosen ones are as frequent
    as in the pool. The covering radius is then slightly too small. Further rows, of which there are
    up to 4 for each labelled or chosen one and between 100 and 500, are evaluated ones. Memory is
    O(n_evaluated²), in addition to that of the features.

    Also raises TypeError or ValueError for features that are not a finite table, chosen rows that
    are repeated, labelled or outside of it, a noise that is too small for the largest variance, and
    numbers out of range.

    Args:
        features: (n_pool, n_features) features, whose products are the kernel.
        rows: Chosen rows, which are not labelled; may be empty.
        labelled: Labelled rows.
        noise: Standard deviation of the labels, in the unit of the features. None takes 0.1 of the
            root of the mean prior variance: a label leaves 1 % of the variance of its row. With
            less, the smallest distances of the kernel would count, in which it is least reliable.
        n_random: Number of random draws.
        n_evaluated: Largest number of evaluated rows.
        seed: Seed of the evaluated rows and the draws.

    Returns:
        The certificate.

    Example:
        >>> import collective_variables as cv
        >>> points = [[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.1]]
        >>> certificate = cv.certify(points, [0, 2], seed=0)
        >>> print(f"{certificate.mean_variance:.3f} {certificate.random_mean_variance:.3f}")
        0.010 0.088
    """
    features = _pool.check_features(features)
    n_pool = len(features)
    labelled = np.array(base.check_labelled(labelled, n_pool), np.int64)
    rows = _check_chosen(rows, labelled, n_pool)
    n_random = _checks.integer("n_random", n_random, minimum=2)
    n_evaluated = min(_checks.integer("n_evaluated", n_evaluated, minimum=1), n_pool)
    noise = _check_noise(noise, features)
    generator = np.random.default_rng(_checks.integer("seed", seed, minimum=0))
    evaluated = np.sort(generator.choice(n_pool, n_evaluated, replace=False))
    unlabelled = np.setdiff1d(np.arange(n_pool), labelled)
    draws = [
        np.sort(generator.choice(unlabelled, len(rows), replace=False)) for _ in range(n_random)
    ]
    needed = np.unique(np.concatenate([evaluated, labelled, rows, *draws]))
    places = [np.searchsorted(needed, part) for part in (evaluated, labelled, rows, *draws)]
    pool = _coverage.Pool(features[needed], places[0], places[1], noise)
    after = pool.left(places[2])
    # Without a chosen row there is nothing to draw.
    others = np.array([pool.left(draw) for draw in places[3:]] if len(rows) else [after] * n_random)
    return Certificate(
        n_pool,
        n_evaluated,
        len(labelled),
        len(rows),
        noise,
        *after,
        *others.mean(axis=0).tolist(),
        *_gains(after[0], others[:, 0]),
        *pool.further(places[2]),
    )


def _check_chosen(
    rows: Sequence[int] | np.ndarray, labelled: _pool.Rows, n_pool: int
) -> _pool.Rows:
    """Return the chosen rows in ascending order, so that the same rows give the same digits.

    Raises:
        InvalidValueError: A chosen row is labelled or repeated.
    """
    chosen = np.array([_checks.integer("rows", row) for row in np.asarray(rows).tolist()], np.int64)
    _checks.rows("rows", chosen, n_pool)
    different, counts = np.unique(chosen, return_counts=True)
    wrong = different[(counts > 1) | np.isin(different, labelled)]
    if len(wrong):
        raise _errors.InvalidValueError(
            f"rows must be different rows that are not labelled: received {wrong[0]} twice, or "
            "also as labelled."
        )
    return different


def _check_noise(noise: float | None, features: _pool.Features) -> float:
    """Return the noise of the labels, or the default for these features.

    Raises:
        InvalidValueError: It is too small.
    """
    least = LEAST_NOISE * float(np.sqrt(np.vecdot(features, features).max()))
    if noise is None:
        return max(noises.default_noise(features), least)
    noise = _checks.number("noise", noise, above=0.0)
    if noise < least:
        raise _errors.InvalidValueError(
            f"noise must be at least {least:.3g}, {LEAST_NOISE:g} of the root of the largest "
            f"k(x, x): received {noise}. None takes a value that suits the features."
        )
    return noise


def _gains(left: float, left_by_draws: Float[np.ndarray, " n_random"]) -> tuple[float, ...]:
    """Return the gain, its standard error, and its quantiles over the draws."""
    left, by_draws = max(left, LEAST_LEFT), np.maximum(left_by_draws, LEAST_LEFT)
    error = left / by_draws.mean() ** 2 * by_draws.std(ddof=1) / np.sqrt(len(by_draws))
    interval = np.quantile(1.0 - left / by_draws, QUANTILES)
    return float(1.0 - left / by_draws.mean()), float(error), *interval.tolist()
