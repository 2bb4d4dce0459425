"""Choose the next rows to label with networks that are trained on the labels so far."""

import argparse
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from jaxtyping import Float

from collective_variables import _checks
from collective_variables.active_learning import certificate as certificates
from collective_variables.active_learning import choosing, learner
from collective_variables.active_learning import outlook as outlooks
from collective_variables.cli import _arguments, _pool, commands
from collective_variables.cli.labels import predictions
from collective_variables.cli.labels.known import Known
from collective_variables.data import scaling as scalings
from collective_variables.data._errors import DataError
from collective_variables.data.encoding import Table
from collective_variables.ensembles import execution, seeding
from collective_variables.selection import registry
from collective_variables.selection.batches import kernels

ASKED = "as asked for"
FEWEST = 16  # rows with a target, from which networks are trained unless the user names a method
RULES = ("bait", "lcmd", "max-diag", "max-det", "max-dist", "frank-wolfe")
# Without labels these choose by the inputs.
RULES_WITH_LABELS = ("k-means++", "max-herding")

Inputs = Float[np.ndarray, "n_pool ..."]


class Plan(NamedTuple):
    """Say how rows are chosen.

    Attributes:
        method: One of `registry.SELECTION_METHODS`.
        reason: Why, or by which kernel, in words that follow the method.
        options: Options of the method, without kernel and number of features if there is a rule.
        rule: The rule for networks; None for a method that uses no labels.
        trains: Whether networks are trained on the labels.
    """

    method: str
    reason: str
    options: Mapping[str, Any]
    rule: choosing.Rule | None
    trains: bool

    def in_words(self) -> list[str]:
        """Return which method chooses, and why, unless the user knows."""
        is_known = self.reason == ASKED
        return [] if is_known else [f"Method: {self.method}, {self.reason}."]


class Choice(NamedTuple):
    """Hold the chosen rows, and what is known of the networks.

    Attributes:
        rows: The columns order, row and distance of `commands.select`.
        outlook: How good the networks are; None if none is trained or nobody asked.
        certificate: How well the rows cover the pool; None if no network was used to choose them.
        predictions: A row for each row without a target; None if nobody asked.
    """

    rows: pd.DataFrame
    outlook: outlooks.Outlook | None = None
    certificate: certificates.Certificate | None = None
    predictions: pd.DataFrame | None = None

    def notes(self, target: str) -> list[str]:
        """Return what is said of the networks and the rows."""
        told = [] if self.outlook is None else self.outlook.in_words(target)
        if self.certificate is not None:
            sentences = self.certificate.in_words()
            told += sentences[:-1] if self.certificate.is_useless else sentences
        return told

    def caution(self) -> str:
        """Return the sentence that nothing is gained over random rows; "" if something is."""
        if self.certificate is None or not self.certificate.is_useless:
            return ""
        return f"{self.certificate.in_words()[-1].removesuffix('.')} (--method random)."

    def values(self) -> dict[str, object]:
        """Return outlook and certificate for JSON."""
        told = None if self.outlook is None else self.outlook._asdict()
        if told is not None:
            told |= {name: told[name]._asdict() for name in ("now", "with_more")}
        proven = None if self.certificate is None else self.certificate._asdict()
        return {"outlook": told, "certificate": proven}


