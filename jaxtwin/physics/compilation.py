"""Programs for one patient's values, compiled quickly rather than well.

Outside of `jax.jit`, `jax.vmap` and `jax.grad`, one patient's result takes a millisecond to compute
and a thousand times as long to compile.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray, Tracer
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

SMALL = 10_000
"""Number of values up to which a computation is compiled quickly, see `compiled`."""

_QUICKLY = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_disable_hlo_passes": "while-loop-invariant-code-motion,simplify-while-loops",
}
"""XLA's options for code that is compiled in half the time, and takes 1.5 times as long for one
patient, twice as long for a batch."""


def compiled(
    function: Callable[..., Any], *, size: Callable[..., int] | None = None
) -> Callable[..., Any]:
    """Return the function compiled, and quickly if called with one patient's values on a CPU.

    Args:
        function: The function.
        size: Function of the same arguments that returns how many values are computed from; by
            default the number of values in all arrays, which for a network are its weights.
    """
    optimised = eqx.filter_jit(function)

    @functools.cache
    def quick() -> Callable[..., Any]:
        filter_jit: Any = eqx.filter_jit  # Its type leaves out what it hands on to `jax.jit`.
        return filter_jit(function, compiler_options=_quick_options())

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        few = (_values(args) if size is None else size(*args)) <= SMALL
        soon = few and not _is_traced(args) and _quick_options()
        return (quick() if soon else optimised)(*args)

    return call


def differentiable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `compiled` function whose derivatives are compiled quickly, too.

    The programs of derivatives compute the function again, which must therefore be cheap.
    """

    @compiled
    def push(args: Any, tangents: Any) -> Any:
        return eqx.filter_jvp(function, args, tangents)[1]

    @eqx.filter_custom_jvp
    def of_values(*args: Any) -> Any:
        return function(*args)

    @of_values.def_jvp
    def _(args: Any, tangents: Any) -> Any:
        like = eqx.filter_eval_shape(push, args, tangents)
        return function(*args), linear(push, args, tangents, like)

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return (function if _in_program() else of_values)(*args)

    return call


def linear(push: Callable[[Any, Any], Any], known: Any, tangents: Any, like: Any) -> Any:
    """Return push(known, tangents), which is linear in the tangents.

    In reverse mode outside of `jax.jit` and `jax.vmap`, JAX traces the linear function, to run its
    transposition as soon as there are cotangents. Programs in it cannot be given options. So it is
    only called there, and its transposition is `compiled`, too.

    Args:
        push: Function of pytrees, of a module and not of a function, or it is compiled each time.
        known: What the linear function depends on.
        tangents: Tangents, all of them arrays.
        like: Arrays of the shapes and types of the result.
    """
    if not known_now(known) or known_now(tangents):
        return push(known, tangents)
    arrays, rest = eqx.partition(known, eqx.is_array)
    known_leaves, known_tree = jax.tree.flatten(arrays)
    leaves, tree = jax.tree.flatten(tangents)
    avals = tuple(ShapedArray(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(like))

    def forward(*inputs: Any) -> list[Any]:
        arrays = jax.tree.unflatten(known_tree, inputs[: len(known_leaves)])
        tangents = jax.tree.unflatten(tree, inputs[len(known_leaves) :])
        return jax.tree.leaves(push(eqx.combine(arrays, rest), tangents))

    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tangents)

    def backward(cotangents: Any, *inputs: Any) -> list[Any]:
        arrays = jax.tree.unflatten(known_tree, inputs[: len(known_leaves)])
        full = [ad.instantiate_zeros(value) for value in cotangents]
        cotangents = jax.tree.unflatten(jax.tree.structure(like), full)
        found = _pulled(push, eqx.combine(arrays, rest), shapes, cotangents)
        return [None] * len(known_leaves) + jax.tree.leaves(found)

    found = _linear.bind(*known_leaves, *leaves, forward=forward, backward=backward, avals=avals)
    return jax.tree.unflatten(jax.tree.structure(like), found)


@compiled
def _pulled(push: Callable[[Any, Any], Any], known: Any, shapes: Any, cotangents: Any) -> Any:
    """Return the transposed of push(known, ·), of the cotangents."""
    return jax.linear_transpose(functools.partial(push, known), shapes)(cotangents)[0]


_linear: Any = Primitive("linear")
"""Call of a function `forward`, whose transposed is `backward`."""
_linear.multiple_results = True


@_linear.def_impl
def _forward(*inputs: Any, forward: Callable[..., Any], **_: Any) -> list[Any]:
    return forward(*inputs)


_linear.def_abstract_eval(lambda *_, avals, **__: list(avals))
mlir.register_lowering(_linear, mlir.lower_fun(_forward, multiple_results=True))


def _linear_batched(inputs: Sequence[Any], axes: Sequence[Any], *, forward: Any, **_: Any) -> Any:
    found = jax.vmap(forward, in_axes=list(axes))(*inputs)
    return found, [0] * len(found)


batching.primitive_batchers[_linear] = _linear_batched
ad.primitive_jvps[_linear] = lambda primals, tangents, *, forward, **_: jax.jvp(
    forward, tuple(primals), tuple(ad.instantiate_zeros(tangent) for tangent in tangents)
)
ad.primitive_transposes[_linear] = lambda cotangents, *inputs, backward, **_: backward(
    cotangents, *inputs
)


def known_now(args: Any) -> bool:
    """Return whether the values are known and few, and not in a program that is being traced."""
    return _values(args) <= SMALL and not _is_traced(args)


def _values(args: Any) -> int:
    """Return the number of values in all arrays."""
    return sum(x.size for x in jax.tree.leaves(args) if isinstance(x, jax.Array | np.ndarray))


def _is_traced(args: Any) -> bool:
    """Return whether values are not known yet."""
    return _in_program() or any(isinstance(x, Tracer) for x in jax.tree.leaves(args))


def _in_program() -> bool:
    """Return whether a program is being traced; under `jax.vmap` or `jax.grad` alone it is not."""
    return isinstance(jnp.zeros(()), Tracer)


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
