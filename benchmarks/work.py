"""Operations and bytes of a traced program, for `benchmarks.bound`.

An operation is an addition, a multiplication, a comparison or a selection of one number. Divisions,
roots and transcendental functions are counted apart. A scan counts by its length, a while loop by
the number of iterations that is given for it, a condition by its longer branch.

Not counted: what XLA leaves out (common values, products by 1) and what it computes several times,
numbers that do not fit into registers, and the memory that operations outside of loops read and
write, which XLA joins as it likes.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Var, jaxpr_as_fun

SINGLE = (
    "abs add add_any and ceil clamp eq floor ge gt is_finite le lt mul ne neg not or round "
    "select_n sign square sub xor"
)
"""Operations of one instruction, or two, for a vector of numbers."""
COSTLY = "cos div exp log max min pow sin sqrt tanh"
"""Operations that are counted apart; maxima, because XLA adds instructions for NaN."""
REDUCTIONS = "argmax argmin cummax reduce_and reduce_max reduce_min reduce_or reduce_sum"
FREE = (
    "broadcast_in_dim concatenate convert_element_type copy copy_p dynamic_slice "
    "dynamic_update_slice expand_dims gather iota pad platform_index reshape rev slice split "
    "squeeze stack stop_gradient transpose unstack"
)
"""Operations that move numbers."""


def inner(equation: Any) -> list[Jaxpr]:
    """Return the programs that an equation calls."""
    parts = []
    for value in equation.params.values():
        parts += value if isinstance(value, tuple | list) else [value]
    programs = [getattr(part, "jaxpr", part) for part in parts]
    return [program for program in programs if isinstance(program, Jaxpr)]


def size_of(atoms: Sequence[Any]) -> int:
    """Return the bytes of the values of atoms."""
    return sum(atom.aval.size * atom.aval.dtype.itemsize for atom in atoms)


def times(count: Counter[str], n: float) -> Counter[str]:
    """Return n times a count."""
    return Counter({name: n * value for name, value in count.items()})


def operations_of(equation: Any) -> Counter[str]:
    """Return the operations of an equation without loops, by kind."""
    name, numbers = equation.primitive.name, equation.outvars[0].aval.size
    if name in SINGLE.split():
        return Counter(operation=numbers)
    if name in COSTLY.split():
        return Counter({name: numbers})
    if name == "integer_pow":
        y = equation.params["y"]
        products = abs(y).bit_length() + abs(y).bit_count() - 2
        return Counter(operation=numbers * products) + Counter(div=numbers * (y < 0))
    if name in REDUCTIONS.split():
        return Counter(operation=equation.invars[0].aval.size)
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return Counter(operation=2 * numbers * math.prod(shape[i] for i in contracted))
    return Counter() if name in FREE.split() else Counter({f"not counted: {name}": numbers})


def work(
    jaxpr: Jaxpr, iterations: Iterator[float] | None = None, block: bool = False
) -> Counter[str]:
    """Return the operations of a program, and the bytes that the steps of its loops read and write.

    Args:
        jaxpr: The program.
        iterations: Those of its while loops, in the order of the program.
        block: Whether it is part of a function of machine code for one block of patients.

    Returns:
        Operations by kind. `streamed` bytes are those of each step's own inputs and outputs in a
        block, `carried` its constants and what is handed from step to step there, `chunk` those of
        loops outside of blocks.

    Raises:
        NotImplementedError: If there is a while loop inside a loop, whose iterations differ.
    """
    total: Counter[str] = Counter()
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "scan":
            body, carry = params["jaxpr"].jaxpr, params["num_carry"]
            held = params["num_consts"] + carry
            own = size_of(body.invars[held:]) + size_of(body.outvars[carry:])
            handed = size_of(body.invars[:held]) + size_of(body.outvars[:carry])
            moved = Counter(streamed=own, carried=handed) if block else Counter(chunk=own + handed)
            total += times(work(body, None, block) + moved, params["length"])
        elif name == "while":
            if iterations is None:
                raise NotImplementedError("a while loop inside a loop: its iterations differ")
            cond, body = params["cond_jaxpr"].jaxpr, params["body_jaxpr"].jaxpr
            moved = size_of(body.invars) + size_of(body.outvars)
            each = work(cond, None, block) + work(body, None, block)
            each += Counter(carried=moved) if block else Counter(chunk=moved)
            total += times(each, next(iterations))
        elif name == "cond":
            branches = [work(branch, None, block) for branch in inner(equation)]
            total += max(branches, key=Counter.total)
        elif name in REDUCTIONS.split() or not inner(equation):
            total += operations_of(equation)
        else:
            for program in inner(equation)[:1]:  # Others are derivatives.
                total += work(program, iterations, block or name == "one_function")
    return total


def longest(jaxpr: Jaxpr, weights: dict[str, float]) -> float:
    """Return the longest chain of operations of which each needs the last.

    Args:
        jaxpr: A program without while loops.
        weights: Length of an operation by kind, 1 by default.
    """
    ends: dict[Var, float] = {}
    for equation in jaxpr.eqns:
        begin = max((ends.get(v, 0.0) for v in equation.invars if isinstance(v, Var)), default=0.0)
        if equation.primitive.name not in REDUCTIONS.split() and (programs := inner(equation)):
            own = equation.params.get("length", 1) * max(longest(p, weights) for p in programs)
        else:
            own = sum(weights.get(name, 1.0) for name in operations_of(equation))
        ends.update(dict.fromkeys(equation.outvars, begin + own))
    return max((ends.get(v, 0.0) for v in jaxpr.outvars if isinstance(v, Var)), default=0.0)


def blocks(
    jaxpr: Jaxpr, iterations: Iterator[float], often: float = 1.0
) -> list[tuple[Any, float]]:
    """Return the calls of functions of machine code, and how often the program makes each."""
    found = []
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        n = next(iterations) if name == "while" else params["length"] if name == "scan" else 1
        if name == "one_function":
            found.append((equation, often))
        else:
            for program in inner(equation):
                found += blocks(program, iterations, often * n)
    return found


def with_iterations(traced: ClosedJaxpr, inputs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Run a program; return its results and the iterations of its outer while loops, in order."""
    jaxpr, numbers = traced.jaxpr, []
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, traced.consts, strict=True))
    values.update(zip(jaxpr.invars, inputs, strict=True))

    def of(atom: Any) -> Any:
        return values[atom] if isinstance(atom, Var) else atom.val

    for equation in jaxpr.eqns:
        given = [of(atom) for atom in equation.invars]
        name, params = equation.primitive.name, equation.params
        if name in ("jit", "custom_jvp_call"):
            found, more = with_iterations(params.get("jaxpr", params.get("call_jaxpr")), given)
            numbers += more
        elif name == "while":
            number, *found = _counting(params, given)
            numbers.append(number)
        else:
            inputs = list(dict.fromkeys(v for v in equation.invars if isinstance(v, Var)))
            alone = Jaxpr((), inputs, equation.outvars, [equation], debug_info=jaxpr.debug_info)
            found = jaxpr_as_fun(ClosedJaxpr(alone, ()))(*(values[v] for v in inputs))
        values.update(zip(equation.outvars, found, strict=True))
    return [of(atom) for atom in jaxpr.outvars], numbers


