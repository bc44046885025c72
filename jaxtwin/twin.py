"""One patient's digital twin: from a clip to a simulated beat, and what to think of it."""

from collections.abc import Sequence
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
from jaxtwin.forward.base import AbstractForward
from jaxtwin.methods.base import Learnt
from jaxtwin.methods.clip_training import ClipKnowledge
from jaxtwin.methods.clips import Clips, ClipTask
from jaxtwin.parameters import AbstractParameters, Box
from jaxtwin.physics.base import AbstractRecordedSystem, read, readable
from jaxtwin.physics.record import record
from jaxtwin.physics.solution import Solution

# A forward model is wrong by much less inside its box; beyond this share of the method's own
# validation error, the method's answer and the simulation are not the same patient.
LARGEST_GAP = 0.5
# The shortest recording in which anything has extremes [s].
SHORTEST_BEAT = 0.4


class Twin(NamedTuple):
    """What a clip says about its patient.

    Attributes:
        system: The model.
        box: The free parameters and where they were sought.
        theta: The free parameters, in the order of the box.
        parameters: All parameters of the model.
        emulated: Readings that were measured on the clips that were learnt from, by name, as the
            method has them.
        solution: The simulation at θ, by the simulator and not the forward model.
        readings: All readings of the simulation, by name.
        compatible: The patients of the box who would have been measured alike.
        distance: Distance of the clip from the training clips; see `Familiarity`.
        threshold: Largest distance of a clip that is like them.
        warnings: In plain words; empty where there is nothing to warn of.
    """

    system: AbstractRecordedSystem
    box: Box
    theta: Float[np.ndarray, " free"]
    parameters: AbstractParameters
    emulated: dict[str, float]
    solution: Solution[Any, Any]
    readings: dict[str, float]
    compatible: Compatible
    distance: float
    threshold: float
    warnings: tuple[str, ...]


