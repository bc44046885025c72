"""The equations of one implicit stage, Y − γh f(Y) = known, and their solution.

All operations are unrolled over the entries of a small state and structural zeros are skipped, so
that under vmap each entry is one fused operation over the batch.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, Var
from jaxtyping import Array, Bool, Float, Int

from jaxtwin.parameters import Scalar

Scalars: TypeAlias = list[Float[Array, ""]]
Rows: TypeAlias = list[dict[int, Scalar]]

UNDAMPED = 3
"""Number of full Newton steps before damping, because the defect may grow once at a kink."""
LEAST_DAMPING = 1 / 32


class Structure(NamedTuple):
    """Structure of a vector field, determined by tracing.

    Attributes:
        depends: For each output, the inputs that it may depend on.
        piecewise_linear: Whether the vector field is certainly piecewise linear.
        order: In which order to eliminate the states, see `elimination_order`.
    """

    depends: list[set[int]]
    piecewise_linear: bool
    order: list[int]


def structure(f: Callable[[Scalars], Scalars], x: Scalars) -> Structure:
    """Determine the structure of f by tracing it once."""
    jaxpr = jax.make_jaxpr(f)(x).jaxpr
    reads: dict[Var, set[int]] = {var: {i} for i, var in enumerate(jaxpr.invars)}

    def of(atom) -> set[int]:
        return reads.get(atom, set()) if isinstance(atom, Var) else set()

    for equation in jaxpr.eqns:
        used = set().union(*(of(atom) for atom in equation.invars))
        reads.update(dict.fromkeys(equation.outvars, used))
    degrees = _degrees(jaxpr, [1] * len(jaxpr.invars))
    depends = [of(atom) for atom in jaxpr.outvars]
    return Structure(depends, max(degrees, default=0) <= 1, elimination_order(depends))


def elimination_order(depends: list[set[int]]) -> list[int]:
    """Return an order of the states in which elimination fills in few zeros.

    Next comes the state whose elimination changes the fewest entries: Markowitz, "The elimination
    form of the inverse and its application to linear programming", Management Science 3, 1957. On
    a chain of compartments the work then grows with their number, not with its cube.
    """
    rows = [{i, *row} for i, row in enumerate(depends)]
    left, order = set(range(len(rows))), []
    while left:
        columns = {k: {i for i in left if k in rows[i]} for k in left}

        def changed(k, columns=columns):
            return (len(columns[k]) - 1) * (len(rows[k] & left) - 1)

        k = min(sorted(left), key=changed)
        for i in columns[k] - {k}:
            rows[i] |= rows[k] & left
        left.remove(k)
        order.append(k)
    return order


_SUMS = {"add", "sub", "neg", "add_any", "max", "min", "abs", "clamp", "select_n"}
_SHAPES = {"convert_element_type", "broadcast_in_dim", "reshape", "squeeze", "copy", "copy_p"}
_STEPS = {"eq", "ne", "lt", "le", "gt", "ge", "sign", "floor", "ceil", "round", "is_finite"}


def _degrees(jaxpr: Jaxpr, inputs: list[int]) -> list[int]:
    """Return for each output 0 if it is piecewise constant, 1 if piecewise linear, 2 otherwise."""
    degrees: dict[Var, int] = dict(zip(jaxpr.invars, inputs, strict=True))
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        given = [degrees.get(v, 0) if isinstance(v, Var) else 0 for v in equation.invars]
        inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        if inner is not None and name in ("jit", "pjit", "custom_jvp_call"):
            found = _degrees(inner.jaxpr, given)
        else:
            if not any(given) or name in _STEPS:
                degree = 0
            elif name in _SUMS | _SHAPES:
                degree = max(given)
            elif name == "mul":
                degree = sum(given)
            elif name == "div":
                degree = given[0] if given[1] == 0 else 2
            else:
                degree = 2
            found = [min(degree, 2)] * len(equation.outvars)
        degrees.update(zip(equation.outvars, found, strict=True))
    return [degrees.get(v, 0) if isinstance(v, Var) else 0 for v in jaxpr.outvars]


def factorise(rows: Rows, order: list[int]) -> Rows:
    """Compute the LU factors of a small matrix given as rows {column: entry}, without pivoting.

    No pivoting is needed for I − γhJ with h small compared with 1/|Re λ > 0|.
    """
    rows = [dict(row) for row in rows]
    for n, k in enumerate(order):
        after = order[n + 1 :]
        for i in [i for i in after if k in rows[i]]:
            # Divisions instead of one reciprocal per row: XLA recomputes a cheap value for
            # each of its uses, back to the last division, so without divisions every entry
            # of the new state would repeat the whole step (twice the time).
            factor = rows[i][k] / rows[k][k]
            rows[i][k] = factor
            for j in [j for j in after if j in rows[k]]:
                update = factor * rows[k][j]
                rows[i][j] = rows[i][j] - update if j in rows[i] else -update
    return rows


def substitute(lu: Rows, b: Scalars, order: list[int]) -> Scalars:
    """Solve A x = b from the factors of A."""
    x = list(b)
    for n, i in enumerate(order):
        for j in [j for j in order[:n] if j in lu[i]]:
            x[i] = x[i] - lu[i][j] * x[j]
    for n, i in reversed(list(enumerate(order))):
        for j in [j for j in order[n + 1 :] if j in lu[i]]:
            x[i] = x[i] - lu[i][j] * x[j]
        x[i] = x[i] / lu[i][i]
    return x


class Stage(NamedTuple):
    """The equations Y − γh f(arguments, Y) = known.

    Attributes:
        f: Function from arguments and a state to the rates of change.
        slopes: Function like f that returns the rates and the columns of their Jacobian; see
            `slopes_of`.
        arguments: Arguments of f other than the state.
        weight: γh [s].
        known: Right-hand side.
    """

    f: Callable[[Any, Scalars], Scalars]
    slopes: Callable[[Any, Scalars], tuple[Scalars, list[Scalars]]]
    arguments: Any
    weight: Scalar
    known: Scalars

    def linearised(self, y: Scalars, depends: list[set[int]]) -> tuple[Scalars, Rows]:
        """Return the defect known + γh f(y) − y at y, and the rows of I − γhJ there."""
        rate, columns = self.slopes(self.arguments, y)
        rows = [
            {j: -self.weight * columns[j][i] for j in depends[i]} for i in range(len(self.known))
        ]
        for i, row in enumerate(rows):
            row[i] = 1 + row[i] if i in row else jnp.ones_like(y[i])
        defect = [k + self.weight * r - v for k, r, v in zip(self.known, rate, y, strict=True)]
        return defect, rows

    def solve(self, y: Scalars, of: Structure, iterations: int, most: int) -> tuple[Scalars, Any]:
        """Solve for Y by Newton's method from y; return it with the remaining defect.

        The derivative follows from the implicit-function theorem at the solution,
        dY = (I − γhJ)⁻¹ (d known + d(γhf) at fixed Y), which costs one evaluation of f instead
        of differentiating every iteration.

        Args:
            y: Starting point.
            of: Structure of f.
            iterations: Number of iterations if f is piecewise linear.
            most: Largest number of iterations if it is not.
        """
        fixed, y = self._held(), stop_gradient(y)
        if of.piecewise_linear:
            lu = []
            for _ in range(iterations):
                y, lu = fixed._iterated(y, of)
            left = jnp.zeros_like(y[0])
        else:
            y, left = stop_gradient(_damped_newton(fixed, y, of, most))
            # There is no solution if f is not even finite at the start.
            y = [jnp.where(jnp.isnan(left), jnp.nan, v) for v in y]
            lu = factorise(fixed.linearised(y, of.depends)[1], of.order)
        return self._with_tangent(y, lu, of), left

    def solve_again(self, y: Scalars, of: Structure) -> Scalars:
        """Return the solution near y, known from before, with its derivative: one iteration."""
        return self._with_tangent(*self._held()._iterated(stop_gradient(y), of), of)

    def _held(self) -> "Stage":
        """The same equations without derivatives."""
        held = stop_gradient((self.arguments, self.weight, self.known))
        return Stage(self.f, self.slopes, *held)

    def _iterated(self, y: Scalars, of: Structure) -> tuple[Scalars, Rows]:
        """Run one of Newton's iterations from y, and return its factors, too."""
        defect, rows = self.linearised(y, of.depends)
        lu = factorise(rows, of.order)
        return [v + s for v, s in zip(y, substitute(lu, defect, of.order), strict=True)], lu

    def _with_tangent(self, y: Scalars, lu: Rows, of: Structure) -> Scalars:
        """Return the solution y with its derivative; lu are the factors there."""
        lu, y = stop_gradient((lu, y))
        rates = self.f(self.arguments, y)
        right = [k + self.weight * r for k, r in zip(self.known, rates, strict=True)]
        solved = substitute(lu, right, of.order)
        return [_with_tangent_of(v, g) for v, g in zip(y, solved, strict=True)]


