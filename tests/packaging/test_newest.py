"""The library with the newest JAX and Flax that the newest Python here can have.

`make test-newest` runs all tests of kernels and selection in such an environment.
"""

import shutil
import subprocess

import pytest
from wheels import build_wheel, environment, run

PYTHONS = ("python3.14", "python3.13", "python3.12", "python3")
PROGRAM = """
import jax
import jax.numpy as jnp
import collective_variables as cv

cases = [(["dense 6", "dense 5", "dense 3"], (7, 4)), (["conv 3 2x2", "dense 2"], (5, 4, 4, 2))]
for layers, shape in cases:
    network = cv.build_network(layers, activation="tanh", parametrisation="ntk", b_std=0.5)
    x = jax.random.normal(jax.random.key(0), shape)
    params = jax.jit(network.init)(jax.random.key(1), x)
    jacobians = jax.tree.leaves(jax.jit(jax.jacrev(network.apply))(params, x))
    jacobian = jnp.concatenate([leaf.reshape(*leaf.shape[:2], -1) for leaf in jacobians], axis=-1)
    expected = jnp.einsum("icp,jcp->ij", jacobian, jacobian) / jacobian.shape[1]
    error = jnp.abs(cv.ntk_fn(network.apply)(params, x) - expected).max() / expected.max()
    assert error < 1e-5, error
pool = jnp.linspace(0.0, 1.0, 9)[:, None]
chosen = cv.select(pool, 3, method="rnd-linearised", key=jax.random.key(0))
assert len(set(chosen.indices[0].tolist())) == 3
print(jax.__version__)
"""


def works(python):
    command = [python, "-c", "import venv, ensurepip"]
    return shutil.which(python) and subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def newest(tmp_path_factory):
    """A Python with the wheel and the newest of all that it requires."""
    wheel = build_wheel(tmp_path_factory)
    newest = ("--upgrade", "--upgrade-strategy", "eager")
    with environment(next(filter(works, PYTHONS)), wheel, options=newest) as programs:
        yield programs / "python"


def test_kernels_equal_explicit_jacobians_with_the_newest_jax_and_flax(newest, tmp_path):
    assert run(newest, "-c", PROGRAM, folder=tmp_path).strip()
