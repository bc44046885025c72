"""What a user writes to add a model: an `AbstractPeriodicSystem`, or an `AbstractSystem`."""

import abc
from typing import TYPE_CHECKING, Generic, TypeVar

import equinox as eqx

from jaxtwin.parameters import AbstractParameters, Scalar

if TYPE_CHECKING:
    from typing import ClassVar as AbstractClassVar
else:
    from equinox import AbstractClassVar

State = TypeVar("State")
"""A small named tuple of scalars, one entry a state variable."""
Parameters = TypeVar("Parameters", bound=AbstractParameters)
Outputs = TypeVar("Outputs")
"""A small named tuple of scalars, one entry a quantity that can be observed."""


class AbstractSystem(eqx.Module, Generic[State, Parameters, Outputs]):
    """An ordinary differential equation of one patient's physiology.

    Every method takes and gives scalars; batches are `jax.vmap` outside. The state is a
    named tuple of scalars (`state.P_ao`), never an indexed vector: the equations read like
    the paper's, and under vmap each entry becomes one contiguous array over patients.
    """

    parameters: AbstractClassVar[type[AbstractParameters]]

    @abc.abstractmethod
    def vector_field(self, t: Scalar, state: State, p: Parameters) -> State:
        """The time derivative of the state [its unit / s] at time t [s]."""

    @abc.abstractmethod
    def initial_state(self, p: Parameters) -> State:
        """The state at t = 0."""

    def discontinuities(self, p: Parameters) -> tuple[Scalar, ...]:
        """Times at which the vector field jumps, whatever the state [s]; () by default.

        Solvers end a step at each. Of a periodic system those strictly inside one period:
        that the drive may jump where a period ends is taken for granted.
        """
        del p
        return ()

    @abc.abstractmethod
    def outputs(self, t: Scalar, state: State, p: Parameters) -> Outputs:
        """What can be observed of the state at time t [s]."""


class AbstractPeriodicSystem(AbstractSystem[State, Parameters, Outputs]):
    """A system driven periodically, so that it settles into a periodic orbit (a beat)."""

    @abc.abstractmethod
    def period(self, p: Parameters) -> Scalar:
        """The period of the drive [s]."""

    @abc.abstractmethod
    def conserved(self, state: State, p: Parameters) -> tuple[Scalar, ...]:
        """Quantities that stay constant along every solution; () where there are none.

        They pick one orbit out of a family, so the periodic state's gradient needs them. They
        should be independent of each other and linear in the state, as volumes are: solvers
        conserve such quantities to rounding, others only as well as they solve.
        """

    @abc.abstractmethod
    def scaling(self, p: Parameters) -> tuple[Outputs, Outputs]:
        """Offset and scale (> 0) that make (output − offset) / scale of order one.

        An emulator learns the outputs in these dimensionless units. Zeros and ones are a
        valid answer; the closer to the model's own similarity law, the less is left to learn.
        """


class AbstractVentricle(AbstractPeriodicSystem[State, Parameters, Outputs]):
    """A circuit with a left ventricle and an aorta, to which a pump can be attached.

    Its outputs have at least V_lv [mL], P_lv, P_ao and P_la [mmHg], the valve flows q_m and q_a
    and the systemic flow q_s [mL/s]: what `observables` reads.
    """

    @abc.abstractmethod
    def divert(self, rates: State, flow: Scalar, p: Parameters) -> State:
        """The rates of change where a flow [mL/s] leaves the ventricle and enters the aorta."""
