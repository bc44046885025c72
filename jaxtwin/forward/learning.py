"""Training of an emulator on simulations of a box, and its errors on unseen points."""

import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from jaxtwin.cohorts.cohort import Cohort, warn_of_failures
from jaxtwin.cohorts.simulate import check_box, check_phases, simulate_cohort
from jaxtwin.devices import on_first_host
from jaxtwin.forward.emulator import (
    Emulator,
    EmulatorError,
    description,
    load_emulator,
    save_emulator,
)
from jaxtwin.forward.settings import EMULATOR_TRAINING
from jaxtwin.identity import differences
from jaxtwin.parameters import Box
from jaxtwin.physics.base import AbstractRecordedSystem, check_channels
from jaxtwin.physics.channels import MissingChannelError
from jaxtwin.training import checkpoint
from jaxtwin.training.loop import Fitted, TrainingConfig, epochs, fit
from jaxtwin.training.progress import progress_bar


def emulator_error(emulator: Emulator, cohort: Cohort) -> tuple[EmulatorError, dict[str, float]]:
    """Compare an emulator with simulated patients.

    Returns:
        The errors per channel, and a flat table: waveform_median (the worst channel's, relative),
        and, for each of the system's readings that its channels allow, NAME_mean and NAME_worst,
        the mean and largest absolute error, in the reading's unit.
    """
    got = emulator.predict(np.asarray(cohort.theta))
    maximum, minimum, waveforms = {}, {}, {}
    for channel in emulator.channels:
        for errors, ours, true in (
            (maximum, got.maximum, cohort.recording.maximum),
            (minimum, got.minimum, cohort.recording.minimum),
        ):
            errors[channel] = float(np.mean(np.abs(ours[channel] - getattr(true, channel))))
        true = getattr(cohort.recording.waveforms, channel)
        relative = np.linalg.norm(got.waveforms[channel] - true, axis=1)
        waveforms[channel] = float(np.median(relative / np.linalg.norm(true, axis=1)))
    error = EmulatorError(len(cohort), maximum, minimum, waveforms)
    table = {"waveform_median": max(waveforms.values())}
    true = cohort.read()
    for name, reading in emulator.system.readings().items():
        try:
            off = np.abs(np.asarray(reading.function(got)) - true[name])
        except MissingChannelError:
            continue
        table |= {f"{name}_mean": float(off.mean()), f"{name}_worst": float(off.max())}
    return error, table


def train_emulator(
    emulator: Emulator,
    training: Cohort,
    validation: Cohort,
    config: TrainingConfig,
    *,
    folder: Path,
    seed: int,
    resume: bool,
    mesh: Mesh | None = None,
) -> Fitted[Emulator]:
    """Learn the simulator from simulated patients; see `training.fit` for the arguments."""
    values = emulator.targets(training)
    mean = values.mean(axis=0)
    # One spread per channel for its waveform, so that phases with little variation do not weigh
    # more.
    table = (values - mean).reshape(len(values), len(emulator.channels), -1)
    spread = table.std(axis=0)
    spread[:, 2:] = np.sqrt(np.mean(spread[:, 2:] ** 2, axis=1, keepdims=True))
    spread = np.maximum(spread, 1e-6)  # The least flow through a valve is 0 in every patient.
    emulator = dataclasses.replace(
        emulator, mean=jnp.asarray(mean), spread=jnp.asarray(spread.reshape(-1))
    )

    def prepare(cohort: Cohort) -> tuple[np.ndarray, np.ndarray]:
        u = np.asarray(emulator.box.to_unit(jnp.asarray(cohort.theta)))
        return 2 * u - 1, (emulator.targets(cohort) - mean) / spread.reshape(-1)

    x, y = prepare(training)
    x_validation, y_validation = prepare(validation)

    def squared_error(network: eqx.nn.MLP, x: Array, y: Array) -> Float[Array, ""]:
        """Return the loss; extremes and waveforms have equal weight, whatever their number."""
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
        description=description(emulator)
        | {"simulations": hashlib.sha256(training.theta.tobytes()).hexdigest()[:16]},
        seed=seed,
        resume=resume,
        mesh=mesh,
    )
    trained = dataclasses.replace(emulator, network=fitted.model)
    return fitted.with_model(trained)


