"""Choose the next batch with networks that were trained on the labels so far."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree
from numpy.typing import ArrayLike

from collective_variables import _checks, _errors
from collective_variables.active_learning import fitting, noise
from collective_variables.active_learning.labels import Labels
from collective_variables.kernels import features as sketches
from collective_variables.selection import registry
from collective_variables.selection.batches import kernels, methods

NETWORK_KERNELS = ("ntk", "sketch")  # those of trained networks
N_FEATURES = 512  # of a sketch
COMMITTEE = "committee"
CLASS_METHODS = ("margin", "predictive-entropy")  # they need probabilities of classes
METHODS = {"regression": "bait", "classification": "lcmd"}  # the best of `make bench-labels`


class Rule(NamedTuple):
    """Describe how a batch is chosen.

    Attributes:
        method: One of `registry.SELECTION_METHODS`.
        kernel: The kernel of methods that have the option `kernel`: "sketch" or "ntk" of the
            trained networks, "infinite-width", "linear", or a matrix or function of the pool.
        n_features: Number of features; None as in `kernels.features`.
        options: Further options of the method. The option `weights` of "lcmd" may be
            `COMMITTEE`, for the standard deviation of the predictions of trained networks. This is
            the default in a classification with the kernel of these networks. The option `noise`
            is in the unit of the features; without it, and for None, `noise.default_noise` is
            taken.
    """

    method: str = METHODS["regression"]
    kernel: str | ArrayLike | kernels.Kernel = "sketch"
    n_features: int | None = None
    options: Mapping[str, Any] = {}

    def check(self) -> None:
        """Raise TypeError or ValueError for an unknown method or kernel."""
        _checks.choice("method", self.method, registry.SELECTION_METHODS)
        if self.kernel_name:
            _checks.choice("kernel", self.kernel, kernels.KERNELS)

    def check_task(self, task: str) -> None:
        """Raise InvalidValueError if the method needs classes and the task has none."""
        if self.method in CLASS_METHODS and task == "regression":
            raise _errors.InvalidValueError(
                f"{self.method} needs probabilities of classes, and the task is a regression: "
                "choose another method, such as ensemble-variance."
            )

    def on_rows(self, rows: Int[np.ndarray, " n_rows"], n_pool: int) -> "Rule":
        """Return the rule for a pool of some rows only, with the kernel between these rows.

        Raises:
            InvalidValueError: A matrix has another shape than the whole pool.
        """
        kernel = self.kernel
        if self.kernel_name or callable(kernel) or len(rows) == n_pool:
            return self
        if np.shape(kernel) != (n_pool, n_pool):
            raise _errors.InvalidValueError(
                f"kernel must have the shape {(n_pool, n_pool)}: received {np.shape(kernel)}."
            )
        return self._replace(kernel=np.asarray(kernel)[np.ix_(rows, rows)])

    def has_committee(self, task: str | None) -> bool:
        """Return whether distances are weighted by the disagreement of the trained networks.

        By `make bench-labels` the weights help with classes, and do harm with numbers.
        """
        is_default = self.method == "lcmd" and self.has_network_kernel and task == "classification"
        weights = self.options.get("weights", COMMITTEE if is_default else None)
        return isinstance(weights, str) and weights == COMMITTEE

    @property
    def has_network_kernel(self) -> bool:
        """Whether the kernel is that of trained networks."""
        return self.kernel_name in NETWORK_KERNELS

    @property
    def kernel_name(self) -> str:
        """The name of the kernel; "" for a matrix or function."""
        return self.kernel if isinstance(self.kernel, str) else ""

    @property
    def has_kernel(self) -> bool:
        """Whether the method chooses by a kernel that it is given."""
        return "kernel" in registry.OPTIONS[self.method]

    @property
    def needs_predictions(self) -> bool:
        """Whether the method chooses by what trained networks predict."""
        return "predictions" in registry.OPTIONS[self.method]

    @property
    def needs_training(self) -> bool:
        """Whether the choice depends on the trained networks."""
        by_kernel = self.has_kernel and self.has_network_kernel
        return self.needs_predictions or self.has_committee(None) or by_kernel


class Fitted(NamedTuple):
    """Hold a network, the parameters of its members, and the labels that they were trained on.

    labels is None, or holds a single kind of label, where the parameters are the initial ones.
    """

    network: nn.Module
    params: Sequence[PyTree[Array]]
    labels: Labels | None

    @property
    def is_trained(self) -> bool:
        """Whether the parameters are trained."""
        return can_train(self.labels)


def can_train(labels: Labels | None) -> bool:
    """Return whether there are two different targets at least, without which nothing is learnt."""
    return labels is not None and labels.n_kinds > 1


def compute_features(
    pool: Float[np.ndarray, "n_pool ..."], rule: Rule, fitted: Fitted, key: PRNGKeyArray
) -> Float[np.ndarray, "n_pool n_features"]:
    """Return features whose products are the kernel of a rule, in float64.

    For several networks, "ntk" and "sketch" are the mean of their kernels.

    Also raises ValueError if the kernel is 0 for all points.
    """
    if rule.kernel_name == "sketch":
        n_features = N_FEATURES if rule.n_features is None else rule.n_features
        keys = jax.random.split(jax.random.fold_in(key, methods.SKETCH), len(fitted.params))
        total = np.zeros((len(pool), n_features), np.float64)
        for params, member_key in zip(fitted.params, keys):
            # The signs of members are independent, so products of different members average out.
            total += sketches.ntk_features(
                fitted.network.apply, params, pool, n_features, key=member_key
            )
        return kernels.check_nonzero(total / np.sqrt(len(fitted.params)), rule.kernel)
    members = fitted.params if rule.kernel_name == "ntk" else [None]
    is_mean = len(members) > 1
    parts = [
        kernels.features(
            pool,
            rule.kernel,
            network=fitted.network,
            params=params,
            n_features=rule.n_features,
            key=key,
            may_be_zero=is_mean,
        )
        for params in members
    ]
    features = np.concatenate(parts, axis=1) / np.sqrt(len(parts))
    return kernels.check_nonzero(features, rule.kernel) if is_mean else features


def choose(
    pool: Float[np.ndarray, "n_pool ..."],
    n: int,
    /,
    *,
    rule: Rule,
    labelled: Sequence[int] | Int[np.ndarray, " n_labelled"],
    fitted: Fitted,
    key: PRNGKeyArray,
    features: Float[np.ndarray, "n_pool n_features"] | None = None,
) -> Int[np.ndarray, " n"]:
    """Return the next rows to label.

    Args:
        pool: (n_pool, ...) points, labelled ones included, as the network takes them.
        n: Number of rows to choose.
        rule: Method, kernel and options.
        labelled: Rows that are labelled, or must not be chosen again.
        fitted: The trained networks.
        key: A JAX key.
        features: What `compute_features` returns for the same rule and key, if it is known.

    Returns:
        The rows in the order of choice.

    Raises:
        InvalidValueError: The method chooses by predictions, and no network is trained, or the
            labels are no classes and it needs them.

    Also raises the errors of `registry.select`.
    """
    options, points = dict(rule.options), pool
    if rule.needs_predictions:
        if not fitted.is_trained or fitted.labels is None:
            raise _errors.InvalidValueError(
                f"{rule.method} chooses by predictions, for which two different labels are needed "
                "at least: label some rows that another method chooses."
            )
        rule.check_task(fitted.labels.task)
        outputs = fitting.outputs(fitted.network, fitted.params, pool)
        is_variance = rule.method == "ensemble-variance"
        options["predictions"] = outputs if is_variance else fitted.labels.probabilities(outputs)
    elif rule.has_kernel:
        points = compute_features(pool, rule, fitted, key) if features is None else features
        options["kernel"] = "linear"
        if "noise" in registry.OPTIONS[rule.method] and options.get("noise") is None:
            options["noise"] = noise.default_noise(points)
        if rule.has_committee(fitted.labels and fitted.labels.task):
            options["weights"] = disagreement(pool, fitted)
    selection = registry.select(
        points,
        n,
        method=rule.method,
        labelled=np.asarray(labelled, int).tolist(),
        network=None if rule.has_kernel else fitted.network,
        key=key,
        **options,
    )
    return selection.indices[0]


def disagreement(
    pool: Float[np.ndarray, "n_pool ..."], fitted: Fitted
) -> Float[np.ndarray, " n_pool"] | None:
    """Return the standard deviation of predictions between networks, of all outputs together.

    Probabilities are compared in a classification. None stands for a single or untrained network,
    which is no committee.
    """
    if not fitted.is_trained or fitted.labels is None or len(fitted.params) < 2:
        return None
    found = fitting.outputs(fitted.network, fitted.params, pool).astype(np.float64)
    if fitted.labels.task == "classification":
        found = fitted.labels.probabilities(found)
    return np.sqrt(found.var(axis=0).sum(axis=1))
