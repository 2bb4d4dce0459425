"""Networks whose outputs of a point depend on others are found, and no others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_networks import FUNCTIONS, MODULES, case, cast
from point_functions import MIXING, SEPARATE, W, X

from collective_variables.networks import architectures
from collective_variables.networks.separation import outputs, programs
from collective_variables.networks.separation.checks import check_separate

pytestmark = pytest.mark.usefixtures("quick_compilation", "standard_promotion", "any_rank")

# Of these the program does not say so, and outputs are computed.
COMPUTED = {"map in batches", "iterated until each is small", "list of points"}


@pytest.fixture
def any_rank():
    with jax.numpy_rank_promotion("allow"):
        yield


def reference(function, params, x):
    """Whether outputs are those of each point alone."""
    x = jnp.asarray(x)
    alone = np.concatenate([function(params, x[i : i + 1]) for i in range(len(x))])
    together = np.asarray(function(params, x))
    return alone.shape == together.shape and np.allclose(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MIXING)
def test_points_that_depend_on_others_are_found_whatever_the_values(name):
    function = MIXING[name]
    assert not reference(function, W, X)
    assert not programs.is_separate(function, W, X)
    with pytest.raises(
        ValueError, match="^f must treat every point separately: the outputs of one"
    ):
        check_separate("f", function, W, X)


@pytest.mark.parametrize("name", ["centred", "softmax over points", "sorted", "number of points"])
@pytest.mark.parametrize("x", [np.zeros_like(X), np.ones_like(X), np.sort(X, axis=0)])
def test_they_are_found_where_outputs_or_points_are_equal(name, x):
    with pytest.raises(ValueError, match="must treat every point separately"):
        check_separate("f", MIXING[name], np.zeros_like(W), x)


@pytest.mark.parametrize("name", SEPARATE)
def test_what_only_looks_like_it_is_taken(name):
    function = SEPARATE[name]
    assert reference(function, W, X)
    assert programs.is_separate(function, W, X) == (name not in COMPUTED)
    check_separate("f", function, W, X)
    assert outputs.largest_change(function, W, X) == 0.0


@pytest.mark.parametrize("name", [*MODULES, *FUNCTIONS])
def test_the_program_alone_says_so_of_usual_networks(name):
    function, params, x = case(name)
    assert programs.is_separate(function, *cast((params, x), np.float32))


@pytest.mark.parametrize(
    "kind, options, shape",
    [
        ("resnet", {"n_stages": 2}, (6, 6, 1)),
        ("transformer", {"n_tokens": 5, "n_heads": 2, "n_layers": 1}, (5,)),
        ("graph-network", {"n_steps": 2}, (3, 4)),
    ],
)
def test_it_says_so_of_the_architectures_of_the_library(kind, options, shape):
    module = architectures.build_architecture(kind, n_outputs=2, width=4, **options)
    x = jax.ShapeDtypeStruct((3, *shape), jnp.float32)
    params = jax.eval_shape(module.init, jax.random.key(0), x)
    assert programs.is_separate(module.apply, params, x)


@pytest.mark.parametrize("name", ["centred", "row numbers", "vmap", "map in batches"])
def test_inside_a_transformation_values_are_made_up(name):
    found = []

    def traced(params, x):
        function = {**MIXING, **SEPARATE}[name]
        try:
            check_separate("f", function, params, x)
        except ValueError:
            found.append(name)
        return 0.0

    jax.jit(jax.vmap(traced, (0, None)))(W[None], X)
    assert found == ([name] if name in MIXING else [])


def test_rounding_in_16_bits_is_no_dependence():
    def function(w, x):
        # Its loop keeps the program from saying so.
        y = jnp.stack(list(x.astype(jnp.bfloat16))) @ w.astype(jnp.bfloat16)
        return y.astype(jnp.float32)

    check_separate("f", function, W, 100 * X)
