"""The emulator: a network that replaces the simulator."""

import dataclasses
import functools
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, PRNGKeyArray

from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.simulate import check_box, check_phases
from jaxtwin.forward.base import AbstractForward
from jaxtwin.identity import differences, fingerprint
from jaxtwin.parameters import Box, Theta
from jaxtwin.physics.base import AbstractRecordedSystem, check_channels
from jaxtwin.physics.channels import Channels, select
from jaxtwin.physics.solution import Recording
from jaxtwin.training import checkpoint


class EmulatorError(NamedTuple):
    """Errors of an emulator on points of the box that it was not trained on.

    Attributes:
        points: Number of points.
        maximum: Mean absolute error of each channel's maximum, in the channel's unit.
        minimum: Mean absolute error of each channel's minimum, in the channel's unit.
        waveforms: Median over the points of |error|₂ / |waveform|₂ for each channel.
    """

    points: int
    maximum: dict[str, float]
    minimum: dict[str, float]
    waveforms: dict[str, float]


class OutsideBoxWarning(UserWarning):
    """Warning that an emulator was evaluated outside the box on which it was trained."""


class Emulator(AbstractForward):
    """A multilayer perceptron from the box to the dimensionless beat.

    The network's input is θ relative to the box, in [−1, 1]. Its output is in the units of
    `AbstractRecordedSystem.scaling`, standardised over the training set.

    Attributes:
        network: The trained network.
        mean: Mean of each network output over the training set, used to standardise it.
        spread: Standard deviation used to standardise each network output.
        system: The emulated model.
        box: The box on which it was trained.
        channels: Names of the recorded outputs.
        phases: Number of phases of the waveforms, 0, 1/n, ... (n − 1)/n.
        steps: Solver steps of the simulations it was trained on.
        error: Its measured error; None if not measured yet.
    """

    network: eqx.nn.MLP
    mean: Float[Array, " value"]
    spread: Float[Array, " value"]
    system: AbstractRecordedSystem
    box: Box = eqx.field(static=True)
    channels: tuple[str, ...] = eqx.field(static=True)
    phases: int = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    error: EmulatorError | None = None

    @classmethod
    def create(
        cls,
        system: AbstractRecordedSystem,
        box: Box,
        channels: str | Sequence[str],
        phases: int,
        *,
        steps: int | None = None,
        width: int = 256,
        depth: int = 3,
        key: PRNGKeyArray,
    ) -> "Emulator":
        """Create an untrained emulator.

        Args:
            system: The model to emulate.
            box: The free parameters.
            channels: Names of the outputs to emulate.
            phases: Number of phases of the waveforms.
            steps: Solver steps of the simulations to learn from; `system.steps` by default.
            width: Width of the hidden layers.
            depth: Number of hidden layers.
            key: Random key for the weights.

        Raises:
            ValueError: If the box is of another model, a channel is no output of the system, or
                `phases` does not divide `steps`.
        """
        check_box(system, box)
        channels = check_channels(system, channels)
        values = len(channels) * (2 + phases)
        network = eqx.nn.MLP(
            len(box.names), values, width, depth, jax.nn.silu, dtype=jnp.float32, key=key
        )
        ones = jnp.ones(values, jnp.float32)
        return cls(
            network=network,
            mean=0 * ones,
            spread=ones,
            system=system,
            box=box,
            channels=channels,
            phases=phases,
            steps=check_phases(system, phases, steps),
        )

    def __call__(self, theta: Theta) -> Recording[Channels]:
        """Emulate one patient, inside jit and vmap; outside the box the result is meaningless.

        Raises:
            ValueError: If θ is not that of one patient.

        Warns:
            OutsideBoxWarning: If θ is a concrete number outside the box; inside jit nothing can be
                said of it.
        """
        self.check_one(theta)
        if not isinstance(theta, Tracer):  # Before a conversion, which jit would trace.
            self._warn_outside(np.asarray(theta, np.float32))
        theta = jnp.asarray(theta, jnp.float32)
        values = self.network(2 * self.box.to_unit(theta) - 1) * self.spread + self.mean
        table = values.reshape(len(self.channels), 2 + self.phases)
        offset, scale = self.units(theta)
        table = offset[:, None] + scale[:, None] * table
        duration = jnp.asarray(self.system.duration(self.box.complete(theta)))
        columns = (table[:, 0], table[:, 1], table[:, 2:])
        maximum, minimum, waveforms = (Channels(self.channels, tuple(c)) for c in columns)
        return Recording(maximum, minimum, waveforms, duration)

    def units(self, theta: Theta) -> tuple[Float[Array, " channel"], Float[Array, " channel"]]:
        """Return the offset and scale of each channel for one patient."""
        offset, scale = self.system.scaling(self.box.complete(theta))

        def pick(outputs: Any) -> Float[Array, " channel"]:
            return jnp.stack([jnp.asarray(getattr(outputs, c), jnp.float32) for c in self.channels])

        return pick(offset), pick(scale)

    def predict(self, theta: Float[np.ndarray, "patient free"]) -> Recording[Channels]:
        """Emulate many patients, given as concrete numbers.

        Warns:
            OutsideBoxWarning: If any θ is outside the box; its result is an extrapolation.
        """
        if np.ndim(theta) != 2:
            raise ValueError(
                f"θ of shape {np.shape(theta)}: expected one row per patient; for one patient, "
                "call emulator(theta)"
            )
        self._warn_outside(np.asarray(theta, np.float32))
        return _predict(self, jnp.asarray(theta, jnp.float32))

    def _warn_outside(self, theta: Float[np.ndarray, "*patient free"]) -> None:
        inside = np.asarray(self.box.contains(theta))
        if not inside.all():
            warnings.warn(
                f"{np.sum(~inside)} of {inside.size} θ are outside the box on which this emulator "
                f"was trained, {self.box.describe()}: simulate them, or train on a larger box",
                OutsideBoxWarning,
                stacklevel=4,  # the caller's line, past Equinox's own frames
            )

    def targets(self, cohort: Cohort) -> Float[np.ndarray, "patient value"]:
        """Return the network's target values for simulated patients, before standardisation.

        Raises:
            ValueError: If a simulation failed, since its recording is meaningless.
        """
        if not cohort.success.all():
            raise ValueError(
                f"{cohort.failures()}\nleave them out with cohort.take(cohort.success)"
            )
        true = select(self.channels, cohort.recording)
        table = np.concatenate(
            [
                np.stack(list(true.maximum), axis=1)[..., None],
                np.stack(list(true.minimum), axis=1)[..., None],
                np.stack(list(true.waveforms), axis=1),
            ],
            axis=-1,
        )
        offset, scale = jax.vmap(self.units)(jnp.asarray(cohort.theta))
        table = (table - np.asarray(offset)[..., None]) / np.asarray(scale)[..., None]
        return table.reshape(len(table), -1).astype(np.float32)