class _Newton(NamedTuple):
    """An iteration of `_damped_newton`: the best point so far, and the step from it."""

    y: Scalars
    left: Float[Array, ""]
    step: Scalars
    damping: Float[Array, ""]
    number: Int[Array, ""]


def tolerance(dtype: Any) -> float:
    """Return the defect at which a stage counts as solved: 2e-12 in float64, 6e-6 in float32."""
    return float(jnp.finfo(dtype).eps) ** 0.75


def unsolved(dtype: Any) -> float:
    """Return the defect above which a stage counts as failed: 1e-8 in float64, 3e-4 in float32."""
    return float(jnp.finfo(dtype).eps) ** 0.5


def _damped_newton(stage: Stage, y: Scalars, of: Structure, most: int):
    """Find the root by Newton's method, with steps halved until the defect decreases.

    The remaining defect is returned as a backward error: the largest defect of an entry, relative
    to |y| + |known| + γh|J||y|. A relative change of the states by this amount would remove it,
    whatever their units.
    """
    enough = tolerance(y[0].dtype)

    def left_at(y, defect, rows) -> Float[Array, ""]:
        sizes = [
            abs(k) + abs(v) + sum((abs(a) * abs(y[j]) for j, a in row.items()), 0.0 * v)
            for k, v, row in zip(stage.known, y, rows, strict=True)
        ]
        tiny = jnp.finfo(y[0].dtype).tiny
        shares = [abs(d) / (s + tiny) for d, s in zip(defect, sizes, strict=True)]
        return jnp.max(jnp.stack(shares))

    def going(c: _Newton) -> Bool[Array, ""]:
        return (c.left > enough) & (c.number < most)

    def body(c: _Newton) -> _Newton:
        trial = [v + c.damping * s for v, s in zip(c.y, c.step, strict=True)]
        defect, rows = stage.linearised(trial, of.depends)
        # Infinite slopes, such as that of a root at 0, are left out. The step is then not that of
        # Newton's method, but the defect still shows whether it led to the solution.
        rows = [
            {j: jnp.where(jnp.isfinite(a), a, i == j) for j, a in row.items()}
            for i, row in enumerate(rows)
        ]
        left = left_at(trial, defect, rows)
        following = substitute(factorise(rows, of.order), defect, of.order)
        forced = (c.number <= UNDAMPED) | (c.damping <= LEAST_DAMPING)
        taken = jnp.isfinite(left) & ((left < c.left) | forced)

        def choose(a, b):
            return [jnp.where(taken, x, y) for x, y in zip(a, b, strict=True)]

        # The iteration cannot recover from a start that is not finite itself.
        lost = (c.number == 0) & ~jnp.isfinite(left)
        return _Newton(
            choose(trial, c.y),
            jnp.where(taken, left, jnp.where(lost, jnp.nan, c.left)),
            choose(following, c.step),
            jnp.where(taken, 1.0, c.damping / 2).astype(c.damping.dtype),
            c.number + 1,
        )

    zero = jnp.zeros_like(y[0])
    start = _Newton(y, zero + jnp.inf, [jnp.zeros_like(v) for v in y], zero + 1, jnp.array(0))
    found = jax.lax.while_loop(going, body, start)
    # The last step is known already. Without it, the defects that are allowed in a beat's steps add
    # up to more than the tolerance on the beat.
    near = found.left <= enough
    y = [
        jnp.where(near & jnp.isfinite(s), v + s, v)
        for v, s in zip(found.y, found.step, strict=True)
    ]
    return y, found.left


