"""A system whose equations are data: what a model file becomes."""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxtwin.exchange.equations import Equations, Variable, in_order
from jaxtwin.exchange.expression import as_number, evaluate
from jaxtwin.parameters import AbstractParameters, Scalar, parameter
from jaxtwin.physics.base import AbstractPeriodicSystem, AbstractRecordedSystem, AbstractSystem
from jaxtwin.physics.solution import Reading


class AbstractLoaded(AbstractSystem[Any, Any, Any]):
    """A system with equations from a file, in the names and units of the file.

    Every file has a class of its own, see `system_of`.

    Attributes:
        equations: The equations.
        length: Duration or period, in the model's unit of time: a number, or the name of the
            parameter that has it.
        states: Named tuple of the states.
        channels: Named tuple of the outputs.
        digest: Digest of the equations, by which two files are told apart.
    """

    equations: ClassVar[Equations]
    length: ClassVar[float | str]
    states: ClassVar[Any]
    channels: ClassVar[Any]
    digest: eqx.AbstractVar[str]

    def vector_field(self, t: Scalar, state: Any, p: Any) -> Any:
        """Return the rates of the file's equations."""
        values = self._values(t, state, p)
        return self.states(*(_scalar(rate, values, t) for rate in self.equations.rates))

    def initial_state(self, p: Any) -> Any:
        """Return the values at t = 0 of the file, which may depend on parameters."""
        values = self._at_start(p)
        return self.states(*(values[one.name] for one in self.equations.states))

    def outputs(self, t: Scalar, state: Any, p: Any) -> Any:
        """Return states, assigned variables and, where they differ, what the file calls them."""
        values = self._values(t, state, p)
        return self.channels(*(jnp.asarray(values[n], float) for n in self.equations.outputs))

    def discontinuities(self, p: Any) -> tuple[Scalar, ...]:
        """Return the times at which the file's expressions switch."""
        if not self.equations.jumps:
            return ()
        values, length = self.constants(p), self._length(p)
        times = [_scalar(jump, values, 0.0) for jump in self.equations.jumps]
        # Others are moved to the end, where a step ends anyway.
        return tuple(jnp.where((t > 0) & (t < length), t, length) for t in times)

    def readings(self) -> Mapping[str, Reading]:
        """Return the largest, smallest and mean value of every state, such as `glucose_max`."""
        found = {}
        for one in self.equations.states:
            found[f"{one.name}_max"] = Reading(one.unit, _Extreme("maximum", one.name))
            found[f"{one.name}_min"] = Reading(one.unit, _Extreme("minimum", one.name))
            found[f"{one.name}_mean"] = Reading(one.unit, _Mean(one.name))
        return found

    def _length(self, p: Any) -> Any:
        name = self.length
        return getattr(p, name) if isinstance(name, str) else jnp.asarray(name, float)

    def _parameters(self, p: Any) -> dict[str, Any]:
        return {one.name: getattr(p, one.name) for one, _ in self.equations.parameters}

    def _at_start(self, p: Any) -> dict[str, Any]:
        """Return the values of all that is known at t = 0."""
        values, expressions = self._parameters(p), at_start(self.equations)
        for name in in_order(expressions):
            values[name] = _scalar(expressions[name], values, 0.0)
        return values

    def constants(self, p: Any) -> dict[str, Any]:
        """Return the values of parameters and of what is computed once, by name."""
        values = self._parameters(p)
        if not self.equations.fixed:
            return values
        found = self._at_start(p)
        return values | {one.name: found[one.name] for one, _ in self.equations.fixed}

    def _values(self, t: Any, state: Any, p: Any) -> dict[str, Any]:
        """Return the values of all variables at a time."""
        values = self.constants(p) | state._asdict()
        for one, expression in self.equations.assigned:
            values[one.name] = as_number(evaluate(expression, values, t))
        return values


class LoadedSystem(AbstractLoaded, AbstractRecordedSystem[Any, Any, Any]):
    """A model file's system, over a finite duration.

    Attributes:
        digest: Digest of the equations.
    """

    digest: str = eqx.field(static=True)

    def duration(self, p: Any) -> Scalar:
        """Return the duration."""
        return self._length(p)


class LoadedPeriodicSystem(AbstractLoaded, AbstractPeriodicSystem[Any, Any, Any]):
    """A model file's system that is driven periodically.

    Attributes:
        digest: Digest of the equations.
        constants_of_motion: Weights of the states in each quantity that stays constant, such as a
            circulation's volume, see `conserved_sums`.
    """

    digest: str = eqx.field(static=True)
    constants_of_motion: tuple[tuple[float, ...], ...] = eqx.field(static=True, default=())

    def period(self, p: Any) -> Scalar:
        """Return the period."""
        return self._length(p)

    def conserved(self, state: Any, p: Any) -> tuple[Scalar, ...]:
        """Return the sums of states that stay constant."""
        del p
        found: Any = tuple(
            sum(w * x for w, x in zip(weights, state, strict=True) if w)
            for weights in self.constants_of_motion
        )
        return found


