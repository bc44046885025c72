"""What should the encoder of P-SSL see: the volume curve, the clip, its label maps, or several?

    python -m benchmarks.inputs --run runs/pssl-default --out runs/inputs

The training run gives phantoms, segmentation, calibration and emulator. All encoders learn from the
same clips, through the same emulator and by the same loss: the volume curve of a whole beat whose
start is unknown. It is compared with the curve that was found in the clip, or with the exact one,
which no real clip has. The period is always that which was found.
"""

import dataclasses
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.commands.curve_scores import percent_off, rank
from jaxtwin.commands.emulator import BOXES, PHASES
from jaxtwin.commands.run import mistakes, origin
from jaxtwin.commands.twin import load_run
from jaxtwin.data.base import ClipFormat, EchoVideo, resample, window
from jaxtwin.data.echonet import Record, read_echonet, read_theta
from jaxtwin.data.recording import read_recording
from jaxtwin.encoders.tubelet import TubeletEncoder
from jaxtwin.imaging.calibration import curve_features
from jaxtwin.imaging.examples import read_labels
from jaxtwin.imaging.segmenter import thinned
from jaxtwin.methods.clip_training import shift
from jaxtwin.methods.curves import CurveEncoder
from jaxtwin.methods.pssl_curves import CurvePSSL
from jaxtwin.methods.settings import CLIP_TRAINING, CURVE_TRAINING
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.models.ejection import ejection_fraction
from jaxtwin.parameters import Box
from jaxtwin.training.loop import epochs, fit
from jaxtwin.training.progress import progress_bar
from jaxtwin.twin.echo import TwinBuilder, periods

