"""How to differentiate the periodic orbit of a driven system."""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxtwin.physics.beat import BeatMap, prepend
from jaxtwin.physics.coarse import coarse_orbit, comparison
from jaxtwin.physics.fixed_point import FixedPoint, inverse
from jaxtwin.physics.iteration import AbstractIteration


class Settled(NamedTuple):
    """The beat that repeats itself.

    Attributes:
        states: The state at each time, [time] on every leaf.
        residual: Largest change of a state variable over it, see `Stats`.
        beats: How many beats were run on the full grid.
        left: Largest defect left in the equations of its steps, see `Stats`.
        errors: Estimated discretisation errors, see `Stats`.
        amplification: That of the beat map, see `CoarseOrbit`.
    """

    states: Any
    residual: Float[Array, ""]
    beats: Int[Array, ""]
    left: Float[Array, ""]
    errors: Any
    amplification: Float[Array, ""]


class AbstractAdjoint(eqx.Module):
    """How to find the beat that repeats itself, such that it can be differentiated."""

    @abc.abstractmethod
    def settle(self, beats: BeatMap, method: AbstractIteration) -> Settled:
        """The beat that repeats itself, differentiable with respect to the beat map's arrays.

        Args:
            beats: The beat map.
            method: How to get from beat to beat to the one that repeats itself.
        """


class ImplicitAdjoint(AbstractAdjoint):
    """Differentiate the periodic state by the implicit-function theorem.

    The cost is that of one beat with its Jacobian, whatever the number of beats it took. Where the
    orbit was not found all derivatives are 0. Second derivatives raise a NotImplementedError.
    """

    def settle(self, beats: BeatMap, method: AbstractIteration) -> Settled:
        """See `AbstractAdjoint`."""
        return _settled(beats, method)


class DirectAdjoint(AbstractAdjoint):
    """Differentiate through a fixed number of beats, started from the initial state.

    The plain, costly alternative that `ImplicitAdjoint` is checked against. Where the solution
    diverged derivatives may be NaN.

    Attributes:
        beats: How many beats to run, without looking at convergence.
    """

    beats: int = 15

    def settle(self, beats: BeatMap, method: AbstractIteration) -> Settled:
        """See `AbstractAdjoint`; of the method, only the tolerance is used, by the caller."""
        beat = beats.steps(at_once=True)
        y0, _ = jax.lax.scan(
            lambda y, _: (beat(y).end, None), beats.initial_state(), length=self.beats
        )
        last = beat(y0, record=True)
        coarse = jax.lax.stop_gradient(coarse_orbit(beats, y0, method.max_beats))
        errors = jax.lax.stop_gradient(comparison(beats, coarse.start, coarse.later)(last))
        number = jnp.array(self.beats + 1)
        return Settled(
            last.states, last.residual(), number, last.left, errors, coarse.amplification
        )


def held(where: Bool[Array, ""], tree: Any) -> Any:
    """The tree, with arrays that are constant under differentiation unless `where` holds.

    In reverse mode a cotangent of 0 that met an infinite slope beyond, 0 · inf = NaN, is 0 again.
    """
    return jax.tree.map(
        lambda x: jnp.where(where, x, jax.lax.stop_gradient(x)) if eqx.is_inexact_array(x) else x,
        tree,
    )


@jax.custom_jvp
def differentiated_once(x: Any) -> Any:
    """X itself, which says so where it is differentiated: see `ImplicitAdjoint`."""
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
    y0 = beats.initial_state()
    coarse = coarse_orbit(beats, y0, method.max_beats)
    compare = comparison(beats, coarse.start, coarse.later)
    found = method.settle(beats.steps(), y0, coarse, compare)
    beat, errors = found.beat, found.compared
    return Settled(
        beat.states, found.residual, found.number, beat.left, errors, coarse.amplification
    )


@_settled.def_jvp
def _settled_jvp(primals, tangents):
    """Tangent of the fixed point y = Φ(y, p) on the surface c(y, p) = c(y_0(p), p).

    That is (I − ∂Φ/∂y) dy = ∂Φ/∂p dp with gᵀ dy = dc_0 − ∂c/∂p dp, see `FixedPoint`. The
    tangent of the whole beat is then what dp does to it and what each entry of dy does.
    """
    beats, method = primals
    d_beats, _ = tangents
    settled = _settled(beats, method)
    # The tangents of an orbit that was not found are 0. They are set to 0 on both sides: of what
    # comes out for forward mode, of what goes in for reverse mode, whose cotangents go that way.
    ok = settled.residual <= method.tolerance

    def masked(tree):
        return jax.tree.map(lambda d: jnp.where(ok, d, jnp.zeros_like(d)), tree)

    d_beats = masked(d_beats)
    states = jax.tree.map(differentiated_once, settled.states)
    y = jax.tree.map(lambda leaf: leaf[0], states)

    def end(tree):
        """The last state, as a vector."""
        return jnp.stack([leaf[-1] for leaf in jax.tree.leaves(tree)])

    def departure(beats):
        """How far the initial state's conserved quantities are from those of y."""
        return beats.conserved(beats.initial_state()) - beats.conserved(y)

    def inputs(beats):
        """What the steps need."""
        _, constants, xs = beats.steps(at_once=True)
        return constants, xs

    step, constants, xs = beat_steps = beats.steps(at_once=True)
    _, (d_constants, d_xs) = eqx.filter_jvp(inputs, (beats,), (d_beats,))
    _, d_conserved = eqx.filter_jvp(departure, (beats,), (d_beats,))

    # Reverse mode keeps the states, and computes each step anew: what it would have to read
    # otherwise is sixty times as much.
    @eqx.filter_checkpoint
    def body(d_y, x):
        _, (d_y, _) = eqx.filter_jvp(step, (constants, *x[0]), (d_constants, d_y, x[1]))
        return d_y, d_y

    before = jax.tree.map(lambda leaf: leaf[:-1], states)
    still = jax.tree.map(jnp.zeros_like, y)
    direct = prepend(still, jax.lax.scan(body, still, ((before, xs), d_xs))[1])
    _, jacobian, columns = beat_steps.sensitivities(y, record=True)
    matrix, weights = FixedPoint.of(beats, y, jacobian)
    # None: what is differentiated does not touch it.
    right = end(direct) if d_conserved is None else end(direct) + weights.T @ d_conserved
    d_y = inverse(matrix) @ right
    d_states = jax.tree.map(
        lambda d, *column: d + sum(w * c for w, c in zip(d_y, column, strict=True)),
        direct,
        *columns,
    )
    nothing: Settled = jax.tree.map(lambda _: None, settled)
    return settled, nothing._replace(states=masked(d_states))
