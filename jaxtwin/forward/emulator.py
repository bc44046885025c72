"""A network in the simulator's place: θ → the beat's waveforms and their extremes."""

import dataclasses
import functools
import hashlib
import json
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxtwin.cohorts.simulate import Simulations, durations, read, simulate_cohort
from jaxtwin.forward.base import AbstractForward, Emulation, MissingChannelError, recording_of
from jaxtwin.forward.settings import EMULATOR_TRAINING
from jaxtwin.parameters import Box, Theta
from jaxtwin.physics.base import AbstractRecordedSystem, check_channels
from jaxtwin.training import checkpoint
from jaxtwin.training.loop import Fitted, TrainingConfig, epochs, fit
from jaxtwin.training.progress import progress_bar


class EmulatorError(NamedTuple):
    """Errors of an emulator on points of the box that it was not trained on.

    Means over the points of the absolute error, in the outputs' units, one entry a channel;
    of the waveforms the median over the points of |error|₂ / |waveform|₂.
    """

    points: int
    maximum: dict[str, float]
    minimum: dict[str, float]
    waveforms: dict[str, float]


class OutsideBoxWarning(UserWarning):
    """The emulator was asked for a θ outside the box that it learnt."""


class Emulator(AbstractForward):
    """A multilayer perceptron from the box to the dimensionless beat.

    The network sees θ as its place in the box, in [−1, 1], and gives the outputs in the
    units of `AbstractRecordedSystem.scaling`, standardised over the training set.

    Attributes:
        network: The trained part.
        mean: Of the standardisation, one entry a value the network gives.
        spread: Likewise.
        system: The model that it stands for.
        box: The box that it learnt.
        channels: Names of the outputs it gives.
        phases: Grid points a period, at phases 0, 1/n, ... (n − 1)/n.
        error: Its measured error; None before it was measured.
    """

    network: eqx.nn.MLP
    mean: Float[Array, " value"]
    spread: Float[Array, " value"]
    system: AbstractRecordedSystem
    box: Box = eqx.field(static=True)
    channels: tuple[str, ...] = eqx.field(static=True)
    phases: int = eqx.field(static=True)
    error: EmulatorError | None = None

    @classmethod
    def create(
        cls,
        system: AbstractRecordedSystem,
        box: Box,
        channels: tuple[str, ...],
        phases: int,
        *,
        width: int = 256,
        depth: int = 3,
        key: PRNGKeyArray,
    ) -> "Emulator":
        """An untrained emulator.

        Raises:
            ValueError: If a channel is no output of the system.
        """
        check_channels(system, channels)
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
            channels=tuple(channels),
            phases=phases,
        )

    def __call__(self, theta: Theta) -> Emulation:
        """Emulate one patient, inside jit and vmap; outside the box the result means nothing."""
        theta = theta.astype(jnp.float32)
        values = self.network(2 * self.box.to_unit(theta) - 1) * self.spread + self.mean
        table = values.reshape(len(self.channels), 2 + self.phases)
        offset, scale = self.units(theta)
        table = offset[:, None] + scale[:, None] * table
        return Emulation(table[:, 0], table[:, 1], table[:, 2:])

    def units(self, theta: Theta) -> tuple[Float[Array, " channel"], Float[Array, " channel"]]:
        """Offset and scale of each channel for one patient."""
        offset, scale = self.system.scaling(self.box.complete(theta))

        def pick(outputs: Any) -> Float[Array, " channel"]:
            return jnp.stack([jnp.asarray(getattr(outputs, c), jnp.float32) for c in self.channels])

        return pick(offset), pick(scale)

    def predict(self, theta: Float[np.ndarray, "patient free"]) -> Emulation:
        """Emulate many patients, given as concrete numbers.

        Warns:
            OutsideBoxWarning: If any θ lies outside the box; the answer is an extrapolation.
        """
        inside = np.asarray(self.box.contains(jnp.asarray(theta, jnp.float32)))
        if not inside.all():
            warnings.warn(
                f"{np.sum(~inside)} of {inside.size} θ are outside the box that this emulator "
                f"learnt, {self.box.describe()}: simulate them, or train on a wider box",
                OutsideBoxWarning,
                stacklevel=3,  # the caller's line, past Equinox's own frame
            )
        return _predict(self, jnp.asarray(theta, jnp.float32))

    def targets(self, simulations: Simulations) -> Float[np.ndarray, "patient value"]:
        """What the network should give for simulated patients, before standardisation.

        Raises:
            ValueError: If a simulation did not converge; its outputs mean nothing.
        """
        if not simulations.converged.all():
            raise ValueError(
                f"{simulations.failures(self.box)}\n"
                "leave them out with simulations.take(simulations.converged)"
            )

        def stack(outputs: Any) -> np.ndarray:
            return np.stack([np.asarray(getattr(outputs, c)) for c in self.channels], axis=1)

        table = np.concatenate(
            [
                stack(simulations.maximum)[..., None],
                stack(simulations.minimum)[..., None],
                stack(simulations.waveforms),
            ],
            axis=-1,
        )
        offset, scale = jax.vmap(self.units)(jnp.asarray(simulations.theta))
        table = (table - np.asarray(offset)[..., None]) / np.asarray(scale)[..., None]
        return table.reshape(len(table), -1).astype(np.float32)


