"""Eight devices, forced on a CPU in a separate process, compared with one device here."""

import os
import pickle
import subprocess
import sys

import jax
import numpy as np
import pytest
from project import JAX, ROOT

from collective_variables.ensembles import batching
from collective_variables.kernels import empirical
from collective_variables.networks import sequential
from collective_variables.observables import measurement
from collective_variables.selection import rnd
from collective_variables.training import (
    ensemble_training,
    loop,
    recorded_training,
    recording,
    schedules,
)

pytestmark = pytest.mark.usefixtures("quick_compilation", "standard_promotion")

POINTS = np.random.default_rng(0).normal(size=(37, 3)).astype(np.float32)
TARGETS = np.stack([POINTS.sum(axis=1), POINTS[:, 0] ** 2], axis=1)
POOL, TEST = loop.Points(POINTS[:30], TARGETS[:30]), loop.Points(POINTS[30:], TARGETS[30:])
NETWORK = sequential.build_network(["dense 4", "dense 2"], parametrisation="ntk")


def indices(n_members):
    return np.random.default_rng(1).permuted(np.tile(np.arange(30), (n_members, 1)), axis=1)[:, :12]


def train(n_members):
    runs = [ensemble_training.runs(indices(n_members), np.tile([5, 12], (n_members, 1)), seed=3)]
    (curves,) = ensemble_training.train_ensemble(
        NETWORK, POOL, TEST, runs, schedule=schedules.Schedule(n_epochs=4)
    )
    return curves.test_loss


def record():
    runs = [ensemble_training.runs(indices(3), np.tile([12], (3, 1)), seed=3)]
    options = {
        "schedule": schedules.Schedule(n_epochs=2),
        "settings": recording.Settings(epochs=[2], observables=()),
    }
    (recorded,) = recorded_training.train_ensemble(NETWORK, POOL, TEST, runs, **options)
    return recorded.tables["recording"].select_dtypes("number").to_numpy()


def select():
    settings = rnd.RNDSettings(n_epochs=3)
    return rnd.select(
        POINTS, NETWORK, settings, n_selected=4, key=jax.random.key(2), n_members=11
    ).indices


def measure(**settings):
    pool, sizes = measurement.Pool(*POOL), np.tile([5, 12], (3, 1))
    (result,) = measurement.measure_ensemble(
        NETWORK, pool, [indices(3)], sizes, seed=3, settings=measurement.Settings(**settings)
    )
    return result.eigenvalues


def kernel(outputs):
    params = NETWORK.init(jax.random.key(0), POINTS)
    return {
        n: np.asarray(
            empirical.empirical_ntk(
                NETWORK.apply, params, POINTS, x2, outputs=outputs, block_size=4
            )
        )
        for n, x2 in (("square", None), ("rectangular", POINTS[:9]))
    }


def n_devices():
    """Return how many devices hold a part of the result of a call, by its number of members."""
    double = batching.over_members(lambda factor, x: factor * x)
    return [len(double(2.0, np.ones((n, 3))).sharding.device_set) for n in (1, 8, 16, 9)]


COMPUTATIONS = {
    "networks fewer than devices": (train, 3),
    "networks more than devices": (train, 11),
    "recorded": (record,),
    "selected": (select,),
    "kernels": (measure,),
    "kernels one after another": (lambda: measure(block_size=5),),
    **{f"tiles, {outputs}": (kernel, outputs) for outputs in empirical.OUTPUTS},
}


@pytest.fixture(scope="module")
def on_eight():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    command = [sys.executable, "-W", "error", __file__]
    environment = (
        os.environ
        | JAX
        | {"XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    )
    return pickle.loads(
        subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout
    )


def test_there_are_eight_and_members_are_sharded_over_them(on_eight):
    assert on_eight["devices"] == 8 and jax.local_device_count() == 1
    assert on_eight["by members"] == [1, 8, 8, 1]


@pytest.mark.parametrize("name", COMPUTATIONS)
def test_results_are_those_of_one_device(name, on_eight):
    function, *arguments = COMPUTATIONS[name]
    jax.tree.map(
        lambda actual, expected: np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5),
        on_eight[name],
        function(*arguments),
    )


if __name__ == "__main__":
    results = {name: function(*arguments) for name, (function, *arguments) in COMPUTATIONS.items()}
    sys.stdout.buffer.write(
        pickle.dumps(results | {"devices": jax.local_device_count(), "by members": n_devices()})
    )
