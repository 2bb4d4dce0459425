import functools
import itertools
import math

import jax
import numpy as np
import pytest
from helpers import assert_close

from collective_variables import _memory
from collective_variables.ensembles import seeding
from collective_variables.networks import parameters, sequential
from collective_variables.observables import spectrum
from collective_variables.selection import by_kernel

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(3)
NETWORK = sequential.build_network(
    ["dense 16", "dense 2"], activation="softplus", parametrisation="ntk", b_std=0.1
)
WITHOUT_BIAS = sequential.build_network(["dense 16", "dense 2"], parametrisation="ntk")
POOL = np.random.default_rng(0).normal(size=(20, 2, 2))
COPIES = np.repeat(POOL[:5], 4, axis=0)
SIZES = [2, 5, 9]
LABELLED = [11, 2, 7]
OBJECTIVES = {
    "entropy": lambda entropy, trace: entropy,
    "trace-entropy": lambda entropy, trace: entropy * trace,
}
METHODS = {
    "log-determinant": by_kernel.log_determinant,
    "trace": by_kernel.largest_trace,
    "best-entropy": functools.partial(by_kernel.best_entropy, n_sets=10, sizes=SIZES),
    "greedy": by_kernel.greedy,
    "greedy of 6": functools.partial(by_kernel.greedy, objective="trace-entropy", n_candidates=6),
    "smallest": functools.partial(by_kernel.greedy, sense="minimise"),
}

every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


def initialisation_keys(n_members=2):
    return seeding.member_keys(jax.random.key(0), n_members)


def select(method, pool=POOL, network=NETWORK, *, n_selected, key=KEY, n_members=2, **options):
    keys = initialisation_keys(n_members)
    return method(
        pool, network, n_selected=n_selected, key=key, initialisation_keys=keys, **options
    )


# the same, index by index in float64


def jacobian_kernel(member):
    """(1/C) Σ_c ⟨J_c(x_i), J_c(x_j)⟩ from the whole Jacobian, of the network that training starts
    from.
    """
    return _jacobian_kernels(jax.config.jax_enable_x64)[member]


@functools.cache
def _jacobian_kernels(is_wide):
    pool = jax.numpy.asarray(POOL)
    assert (pool.dtype == np.float64) is is_wide
    jacobian = jax.jit(
        lambda key: jax.jacobian(NETWORK.apply)(parameters.initialise(NETWORK, key, pool), pool)
    )
    kernels = []
    for key in initialisation_keys():
        leaves = [
            np.asarray(leaf, np.float64).reshape(20, 2, -1)
            for leaf in jax.tree.leaves(jacobian(key))
        ]
        kernels.append(sum(np.einsum("icp,jcp->ij", leaf, leaf) for leaf in leaves) / 2)
    return kernels


def entropy(kernel, chosen):
    return spectrum.entropy(spectrum.eigenvalues(kernel[np.ix_(chosen, chosen)]))


def trace(kernel, chosen):
    return sum(kernel[i, i] for i in chosen)


def log_determinant(kernel, chosen):
    return np.linalg.slogdet(kernel[np.ix_(chosen, chosen)])[1] if len(chosen) else 0.0


def draws(member):
    return np.random.default_rng(np.asarray(jax.random.key_data(jax.random.fold_in(KEY, member))))


def unused(kernel, chosen):
    return [x for x in range(len(kernel)) if x not in chosen]


def greedy(kernel, n_selected, value, generator=None, n_candidates=None, labelled=()):
    """value(chosen) of every candidate at every step; of the first point with every other
    candidate.
    """
    chosen = [*labelled]
    while len(chosen) < n_selected:
        candidates = unused(kernel, chosen)
        if n_candidates is not None and n_candidates < len(candidates):
            candidates = sorted(generator.choice(candidates, n_candidates, replace=False))
        if chosen:
            values = [value([*chosen, x]) for x in candidates]
        else:
            values = [max(value(sorted([x, y])) for y in candidates if y != x) for x in candidates]
        chosen.append(candidates[int(np.argmax(values))])  # the first of equals
    return chosen