@eqx.filter_jit
def _predict(emulator: Emulator, theta: Float[Array, "patient free"]) -> Emulation:
    return jax.vmap(emulator)(theta)


def measure(emulator: Emulator, simulations: Simulations) -> tuple[EmulatorError, dict[str, float]]:
    """An emulator's errors on simulated patients.

    Returns:
        The errors per channel, and a flat table: waveform_median (the worst channel's, relative),
        and, for each of the system's readings that its channels allow, NAME_mean and NAME_worst,
        the mean and largest absolute error, in the reading's unit.
    """
    emulation = emulator.predict(np.asarray(simulations.theta))
    maximum, minimum, waveforms = {}, {}, {}
    for i, channel in enumerate(emulator.channels):
        for errors, got, true in (
            (maximum, emulation.maximum, simulations.maximum),
            (minimum, emulation.minimum, simulations.minimum),
        ):
            errors[channel] = float(np.mean(np.abs(got[:, i] - getattr(true, channel))))
        true = getattr(simulations.waveforms, channel)
        relative = np.linalg.norm(emulation.waveforms[:, i] - true, axis=1)
        waveforms[channel] = float(np.median(relative / np.linalg.norm(true, axis=1)))
    error = EmulatorError(len(simulations.theta), maximum, minimum, waveforms)
    table = {"waveform_median": max(waveforms.values())}
    system, box = emulator.system, emulator.box
    duration = durations(system, box, simulations.theta)
    recording = recording_of(emulator.channels, emulation, duration)
    true = read(system, box, simulations, system.readings())
    for name, reading in system.readings().items():
        try:
            off = np.abs(np.asarray(reading.of(recording)) - true[name])
        except MissingChannelError:
            continue
        table |= {f"{name}_mean": float(off.mean()), f"{name}_worst": float(off.max())}
    return error, table


def train_emulator(
    emulator: Emulator,
    training: Simulations,
    validation: Simulations,
    config: TrainingConfig,
    *,
    folder: Path,
    seed: int,
    resume: bool,
) -> Fitted[Emulator]:
    """Learn the simulator from simulated patients; see `training.fit` for the arguments."""
    values = emulator.targets(training)
    mean = values.mean(axis=0)
    # One spread a channel for the waveform: phases at which nothing varies must not weigh more.
    table = (values - mean).reshape(len(values), len(emulator.channels), -1)
    spread = table.std(axis=0)
    spread[:, 2:] = np.sqrt(np.mean(spread[:, 2:] ** 2, axis=1, keepdims=True))
    spread = np.maximum(spread, 1e-6)  # The least flow through a valve is 0 in every patient.
    emulator = dataclasses.replace(
        emulator, mean=jnp.asarray(mean), spread=jnp.asarray(spread.reshape(-1))
    )

    def prepare(simulations: Simulations) -> tuple[np.ndarray, np.ndarray]:
        u = np.asarray(emulator.box.to_unit(jnp.asarray(simulations.theta)))
        return 2 * u - 1, (emulator.targets(simulations) - mean) / spread.reshape(-1)

    x, y = prepare(training)
    x_validation, y_validation = prepare(validation)

    def squared_error(network: eqx.nn.MLP, x: Array, y: Array) -> Float[Array, ""]:
        """Extremes and waveforms weigh alike, though there are many more of the latter."""
        error = (jax.vmap(network)(x) - y).reshape(len(x), len(emulator.channels), -1)
        return jnp.mean(error[..., :2] ** 2) + jnp.mean(error[..., 2:] ** 2)

    def batches(step: int) -> Iterator[tuple[Array, Array]]:
        for rows in epochs(len(x), config.batch_size, seed=seed, start_step=step):
            yield jnp.asarray(x[rows]), jnp.asarray(y[rows])

    evaluate = eqx.filter_jit(squared_error)

    def validate(network: eqx.nn.MLP) -> dict[str, float]:
        return {
            "loss": float(evaluate(network, jnp.asarray(x_validation), jnp.asarray(y_validation)))
        }

    fitted = fit(
        emulator.network,
        lambda network, batch, key: squared_error(network, *batch),
        batches,
        validate,
        config,
        stage="emulator",
        folder=folder,
        description=_description(emulator)
        | {"simulations": hashlib.sha256(training.theta.tobytes()).hexdigest()[:16]},
        seed=seed,
        resume=resume,
    )
    trained = dataclasses.replace(emulator, network=fitted.model)
    return fitted.of(trained)


