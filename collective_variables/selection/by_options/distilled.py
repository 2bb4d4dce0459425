"""Call both forms of random network distillation with the arguments that all methods share."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from collective_variables import _checks
from collective_variables.ensembles import checkpoints
from collective_variables.networks import sequential
from collective_variables.selection import base, rnd, rnd_linearised


def select_by_rnd(
    pool: Float[Array, "n_pool ..."],
    network: nn.Module,
    *,
    targets: np.ndarray | None = None,
    task: str | None = None,
    per_class: bool = False,
    layers: Sequence[str] | None = None,
    width: int | None = None,
    n_selected: int,
    key: PRNGKeyArray,
    n_members: int,
    labelled: Sequence[int] = (),
    progress: str = "",
    store: checkpoints.Store | None = None,
    **settings: Any,
) -> base.Selection:
    """Choose by `rnd.select`, with the fields of its settings as options."""
    return rnd.select(
        pool,
        representation(network, layers, width),
        rnd.RNDSettings(**settings),
        n_selected=n_selected,
        key=key,
        n_members=n_members,
        labelled=labelled,
        classes=_classes(targets, task, per_class),
        progress=progress,
        store=store,
    )


def select_by_linearised_rnd(
    pool: Float[Array, "n_pool ..."],
    *,
    targets: np.ndarray | None = None,
    task: str | None = None,
    per_class: bool = False,
    n_selected: int,
    key: PRNGKeyArray,
    n_members: int,
    labelled: Sequence[int] = (),
    progress: str = "",
    **settings: Any,
) -> base.Selection:
    """Choose by `rnd_linearised.select`, with the fields of its settings as options."""
    return rnd_linearised.select(
        pool,
        rnd_linearised.LinearisedRNDSettings(**settings),
        n_selected=n_selected,
        key=key,
        n_members=n_members,
        labelled=labelled,
        classes=_classes(targets, task, per_class),
        progress=progress,
    )


def _classes(
    targets: np.ndarray | None, task: str | None, per_class: bool
) -> Int[np.ndarray, " n_pool"] | None:
    """Return the class of every point, or None without `per_class`; raise for a regression."""
    if not per_class:
        return None
    if targets is None:
        raise ValueError("targets must be given for per_class: received None.")
    if task != "classification":
        raise ValueError(f"per_class needs a classification: received a {task}.")
    return np.argmax(targets, axis=1)


def representation(
    network: sequential.Network, layers: Sequence[str] | None, width: int | None
) -> sequential.Network:
    """Return the network, or one with other layers or with another number of outputs."""
    if layers is not None and width is not None:
        raise ValueError(
            f"layers and width must not both be given: received {list(layers)} and {width}."
        )
    if layers is None and width is None:
        return network
    if not isinstance(network, sequential.Network):
        raise ValueError(
            f"layers and width need a network that is built from layers: received {network}."
        )
    if layers is not None:
        names = ("activation", "parametrisation", "padding", "b_std")
        return sequential.build_network(layers, **{name: getattr(network, name) for name in names})
    last = sequential.Layer("dense", width=_checks.integer("width", width, minimum=1))
    return network.clone(layers=(*network.layers[:-1], last))
