"""One patient's digital twin: from a clip to a simulated beat, and what to think of it."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from jaxtwin.analysis.identifiability import Compatible, compatible_patients
from jaxtwin.data.base import ClipFormat, UnreadableClipError, resample, window
from jaxtwin.data.recording import read_recording
from jaxtwin.data.vitals import UNKNOWN, Vitals
from jaxtwin.methods.clips import predict
from jaxtwin.methods.pssl import PSSL
from jaxtwin.parameters import AbstractParameters
from jaxtwin.physics.base import read
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.solution import Solution

# The emulator is wrong by a few tenths of a point inside its box; beyond this the network's
# answer and the circuit's are not the same patient.
LARGEST_EF_GAP = 2.0
# What a catheter would measure, beside the parameters.
PRESSURES = ("P_lv_max", "P_ao_mean")
# The shortest heart period of the parameter box [s]; no volume has extremes in less.
SHORTEST_BEAT = 0.4


class Twin(NamedTuple):
    """What a clip says about its patient.

    Attributes:
        theta: The free parameters, in the order of the model's box.
        parameters: All parameters of the circuit.
        emulated: EDV [mL], ESV [mL] and EF [%] as the emulator has them.
        orbit: The circuit's beat at θ: the simulation, not the emulator.
        readings: The system's readings of that beat, by name.
        compatible: The patients of the box who would have been measured alike.
        distance: From the training clips; see `Familiarity`.
        threshold: Above this a clip is unlike them.
        warnings: In plain words; empty where there is nothing to warn of.
    """

    theta: Float[np.ndarray, " free"]
    parameters: AbstractParameters
    emulated: dict[str, float]
    orbit: Solution
    readings: dict[str, float]
    compatible: Compatible
    distance: float
    threshold: float
    warnings: tuple[str, ...]


def read_clip(path: Path, format: ClipFormat) -> UInt8[np.ndarray, "frames size size"]:
    """The beginning of a recording in the format of an encoder; see `read_recording`.

    Raises:
        UnreadableClipError: If it cannot be read, or is shorter than any heartbeat.
    """
    recording = read_recording(path)
    if recording.times[-1] < SHORTEST_BEAT:
        raise UnreadableClipError(
            f"lasts {recording.times[-1]:.2f} s: expected at least one heartbeat", path.name
        )
    return window(resample(recording, format), format, 0)


def build_twin(
    model: PSSL,
    clip: UInt8[np.ndarray, "frames size size"],
    errors: dict[str, float],
    vitals: Vitals = UNKNOWN,
) -> Twin:
    """Estimate the parameters of a clip's patient and simulate the beat.

    Args:
        model: Trained.
        clip: In the model's format.
        errors: The model's mean errors on validation clips, EDV_error and ESV_error [mL]: how
            far the volumes of an unseen clip are to be trusted; likewise of the model's vitals.
        vitals: Measured beside the clip; those of `model.vitals` are needed.

    Raises:
        ValueError: If the model is not trained, a vital that it needs is missing, or nobody in the
            box has such numbers.
    """
    if model.familiarity is None:
        raise ValueError("this model is not trained: its familiarity is unknown")
    got = predict(model, clip[None], np.array([vitals]))
    theta = np.asarray(got.theta)[0]
    p = model.box.complete(jnp.asarray(theta))
    system: Any = model.forward.system
    orbit = jax.jit(lambda p: periodic_orbit(system, p, throw=False))(p)
    simulated = {name: float(value) for name, value in read(system, orbit).items()}
    measured: dict[str, tuple[float, float]] = {
        "EDV": (float(got.EDV[0]), errors["EDV_error"]),
        "ESV": (float(got.ESV[0]), errors["ESV_error"]),
        **{name: (getattr(vitals, name), errors[f"{name}_error"]) for name in model.vitals},
    }
    compatible = compatible_patients(model.forward, measured, about=PRESSURES)
    distance = float(model.familiarity.distance(jnp.asarray(got.features[0])))
    threshold = float(model.familiarity.threshold)
    warnings = []
    if not distance <= threshold:
        warnings.append(
            f"This clip looks unlike the clips the encoder was trained on (distance "
            f"{distance:.1f}, familiar up to {threshold:.1f}): do not rely on any number below."
        )
    if not bool(orbit.success):
        warnings.append(
            f"The simulation at these parameters did not settle into a beat (residual "
            f"{float(orbit.stats.residual):.1e}): the simulated numbers mean nothing."
        )
    gap = abs(float(got.EF[0]) - simulated["EF"])
    if not gap <= LARGEST_EF_GAP:
        warnings.append(
            f"Emulator and simulation disagree by {gap:.1f} EF points: believe the simulation."
        )
    return Twin(
        theta=theta,
        parameters=p,
        emulated={name: float(getattr(got, name)[0]) for name in ("EDV", "ESV", "EF")},
        orbit=orbit,
        readings=simulated,
        compatible=compatible,
        distance=distance,
        threshold=threshold,
        warnings=tuple(warnings),
    )


def describe(twin: Twin, model: PSSL) -> dict[str, Any]:
    """A twin as JSON allows it, every number with its unit."""
    low_high = twin.compatible.intervals
    known = model.forward.system.readings()
    parameters = {
        spec.name: {
            "value": float(value),
            "unit": spec.unit,
            "meaning": spec.meaning,
            "compatible": low_high[spec.name],
            "narrowing": twin.compatible.narrowing[spec.name],
        }
        for spec, value in zip(model.box.specs, twin.theta, strict=True)
    }
    simulated = {
        name: {"value": value, "unit": known[name].unit} for name, value in twin.readings.items()
    }
    for name in PRESSURES:
        simulated[name] |= {
            "compatible": low_high[name],
            "narrowing": twin.compatible.narrowing[name],
        }
    return {
        "warnings": list(twin.warnings),
        "parameters": parameters,
        "emulated": {
            name: {"value": value, "unit": known[name].unit}
            for name, value in twin.emulated.items()
        },
        "simulated": simulated,
        "converged": bool(twin.orbit.success),
        "familiarity": {"distance": twin.distance, "threshold": twin.threshold},
        "note": (
            "Research use only. `compatible` is the central 90% of the patients of the box whose "
            "measurements agree with this clip's; `narrowing` is the width of that interval over "
            "its width without any measurement. A parameter with a narrowing near 1 is a guess."
        ),
    }


def summary(twin: Twin, model: PSSL) -> str:
    """A twin as a short table for the terminal."""
    known = model.forward.system.readings()
    lines = [f"WARNING: {warning}" for warning in twin.warnings]
    lines.append(f"{'':12}{'value':>10}  {'unit':<12}{'same volumes (90%)':>22}  narrowing")
    for spec, value in zip(model.box.specs, twin.theta, strict=True):
        low, high = twin.compatible.intervals[spec.name]
        lines.append(
            f"{spec.name:12}{value:10.4g}  {spec.unit:<12}{f'{low:.3g} – {high:.3g}':>22}"
            f"  {twin.compatible.narrowing[spec.name]:.2f}"
        )
    for name, value in twin.emulated.items():
        unit = known[name].unit
        lines.append(f"{name:12}{value:10.4g}  {unit:<12}re-simulated {twin.readings[name]:.4g}")
    for name in ("output", "P_lv_max", "systolic", "diastolic"):
        lines.append(f"{name:12}{twin.readings[name]:10.4g}  {known[name].unit:<12}simulated")
    return "\n".join(lines)
