"""Base classes for models: `AbstractPeriodicSystem` and `AbstractRecordedSystem`."""

import abc
import dataclasses
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from jaxtwin.parameters import AbstractParameters, Scalar
from jaxtwin.physics.channels import MissingChannelError, by_name
from jaxtwin.physics.compilation import compiled, differentiable
from jaxtwin.physics.solution import Event, Outputs, Reading, Recording, Solution, State

if TYPE_CHECKING:
    from typing import ClassVar as AbstractClassVar
else:
    from equinox import AbstractClassVar

Parameters = TypeVar("Parameters", bound=AbstractParameters)


class AbstractSystem(eqx.Module, Generic[State, Parameters, Outputs]):
    """An ordinary differential equation for the physiology of one patient.

    Every method takes and returns scalars; apply `jax.vmap` for a batch. The state is a named tuple
    of scalars (`state.P_ao`), never an indexed vector: the equations read like those of a paper,
    and under vmap each entry becomes one contiguous array over patients.
    """

    parameters: AbstractClassVar[type[AbstractParameters]]

    @abc.abstractmethod
    def vector_field(self, t: Scalar, state: State, p: Parameters, /) -> State:
        """Return the time derivative of the state at time t, in its units per `time_unit`."""

    @abc.abstractmethod
    def initial_state(self, p: Parameters, /) -> State:
        """Return the state at t = 0."""

    def discontinuities(self, p: Parameters, /) -> tuple[Scalar, ...]:
        """Return the times [s] at which the vector field jumps for any state; () by default.

        Solvers end a step at each of them. For a periodic system, return those strictly inside one
        period; solvers always allow for a jump at the end of a period.
        """
        del p
        return ()

    @abc.abstractmethod
    def outputs(self, t: Scalar, state: State, p: Parameters, /) -> Outputs:
        """Return the observable quantities at time t [s]."""


class AbstractRecordedSystem(AbstractSystem[State, Parameters, Outputs]):
    """A system recorded from its initial state over a finite duration, such as a tolerance test.

    Subclass it for a transient; for a periodic system, subclass `AbstractPeriodicSystem`.

    Attributes:
        steps: Number of solver steps over the duration. A model that needs more sets it in its
            class (`steps = 480`); `check_system` compares with twice as many.
        time_unit: Unit of the duration and all other times of the system.
    """

    steps: ClassVar[int] = 240
    time_unit: ClassVar[str] = "s"

    @abc.abstractmethod
    def duration(self, p: Parameters, /) -> Scalar:
        """Return the duration of the recording [s]."""

    def scaling(self, p: Parameters, /) -> tuple[Outputs, Outputs]:
        """Return offset and scale (> 0) such that (output − offset) / scale is of order one.

        An emulator learns the outputs in these units. The default is zeros and ones, because the
        emulator also standardises over its training set. A scale that follows the model's
        similarity law leaves less to learn.
        """
        zero, outputs = 0.0 * self.duration(p), outputs_of(self)
        return jax.tree.map(lambda _: zero, outputs), jax.tree.map(lambda _: zero + 1.0, outputs)

    def readings(self) -> Mapping[str, Reading]:
        """Return the readings of a recording by name; {} by default.

        Losses, error tables and the limits of cohorts refer to these names.
        """
        return {}

    def limits(self) -> Mapping[str, tuple[float, float]]:
        """Return the plausible range (low, high) of readings by name; {} by default.

        A box also contains implausible patients. `draw_cohort` leaves out those beyond a range.
        """
        return {}

    def safety(self) -> Mapping[str, Event]:
        """Return the safety events by name; {} by default. Trials count them in every arm."""
        return {}

    def feasible(self, recording: Recording[Outputs]) -> Bool[Array | np.ndarray, "*patient"]:
        """Return whether the recording is physically possible; always true by default.

        Equations may have solutions that are not, such as a negative ventricular volume. A trial
        counts such a patient as a failure.
        """
        return jnp.ones_like(recording.duration, bool)


