"""TypiClust, ProbCover and MaxHerding against their references and by hand."""

import batch_references as references
import numpy as np
import pytest

from collective_variables.selection.batches.first_batch import (
    _clusters,
    max_herding,
    prob_cover,
    typiclust,
)

GENERATOR = np.random.default_rng(0)
CLUMPS = np.repeat(10.0 * GENERATOR.normal(size=(4, 3)), [12, 3, 7, 5], axis=0)
POOLS = {
    "plain": GENERATOR.normal(size=(24, 5)),
    "clumps": CLUMPS + GENERATOR.normal(size=CLUMPS.shape),
    "copies": GENERATOR.normal(size=(7, 4))[np.array([0, 1, 1, 2, 0, 3, 4, 5, 3, 6, 6, 6, 2, 1])],
}
every_pool = pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
some_labelled = pytest.mark.parametrize("labelled", [[], [4], [5, 1, 2]], ids=str)


@every_pool
@some_labelled
@pytest.mark.parametrize("n_neighbours", [1, 3, 20])
def test_typiclust_takes_typical_points_of_uncovered_clusters(pool, labelled, n_neighbours):
    for n_selected in (1, 4, 9):
        clusters = _clusters.k_means(pool, n_selected + len(labelled), 3)
        expected = references.typiclust(pool, n_selected, labelled, clusters, n_neighbours)
        chosen = typiclust.typiclust(pool, n_selected, labelled, n_neighbours=n_neighbours, seed=3)
        assert chosen.tolist() == expected


def test_typiclust_goes_from_the_largest_cluster_to_the_smallest():
    """Three clumps with a point in the middle of each: rows 2, 6 and 9."""
    pool = [[0.0], [1.2], [0.6], [-1.0], [0.5], [50.0], [50.1], [51.0], [90.0], [90.0]]
    chosen = typiclust.typiclust(pool, 3, n_neighbours=1, seed=0).tolist()
    assert chosen == [2, 5, 8]
    assert typiclust.typiclust(pool, 2, [4], n_neighbours=1, seed=0).tolist() == [5, 8]


def test_clusters_are_numbered_by_their_first_row_and_copies_share_one():
    clusters = _clusters.k_means(POOLS["copies"], 12, seed=0)
    assert clusters.tolist() == [0, 1, 1, 2, 0, 3, 4, 5, 3, 6, 6, 6, 2, 1]


@every_pool
@some_labelled
@pytest.mark.parametrize("radius", [1e-3, 1.0, 2.5, 100.0])
def test_prob_cover_is_the_greedy_maximum_cover(pool, labelled, radius):
    n_selected = len(pool) - 5
    expected = references.prob_cover(pool, n_selected, labelled or [0], radius)
    chosen = prob_cover.prob_cover(pool, n_selected, labelled or [0], radius=radius, seed=0)
    assert chosen.tolist() == expected


def test_prob_cover_covers_the_pool_and_then_goes_far():
    """Balls of radius 1 around 1 and 5.5 hold all but 9; then the distances decide."""
    pool = [[0.0], [1.0], [2.0], [5.0], [5.5], [6.0], [9.0], [6.2]]
    chosen = prob_cover.prob_cover(pool, 5, radius=1.0, seed=0).tolist()
    assert chosen == [4, 1, 6, 0, 2]


@every_pool
@pytest.mark.parametrize("n_clusters", [2, 3, 5])
def test_the_radius_is_the_largest_with_95_percent_pure_balls(pool, n_clusters):
    pool = np.concatenate([pool, pool + 0.01])
    clusters = _clusters.k_means(pool - pool.mean(axis=0), n_clusters, 2)
    distances = np.linalg.norm(pool[:, None] - pool, axis=2)

    def purity(radius):
        return np.mean([len(set(clusters[row <= radius])) == 1 for row in distances])

    radius = prob_cover.pure_radius(pool, n_clusters, 2)
    assert purity(radius) >= 0.95
    assert purity(radius * (1 + 1e-8)) < 0.95


def test_prob_cover_finds_its_radius_from_the_clusters():
    pool = POOLS["clumps"]
    radius = prob_cover.pure_radius(pool, 4, 5)
    expected = prob_cover.prob_cover(pool, 3, [1], radius=radius, seed=0).tolist()
    assert prob_cover.prob_cover(pool, 3, [1], seed=5).tolist() == expected


def test_copies_of_one_point_have_no_radius_and_are_all_alike():
    pool = np.ones((6, 2))
    assert prob_cover.pure_radius(pool, 2, 0) == np.inf
    assert prob_cover.prob_cover(pool, 3, [1], seed=0).tolist() == [0, 2, 3]
    assert typiclust.typiclust(pool, 3, [1], seed=0).tolist() == [0, 2, 3]
    assert max_herding.max_herding(pool, 3, [1]).tolist() == [0, 2, 3]


@every_pool
def test_max_herding_sees_directions_only(pool):
    scaled = pool * GENERATOR.uniform(0.5, 2.0, size=(len(pool), 1))
    expected = max_herding.max_herding(pool, 6, [3]).tolist()
    if pool is not POOLS["copies"]:
        assert max_herding.max_herding(scaled, 6, [3]).tolist() == expected


def test_max_herding_is_facility_location():
    """The same choice as that of the rule without kernels."""
    import jax

    from collective_variables.selection import coverage

    pool = POOLS["plain"] / np.linalg.norm(POOLS["plain"], axis=1, keepdims=True)
    for bandwidth in (0.3, 0.7):
        expected = coverage.facility_location(
            pool, n_selected=9, key=jax.random.key(0), first="best", bandwidth=bandwidth
        )
        chosen = max_herding.max_herding(pool, 9, bandwidth=bandwidth)
        assert chosen.tolist() == expected.indices[0].tolist()