def slopes_of(
    f: Callable[[Any, Scalars], Scalars], arguments: Any
) -> Callable[[Any, Scalars], tuple[Scalars, list[Scalars]]]:
    """Return the function that computes the rates and the columns of their Jacobian.

    Every iteration of every stage needs them, but they are traced only once.

    Args:
        f: Function from arguments and a state to the rates of change.
        arguments: Arguments of any stage; what is not an array is the same in all.
    """
    # Decided once: an array that is held constant may become a Python number.
    arrays_are = jax.tree.map(eqx.is_array, arguments)
    fixed = eqx.filter(arguments, arrays_are, inverse=True)

    @functools.partial(jax.jit, inline=True)
    def traced(arrays: Any, y: Scalars) -> tuple[Any, Any]:  # A constant rate is no JAX array.
        value, pushforward = jax.linearize(lambda y: f(eqx.combine(arrays, fixed), y), y)
        linear = jax.make_jaxpr(pushforward)(y)
        columns = []
        for j in range(len(y)):
            unit = [jnp.ones_like(v) if i == j else None for i, v in enumerate(y)]
            column = _evaluate_sparsely(linear, unit)
            columns.append(
                [jnp.zeros_like(v) if d is None else d for d, v in zip(column, value, strict=True)]
            )
        return value, columns

    return lambda arguments, y: traced(eqx.filter(arguments, arrays_are), y)


