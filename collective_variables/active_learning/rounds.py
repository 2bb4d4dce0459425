"""Play rounds of labelling on a table whose targets are all known, and compare rules."""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from collective_variables import _checks, _errors
from collective_variables.active_learning import choosing, fitting, labels
from collective_variables.ensembles import execution, seeding
from collective_variables.kernels import empirical
from collective_variables.observables import spectrum
from collective_variables.selection import base

RANDOM = choosing.Rule("random")
COLUMNS = (
    "method",
    "repeat",
    "round",
    "n_labelled",
    "error",
    "accuracy",
    "entropy",
    "trace",
    "batch_entropy",
    "batch_trace",
    "fit_seconds",
    "choice_seconds",
)


class Split(NamedTuple):
    """Hold a pool and test points, with targets in their own unit or one-hot."""

    inputs: Float[np.ndarray, "n_pool ..."]
    targets: Float[np.ndarray, "n_pool n_outputs"]
    test_inputs: Float[np.ndarray, "n_test ..."]
    test_targets: Float[np.ndarray, "n_test n_outputs"]


class Plan(NamedTuple):
    """Hold how many rows are labelled, and how networks are trained.

    Attributes:
        sizes: Numbers of labelled rows, ascending. The first are drawn at random.
        settings: How networks are trained.
        seed: Seed of first rows, initial networks and choices.
        n_tested: Number of networks whose mean is tested; None for all. With 1, a committee that
            chooses rows is compared with single networks.
    """

    sizes: Sequence[int]
    settings: fitting.FitSettings = fitting.FitSettings()
    seed: int = 0
    n_tested: int | None = None

    def check(self, n_pool: int) -> None:
        """Raise ValueError unless the sizes ascend and the pool has so many rows."""
        for size in self.sizes:
            _checks.integer("sizes", size, minimum=1)
        if len(self.sizes) < 2 or any(np.diff(self.sizes) <= 0):
            raise _errors.InvalidValueError(
                f"sizes must be two ascending numbers at least: received {list(self.sizes)}."
            )
        if self.sizes[-1] > n_pool:
            raise _errors.InvalidValueError(
                f"sizes must not exceed the {n_pool} rows of the pool: received {self.sizes[-1]}."
            )


def play(
    network: nn.Module,
    splits: Sequence[Split],
    rules: Mapping[str, choosing.Rule],
    plan: Plan,
    /,
    *,
    task: str,
    progress: str = "",
) -> pd.DataFrame:
    """Label rows in rounds, with the batches of each rule, and test the networks in between.

    In each repeat all rules share the split, the first rows and the initial networks, so their
    differences are paired. Random selection should be one of the rules.

    Args:
        network: The network, with an output for each target.
        splits: Pool and test points of each repeat.
        rules: The rules by their names in the table.
        plan: Numbers of labelled rows, training and seed.
        task: "regression" or "classification".
        progress: Text in front of the progress bar; "" shows none.

    Returns:
        A row for each rule, repeat and round, with the columns `COLUMNS`. Round 0 has the first
        rows. `error` is the root mean squared error on test points in the unit of the targets,
        over all outputs; in a classification it is the share of wrong classes. `accuracy` is NaN
        in a regression. `entropy` (nats) and `trace` are those of the kernel of the first initial
        network on all labelled rows, `batch_entropy` and `batch_trace` on the batch alone. A
        training that diverges leaves NaN in that round and all later ones. Seconds are those of
        the training and of the choice, compilation included. Where all labels are the same, rules
        that choose by predictions draw random rows.

    Raises ValueError if sizes do not ascend or exceed a pool, and TypeError or ValueError for a
    rule that is wrong or does not fit the task.
    """
    for rule in rules.values():
        rule.check()
        rule.check_task(task)
    for split in splits:
        plan.check(len(split.inputs))
    rows: list[dict[str, object]] = []
    with execution.Progress(progress, len(splits) * len(rules), "runs") as bar:
        for repeat, split in enumerate(splits):
            game = _Game(network, split, plan, task, repeat)
            for name, rule in rules.items():
                rows += [{"method": name, "repeat": repeat} | row for row in game.play(rule)]
                bar.advance()
    return pd.DataFrame(rows, columns=list(COLUMNS))