def learn_emulator(
    folder: str | Path,
    system: AbstractRecordedSystem,
    box: Box,
    channels: Sequence[str],
    *,
    phases: int = 80,
    steps: int | None = None,
    simulations: int = 16_384,
    unseen: int = 4_096,
    training: TrainingConfig = EMULATOR_TRAINING,
    seed: int = 0,
    mesh: Mesh | None = None,
) -> tuple[Emulator, dict[str, float]]:
    """Simulate the box, train an emulator and measure it on unseen points.

    An emulator that is already in the folder is loaded if it was made with the same arguments, and
    interrupted training is resumed.

    Args:
        folder: Folder for the emulator, its errors and the training's checkpoints.
        system: The model to emulate.
        box: The box to train it on.
        channels: Names of the outputs to emulate.
        phases: Number of phases of the waveforms; a divisor of `steps`.
        steps: Solver steps of the simulations; `system.steps` by default.
        simulations: Number of simulated patients for training; an eighth as many are used for
            validation.
        unseen: Number of simulated patients for measuring the error.
        training: Training settings.
        seed: Seed for all random draws.
        mesh: Devices over which simulations and batches are spread, see
            `jaxtwin.training.loop.fit`.

    Returns:
        The emulator, and its errors as in `emulator_error`, with the number of all simulations
        (for training, for validation and unseen), the number of failed ones among them (which are
        left out), and the duration of simulation and training [s].

    Raises:
        ValueError: If the box is of another model, the folder contains an emulator made with other
            arguments, or all simulations failed.
    """
    check_box(system, box)
    channels, steps = check_channels(system, channels), check_phases(system, phases, steps)
    folder = Path(folder)
    place, table = folder / "emulator", folder / "emulator.json"
    settings = {
        "simulations": simulations,
        "unseen": unseen,
        "training": dataclasses.asdict(training),
        "seed": seed,
    }
    if checkpoint.exists(place) and table.exists():
        emulator = load_emulator(place, system)
        kept = {"box": emulator.box.describe(), "channels": emulator.channels}
        wanted = {"box": box.describe(), "channels": channels, "phases": phases, "steps": steps}
        kept |= {"phases": emulator.phases, "steps": emulator.steps}
        # Emulators of older versions do not have their settings.
        kept |= checkpoint.config(place).get("learnt") or {}
        if differing := differences(kept, wanted | settings):
            raise ValueError(
                f"the emulator in {folder} was made with other arguments: {'; '.join(differing)}; "
                "choose another folder, or delete it"
            )
        return emulator, json.loads(table.read_text())
    began = time.monotonic()
    held_out = max(simulations // 8, 1)
    # Three independently scrambled sequences: they have no point in common.
    sets = [
        simulate_cohort(
            system,
            box,
            box.sample(n, seed=3 * seed + k),
            phases=phases,
            steps=steps,
            mesh=mesh,
            progress=functools.partial(progress_bar, desc=f"simulating {part}", unit="chunk"),
        )
        for k, (part, n) in enumerate(
            [("training", simulations), ("validation", held_out), ("unseen", unseen)]
        )
    ]
    total = simulations + held_out + unseen
    failed = total - sum(int(part.success.sum()) for part in sets)
    if not all(part.success.any() for part in sets):
        raise ValueError(
            f"{sets[0].failures()}\nno simulation succeeded: print(check_system(system)) "
            "shows what is wrong with the system; or make the box smaller"
        )
    warn_of_failures(*sets)
    learnt, held, new = (part.take(part.success) for part in sets)
    simulated = time.monotonic()
    untrained = Emulator.create(
        system, box, channels, phases, steps=steps, key=jax.random.key(seed)
    )
    fitted = train_emulator(
        untrained, learnt, held, training, folder=folder, seed=seed, resume=True, mesh=mesh
    )
    error, errors = emulator_error(fitted.model, new)
    emulator = dataclasses.replace(fitted.model, error=error)
    errors |= {
        "simulations": total,
        "failed_simulations": failed,
        "simulation_seconds": simulated - began,
        "training_seconds": fitted.seconds,
    }
    save_emulator(place, emulator, learnt=settings)

    def write() -> None:
        partial = table.with_suffix(".partial")
        partial.write_text(json.dumps(errors, indent=1))
        partial.replace(table)

    on_first_host(write)
    return emulator, errors