class AbstractPeriodicSystem(AbstractRecordedSystem[State, Parameters, Outputs]):
    """A periodically driven system, which settles into a periodic orbit (a beat)."""

    @abc.abstractmethod
    def period(self, p: Parameters, /) -> Scalar:
        """Return the period of the drive [s]."""

    def duration(self, p: Parameters, /) -> Scalar:
        """Return the period [s]."""
        return self.period(p)

    def conserved(self, state: State, p: Parameters, /) -> tuple[Scalar, ...]:
        """Return the quantities that stay constant along every solution; () by default.

        They select one orbit of a family, so the periodic state and its gradient depend on them;
        `check_system` finds missing ones. They should be independent of each other and linear in
        the state, like volumes: solvers conserve linear quantities to rounding, others only to
        the accuracy of the solution.
        """
        del state, p
        return ()


def check_instance(system: Any) -> None:
    """Raise a ValueError if this is not an instance of a system."""
    if isinstance(system, AbstractSystem):
        return
    if isinstance(system, type) and issubclass(system, AbstractSystem):
        name = system.__name__
        raise ValueError(
            f"system is the class {name}: expected an instance of a system, write {name}()"
        )
    raise ValueError(
        f"system is {kind_of(system)}: expected an instance of a system, a subclass of "
        "AbstractPeriodicSystem or AbstractRecordedSystem"
    )


def check_recorded(system: Any) -> None:
    """Raise a ValueError if this is not an instance of a system with a duration."""
    check_instance(system)
    if not isinstance(system, AbstractRecordedSystem):
        raise ValueError(
            f"{type(system).__name__} has no duration: use `simulate`, or make it an "
            "AbstractPeriodicSystem or AbstractRecordedSystem"
        )


def check_patient(system: Any, p: Any) -> None:
    """Check that these are a system and the values of all its parameters, for one patient.

    Raises:
        ValueError: If they are not, a value is missing, or there are several patients without vmap.

    Warns:
        UserWarning: If a concrete value is beyond its declared bounds by more than ten times their
            width.
    """
    check_instance(system)
    expected = system.parameters
    if isinstance(p, expected):
        return _check_values(p)
    # Another class with all these parameters is as good, such as that of a notebook's cell which
    # was run again.
    names = [field.name for field in dataclasses.fields(expected)]
    if isinstance(p, AbstractParameters) and all(hasattr(p, name) for name in names):
        return _check_values(p)
    raise ValueError(
        f"p is {kind_of(p)}: expected the parameters of {type(system).__name__}, "
        f"system.parameters({names[0]}=..., ...), an instance of {expected.__name__}"
    )


def _check_values(p: AbstractParameters) -> None:
    """Check the values of one patient's parameters; those being traced have only a shape."""
    beyond = []
    for name, spec in type(p).specs().items():
        value = getattr(p, name)
        if value is None:
            raise ValueError(f"{name} of {type(p).__name__} is None: expected a number")
        if np.shape(value) != ():
            raise ValueError(
                f"{name} of {type(p).__name__} has shape {np.shape(value)}: expected one number; "
                "for many patients, apply jax.vmap"
            )
        if spec.bounds is None or isinstance(value, jax.core.Tracer):
            continue
        low, high = spec.bounds
        number = float(value)  # Inside jit, JAX would trace a comparison of its constants.
        # Boxes may be much wider than the declared bounds; a slip in the unit is further away.
        margin = 10 * (high - low)
        if not low - margin <= number <= high + margin:
            beyond.append(f"{name} = {number:g} {spec.unit}, bounds {low:g} to {high:g}")
    if beyond:
        warnings.warn(
            f"parameters of {type(p).__name__} far outside their bounds: {'; '.join(beyond)}. "
            "Check their units; if the values are intended, ignore this warning",
            stacklevel=4,
        )


