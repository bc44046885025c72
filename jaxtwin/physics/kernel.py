"""Computations of a single patient, compiled as one function of machine code."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun
from jax.flatten_util import ravel_pytree

FEW = 16
"""Largest number of patients whom a CPU solves faster one after the other than together."""

_ONE_FUNCTION = {"inlineable": "false", "xla_cpu_small_call": "true"}
"""Attributes of a call that XLA keeps as a call and compiles for a CPU as one function. XLA sets
the second one itself for a loop of less than a kilobyte. JAX gives them to the calls inside too,
which saves a quarter of the compile time."""

_ELEMENTWISE = (
    "abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp "
    "convert_element_type copy copy_p cos cosh div eq erf exp exp2 expm1 floor ge gt integer_pow "
    "is_finite le log log1p logistic lt max min mul ne neg not or pow rem round rsqrt select_n "
    "sign sin sinh sqrt square stop_gradient sub tan tanh xor"
)
_SHAPES = (
    "argmax argmin broadcast_in_dim concatenate dynamic_slice dynamic_update_slice expand_dims "
    "iota reduce_and reduce_max reduce_min reduce_or reduce_sum reshape slice split squeeze stack "
    "transpose"
)
_LOOPS = "cond custom_jvp_call jit pjit scan while"
_COMPILED = set(f"{_ELEMENTWISE} {_SHAPES} {_LOOPS}".split())


def as_one_function(f: Callable[..., Any], *args: Any) -> Any:
    """Return f(*args), on a CPU computed by one function of machine code if there is one patient.

    XLA runs a loop on a CPU as a list of small functions, each of a few operations. That suits a
    batch, but for one patient it takes ten times as long to call them as to compute what they
    compute, and each is compiled on its own. Under vmap f runs as usual, but patient by patient in
    a batch of up to `FEW`. The result has no derivatives in reverse mode.

    A function with operations for which XLA calls a library, such as a factorisation, or with
    inputs that are no floating-point numbers runs as usual, and so does any on an accelerator.

    Args:
        f: Function of pytrees that returns arrays.
        args: Its arguments.
    """
    if jax.default_backend() != "cpu":
        return f(*args)
    arrays, rest = eqx.partition(args, eqx.is_array)
    trace = jax.make_jaxpr(lambda arrays: f(*eqx.combine(arrays, rest)), return_shape=True)
    traced, shapes = trace(arrays)

    # With the values that the function closes over, because vmap may map them.
    inputs = (traced.consts, jax.tree.leaves(arrays))

    def of(inputs: Any) -> Any:
        consts, leaves = inputs
        found = jaxpr_as_fun(ClosedJaxpr(traced.jaxpr, consts))(*leaves)
        return jax.tree.unflatten(jax.tree.structure(shapes), found)

    leaves = jax.tree.leaves(inputs)
    # One vector cannot hold whole numbers or keys beside them without loss.
    floats = leaves and all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves)
    if not (floats and _is_compiled(traced.jaxpr)):
        return of(inputs)

    @jax.custom_batching.custom_vmap
    def alone(inputs: Any) -> Any:
        # One vector, because XLA ends the process at a parameter that the function does not read.
        vector, unravel = ravel_pytree(inputs)

        def from_vector(vector: Any) -> Any:
            return of(unravel(vector))

        with set_xla_metadata(**_ONE_FUNCTION):
            return jax.jit(from_vector)(vector)

    @alone.def_vmap
    def _(size: int, batched: Any, inputs: Any) -> Any:
        axes = jax.tree.map(lambda there: 0 if there else None, batched[0])
        mapped, shared = eqx.partition(inputs, batched[0])
        if size > FEW or not jax.tree.leaves(mapped):
            found = jax.vmap(of, in_axes=(axes,), axis_size=size)(inputs)
        else:
            found = jax.lax.map(lambda one: alone(eqx.combine(one, shared)), mapped)
        return found, jax.tree.map(lambda _: True, found)

    return alone(inputs)


SMALL = 10_000
"""Number of values up to which a computation is compiled quickly, see `compiled`."""

_QUICKLY = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
"""XLA's options for code that is compiled in half the time, and takes 1.5 times as long for one
patient, twice as long for a batch."""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function compiled, quickly where it is called with one patient's values on a CPU.

    Outside of `jax.jit`, `jax.vmap` and `jax.grad`, one patient's result takes a millisecond to
    compute and a thousand times as long to compile.
    """
    optimised = eqx.filter_jit(function)

    @functools.cache
    def quick() -> Callable[..., Any]:
        filter_jit: Any = eqx.filter_jit  # Its type leaves out what it hands on to `jax.jit`.
        return filter_jit(function, compiler_options=_quick_options())

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return (quick() if _computed_now(args) and _quick_options() else optimised)(*args)

    return call


def _computed_now(args: Any) -> bool:
    """Return whether the values are known and few, and not in a program that is being traced."""
    arrays = [x for x in jax.tree.leaves(args) if isinstance(x, jax.Array | np.ndarray)]
    traced = any(isinstance(x, Tracer) for x in (*arrays, jnp.zeros(())))
    return not traced and sum(x.size for x in arrays) <= SMALL


@functools.cache
def _quick_options() -> dict[str, Any]:
    """Return those of the options that this compiler has (JAX 0.12 has one); none but on a CPU."""
    if jax.default_backend() != "cpu":
        return {}
    found = {}
    for name, value in _QUICKLY.items():
        try:
            jax.jit(lambda: 0, compiler_options={name: value})()
            found[name] = value
        except jax.errors.JaxRuntimeError as error:
            if "No such compile option" not in str(error):
                raise
    return found


def _is_compiled(jaxpr: Jaxpr) -> bool:
    """Return whether XLA compiles all operations of a program itself."""
    for equation in jaxpr.eqns:
        if equation.primitive.name not in _COMPILED or equation.effects:
            return False
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(part, "jaxpr", part)
                if isinstance(inner, Jaxpr) and not _is_compiled(inner):
                    return False
    return True
