"""Pools of features for the rules for batches, made from seeds: the tests and their oracle."""

import numpy as np

N_SELECTED = 12
NOISES = [1e-3, 0.3]


def plain():
    """Points in general position."""
    return np.random.default_rng(11).normal(size=(60, 8))


def clustered():
    """Clusters of very different size and spread, far from the origin."""
    generator = np.random.default_rng(12)
    sizes, spreads = [40, 20, 8, 4], [0.1, 1.0, 0.3, 2.0]
    centres = 4.0 + 5.0 * generator.normal(size=(4, 5))
    return np.concatenate(
        [
            centre + spread * generator.normal(size=(size, 5))
            for centre, size, spread in zip(centres, sizes, spreads)
        ]
    )


def low_rank():
    """Six features of rank 3: fewer than points are chosen."""
    generator = np.random.default_rng(13)
    return generator.normal(size=(50, 3)) @ generator.normal(size=(3, 6))


POOLS = {"plain": plain, "clustered": clustered, "low rank": low_rank}
LABELLED = {"nothing labelled": [], "five labelled": [3, 17, 21, 30, 44]}
