"""From echo clips to digital twins: physics-informed self-supervised learning, end to end.

    python -m experiments.pssl [--preset tiny|default|full] [--data DIR] [--out DIR]

Simulates the left heart over its parameter box and trains the emulator; renders a cohort of
phantom clips (or reads EchoNet-Dynamic from --data DIR); trains the encoder through the frozen
emulator on EDV, ESV and EF alone; scores clips it has not seen, with EF by the emulator and
re-simulated; and builds a twin from one real clip, the apical four-chamber recording that comes
with pydicom. After Kuang et al., NeurIPS 2024, table 1 (P-SSL).

The default takes about 8 minutes on two CPU cores: expect an EF error below 4 points on unseen
phantom clips, where predicting the median gives 12. The tiny preset takes about one and only shows
that everything runs. Phantom patients differ in seven parameters whichever twin is learnt.
"""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.command import Run, RunConfig, main
from experiments.twin import real_clip, write_twin
from jaxtwin import plotting
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.draw import draw_cohort
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.data.base import ClipFormat
from jaxtwin.data.cache import ClipCache
from jaxtwin.data.camus import Camus
from jaxtwin.data.echonet import EchoNet, Record, read_echonet, read_theta
from jaxtwin.data.phantom.files import PhantomBeat, write_cohort
from jaxtwin.data.vitals import VitalName
from jaxtwin.encoders.create import EncoderName, create_encoder
from jaxtwin.forward.emulator import Emulator
from jaxtwin.forward.learning import EMULATOR_TRAINING, learn_emulator
from jaxtwin.methods.clips import (
    Predictions,
    cached_measurements,
    predict_cached,
    train_on_clips,
)
from jaxtwin.methods.pssl import PSSL, save_pssl
from jaxtwin.models.left_heart import SEVEN, THREE, LeftHeart
from jaxtwin.parameters import Box
from jaxtwin.training.loop import TrainingConfig
from jaxtwin.training.progress import progress_bar
from jaxtwin.twin import build_twin, read_clip, summary

BOXES = {"seven": SEVEN, "three": THREE}
# The waveforms that the emulator learns, on so many phases a beat.
CHANNELS, PHASES = ("V_lv", "P_lv", "P_ao"), 80


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Learn digital twins from echo clips.

    Attributes:
        data: A folder in EchoNet-Dynamic's layout; by default phantom clips are made.
        twin: Which of the paper's twins is learnt, with seven or three free parameters.
        simulations: Simulated patients that the emulator learns from.
        unseen: Simulated patients that it is measured on.
        emulator: How the emulator is trained.
        clips: Phantom clips for training, validation and test.
        format: What every clip is brought to.
        encoder: The default network or the paper's.
        training: How the encoder is trained.
    """

    data: Path | None = None
    twin: Literal["seven", "three"] = "seven"
    simulations: int = 16_384
    unseen: int = 4_096
    emulator: TrainingConfig = EMULATOR_TRAINING
    clips: tuple[int, int, int] = (1_000, 100, 200)
    format: ClipFormat = ClipFormat()
    encoder: EncoderName = "tubelet"
    training: TrainingConfig = TrainingConfig(
        steps=1_000, batch_size=16, weight_decay=1e-2, evaluate_every=100, patience=5
    )

    def __post_init__(self):
        super().__post_init__()
        check_clips(self.clips)


def check_clips(clips: tuple[int, int, int]) -> None:
    """Raise a ValueError if so many phantoms cannot be learnt from, selected with or scored."""
    if clips[0] < 4 or min(clips) < 1:
        raise ValueError(
            f"--clips {' '.join(map(str, clips))}: expected at least 4 to train on, 1 to validate "
            "and 1 to test"
        )


PRESETS = {
    "tiny": Config(
        preset="tiny",
        simulations=1_024,
        unseen=256,
        emulator=TrainingConfig(steps=300, batch_size=128, learning_rate=4e-3, evaluate_every=100),
        clips=(48, 8, 16),
        training=TrainingConfig(steps=24, batch_size=8, weight_decay=1e-2, evaluate_every=12),
    ),
    "default": Config(),
    "full": Config(
        preset="full",
        simulations=65_536,
        emulator=TrainingConfig(
            steps=20_000, batch_size=1_024, learning_rate=4e-3, evaluate_every=1_000
        ),
        clips=(8_000, 1_000, 1_000),
        training=TrainingConfig(steps=20_000, batch_size=32, weight_decay=1e-2, evaluate_every=500),
    ),
}


def obtain_emulator(
    run: Run, box: Box, *, simulations: int, unseen: int, training: TrainingConfig, seed: int
) -> tuple[Emulator, dict[str, float]]:
    """The left heart's emulator in the run's folder, see `learn_emulator`."""
    return learn_emulator(
        run.folder,
        LeftHeart(),
        box,
        CHANNELS,
        phases=PHASES,
        simulations=simulations,
        unseen=unseen,
        training=training,
        seed=seed,
    )


def make_phantoms(folder: Path, clips: tuple[int, int, int], *, seed: int) -> None:
    """Draw a cohort, render it, and write it in EchoNet-Dynamic's layout.

    Args:
        folder: Where; a complete cohort that is there is kept.
        clips: How many for training, validation and test.
        seed: Of patients, nuisances and noise.
    """
    if (folder / "FileList.csv").exists():
        return
    patients = draw_cohort(LeftHeart(), SEVEN, sum(clips), seed=3 * seed + 2**20, phases=PHASES)
    write_phantoms(folder, patients, SEVEN, clips, seed=seed)


def write_phantoms(
    folder: Path,
    patients: Cohort,
    box: Box,
    clips: tuple[int, int, int],
    *,
    seed: int,
    vitals: Mapping[VitalName, np.ndarray] | None = None,
) -> None:
    """Render patients and write them in EchoNet-Dynamic's layout.

    Args:
        folder: Where.
        patients: The first ones for training, then validation, then test.
        box: Of their θ.
        clips: How many for each.
        seed: Of nuisances and noise.
        vitals: What was measured beside their clips.
    """
    waveforms = patients.recording.waveforms
    period = patients.theta[:, box.names.index("T_c")]
    names = ("TRAIN", "VAL", "TEST")
    write_cohort(
        folder,
        PhantomBeat(waveforms.V_lv, waveforms.q_m, waveforms.q_a, period),
        dict(zip(box.names, patients.theta.T, strict=True)),
        [name for name, n in zip(names, clips, strict=True) for _ in range(n)],
        seed,
        vitals=vitals,
        progress=lambda clips: progress_bar(
            clips, total=len(period), desc="rendering", unit="clip"
        ),
    )


def decode(records: Sequence[Record], format: ClipFormat, folder: Path) -> ClipCache:
    """The records' clips, decoded or opened, with a progress bar."""
    return ClipCache.build(
        records,
        format,
        folder,
        progress=lambda clips: progress_bar(
            clips, total=len(records), desc="decoding", unit="clip"
        ),
    )


