"""Checks of tasks with curves, and of what was measured."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jaxtwin.methods.measured import Channel
from jaxtwin.parameters import Box
from jaxtwin.physics.base import AbstractPeriodicSystem, outputs_of, read
from jaxtwin.physics.channels import Channels, MissingChannelError, by_name
from jaxtwin.physics.solution import Recording


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
