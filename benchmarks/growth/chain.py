"""A system of any number of states: a chain of compartments."""

import collections
import functools
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp

from jaxtwin.parameters import AbstractParameters, Scalar, parameter
from jaxtwin.physics.base import AbstractPeriodicSystem


class ChainParameters(AbstractParameters):
    """Parameters of a chain of compartments, of all of them together."""

    T: Scalar = parameter(0.8, (0.5, 1.5), symbol="T", unit="s", meaning="period")
    R: Scalar = parameter(1.0, (0.5, 2.0), symbol="R", unit="mmHg·s/mL", meaning="resistance")
    C: Scalar = parameter(1.0, (0.5, 2.0), symbol="C", unit="mL/mmHg", meaning="compliance")


class Chain(AbstractPeriodicSystem[Any, ChainParameters, Any]):
    """n compartments in a row: (C/n) dP_i/dt = q_{i−1} − q_i with q_i = (P_i − P_{i+1}) n/R.

    The inflow is q_0 = 200 max(sin(2πt/T), 0) mL/s, and the last compartment empties into 5 mmHg.

    Attributes:
        names: Names of the states.
    """

    parameters: ClassVar = ChainParameters
    names: tuple[str, ...] = eqx.field(static=True)

    def initial_state(self, p: ChainParameters) -> Any:
        """Return the pressure of the veins everywhere."""
        return _state(self.names)(*(5.0 + 0.0 * p.R for _ in self.names))

    def vector_field(self, t: Scalar, state: Any, p: ChainParameters) -> Any:
        """Evaluate the equations of the class."""
        n = len(self.names)
        inflow = 200 * jnp.maximum(jnp.sin(2 * jnp.pi * t / p.T), 0.0)
        pressures = [*state, 5.0]
        flows = [(a - b) * n / p.R for a, b in zip(state, pressures[1:], strict=True)]
        into = [inflow, *flows[:-1]]
        return _state(self.names)(*((a - b) * n / p.C for a, b in zip(into, flows, strict=True)))

    def outputs(self, t: Scalar, state: Any, p: ChainParameters) -> Any:
        """Return the pressure of the first compartment."""
        return state[0]

    def period(self, p: ChainParameters) -> Scalar:
        """Return T."""
        return p.T


@functools.cache
def _state(names: tuple[str, ...]) -> Any:
    """Return the type of a chain's state, always the same one for the same names."""
    return collections.namedtuple("ChainState", names)


def chain(n: int) -> Chain:
    """Return a chain of n compartments."""
    return Chain(tuple(f"P_{i}" for i in range(1, n + 1)))