def check_splits(dataset: EchoNet | Camus) -> None:
    """Raise a ValueError if there is nothing to train on, to select with or to score."""
    counts = {name: len(dataset.split(name)) for name in ("TRAIN", "VAL", "TEST")}
    if counts["TRAIN"] < 4 or not counts["VAL"] or not counts["TEST"]:
        raise ValueError(
            f"usable clips: {counts}; expected at least 4 to train on, 1 to validate and 1 to "
            "test; check the Split column, or make a larger cohort with --clips"
        )


def score(
    model: PSSL, cache: ClipCache, split: str
) -> tuple[Predictions, np.ndarray, dict[str, float]]:
    """Errors on a split, beside those of predicting the training clips' median for everyone.

    Returns:
        The predictions, the EF of the simulator at each predicted θ (NaN where it failed), and
        a table of errors.
    """
    indices = cache.split(split)
    got = predict_cached(model, cache, indices)
    true = cached_measurements(cache, indices)
    median = [np.median(x) for x in cached_measurements(cache, cache.split("TRAIN"))[:3]]
    again = simulate_cohort(model.forward.system, model.box, np.asarray(got.theta), phases=PHASES)
    EF_again = np.where(again.success, again.read(["EF"])["EF"], np.nan)
    return (
        got,
        EF_again,
        {
            "clips": len(indices),
            "EF_error": float(np.abs(got.EF - true.EF).mean()),
            "EF_error_resimulated": float(np.nanmean(np.abs(EF_again - true.EF))),
            "EF_error_median_predictor": float(np.abs(median[2] - true.EF).mean()),
            "EDV_error_percent": float(100 * (np.abs(got.EDV - true.EDV) / true.EDV).mean()),
            "EDV_error_percent_median_predictor": float(
                100 * (np.abs(median[0] - true.EDV) / true.EDV).mean()
            ),
            "ESV_error_percent": float(100 * (np.abs(got.ESV - true.ESV) / true.ESV).mean()),
            "failed_resimulations": int((~again.success).sum()),
        },
    )


