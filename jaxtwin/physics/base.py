"""What a user writes to add a model: an `AbstractPeriodicSystem` or an `AbstractRecordedSystem`."""

import abc
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from jaxtwin.parameters import AbstractParameters, Scalar
from jaxtwin.physics.channels import MissingChannelError
from jaxtwin.physics.solution import Event, Outputs, Reading, Recording, Solution, State

if TYPE_CHECKING:
    from typing import ClassVar as AbstractClassVar
else:
    from equinox import AbstractClassVar

Parameters = TypeVar("Parameters", bound=AbstractParameters)


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


class AbstractRecordedSystem(AbstractSystem[State, Parameters, Outputs]):
    """A system that is watched from its initial state on, such as a tolerance test.

    Subclass it for a transient; for what repeats itself, `AbstractPeriodicSystem`.

    Attributes:
        steps: Solver steps over the duration. A model that needs more says so
            (`steps = 480` in its class); `check_system` compares with twice as many.
        time_unit: Unit of the duration, and of all other times that the system speaks of.
    """

    steps: ClassVar[int] = 240
    time_unit: ClassVar[str] = "s"

    @abc.abstractmethod
    def duration(self, p: Parameters) -> Scalar:
        """For how long it is watched [s]."""

    def scaling(self, p: Parameters) -> tuple[Outputs, Outputs]:
        """Offset and scale (> 0) that make (output − offset) / scale of order one.

        An emulator learns the outputs in these units. By default zeros and ones: it standardises
        over its training set as well. The closer to the model's own similarity law, the less is
        left to learn.
        """
        zero, outputs = 0.0 * self.duration(p), outputs_of(self)
        return jax.tree.map(lambda _: zero, outputs), jax.tree.map(lambda _: zero + 1.0, outputs)

    def readings(self) -> Mapping[str, Reading]:
        """What people read off its recordings, by name; {} by default.

        Losses, error tables and limits of cohorts speak of these numbers.
        """
        return {}

    def limits(self) -> Mapping[str, tuple[float, float]]:
        """By name of a reading, what a patient must be within to be met at all; {} by default.

        A box is wider than life. `draw_cohort` leaves out whoever is beyond.
        """
        return {}

    def safety(self) -> Mapping[str, Event]:
        """Safety events of a patient, by name; {} by default. Trials count them in every arm."""
        return {}

    def feasible(self, recording: Recording[Outputs]) -> Bool[Array | np.ndarray, "*patient"]:
        """Whether a patient can be as recorded; always true by default.

        Equations may go on where life does not, such as below an empty ventricle. A trial counts
        such a patient among the failures.
        """
        return jnp.ones_like(recording.duration, bool)


class AbstractPeriodicSystem(AbstractRecordedSystem[State, Parameters, Outputs]):
    """A system driven periodically, so that it settles into a periodic orbit (a beat)."""

    @abc.abstractmethod
    def period(self, p: Parameters) -> Scalar:
        """The period of the drive [s]."""

    def duration(self, p: Parameters) -> Scalar:
        """One period [s]."""
        return self.period(p)

    def conserved(self, state: State, p: Parameters) -> tuple[Scalar, ...]:
        """Quantities that stay constant along every solution; () by default.

        They pick one orbit out of a family, so the periodic state and its gradient need them:
        `check_system` finds one that is missing. They should be independent of each other and
        linear in the state, as volumes are: solvers conserve such quantities to rounding, others
        only as well as they solve.
        """
        del state, p
        return ()


def outputs_of(system: AbstractSystem) -> Any:
    """A system's outputs, as shapes: which there are, and their type."""

    def outputs() -> Any:
        p = system.parameters()
        return system.outputs(jnp.zeros(()), system.initial_state(p), p)

    return eqx.filter_eval_shape(outputs)


def check_channels(system: AbstractSystem, channels: str | Sequence[str]) -> tuple[str, ...]:
    """Return the channels as a tuple; a single name is one channel.

    Raises:
        ValueError: If there is none, or one is no output of the system.
    """
    channels = (channels,) if isinstance(channels, str) else tuple(channels)
    outputs = outputs_of(system)
    missing = [channel for channel in channels if not hasattr(outputs, channel)]
    if missing or not channels:
        raise ValueError(
            f"channels {channels} of {type(system).__name__}: expected at least one, all "
            f"out of {', '.join(outputs._fields)}"
        )
    return channels


def reading(system: AbstractRecordedSystem, name: str | Reading) -> Reading:
    """Return the system's reading of that name; a `Reading` of your own as it is.

    Raises:
        ValueError: If it has none.
    """
    if isinstance(name, Reading):
        return name
    known = system.readings()
    if name not in known:
        raise ValueError(
            f"{type(system).__name__} has no reading {name!r}: it has "
            f"{', '.join(known) or 'none'}; add it to the system's `readings`"
        )
    return known[name]


def read(
    system: AbstractRecordedSystem,
    beat: Recording[Any] | Solution[Any, Any],
    names: str | Reading | Iterable[str | Reading] | None = None,
) -> dict[Any, Any]:
    """Read numbers off a recording, such as `read(LeftHeart(), beat)["EF"]`.

    Made for `jax.vmap` and `jax.grad`.

    Args:
        system: The model.
        beat: One patient's recording or solution, or many patients'. A solution is read with all
            its steps.
        names: Readings of the system, or of your own; by default all that the system has.

    Returns:
        The numbers by what was asked for, in each reading's unit, [*patient].

    Raises:
        ValueError: If the system has no such reading, or an output that it needs was not recorded.
    """
    names = system.readings() if names is None else names
    names = [names] if isinstance(names, str | Reading) else names
    recording = beat.recording() if isinstance(beat, Solution) else beat

    def one(name: str | Reading) -> Any:
        try:
            return jnp.asarray(reading(system, name).of(recording))
        except MissingChannelError as error:
            shown = name if isinstance(name, str) else "a reading of your own"
            raise MissingChannelError(
                f"{shown} is read off {error.channel}, and only "
                f"{', '.join(recording.waveforms.channel_names)} are recorded: add that channel",
                error.channel,
            ) from None

    return {name: one(name) for name in names}


def readable(system: AbstractRecordedSystem, recording: Recording[Any]) -> dict[str, np.ndarray]:
    """Read all of the system's readings for which the recording has the outputs.

    Returns:
        The numbers by name, in each reading's unit, [*patient].
    """
    found = {}
    for name, one in system.readings().items():
        try:
            found[name] = np.asarray(one.of(recording))
        except MissingChannelError:
            continue
    return found


def check_rates(system: AbstractSystem, p: Any) -> None:
    """Raise a ValueError if the vector field does not give one scalar rate for each state."""
    state = system.initial_state(p)
    rates = eqx.filter_eval_shape(system.vector_field, jnp.zeros(()), state, p)
    shapes = {jnp.shape(leaf) for leaf in (*jax.tree.leaves(rates), *jax.tree.leaves(state))}
    if jax.tree.structure(rates) != jax.tree.structure(state) or shapes != {()}:
        raise ValueError(
            f"{type(system).__name__}.vector_field returns {rates}, where the state is "
            f"{jax.eval_shape(lambda: state)}: expected the rate of change of every state, one "
            "scalar each, in a tuple of the state's own type; check_system says more"
        )