def plan(
    arguments: argparse.Namespace, known: Known, pool: _pool.Pool, without_labels: str, /
) -> Plan:
    """Return how rows are chosen, checked before any work.

    Without a method of the user, networks are trained if at least `FEWEST` rows have a target and
    two of these differ. Also raises the errors of `_arguments.check_method`.

    Args:
        arguments: The parsed arguments.
        known: The labels.
        pool: The rows to choose from.
        without_labels: The method if there are fewer rows with a target.

    Returns:
        The plan.

    Raises:
        DataError: The method or the predictions need labels that are missing, or an option is
            wrong.
    """
    options = _arguments.parse_options(arguments.option)
    why_not = _why_not(known, pool.table)
    n_labelled = 0 if why_not else int(pool.table.is_labelled.sum())
    is_asked = arguments.method is not None
    method = arguments.method or (
        without_labels if n_labelled < FEWEST else choosing.METHODS[pool.table.task]
    )
    if arguments.predictions is not None and why_not:
        raise DataError(f"--predictions needs networks, and none can be trained, since {why_not}.")
    _check_predictions(method, pool.table, why_not)
    is_rule = method in (*RULES, *commands.PREDICTION_METHODS)
    if not is_rule and not (n_labelled and method in RULES_WITH_LABELS):
        have = f"only {n_labelled} rows have a value in {_names(known)}"
        why_not = why_not or f"{have}, and networks wait for {FEWEST}"
        reason = ASKED if is_asked else f"since {why_not}"
        _check_method(arguments, method, pool, options, has_target=bool(known.targets))
        return Plan(method, reason, options, None, arguments.predictions is not None)
    _arguments.check_typed(options)
    rule = _rule(method, options)
    parts = []
    if rule.has_kernel and rule.kernel not in choosing.NETWORK_KERNELS:
        parts.append(f"the kernel {rule.kernel}")
    if n_labelled and rule.needs_training:
        parts.append(f"networks trained on the {n_labelled} labelled rows")
    elif not parts:
        parts.append(f"untrained networks, since {why_not}")
    return Plan(method, f"with {' and '.join(parts)}", rule.options, rule, n_labelled > 0)


def _why_not(known: Known, table: Table) -> str:
    """Return why no network can be trained; "" if one can."""
    if not known.targets:
        return "no target is named"
    if known.is_complete:
        return f"every row has a value in {_names(known)}"
    targets = table.targets[table.is_labelled]
    if not len(targets):
        return f"no row has a value in {_names(known)} yet"
    if len(np.unique(targets, axis=0)) < 2:
        if len(targets) == 1:
            return f"only 1 row has a value in {_names(known)}"
        return f"all {len(targets)} labelled rows have the same {_names(known)}"
    return ""


def _names(known: Known) -> str:
    return " and ".join(known.targets)


def _check_predictions(method: str, table: Table, why_not: str) -> None:
    """Raise DataError or ValueError if a method needs predictions that no network can make."""
    if method not in commands.PREDICTION_METHODS:
        return
    if why_not:
        raise DataError(
            f"{method} chooses by predictions of networks, and none can be trained, since "
            f"{why_not}: label rows that another method chooses."
        )
    choosing.Rule(method).check_task(table.task)


def _check_method(
    arguments: argparse.Namespace,
    method: str,
    pool: _pool.Pool,
    options: dict[str, Any],
    *,
    has_target: bool,
) -> None:
    """Check the arguments of a method that uses no labels."""
    checked = vars(arguments) | {"method": method}
    if arguments.predictions is not None or (arguments.method is None and has_target):
        # The network is for the predictions, or for the rounds that have labels.
        checked |= {"layers": None, "model": None}
    namespace = argparse.Namespace(**checked)
    _arguments.check_method(namespace, len(pool.rows), options, pool.labelled)


def _rule(method: str, options: dict[str, Any]) -> choosing.Rule:
    """Return the rule, or raise for an option that the method does not have."""
    unknown = [name for name in options if name not in registry.OPTIONS[method]]
    if unknown:
        known = [name for name in registry.OPTIONS[method] if name not in commands.NOT_TYPED]
        raise DataError(f"Options of {method} are {', '.join(known)}: received {unknown[0]}.")
    others = {name: options[name] for name in options if name not in ("kernel", "n_features")}
    given = {name: options[name] for name in options if name not in others}
    _checks.choice("kernel", given.get("kernel", "sketch"), kernels.KERNELS)
    if given.get("n_features") is not None:
        _checks.integer("n_features", given["n_features"], minimum=1)
    if others.get("weights") is not None:
        _checks.choice("weights", others["weights"], [choosing.COMMITTEE])
    return choosing.Rule(method, **given, options=others)


