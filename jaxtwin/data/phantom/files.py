"""Writing of phantom cohorts to disk in EchoNet-Dynamic's layout.

The reader of the real data set reads the clips. Their true parameters are stored in `Theta.csv`,
for evaluation only.
"""

import csv
import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt8, UInt32

from jaxtwin.data.phantom.geometry import (
    SIZE,
    chords,
    frame_phases,
    frame_times,
    pixel_size,
)
from jaxtwin.data.phantom.heart import PhantomBeat
from jaxtwin.data.phantom.image import render_labelled
from jaxtwin.data.phantom.view import draw_view
from jaxtwin.data.vitals import VITAL_COLUMNS, VitalName
from jaxtwin.models.ejection import ejection_fraction

# Clips are independent, so one thread can encode while another renders.
THREADS = 4
FORMAT_VERSION = 3  # increase it when the same inputs give different clips


def write_cohort(
    folder: Path,
    beats: PhantomBeat,
    theta: Mapping[str, np.ndarray],
    splits: Sequence[str],
    seed: int,
    vitals: Mapping[VitalName, np.ndarray] | None = None,
    variety: float = 0.0,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> None:
    """Write one clip per beat, with the tables of EchoNet-Dynamic and a label map of every frame.

    `Masks/NAME.npz` has the labels of a clip (see `masks.label_maps`), height and width of its
    pixels [mm], and the phase of the beat in each frame. Clip i depends only on the seed, on i and
    on its own beat. To resume an interrupted call, call again with the same arguments: complete
    clips are kept, and the result is the same as that of an uninterrupted call. `FileList.csv` is
    written last, so a folder that contains it is complete.

    Args:
        folder: Output folder, created if it does not exist.
        beats: The simulated beats, as NumPy arrays with a leading clip axis.
        theta: The true parameters by name, one value per clip.
        splits: TRAIN, VAL or TEST for each clip.
        seed: Seed for the nuisance parameters and the noise of the clips.
        vitals: Vital signs measured with the clips, by name, one value per clip.
        variety: How far views and pictures vary, from textbook views (0) to a clinic's (1), see
            `view.SCHEDULE`; each clip has its own, drawn uniformly from a fifth of this one up.
        progress: Wrapper for the iterable of clip numbers, such as `tqdm`.

    Raises:
        ValueError: If the inputs do not fit together, or the folder contains another cohort.
    """
    beats = PhantomBeat(*(np.asarray(leaf, np.float32) for leaf in beats))
    clips = len(beats.V_lv)
    if clips == 0:
        raise ValueError("got no beats: expected at least one clip")
    beside = {
        VITAL_COLUMNS[name]: np.asarray(values, float) for name, values in (vitals or {}).items()
    }
    lengths = {
        "splits": len(splits),
        **{name: len(values) for name, values in {**theta, **beside}.items()},
    }
    if wrong := {name: length for name, length in lengths.items() if length != clips}:
        raise ValueError(f"expected one value per clip, {clips} in all; got {wrong}")
    if unknown := set(splits) - {"TRAIN", "VAL", "TEST"}:
        raise ValueError(f"splits {sorted(unknown)}: expected TRAIN, VAL or TEST")
    folder = Path(folder)
    if not 0 <= variety <= 1:
        raise ValueError(f"variety={variety}: expected a number from 0 to 1")
    for name in ("Videos", "Masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    # Measured pressures follow from the beats, whose last bits may differ between machines.
    rounded = {column: np.round(values, 1) for column, values in beside.items()}
    _claim(folder, {**theta, **rounded}, splits, seed, variety)

    def write(clip: int) -> _Written:
        return _write_clip(
            folder, clip, PhantomBeat(*(leaf[clip] for leaf in beats)), splits[clip], seed, variety
        )

    with ThreadPoolExecutor(THREADS) as pool:
        written = [
            result
            for _, result in zip(progress(range(clips)), pool.map(write, range(clips)), strict=True)
        ]
    truth = (
        {"FileName": result.row["FileName"]}
        | {name: repr(float(values[clip])) for name, values in theta.items()}
        for clip, result in enumerate(written)
    )
    _write_table(folder / "Theta.csv", ["FileName", *theta], truth)
    tracings = (line for result in written for line in _tracing_rows(result))
    _write_table(
        folder / "VolumeTracings.csv", ["FileName", "X1", "Y1", "X2", "Y2", "Frame"], tracings
    )
    rows = [
        result.row | {column: f"{values[clip]:.6g}" for column, values in beside.items()}
        for clip, result in enumerate(written)
    ]
    _write_table(folder / "FileList.csv", list(rows[0]), rows)


class _Written(NamedTuple):
    """A clip's row of `FileList.csv` and its tracings by frame."""

    row: dict[str, str | int | float]
    tracings: dict[int, Float[np.ndarray, "line 4"]]


def _claim(
    folder: Path,
    theta: Mapping[str, np.ndarray],
    splits: Sequence[str],
    seed: int,
    variety: float,
) -> None:
    """Record the cohort's inputs in `phantom.json`; raise if the folder contains another cohort."""
    # Beats are not part of the digest: they follow from the parameters, and their last bits may
    # differ between machines.
    digest = hashlib.sha256(",".join(splits).encode())
    for name, values in theta.items():
        digest.update(name.encode() + np.asarray(values, np.float64).tobytes())
    claim = {
        "version": FORMAT_VERSION,
        "seed": seed,
        "variety": variety,
        "inputs": digest.hexdigest(),
    }
    note = folder / "phantom.json"
    if not note.exists():
        if (folder / "FileList.csv").exists():
            raise ValueError(
                f"{folder} contains a data set that is no phantom: choose another folder"
            )
        note.write_text(json.dumps(claim, indent=1))
        return
    found = json.loads(note.read_text())
    if differing := [key for key in claim if found.get(key) != claim[key]]:
        raise ValueError(
            f"{folder} contains a phantom cohort with different {' and '.join(differing)}: found "
            f"{found}, expected {claim}; choose another folder, or remove this one"
        )


@jax.jit
def _draws(
    key: PRNGKeyArray, clip: UInt32[Array, ""] | np.uint32
) -> tuple[PRNGKeyArray, PRNGKeyArray, Float[Array, ""]]:
    """Return a clip's keys for view and picture, and its share of the cohort's variety."""
    key = jax.random.fold_in(key, clip)
    view_key, image_key = jax.random.split(key)
    share = jax.random.uniform(jax.random.fold_in(key, 2), (), jnp.float32, 0.2)
    return view_key, image_key, share


def _write_clip(
    folder: Path, clip: int, beat: PhantomBeat, split: str, seed: int, variety: float
) -> _Written:
    """Write one clip's video and label maps unless they exist; return its table rows."""
    name = f"PHANTOM{clip:06d}"
    view_key, image_key, share = _draws(jax.random.key(seed), np.uint32(clip))
    view = draw_view(view_key, beat, variety * float(share))
    frame_rate = round(float(view.frame_rate), 2)
    times, phases = frame_times(view), frame_phases(view, float(beat.period))
    video, masks = folder / "Videos" / f"{name}.avi", folder / "Masks" / f"{name}.npz"
    if not (video.exists() and masks.exists()):
        frames, labels = render_labelled(beat, view, image_key)
        if not video.exists():
            _write_video(video, frames, frame_rate, round(float(view.quantiser)))
        if not masks.exists():
            width, height = (10 * float(side) for side in pixel_size(view))
            _write_arrays(
                masks,
                labels=labels,
                pixel=np.array([height, width]),
                phases=phases,
                mirrored=np.array(bool(view.mirrored)),
            )

    end_diastolic, end_systolic = float(beat.V_lv.max()), float(beat.V_lv.min())
    row = {
        "FileName": name,
        "EF": f"{ejection_fraction(end_diastolic, end_systolic):.6f}",
        "ESV": f"{end_systolic:.6f}",
        "EDV": f"{end_diastolic:.6f}",
        "FrameHeight": SIZE,
        "FrameWidth": SIZE,
        "FPS": frame_rate,
        "NumberOfFrames": len(times),
        "Split": split,
    }
    grid = np.arange(len(beat.V_lv)) / len(beat.V_lv)
    volumes = np.interp(phases, grid, beat.V_lv, period=1)
    extremes = (int(volumes.argmax()), int(volumes.argmin()))
    return _Written(row, {frame: chords(beat, view, float(times[frame])) for frame in extremes})


def _tracing_rows(written: _Written) -> Iterator[dict[str, str | int | float]]:
    for frame, lines in written.tracings.items():
        for line in lines:
            x1, y1, x2, y2 = (f"{value:.4f}" for value in line)
            name = f"{written.row['FileName']}.avi"
            yield {"FileName": name, "X1": x1, "Y1": y1, "X2": x2, "Y2": y2, "Frame": frame}


def _write_video(
    path: Path, frames: UInt8[np.ndarray, "time height width"], frame_rate: float, quantiser: int
) -> None:
    """Write an MJPEG file under a temporary name, then rename it: an existing file is complete."""
    unfinished = path.with_suffix(".part.avi")
    # MJPEG stores colour at half the resolution; 128 means no colour. One picture serves all
    # frames: new ones take a fifth of the time.
    grey = np.full((SIZE + SIZE // 2, SIZE), 128, np.uint8)
    picture = av.VideoFrame.from_ndarray(grey, format="yuvj420p")
    with av.open(unfinished, "w") as container:
        # At 3, grey values of a speckled frame change by at most about 3.
        options = {"qmin": str(quantiser), "qmax": str(quantiser)}
        rate = Fraction(frame_rate).limit_denominator(100)
        stream = container.add_stream("mjpeg", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuvj420p"
        stream.thread_count = 1  # the clips already run in parallel
        for number, frame in enumerate(frames):
            picture.planes[0].update(frame.tobytes())
            picture.pts = number
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    unfinished.rename(path)


def _write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays as `numpy.savez_compressed` does, faster and less densely, and then rename."""
    unfinished = path.with_suffix(".part.npz")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    unfinished.rename(path)


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping]) -> None:
    """Write a table under a temporary name, then rename it."""
    unfinished = path.with_suffix(".part.csv")
    with unfinished.open("w", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)
    unfinished.rename(path)
