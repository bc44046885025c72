"""Digital twins of single recordings, from the networks of a training run.

For each recording, the output is a figure (outlines of the chambers, the measured volume curve with
the twin's, pressure-volume loop, pressures), a moving picture of the same, a file of label maps and
a JSON file with a verdict, all numbers and their units. Research use only.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxtwin.commands.run import Run
from jaxtwin.commands.settings import EXAMPLE, TwinConfig
from jaxtwin.data.recording import read_clip, read_recording
from jaxtwin.data.vitals import PLAUSIBLE, VitalName, Vitals
from jaxtwin.forward.emulator import load_emulator
from jaxtwin.methods.base import Learnt
from jaxtwin.methods.clips import Clips, ClipTask
from jaxtwin.methods.pssl_clips import load_pssl
from jaxtwin.models.left_heart import LeftHeart
from jaxtwin.training import checkpoint
from jaxtwin.twin import Twin, build_twin, describe, summary
from jaxtwin.twin.echo import EchoTwin, TwinBuilder
from jaxtwin.twin.report import describe_echo_twin, summary_of_echo
from jaxtwin.twin.saving import load_builder

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def real_clip() -> Path:
    """Return the path of the real apical four-chamber recording included in pydicom."""
    from pydicom import examples

    return Path(str(examples.get_path("ybr_color")))


def draw_twin(twin: Twin) -> "Figure":
    """Draw the pressure-volume loop, and pressures and volume over two beats."""
    from matplotlib.figure import Figure

    from jaxtwin import plotting
    from jaxtwin.commands.twin_figures import draw_loop, draw_pressures

    times, out = np.asarray(twin.solution.times), twin.solution.outputs
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.subplot_mosaic([["loop", "pressure"], ["loop", "volume"]], height_ratios=[2, 1])
    draw_loop(axes["loop"], twin)
    draw_pressures(axes["pressure"], twin)
    plotting.volume_trace(axes["volume"], times, np.asarray(out.V_lv))
    EF = twin.emulated["EF"]
    lines = [
        f"simulated EF {twin.readings['EF']:.0f}% (emulated {EF:.0f}%), output "
        f"{twin.readings['output']:.1f} L/min, T_c {times[-1]:.2f} s"
    ]
    if twin.warnings:
        others = len(twin.warnings) - 1
        more = f" ({others} more in the JSON file)" if others else ""
        lines += textwrap.wrap(f"WARNING: {twin.warnings[0]}{more}", 110)
    figure.suptitle("\n".join(lines), fontsize="medium")
    return figure


def write_twin(run: Run, name: str, twin: Twin) -> None:
    """Write a twin's figure and JSON file."""
    run.figure(name, draw_twin(twin))
    run.json(name, describe(twin))


def write_echo_twin(run: Run, name: str, found: EchoTwin) -> dict[str, Any]:
    """Write figure, moving picture, label maps and JSON file; return the JSON file's content."""
    # A twin needs no figures, and matplotlib takes half a second to import.
    from jaxtwin.commands.twin_figures import draw_corner, draw_echo_twin, write_film

    run.figure(name, draw_echo_twin(found))
    if found.posterior is not None:
        run.figure(name.replace("twin_", "corner_", 1), draw_corner(found))
    film, masks = run.folder / f"{name}.gif", run.folder / f"{name}_masks.npz"
    write_film(film, found)
    partial = masks.with_suffix(".partial.npz")
    np.savez_compressed(
        partial, allow_pickle=False, labels=found.measured.labels, times=found.measured.times
    )
    partial.replace(masks)
    content = describe_echo_twin(found) | {"masks": masks.name, "film": film.name}
    run.json(name, content)
    run.written += [film, masks]
    return content


def names_of(clips: Sequence[Path]) -> list[str]:
    """Return a unique name for each recording's files, different from the run's own files."""
    names: list[str] = []
    for path in clips:
        name, number = f"twin_{path.stem}", 1
        # Some file systems are case-insensitive.
        while name.lower() in {other.lower() for other in names}:
            number += 1
            name = f"twin_{path.stem}_{number}"
        names.append(name)
    return names


