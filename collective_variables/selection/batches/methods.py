"""Call the rules for batches with the arguments that all methods of selection share."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree
from numpy.typing import ArrayLike

from collective_variables import _errors
from collective_variables.ensembles import seeding
from collective_variables.selection import base, by_kernel, coverage
from collective_variables.selection.batches import kernels, uncertainty
from collective_variables.selection.batches.first_batch import max_herding, prob_cover, typiclust
from collective_variables.selection.batches.rules import (
    bait,
    frank_wolfe,
    k_means_plus_plus,
    lcmd,
    max_det,
    max_diag,
    max_dist,
)

# No member has this number, and `registry.select` takes the next one for networks. So signs of a
# sketch share no random numbers with either.
SKETCH = seeding.MAX_SEED - 1

Method = Callable[..., base.Selection]
Rule = Callable[..., Int[np.ndarray, " n_new"]]


def by_features(rule: Rule) -> Method:
    """Return the method that chooses by a rule on the features of a kernel.

    Args:
        rule: A function rule(features, n_selected, labelled, *, ...) that returns new rows. If it
            takes a `seed`, every member has another one.

    Returns:
        The method. Its options are those of `kernels.features` and those of the rule. With a kernel
        of a network and without parameters every member has a network of its own, drawn as by
        `by_kernel`. Otherwise all have the same features, and choose the same by a rule without a
        seed.

    Also raises the errors of `base.check_budget`, `kernels.features` and the rule; those of
    options before any kernel is computed.
    """

    def choose(
        pool: Float[Array, "n_pool ..."],
        *,
        n_selected: int,
        key: PRNGKeyArray,
        n_members: int = 1,
        labelled: Sequence[int] = (),
        network: nn.Module | None = None,
        initialisation_keys: PRNGKeyArray | None = None,
        kernel: str | ArrayLike | kernels.Kernel = "linear",
        params: PyTree[Array] | None = None,
        n_features: int | None = None,
        **options: Any,
    ) -> base.Selection:
        points = np.asarray(pool)
        labelled = base.check_budget(len(points), n_selected, n_members, labelled)
        kernels.check(points, kernel, network, n_features, has_params=params is not None)
        seeds = np.asarray(jax.random.key_data(seeding.member_keys(key, n_members)))
        draws = "seed" in inspect.signature(rule).parameters

        def new_rows(features: np.ndarray, seed: np.ndarray, n_new: int, known: list[int]):
            return rule(features, n_new, known, **options | ({"seed": seed} if draws else {}))

        def features(sketch_key: PRNGKeyArray, params: PyTree[Array] | None) -> np.ndarray:
            return kernels.features(
                points,
                kernel,
                network=network,
                params=params,
                n_features=n_features,
                key=sketch_key,
            )

        # Wrong options are errors before the kernel is computed; arrays belong to its points.
        numbers = {name: value for name, value in options.items() if np.ndim(value) == 0}
        rule(np.eye(2), 1, **numbers | ({"seed": seeds[0]} if draws else {}))
        n_new = n_selected - len(labelled)
        sketch_key = jax.random.fold_in(key, SKETCH)
        if kernels.is_drawn(kernel) and params is None:
            tables = (
                features(member_key, _initial(network, initialisation_key, points))
                for member_key, initialisation_key in zip(
                    seeding.member_keys(sketch_key, n_members),
                    _checked(initialisation_keys, n_members),
                )
            )
            chosen = [new_rows(*member, n_new, labelled) for member in zip(tables, seeds)]
        else:
            table = features(sketch_key, params)
            different = seeds if draws else seeds[:1]
            chosen = [new_rows(table, seed, n_new, labelled) for seed in different]
        return _selection(chosen, labelled, n_members)

    return _named(choose, rule, "the features of a kernel")


def by_predictions(rule: Rule) -> Method:
    """Return the method that chooses by a rule on predictions, the same for all members."""

    def choose(
        n_pool: int,
        predictions: ArrayLike,
        *,
        n_selected: int,
        n_members: int = 1,
        labelled: Sequence[int] = (),
    ) -> base.Selection:
        labelled = base.check_budget(n_pool, n_selected, n_members, labelled)
        shape = np.shape(predictions)
        if len(shape) > 1 and shape[-2] != n_pool:
            raise _errors.InvalidValueError(
                f"predictions must have a row for each of the {n_pool} points: received the shape "
                f"{shape}."
            )
        rows = rule(predictions, n_selected - len(labelled), labelled)
        return _selection([rows], labelled, n_members)

    return _named(choose, rule, "predictions")


def _selection(
    chosen: list[Int[np.ndarray, " n_new"]], labelled: list[int], n_members: int
) -> base.Selection:
    """Return the selection of all members, which share the rows if there are those of one."""
    rows = [[*labelled, *new] for new in chosen] * (n_members // len(chosen))
    return base.without_distances(np.array(rows, np.int64))


def _initial(
    network: nn.Module, initialisation_key: PRNGKeyArray, points: Float[np.ndarray, "n_pool ..."]
) -> PyTree[Array]:
    """Return the parameters that a member's training starts from."""
    return by_kernel.initialise(network, initialisation_key, jnp.asarray(points[:1]))