@eqx.filter_jit
def _predict(emulator: Emulator, theta: Float[Array, "patient free"]) -> Recording[Channels]:
    return jax.vmap(emulator)(theta)


def description(emulator: Emulator) -> dict[str, Any]:
    """Return everything needed to rebuild an emulator except its arrays."""
    return {
        "kind": "emulator",
        "identity": _identity(emulator.system, emulator.box, emulator.steps),
        "box": emulator.box.describe(),
        "channels": list(emulator.channels),
        "phases": emulator.phases,
        "steps": emulator.steps,
        "width": emulator.network.width_size,
        "depth": emulator.network.depth,
    }


def _identity(system: AbstractRecordedSystem, box: Box, steps: int) -> dict[str, Any]:
    return fingerprint(system, box, steps=steps).description


def save_emulator(
    folder: Path, emulator: Emulator, *, learnt: Mapping[str, Any] | None = None
) -> None:
    """Save an emulator, its box and its measured error.

    Args:
        folder: Folder to write.
        emulator: The emulator, with its error.
        learnt: Settings with which `learn_emulator` made it, which it compares when called again.

    Raises:
        ValueError: If the error was not measured.
    """
    if emulator.error is None:
        raise ValueError(
            "this emulator's error was not measured: call `emulator_error` and set `error` to it"
        )
    error = emulator.error._asdict()
    checkpoint.save(
        folder,
        (emulator.network, emulator.mean, emulator.spread),
        description(emulator) | {"error": error, "learnt": learnt},
    )


def load_emulator(folder: str | Path, system: AbstractRecordedSystem) -> Emulator:
    """Load an emulator of a system.

    Args:
        folder: Folder written by `save_emulator`, or that of `learn_emulator`.
        system: The model it was trained on.

    Raises:
        CheckpointError: If the checkpoint is damaged, or of another system.
    """
    folder = Path(folder)
    if checkpoint.exists(folder / "emulator"):
        folder /= "emulator"  # `learn_emulator` writes it there.
    kept = checkpoint.config(folder, kind="emulator")
    if "identity" not in kept:
        raise checkpoint.CheckpointError(
            f"the emulator at {folder} was written by an older version, which did not save the "
            "system it was trained on: train it again"
        )
    name = kept["identity"]["system"]["class"]
    if name != fingerprint(system).description["system"]["class"]:
        raise checkpoint.CheckpointError(
            f"the emulator at {folder} stands for {name}, not for {type(system).__name__}: load it "
            "with the system it was trained on"
        )
    box = Box.described(system.parameters, kept["box"])
    differing = differences(kept["identity"], _identity(system, box, kept["steps"]))
    if differing:
        raise checkpoint.CheckpointError(
            f"the emulator at {folder} stands for another system: {'; '.join(differing)}; load it "
            "with the system it was trained on, or train one for this system"
        )
    make = functools.partial(
        Emulator.create,
        system,
        box,
        tuple(kept["channels"]),
        kept["phases"],
        steps=kept["steps"],
        width=kept["width"],
        depth=kept["depth"],
    )
    # Only the shapes are needed: drawing weights, to replace them at once, would take seconds.
    emulator = eqx.filter_eval_shape(lambda: make(key=jax.random.key(0)))
    network, mean, spread = checkpoint.load(
        folder, (emulator.network, emulator.mean, emulator.spread)
    )
    return dataclasses.replace(
        emulator,
        network=network,
        mean=mean,
        spread=spread,
        system=system,
        error=EmulatorError(**kept["error"]),
    )