def load_run(folder: Path) -> Learnt[ClipTask, Clips] | TwinBuilder:
    """Load the networks of a training run, or of a P-SSL cell of a comparison.

    Raises:
        ValueError: If they are missing or damaged.
    """
    # The cells of a comparison share their run's emulator.
    shared = folder.resolve().parent
    owner = shared.parent if shared.name == "cells" else folder
    if not (checkpoint.exists(folder / "encoder") and checkpoint.exists(owner / "emulator")):
        raise ValueError(
            f"{folder} holds no finished training run (folders emulator and encoder): give the "
            "output folder of `jaxtwin train` with --run"
        )
    emulator = load_emulator(owner / "emulator", LeftHeart())
    if checkpoint.exists(folder / "limits"):
        return load_builder(folder, emulator)
    return load_pssl(folder / "encoder", emulator)


def read_vitals(
    config: TwinConfig, needed: Sequence[VitalName], taken: Sequence[str] = ()
) -> Vitals:
    """Return the given vital signs that the model needs, or takes if they are known.

    Raises:
        ValueError: If one that it needs is missing, or a value is not plausible.
    """
    given = {name: getattr(config, name) for name in PLAUSIBLE}
    for name, (low, high) in PLAUSIBLE.items():
        value = given[name]
        if value is None and name in needed:
            raise ValueError(f"the model in {config.run} needs --{name}: give the measured value")
        if value is not None and not low <= value <= high:
            unit = "s" if name == "period" else "mmHg"
            raise ValueError(f"--{name} {value:g}: expected {low:g} to {high:g} {unit}")
        if value is not None and name not in (*needed, *taken):
            print(f"--{name} makes no difference: the model in {config.run} does not use it")
    highest, lowest = given["systolic"], given["diastolic"]
    if highest is not None and lowest is not None and highest <= lowest:
        raise ValueError(
            f"--systolic {highest:g} --diastolic {lowest:g}: expected a systolic pressure above "
            "the diastolic one"
        )
    used = {name: given[name] for name in (*needed, *taken)}
    return Vitals(**{name: value for name, value in used.items() if value is not None})


def twins(config: TwinConfig, run: Run) -> dict[str, Any]:
    """Build a twin of every readable recording; return the content of results.json.

    Raises:
        ValueError: If there is no training run, or no recording can be read.
    """
    learnt = load_run(config.run)
    by_curve = isinstance(learnt, TwinBuilder)
    vitals = (
        read_vitals(config, (), [channel.name for channel in learnt.learnt.task.beside])
        if by_curve
        else read_vitals(config, learnt.task.vital_names)
    )
    cuff = {name: value for name, value in vitals._asdict().items() if np.isfinite(value)}
    if config.pixel is not None and not by_curve:
        print(f"--pixel makes no difference: the model in {config.run} does not use it")
    clips = [real_clip() if p == EXAMPLE and not p.exists() else p for p in config.clips]
    built, unreadable = {}, {}
    for name, path in zip(names_of(clips), clips, strict=True):
        try:
            if isinstance(learnt, TwinBuilder):
                recording = read_recording(path)
                if recording.pixel is not None and config.pixel is not None:
                    print(f"{path.name}: --pixel makes no difference, because the file states it")
                found = learnt.build(recording, recording.pixel or config.pixel, cuff)
                told, text = write_echo_twin(run, name, found), summary_of_echo(found)
            else:
                twin = build_twin(learnt, read_clip(path, learnt.task.format), vitals)
                write_twin(run, name, twin)
                told, text = describe(twin), summary(twin)
        except (ValueError, OSError) as error:
            reason = str(error).removeprefix(f"{path.name}: ")
            unreadable[str(path)] = reason
            print(f"skipped {path.name}: {reason}")
            continue
        built[name] = told
        print(f"\n{path.name}\n{text}")
    if not built:
        path, reason = next(iter(unreadable.items()))
        raise ValueError(
            f"none of the {len(clips)} recordings could be read; the first, {path}: {reason}"
            if len(clips) > 1
            else f"{path}: {reason}"
        )
    return {"twins": built, "unreadable": unreadable}