SEEN = {
    "curve": (None, True),
    "clip": ("grey", False),
    "masks": ("masks", False),
    "clip and curve": ("grey", True),
    "masks and curve": ("masks", True),
}
"""What encoders see by name: which pictures, and whether the curve."""
TARGETS = ("found", "exact")
GREY = np.array([0, 255, 128, 64], np.uint8)  # of background, cavity, myocardium and left atrium
SCORED = ("T_c", "V_0", "E_max", "R_m", "R_s")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Compare what the encoder of P-SSL may see.

    Attributes:
        run: Folder of a run of `jaxtwin train` that learnt from phantoms.
        out: Folder for the measured clips and the results.
        seen: What the encoders see: curve, clip, masks, clip and curve, masks and curve.
        targets: Curves that the twins are compared with: found, exact.
        seeds: Number of seeds.
        steps: Number of steps of encoders that see pictures, of 16 clips each.
        curve_steps: Number of steps of those that see curves alone, of 128 clips each.
    """

    run: Path
    out: Path = Path("runs/inputs")
    seen: tuple[str, ...] = tuple(SEEN)
    targets: tuple[str, ...] = TARGETS
    seeds: int = 3
    steps: int = CLIP_TRAINING.steps
    curve_steps: int = CURVE_TRAINING.steps

    def __post_init__(self):
        for name, known in (("seen", tuple(SEEN)), ("targets", TARGETS)):
            if unknown := [one for one in getattr(self, name) if one not in known]:
                raise ValueError(f"--{name} {', '.join(unknown)}: expected {', '.join(known)}")


class Clips(NamedTuple):
    """Measured clips.

    Attributes:
        grey: The clips.
        masks: Their label maps as clips.
        found: Calibrated volume curves [mL].
        exact: True volume curves [mL].
        period: Periods found in the clips [s].
        theta: True parameters.
    """

    grey: UInt8[np.ndarray, "clip frames size size"]
    masks: UInt8[np.ndarray, "clip frames size size"]
    found: Float[np.ndarray, "clip phase"]
    exact: Float[np.ndarray, "clip phase"]
    period: Float[np.ndarray, " clip"]
    theta: Float[np.ndarray, "clip free"]


class Rows(NamedTuple):
    """What one encoder is shown of some clips, and what its twins are compared with.

    Attributes:
        picture: Clips or label maps; [clip, 0] if the encoder sees neither.
        curve: Volume curves [mL]; NaN if it sees none.
        period: Periods [s].
        target: Volume curves to be explained [mL].
    """

    picture: UInt8[Array, "clip ..."]
    curve: Float[Array, "clip phase"]
    period: Float[Array, "clip 1"]
    target: Float[Array, "clip phase"]

    @classmethod
    def of(cls, clips: Clips, seen: str, target: str) -> "Rows":
        """Select what is seen and what it is compared with."""
        pictures, curve = SEEN[seen]
        blank = np.zeros((len(clips.period), 0), np.uint8)
        parts = (
            blank if pictures is None else getattr(clips, pictures),
            clips.found if curve else np.full_like(clips.found, np.nan),
            clips.period[:, None],
            getattr(clips, target),
        )
        return cls(*map(jnp.asarray, parts))

    def take(self, rows: Any) -> "Rows":
        """Select clips."""
        return Rows(*(leaf[rows] for leaf in self))

    def batches(self) -> Iterator["Rows"]:
        """Yield all clips in order."""
        for start in range(0, len(self.period), 50):
            yield self.take(slice(start, start + 50))


class Encoder(eqx.Module):
    """A network from pictures, a curve or both, and the period, to raw parameters."""

    curve: CurveEncoder
    pictures: TubeletEncoder | None

    @classmethod
    def create(
        cls, task: CurveTask, training: Rows, format: ClipFormat, key: PRNGKeyArray
    ) -> "Encoder":
        """Make an untrained encoder."""
        free, keys = len(task.box.names), jax.random.split(key)
        shown = Curves(np.asarray(training.curve), np.asarray(training.period))
        curve = CurveEncoder.create(shown, free, key=keys[0])
        if training.picture.ndim == 2:
            return cls(curve, None)
        return cls(curve, TubeletEncoder(format, free, beside=len(curve.mean), key=keys[1]))

    def __call__(self, row: Rows) -> Float[Array, " free"]:
        """Return the raw parameters of one clip."""
        if self.pictures is None:
            return self.curve(row.period, row.curve)
        beside = jnp.concatenate([row.period, row.curve])
        mean, spread = jax.lax.stop_gradient((self.curve.mean, self.curve.spread))
        beside = jnp.where(jnp.isfinite(beside), (beside - mean) / spread, 0.0)
        return self.pictures.head(jnp.concatenate([self.pictures.features(row.picture), beside]))


def look(builder: TwinBuilder, record: Record, format: ClipFormat) -> tuple[Any, ...] | None:
    """Return a clip, its label maps, its curve and its period; None if no beat is found."""
    recording = thinned(read_recording(record.path))
    found = builder.segmenter.measure(recording, read_labels(record).pixel)
    features = curve_features(found)
    low, high = periods(builder.learnt.task)
    if features is None or not low <= features.period <= high:
        return None
    grey, masks = (
        window(resample(EchoVideo(frames, found.times), format), format, 0)
        for frames in (found.frames, GREY[found.labels])
    )
    curve = builder.calibrations[0](features).volume
    return grey, masks, curve.astype(np.float32), np.float32(features.period)


def read_clips(builder: TwinBuilder, run: Path, out: Path, box: Box, split: str) -> Clips:
    """Return the clips of a split in which a beat is found; what is measured is kept."""
    kept, task = out / f"{split}.npz", builder.learnt.task
    if not kept.exists():
        records = read_echonet(run / "phantom").split(split)
        with ThreadPoolExecutor(2) as pool:
            seen = pool.map(lambda record: look(builder, record, ClipFormat()), records)
            rows = list(progress_bar(seen, total=len(records), desc=split, unit="clip"))
        good = [k for k, row in enumerate(rows) if row is not None]
        print(f"{split}: a beat was found in {len(good)} of {len(records)} clips")
        truth = read_theta(run / "phantom")
        theta = np.array([[truth[records[k].name][n] for n in box.names] for k in good], np.float32)
        cohort = simulate_cohort(task.system, box, theta, phases=PHASES)
        exact = np.asarray(cohort.recording.waveforms.V_lv, np.float32)
        grey, masks, found, period = map(np.stack, zip(*filter(None, rows), strict=True))
        partial = kept.with_suffix(".partial.npz")
        clips = Clips(grey, masks, found, exact, period, theta)
        np.savez(partial, allow_pickle=False, **clips._asdict())
        partial.replace(kept)
    with np.load(kept, allow_pickle=False) as file:
        return Clips(*(file[name] for name in Clips._fields))


def train(method: CurvePSSL, task: CurveTask, rows: tuple[Rows, Rows], seed: int) -> Encoder:
    """Train an encoder with the loss of `CurvePSSL` and select it on the second rows."""
    training, validation = rows
    start = Encoder.create(task, training, ClipFormat(), jax.random.key(seed))
    weight = 1 / jnp.hypot(task.noise, method.slack * jnp.asarray(task.resolutions))

    def objective(encoder: Encoder, seen: Rows, rows: Rows) -> Float[Array, ""]:
        def one(seen: Rows, row: Rows) -> Float[Array, ""]:
            raw = encoder(seen)
            got = method.forward(task.theta(raw, row.period))
            error = task.errors(got, task.comparable(row.target), weight)
            return (0.5 * jnp.sum(error**2) + task.surprise(raw, row.period)) / task.samples

        return jnp.mean(jax.vmap(one)(seen, rows))

    def loss(encoder: Encoder, batch: Rows, key: PRNGKeyArray) -> Float[Array, ""]:
        # As in `learn_from_curves` and `AbstractClipMethod`: more noise, and clips shifted.
        first, second = jax.random.split(key)
        noise = task.noise * jax.random.normal(first, batch.curve.shape, jnp.float32)
        seen = batch._replace(curve=jax.vmap(task.comparable)(batch.curve + noise))
        if encoder.pictures is not None:
            keys = jax.random.split(second, len(batch.period))
            seen = seen._replace(picture=jax.vmap(shift)(batch.picture, keys))
        return objective(encoder, seen, batch)

    def batches(step: int) -> Iterator[Rows]:
        n, size = len(training.period), method.config.batch_size
        return map(training.take, epochs(n, size, seed=seed, start_step=step))

    score = eqx.filter_jit(
        lambda encoder, rows: objective(
            encoder, rows._replace(curve=jax.vmap(task.comparable)(rows.curve)), rows
        )
    )

    def validate(encoder: Encoder) -> dict[str, float]:
        found = [(len(part.period), score(encoder, part)) for part in validation.batches()]
        return {"loss": float(sum(n * x for n, x in found) / sum(n for n, _ in found))}

    fitted = fit(
        start,
        loss,
        batches,
        validate,
        method.config,
        stage="inputs",
        folder=None,
        description={},
        seed=seed,
        resume=False,
    )
    return fitted.model


def measure(
    method: CurvePSSL, task: CurveTask, encoder: Encoder, rows: Rows, truth: Clips, box: Box
) -> dict[str, float]:
    """Compare the twins of unseen clips with the truth."""

    @eqx.filter_jit
    def apply(rows: Rows):
        def one(row: Rows):
            seen = row._replace(curve=task.comparable(row.curve))
            theta = task.theta(encoder(seen), row.period)
            return theta, method.forward(theta).waveforms.V_lv

        return jax.vmap(one)(rows)

    theta, volumes = map(np.concatenate, zip(*map(apply, rows.batches()), strict=True))
    (EDV, ESV), (true_EDV, true_ESV) = (
        (curves.max(axis=1), curves.min(axis=1)) for curves in (volumes, truth.exact)
    )
    off = ejection_fraction(EDV, ESV) - ejection_fraction(true_EDV, true_ESV)
    scores = {
        "EF_error": float(np.abs(off).mean()),
        "EDV_error_percent": percent_off(EDV, true_EDV),
        "ESV_error_percent": percent_off(ESV, true_ESV),
    }
    for name in SCORED:
        found, true = theta[:, task.box.names.index(name)], truth.theta[:, box.names.index(name)]
        agreement = rank(found, true)
        scores[f"rank_{name}"] = np.nan if agreement is None else agreement
    return scores


def main(arguments: Arguments) -> None:
    """Train and score every encoder; print a table and write results.json."""
    builder = load_run(arguments.run)
    if not isinstance(builder, TwinBuilder):
        raise ValueError(f"{arguments.run} learnt from volumes: train with --learn-from curve")
    arguments.out.mkdir(parents=True, exist_ok=True)
    box, task = BOXES["nine"], dataclasses.replace(builder.learnt.task, beside=())
    learnt = builder.learnt.method
    assert isinstance(learnt, CurvePSSL)
    training, validation, test = (
        read_clips(builder, arguments.run, arguments.out, box, split)
        for split in ("TRAIN", "VAL", "TEST")
    )
    results: list[dict[str, Any]] = []
    for seen in arguments.seen:
        pictures, _ = SEEN[seen]
        settings, steps = (
            (CURVE_TRAINING, arguments.curve_steps)
            if pictures is None
            else (CLIP_TRAINING, arguments.steps)
        )
        every = min(settings.evaluate_every, steps)
        config = dataclasses.replace(settings, steps=steps, evaluate_every=every)
        method = CurvePSSL(forward=learnt.forward, config=config)
        for target in arguments.targets:
            scores = []
            for seed in range(arguments.seeds):
                parts = Rows.of(training, seen, target), Rows.of(validation, seen, target)
                encoder = train(method, task, parts, seed)
                scores.append(
                    measure(method, task, encoder, Rows.of(test, seen, target), test, box)
                )
                jax.clear_caches()
            results.append({"seen": seen, "target": target, "scores": scores})
            told = {name: [score[name] for score in scores] for name in scores[0]}
            print(f"{seen}, learnt from the {target} curve")
            for name, values in told.items():
                print(f"    {name:24}{np.mean(values):8.3g} ± {np.std(values):.2g}", flush=True)
            content = {"results": results, **origin()}
            (arguments.out / "results.json").write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    with mistakes(1):
        main(tyro.cli(Arguments, prog="python -m benchmarks.inputs", description=__doc__))
