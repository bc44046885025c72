"""Twin builders on disk, in the subfolders of a training run's folder."""

from pathlib import Path

import equinox as eqx
import jax
import numpy as np

from jaxtwin.forward.base import AbstractForward
from jaxtwin.imaging.calibration import CurveCalibration
from jaxtwin.imaging.orientation import OrientationNetwork
from jaxtwin.imaging.segmenter import load_segmenter, save_segmenter
from jaxtwin.inference.neural import NeuralPosterior
from jaxtwin.methods.measured import Channel
from jaxtwin.methods.pssl_curves import CurvePSSL
from jaxtwin.methods.saving import load_learnt, save_learnt
from jaxtwin.methods.tasks import CurveTask
from jaxtwin.parameters import NormalPrior
from jaxtwin.training import checkpoint
from jaxtwin.twin.echo import TwinBuilder
from jaxtwin.twin.signs import SIGNS, Limits

POSTERIORS = ("posterior", "posterior_without_scale")
"""Folders of the posteriors in a run's folder."""


def save_builder(folder: str | Path, builder: TwinBuilder) -> None:
    """Save everything but the emulator, in subfolders of a run's folder; see `load_builder`."""
    folder = Path(folder)
    save_segmenter(folder / "segmenter", builder.segmenter)
    checkpoint.save(folder / "orientation", builder.orientation, {"kind": "orientation"})
    save_learnt(folder / "encoder", builder.learnt)
    for name, posterior in zip(POSTERIORS, builder.posteriors, strict=True):
        save_learnt(folder / name, posterior)
    names = list(builder.before)
    checkpoint.save(
        folder / "before",
        np.stack([np.asarray(builder.before[name], np.float32) for name in names]),
        {"kind": "before", "names": names, "patients": len(builder.before[names[0]])},
    )
    first = builder.calibrations[0]
    checkpoint.save(
        folder / "calibration",
        builder.calibrations,
        {
            "kind": "calibration",
            "features": len(first.size.mean),
            "phases": first.residuals.shape[1],
            "clips": [len(one.residuals) for one in builder.calibrations],
        },
    )
    # Last, because it says that the rest is complete.
    checkpoint.save(folder / "limits", builder.limits, {"kind": "limits", "signs": list(SIGNS)})


def load_builder(folder: str | Path, forward: AbstractForward) -> TwinBuilder:
    """Load what `save_builder` saved.

    Args:
        folder: Folder of the run.
        forward: Forward model with which the encoder was trained.

    Raises:
        CheckpointError: If a part is missing, damaged, or of another forward model.
    """
    folder = Path(folder)
    orientation = checkpoint.load(
        folder / "orientation",
        eqx.filter_eval_shape(lambda: OrientationNetwork(key=jax.random.key(0))),
    )
    kept = checkpoint.config(folder / "calibration", kind="calibration")
    calibrations = tuple(
        CurveCalibration.blank(kept["features"], kept["phases"], clips) for clips in kept["clips"]
    )
    told = checkpoint.config(folder / "limits", kind="limits")["signs"]
    if told != list(SIGNS):
        raise checkpoint.CheckpointError(
            f"the limits at {folder} are of the signs {', '.join(told)}; this version has "
            f"{', '.join(SIGNS)}: train again"
        )
    first, second = checkpoint.load(folder / "calibration", calibrations)
    task = _learnt_task(folder, forward)
    names, patients = (
        checkpoint.config(folder / "before", kind="before")[key] for key in ("names", "patients")
    )
    before = checkpoint.load(folder / "before", np.zeros((len(names), patients), np.float32))
    informed, inferred = (
        load_learnt(folder / name, NeuralPosterior(), task) for name in POSTERIORS
    )
    return TwinBuilder(
        load_segmenter(folder / "segmenter"),
        orientation,
        (first, second),
        load_learnt(folder / "encoder", CurvePSSL(forward=forward), task),
        checkpoint.load(folder / "limits", Limits.blank()),
        (informed, inferred),
        dict(zip(names, np.asarray(before, float), strict=True)),
    )


def _learnt_task(folder: Path, forward: AbstractForward) -> CurveTask:
    """Return the task that an encoder learnt, on the system and box of its forward model."""
    told = checkpoint.config(folder / "encoder", kind="learnt")["task"]
    channel, *hidden = told["channels"]
    return CurveTask(
        forward.system,
        forward.box,
        channel,
        told["resolution"],
        tuple(hidden),
        told["samples"],
        known=tuple(told["known"]),
        noise=told["noise"],
        unknown_start=told.get("unknown_start", False),
        prior=NormalPrior.described(told["prior"]) if "prior" in told else None,
        beside=tuple(Channel(**channel) for channel in told.get("beside", ())),
    )
