"""What compilation has to work through, and the parts of the benchmark of first answers."""

import jax
import pytest

from benchmarks.first_answer import count, equations, measure


def test_equations_of_loops_and_calls_are_counted():
    def program(x):
        return jax.lax.fori_loop(0, 3, lambda i, x: jax.jit(lambda x: x * x + 1)(x), x)

    # The loop, the call in it, what it calls, and the loop's own counter.
    assert 4 <= count(jax.make_jaxpr(program)(1.0).jaxpr) <= 6


def test_programs_do_not_grow():
    """They may shrink: then lower the limits."""
    found = equations()
    assert found["orbit"] <= 4_600 and found["gradient"] <= 8_500


@pytest.mark.slow
def test_an_orbit_is_timed():
    found = measure("orbit", None)
    assert set(found) == {"import_s", "orbit_s"} and min(found.values()) >= 0
