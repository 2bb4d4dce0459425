"""Estimate how good a network is with the labels so far, and what more labels would bring."""

from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Float, Int

from collective_variables import _checks, _errors
from collective_variables.active_learning import fitting
from collective_variables.active_learning.labels import Labels

FEWEST = 10  # labelled rows
N_FOLDS = 5
N_HALVES = 2  # of the rows of a training
# Folds share their training rows, so that the variance of their mean is larger than from
# independent errors (Nadeau, Bengio 2003).
WIDER = np.sqrt(1 + N_FOLDS / (N_FOLDS - 1))
EXPONENT, EXPONENT_STD = 0.5, 0.3  # of squared errors and error rates, before any is seen
N_DRAWS = 1000
QUANTILES = 0.025, 0.975
LEAST = 1e-12  # squared error in units of the variance, so that it has a logarithm

Errors = Float[np.ndarray, "2 n_labelled"]


class Estimate(NamedTuple):
    """Hold an estimate and the ends of its 95 % interval."""

    value: float
    lower: float
    upper: float


class Outlook(NamedTuple):
    """Hold how good a network is with the labels so far, and with more of them.

    The score is the root mean squared error in a regression and the accuracy in a classification,
    for rows like the labelled ones. The error of several target columns is in their standard
    deviations, since their units differ.

    Attributes:
        task: "regression" or "classification".
        n_labelled: Number of labelled rows.
        n_more: Number of further labels.
        n_outputs: Number of target columns or classes.
        now: Score with the labels so far.
        with_more: Score with `n_more` random ones in addition.
        constant: Score of a constant prediction: of the mean of the targets, or of the commonest
            class.
        exponent: Exponent b of the power law m^(−b), which the score or the error rate follows.
    """

    task: str
    n_labelled: int
    n_more: int
    n_outputs: int
    now: Estimate
    with_more: Estimate
    constant: float
    exponent: float

    @property
    def is_better(self) -> bool:
        """Whether the network so far is better than a constant prediction."""
        is_above = self.now.value > self.constant
        return is_above if self.task == "classification" else self.now.value < self.constant

    def in_words(self, target: str = "") -> list[str]:
        """Return the outlook in sentences.

        Args:
            target: Name of the target; empty for none.

        Returns:
            The sentences.
        """
        score, constant = "error", "a constant prediction"
        if self.task == "classification":
            score, constant = "accuracy", "the commonest class for all rows"
        name = f" of {target}" if target else ""
        has_units = self.task == "regression" and self.n_outputs > 1
        unit = " standard deviations" if has_units else ""
        sentences = [
            f"With the {self.n_labelled} labels so far, the {score}{name} is about "
            f"{_words(self.now)}{unit} for rows like the labelled ones; {constant} has "
            f"{_number(self.constant)}."
        ]
        if not self.is_better:
            sentences.append("So far the network is no better than that.")
        return [
            *sentences,
            f"{self.n_more} more labels would bring about {_words(self.with_more)}{unit}.",
            "Rows that a method chose can be harder than the rest of the pool.",
        ]


def _words(estimate: Estimate) -> str:
    value, lower, upper = map(_number, estimate)
    return f"{value} ({lower} to {upper})"


def _number(value: float) -> str:
    return f"{float(f'{value:.2g}'):g}"


def outlook(
    network: nn.Module,
    inputs: Float[np.ndarray, "n_labelled ..."],
    labels: Labels,
    /,
    *,
    n_more: int,
    settings: fitting.FitSettings,
    seed: int,
) -> Outlook | None:
    """Estimate the score of a network on new rows, with the labels so far and with more.

    Networks are trained on four fifths of the labelled rows and on two fifths, and are tested on
    the last fifth. A power law a·m^(−b), b ≥ 0, leads from the two sizes to all labelled rows and
    beyond. It describes learning curves well over a factor of a few in size (Hestness et al. 2017).
    Since few rows tell b badly, it is weighed with 0.5 ± 0.3 by the inverse variances, where b is
    that of squared errors and error rates.

    Intervals are from the Bayesian bootstrap of the tested rows (Rubin 1981), with both sizes
    together. They are wider by the factor 1.5 in the logarithm, since trainings share rows (Nadeau,
    Bengio 2003). Those of an error rate follow Jeffreys' prior. Those of squared errors are
    mirrored, as in the basic bootstrap (Davison, Hinkley 1997), since large errors are rare. With
    40 random labels of a regression they may hold the error in only 80 to 85 of 100 cases.

    The estimate is for rows like the labelled ones, and for further ones that are random. Rows that
    a method chose are often harder than others, and the error over the pool is then smaller
    (Farquhar, Gal, Rainforth 2021). With fewer networks than the predictions are the mean of, the
    error is a little too large.

    Also raises ComputationError if a training diverges, and ValueError if the network does not fit
    the points.

    Args:
        network: The network.
        inputs: (n_labelled, ...) labelled points.
        labels: Their labels.
        n_more: Number of further labels.
        settings: How networks are trained. 15 trainings take place for each of its `n_networks`.
        seed: Seed of folds, initial parameters and intervals.

    Returns:
        The outlook, or None for fewer than 10 labelled rows or a single kind of target.

    Raises:
        InvalidValueError: There is not one point for each label.
    """
    n_more = _checks.integer("n_more", n_more, minimum=1)
    n_labelled = len(labels.rows)
    if len(inputs) != n_labelled:
        raise _errors.InvalidValueError(
            f"inputs must be the {n_labelled} labelled points: received {len(inputs)} points."
        )
    if n_labelled < FEWEST or labels.n_kinds < 2:
        return None
    generator = np.random.default_rng(_checks.integer("seed", seed, minimum=0))
    key = jax.random.key(seed)
    errors, sizes = _tested(network, inputs, labels, settings, key, generator)
    is_class = labels.task == "classification"
    means = _means(errors, generator, is_rate=is_class)
    exponents = _exponents(means, sizes)
    now, with_more = (
        _estimate(np.log(means[:, 0]) - exponents * np.log(size / sizes[0]), is_rate=is_class)
        for size in (n_labelled, n_labelled + n_more)
    )
    if is_class:
        scores = [
            Estimate(1 - e.value, 1 - e.upper, max(1 - e.lower, 0.0)) for e in (now, with_more)
        ]
        constant = labels.targets.mean(axis=0).max()
    else:
        scale = labels.std[0] if len(labels.std) == 1 else 1.0
        scores = [Estimate(*(np.sqrt(e) * scale).tolist()) for e in (now, with_more)]
        # Each row by the mean of the others.
        constant = scale * n_labelled / (n_labelled - 1)
    exponent = exponents[0] if is_class else exponents[0] / 2
    return Outlook(
        labels.task,
        n_labelled,
        n_more,
        labels.targets.shape[1],
        *scores,
        float(constant),
        float(exponent),
    )