def read_clip(path: Path, format: ClipFormat) -> UInt8[np.ndarray, "frames size size"]:
    """Read the beginning of a recording in the format of an encoder; see `read_recording`.

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
    learnt: Learnt[ClipTask, Clips],
    clip: UInt8[np.ndarray, "frames size size"],
    vitals: Vitals = UNKNOWN,
    *,
    about: Sequence[str] | None = None,
) -> Twin:
    """Estimate the parameters of a clip's patient and simulate the beat.

    Args:
        learnt: What a method learnt that gives θ through a forward model, such as `PSSL`. Its
            validation errors say how far the readings of an unseen clip are to be trusted.
        clip: In the format of the method's task, see `read_clip`.
        vitals: Measured beside the clip; those of the task are needed.
        about: Readings that were not measured, and about which the compatible patients are asked;
            by default all that the forward model's outputs allow.

    Raises:
        ValueError: If the method gives no θ, a vital that the task needs is missing, or nobody in
            the box has such readings.
    """
    task, knowledge = learnt.task, learnt.knowledge
    forward = getattr(learnt.method, "forward", None)
    if not isinstance(forward, AbstractForward) or not isinstance(knowledge, ClipKnowledge):
        raise ValueError(
            f"{type(learnt.method).__name__} gives no parameters of a patient: build twins with "
            "what PSSL learnt from clips"
        )
    familiarity = knowledge.familiarity
    if familiarity is None:
        raise ValueError("the encoder is not trained: its familiarity is unknown")
    got = learnt.estimate(Clips.from_arrays(clip[None], task.format, [vitals]))
    assert got.theta is not None and got.features is not None
    theta, system = got.theta[0], task.system
    p = task.box.complete(jnp.asarray(theta))
    solution = jax.jit(lambda p: record(system, p))(p)
    simulated = {name: float(value) for name, value in read(system, solution).items()}
    emulated = {name: float(values[0]) for name, values in got.readings.items()}
    if about is None:
        allowed = readable(system, forward(jnp.asarray(theta)))
        about = [name for name in allowed if name not in task.measured]
    compatible = compatible_patients(
        forward, _with_errors(learnt, emulated, vitals), about=tuple(about)
    )
    distance = float(familiarity.distance(jnp.asarray(got.features[0])))
    threshold = float(familiarity.threshold)
    warnings = []
    if not distance <= threshold:
        warnings.append(
            f"This clip looks unlike the clips the encoder was trained on (distance "
            f"{distance:.1f}, familiar up to {threshold:.1f}): do not rely on any number below."
        )
    if not bool(solution.success):
        warnings.append(
            f"The simulation at these parameters did not settle into a beat (residual "
            f"{float(solution.stats.residual):.1e}): the simulated numbers mean nothing."
        )
    for name, value in emulated.items():
        gap, unit = abs(value - simulated[name]), system.readings()[name].unit
        if not gap <= LARGEST_GAP * learnt.validation[f"{name}_error"]:
            warnings.append(
                f"Forward model and simulation disagree by {gap:.2g} {unit} about {name}: believe "
                "the simulation."
            )
    return Twin(
        system=system,
        box=task.box,
        theta=theta,
        parameters=p,
        emulated=emulated,
        solution=solution,
        readings=simulated,
        compatible=compatible,
        distance=distance,
        threshold=threshold,
        warnings=tuple(warnings),
    )


def _with_errors(
    learnt: Learnt[ClipTask, Clips], emulated: dict[str, float], vitals: Vitals
) -> dict[str, tuple[float, float]]:
    """What was measured of the patient, with the method's validation errors.

    EF follows from the two volumes, and would say the same again.
    """
    measured = {name: emulated[name] for name in ("EDV", "ESV")}
    measured |= {name: getattr(vitals, name) for name in learnt.task.vitals}
    return {name: (value, learnt.validation[f"{name}_error"]) for name, value in measured.items()}


def describe(twin: Twin) -> dict[str, Any]:
    """A twin as JSON allows it, every number with its unit."""
    intervals, narrowing = twin.compatible.intervals, twin.compatible.narrowing
    units = {name: one.unit for name, one in twin.system.readings().items()}

    def compatible(name: str) -> dict[str, Any]:
        if name not in intervals:
            return {}
        return {"compatible": intervals[name], "narrowing": narrowing[name]}

    def readings(values: dict[str, float]) -> dict[str, dict[str, Any]]:
        return {name: {"value": value, "unit": units[name]} for name, value in values.items()}

    simulated = readings(twin.readings)
    return {
        "warnings": list(twin.warnings),
        "parameters": {
            spec.name: {
                "value": float(value),
                "unit": spec.unit,
                "meaning": spec.meaning,
                **compatible(spec.name),
            }
            for spec, value in zip(twin.box.specs, twin.theta, strict=True)
        },
        "emulated": readings(twin.emulated),
        "simulated": {name: entry | compatible(name) for name, entry in simulated.items()},
        "converged": bool(twin.solution.success),
        "familiarity": {"distance": twin.distance, "threshold": twin.threshold},
        "note": (
            "Research use only. `compatible` is the central 90% of the patients of the box whose "
            "measurements agree with this clip's; `narrowing` is the width of that interval over "
            "its width without any measurement. A parameter with a narrowing near 1 is a guess."
        ),
    }


def summary(twin: Twin) -> str:
    """A twin as a short table for the terminal."""
    units = {name: one.unit for name, one in twin.system.readings().items()}
    lines = [f"WARNING: {warning}" for warning in twin.warnings]
    lines.append(f"{'':14}{'value':>10}  {'unit':<12} {'same volumes (90%)':>22}  narrowing")

    def compatible(name: str) -> str:
        if name not in twin.compatible.intervals:
            return ""
        low, high = twin.compatible.intervals[name]
        return f"{f'{low:.3g} – {high:.3g}':>22}  {twin.compatible.narrowing[name]:.2f}"

    for spec, value in zip(twin.box.specs, twin.theta, strict=True):
        lines.append(f"{spec.name:14}{value:10.4g}  {spec.unit:<12} {compatible(spec.name)}")
    for name, value in twin.emulated.items():
        again = twin.readings[name]
        lines.append(f"{name:14}{value:10.4g}  {units[name]:<12} re-simulated {again:.4g}")
    for name, value in twin.readings.items():
        if name not in twin.emulated:
            lines.append(
                f"{name:14}{value:10.4g}  {units[name]:<12} {compatible(name) or 'simulated'}"
            )
    return "\n".join(lines)