def learn_emulator(
    folder: Path,
    system: AbstractRecordedSystem,
    box: Box,
    channels: Sequence[str],
    *,
    phases: int = 80,
    simulations: int = 16_384,
    unseen: int = 4_096,
    training: TrainingConfig = EMULATOR_TRAINING,
    seed: int = 0,
) -> tuple[Emulator, dict[str, float]]:
    """Simulate the box, train an emulator and measure it on unseen points.

    What an earlier call left in the folder is used again; a training that was cut short goes on.

    Args:
        folder: For the emulator, its errors and the training's checkpoints.
        system: The model.
        box: What it learns.
        channels: Names of the outputs that it gives.
        phases: Grid points a period (or a transient); a divisor of the simulator's 240 steps.
        simulations: Simulated patients that it learns from; an eighth as many select the step.
        unseen: Simulated patients that it is measured on.
        training: How it is trained.
        seed: Of all draws.

    Returns:
        The emulator, and its errors as in `measure`, with how many simulations there were, how
        many failed and were left out, and the seconds that simulation and training took.

    Raises:
        ValueError: If the folder holds an emulator of something else, or no simulation converged.
    """
    place, table = folder / "emulator", folder / "emulator.json"
    if checkpoint.exists(place) and table.exists():
        emulator = load_emulator(place, system)
        kept = (emulator.box, emulator.channels, emulator.phases)
        if kept != (box, tuple(channels), phases):
            raise ValueError(
                f"the emulator in {folder} is of {kept[1]} at {kept[2]} phases on the box "
                f"{kept[0].describe()}: choose another folder, or delete it"
            )
        return emulator, json.loads(table.read_text())
    began = time.monotonic()
    held_out = max(simulations // 8, 1)
    # Three sequences scrambled on their own: no point of one is in another.
    sets = [
        simulate_cohort(
            system,
            box,
            box.sample(n, seed=3 * seed + k),
            phases=phases,
            progress=functools.partial(progress_bar, desc=f"simulating {part}", unit="chunk"),
        )
        for k, (part, n) in enumerate(
            [("training", simulations), ("validation", held_out), ("unseen", unseen)]
        )
    ]
    total = simulations + held_out + unseen
    failed = total - sum(int(s.converged.sum()) for s in sets)
    if not all(s.converged.any() for s in sets):
        raise ValueError(
            f"{sets[0].failures(box)}\nnothing is left to learn from: print(check_system(system)) "
            "says what is wrong with it, or make the box smaller"
        )
    learnt, held, new = (s.take(s.converged) for s in sets)
    simulated = time.monotonic()
    untrained = Emulator.create(system, box, tuple(channels), phases, key=jax.random.key(seed))
    fitted = train_emulator(
        untrained, learnt, held, training, folder=folder, seed=seed, resume=True
    )
    error, errors = measure(fitted.model, new)
    emulator = dataclasses.replace(fitted.model, error=error)
    errors |= {
        "simulations": total,
        "failed_simulations": failed,
        "simulation_seconds": simulated - began,
        "training_seconds": fitted.seconds,
    }
    save_emulator(place, emulator)
    partial = table.with_suffix(".partial")
    partial.write_text(json.dumps(errors, indent=1))
    partial.replace(table)
    return emulator, errors


def _description(emulator: Emulator) -> dict[str, Any]:
    """What is needed to build an emulator again, apart from its arrays."""
    return {
        "kind": "emulator",
        "system": type(emulator.system).__name__,
        "box": emulator.box.describe(),
        "channels": list(emulator.channels),
        "phases": emulator.phases,
        "width": emulator.network.width_size,
        "depth": emulator.network.depth,
    }


def save_emulator(folder: Path, emulator: Emulator) -> None:
    """Write an emulator, its box and its measured error."""
    if emulator.error is None:
        raise ValueError("this emulator's error was not measured: call `measure` and keep it")
    error = emulator.error._asdict()
    checkpoint.save(
        folder,
        (emulator.network, emulator.mean, emulator.spread),
        _description(emulator) | {"error": error},
    )


def load_emulator(folder: Path, system: AbstractRecordedSystem) -> Emulator:
    """Read an emulator of a system.

    Raises:
        CheckpointError: If the checkpoint is broken, or of another system.
    """
    kept = checkpoint.config(folder, kind="emulator")
    if kept["system"] != type(system).__name__:
        raise checkpoint.CheckpointError(
            f"the emulator at {folder} stands for {kept['system']}, not for "
            f"{type(system).__name__}; load it with the system it was trained on"
        )
    box = Box.of(
        system.parameters,
        tuple(kept["box"]),
        {name: (low, high) for name, (low, high) in kept["box"].items()},
    )
    make = functools.partial(
        Emulator.create,
        system,
        box,
        tuple(kept["channels"]),
        kept["phases"],
        width=kept["width"],
        depth=kept["depth"],
    )
    # Its shapes alone: drawing weights that are replaced at once takes seconds.
    emulator = eqx.filter_eval_shape(make, key=jax.random.key(0))
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