@pytest.mark.usefixtures("float64")
def test_every_point_most_increases_the_log_determinant_by_the_log_of_its_distance():
    result = select(by_kernel.log_determinant, n_selected=20)
    for m in range(2):
        kernel, chosen = jacobian_kernel(m), []
        for step, point in enumerate(result.indices[m]):
            known = log_determinant(kernel, chosen)
            left = {
                x: math.exp(log_determinant(kernel, [*chosen, x]) - known)
                for x in unused(kernel, chosen)
            }
            assert point == max(left, key=left.get)
            for history in (result.distances, result.max_distances):
                assert_close(history[m, step], left[point], operations=1e6)
            assert_close(result.mean_distances[m, step], sum(left.values()) / 20, operations=1e6)
            chosen.append(point)


@pytest.mark.usefixtures("float64")
def test_the_trace_takes_the_points_in_the_order_of_the_diagonal():
    result = select(by_kernel.largest_trace, n_selected=20)
    for m in range(2):
        kernel = jacobian_kernel(m)
        assert result.indices[m].tolist() == sorted(range(20), key=lambda x: -kernel[x, x])
    assert np.isnan(result.distances).all()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("entries", [by_kernel.ENTRIES, 200], ids=["in one part", "in parts"])
@pytest.mark.parametrize("sizes", [None, [], SIZES, [*SIZES, 12], [12]], ids=str)
def test_the_best_of_the_random_extensions_of_each_size_is_kept(sizes, entries, monkeypatch):
    monkeypatch.setattr(by_kernel, "ENTRIES", entries)
    result = select(by_kernel.best_entropy, n_selected=12, n_sets=7, sizes=sizes)
    for m in range(2):
        kernel, generator, chosen = jacobian_kernel(m), draws(m), []
        for size in [*SIZES, 12] if sizes and sizes[0] == 2 else [12]:
            rest = unused(kernel, chosen)
            sets = [
                [*chosen, *generator.choice(rest, size - len(chosen), replace=False)]
                for _ in range(7)
            ]
            chosen = max(sets, key=lambda rows: entropy(kernel, rows))
        assert result.indices[m].tolist() == chosen


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("n_candidates", [None, 6])
@pytest.mark.parametrize("sense, sign", [("maximise", 1), ("minimise", -1)])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_point_is_the_one_with_the_largest_or_smallest_objective(
    objective, sense, sign, n_candidates
):
    options = {"objective": objective, "sense": sense, "n_candidates": n_candidates}
    result = select(by_kernel.greedy, n_selected=12, **options)
    for m in range(2):
        kernel, combine = jacobian_kernel(m), OBJECTIVES[objective]
        value = lambda chosen: sign * combine(entropy(kernel, chosen), trace(kernel, chosen))
        assert result.indices[m].tolist() == greedy(kernel, 12, value, draws(m), n_candidates)


# labelled points


@pytest.mark.usefixtures("float64")
def test_after_labelled_points_each_method_follows_its_rule():
    options = {"n_selected": 12, "labelled": LABELLED}
    largest, best = (select(METHODS[name], **options) for name in ("log-determinant", "trace"))
    random = select(by_kernel.best_entropy, n_sets=7, sizes=[5, 9], **options)
    maxima = select(by_kernel.greedy, **options)
    few = select(by_kernel.greedy, n_candidates=6, **options)
    for m in range(2):
        kernel = jacobian_kernel(m)
        value = functools.partial(entropy, kernel)
        expected = greedy(
            kernel, 12, functools.partial(log_determinant, kernel), None, None, LABELLED
        )
        assert largest.indices[m].tolist() == expected
        assert np.isnan(largest.distances[m]).tolist() == [True] * 3 + [False] * 9
        order = sorted(unused(kernel, LABELLED), key=lambda x: -kernel[x, x])
        assert best.indices[m].tolist() == [*LABELLED, *order[:9]]
        assert maxima.indices[m].tolist() == greedy(kernel, 12, value, None, None, LABELLED)
        assert few.indices[m].tolist() == greedy(kernel, 12, value, draws(m), 6, LABELLED)
        generator, chosen = draws(m), LABELLED
        for size in (5, 9, 12):
            rest = unused(kernel, chosen)
            sets = [
                [*chosen, *generator.choice(rest, size - len(chosen), replace=False)]
                for _ in range(7)
            ]
            chosen = max(sets, key=value)
        assert random.indices[m].tolist() == chosen


