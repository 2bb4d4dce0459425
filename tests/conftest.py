"""What every test runs under: strict dtypes and ranks, and no warning."""

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def float64():
    """64-bit arrays, for comparisons with a reference that should agree to the last digits."""
    with jax.enable_x64(True):
        yield


def pytest_collection_modifyitems(items):
    """The two long files start first, each on a worker of its own."""
    items.sort(key=lambda item: item.path.name not in ("test_pipeline.py", "test_experiments.py"))
