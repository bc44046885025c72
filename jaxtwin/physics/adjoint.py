"""Differentiation of the periodic orbit of a driven system."""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxtwin.physics.beat import BeatMap, Steps, prepend
from jaxtwin.physics.coarse import coarse_orbit, comparison
from jaxtwin.physics.compact import search
from jaxtwin.physics.compilation import compiled, known_now, linear
from jaxtwin.physics.fixed_point import CoarseOrbit, FixedPoint, inverse
from jaxtwin.physics.iteration import AbstractIteration
from jaxtwin.physics.kernel import as_one_function
from jaxtwin.physics.stage import stop_gradient


class Settled(NamedTuple):
    """A periodic beat.

    Attributes:
        states: The state at each time, [time] on every leaf.
        residual: Largest change of a state variable over it, see `Stats`.
        repeats: Whether that is within the tolerance.
        beats: How many beats were run on the full grid.
        left: Largest defect left in the equations of its steps, see `Stats`.
        errors: Estimated discretisation errors, see `Stats`.
        coarse: The orbit on the coarser grid.
        jacobian: The Jacobian of its end by its start, where it is known.
    """

    states: Any
    residual: Float[Array, ""]
    repeats: Bool[Array, ""]
    beats: Int[Array, ""]
    left: Float[Array, ""]
    errors: Any
    coarse: CoarseOrbit
    jacobian: Float[Array, "state state"] | None = None


class AbstractAdjoint(eqx.Module):
    """Base class for adjoints: how to find the periodic beat so that it can be differentiated."""

    @abc.abstractmethod
    def settle(self, beats: BeatMap, method: AbstractIteration) -> Settled:
        """Find the periodic beat, differentiable with respect to the arrays of the beat map.

        Args:
            beats: The beat map.
            method: Iteration that finds the periodic beat.
        """


class ImplicitAdjoint(AbstractAdjoint):
    """Differentiate the periodic state by the implicit-function theorem.

    The cost is that of one beat with its Jacobian and of two tangents (or, in reverse mode,
    cotangents) of a beat for each direction, however many beats the iteration took. All
    derivatives are 0 if the orbit was not found. Second derivatives raise a NotImplementedError.
    """

    def settle(self, beats: BeatMap, method: AbstractIteration) -> Settled:
        """See `AbstractAdjoint`."""
        return _settled(beats, method)


class DirectAdjoint(AbstractAdjoint):
    """Differentiate through a fixed number of beats, started from the initial state.

    This is the straightforward, expensive alternative against which `ImplicitAdjoint` is tested.
    Derivatives may be NaN if the solution diverged.

    Attributes:
        beats: Number of beats to run, regardless of convergence.
    """

    beats: int = 15

    def settle(self, beats: BeatMap, method: AbstractIteration) -> Settled:
        """See `AbstractAdjoint`; of the method, only the tolerance is used."""
        return self._settle(beats, method)

    @compiled
    def _settle(self, beats: BeatMap, method: AbstractIteration) -> Settled:
        beat = beats.steps(at_once=True)
        y0, _ = jax.lax.scan(
            lambda y, _: (beat(y).end, None), beats.initial_state(), length=self.beats
        )
        last = beat(y0, record=True)
        coarse = coarse_orbit(stop_gradient(beats), stop_gradient(y0), method.max_beats)
        errors = jax.lax.stop_gradient(comparison(beats, coarse.start, coarse.later)(last))
        residual = last.residual()
        return Settled(
            states=last.states,
            residual=residual,
            repeats=residual <= coarse.tightened(method.tolerance),
            beats=jnp.array(self.beats + 1),
            left=last.left,
            errors=errors,
            coarse=coarse,
        )


def held(where: Bool[Array, ""], tree: Any) -> Any:
    """Return the tree with its arrays held constant under differentiation unless `where` is true.

    In reverse mode this also resets to 0 a cotangent that became NaN through an infinite slope
    (0 · inf).
    """
    return jax.tree.map(
        lambda x: jnp.where(where, x, jax.lax.stop_gradient(x)) if eqx.is_inexact_array(x) else x,
        tree,
    )


@jax.custom_jvp
def differentiated_once(x: Any) -> Any:
    """Return x unchanged, but raise an error if it is differentiated; see `ImplicitAdjoint`."""
    return x


@differentiated_once.defjvp
def _differentiated_once_jvp(primals, tangents):
    raise NotImplementedError(
        "second derivatives of a periodic orbit or a transient are not available: the solver's "
        "derivatives are right to first order only. Take finite differences of the gradient, or "
        "J^T J of the first derivatives (Gauss-Newton) for a least-squares loss"
    )


@eqx.filter_custom_jvp
def _settled(beats: BeatMap, method: AbstractIteration) -> Settled:
    return _found(beats, method, known_now(beats))


@compiled
def _found(beats: BeatMap, method: AbstractIteration, compact: bool) -> Settled:
    """Find the periodic beat, by a small program or by a quick one."""
    if compact:
        found = search(beats, method)
        beat, coarse, jacobian = found.beat, found.coarse, found.jacobian
        errors = comparison(beats, coarse.start, coarse.later)(beat)
    else:
        y0 = beats.initial_state()
        coarse = coarse_orbit(beats, y0, method.max_beats)
        compare = comparison(beats, coarse.start, coarse.later)
        found = method.settle(beats.steps(), y0, coarse, compare)
        beat, errors, jacobian = found.beat, found.compared, None
    return Settled(
        states=beat.states,
        residual=found.residual,
        repeats=found.residual <= coarse.tightened(method.tolerance),
        beats=found.number,
        left=beat.left,
        errors=errors,
        coarse=coarse,
        jacobian=jacobian,
    )


