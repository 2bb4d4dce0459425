"""How kernels are cut into tiles and groups of outputs, and what they are estimated to take."""

import jax
import numpy as np
import pytest
from helpers import assert_close
from kernel_networks import MODULES, N1, N2, case, compiled_kernel, random

from collective_variables import _memory
from collective_variables.kernels import _planning, empirical
from collective_variables.kernels._tiles import Tiles
from collective_variables.kernels._traced import SHARED
from collective_variables.kernels.empirical import OUTPUTS, empirical_ntk
from collective_variables.kernels.kernel_function import ntk_fn
from collective_variables.networks import sequential


def test_derivatives_that_do_not_fit_the_memory_are_computed_again(float64, monkeypatch):
    function, params, x = case("dense")
    expected, computed = empirical_ntk(function, params, x), []
    original = _planning.plan_kernel
    for keep in (True, False):
        plan = lambda *a, keep=keep, **o: original(*a, **o)._replace(keep=keep)
        monkeypatch.setattr(_planning, "plan_kernel", plan)
        calls = count_derivatives(monkeypatch)
        assert_close(empirical_ntk(function, params, x, block_size=3), expected)
        computed.append(len(calls))
    # Without keeping: a tile of each row and of every column after it; the last column's is still
    # there.
    assert computed == [4, 4 + 3 + 2]


def count_derivatives(monkeypatch):
    """A list that grows with every tile of points that goes through a network."""
    calls, original = [], Tiles.__init__

    def counted(self, function, *arguments):
        original(self, lambda x: calls.append(len(x)) or function(x), *arguments)

    monkeypatch.setattr(Tiles, "__init__", counted)
    return calls


@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("block_size", [None, 3])
@pytest.mark.parametrize("at_once", [1, 2])
def test_outputs_may_go_through_the_network_a_few_at_a_time(
    outputs, block_size, at_once, float64, quickly_compiled, monkeypatch
):
    known, params, x = case("dense")
    expected = [
        compiled_kernel(known, params, x[:N1], more, outputs=outputs) for more in (None, x[N1:])
    ]
    groups, output_groups = [], _planning.output_groups
    monkeypatch.setattr(
        _planning, "output_groups", lambda *a: groups.append(output_groups(*a)) or groups[-1]
    )
    if outputs != "full":
        monkeypatch.setattr(_planning.Sizes, "outputs_at_once", lambda *_: at_once)
    for more, right in zip((None, x[N1:]), expected):
        # Its own programs: nothing is compiled yet.
        kernel = ntk_fn(known)
        assert_close(
            kernel(params, x[:N1], more, outputs=outputs, block_size=block_size),
            right,
        )
    n_groups = {"full": 1}.get(outputs, 3 if at_once == 1 else 2)
    assert set(map(len, groups)) == {n_groups}


def test_groups_of_outputs_are_equal_and_their_signals_are_not_too_many():
    sizes = _planning.Sizes(
        inputs=100,
        signals=2**17,
        jacobian=0,
        pair=4,
        in_network=4,
        n_outputs=10,
        is_separable=True,
        fewest_at_once=1,
    )
    assert [sizes.outputs_at_once(n) for n in (1, 102, 103, 200, 600, 10**6)] == [
        10,
        10,
        5,
        5,
        1,
        1,
    ]
    assert sizes._replace(is_separable=False).outputs_at_once(10**6) == 10
    assert sizes._replace(fewest_at_once=4).outputs_at_once(10**6) == 4
    assert sizes._replace(fewest_at_once=40).outputs_at_once(10**6) == 10


def test_outputs_that_share_the_gram_matrix_of_wide_inputs_stay_together():
    def fewest(layers, shape):
        network = sequential.build_network(layers, parametrisation="ntk")
        function, params, x = random(network, shape)
        with SHARED.traceable(function) as stand_in:
            return _planning.kernel_sizes(stand_in, params, x, "mean").fewest_at_once

    # 4 · (50 + 8) numbers of inputs that meet, against 8 + 3 of signals; pairs of images share
    # nothing there.
    assert fewest(["dense 8", "dense 3"], (50,)) == 22
    assert fewest(["conv 8 3x3", "conv 8 2x2", "avgpool 6x6", "dense 3"], (6, 6, 1)) == 1


