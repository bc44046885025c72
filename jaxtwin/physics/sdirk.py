"""An implicit solver for small stiff systems whose state is a pytree of scalars."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.extend.core import Var
from jaxtyping import Array, Float

from jaxtwin.parameters import Scalar

Scalars: TypeAlias = list[Float[Array, ""]]
Rows: TypeAlias = list[dict[int, Scalar]]

_GAMMA = 1 - 0.5**0.5


def sparsity(f: Callable[[Scalars], Scalars], x: Scalars) -> list[set[int]]:
    """For each output of f, which of its inputs it can depend on, found by tracing f once."""
    jaxpr = jax.make_jaxpr(f)(x).jaxpr
    reads: dict[Var, set[int]] = {var: {i} for i, var in enumerate(jaxpr.invars)}

    def of(atom) -> set[int]:
        return reads.get(atom, set()) if isinstance(atom, Var) else set()

    for equation in jaxpr.eqns:
        used = set().union(*(of(atom) for atom in equation.invars))
        reads.update(dict.fromkeys(equation.outvars, used))
    return [of(atom) for atom in jaxpr.outvars]


def factorise(rows: Rows) -> Rows:
    """The LU factors of a small matrix given as rows {column: entry}, without pivoting.

    Everything is unrolled and structural zeros are skipped, so that under vmap each entry is
    one fused operation over the batch. Pivots are safe for the matrices met here, I − γhJ
    with h small against 1/|Re λ > 0|.
    """
    rows = [dict(row) for row in rows]
    for k in range(len(rows)):
        for i in range(k + 1, len(rows)):
            if k in rows[i]:
                # Divisions rather than one reciprocal a row: XLA computes a cheap value anew
                # for each of its readers, down to the last division, so that without them
                # every entry of the new state repeats the whole step (twice the time).
                factor = rows[i][k] / rows[k][k]
                rows[i][k] = factor
                for j in [j for j in rows[k] if j > k]:
                    update = factor * rows[k][j]
                    rows[i][j] = rows[i][j] - update if j in rows[i] else -update
    return rows


def substitute(lu: Rows, b: Scalars) -> Scalars:
    """Solve A x = b from the factors of A."""
    x = list(b)
    for i in range(len(x)):
        for j in [j for j in lu[i] if j < i]:
            x[i] = x[i] - lu[i][j] * x[j]
    for i in reversed(range(len(x))):
        for j in [j for j in lu[i] if j > i]:
            x[i] = x[i] - lu[i][j] * x[j]
        x[i] = x[i] / lu[i][i]
    return x


class SDIRK2(dfx.AbstractAdaptiveSolver):
    """Singly diagonally implicit Runge-Kutta method of order 2: L-stable, stiffly accurate.

    With γ = 1 − 1/√2, the stages are Y_1 = y_0 + γh f(t_0 + γh, Y_1) and
    Y_2 = y_0 + (1 − γ)h f(t_0 + γh, Y_1) + γh f(t_0 + h, Y_2), and y_1 = Y_2. Alexander,
    "Diagonally implicit Runge-Kutta methods for stiff ODE's", SIAM Journal on Numerical
    Analysis 14(6), 1977, theorem 5.

    The stages are solved by a fixed number of Newton iterations with exact, unrolled linear
    algebra, so a batch never waits for its slowest member. A circuit with ideal valves is
    piecewise linear: one iteration is exact where no valve switches in the step, two where
    one does; a third changes nothing in the left heart. (Linearly implicit methods, which
    stop after one, let a closing valve run backwards until the end of the step.) The state
    must be a pytree of scalars; linear invariants are conserved to rounding. Its derivatives
    are right to first order only.

    Attributes:
        newton_iterations: For each stage; more for a strongly nonlinear system.
    """

    newton_iterations: int = 2

    term_structure: ClassVar = dfx.ODETerm
    interpolation_cls: ClassVar = dfx.ThirdOrderHermitePolynomialInterpolation

    def order(self, terms):
        """Order of the solution."""
        return 2

    def error_order(self, terms):
        """Order of the local error estimate, from the embedded solution of order 1."""
        return 2

    def init(self, terms, t0, t1, y0, args):
        """There is nothing to carry from step to step."""
        return None

    def func(self, terms, t0, y0, args):
        """The vector field."""
        return terms.vf(t0, y0, args)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        """One step; see the class and `diffrax.AbstractSolver.step`."""
        del solver_state, made_jump
        y, structure = jax.tree.flatten(y0)
        t0, t1 = jnp.asarray(t0), jnp.asarray(t1)
        h = t1 - t0

        def f(t_args, y):
            t, args = t_args
            return jax.tree.leaves(terms.vf(t, jax.tree.unflatten(structure, y), args))

        second, rate_h = self.advance(f, [(t, args) for t in self.stage_times(t0, t1)], h, y)
        # The embedded solution of order 1 takes the whole step with the first stage's rate.
        error = [v - v0 - r for v, v0, r in zip(second, y, rate_h, strict=True)]

        def tree(leaves):
            return jax.tree.unflatten(structure, leaves)

        k0, k1 = (tree([h * r for r in f((t, args), v)]) for t, v in ((t0, y), (t1, second)))
        dense_info = {"y0": y0, "y1": tree(second), "k0": k0, "k1": k1}
        return tree(second), tree(error), dense_info, None, dfx.RESULTS.successful

    def stage_times(self, t0: Scalar, t1: Scalar) -> tuple[Scalar, Scalar]:
        """When the stages of the step from t0 to t1 evaluate the vector field."""
        return t0 + _GAMMA * (t1 - t0), t1

    def advance(
        self, f: Callable[[Any, Scalars], Scalars], stages: Sequence[Any], h: Scalar, y: Scalars
    ) -> tuple[Scalars, Scalars]:
        """One step from y, for a vector field that is given whatever it needs beside the state.

        Args:
            f: From a stage's arguments and a state to the rates of change.
            stages: The arguments of each stage: what f needs of the time, and parameters.
            h: Size of the step [s].
            y: The state.

        Returns:
            The state after the step, and h times the rate of the first stage.
        """
        first_stage, second_stage = stages
        depends = sparsity(lambda y: f(first_stage, y), y)

        def solve(stage, known, y):
            """Y with Y − γh f(Y) = known, by Newton's method from y.

            The derivative is that of the implicit-function theorem at the solution, which
            costs one evaluation of f instead of differentiating every iteration.
            """
            fixed_stage, fixed_h, fixed_known, y = _stop_gradient((stage, h, known, y))
            lu = []
            for _ in range(self.newton_iterations):
                rate, columns = _jacobian_columns(lambda y: f(fixed_stage, y), y)
                rows = [
                    {j: -_GAMMA * fixed_h * columns[j][i] for j in depends[i]}
                    for i in range(len(y))
                ]
                for i, row in enumerate(rows):
                    row[i] = 1 + row.get(i, 0.0)
                lu = factorise(rows)
                defect = [
                    k + _GAMMA * fixed_h * r - v
                    for k, r, v in zip(fixed_known, rate, y, strict=True)
                ]
                y = [v + s for v, s in zip(y, substitute(lu, defect), strict=True)]
            # dY = (I − γhJ)⁻¹ (d known + d(γhf) at fixed Y), with the last factors of I − γhJ.
            lu, y = _stop_gradient((lu, y))
            rhs = [k + _GAMMA * h * r for k, r in zip(known, f(stage, y), strict=True)]
            return [_with_tangent_of(v, g) for v, g in zip(y, substitute(lu, rhs), strict=True)]

        first = solve(first_stage, y, y)
        rate_h = [(v - v0) / _GAMMA for v, v0 in zip(first, y, strict=True)]
        known = [v0 + (1 - _GAMMA) * r for v0, r in zip(y, rate_h, strict=True)]
        return solve(second_stage, known, first), rate_h


def _jacobian_columns(f: Callable[[Scalars], Scalars], y: Scalars) -> tuple[Scalars, list[Scalars]]:
    """The value of f and the columns of its Jacobian."""
    value, pushforward = jax.linearize(f, y)
    columns = []
    for j in range(len(y)):
        unit = [jnp.ones_like(v) if i == j else jnp.zeros_like(v) for i, v in enumerate(y)]
        columns.append(pushforward(unit))
    return value, columns


def _stop_gradient(tree):
    """The tree, with its arrays held constant under differentiation."""
    return jax.tree.map(lambda x: jax.lax.stop_gradient(x) if eqx.is_inexact_array(x) else x, tree)


@jax.custom_jvp
def _with_tangent_of(value, other):
    """The value, with the tangent of another; where nothing is differentiated that is free."""
    return value


@_with_tangent_of.defjvp
def _with_tangent_of_jvp(primals, tangents):
    return primals[0], tangents[1]
