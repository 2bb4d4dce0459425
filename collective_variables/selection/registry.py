"""Choose a subset by the name of a method, with the same arguments for every method."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jaxtyping import Array, Float, PRNGKeyArray
from numpy.typing import ArrayLike

from collective_variables import _checks, _keys
from collective_variables.ensembles import checkpoints, seeding
from collective_variables.networks import parameters, sequential
from collective_variables.selection import (
    base,
    by_kernel,
    coverage,
    rnd,
    rnd_linearised,
    stratified,
)
from collective_variables.selection.batches import methods
from collective_variables.selection.by_options import distilled


def select(
    pool: Float[Array, "n_pool ..."],
    n: int,
    /,
    *,
    method: str,
    key: PRNGKeyArray,
    members: int = 1,
    network: nn.Module | None = None,
    targets: ArrayLike | None = None,
    labelled: Sequence[int] = (),
    **options: Any,
) -> base.Selection:
    """Choose `n` points of a pool by one of `SELECTION_METHODS`.

    All methods take these arguments and ignore those that they do not need, so that methods can be
    exchanged. Only a wrong name among the options is an error.

    Args:
        pool: (n_pool, ...) points: tables, images or any arrays that the network takes.
        n: Number of points to choose for each member, beyond those in `labelled`.
        method: One of `SELECTION_METHODS`, which describes them.
        key: A JAX key, such as `jax.random.key(0)`. The same key gives the same points.
        members: Number of subsets, one for each member of an ensemble. Member m is the same in an
            ensemble of any size.
        network: The network to be trained. "rnd" and the methods that always use its kernel need
            it: "log-determinant", "trace", "best-entropy" and "greedy". So do the option `kernel`
            "infinite-width", "ntk" and "sketch".
        targets: (n_pool,) or (n_pool, n_outputs) targets of all points. "stratified" and the option
            `per_class` need them. Whole numbers or texts, and rows that are one-hot, are classes;
            other numbers are a regression. The option `task`, "classification" or "regression",
            overrides this.
        labelled: Rows of the pool that are labelled already. They count as chosen for every method,
            and are not chosen again. A random first point is then not drawn.
        **options: Options of the method, listed in `OPTIONS`. Some more serve several methods:
            `progress`, text in front of a progress bar ("rnd", "rnd-linearised"); `store`, a
            mapping that keeps intermediate results, so that an interrupted call resumes ("rnd");
            `initialisation_keys`, (members,) keys of the networks that training starts from, whose
            kernels are used (drawn from `key` by default).
            The rules for batches, from "max-diag" to "max-herding", and "k-means++" have the
            option `kernel`, of `batches.kernels.features`: "linear" for the points as they are,
            "infinite-width", "ntk", "sketch", a matrix (n_pool, n_pool), or a function
            kernel(x1, x2) of points that returns (n1, n2). `params` are parameters of a trained
            network for "ntk" and "sketch"; without them every member has an untrained one.
            `n_features` is the number of features. `noise` is the standard deviation of the labels
            in the unit of the features, the square root of the kernel's.
            `predictions` are those of trained networks, for "margin", "predictive-entropy" and
            "ensemble-variance".

    Returns:
        The new points in the order of choice; labelled points are not among them. The first k
        points are the choice of k points; "best-entropy" needs the option `sizes` for this, and
        "typiclust" and "prob-cover" choose k points anew.

    Raises:
        ValueError: `n` exceeds the number of points that are not labelled.

    Before any work, also raises TypeError or ValueError for an argument that the method needs and
    does not have, or a value that is not allowed. Later, raises FloatingPointError if the training
    of "rnd" diverges, and MemoryError if a kernel or its factor does not fit the free memory.

    Example:
        >>> import collective_variables as cv, jax, numpy as np
        >>> pool = np.array([[0.0, 0.0], [0.1, 0.0], [3.0, 4.0], [0.0, 4.0]])
        >>> chosen = cv.select(pool, 2, method="k-center", labelled=[0], key=jax.random.key(0))
        >>> chosen.indices, chosen.distances
        (array([[2, 3]]), array([[5., 3.]]))
    """
    pool = base.check_pool(pool)
    n = _checks.integer("n", n, minimum=1)
    members = _checks.integer("members", members, minimum=1)
    _keys.check_key(key)
    labelled = base.check_labelled(labelled, len(pool))
    if n > len(pool) - len(labelled):
        raise ValueError(
            f"n must not exceed the points that are not labelled: "
            f"{n} > {len(pool) - len(labelled)}."
        )
    targets, task = stratified.learning_problem(targets, options.pop("task", None), len(pool))
    if network is not None:
        parameters.check_points(network, pool)
    # No member has this number, so that the networks share no random numbers with the choice.
    networks_key = jax.random.fold_in(key, seeding.MAX_SEED)
    arguments = {
        "pool": pool,
        "n_pool": len(pool),
        "n_selected": len(labelled) + n,
        "n_members": members,
        "key": key,
        "network": network,
        "targets": targets,
        "task": task,
        "labelled": labelled,
        "initialisation_keys": seeding.member_keys(networks_key, members),
    }
    arguments |= {name: options.pop(name) for name in SHARED_OPTIONS if name in options}
    selection = _call(method, arguments, options)
    arrays = (getattr(selection, field.name) for field in fields(selection))
    return base.Selection(*(array[:, len(labelled) :] for array in arrays))


class Problem(NamedTuple):
    """Hold a pool with its targets, the network to be trained, and the seed of random numbers."""

    inputs: Float[Array, "n_pool ..."]
    targets: Float[Array, "n_pool n_outputs"]
    task: str
    network: sequential.Network
    seed: int


class Budget(NamedTuple):
    """Hold the size of a selection, where n_selected counts labelled points (see `select`)."""

    n_selected: int
    n_members: int
    progress: str = ""
    store: checkpoints.Store | None = None


def select_by(
    method: str, problem: Problem, budget: Budget, options: dict[str, Any], /
) -> base.Selection:
    """Choose subsets by one of `SELECTION_METHODS`, with keys that follow from a seed.

    This is `select` for the stages of an ensemble.

    Args:
        method: One of `SELECTION_METHODS`.
        problem: Pool, targets, network and seed.
        budget: Number of points and members.
        options: Options of the method. They may include `labelled`; these points are counted and
            come first.

    Returns:
        The selection.

    Raises:
        TypeError: `options` is not a dictionary.

    Also raises TypeError for an option that the method does not have, ValueError for a network that
    cannot be trained on the problem, and the errors of the method.
    """
    parameters.check_fit(problem.network, problem.inputs, problem.targets)
    if not isinstance(options, dict):
        raise TypeError(f"options must be a dictionary: received {options!r}.")
    n_members = _checks.integer("n_members", budget.n_members, minimum=1)
    initialisation_key = seeding.key(problem.seed, "initialisation")
    arguments = {
        "pool": problem.inputs,
        "n_pool": len(problem.inputs),
        "key": seeding.key(problem.seed, PURPOSES.get(method, "selection")),
        "network": problem.network,
        "targets": problem.targets,
        "task": problem.task,
        "initialisation_keys": seeding.member_keys(initialisation_key, n_members),
    }
    return _call(method, arguments | budget._asdict(), options)


def _call(method: str, arguments: dict[str, Any], options: dict[str, Any]) -> base.Selection:
    """Call the function of a method with the arguments that it takes."""
    function = SELECTION_METHODS[_checks.choice("method", method, SELECTION_METHODS)]
    unknown = [name for name in options if name not in OPTIONS[method]]
    if unknown:
        known = ", ".join(OPTIONS[method])
        raise TypeError(f"Options of {method} are {known}: received {unknown[0]}.")
    for name in ("network", "targets", "predictions"):
        if method in methods_that_need(name) and (arguments | options).get(name) is None:
            raise ValueError(f"{name} must be given for the method {method}: received None.")
    signature = inspect.signature(function).parameters
    arguments = {name: value for name, value in arguments.items() if name in signature}
    return function(**arguments | options)


def methods_that_need(name: str) -> tuple[str, ...]:
    """Return the methods that cannot choose without this argument."""
    needing = []
    for method, function in SELECTION_METHODS.items():
        parameter = inspect.signature(function).parameters.get(name)
        if parameter is not None and parameter.default is parameter.empty:
            needing.append(method)
    return tuple(needing)


# Each function is called with those arguments of `select` that its parameters name.
SELECTION_METHODS: dict[str, Callable[..., base.Selection]] = {
    "random": base.random,
    "stratified": stratified.stratified,
    "rnd": distilled.select_by_rnd,
    "rnd-linearised": distilled.select_by_linearised_rnd,
    "k-center": coverage.k_center,
    "k-means++": methods.k_means_plus_plus_by_kernel,
    "kernel-herding": coverage.kernel_herding,
    "facility-location": coverage.facility_location,
    "log-determinant": by_kernel.log_determinant,
    "trace": by_kernel.largest_trace,
    "best-entropy": by_kernel.best_entropy,
    "greedy": by_kernel.greedy,
    **methods.METHODS,
}
"""The ways to choose points, by name.

