"""Alternate between training on the labels so far and choosing the next rows to label."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree
from numpy.typing import ArrayLike

from collective_variables import _checks, _errors
from collective_variables.active_learning import architecture, certificate, choosing, fitting
from collective_variables.active_learning.labels import Labels, read_labels
from collective_variables.ensembles import seeding
from collective_variables.selection import base

STARTS = ("fresh", "warm")
NORMALISATIONS = ("standard", "none")


class ActiveLearner:
    """Choose rows to label in batches, with networks that are trained in between.

    Each call of `query` trains networks on the labels so far, and chooses the next rows by the
    kernel of the trained networks or by their predictions. It keeps nothing of the rows, so rows
    can be added and removed between calls, and labels can have new classes.

    Without labels, or with a single kind of label, the networks are untrained. `reason_` says so.

    Args:
        network: A Flax network, or the hidden layers of one, such as ["dense 128"]. It needs an
            output for each target column or class. None takes two dense layers of 128, and
            convolutions for images.
        method: One of `SELECTION_METHODS`. None takes "bait" in a regression (Ash et al. 2021), and
            "lcmd" in a classification (Holzmüller et al. 2023).
        kernel: Kernel of methods that take one: "sketch", the kernel of the trained networks
            through `ntk_features`; "ntk", the same without an error; "infinite-width"; "linear"; a
            matrix (n_rows, n_rows); or a function kernel(x1, x2) of the normalised points.
        n_features: Number of features of the kernel. None takes 512 for a sketch.
        options: Further options of the method. The noise of "bait" and others is 0.1 of the root of
            the mean prior variance by default. With classes and the kernel of trained networks,
            "lcmd" has weights="committee" by default: distances are weighed by the networks'
            disagreement.
        task: "regression" or "classification"; None follows the targets (see `query`).
        start: "fresh" trains from the same initial parameters in each round. "warm" continues from
            the parameters of the round before.
        normalisation: "standard" gives each column of a table mean 0 and standard deviation 1.
            "none" changes nothing. Points with more axes are not changed.
        settings: How networks are trained.
        seed: Seed of all random numbers.

    Attributes:
        rule_: Method, kernel and options of the last `query`.
        labels_: The labelled rows and targets of the last `fit`; None without labels.
        network_: The network of the last `fit`.
        params_: A list with the parameters of each of its members.
        reason_: A sentence on what the last choice depends on.

    Raises TypeError or ValueError for an argument that is not allowed.

    Example:
        >>> import numpy as np
        >>> import collective_variables as cv
        >>> X = np.linspace(-1.0, 1.0, 50)[:, None]
        >>> y = np.full(50, np.nan)
        >>> y[[10, 40]] = 0.3, 0.8
        >>> learner = cv.ActiveLearner(["dense 16"], seed=0)
        >>> rows = learner.query(X, y, 3)
        >>> y[rows] = np.sin(2 * X[rows, 0])
        >>> learner.fit(X, y).predict(X).shape
        (50,)
    """

    def __init__(
        self,
        network: nn.Module | Sequence[str] | None = None,
        *,
        method: str | None = None,
        kernel: Any = "sketch",
        n_features: int | None = None,
        options: Mapping[str, Any] | None = None,
        task: str | None = None,
        start: str = "fresh",
        normalisation: str = "standard",
        settings: fitting.FitSettings | None = None,
        seed: int = 0,
    ):
        self.network = network
        self.method = method
        self.kernel = kernel
        self.n_features = n_features
        self.options = dict(options or {})
        self.task = task
        self.rule_ = self._rule(None)
        self.rule_.check()
        self.start = _checks.choice("start", start, STARTS)
        self.normalisation = _checks.choice("normalisation", normalisation, NORMALISATIONS)
        self.settings = fitting.FitSettings() if settings is None else settings
        self.seed = seed
        self._initialisation_key = seeding.key(seed, "initialisation")
        self._selection_key = seeding.key(seed, "selection")
        self.labels_: Labels | None = None
        self.network_: nn.Module | None = None
        self.params_: list[PyTree[Array]] = []
        self._is_trained = False
        self.reason_ = ""

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train networks on the labelled rows.

        Without two different targets nothing can be learnt, and the networks stay untrained.

        Args:
            X: (n_rows, n_columns) table, or points with more axes.
            y: Targets, as in `query`.

        Returns:
            This object.

        Raises ValueError if the network does not fit rows and targets, and ComputationError if a
        training diverges. The labels are the caller's and are not changed.
        """
        self._fit(X, y, trains=True)
        return self

    def _fit(self, X: ArrayLike, y: ArrayLike, *, trains: bool) -> Float[np.ndarray, "n_rows ..."]:
        """Set the networks, trained on the labels if there are enough, and return the points."""
        points = self._prepare(X, is_new=True)
        labels = read_labels(y, len(points), task=self.task)
        # The infinite-width kernel of silu has no formula.
        activation = (
            "relu" if self.rule_.kernel_name == "infinite-width" else architecture.ACTIVATION
        )
        network, labels = architecture.build_for_labels(
            self.network, points, labels, activation=activation
        )
        keys = seeding.member_keys(self._initialisation_key, self.settings.n_networks)
        params = fitting.initialise(network, jnp.asarray(points[:1]), keys)
        if self.start == "warm" and _have_one_form(params, self.params_):
            params = self.params_
        if trains and labels is not None and choosing.can_train(labels):
            params = fitting.fit(
                network,
                points[labels.rows],
                labels.targets,
                task=labels.task,
                initial=params,
                settings=self.settings,
            )
        self.network_, self.params_, self.labels_ = network, params, labels
        self._is_trained = trains and choosing.can_train(labels)
        return points

    def query(
        self,
        X: ArrayLike,
        y: ArrayLike,
        batch_size: int = 1,
        *,
        candidates: ArrayLike | None = None,
    ) -> Int[np.ndarray, " batch_size"]:
        """Train on the labels so far, and return the next rows to label.

        Args:
            X: (n_rows, n_columns) table, or points with more axes, with labelled rows among them.
            y: (n_rows,) or (n_rows, n_outputs) targets, NaN or None where a target is unknown.
                Texts and whole numbers of an integer type are classes, and so are one-hot rows;
                other numbers are a regression. The argument `task` of the class overrides this.
            batch_size: Number of rows to choose.
            candidates: Rows that may be chosen; None for all without a label.

        Returns:
            The rows in the order of choice. None of them has a label.

        Raises:
            InvalidValueError: There are fewer rows to choose from.

        Also raises the errors of `fit` and of the method.
        """
        batch_size = _checks.integer("batch_size", batch_size, minimum=1)
        n_rows = len(base.check_pool(X))
        labels = read_labels(y, n_rows, task=self.task)
        labelled = np.empty(0, int) if labels is None else labels.rows
        open_rows = _open_rows(n_rows, labelled, candidates)
        if batch_size > len(open_rows):
            raise _errors.InvalidValueError(
                "batch_size must not exceed the rows without a label that may be chosen: "
                f"{batch_size} > {len(open_rows)}."
            )
        self.rule_ = self._rule(labels)
        points = self._fit(X, y, trains=self.rule_.needs_training)
        kept = np.union1d(labelled, open_rows)
        self.reason_ = self._reason(labels)
        rows = choosing.choose(
            points[kept],
            batch_size,
            rule=self.rule_.on_rows(kept, len(points)),
            labelled=np.searchsorted(kept, labelled),
            fitted=choosing.Fitted(self.network_, self.params_, self.labels_),
            key=jax.random.fold_in(self._selection_key, len(labelled)),
        )
        return kept[rows]

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return the predictions of the trained networks.

        Args:
            X: (n_rows, n_columns) table, or points with more axes.

        Returns:
            (n_rows,) or (n_rows, n_outputs) numbers, in the form of the targets; or (n_rows,)
            classes.

        Raises ValueError if no network is trained.
        """
        labels, outputs = self._outputs(X)
        return labels.predictions(outputs)

    def predict_proba(self, X: ArrayLike) -> Float[np.ndarray, "n_rows n_classes"]:
        """Return the probability of each class of `labels_.classes`, the mean over networks.

        Raises:
            ValueError: The task is a regression.

        Also raises ValueError if no network is trained.
        """
        labels, outputs = self._outputs(X)
        if labels.task != "classification":
            raise ValueError("predict_proba needs a classification: received a regression.")
        return labels.probabilities(outputs).mean(axis=0)

    def certify(self, X: ArrayLike, y: ArrayLike, rows: ArrayLike, /) -> certificate.Certificate:
        """Return what is left to learn after the chosen rows, in the kernel of the last `query`.

        Methods without a kernel are judged by the sketch of the networks.

        Args:
            X: The pool, as for `query`.
            y: Its targets, as for `query`.
            rows: The rows that `query` returned.

        Returns:
            The certificate.

        Raises:
            ValueError: There was no `query` yet.
        """
        if self.network_ is None:
            raise ValueError("certify needs the networks of a query: call query first.")
        points = self._prepare(X, is_new=True)
        labels = read_labels(y, len(points), task=self.task)
        labelled = np.empty(0, int) if labels is None else labels.rows
        rule = self.rule_ if self.rule_.has_kernel else choosing.Rule()
        fitted = choosing.Fitted(self.network_, self.params_, self.labels_)
        key = jax.random.fold_in(self._selection_key, len(labelled))
        features = choosing.compute_features(points, rule, fitted, key)
        return certificate.certify(features, np.asarray(rows, int), labelled, seed=self.seed)

    def _outputs(self, X: ArrayLike) -> tuple[Labels, np.ndarray]:
        labels = self.labels_
        if self.network_ is None or labels is None or not self._is_trained:
            raise ValueError(
                "predict needs networks that were trained on two different targets at least: "
                "call fit with labelled rows first."
            )
        return labels, fitting.outputs(self.network_, self.params_, self._prepare(X))

    def _prepare(self, X: ArrayLike, *, is_new: bool = False) -> Float[np.ndarray, "n_rows ..."]:
        """Return the points in float32, normalised by the pool that was last seen."""
        points = np.asarray(base.check_pool(X), np.float64)
        _checks.finite("X", points)
        if is_new:
            is_table = points.ndim == 2 and self.normalisation == "standard"
            self._mean = points.mean(axis=0) if is_table else np.zeros(points.shape[1:])
            std = points.std(axis=0) if is_table else np.ones(points.shape[1:])
            self._std = np.where(std > np.finfo(float).eps * np.abs(self._mean), std, np.inf)
        if points.shape[1:] != self._mean.shape:
            raise _errors.InvalidValueError(
                f"X must have points of the shape {self._mean.shape}, as in fit: received "
                f"{points.shape[1:]}."
            )
        return ((points - self._mean) / self._std).astype(np.float32)

    def _rule(self, labels: Labels | None) -> choosing.Rule:
        """Return method, kernel and options for these labels."""
        task = self.task if labels is None else labels.task
        method = self.method or choosing.METHODS[task or "regression"]
        return choosing.Rule(method, self.kernel, self.n_features, self.options)

    def _reason(self, labels: Labels | None) -> str:
        if not self.rule_.needs_training:
            return f"{self.rule_.method} does not use a trained network."
        if labels is None:
            return "No row has a label, so the networks are untrained."
        if not choosing.can_train(labels):
            return f"All {len(labels.rows)} labels are the same, so the networks are untrained."
        return f"The networks are trained on {len(labels.rows)} labelled rows."


def _have_one_form(first: Sequence[PyTree[Array]], second: Sequence[PyTree[Array]]) -> bool:
    shapes = (jax.tree.map(jnp.shape, list(trees)) for trees in (first, second))
    return next(shapes) == next(shapes)


def _open_rows(
    n_rows: int, labelled: Int[np.ndarray, " n_labelled"], candidates: ArrayLike | None
) -> Int[np.ndarray, " n_open"]:
    """Return the rows that may be chosen.

    Raises:
        InvalidValueError: All rows are labelled.
    """
    if len(labelled) == n_rows:
        raise _errors.InvalidValueError(
            f"There is nothing to choose: all {n_rows} rows of y are labelled. "
            "Add rows without a label, with NaN in y."
        )
    rows = np.arange(n_rows) if candidates is None else np.unique(np.asarray(candidates))
    if candidates is not None:
        rows = np.array(base.check_labelled(rows, n_rows), int)
    return np.setdiff1d(rows, labelled)
