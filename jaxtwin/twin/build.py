"""Construction of a twin from an estimate of a patient's parameters."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from jaxtwin.analysis.identifiability import Compatible, compatible_patients
from jaxtwin.analysis.verdict import Verdict
from jaxtwin.data.vitals import UNKNOWN, Vitals
from jaxtwin.forward.base import AbstractForward
from jaxtwin.methods.base import Estimate, Learnt
from jaxtwin.methods.clip_training import ClipKnowledge
from jaxtwin.methods.clips import Clips, ClipTask
from jaxtwin.physics.base import readable_names
from jaxtwin.twin.simulation import Beats, simulate_patients
from jaxtwin.twin.twin import Twin

# Largest difference between forward model and simulation, as a share of the method's validation
# error. Inside its box a forward model is much more accurate; beyond this limit the readings of the
# method and of the simulation do not describe the same patient.
LARGEST_GAP = 0.5


def build_twin(
    learnt: Learnt[ClipTask, Clips],
    clip: UInt8[np.ndarray, "frames size size"],
    vitals: Vitals = UNKNOWN,
    *,
    about: Sequence[str] | None = None,
) -> Twin:
    """Estimate the parameters of a clip's patient and simulate the beat.

    Args:
        learnt: Result of a method that gives θ through a forward model, such as `PSSL`. Its
            validation errors are taken as the errors of the readings of an unseen clip.
        clip: The clip in the format of the method's task, see `jaxtwin.data.read_clip`.
        vitals: Vitals measured in addition to the clip; those of the task are required.
        about: Names of readings for which to return the range over the compatible patients; by
            default all that can be computed from the forward model's outputs.

    Raises:
        ValueError: If the method gives no θ, a vital of the task is missing, or no patient in the
            box has such readings.
    """
    if not isinstance(learnt, Learnt):
        raise ValueError(
            f"learnt is of type {type(learnt).__name__}: expected build_twin(learnt, clip) with "
            "what `learn` or `load_learnt` returned"
        )
    clip = np.asarray(clip)
    task, knowledge = learnt.task, learnt.knowledge
    forward = getattr(learnt.method, "forward", None)
    if not isinstance(forward, AbstractForward) or not isinstance(knowledge, ClipKnowledge):
        raise ValueError(
            f"{type(learnt.method).__name__} gives no parameters of a patient: build twins with a "
            "PSSL trained on clips"
        )
    familiarity = knowledge.familiarity
    if familiarity is None:
        raise ValueError("the encoder is not trained: its familiarity is unknown")
    got = learnt.estimate(Clips.from_arrays(clip[None], task.format, [vitals]))
    assert got.features is not None
    emulated = {name: float(values[0]) for name, values in got.readings.items()}
    distance = float(familiarity.distance(got.features[0]))
    threshold = float(familiarity.threshold)
    familiar = distance <= threshold
    verdict = Verdict(
        "trusted" if familiar else "doubtful",
        ()
        if familiar
        else (
            f"the clip does not resemble the clips the encoder was trained on (distance "
            f"{distance:.1f}, familiar up to {threshold:.1f})",
        ),
        {"features": distance / threshold},
    )
    assert got.theta is not None
    return simulate_twin(
        learnt,
        got,
        simulate_patients(task.system, task.box, np.asarray(got.theta)),
        _with_errors(learnt, emulated, vitals),
        verdict,
        learnt.validation,
        about=about,
    )


def simulate_twin(
    learnt: Learnt[Any, Any],
    got: Estimate,
    beats: Beats,
    measured: Mapping[str, tuple[float, float]],
    verdict: Verdict,
    errors: Mapping[str, float],
    *,
    about: Sequence[str] | None = None,
    compatible: Compatible | None = None,
) -> Twin:
    """Make the twin of an estimate's patient, and compare it with the method's forward model.

    Args:
        learnt: The method, with a forward model.
        got: Its estimate of one patient.
        beats: Simulations, of which the first is this patient's.
        measured: Measured readings with their errors.
        verdict: Whether to believe the measurement.
        errors: Typical error of each reading, `EDV_error` and so on, with which differences of the
            forward model from the simulation are compared.
        about: See `build_twin`.
        compatible: Who could have been measured so, if a posterior tells; by default everyone in
            the box whose readings agree with the measured ones, see `compatible_patients`.

    Raises:
        IncompatibleError: If hardly any patient of the box has such readings.
    """
    assert got.theta is not None
    task, forward = learnt.task, getattr(learnt.method, "forward", None)
    assert isinstance(forward, AbstractForward)
    theta, system = got.theta[0], task.system
    emulated = {name: float(got.readings[name][0]) for name in _told(got, errors)}
    p = task.box.complete(np.asarray(theta))
    solution, simulated = beats.first()
    if about is None:
        allowed = readable_names(system, lambda: forward(jnp.asarray(theta)))
        about = list(allowed)
    if compatible is None:
        compatible = compatible_patients(
            forward, measured, about=tuple(about), prior=getattr(task, "prior", None)
        )
    warnings = []
    if verdict.kind != "trusted":
        warnings.append(
            f"{verdict.kind.capitalize()}: {'; '.join(verdict.reasons)}. Do not rely on any number "
            "below."
        )
    if not beats.success[0]:
        warnings.append(
            f"The simulation at these parameters did not settle into a beat (residual "
            f"{float(solution.stats.residual):.1e}): the simulated numbers are meaningless."
        )
    for name, value in emulated.items():
        gap, unit = abs(value - simulated[name]), system.readings()[name].unit
        if not gap <= LARGEST_GAP * errors[f"{name}_error"]:
            warnings.append(
                f"Forward model and simulation disagree by {gap:.2g} {unit} about {name}: trust "
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
        verdict=verdict,
        warnings=tuple(warnings),
    )


def _told(got: Estimate, errors: Mapping[str, float]) -> list[str]:
    """Return the readings of an estimate whose typical error is known."""
    return [name for name in got.readings if f"{name}_error" in errors]


def _with_errors(
    learnt: Learnt[ClipTask, Clips], emulated: dict[str, float], vitals: Vitals
) -> dict[str, tuple[float, float]]:
    """Return the measured readings of the patient with the method's validation errors.

    EF is left out because it follows from the two volumes.
    """
    measured = {name: emulated[name] for name in ("EDV", "ESV")}
    measured |= {name: getattr(vitals, name) for name in learnt.task.vitals}
    return {name: (value, learnt.validation[f"{name}_error"]) for name, value in measured.items()}
