"""Networks that compute in 16 bits have the kernel of their Jacobian, in float32."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collective_variables.kernels.empirical import empirical_ntk
from collective_variables.kernels.products import kernel_product
from collective_variables.kernels.traces.exact import ntk_trace
from collective_variables.observables import spectrum

pytestmark = pytest.mark.usefixtures("quick_compilation", "standard_promotion", "any_rank")

N = 24


@pytest.fixture
def any_rank():
    with jax.numpy_rank_promotion("allow"):
        yield


class Dense(nn.Module):
    dtype: str
    param_dtype: str = "float32"
    output_dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        options = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        y = nn.Dense(3, **options)(nn.relu(nn.Dense(16, **options)(x)))
        return y.astype(self.output_dtype)


class Mixed(nn.Module):
    """Convolutions and a dense layer in 16 bits, a normalisation in 32 between them."""

    dtype: str

    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm(dtype="float32")(nn.Conv(3, (3, 3), dtype=self.dtype)(x))
        y = nn.relu(nn.Conv(3, (2, 2), strides=2, dtype=self.dtype)(y)).reshape(len(x), -1)
        return nn.Dense(2, dtype=self.dtype)(y).astype("float32")


class Embedded(nn.Module):
    dtype: str

    @nn.compact
    def __call__(self, x):
        y = nn.Embed(9, 4, dtype=self.dtype)(jnp.abs(2 * x).astype(int))
        return nn.Dense(2)(y.reshape(len(x), -1))


def accumulated(w, x):
    """Products of bfloat16 that are added up in float32."""
    first, second = x.astype(jnp.bfloat16), w.astype(jnp.bfloat16)
    return jax.lax.dot(first, second, preferred_element_type=jnp.float32)


def kernel_by_jacobian(function, params, x):
    """The mean over outputs of the products of explicit derivatives, in float64."""
    whole = lambda params: function(params, x).astype(jnp.float32)
    # Rounded to 16 bits wherever the function says so, as without a compiler.
    exact = {"xla_allow_excess_precision": False}
    leaves = jax.tree.leaves(jax.jit(jax.jacobian(whole), compiler_options=exact)(params))
    rows = np.concatenate(
        [np.asarray(leaf.astype("float32"), float).reshape(*leaf.shape[:2], -1) for leaf in leaves],
        axis=-1,
    )
    return np.einsum("icp,jcp->ij", rows, rows) / rows.shape[1]


CASES = {
    "dense": (Dense, {}, (4,)),
    "parameters": (Dense, {"param_dtype": "narrow"}, (4,)),
    "outputs": (Dense, {"output_dtype": "narrow"}, (4,)),
    "all": (Dense, {"param_dtype": "narrow", "output_dtype": "narrow"}, (4,)),
    "mixed": (Mixed, {}, (5, 4, 2)),
    "embedded": (Embedded, {}, (3,)),
}


@pytest.mark.parametrize(
    "name, dtype",
    [*((name, "bfloat16") for name in CASES), ("dense", "float16"), ("mixed", "float16")],
)
def test_the_kernel_is_that_of_the_jacobian_and_has_no_negative_eigenvalue(name, dtype):
    make, options, shape = CASES[name]
    options = {key: dtype if value == "narrow" else value for key, value in options.items()}
    module = make(dtype, **options)
    x = jax.random.normal(jax.random.key(0), (N, *shape))
    if name == "all":
        x = x.astype(dtype)
    params = jax.jit(module.init)(jax.random.key(1), x[:1])
    expected = kernel_by_jacobian(module.apply, params, x)
    implementations = ("neural-tangents", "jacobian") if name == "all" else ()
    for implementation in (*implementations, "structured"):
        kernel = empirical_ntk(module.apply, params, x, implementation=implementation)
        assert kernel.dtype == "float32"
        assert np.abs(kernel - expected).max() < 1e-5 * expected.max()
    assert spectrum.entropy(spectrum.eigenvalues(np.asarray(kernel))) > 0
    np.testing.assert_allclose(ntk_trace(module.apply, params, x), np.trace(expected), rtol=1e-5)
    vectors = np.ones((N, 1), np.float32)
    product = kernel_product(module.apply, params, x).product(vectors)
    np.testing.assert_allclose(product, expected @ vectors, atol=1e-5 * (expected @ vectors).max())


def test_products_that_are_added_up_in_32_bits_are_those_of_rounded_entries_too():
    w, x = jnp.ones((4, 3)), jax.random.normal(jax.random.key(0), (N, 4))
    expected = kernel_by_jacobian(accumulated, w, x)
    assert np.abs(empirical_ntk(accumulated, w, x) - expected).max() < 1e-5 * expected.max()


def test_complex_numbers_inside_a_network_leave_its_kernel_right():
    function = lambda w, x: jnp.abs(jnp.fft.fft(x) @ w.astype(complex))
    w, x = jnp.ones((4, 3)), jax.random.normal(jax.random.key(0), (N, 4))
    expected = kernel_by_jacobian(function, w, x)
    assert np.abs(empirical_ntk(function, w, x) - expected).max() < 1e-5 * expected.max()
    points = x.astype(complex)
    assert np.abs(empirical_ntk(function, w, points) - expected).max() < 1e-5 * expected.max()
