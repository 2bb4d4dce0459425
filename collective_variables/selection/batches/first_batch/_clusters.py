"""Divide points into clusters by k-means, for the rules of first batches."""

import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from collective_variables import _extras

MOST = 500  # clusters; more of them are small and take long


def k_means(
    features: Float[np.ndarray, "n_points n_features"],
    n_clusters: int,
    seed: int | Sequence[int] | np.ndarray,
) -> Int[np.ndarray, " n_points"]:
    """Return the cluster of each point, numbered by its first row.

    There are at most `MOST` of them, and fewer where points are copies.
    """
    with _extras.required("sklearn"):
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning
    state = np.random.RandomState(np.random.default_rng(seed).integers(2**32))
    clusters = KMeans(min(n_clusters, MOST, len(features)), n_init=1, random_state=state)
    with warnings.catch_warnings():
        # Copies leave clusters empty, which the rules allow for.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = clusters.fit_predict(features)
    _, first, numbers = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[numbers]