@pytest.mark.parametrize("name", ["log-determinant", "trace", "greedy", "smallest"])
@pytest.mark.parametrize("n_labelled", [1, 5, 11])
def test_a_run_continues_after_its_first_points(name, n_labelled):
    whole = select(METHODS[name], n_selected=12, n_members=1)
    labelled = whole.indices[0, :n_labelled]
    rest = select(METHODS[name], n_selected=12, n_members=1, labelled=labelled)
    np.testing.assert_array_equal(rest.indices, whole.indices)
    np.testing.assert_allclose(
        rest.distances[:, n_labelled:], whole.distances[:, n_labelled:], rtol=1e-4
    )


# entropies without eigenvalues


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("decades", [0, 3, 12])
@pytest.mark.parametrize("rank", [3, 30])
def test_the_entropy_with_each_candidate_is_that_of_the_eigenvalues_to_the_round_off_of_the_kernel(
    rank, decades, scale
):
    features = np.random.default_rng(1).normal(size=(30, rank)) * 10.0 ** -np.linspace(
        0, decades, rank
    )
    for dtype in (np.float64, np.float32):
        tolerance = {"rtol": 0, "atol": 100 * 30 * np.finfo(dtype).eps}
        kernel = (scale * features @ features.T).astype(dtype)
        kernel = np.triu(kernel) + np.triu(kernel, 1).T
        for n_chosen in (1, 2, 5, 20):
            entropies, traces = by_kernel.with_each(
                kernel, list(range(n_chosen)), np.arange(n_chosen, 30)
            )
            sets, unit = [[*range(n_chosen), x] for x in range(n_chosen, 30)], np.trace(kernel)
            np.testing.assert_allclose(
                entropies, [entropy(kernel, rows) for rows in sets], **tolerance
            )
            np.testing.assert_allclose(
                traces / unit, [trace(kernel, rows) / unit for rows in sets], **tolerance
            )


def test_orthogonal_points_have_the_logarithm_of_their_number_as_entropy_and_copies_have_0():
    for n in (1, 2, 10, 50):
        entropies, traces = by_kernel.with_each(np.eye(n + 1) * 3.0, list(range(n)), np.array([n]))
        assert_close(entropies, [math.log(n + 1)], operations=1000)
        assert_close(traces, [3.0 * (n + 1)])
        entropies, _ = by_kernel.with_each(np.ones((n + 1, n + 1)), list(range(n)), np.array([n]))
        assert abs(entropies[0]) < 1e-12


# properties of every method


@every_method
def test_a_shorter_run_of_fewer_members_is_the_start_of_a_longer_one_of_more(method):
    if "sizes" in getattr(method, "keywords", {}):
        short = select(method, n_selected=5, n_members=1, sizes=[2])
    else:
        short = select(method, n_selected=5, n_members=1)
    long = select(method, n_selected=12, n_members=3)
    for name in ("indices", "distances", "mean_distances", "max_distances"):
        np.testing.assert_allclose(getattr(short, name), getattr(long, name)[:1, :5], rtol=1e-6)


@every_method
def test_members_differ_and_each_follows_its_own_initialisation_key(method):
    both = select(method, n_selected=12).indices
    options = {"n_selected": 12, "key": KEY, "initialisation_keys": initialisation_keys(2)[::-1]}
    swapped = method(POOL, NETWORK, **options).indices
    assert not np.array_equal(*both)
    if method in (
        METHODS["log-determinant"],
        METHODS["trace"],
        METHODS["greedy"],
        METHODS["smallest"],
    ):
        np.testing.assert_array_equal(swapped, both[::-1])
        np.testing.assert_array_equal(
            select(method, n_selected=12, key=jax.random.key(4)).indices, both
        )
    else:
        assert not np.array_equal(
            select(method, n_selected=12, key=jax.random.key(4)).indices, both
        )


