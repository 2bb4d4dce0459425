"""Sizes, keys, chunks and compiled functions of ensembles, against loops and closed forms."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close
from scipy import stats

from collective_variables.ensembles import batching, seeding
from collective_variables.ensembles.batching import bucket, chunks
from collective_variables.ensembles.subset_sizes import draw, largest

RANGE = {"low": 3, "high": 12, "distribution": "uniform"}


# subset sizes


def test_a_list_gives_every_member_all_its_sizes_sorted():
    sizes = draw([20, 5, 10], n_members=3, seed=0)
    assert sizes.tolist() == [[5, 10, 20]] * 3 and np.issubdtype(sizes.dtype, np.integer)
    np.testing.assert_array_equal(sizes, draw([20, 5, 10], n_members=3, seed=1))


@pytest.mark.parametrize("distribution", ["uniform", "log-uniform"])
def test_a_range_gives_each_member_one_size_with_the_stated_distribution_and_both_ends(
    distribution,
):
    """Chi-square of 20000 sizes: a right generator fails for 1 seed in 10^6."""
    sizes = draw(RANGE | {"distribution": distribution}, n_members=20_000, seed=1)
    assert sizes.shape == (20_000, 1) and sizes.min() == 3 and sizes.max() == 12
    n = np.arange(3, 13)
    probabilities = {
        "uniform": np.full(10, 0.1),
        "log-uniform": np.log((n + 1) / n) / np.log(13 / 3),
    }
    counts = np.bincount(sizes[:, 0])[3:]
    for name, expected in probabilities.items():
        right = stats.chisquare(counts, 20_000 * expected).pvalue > 1e-6
        assert right == (name == distribution)


def test_sizes_depend_on_the_seed_only():
    sizes = [draw(RANGE, n_members=50, seed=seed) for seed in (4, 4, 5)]
    assert np.array_equal(sizes[0], sizes[1]) and not np.array_equal(sizes[0], sizes[2])


@pytest.mark.parametrize("distribution", ["uniform", "log-uniform"])
def test_a_range_of_one_size_is_that_size(distribution):
    sizes = draw({"low": 7, "high": 7, "distribution": distribution}, n_members=100, seed=0)
    assert (sizes == 7).all()


@pytest.mark.parametrize(
    "n_points, error, message",
    [
        ([1, 5], ValueError, "n_points must be at least 2: received 1."),
        ([5, 10, 5], ValueError, "n_points must not repeat an entry: received [5, 10, 5]."),
        ([5, True], TypeError, "n_points must be an integer: received True."),
        ([5, "10"], TypeError, "n_points must be an integer: received '10'."),
        ([5, 10.0], TypeError, "n_points must be an integer: received 10.0."),
        ([], TypeError, "n_points must be a list of at least one entry: received []."),
        (5, TypeError, "n_points must be a list of at least one entry: received 5."),
        ("5", TypeError, "n_points must be a list of at least one entry: received '5'."),
        (RANGE | {"low": 13}, ValueError, "n_points.high must be at least 13: received 12."),
        (RANGE | {"low": 1}, ValueError, "n_points.low must be at least 2: received 1."),
        (RANGE | {"high": 12.0}, TypeError, "n_points.high must be an integer: received 12.0."),
        (
            RANGE | {"distribution": "normal"},
            ValueError,
            "n_points.distribution must be one of log-uniform, uniform: received 'normal'.",
        ),
        (
            {"low": 3, "high": 5},
            ValueError,
            "n_points must be a list or have low, high and distribution: received "
            "{'low': 3, 'high': 5}.",
        ),
        (
            {"low": 3, "high": 5, "distribution": "uniform", "n": 1},
            ValueError,
            "n_points must be a list or have low, high and distribution: received "
            "{'low': 3, 'high': 5, 'distribution': 'uniform', 'n': 1}.",
        ),
    ],
)
def test_wrong_sizes_are_one_error_that_names_them(n_points, error, message):
    with pytest.raises(error) as caught:
        draw(n_points, n_members=2, seed=0)
    assert str(caught.value) == message


@pytest.mark.parametrize("n_points, expected", [([5, 20, 10], 20), (RANGE, 12)])
def test_the_largest_size_is_that_of_the_list_or_the_high_end(n_points, expected):
    assert largest(n_points) == expected == draw(n_points, n_members=1000, seed=0).max()


# keys


def test_no_two_purposes_seeds_or_members_share_a_key():
    keys = [seeding.key(seed, purpose) for seed in range(2) for purpose in seeding.PURPOSES]
    members = np.concatenate([jax.random.key_data(seeding.member_keys(key, 6)) for key in keys])
    assert len({tuple(row) for row in members.tolist()}) == 2 * len(seeding.PURPOSES) * 6


def test_the_key_of_a_member_does_not_depend_on_the_number_of_members():
    key = seeding.key(3, "rnd")
    for n_members in (1, 5, 9):
        keys = jax.random.key_data(seeding.member_keys(key, n_members))
        np.testing.assert_array_equal(
            keys, [jax.random.key_data(jax.random.fold_in(key, m)) for m in range(n_members)]
        )


# chunks and buckets


@pytest.mark.parametrize("n_members, size", [(1, 1), (5, 5), (6, 5), (11, 4), (3, 64)])
def test_chunks_hold_every_member_once_in_order_and_fill_the_last_with_its_last_member(
    n_members, size
):
    result = chunks(n_members, size)
    flat = [member for chunk in result for member in chunk]
    assert all(len(chunk) == size for chunk in result) and len(result) == -(-n_members // size)
    assert flat[:n_members] == list(range(n_members)) and set(flat[n_members:]) <= {n_members - 1}


def test_a_chunk_of_a_large_network_is_one_member_on_a_cpu_and_many_on_an_accelerator(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert batching.chunk_size(5_001, 1000) == 1 < batching.chunk_size(5_000, 1000)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert 5 < batching.chunk_size(5_001, 1000) < batching.chunk_size(5_000, 1000)


@pytest.mark.parametrize(
    "n_members, size", [(1, 8), (8, 8), (9, 16), (20, 24), (33, 40), (1000, 40)]
)
def test_a_chunk_has_equally_many_members_for_each_device_and_no_more_than_are_there(
    n_members, size, monkeypatch
):
    monkeypatch.setattr(jax, "local_device_count", lambda: 8)
    assert batching.chunk_size(100, n_members) == size


@pytest.mark.parametrize(
    "n_points, largest, expected",
    [
        (2, 100, 16),
        (16, 100, 16),
        (17, 100, 32),
        (32, 100, 32),
        (64, 100, 64),
        (65, 100, 100),
        (2, 10, 10),
    ],
)
def test_a_bucket_is_the_next_power_of_two_from_16_at_most_the_largest_size(
    n_points, largest, expected
):
    assert bucket(n_points, largest) == expected


def test_fine_buckets_are_also_those_half_way_and_none_is_too_small():
    sizes = {n: bucket(n, 200, fine=True) for n in range(1, 201)}
    assert sorted(set(sizes.values())) == [16, 24, 32, 48, 64, 96, 128, 192, 200]
    assert all(n <= size for n, size in sizes.items())
    assert all(size <= max(16, 1.5 * n) for n, size in sizes.items())


# compiled functions over members


def distances(shared, point, scale):
    return {"squares": scale * jnp.sum((shared - point) ** 2, axis=1), "scale": scale}


@pytest.mark.parametrize("runs_once", [False, True])
@pytest.mark.parametrize("n_members", [1, 4])
def test_a_function_over_members_is_its_loop_over_them(n_members, runs_once, float64):
    generator = np.random.default_rng(0)
    shared, points, scales = (
        generator.normal(size=(7, 3)),
        generator.normal(size=(n_members, 1, 3)),
        np.arange(1.0, 5),
    )
    result = batching.over_members(distances, runs_once=runs_once)(
        shared, points, scales[:n_members]
    )
    expected = [
        scale * np.sum((shared - point) ** 2, axis=1) for point, scale in zip(points, scales)
    ]
    assert_close(result["squares"], np.array(expected))
    assert_close(result["scale"], scales[:n_members])


def test_threads_that_call_together_share_one_compilation_of_each_shape(monkeypatch):
    traces = []
    compilations = []
    compile_lowered = jax.stages.Lowered.compile

    def count_and_compile(lowered, **options):
        compilations.append(lowered)
        time.sleep(0.05)
        return compile_lowered(lowered, **options)

    def function(shared, x):
        traces.append(x.shape)  # runs while tracing, not in a compiled call
        return shared + x

    monkeypatch.setattr(jax.stages.Lowered, "compile", count_and_compile)
    compiled = batching.over_members(function)
    barrier = threading.Barrier(8)
    inputs = [np.full((2, 3 + i % 2), i, np.float32) for i in range(16)]

    def call(x):
        barrier.wait()
        return compiled(np.float32(1), x)

    with ThreadPoolExecutor(8) as executor:
        results = list(executor.map(call, inputs))
    for result, x in zip(results, inputs):
        np.testing.assert_array_equal(result, x + 1)
    assert sorted(traces) == [(3,), (4,)] and len(compilations) == 2


def test_an_accelerator_runs_two_calls_at_a_time_and_compiles_side_by_side(monkeypatch):
    running = []
    most = []
    options_of_compilations = []
    all_four = threading.Barrier(4)
    pair = threading.Barrier(2)
    compile_lowered = jax.stages.Lowered.compile

    def compile_together(lowered, **options):
        all_four.wait(timeout=60)  # breaks unless all four shapes are compiled at the same time
        options_of_compilations.append(options["compiler_options"])
        return compile_lowered(lowered, **options)

    def run_in_pairs(result):
        running.append(result)
        most.append(len(running))
        pair.wait(timeout=60)  # breaks unless two calls run at the same time
        time.sleep(0.02)
        running.pop()
        return result

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax.stages.Lowered, "compile", compile_together)
    monkeypatch.setattr(jax, "block_until_ready", run_in_pairs)
    compiled = batching.over_members(lambda shared, x: shared * x)
    inputs = [np.arange(2 * width, dtype=np.float32).reshape(2, width) for width in (1, 2, 3, 4)]
    with ThreadPoolExecutor(4) as executor:
        results = list(executor.map(lambda x: compiled(np.float32(3), x), inputs))
    for result, x in zip(results, inputs):
        np.testing.assert_array_equal(result, 3 * x)
    assert max(most) == 2
    assert options_of_compilations == [{"xla_gpu_autotune_level": 0}] * 4


def test_seeds_that_would_repeat_the_keys_of_others_are_errors():
    with pytest.raises(ValueError, match="seed must not exceed 4294967295: received 4294967296"):
        seeding.key(2**32, "rnd")
    with pytest.raises(ValueError, match="seed must be at least 0: received -1"):
        seeding.key(-1, "rnd")
