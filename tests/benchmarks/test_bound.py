"""Counts of operations and bytes, on programs of which they are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.bound import core_seconds, least_times
from benchmarks.work import blocks, longest, with_iterations, work
from jaxtwin.physics.kernel import as_one_function


def scanned(y, xs):
    """Ten steps, each of a multiplication, an addition and a division."""

    def body(y, x):
        y = (y * x + 1) / x
        return y, y

    return jax.lax.scan(body, y, xs)


def halved(x):
    """Divide by two until the number is below one; one comparison before each iteration."""
    return jax.lax.while_loop(lambda x: x >= 1, lambda x: x / 2, x)


Y, XS = jnp.float32(1), jnp.ones(10, jnp.float32)


def test_operations_and_bytes_of_a_scan():
    found = work(jax.make_jaxpr(scanned)(Y, XS).jaxpr, block=True)
    # A step reads x and writes y, and is handed y and hands it on.
    assert found == {"operation": 20, "div": 10, "streamed": 80, "carried": 80}


def test_a_vector_counts_each_number():
    y, xs = jnp.ones(128, jnp.float32), jnp.ones((10, 128), jnp.float32)
    found = work(jax.make_jaxpr(scanned)(y, xs).jaxpr, block=True)
    assert found == {"operation": 2560, "div": 1280, "streamed": 10240, "carried": 10240}


def test_a_while_loop_counts_by_its_iterations():
    found = work(jax.make_jaxpr(halved)(Y).jaxpr, iter([7]))
    # XLA multiplies by a half, but the program divides.
    assert found == {"operation": 7, "div": 7, "chunk": 7 * 8}


def test_iterations_of_each_patient_are_measured():
    traced = jax.make_jaxpr(jax.jit(halved))(Y)
    numbers = jnp.array([0.5, 1, 7, 100], jnp.float32)
    found, (iterations,) = jax.jit(jax.vmap(lambda x: with_iterations(traced, [x])))(numbers)
    np.testing.assert_array_equal(iterations, [0, 1, 3, 7])
    np.testing.assert_array_equal(found[0], jax.vmap(halved)(numbers))


def test_a_while_loop_inside_a_loop_is_not_counted_in_silence():
    def program(x):
        return jax.lax.scan(lambda x, _: (halved(x), None), x, length=3)

    with pytest.raises(NotImplementedError, match="a while loop inside a loop"):
        work(jax.make_jaxpr(program)(Y).jaxpr, iter([7]))


def test_unknown_operations_are_named():
    found = work(jax.make_jaxpr(jax.lax.erf_inv)(XS).jaxpr)
    assert found == {"not counted: erf_inv": 10}


def test_longest_chain_leaves_out_what_is_beside_it():
    def program(x):
        return (x + 1) * (x + 2) / x + x * x

    assert longest(jax.make_jaxpr(program)(Y).jaxpr, {"div": 3}) == 1 + 1 + 3 + 1
    assert longest(jax.make_jaxpr(scanned)(Y, XS).jaxpr, {"div": 3}) == 10 * (1 + 1 + 3)


def test_blocks_are_counted_as_often_as_they_run():
    def program(x):
        return as_one_function(lambda x: x + 1, x)

    traced = jax.make_jaxpr(jax.vmap(program))(jnp.ones(512, jnp.float32))
    ((_, often),) = blocks(traced.jaxpr, iter([]))
    assert often == 4
    counted = work(traced.jaxpr)
    assert counted["operation"] == 512


def test_a_bound_is_the_work_by_the_rate():
    from collections import Counter

    counts = Counter(operation=100, div=10, streamed=60, chunk=20)
    step = {"traced": 110, "bytes between loops": 440}
    rate = dict.fromkeys(("addition", "addition, waiting"), 10.0)
    rate |= dict.fromkeys(("multiply-add", "div", "max", "sqrt", "exp", "log"), 5.0)
    rate |= {"bytes in L1": 100.0, "bytes in L2": 40.0, "bytes in memory": 4.0}
    found = least_times({"work": counts, "chain": 30, "step": step}, rate)
    assert found["multiply-adds"] == pytest.approx(1e7)
    assert found["divisions"] == pytest.approx(2e6)
    assert found["one by one"] == pytest.approx(11e6)
    assert found["each waiting for the last"] == pytest.approx(3e6)
    assert found["between loops, from L1"] == pytest.approx(4.4e6)
    assert found["loops' inputs and outputs, from memory"] == pytest.approx(20e6)


def test_calls_take_turns():
    order = []
    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    least = core_seconds(calls, 2)
    assert order == ["a", "b"] * 3
    assert 0 <= least["a"][0] < 1