class _Game:
    """Hold what all rules of a repeat share: first rows, initial networks and the first fit."""

    def __init__(
        self, network: nn.Module, split: Split, plan: Plan, task: str, repeat: int
    ) -> None:
        self._network, self._split, self._plan, self._task = network, split, plan, task
        keys = (seeding.key(plan.seed, use) for use in ("initialisation", "subsets", "selection"))
        first, subsets, self._key = (jax.random.fold_in(key, repeat) for key in keys)
        member_keys = seeding.member_keys(first, plan.settings.n_networks)
        self._initial = fitting.initialise(network, jnp.asarray(split.inputs[:1]), member_keys)
        drawn = base.random(len(split.inputs), n_selected=plan.sizes[0], key=subsets)
        self._first = np.sort(drawn.indices[0])
        self._fits: dict[bytes, tuple[choosing.Fitted | None, float]] = {}

    def play(self, rule: choosing.Rule) -> list[dict[str, object]]:
        """Return what each round of a rule gives."""
        labelled, batch, results = self._first, self._first, []
        seconds = np.nan
        for number, size in enumerate(self._plan.sizes):
            fitted, fit_seconds = self._fit(labelled)
            results.append(
                {"round": number, "n_labelled": size, **self._test(fitted)}
                | self._variables(labelled, batch)
                | {"fit_seconds": fit_seconds, "choice_seconds": seconds}
            )
            if number + 1 == len(self._plan.sizes):
                break
            if fitted is None:
                missing = dict.fromkeys(COLUMNS[4:], np.nan)
                later = enumerate(self._plan.sizes[number + 1 :], number + 1)
                results += [{"round": n, "n_labelled": size, **missing} for n, size in later]
                break
            start = time.perf_counter()
            # Without two different labels there are no predictions to choose by.
            is_blind = rule.needs_predictions and not fitted.is_trained
            batch = choosing.choose(
                self._split.inputs,
                self._plan.sizes[number + 1] - size,
                rule=RANDOM if is_blind else rule,
                labelled=labelled,
                fitted=fitted,
                key=jax.random.fold_in(self._key, number),
            )
            seconds = time.perf_counter() - start
            labelled = np.concatenate([labelled, batch])
        return results

    def _fit(
        self, labelled: Int[np.ndarray, " n_labelled"]
    ) -> tuple[choosing.Fitted | None, float]:
        """Return the networks trained on these rows, None if they diverge, and the seconds."""
        rows = np.sort(labelled)
        if rows.tobytes() not in self._fits:
            start = time.perf_counter()
            y = np.full(self._split.targets.shape, np.nan)
            y[rows] = self._split.targets[rows]
            known = labels.read_labels(y, len(y), task=self._task)
            fitted = self._trained(known)
            found = fitted, time.perf_counter() - start
            # Only the first rows are shared by the rules.
            if len(rows) > self._plan.sizes[0]:
                return found
            self._fits[rows.tobytes()] = found
        return self._fits[rows.tobytes()]

    def _trained(self, known: labels.Labels) -> choosing.Fitted | None:
        if not choosing.can_train(known):
            return choosing.Fitted(self._network, self._initial, known)
        try:
            params = fitting.fit(
                self._network,
                self._split.inputs[known.rows],
                known.targets,
                task=self._task,
                initial=self._initial,
                settings=self._plan.settings,
            )
        except _errors.ComputationError:
            return None
        return choosing.Fitted(self._network, params, known)

    def _test(self, fitted: choosing.Fitted | None) -> dict[str, float]:
        if fitted is None:
            return {"error": np.nan, "accuracy": np.nan}
        tested = fitted.params[: self._plan.n_tested]
        found = fitting.outputs(self._network, tested, self._split.test_inputs)
        if self._task == "classification":
            guesses = fitted.labels.probabilities(found).mean(axis=0).argmax(axis=1)
            right = float(np.mean(guesses == self._split.test_targets.argmax(axis=1)))
            return {"error": 1.0 - right, "accuracy": right}
        predictions = fitted.labels._replace(is_vector=False).predictions(found)
        squares = (predictions - self._split.test_targets) ** 2
        return {"error": float(np.sqrt(squares.mean())), "accuracy": np.nan}

    def _variables(
        self, labelled: Int[np.ndarray, " n_labelled"], batch: Int[np.ndarray, " n_batch"]
    ) -> dict[str, float]:
        """Return entropy and trace of all labelled rows and of the batch, before training."""
        points = jnp.asarray(self._split.inputs[labelled])
        # In its own dtype, whose round-off the eigenvalues may have.
        kernel = np.asarray(empirical.empirical_ntk(self._network.apply, self._initial[0], points))
        batch_block = kernel[-len(batch) :, -len(batch) :]
        found = {}
        for prefix, block in (("", kernel), ("batch_", batch_block)):
            found[f"{prefix}entropy"] = float(spectrum.entropy(block))
            found[f"{prefix}trace"] = float(spectrum.trace(block))
        return found