@pytest.mark.parametrize("implementation", ["structured", "jacobian", "neural-tangents"])
def test_a_kernel_that_can_not_fit_says_what_it_needs(implementation, monkeypatch):
    monkeypatch.setattr(_memory, "SMALL", 0)
    monkeypatch.setattr(_memory, "available", lambda: 10_000)
    function, params, x = random(*MODULES["dense"], n_points=60)
    with pytest.raises(
        MemoryError,
        match=r"^A kernel of 60 x 60 points needs .* GiB at least, and 0.0 GiB are free.$",
    ):
        empirical_ntk(function, params, x, implementation=implementation)
    # What it would take can still be asked.
    assert empirical.estimate_cost(function, params, x)[implementation].peak_bytes > 10_000


@pytest.mark.parametrize("implementation", ["structured", "jacobian", "neural-tangents"])
def test_tiles_are_planned_from_the_free_memory(implementation, float64, monkeypatch):
    function, params, x = random(
        sequential.build_network(["dense 60", "dense 50", "dense 3"]), (40,), n_points=23
    )
    expected = compiled_kernel(function, params, x)
    j = 8 * 3 * sum(leaf.size for leaf in jax.tree.leaves(params))
    monkeypatch.setattr(_memory, "SMALL", 0)
    monkeypatch.setattr(
        _memory, "available", lambda: 40_000 if implementation == "structured" else 10 * j
    )
    calls = count_derivatives(monkeypatch)
    assert_close(
        empirical_ntk(function, params, x, implementation=implementation), expected, operations=1000
    )
    assert len(calls) > 1 and max(calls) < 23


@pytest.mark.parametrize("more", [(), (N2,)])
def test_estimate_grows_as_points_and_pairs_do_and_is_smaller_layer_by_layer(more):
    function, params, x = random(
        sequential.build_network(["dense 60", "dense 50", "dense 3"]), (40,), n_points=400
    )

    def estimate(n, **options):
        return empirical.estimate_cost(
            function, params, x[:n], *(x[: n * k // N2] for k in more), **options
        )

    small, large = estimate(100), estimate(400)
    for name in ("structured", "jacobian", "neural-tangents"):
        assert 4 < large[name].flops / small[name].flops < 16.1
        assert large[name].peak_bytes > 4 * 400 * 400
    assert small["structured"].flops < small["jacobian"].flops / 10
    assert small["structured"].peak_bytes < small["jacobian"].peak_bytes / 5
    # The product of two Jacobians (100, 3 · 5663): twice as many operations as numbers that meet.
    pairs = 2 * 100 * 100 * 3 * (40 * 60 + 60 + 60 * 50 + 50 + 50 * 3 + 3)
    assert pairs < small["jacobian"].flops < 1.2 * pairs


@pytest.mark.parametrize("implementation", ["structured", "jacobian"])
@pytest.mark.parametrize("outputs", ["mean", "full"])
@pytest.mark.parametrize(
    "layers, shape",
    [
        (["dense 60", "dense 50", "dense 3"], (40,)),
        (["conv 8 3x3", "avgpool 2x2", "conv 8 2x2", "dense 4"], (12, 12, 1)),
    ],
)
def test_estimated_memory_is_about_what_the_compiled_kernel_takes(
    layers, shape, outputs, implementation
):
    function, params, x = random(sequential.build_network(layers), shape, n_points=150)
    estimated = empirical.estimate_cost(function, params, x, outputs=outputs)[
        implementation
    ].peak_bytes
    kernel = jax.jit(
        lambda p, x: empirical_ntk(function, p, x, outputs=outputs, implementation=implementation)
    )
    compiled = kernel.lower(params, x).compile().memory_analysis()
    assert 0.4 < (compiled.temp_size_in_bytes + compiled.output_size_in_bytes) / estimated < 2.5


def test_a_network_without_operations_of_its_own_has_an_estimate_too():
    w, x = np.ones((20, 1), np.float32), np.ones((100, 20), np.float32)
    cost = empirical.estimate_cost(lambda w, x: x @ w, w, x)
    # A Gram matrix of the inputs.
    assert 2 * 100 * 100 * 20 <= cost["jacobian"].flops < 4 * 100 * 100 * 20
