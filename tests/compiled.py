"""Where tests, and the stages that they run, keep what they compiled for the next like it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMPILED = {
    "jax_compilation_cache_dir": str(ROOT / ".pytest_cache" / "compiled"),
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": 0,
}