- random: every subset is equally likely.
- stratified: at random within classes or ranges of targets, which take turns (Tijdeman 1980).
- rnd: random network distillation with a trained predictor (Tovey et al. 2023, Algorithm 1). Its
  options are the fields of `RNDSettings`.
- rnd-linearised: the same with a linearised, infinitely wide predictor, whose training is linear
  algebra (Jacot et al. 2018; He, Lakshminarayanan, Teh 2020). By default it chooses the point that
  teaches most about all others (Cohn 1996). Its options are the fields of `LinearisedRNDSettings`.
- k-center: the point farthest from those chosen (Gonzalez 1985; Sener, Savarese 2018).
- k-means++: at random by squared distance from those chosen (Arthur, Vassilvitskii 2007).
- kernel-herding: the subset's kernel mean follows that of the pool (Chen, Welling, Smola 2010).
- facility-location: every point of the pool has a similar one (Nemhauser, Wolsey, Fisher 1978).
- log-determinant: the greedy mode of the determinantal point process whose kernel is the neural
  tangent kernel of the untrained network (Chen, Zhang, Zhou 2018).
- trace: the largest trace of that kernel.
- best-entropy: the best of many random subsets by the von Neumann entropy of that kernel (Tovey et
  al. 2023).
- greedy: the point that most increases that entropy, or entropy times trace.
- max-diag: the largest posterior variances of a Gaussian process (Holzmüller et al. 2023).
- max-det: always the largest posterior variance after those chosen (Holzmüller et al. 2023), the
  greedy form of BatchBALD (Kirsch, van Amersfoort, Gal 2019).