def conserved_sums(system: AbstractLoaded) -> tuple[tuple[float, ...], ...]:
    """Return the weights of all sums of states that no state changes.

    They are the vectors orthogonal to the rates at random states and times: what the equations
    conserve whatever the state. Of a sum of some states, weights are 1; they are found to 1e-6, and
    taken as the nearest of 0, 1 and −1 if they are as close as that.
    """
    with jax.enable_x64(True):
        p = system.parameters()
        start, tree = jax.tree.flatten(system.initial_state(p))
        middle, n = np.array([float(x) for x in start]), len(start)
        random = np.random.default_rng(0)
        spread = np.where(middle == 0, 1.0, np.abs(middle))
        states = middle + 0.3 * spread * random.uniform(-1, 1, (20 * n + 50, n))
        times = random.uniform(0, float(system._length(p)), len(states))

        def rates(t: Any, y: Any) -> Any:
            state = jax.tree.unflatten(tree, list(y))
            return jnp.stack(jax.tree.leaves(system.vector_field(t, state, p)))

        found = np.asarray(jax.jit(jax.vmap(rates))(jnp.asarray(times), jnp.asarray(states)))
    found = found[np.isfinite(found).all(axis=1)]
    scale = np.abs(found).max(axis=0, initial=0.0)
    moving = np.flatnonzero(scale > 0)
    if not len(found) or not len(moving):
        return ()
    # Relative to the largest rate of all, so that small states do not look constant.
    _, size, directions = np.linalg.svd(found[:, moving] / np.linalg.norm(found, axis=1)[:, None])
    null = directions[np.sum(size > 1e-9 * size[0]) :]
    weights = np.zeros((len(null), n))
    weights[:, moving] = _reduced(null)
    nearest = np.round(weights)
    weights = np.where(
        (np.abs(weights - nearest) < 1e-6) & (np.abs(nearest) <= 1), nearest, weights
    )
    still = np.eye(n)[[i for i in range(n) if i not in moving]]
    return tuple(tuple(row) for row in np.concatenate([weights, still]).tolist())


def _reduced(vectors: np.ndarray) -> np.ndarray:
    """Return a basis of the same space in reduced echelon form."""
    rows = vectors.copy()
    used: list[int] = []
    for i in range(len(rows)):
        free = np.abs(rows[i])
        free[used] = 0
        j = int(np.argmax(free))
        rows[i] /= rows[i, j]
        for k in range(len(rows)):
            if k != i:
                rows[k] -= rows[k, j] * rows[i]
        used.append(j)
    return rows


class _Extreme(NamedTuple):
    """Largest or smallest value of an output, which a fingerprint can describe."""

    which: str
    name: str

    def __call__(self, recording: Any) -> Any:
        return getattr(getattr(recording, self.which), self.name)


class _Mean(NamedTuple):
    """Mean of an output over time."""

    name: str

    def __call__(self, recording: Any) -> Any:
        return getattr(recording.waveforms, self.name).mean(-1)


def at_start(equations: Equations) -> dict[str, Any]:
    """Return the expressions of all that is computed at t = 0, by name."""
    initial = zip(equations.states, equations.initial, strict=True)
    parts = (*equations.fixed, *initial, *equations.assigned)
    return {one.name: expression for one, expression in parts}


def system_of(
    equations: Equations, length: float | str, *, periodic: bool, steps: int, source: str
) -> LoadedSystem | LoadedPeriodicSystem:
    """Return the system of some equations.

    Args:
        equations: The equations.
        length: Duration or period: a number, or the name of the parameter that has it.
        periodic: Whether it is a period.
        steps: Number of solver steps over it.
        source: Where the parameters' values are from.
    """
    name = "".join(part.capitalize() for part in equations.name.split("_")) or "Model"

    def tuple_of(what: str, variables: tuple[Variable, ...]) -> Any:
        fields = [(one.name, Annotated[Scalar, one.unit, one.meaning]) for one in variables]
        made: Any = NamedTuple(f"{name}{what}", fields)  # pyright: ignore
        return made

    known = {one.name: one for one, _ in (*equations.parameters, *equations.assigned)}
    known |= {one.name: one for one in equations.states}
    known |= {one.name: one for one, _ in equations.fixed}
    fields = {
        one.name: parameter(value, None, one.unit, one.meaning)
        for one, value in equations.parameters
    }
    parameters = _class(
        f"{name}Parameters",
        AbstractParameters,
        {
            **fields,
            "__annotations__": dict.fromkeys(fields, Scalar),
            "__doc__": f"Parameters of the model {equations.name}, as in {source}.",
            "source": source,
        },
    )
    base = LoadedPeriodicSystem if periodic else LoadedSystem
    kind = _class(
        name,
        base,
        {
            "__doc__": f"The model {equations.name}, as in {source}.",
            "parameters": parameters,
            "equations": equations,
            "length": length,
            "states": tuple_of("State", equations.states),
            "channels": tuple_of("Outputs", tuple(known[n] for n in equations.outputs)),
            "steps": steps,
            "time_unit": equations.time_unit,
        },
    )
    text = repr((equations, length, periodic))
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    made = kind(digest)
    return kind(digest, conserved_sums(made)) if periodic else made


def _class(name: str, base: Any, content: Mapping[str, Any]) -> Any:
    """Return a class of this module, made of data alone."""
    return type(base)(name, (base,), {"__module__": __name__, **content})


def _scalar(expression: Any, values: Mapping[str, Any], t: Any) -> Any:
    return jnp.asarray(as_number(evaluate(expression, values, t)), float)
