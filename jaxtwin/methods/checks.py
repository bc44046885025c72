"""Checks of tasks with curves, and of what was measured."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jaxtwin.methods.measured import Channel, Curves
from jaxtwin.parameters import Box, NormalPrior
from jaxtwin.physics.base import AbstractPeriodicSystem, outputs_of, read
from jaxtwin.physics.channels import Channels, MissingChannelError, by_name
from jaxtwin.physics.solution import Recording


def check_named_once(
    system: Any, channel: str, beside: Sequence[Channel], hidden: Sequence[str]
) -> None:
    """Raise a ValueError if an output of a task stands for two things.

    Args:
        system: The model.
        channel: Name of the measured output.
        beside: What else is measured.
        hidden: Names of outputs that are to be estimated.
    """
    outputs = by_name(outputs_of(system))
    names = [channel, *(c.name for c in beside if c.name in outputs), *hidden]
    if len(set(names)) < len(names):
        raise ValueError(
            f"channel {channel!r} is measured, beside {', '.join(c.name for c in beside) or 'none'}"
            f", and {', '.join(hidden) or 'none'} are hidden: expected each output once"
        )
    doubled = [name for name in names if name in system.readings()]
    if doubled:
        raise ValueError(
            f"{', '.join(doubled)} is the name of a channel and of a reading of "
            f"{type(system).__name__}: rename the reading"
        )


def check_free(box: Box, known: Sequence[str], prior: NormalPrior | None) -> None:
    """Raise a ValueError unless known parameters are some of the box, and a prior is of all."""
    if not set(known) < set(box.names) or len(set(known)) < len(known):
        raise ValueError(
            f"known parameters {known}: expected some of the free ones, {', '.join(box.names)}, "
            "each once, and not all"
        )
    if prior is not None and len(prior.mean) != len(box.names):
        raise ValueError(
            f"a prior of {len(prior.mean)} parameters for a box of {', '.join(box.names)}: make it "
            "with NormalPrior.of(box, theta)"
        )


def check_measured(
    system: Any, measured: Sequence[Channel], samples: int, recorded: Sequence[str]
) -> None:
    """Check the channels that are measured in a system, and that readings can be computed.

    Args:
        system: The model.
        measured: The channels.
        samples: Number of phases at which outputs are recorded.
        recorded: Names of these outputs.

    Raises:
        ValueError: If a channel is neither an output nor a reading of the system, is measured
            twice, has phases or a start that the system has not, or needs another output.
    """
    names = [channel.name for channel in measured]
    if len(set(names)) < len(names):
        raise ValueError(f"{', '.join(names)} are measured: expected each once")
    outputs, kind = by_name(outputs_of(system)), type(system).__name__
    periodic, last = isinstance(system, AbstractPeriodicSystem), (samples - 1) / samples
    ends, curves = (
        Channels(tuple(recorded), (x,) * len(recorded)) for x in (np.ones(()), np.ones(samples))
    )
    blank = Recording(ends, ends, curves, np.ones(()))
    for channel in measured:
        if channel.name in outputs:
            if channel.unknown_start and not periodic:
                raise ValueError(f"{channel.name} of unknown start, and {kind} is not periodic")
            if len(channel.phases) < 2 or not (periodic or channel.phases[-1] <= last):
                raise ValueError(
                    f"{channel.name} at phases {channel.phases}: expected at least 2, of a "
                    f"transient up to {last:.3g}; Channel(..., samples=...) sets them"
                )
            continue
        if channel.name not in system.readings():
            raise ValueError(
                f"{channel.name} is measured, and it is neither an output of {kind} "
                f"({', '.join(outputs)}) nor a reading ({', '.join(system.readings()) or 'none'})"
            )
        if len(channel.phases) > 1:
            raise ValueError(
                f"{channel.name} is a reading, a number: expected samples=1, not {channel.samples}"
            )
        try:
            read(system, blank, channel.name)
        except MissingChannelError as error:
            raise ValueError(
                f"{channel.name} is read off {error.channel}, which is not among "
                f"{', '.join(recorded)}: add it to `hidden`"
            ) from None


def check_known(box: Box, names: Sequence[str], known: Float[np.ndarray, "patient known"]) -> None:
    """Raise a ValueError if the known value of a parameter is outside the box."""
    for name, column in zip(names, known.T, strict=True):
        spec = box.specs[box.names.index(name)]
        low, high = np.asarray(spec.bounds, np.float32)
        outside = np.flatnonzero(~((column >= low) & (column <= high)))
        if outside.size:
            i = outside[0]
            raise ValueError(
                f"known {name} of patient {i} is {column[i]:g}, for {outside.size} of "
                f"{len(column)} patients outside the box: expected {low:g} to {high:g} "
                f"{spec.unit} ({spec.meaning}); check the unit, or make a wider box"
            )


def warn_of_nothing(usable: Bool[np.ndarray, " patient"]) -> None:
    """Warn of patients in whom nothing was measured."""
    if (none := np.flatnonzero(~usable)).size:
        shown = ", ".join(map(str, none[:5])) + ", ..." * (none.size > 5)
        warnings.warn(
            f"nothing was measured in {none.size} of {len(usable)} patients (patients {shown}): "
            "they get no estimate (success is False)",
            stacklevel=4,
        )


def warn_of_gaps(values: Float[np.ndarray, "patient sample"], noise: Any) -> None:
    """Warn of gaps and of a noise of each sample, for a method that takes neither."""
    missing = np.sum(~np.isfinite(values), axis=1)
    if (broken := np.flatnonzero(missing)).size:
        shown = ", ".join(f"patient {i}: {missing[i]} of {values.shape[1]}" for i in broken[:5])
        warnings.warn(
            f"{broken.size} of {len(values)} curves have samples that are NaN or infinite ({shown}"
            f"{', ...' * (broken.size > 5)}), and this method needs all samples: it may give no "
            "estimate of these patients (success is False); interpolate the missing samples",
            stacklevel=4,
        )
    if noise is not None:
        warnings.warn("this method ignores the noise of each sample", stacklevel=4)


def check_beside(
    channel: str,
    beside: Sequence[Channel],
    measured: Mapping[str, Curves],
    patients: int,
    periodic: bool,
) -> dict[str, Curves]:
    """Return what was measured beside a curve, checked; see `Channel.check`.

    Args:
        channel: Name of the curve's output.
        beside: What should be measured beside it.
        measured: What was measured, by name.
        patients: Number of curves.
        periodic: Whether curves repeat themselves.

    Raises:
        ValueError: If something else was measured, or in another number of patients.
    """
    names = [each.name for each in beside]
    if set(measured) != set(names):
        raise ValueError(
            f"{', '.join(measured) or 'nothing'} is measured beside {channel}: expected "
            f"{', '.join(names) or 'nothing'}, as Curves(values, beside="
            "{NAME: Curves(values of shape [patient, sample])}); NaN where a patient has none"
        )
    found = {each.name: each.check(measured[each.name], periodic=periodic) for each in beside}
    for name, part in found.items():
        if (number := len(part.values)) != patients:
            raise ValueError(f"{name} of {number} patients beside {channel} of {patients}")
    return found


def check_labels(
    measured: Curves, channel: str, patients: int, *, required: bool
) -> dict[str, Float[np.ndarray, " patient"]]:
    """Return the labels of curves, "maximum" and "minimum", in float32, as far as there are any.

    Args:
        measured: The curves.
        channel: Name of their output.
        patients: Number of curves.
        required: Whether both are needed.

    Raises:
        ValueError: If a label is missing that is required, or is not one number per curve.
    """
    found = {}
    for name in ("maximum", "minimum"):
        label = getattr(measured, name)
        if label is None:
            if required:
                raise ValueError(
                    f"the curves have no labels, and this method learns from them: give "
                    f"Curves(values, known, maximum, minimum), the extremes of {channel} "
                    "without noise, or choose a method that needs none, such as CurvePSSL"
                )
            continue
        found[name] = np.asarray(label, np.float32)
        if found[name].shape != (patients,):
            raise ValueError(
                f"{name} of shape {found[name].shape}: expected ({patients},), one per curve"
            )
    return found


def require_period(system: Any, method: Any) -> None:
    """Raise a ValueError if a method that is periodic by construction gets a transient."""
    if not isinstance(system, AbstractPeriodicSystem):
        raise ValueError(
            f"{type(method).__name__} knows only curves that repeat themselves, and "
            f"{type(system).__name__} is not an AbstractPeriodicSystem: use P-SSL, "
            "least squares or supervised regression"
        )
