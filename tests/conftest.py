"""Settings of all tests: float64, no implicit rank promotion, a persistent compilation cache."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import equinox as eqx
import jax
import jaxtyping
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", tempfile.gettempdir())) / "jaxtwin-tests"
jax.config.update("jax_compilation_cache_dir", str(_CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture(scope="module", autouse=True)
def drop_compiled_programs() -> Iterator[None]:
    """Release every compiled program after each file.

    A program holds dozens of memory maps, of which Linux allows a process 65,530: a worker that
    kept them all would be killed near the end of the run.
    """
    yield
    eqx.clear_caches()
    jax.clear_caches()


@pytest.fixture
def as_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch off the type checks of the tests, which users do not have."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
