"""Computations of a patient, or of a block of them, compiled as one function of machine code."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import ClosedJaxpr, Jaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

BLOCK = 512
"""Bytes of one number of all patients of a block: 128 patients in float32, 64 in float64. Larger
blocks leave the cache of a core (gradients 10% slower), smaller ones spend their time on beginning
each loop over the patients."""

MOST_DIRECTIONS = 32
"""Largest number of rows that may be the directions of a derivative. As few patients are hardly
slower one after the other."""

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
    "iota pad reduce_and reduce_max reduce_min reduce_or reduce_sum reshape slice split squeeze "
    "stack transpose unstack"
)
_LOOPS = "checkpoint cond custom_jvp_call jit one_function pjit remat2 scan while"
_COMPILED = set(f"{_ELEMENTWISE} {_SHAPES} {_LOOPS}".split())


def as_one_function(f: Callable[..., Any], *args: Any) -> Any:
    """Return f(*args), on a CPU computed by one function of machine code.

    XLA runs a loop on a CPU as a list of small functions, each of a few operations. For one
    patient it takes ten times as long to call them as to compute what they compute. Each function
    is compiled on its own, and between them the numbers of a large batch leave the cache. So under
    vmap the patients are computed in blocks, one after the other.

    A function with operations for which XLA calls a library, such as a factorisation, or with
    inputs that are no numbers runs as usual, and so does any on an accelerator.

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
    found = _bound(_without_constants(traced), [*traced.consts, *jax.tree.leaves(arrays)], 1)
    return jax.tree.unflatten(jax.tree.structure(shapes), found)


def _bound(program: ClosedJaxpr, inputs: Sequence[Any], lanes: int) -> list[Any]:
    """Call the program as one function if XLA can compile it so, otherwise as usual."""
    floats = inputs and all(jnp.issubdtype(value.dtype, jnp.number) for value in inputs)
    if floats and _is_compiled(program.jaxpr):
        return _one_function.bind(*inputs, program=program, lanes=lanes)
    return jaxpr_as_fun(program)(*inputs)


def _without_constants(traced: ClosedJaxpr) -> ClosedJaxpr:
    """Return the program with its constants as its first inputs."""
    jaxpr = traced.jaxpr
    inputs = [*jaxpr.constvars, *jaxpr.invars]
    return ClosedJaxpr(
        Jaxpr((), inputs, jaxpr.outvars, jaxpr.eqns, jaxpr.effects, jaxpr.debug_info), ()
    )


_one_function: Any = Primitive("one_function")
"""Call of a program (a closed jaxpr without constants) that XLA keeps as one function. The last
axis of its inputs and outputs may be patients; `lanes` is their number."""
_one_function.multiple_results = True


@_one_function.def_impl
def _impl(*inputs: Any, **params: Any) -> list[Any]:
    return jax.jit(functools.partial(_called, **params))(*inputs)


@_one_function.def_abstract_eval
def _abstract(*_: Any, program: ClosedJaxpr, lanes: int) -> list[Any]:
    return program.out_avals


def _called(*inputs: Any, program: ClosedJaxpr, lanes: int) -> list[Any]:
    """Call the program."""

    def one_function(*inputs: Any) -> list[Any]:
        # XLA ends the process at a parameter that the function does not read, so each is read.
        firsts = [value.ravel()[0].astype(inputs[0].dtype) for value in inputs if value.size]
        return [*jaxpr_as_fun(program)(*inputs), jnp.sum(jnp.stack(firsts))]

    with set_xla_metadata(**_ONE_FUNCTION):
        return jax.jit(one_function)(*inputs)[:-1]


mlir.register_lowering(_one_function, mlir.lower_fun(_called, multiple_results=True))