def kind_of(value: Any) -> str:
    """Return what a value is, for a message: "the class LeftHeart" or "of type int"."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"of type {type(value).__name__}"


def outputs_of(system: AbstractSystem) -> Any:
    """Return the shapes and types of a system's outputs.

    Raises:
        ValueError: If this is not an instance of a system.
    """
    check_instance(system)

    def outputs() -> Any:
        p = system.parameters()
        return system.outputs(jnp.zeros(()), system.initial_state(p), p)

    return eqx.filter_eval_shape(outputs)


def check_channels(system: AbstractSystem, channels: str | Sequence[str]) -> tuple[str, ...]:
    """Return the channels as a tuple; a single name is accepted as a string.

    Raises:
        ValueError: If there are none, one of them is not an output of the system, or the system is
            not an instance.
    """
    channels = (channels,) if isinstance(channels, str) else tuple(channels)
    known = by_name(outputs_of(system))
    missing = [channel for channel in channels if channel not in known]
    if missing or not channels:
        raise ValueError(
            f"channels {channels} of {type(system).__name__}: expected at least one, all "
            f"out of {', '.join(known)}"
        )
    return channels


def reading(system: AbstractRecordedSystem, name: str | Reading) -> Reading:
    """Return the system's reading with this name; a `Reading` is returned unchanged.

    Raises:
        ValueError: If the system has no such reading.
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
    """Compute readings from a recording, such as `read(LeftHeart(), beat)["EF"]`.

    Works under `jax.vmap` and `jax.grad`.

    Args:
        system: The model.
        beat: Recording or solution of one or many patients. All steps of a solution are used.
        names: Names of the system's readings, or `Reading`s; by default all readings of the system.

    Returns:
        Value of each reading in its unit, [*patient], by the name or `Reading` given.

    Raises:
        ValueError: If the system has no such reading, a required output was not recorded, or an
            argument is of the wrong type.
    """
    check_instance(system)
    if not isinstance(beat, Recording | Solution):
        raise ValueError(
            f"beat is {kind_of(beat)}: expected a Solution or a Recording, such as "
            "record(system, p); a cohort has `cohort.read(names)`"
        )
    names = system.readings() if names is None else names
    names = [names] if isinstance(names, str | Reading) else names
    recording = beat.recording() if isinstance(beat, Solution) else beat

    names = tuple(names)
    own = tuple(name for name in names if isinstance(name, str))
    found: dict[Any, Any] = {}
    # Functions of NumPy arrays may be of NumPy.
    if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(recording)):
        found |= zip(own, _own_readings(system, own, recording), strict=True)
    return {
        name: found[name] if name in found else _reading(system, name, recording) for name in names
    }


@differentiable
@compiled
def _own_readings(
    system: AbstractRecordedSystem, names: tuple[str, ...], recording: Recording[Any]
) -> list[Any]:
    """Compute readings of the system itself, compiled as a whole."""
    return [_reading(system, name, recording) for name in names]


def _reading(system: AbstractRecordedSystem, name: str | Reading, recording: Recording[Any]) -> Any:
    try:
        return jnp.asarray(reading(system, name).function(recording))
    except MissingChannelError as error:
        shown = name if isinstance(name, str) else "the given reading"
        raise MissingChannelError(
            f"{shown} is read off {error.channel}, and only "
            f"{', '.join(recording.waveforms.channel_names)} are recorded: add that channel",
            error.channel,
        ) from None


def readable_names(system: AbstractRecordedSystem, make: Callable[[], Recording[Any]]) -> list[str]:
    """Return the readings for which a function's recordings have the outputs, without running it.

    Args:
        system: The model.
        make: Function that makes a recording.
    """
    found: list[str] = []

    def read_all() -> None:
        recording = make()
        for name, one in system.readings().items():
            try:
                one.function(recording)
            except MissingChannelError:
                continue
            found.append(name)

    jax.eval_shape(read_all)
    return found


def readable(system: AbstractRecordedSystem, recording: Recording[Any]) -> dict[str, np.ndarray]:
    """Compute all readings of the system for which the recording has the outputs.

    Returns:
        Value of each reading in its unit, [*patient], by name.
    """
    found = {}
    for name, one in system.readings().items():
        try:
            found[name] = np.asarray(one.function(recording))
        except MissingChannelError:
            continue
    return found


def check_rates(system: AbstractSystem, p: Any) -> None:
    """Raise a ValueError if the vector field does not return one scalar rate per state."""
    state = system.initial_state(p)
    rates = eqx.filter_eval_shape(system.vector_field, jnp.zeros(()), state, p)
    shapes = {jnp.shape(leaf) for leaf in (*jax.tree.leaves(rates), *jax.tree.leaves(state))}
    if jax.tree.structure(rates) != jax.tree.structure(state) or shapes != {()}:
        raise ValueError(
            f"{type(system).__name__}.vector_field returns {rates}, where the state is "
            f"{jax.eval_shape(lambda: state)}: expected the rate of change of every state, one "
            "scalar each, in a tuple of the state's own type; check_system says more"
        )