- max-dist: the point farthest from those labelled and chosen (Gonzalez 1985; Sener, Savarese 2018).
- bait: the point that most lowers the posterior variance of all points (Ash et al. 2021).
- frank-wolfe: points whose weighted features sum up to those of the pool (Pinsler et al. 2019).
- lcmd: the farthest point of the largest cluster around those chosen (Holzmüller et al. 2023).
- typiclust: typical points of the largest clusters without a label (Hacohen, Dekel, Weinshall
  2022).
- prob-cover: points whose balls cover most of the pool (Yehuda, Dekel, Hacohen, Weinshall 2022).
- max-herding: every point of the pool has a similar one in direction (Bae, Noh, Sutherland 2024).
- margin: the smallest difference of the two largest class probabilities (Scheffer et al. 2001).
- predictive-entropy: the largest entropy of the class probabilities (Settles, Craven 2008).
- ensemble-variance: the largest variance of outputs between networks (Krogh, Vedelsby 1995).

The methods from max-diag to max-herding choose by features whose products are a kernel. They and
k-means++ take the options `kernel`, `params` and `n_features` (`batches.kernels.features`).

rnd and rnd-linearised also take `per_class`, for equally many points of each class. rnd also takes
`layers`, other layers for target and predictor, or `width`, another number of outputs.
"""

# Keys of a seed; the other methods have the key "selection".
PURPOSES = {"random": "subsets", "rnd": "rnd", "rnd-linearised": "rnd"}
SHARED_OPTIONS = ("progress", "store", "initialisation_keys")
SETTINGS = {"rnd": rnd.RNDSettings, "rnd-linearised": rnd_linearised.LinearisedRNDSettings}


def _options(method: str) -> list[str]:
    """Return the names of a method's options: settings, and parameters that no method shares."""
    shared = ("pool", "n_pool", "n_selected", "n_members", "key", "network", "targets", "task")
    parameters = inspect.signature(SELECTION_METHODS[method]).parameters.values()
    names = [field.name for field in fields(SETTINGS[method])] if method in SETTINGS else []
    return names + [
        parameter.name
        for parameter in parameters
        if parameter.kind is not parameter.VAR_KEYWORD
        and parameter.name not in (*shared, *SHARED_OPTIONS)
    ]


OPTIONS: dict[str, list[str]] = {method: _options(method) for method in SELECTION_METHODS}
"""The names of the options of each method, by its name."""