@every_method
def test_the_whole_pool_can_be_chosen_and_no_point_twice(method):
    assert np.sort(select(method, n_selected=20).indices).tolist() == [list(range(20))] * 2


@pytest.mark.parametrize(
    "method", [method for name, method in METHODS.items() if name != "best-entropy"]
)
def test_a_pool_of_one_point_is_that_point(method):
    assert select(method, POOL[:1], n_selected=1).indices.tolist() == [[0]] * 2


@every_method
def test_copies_are_points_like_others(method):
    indices = select(method, COPIES, n_selected=20).indices
    assert np.sort(indices).tolist() == [list(range(20))] * 2


def test_the_log_determinant_and_the_entropy_take_copies_where_they_are_worth_something():
    """Distinct points first; a copy of the first of all points is the one that adds no entropy."""
    selection = select(by_kernel.log_determinant, COPIES, n_selected=20)
    assert np.sort(selection.indices[:, :5] // 4).tolist() == [list(range(5))] * 2
    assert (selection.distances[:, 5:] < 1e-5 * selection.distances[:, :1]).all() and np.isfinite(
        selection.mean_distances
    ).all()
    smallest = select(by_kernel.greedy, COPIES, n_selected=4, sense="minimise").indices // 4
    assert (smallest == smallest[:, :1]).all()


def test_equal_points_of_a_trace_are_in_the_order_of_their_rows():
    indices = select(by_kernel.largest_trace, COPIES, n_selected=20).indices.reshape(2, 5, 4)
    assert (np.diff(indices, axis=2) == 1).all() and (indices[:, :, 0] % 4 == 0).all()


@every_method
def test_a_kernel_of_zeros_has_the_entropy_0(method):
    indices = select(method, np.zeros_like(POOL), WITHOUT_BIAS, n_selected=20).indices
    assert np.sort(indices).tolist() == [list(range(20))] * 2


def test_a_point_without_a_kernel_adds_nothing_to_the_entropy():
    pool = np.concatenate([np.zeros_like(POOL[:5]), POOL[5:]])
    largest, smallest = (
        select(by_kernel.greedy, pool, WITHOUT_BIAS, n_selected=6, sense=sense).indices
        for sense in by_kernel.SENSES
    )
    assert (largest >= 5).all() and (np.sort(smallest)[:, :5] == np.arange(5)).all()


# what the subsets are good for


def test_no_subset_has_a_larger_trace():
    result = select(by_kernel.largest_trace, POOL[:10], n_selected=4)
    for m in range(2):
        kernel = jacobian_kernel(m)
        best = max(itertools.combinations(range(10), 4), key=lambda chosen: trace(kernel, chosen))
        assert set(result.indices[m]) == set(best)


def test_entropies_are_above_those_of_random_sets_and_the_smallest_below():
    generator = np.random.default_rng(5)
    sets = [generator.choice(20, 9, replace=False) for _ in range(200)]
    for m in range(2):
        kernel = jacobian_kernel(m)
        random = [entropy(kernel, rows) for rows in sets]
        entropies = {
            name: entropy(kernel, select(method, n_selected=9).indices[m])
            for name, method in METHODS.items()
        }
        assert entropies["greedy"] > max(random) and entropies["greedy"] > entropies["best-entropy"]
        assert entropies["best-entropy"] > np.quantile(random, 0.9)
        assert entropies["smallest"] < min(random)


def test_the_greedy_entropy_is_close_to_the_largest_of_all_subsets():
    result = select(by_kernel.greedy, POOL[:10], n_selected=4)
    for m in range(2):
        kernel = jacobian_kernel(m)
        values = [entropy(kernel, rows) for rows in itertools.combinations(range(10), 4)]
        assert np.quantile(values, 0.95) < entropy(kernel, result.indices[m]) <= max(values) + 1e-6


# errors

KEYS = "initialisation_keys"
NAN = np.where(np.arange(20)[:, None, None] == 5, np.nan, POOL)


@pytest.mark.parametrize(
    "pool, changed, error, message",
    [
        (POOL, {"n_selected": 21}, ValueError, "n_selected must not exceed the pool: 21 > 20."),
        (POOL[:0], {}, ValueError, "n_selected must not exceed the pool: 12 > 0."),
        (POOL, {"n_selected": 0}, ValueError, "n_selected must be at least 1: received 0."),
        (POOL, {"n_selected": 5.0}, TypeError, "n_selected must be an integer: received 5.0."),
        (
            NAN,
            {},
            ValueError,
            "pool must be finite: 4 of 80 values are NaN or infinite, the first at (5, 0, 0).",
        ),
        (
            POOL,
            {KEYS: KEY},
            ValueError,
            "initialisation_keys must have the shape (n_members,): received ().",
        ),
        (POOL, {KEYS: KEY[None][:0]}, ValueError, "n_members must be at least 1: received 0."),
    ],
)
@every_method
def test_wrong_arguments_are_one_error_that_names_them(method, pool, changed, error, message):
    with pytest.raises(error) as caught:
        method(
            pool, NETWORK, **{"n_selected": 12, "key": KEY, KEYS: initialisation_keys()} | changed
        )
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "method, changed, error, message",
    [
        (
            "greedy",
            {"objective": "trace"},
            ValueError,
            "objective must be one of entropy, trace-entropy: received 'trace'.",
        ),
        ("greedy", {"sense": 1}, TypeError, "sense must be one of maximise, minimise: received 1."),
        ("greedy", {"n_candidates": 0}, ValueError, "n_candidates must be at least 1: received 0."),
        ("best-entropy", {"n_sets": 0}, ValueError, "n_sets must be at least 1: received 0."),
        ("best-entropy", {"sizes": [5, 3]}, ValueError, "sizes must ascend: received [5, 3]."),
        ("best-entropy", {"sizes": [5, 5]}, ValueError, "sizes must ascend: received [5, 5]."),
        ("best-entropy", {"sizes": [0, 5]}, ValueError, "sizes must be at least 1: received 0."),
        ("best-entropy", {"sizes": [2.0]}, TypeError, "sizes must be an integer: received 2.0."),
        (
            "best-entropy",
            {"sizes": [5, 13]},
            ValueError,
            "sizes must not exceed n_selected: 13 > 12.",
        ),
        (
            "best-entropy",
            {"sizes": [3, 5], "labelled": LABELLED},
            ValueError,
            "sizes must exceed the points already labelled: 3 <= 3.",
        ),
    ],
)
def test_wrong_options_are_one_error_that_names_them(method, changed, error, message):
    with pytest.raises(error) as caught:
        select(METHODS[method], n_selected=12, **changed)
    assert str(caught.value) == message


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_kernel_that_overflows_is_an_error():
    with pytest.raises(
        ValueError, match="kernel must be finite: 400 of 400 values are NaN or infinite"
    ):
        select(by_kernel.greedy, 1e30 + np.zeros_like(POOL), n_selected=2)


@pytest.mark.parametrize("method", [method for name, method in METHODS.items() if name != "trace"])
def test_a_kernel_larger_than_the_free_memory_is_an_error_with_both_sizes(method, monkeypatch):
    monkeypatch.setattr(_memory, "_machine_free", lambda: 2**30)
    monkeypatch.setattr(_memory, "_cgroup_free", lambda: math.inf)
    with pytest.raises(MemoryError) as caught:
        select(method, np.zeros((20_000, 1)), n_selected=12)
    assert (
        str(caught.value)
        == "The kernel entries of 20000 points need 1.5 GiB, and 1.0 GiB are free."
    )