def _counting(params: dict[str, Any], given: list[Any]) -> Any:
    """Run a while loop with its number of iterations in front of what it hands on."""
    first = params["cond_nconsts"]
    second = first + params["body_nconsts"]
    cond, body = jaxpr_as_fun(params["cond_jaxpr"]), jaxpr_as_fun(params["body_jaxpr"])
    return jax.lax.while_loop(
        lambda c: cond(*given[:first], *c[1:])[0],
        lambda c: (c[0] + 1, *body(*given[first:second], *c[1:])),
        (jnp.array(0), *given[second:]),
    )


def compiled_step(block: Any) -> dict[str, float]:
    """Return one step's operations a patient, traced and compiled, its loops, and their bytes."""
    scan = next(e for e in block.eqns if e.primitive.name == "scan")
    body = scan.params["jaxpr"]
    compiled = jax.jit(jaxpr_as_fun(body)).lower(*body.in_avals).compile()
    lanes = max(aval.size for aval in body.in_avals)
    cost, text = compiled.cost_analysis(), compiled.as_text()
    assert cost is not None and text is not None
    return {
        "traced": work(inner(scan)[0]).total() / lanes,
        "compiled": cost["flops"] / lanes,
        "bytes between loops": cost["bytes accessed"] / lanes,
        "loops over patients": text.count(" fusion("),
    }
