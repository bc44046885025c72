"""Digital twins of single recordings, from a run of `experiments.pssl`.

    python -m experiments.twin CLIP... --run runs/pssl-default [--out DIR]

Reads AVI, MP4, GIF or multi-frame DICOM; estimates the parameters of each recording's patient,
simulates the beat, and writes for each a figure (pressure-volume loop, pressure and volume
traces) and a JSON file with every number and its unit. Takes seconds a clip. A recording that
cannot be read is reported and does not stop the others. Research use only.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from matplotlib.figure import Figure

from experiments.command import Run, RunConfig, main
from jaxtwin import plotting
from jaxtwin.forward.emulator import load_emulator
from jaxtwin.methods.pssl import PSSL, load_pssl
from jaxtwin.models.left_heart import LeftHeart
from jaxtwin.twin import Twin, build_twin, describe, read_clip, summary


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Build digital twins of single recordings.

    Attributes:
        clips: The recordings; by default the real one that comes with pydicom.
        run: The folder of the run of experiments.pssl whose networks are used.
    """

    clips: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    run: Path = Path("runs/pssl-default")


PRESETS = {
    "tiny": Config(preset="tiny", run=Path("runs/pssl-tiny")),
    "default": Config(),
    "full": Config(preset="full", run=Path("runs/pssl-full")),
}


def real_clip() -> Path:
    """The real apical four-chamber recording in pydicom's wheel."""
    from pydicom import examples

    return Path(str(examples.get_path("ybr_color")))


def draw_twin(twin: Twin) -> Figure:
    """The pressure-volume loop, and pressures and volume over two beats."""
    times, out = np.asarray(twin.orbit.times), twin.orbit.outputs
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.subplot_mosaic([["loop", "pressure"], ["loop", "volume"]], height_ratios=[2, 1])
    p: Any = twin.parameters
    plotting.pressure_volume_loop(
        axes["loop"],
        np.asarray(out.V_lv),
        np.asarray(out.P_lv),
        E_max=float(p.E_max),
        E_min=float(p.E_min),
        V_d=float(p.V_d),
    )
    pressures = {"ventricle": out.P_lv, "aorta": out.P_ao, "left atrium": out.P_la}
    plotting.pressure_traces(
        axes["pressure"], times, {name: np.asarray(x) for name, x in pressures.items()}
    )
    plotting.volume_trace(axes["volume"], times, np.asarray(out.V_lv))
    EF = twin.emulated["EF"]
    figure.suptitle(
        f"simulated EF {float(twin.observables.EF):.0f}% (emulated {EF:.0f}%), output "
        f"{float(twin.observables.output):.1f} L/min, T_c {times[-1]:.2f} s"
        + ("\nWARNING: see the JSON file" if twin.warnings else "")
    )
    return figure


def write_twin(run: Run, name: str, twin: Twin, model: PSSL) -> None:
    """A twin's figure and JSON file."""
    run.figure(name, draw_twin(twin))
    run.json(name, describe(twin, model))


def names_of(clips: Sequence[Path]) -> list[str]:
    """A name for each recording's files: no two alike, nor like the run's own files."""
    names: list[str] = []
    for path in clips:
        name, number = f"twin_{path.stem}", 1
        # Some disks do not tell capitals.
        while name.lower() in {other.lower() for other in names}:
            number += 1
            name = f"twin_{path.stem}_{number}"
        names.append(name)
    return names


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """A twin for every readable recording."""
    emulator = load_emulator(config.run / "emulator", LeftHeart())
    model, errors = load_pssl(config.run / "encoder", emulator)
    clips = config.clips or (real_clip(),)
    twins, unreadable = {}, {}
    for name, path in zip(names_of(clips), clips, strict=True):
        try:
            twin = build_twin(model, read_clip(path, model.format), errors)
        except (ValueError, OSError) as error:
            unreadable[str(path)] = str(error)
            print(f"skipped {path.name}: {str(error).removeprefix(f'{path.name}: ')}")
            continue
        write_twin(run, name, twin, model)
        twins[name] = describe(twin, model)
        print(f"\n{path.name}\n{summary(twin, model)}")
    if not twins:
        raise ValueError(f"none of the {len(clips)} recordings could be read")
    return {"twins": twins, "unreadable": unreadable}


if __name__ == "__main__":
    main("twin", PRESETS, experiment, __doc__)