@_settled.def_jvp
def _settled_jvp(primals, tangents):
    """Tangent of the fixed point y = Φ(y, p) on the surface c(y, p) = c(y_0(p), p).

    dy solves (I − ∂Φ/∂y) dy = ∂Φ/∂p dp with gᵀ dy = dc_0 − ∂c/∂p dp, see `FixedPoint`. The tangent
    of the whole beat is then the sum of the contributions of dp and of each entry of dy.
    """
    settled, linearised = _linearised(*primals, known_now(primals[0]))
    states = linear(_pushed, linearised, tangents[0], like=settled.states)
    nothing: Settled = jax.tree.map(lambda _: None, settled)
    return settled, nothing._replace(states=states)


class _Linearised(NamedTuple):
    """A periodic beat, linearised.

    Attributes:
        beats: The beat map.
        states: The state at each time, [time] on every leaf.
        newton: The inverse of the matrix of `FixedPoint`.
        weights: Its weights.
        repeats: Whether the beat repeats itself.
        compact: Whether a small program is better than a quick one.
    """

    beats: BeatMap
    states: Any
    newton: Float[Array, "state state"]
    weights: Float[Array, "conserved state"]
    repeats: Bool[Array, ""]
    compact: bool


@compiled
def _linearised(
    beats: BeatMap, method: AbstractIteration, compact: bool
) -> tuple[Settled, _Linearised]:
    settled = _found(beats, method, compact)
    states = jax.tree.map(differentiated_once, settled.states)
    y = jax.tree.map(lambda leaf: leaf[0], states)
    jacobian = settled.jacobian
    if jacobian is None:
        jacobian = as_one_function(Steps.jacobian_again, beats.steps(at_once=True), states)
    matrix, weights = FixedPoint.linearised(beats, y, jacobian)
    newton = inverse(matrix)
    return settled, _Linearised(beats, states, newton, weights, settled.repeats, compact)


@compiled
def _pushed(linearised: _Linearised, d_beats: Any) -> Any:
    """The tangents of the states, [time] on every leaf."""
    beats, states, newton, weights, repeats, compact = linearised
    # The tangents of an orbit that was not found are 0. Both outputs and inputs are masked: the
    # outputs for forward mode, and the inputs for the cotangents of reverse mode.

    def masked(tree):
        return jax.tree.map(lambda d: jnp.where(repeats, d, jnp.zeros_like(d)), tree)

    d_beats = masked(d_beats)
    y = jax.tree.map(lambda leaf: leaf[0], states)

    def departure(beats):
        """Return the conserved quantities of the initial state minus those of y."""
        return beats.conserved(beats.initial_state()) - beats.conserved(y)

    def inputs(beats):
        """What the steps need."""
        steps = beats.steps(at_once=True)
        return steps.constants, steps.xs

    steps = beats.steps(at_once=True)
    _, (d_constants, d_xs) = eqx.filter_jvp(inputs, (beats,), (d_beats,))
    _, d_conserved = eqx.filter_jvp(departure, (beats,), (d_beats,))
    # None if the conserved quantities do not depend on the differentiated inputs.
    d_right = 0.0 if d_conserved is None else weights.T @ d_conserved

    def pushed(given, d_y, d_given):
        """Return the tangents after each step, from the tangent at the start."""
        steps, states = given
        d_constants, d_xs = d_given
        before = jax.tree.map(lambda leaf: leaf[:-1], states)
        after = jax.tree.map(lambda leaf: leaf[1:], states)

        # Reverse mode stores the states and recomputes each step: otherwise it would have to read
        # sixty times as much memory.
        @eqx.filter_checkpoint
        def body(d_y, x):
            (before, x, end), d_x = x
            given, d_given = (steps.constants, before, x), (d_constants, d_y, d_x)
            _, d_y = eqx.filter_jvp(lambda *given: steps.again(*given, end), given, d_given)
            return d_y, d_y

        return jax.lax.scan(body, d_y, ((before, steps.xs, after), d_xs))

    def pushed_end(*args):
        return pushed(*args)[0]

    def pushed_states(*args):
        return pushed(*args)[1]

    given, d_given = (steps, states), (d_constants, d_xs)

    def at_start(d_end):
        """Solve for the tangent at the start, from that at the end of a beat from 0."""
        right = jnp.stack(jax.tree.leaves(d_end)) + d_right
        return jax.tree.unflatten(jax.tree.structure(y), list(newton @ right))

    def body(carry, _):
        d_y, _ = carry
        d_end, d_later = as_one_function(pushed, given, d_y, d_given)
        return (at_start(d_end), prepend(d_y, d_later)), None

    # The first beat gives the tangent at the start, and the second those of all states. Twice
    # through the beat costs less than storing the columns of its Jacobian after each step.
    still = jax.tree.map(jnp.zeros_like, (y, states))
    if compact:
        (_, d_states), _ = jax.lax.scan(body, still, length=2)
    else:
        d_y = at_start(as_one_function(pushed_end, given, still[0], d_given))
        d_states = prepend(d_y, as_one_function(pushed_states, given, d_y, d_given))
    return masked(d_states)
