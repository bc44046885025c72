"""Settings of all tests: float64, no implicit rank promotion, a persistent compilation cache."""

import gc
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
# Small programs too: a file has many, and each worker would compile them again.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

# Tracing makes many objects, few of them garbage, for which Python looks very often by default.
gc.freeze()
gc.set_threshold(100_000, 50, 100)

LITTLE = "jax_disable_most_optimizations"
"""JAX's option for programs that take longer to compile than to run."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let XLA optimise little in the default tests, most of which compile more than they compute.

    Simulations of many patients take nine times as long, so the longer tests, which have some, run
    what users run. So do all with JAX_DISABLE_MOST_OPTIMIZATIONS=0.
    """
    if LITTLE.upper() not in os.environ:
        jax.config.update(LITTLE, item.get_closest_marker("slow") is None)


MOST_MAPS = 25_000
"""Number of memory maps of a worker beyond which its compiled programs are released."""


@pytest.fixture(scope="module", autouse=True)
def drop_compiled_programs() -> Iterator[None]:
    """Release every compiled program after a file, if they hold many memory maps.

    A program holds dozens of them, of which Linux allows a process 65,530: a worker that kept them
    all would be killed near the end of the run. Released programs are traced again where another
    file needs them.
    """
    yield
    maps = Path("/proc/self/maps")
    if not maps.exists() or maps.read_bytes().count(b"\n") > MOST_MAPS:
        eqx.clear_caches()
        jax.clear_caches()


@pytest.fixture
def as_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch off the type checks of the tests, which users do not have."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
