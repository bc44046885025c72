"""Selected outputs of a system, by name."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtwin.physics.solution import Recording


class MissingChannelError(AttributeError, ValueError):
    """Error for a reading that needs an output that is not among the channels.

    Attributes:
        channel: Name of the missing output.
    """

    def __init__(self, message: str, channel: str):
        super().__init__(message)
        self.channel = channel


class Channels(eqx.Module):
    """Selected outputs of a system, by name: `channels.P_ao` or `channels["P_ao"]`.

    In a `Recording`, it replaces the system's tuple of outputs.

    Attributes:
        channel_names: Names of the outputs, in order.
        channel_values: Values of the outputs, in the same order.
    """

    channel_names: tuple[str, ...] = eqx.field(static=True)
    channel_values: tuple[Any, ...]

    def __getitem__(self, name: str) -> Any:
        """Get the output with this name.

        Raises:
            MissingChannelError: If it is not among the channels.
        """
        if name not in self.channel_names:
            raise MissingChannelError(
                f"{name} is not among the channels {', '.join(self.channel_names) or '(none)'}",
                name,
            )
        return self.channel_values[self.channel_names.index(name)]

    def __getattr__(self, name: str) -> Any:
        """Get the output with this name; see `__getitem__`."""
        if name.startswith("__") or name in ("channel_names", "channel_values"):
            raise AttributeError(name)  # While it is copied or built, the fields do not exist yet.
        return self[name]

    def __iter__(self):
        """Iterate over the values, in order."""
        return iter(self.channel_values)


def channels_of(names: Sequence[str], outputs: Any) -> Channels:
    """Select outputs of a system by name."""
    return Channels(tuple(names), tuple(getattr(outputs, name) for name in names))


def select(names: Sequence[str], recording: Recording[Any]) -> Recording[Channels]:
    """Return the recording with the named outputs only."""
    return Recording(
        channels_of(names, recording.maximum),
        channels_of(names, recording.minimum),
        channels_of(names, recording.waveforms),
        recording.duration,
    )


def stack(channels: Channels) -> Float[Array, "channel ..."]:
    """Stack the channels' values along a new first axis."""
    return jnp.stack(list(channels))


def by_name(outputs: Any) -> dict[str, Any]:
    """Return a tuple of outputs, or `Channels`, as a dict without nesting."""
    if isinstance(outputs, Channels):
        return dict(zip(outputs.channel_names, outputs.channel_values, strict=True))
    found = {}
    for name, value in outputs._asdict().items():
        found |= by_name(value) if nested(value) else {name: value}
    return found


def nested(value: Any) -> bool:
    """Whether an output is itself a tuple of outputs, such as those of a heart with a pump."""
    return hasattr(value, "_fields")
