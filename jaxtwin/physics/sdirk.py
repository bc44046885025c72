"""An implicit solver for small stiff systems whose state is a pytree of scalars."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from jaxtwin.parameters import Scalar
from jaxtwin.physics.stage import Scalars, Stage, slopes_of, structure

_GAMMA = 1 - 0.5**0.5


class SDIRK2(eqx.Module):
    """Singly diagonally implicit Runge-Kutta method of order 2: L-stable, stiffly accurate.

    With γ = 1 − 1/√2, the stages are Y_1 = y_0 + γh f(t_0 + γh, Y_1) and
    Y_2 = y_0 + (1 − γ)h f(t_0 + γh, Y_1) + γh f(t_0 + h, Y_2), and y_1 = Y_2. Alexander,
    "Diagonally implicit Runge-Kutta methods for stiff ODE's", SIAM Journal on Numerical
    Analysis 14(6), 1977, theorem 5.

    The stages are solved by Newton's method with exact, unrolled linear algebra. A circuit with
    ideal valves is piecewise linear, which is detected from its trace: one iteration is exact if
    no valve switches in the step, two if one does, and a third changes nothing in the left heart.
    The number of iterations is fixed, so a batch never waits for its slowest member. (Linearly
    implicit methods, which stop after one, let flow run backwards through a closing valve until the
    end of the step.) Any other vector field is iterated, with damping, until the stage equations
    hold. The state must be a pytree of scalars; linear invariants are conserved to rounding. Only
    first derivatives are correct. For Diffrax there is `jaxtwin.physics.solve.DiffraxSDIRK2`.

    Attributes:
        newton_iterations: Number of iterations per stage for a piecewise linear vector field.
        max_iterations: Largest number of iterations per stage for any other vector field.
    """

    newton_iterations: int = 2
    max_iterations: int = 30

    def stage_times(self, t0: Scalar, t1: Scalar) -> tuple[Scalar, Scalar]:
        """Return the times of the two stages of a step from t0 to t1."""
        return t0 + _GAMMA * (t1 - t0), t1

    def advance(
        self, f: Callable[[Any, Scalars], Scalars], stages: Sequence[Any], h: Scalar, y: Scalars
    ) -> tuple[Scalars, Scalars, Scalar]:
        """Take one step from y, for a vector field of stage arguments and state.

        Args:
            f: Function from the arguments of a stage and a state to the rates of change.
            stages: Arguments of each stage: the time, or values that depend on it, and parameters.
            h: Size of the step [s].
            y: The state.

        Returns:
            The state after the step, h times the rate of the first stage, and the larger of the
            remaining defects of both stage equations, see `stage.Stage.solve`.
        """
        first, second = stages
        of = structure(lambda y: f(first, y), y)
        more = (of, self.newton_iterations, self.max_iterations)
        slopes = slopes_of(f, first)
        y1, left1 = Stage(f, slopes, first, _GAMMA * h, y).solve(y, *more)
        y2, left2 = Stage(f, slopes, second, _GAMMA * h, self._known(y, y1)).solve(y1, *more)
        rate_h = [(v - v0) / _GAMMA for v, v0 in zip(y1, y, strict=True)]
        return y2, rate_h, jnp.maximum(left1, left2)

    def advance_again(
        self,
        f: Callable[[Any, Scalars], Scalars],
        stages: Sequence[Any],
        h: Scalar,
        y: Scalars,
        end: Scalars,
    ) -> Scalars:
        """Take a step whose end is known, for its derivative.

        The end is Y_2, and with it Y_1 = y_0 + γ/(1 − γ) (Y_2 − y_0 − γh f(t_0 + h, Y_2)), but for
        rounding. So one iteration a stage does instead of several.

        Args:
            f: See `advance`.
            stages: See there.
            h: See there.
            y: See there.
            end: The state after the step.
        """
        first, second = stages
        of = structure(lambda y: f(first, y), y)
        slopes = slopes_of(f, first)
        # A division by a variable, for the reason given in `factorise`.
        y1 = [
            v0 + _GAMMA * (h * (v - v0) - _GAMMA * h * h * r) / ((1 - _GAMMA) * h)
            for v0, v, r in zip(y, end, f(second, end), strict=True)
        ]
        y1 = Stage(f, slopes, first, _GAMMA * h, y).solve_again(y1, of)
        return Stage(f, slopes, second, _GAMMA * h, self._known(y, y1)).solve_again(end, of)

    def _known(self, y: Scalars, y1: Scalars) -> Scalars:
        """The right-hand side y_0 + (1 − γ)h f(t_0 + γh, Y_1) of the second stage."""
        return [v0 + (1 / _GAMMA - 1) * (v - v0) for v, v0 in zip(y1, y, strict=True)]