def choose(
    plan: Plan,
    known: Known,
    pool: _pool.Pool,
    /,
    *,
    n_points: int,
    network: commands.Architecture,
    seed: int,
    scaling: str,
    wants_outlook: bool = True,
    wants_predictions: bool = False,
    progress: str = "",
) -> Choice:
    """Return the chosen rows, and what the trained networks say.

    Without rows that wait for their label, the rows are those of `ActiveLearner.query` for the
    scaled inputs. Also raises the errors of `commands.select`, `ActiveLearner.fit` and
    `choosing.choose`.

    Args:
        plan: How rows are chosen.
        known: The labels.
        pool: The rows to choose from.
        n_points: Number of rows to choose.
        network: The network; None for the default of the method.
        seed: Random seed.
        scaling: Scaling of the inputs, one of `scaling.SCALINGS`.
        wants_outlook: Whether the outlook is computed.
        wants_predictions: Whether rows without a target are predicted.
        progress: Text in front of the progress bar; "" shows none.

    Returns:
        The choice.
    """
    settings = {
        "n_points": n_points,
        "method": plan.method,
        "options": plan.options,
        "labelled": pool.labelled,
        "network": network,
        "seed": seed,
        "scaling": scaling,
    }
    if plan.rule is None and not plan.trains:
        return Choice(commands.select(pool.table, **settings, progress=progress))
    with execution.Progress(progress, 2 + (wants_outlook and plan.trains), "steps") as bar:
        inputs = scale(pool.table, scaling)
        trained = make_learner(network, pool.table.task, seed)
        trained.fit(inputs, targets(plan, pool.table))
        bar.advance()
        rows, proven = (
            (commands.select(pool.table, **settings), None)
            if plan.rule is None
            else _by_rule(plan.rule, pool, inputs, trained, n_points)
        )
        bar.advance()
        told = predicted = None
        if wants_outlook and trained.labels_ is not None:
            told = outlooks.outlook(
                trained.network_,
                inputs[trained.labels_.rows],
                trained.labels_,
                n_more=n_points,
                settings=trained.settings,
                seed=seed,
            )
            bar.advance()
        if wants_predictions:
            predicted = predictions.predict(trained, known, pool, inputs, scaling)
    return Choice(rows, told, proven, predicted)


def scale(table: Table, scaling: str, /) -> Inputs:
    """Return the inputs as networks take them."""
    every_row = np.arange(len(table.inputs))
    return scalings.scale_table(table, every_row, scaling=scaling).astype(np.float32)


def make_learner(
    network: commands.Architecture, task: str | None, seed: int, /
) -> learner.ActiveLearner:
    """Return the learner whose networks are trained."""
    return learner.ActiveLearner(network, task=task, normalisation="none", seed=seed)


def targets(plan: Plan, table: Table, /) -> Float[np.ndarray, "n_pool n_outputs"]:
    """Return the targets that networks are trained on, NaN where one is unknown."""
    if not plan.trains or table.targets is None:
        return np.full((len(table.inputs), 1), np.nan)
    return np.where(table.is_labelled[:, None], table.targets, np.nan)


def _by_rule(
    rule: choosing.Rule,
    pool: _pool.Pool,
    inputs: Inputs,
    trained: learner.ActiveLearner,
    n_points: int,
) -> tuple[pd.DataFrame, certificates.Certificate]:
    """Return the rows that a rule chooses, and their certificate in its kernel."""
    fitted = choosing.Fitted(trained.network_, trained.params_, trained.labels_)
    n_trained = 0 if trained.labels_ is None else len(trained.labels_.rows)
    key = jax.random.fold_in(seeding.key(trained.seed, "selection"), n_trained)
    # The kernel is computed once, for both the choice and the certificate.
    kernel = rule if rule.has_kernel else choosing.Rule()
    features = choosing.compute_features(inputs, kernel, fitted, key)
    labelled = np.sort(pool.labelled)
    found = choosing.choose(
        inputs,
        n_points,
        rule=rule,
        labelled=labelled,
        fitted=fitted,
        key=key,
        features=features if rule.has_kernel else None,
    )
    columns = (np.arange(1, len(found) + 1), found, np.full(len(found), np.nan))
    proven = certificates.certify(features, found, labelled, seed=trained.seed)
    return pd.DataFrame(dict(zip(commands.SELECTED, columns))), proven
