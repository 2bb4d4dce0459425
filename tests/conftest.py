"""What every test runs under: strict dtypes and ranks, and no warning."""

import gc
import os

import jax
import jaxlib
import pytest
import threadpoolctl
from compiled import COMPILED, ROOT

# There is a worker for each core, so threads of BLAS would wait for those of others, and small
# products take four times as long. NumPy is loaded already; SciPy and stages read the variable.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
threadpoolctl.threadpool_limits(1)

# Of the compiler's time most goes into these emitters, and into the parts of a program that it
# compiles separately; without either here and in every stage that a test runs. A jaxlib that does
# not know the flags would end the process, so they are set for the one that is known to.
QUICK = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
if f"\njaxlib=={jaxlib.__version__}\n" in (ROOT / "requirements.txt").read_text():
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}"

# Tracing makes many objects and hardly a cycle: looking for these more rarely takes a tenth off the
# time of such tests.
gc.set_threshold(50_000, 20, 20)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
for name, value in COMPILED.items():
    jax.config.update(name, value)


@pytest.fixture
def float64():
    """64-bit arrays, for comparisons with a reference that should agree to the last digits."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def quick_float64():
    """64 bits, quick compilation, and standard promotion for optax's Adam; for the threads of the
    library too.
    """
    settings = {
        "jax_enable_x64": (True, False),
        "jax_disable_most_optimizations": (True, False),
        "jax_numpy_dtype_promotion": ("standard", "strict"),
    }
    for name, (value, _) in settings.items():
        jax.config.update(name, value)
    yield
    for name, (_, value) in settings.items():
        jax.config.update(name, value)


@pytest.fixture
def standard_promotion():
    """JAX's own, as optax's Adam and custom networks expect it; for the threads of the
    library too.
    """
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    yield
    jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture
def quickly_compiled():
    """As `quick_compilation`, for single tests of a file."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def quick_compilation():
    """For a file that compiles much and computes little."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


# By their time in a fresh clone; those that wait for a package index come before the last ones.
LONGEST = (
    "test_experiments.py",
    "test_pipeline.py",
    "test_dynamics_pipeline.py",
    "test_empirical.py",
    "test_rnd.py",
    "test_program.py",
    "test_products.py",
    "test_newest.py",
    "test_wheel.py",
    "test_recorded_training.py",
)


def pytest_collection_modifyitems(items):
    """The long files start first, so that no worker ends with one while the others have nothing to
    do.
    """
    items.sort(
        key=lambda item: (
            LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST)
        )
    )


@pytest.fixture(autouse=True, scope="module")
def programs_of_a_file_are_freed():
    """Else a worker holds those of all its files, gigabytes in the end."""
    yield
    jax.clear_caches()
    gc.collect()
