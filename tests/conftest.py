"""Settings of all tests: float64, no implicit rank promotion, a persistent compilation cache."""

import os
import tempfile
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", tempfile.gettempdir())) / "jaxtwin-tests"
jax.config.update("jax_compilation_cache_dir", str(_CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