def _evaluate_sparsely(linear: Any, inputs: list[Any]) -> list[Any]:
    """Evaluate a linear program whose inputs are mostly 0 (None), without computing with zeros.

    XLA keeps the multiplication of a number by 0, because the number might be infinite.
    """
    known: dict[Var, Any] = dict(zip(linear.jaxpr.invars, inputs, strict=True))
    known |= dict(zip(linear.jaxpr.constvars, linear.consts, strict=True))

    def of(atom: Any) -> Any:
        return known.get(atom) if isinstance(atom, Var) else atom.val

    for equation in linear.jaxpr.eqns:
        given, name = [of(atom) for atom in equation.invars], equation.primitive.name
        there = [value is not None for value in given]
        if not any(there) or (name == "mul" and not all(there)) or (name == "div" and not there[0]):
            found: Any = [None] * len(equation.outvars)
        elif name in ("add", "add_any") and not all(there):
            found = [given[there.index(True)]]
        elif name == "sub" and not there[1]:
            found = [given[0]]
        else:
            full = [
                jnp.zeros(atom.aval.shape, atom.aval.dtype) if value is None else value
                for atom, value in zip(equation.invars, given, strict=True)
            ]
            found = equation.primitive.bind(*full, **equation.params)
            found = found if equation.primitive.multiple_results else [found]
        known.update(zip(equation.outvars, found, strict=True))
    return [of(atom) for atom in linear.jaxpr.outvars]


def stop_gradient(tree):
    """Return the tree with its arrays held constant under differentiation."""
    return jax.tree.map(lambda x: jax.lax.stop_gradient(x) if eqx.is_inexact_array(x) else x, tree)


@jax.custom_jvp
def _with_tangent_of(value, other):
    """Return the value with the tangent of another, at no cost without differentiation."""
    return value


@_with_tangent_of.defjvp
def _with_tangent_of_jvp(primals, tangents):
    return primals[0], tangents[1]
