"""Time the decomposition of a loss next to a backward pass, and count how often probes are right.

    python -m benchmarks.bench_decompose

A batch of MNIST goes through the dense and the convolutional network of Table 2 of Tovey et al.
2023, whose loss is cross-entropy. The backward pass is that of a compiled gradient, as in a step of
the training. "chi_loss, delta_loss" leaves the trace out; the others are calls of `cv.decompose`.
All times are the least of several repeats that take turns, once compiled.

Then two probes estimate the trace of 100 images 200 times. The interval of 1.96 standard errors
should hold the exact trace in at least 90 %.
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from collective_variables.data import problems
from collective_variables.kernels.traces import exact, probes
from collective_variables.networks import sequential
from collective_variables.training.position import _gradients, decomposition

NETWORKS = {
    "dense": ("dense 128", "dense 128", "dense 10"),
    "convolutional": (
        "conv 32 2x2",
        "avgpool 4x4 stride 2",
        "conv 64 2x2",
        "avgpool 4x4 stride 2",
        "dense 128",
        "dense 10",
    ),
}
BATCHES = {"dense": 1000, "convolutional": 200}
N_REPEATS, N_COVERED, N_IMAGES = 15, 200, 100
BARS = {"chi_loss, delta_loss": 2.0, "with two probes": 4.0}
COVERAGE = 0.9


def make_calls(name: str) -> dict[str, Callable[[], object]]:
    """Return what is timed for a network, by name; the backward pass is the first."""
    data = problems.load_problem("mnist")
    x, targets = (jnp.asarray(leaf[: BATCHES[name]]) for leaf in (data.inputs, data.targets))
    network = sequential.build_network(NETWORKS[name])
    params = network.init(jax.random.key(0), x[:1])

    def loss(params: PyTree[Array]) -> Array:
        return jnp.mean(optax.softmax_cross_entropy(network.apply(params, x), targets))

    gradient, batch, key = jax.jit(jax.grad(loss)), _gradients.Batch(x, targets), jax.random.key(1)
    arguments = network.apply, params, x, targets, "cross-entropy"
    return {
        "backward pass": lambda: jax.block_until_ready(gradient(params)),
        "chi_loss, delta_loss": lambda: jax.block_until_ready(
            _gradients.compute_gradients(network.apply, params, batch, "cross-entropy")
        ),
        "with two probes": lambda: decomposition.decompose(*arguments, n_probes=2, key=key),
        "with the exact trace": lambda: decomposition.decompose(*arguments),
    }


def milliseconds(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the least time of each call, after a first one that compiles."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(1 + N_REPEATS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if repeat:
                times[name].append(time.perf_counter() - start)
    return {name: 1000 * min(repeats) for name, repeats in times.items()}


def coverage(name: str) -> float:
    """Return how often the interval of two probes holds the exact trace."""
    images = problems.load_problem("mnist").inputs[:N_IMAGES]
    network = sequential.build_network(NETWORKS[name])
    params = network.init(jax.random.key(0), images[:1])
    trace = float(exact.ntk_trace(network.apply, params, images))
    found = [
        probes.estimate_trace(network.apply, params, images, key=jax.random.key(number))
        for number in range(N_COVERED)
    ]
    return float(
        np.mean(
            [abs(estimate.trace - trace) <= 1.96 * estimate.standard_error for estimate in found]
        )
    )


def main() -> None:
    """Print times, their ratios to the backward pass, and the coverage."""
    verdicts = []
    for network in NETWORKS:
        times = milliseconds(make_calls(network))
        backward = times["backward pass"]
        for name, least in times.items():
            ratio = least / backward
            words = f"{network:14s} {BATCHES[network]:5d} images  {name:22s}"
            print(f"{words} {least:8.1f} ms {ratio:6.2f}", flush=True)
            if name in BARS:
                verdict = "PASS" if ratio <= BARS[name] else "FAIL"
                words = f"{network}, {name}: {ratio:.2f} times a backward pass"
                verdicts.append(f"{verdict}: {words}; at most {BARS[name]:g} are wanted.")
        share = coverage(network)
        verdict = "PASS" if share >= COVERAGE else "FAIL"
        verdicts.append(
            f"{verdict}: {network}, the 95 % interval of two probes holds the trace of {N_IMAGES} "
            f"images in {share:.0%} of {N_COVERED} repeats; at least {COVERAGE:.0%} are wanted."
        )
    print("", *verdicts, sep="\n")


if __name__ == "__main__":
    main()