def _tested(
    network: nn.Module,
    inputs: Float[np.ndarray, "n_labelled ..."],
    labels: Labels,
    settings: fitting.FitSettings,
    key: jax.Array,
    generator: np.random.Generator,
) -> tuple[Errors, tuple[float, float]]:
    """Return the error of each row from trainings without it, for both sizes, and the sizes."""
    folds = _deal(np.arange(len(inputs)), labels, N_FOLDS, generator)
    trains = [np.setdiff1d(np.arange(len(inputs)), fold) for fold in folds]
    halves = [half for rows in trains for half in _deal(rows, labels, N_HALVES, generator)]
    errors = np.zeros((2, len(inputs)))
    for number, subsets in enumerate((trains, halves)):
        repeated = [rows for rows in subsets for _ in range(settings.n_networks)]
        keys = jax.random.split(jax.random.fold_in(key, number), len(repeated))
        trained = fitting.fit_subsets(
            network,
            inputs,
            labels.targets,
            repeated,
            task=labels.task,
            initial=fitting.initialise(network, inputs, keys),
            settings=settings,
        )
        outputs = fitting.outputs(network, trained, inputs)
        outputs = outputs.reshape(N_FOLDS, -1, settings.n_networks, *outputs.shape[1:])
        for fold, by_subset in zip(folds, outputs):
            fold_errors = [
                _row_errors(labels, predictions[:, fold], fold) for predictions in by_subset
            ]
            errors[number, fold] = np.mean(fold_errors, axis=0)
    return errors, tuple(
        float(np.mean([len(rows) for rows in subsets])) for subsets in (trains, halves)
    )


def _deal(
    rows: Int[np.ndarray, " n_rows"], labels: Labels, n_parts: int, generator: np.random.Generator
) -> list[Int[np.ndarray, " n_part"]]:
    """Return random parts of equal size, in a classification with equal shares of the classes."""
    order = generator.permutation(rows)
    if labels.task == "classification":
        order = order[np.argsort(labels.targets[order].argmax(axis=1), kind="stable")]
    return [np.sort(order[start::n_parts]) for start in range(n_parts)]


def _row_errors(
    labels: Labels,
    outputs: Float[np.ndarray, "n_networks n_rows n_outputs"],
    rows: Int[np.ndarray, " n_rows"],
) -> Float[np.ndarray, " n_rows"]:
    """Return squared errors in units of the variance, or 1 for each wrong class."""
    targets = labels.targets[rows].astype(np.float64)
    if labels.task == "classification":
        likeliest = labels.probabilities(outputs).mean(axis=0).argmax(axis=1)
        return (likeliest != targets.argmax(axis=1)).astype(np.float64)
    means = outputs.astype(np.float64).mean(axis=0)
    return ((means - targets) ** 2).mean(axis=1)


def _means(
    errors: Errors, generator: np.random.Generator, *, is_rate: bool
) -> Float[np.ndarray, "n_draws 2"]:
    """Return the mean error of both sizes, first of all rows and then of draws of weights."""
    counts = np.ones(errors.shape[1])
    if is_rate:
        # Half a right row and half a wrong one: the distribution of a rate is then Jeffreys'.
        errors = np.column_stack([errors, np.zeros(2), np.ones(2)])
        counts = np.append(counts, [0.5, 0.5])
    weights = [counts, *(generator.standard_gamma(counts) for _ in range(N_DRAWS))]
    return np.maximum([errors @ weight / weight.sum() for weight in weights], LEAST)


def _exponents(
    means: Float[np.ndarray, "n_draws 2"], sizes: tuple[float, float]
) -> Float[np.ndarray, " n_draws"]:
    """Return the exponents of the power laws through both sizes, weighed with the prior."""
    exponents = np.log(means[:, 1] / means[:, 0]) / np.log(sizes[0] / sizes[1])
    variance = (WIDER * exponents[1:].std()) ** 2
    weight = EXPONENT_STD**2 / (EXPONENT_STD**2 + variance)
    return np.maximum(weight * exponents + (1 - weight) * EXPONENT, 0.0)


def _estimate(logarithms: Float[np.ndarray, " n_draws"], *, is_rate: bool) -> Estimate:
    """Return the estimate of a mean error from its logarithm, first of all rows, then of draws."""
    value = logarithms[0]
    lower, upper = WIDER * (np.quantile(logarithms[1:], QUANTILES) - value)
    if not is_rate:
        # Large errors are rare, so that a mean is too small more often than too large.
        lower, upper = -upper, -lower
    ends = value + min(lower, 0.0), value + max(upper, 0.0)
    return Estimate(*np.exp([value, *ends]).tolist())