def _checked(initialisation_keys: PRNGKeyArray | None, n_members: int) -> PRNGKeyArray:
    """Return the keys that draw the networks, one for each member.

    Raises:
        InvalidValueError: The keys are missing, or their number is not that of the members.
    """
    if initialisation_keys is None or jnp.shape(initialisation_keys) != (n_members,):
        received = None if initialisation_keys is None else jnp.shape(initialisation_keys)
        raise _errors.InvalidValueError(
            f"initialisation_keys must have the shape ({n_members},), for networks without params: "
            f"received {received}."
        )
    return initialisation_keys


def _named(choose: Method, rule: Rule, data: str) -> Method:
    """Return the function with the rule's name and options, which the registry reads."""
    signature = inspect.signature(choose)
    shared = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind is not parameter.VAR_KEYWORD
    ]
    options = [
        parameter
        for name, parameter in inspect.signature(rule).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name != "seed"
    ]
    choose.__name__ = choose.__qualname__ = rule.__name__
    choose.__doc__ = f"Choose by the rule `{rule.__name__}` on {data}."
    choose.__signature__ = signature.replace(parameters=[*shared, *options])
    return choose


_by_squared_distance = by_features(k_means_plus_plus.k_means_plus_plus)


def k_means_plus_plus_by_kernel(
    pool: Float[Array, "n_pool ..."],
    *,
    n_selected: int,
    key: PRNGKeyArray,
    n_members: int = 1,
    labelled: Sequence[int] = (),
    network: nn.Module | None = None,
    initialisation_keys: PRNGKeyArray | None = None,
    kernel: str | ArrayLike | kernels.Kernel | None = None,
    params: PyTree[Array] | None = None,
    n_features: int | None = None,
) -> base.Selection:
    """Return points drawn by their squared distance from the chosen ones in a kernel.

    Without a kernel this is `coverage.k_means_plus_plus`, in input space by scikit-learn. With one
    it is the rule `k_means_plus_plus` for batches.

    Raises:
        InvalidValueError: Parameters or a number of features are given without a kernel.

    Also raises the errors of these functions.
    """
    shared = {"n_selected": n_selected, "key": key, "n_members": n_members, "labelled": labelled}
    if kernel is not None:
        return _by_squared_distance(
            pool,
            **shared,
            network=network,
            initialisation_keys=initialisation_keys,
            kernel=kernel,
            params=params,
            n_features=n_features,
        )
    for name, value in (("params", params), ("n_features", n_features)):
        if value is not None:
            raise _errors.InvalidValueError(f"{name} needs a kernel: received the kernel None.")
    return coverage.k_means_plus_plus(pool, **shared)


METHODS: dict[str, Method] = {
    "max-diag": by_features(max_diag.max_diag),
    "max-det": by_features(max_det.max_det),
    "max-dist": by_features(max_dist.max_dist),
    "bait": by_features(bait.bait),
    "frank-wolfe": by_features(frank_wolfe.frank_wolfe),
    "lcmd": by_features(lcmd.lcmd),
    "typiclust": by_features(typiclust.typiclust),
    "prob-cover": by_features(prob_cover.prob_cover),
    "max-herding": by_features(max_herding.max_herding),
    "margin": by_predictions(uncertainty.margin),
    "predictive-entropy": by_predictions(uncertainty.predictive_entropy),
    "ensemble-variance": by_predictions(uncertainty.ensemble_variance),
}
"""The rules for batches by the names that `registry.SELECTION_METHODS` gives them."""