def _batched(
    inputs: Sequence[Any], axes: Sequence[Any], *, program: ClosedJaxpr, lanes: int
) -> tuple[list[Any], list[int]]:
    """Compute the patients block by block, with those of a block as the last axis."""
    size = next(value.shape[a] for value, a in zip(inputs, axes, strict=True) if a is not None)
    if size == 1:
        alone = [v if a is None else v.squeeze(a) for v, a in zip(inputs, axes, strict=True)]
        found = _one_function.bind(*alone, program=program, lanes=lanes)
        return [value[None] for value in found], [0] * len(found)
    bytes_of_one = lanes * max(aval.dtype.itemsize for aval in program.in_avals)
    shared = sum(value.size for value, a in zip(inputs, axes, strict=True) if a is None)
    of_each = sum(value.size for value, a in zip(inputs, axes, strict=True) if a is not None) / size
    # Directions of one patient's derivative share all but the tangents. Each is computed by itself:
    # beside patients, they would make every operation one on a table, which XLA does not vectorise.
    # Many patients may share more than they have of their own, too, such as the times of all steps.
    directions = shared > of_each and size <= MOST_DIRECTIONS
    wide = 1 if directions else min(size, max(1, BLOCK // bytes_of_one))
    number = -(-size // wide)
    mapped, unmapped = [], []
    for value, axis in zip(inputs, axes, strict=True):
        unmapped.append(value if axis is None else None)
        if axis is None:
            continue
        last = jnp.moveaxis(value, axis, -1)
        filled = [(0, 0)] * (last.ndim - 1) + [(0, number * wide - size)]
        last = jnp.pad(last, filled, mode="edge") if number * wide > size else last
        mapped.append(jnp.moveaxis(last.reshape(*last.shape[:-1], number, wide), -2, 0))
    over = [None if axis is None else -1 for axis in axes]
    whole = jax.vmap(jaxpr_as_fun(program), in_axes=over, out_axes=-1, axis_size=wide)

    def all_inputs(block: Sequence[Any]) -> list[Any]:
        given = iter(block)
        return [next(given) if value is None else value for value in unmapped]

    shapes = all_inputs([jax.ShapeDtypeStruct(v.shape[1:], v.dtype) for v in mapped])
    block_program = _without_constants(jax.make_jaxpr(whole)(*shapes))

    def of_block(block: Sequence[Any]) -> list[Any]:
        return _one_function.bind(*all_inputs(block), program=block_program, lanes=lanes * wide)

    if number == 1:
        found = of_block([value[0] for value in mapped])
    else:
        found = jax.lax.map(of_block, mapped)
        found = [jnp.moveaxis(value, 0, -2) for value in found]
        found = [value.reshape(*value.shape[:-2], -1)[..., :size] for value in found]
    return found, [value.ndim - 1 for value in found]


batching.primitive_batchers[_one_function] = _batched


def _pushed(
    primals: Sequence[Any], tangents: Sequence[Any], *, program: ClosedJaxpr, lanes: int
) -> tuple[list[Any], list[Any]]:
    """Differentiate the program itself, as usual."""
    d_inputs = [ad.instantiate_zeros(tangent) for tangent in tangents]
    return jax.jvp(jaxpr_as_fun(program), tuple(primals), tuple(d_inputs))


ad.primitive_jvps[_one_function] = _pushed


def _transposed(cotangents: Any, *inputs: Any, program: ClosedJaxpr, lanes: int) -> list[Any]:
    """Transpose a program that is linear in some of its inputs, as one function again."""
    linear = [ad.is_undefined_primal(value) for value in inputs]
    known = [value for value, of in zip(inputs, linear, strict=True) if not of]
    avals = [value.aval for value, of in zip(inputs, linear, strict=True) if of]
    cotangents = [ad.instantiate_zeros(value) for value in cotangents]

    def back(known: Any, cotangents: Any) -> tuple[Any, ...]:
        def forward(*unknown: Any) -> list[Any]:
            given, others = iter(known), iter(unknown)
            return jaxpr_as_fun(program)(*(next(others if of else given) for of in linear))

        shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals]
        return jax.linear_transpose(forward, *shapes)(cotangents)

    traced = jax.make_jaxpr(back)(known, cotangents)
    found = iter(_bound(_without_constants(traced), [*traced.consts, *known, *cotangents], lanes))
    return [next(found) if of else None for of in linear]


ad.primitive_transposes[_one_function] = _transposed


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