def draw_figures(
    run: Run, model: PSSL, cache: ClipCache, got: Predictions, data: Path, real: Path
) -> None:
    """The contact sheet, the scatter plots, the learning curves, the parameters' recovery."""
    test = cache.split("TEST")
    frames = np.linspace(0, 15, 6).astype(int)  # one second
    rows = [("real clip\n(pydicom)", read_clip(real, model.format)[frames])]
    rows += [
        (f"EF {cache.records[i].ef:.0f}%\nEDV {cache.records[i].edv:.0f} mL", cache.clip(i)[frames])
        for i in test[:5]
    ]
    figure = Figure(figsize=(9, 9))
    plotting.contact_sheet(figure.subplots(), rows)
    run.figure("contact_sheet", figure)

    true = cached_measurements(cache, test)
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    for ax, name, unit in zip(
        figure.subplots(1, 3), got._fields[1:4], ("mL", "mL", "%"), strict=True
    ):
        plotting.agreement(ax, getattr(true, name), getattr(got, name), label=f"{name} [{unit}]")
    run.figure("scatter", figure)

    log = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    figure = Figure(figsize=(8, 3), layout="constrained")
    for ax, stage in zip(figure.subplots(1, 2), ("emulator", "encoder"), strict=True):
        plotting.learning_curve(ax, log, stage=stage)
    run.figure("learning", figure)

    if (data / "Theta.csv").exists():
        truth = read_theta(data)
        names = [cache.records[i].name for i in test]
        figure = Figure(figsize=(11, 5.5), layout="constrained")
        axes = list(figure.subplots(2, 4).flat)
        for ax, spec, column in zip(axes, model.box.specs, np.asarray(got.theta).T, strict=False):
            values = np.array([truth[Path(name).stem][spec.name] for name in names])
            plotting.recovery(ax, spec, values, column)
        for ax in axes[len(model.box.specs) :]:
            ax.axis("off")
        run.figure("parameters", figure)


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """All of it; returns what goes into results.json."""
    began = time.monotonic()
    # What can be wrong with the flags shows before the hours of work, not after.
    encoder = create_encoder(
        config.encoder,
        config.format,
        len(BOXES[config.twin].names),
        key=jax.random.key(config.seed + 1),
    )
    if config.data is not None:
        check_splits(read_echonet(config.data))
    emulator, emulator_errors = obtain_emulator(
        run,
        BOXES[config.twin],
        simulations=config.simulations,
        unseen=config.unseen,
        training=config.emulator,
        seed=config.seed,
    )
    data = config.data or run.folder / "phantom"
    if config.data is None:
        make_phantoms(data, config.clips, seed=config.seed)
    dataset = read_echonet(data)
    check_splits(dataset)
    cache = decode(dataset.records, config.format, run.folder / "clips")
    skipped = [*dataset.skipped, *cache.skipped]
    for clip in skipped:
        print(f"skipped {clip.name}: {clip.reason}")
    fitted = train_on_clips(
        PSSL(encoder=encoder, forward=emulator, format=config.format, name=config.encoder),
        cache,
        config.training,
        folder=run.folder,
        description={"data": str(config.data or "phantom")},
        seed=config.seed,
        resume=config.resume,
    )
    model = fitted.model
    save_pssl(run.folder / "encoder", model, fitted.validation)
    got, _, scores = score(model, cache, "TEST")
    real = real_clip()
    draw_figures(run, model, cache, got, data, real)
    twin = build_twin(model, read_clip(real, config.format), fitted.validation)
    write_twin(run, "twin_real_clip", twin, model)

    print(f"\nTwin of the real clip {real.name}:\n{summary(twin, model)}")
    print(
        f"\n{'':34}{'P-SSL':>8}{'median predictor':>18}\n"
        f"{'EF error, emulated [points]':34}{scores['EF_error']:8.2f}"
        f"{scores['EF_error_median_predictor']:18.2f}\n"
        f"{'EF error, re-simulated [points]':34}{scores['EF_error_resimulated']:8.2f}\n"
        f"{'EDV error [%]':34}{scores['EDV_error_percent']:8.1f}"
        f"{scores['EDV_error_percent_median_predictor']:18.1f}\n"
        f"on {scores['clips']} unseen clips; emulator: EF error {emulator_errors['EF_mean']:.3f} "
        f"points (worst {emulator_errors['EF_worst']:.1f}) on unseen parameters"
    )
    return {
        "emulator": emulator_errors,
        "validation": fitted.validation,
        "test": scores,
        "training": {
            "best_step": fitted.best_step,
            "steps": fitted.steps,
            "seconds": fitted.seconds,
        },
        "skipped": [{"name": clip.name, "reason": clip.reason} for clip in skipped],
        "seconds_since_last_start": time.monotonic() - began,
    }


if __name__ == "__main__":
    main("pssl", PRESETS, experiment, __doc__)
