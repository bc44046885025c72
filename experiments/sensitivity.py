"""Which parameters determine what is measured, and what would each measurement tell?

    python -m experiments.sensitivity [--system NAME] [--preset tiny|default|full] [--out DIR]

Computes Sobol's first-order and total indices of every reading, of the measured curve and of the
hidden ones by every free parameter, over the whole box, with 95% intervals. Then computes what
measurements are expected to tell about each parameter, in bits, from the Fisher information of
patients of the prior: for the left heart, two volumes, the volume curve, and what a cuff, a second
view or an atrial pressure would add; for other models, the measurement of `experiments.models`.

The default preset takes two minutes on two CPU cores. A parameter whose total index of all that is
measured is near 0 deserves no freedom: nothing measured depends on it.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.command import Run, RunConfig, main
from experiments.models.settings import SystemName

if TYPE_CHECKING:
    from jaxtwin.inference.sensitivity import SobolIndices
    from jaxtwin.methods.tasks import CurveTask

CUFF_ERROR = 5.0  # [mmHg]
VOLUME_ERROR = 5.0  # [mL], of EDV and ESV
ATRIAL_ERROR = 3.0  # [mmHg], as of an estimate by E/e'
DOPPLER_ERROR = 0.1  # of an envelope's root mean square; the area of the valve is not known


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Measure the sensitivity of a model.

    Attributes:
        system: The model, named as in `experiments.models`.
        points: Number of base points of Sobol's indices, a power of two.
        patients: Number of patients over whom the information is averaged.
    """

    system: SystemName = "left_heart"
    points: int = 4_096
    patients: int = 1_024


PRESETS = {
    "tiny": Config(preset="tiny", points=64, patients=32),
    "default": Config(),
    "full": Config(preset="full", points=32_768, patients=8_192),
}


def measurements(system: str, task: "CurveTask") -> "dict[str, CurveTask]":
    """Return the tasks whose information is compared, by what is measured."""
    from jaxtwin.methods.measured import Channel

    if system != "left_heart":
        return {"as in experiments.models": task}
    volumes = tuple(Channel(name, 0.2, noise=VOLUME_ERROR) for name in ("EDV", "ESV"))
    cuff = tuple(Channel(name, 1.0, noise=CUFF_ERROR) for name in ("systolic", "diastolic"))
    atrium = (Channel("P_la_mean", 1.0, noise=ATRIAL_ERROR),)
    ejection, filling = (
        (Channel(name, 0.02, samples=40, noise=DOPPLER_ERROR, unknown_scale=True),)
        for name in ("q_a", "q_m")
    )
    # With noise far above any volume, the curve says nothing.
    hidden = (*task.hidden, "P_la")
    blind = dataclasses.replace(task, hidden=hidden, noise=1e6, beside=volumes)
    curve = dataclasses.replace(task, hidden=hidden)
    view = dataclasses.replace(curve, noise=curve.noise / np.sqrt(2))
    return {
        "EDV and ESV": dataclasses.replace(blind, known=()),
        "EDV, ESV and period": blind,
        "EDV, ESV, period and cuff": dataclasses.replace(blind, beside=(*volumes, *cuff)),
        "volume curve": dataclasses.replace(curve, known=()),
        "volume curve and period": curve,
        "… of unknown start": dataclasses.replace(curve, unknown_start=True),
        "… known up to a factor": dataclasses.replace(
            curve, unknown_scale=True, noise=curve.noise / 100, resolution=0.002
        ),
        "… and a second view": view,
        "… and Doppler of the ejection": dataclasses.replace(curve, beside=ejection),
        "… and Doppler of the filling": dataclasses.replace(curve, beside=filling),
        "… and an atrial pressure": dataclasses.replace(curve, beside=atrium),
        "… and a cuff": dataclasses.replace(curve, beside=cuff),
        "… a cuff and an atrial pressure": dataclasses.replace(curve, beside=(*cuff, *atrium)),
    }


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Compute, print and draw. Imports are local, so that --help is fast."""
    from experiments.models.studies import STUDIES
    from jaxtwin.inference.information import expected_information
    from jaxtwin.inference.sensitivity import sobol_indices

    task = STUDIES[config.system].task
    found = sobol_indices(
        task.system, task.box, curves=task.channels, points=config.points, seed=config.seed
    )
    information = {
        name: expected_information(one, config.patients, seed=config.seed)
        for name, one in measurements(config.system, task).items()
    }
    print_indices(found)
    names = task.box.names
    print(f"\n{'information [bit]':34}" + "".join(f"{name:>8}" for name in (*names, "all")))
    table = {}
    for name, one in information.items():
        bits = dict(zip(one.names, one.bits.tolist(), strict=True))
        table[name] = {**bits, "total": one.total}
        told = [f"{bits[n]:8.1f}" if n in bits else f"{'known':>8}" for n in names]
        print(f"{name:34}" + "".join(told) + f"{one.total:8.1f}")
    draw_indices(run, found)
    return {
        "system": config.system,
        "indices": {
            name: {
                parameter: {
                    "first": found.first[i, j],
                    "first_error": found.first_error[i, j],
                    "total": found.total[i, j],
                    "total_error": found.total_error[i, j],
                }
                for j, parameter in enumerate(found.parameters)
            }
            for i, name in enumerate(found.names)
        },
        "left_out": found.left_out,
        "information_bits": table,
    }


def print_indices(found: "SobolIndices") -> None:
    """Print total indices with their errors, one row per reading and curve."""
    print(f"\n{'total index ± error':20}" + "".join(f"{name:>13}" for name in found.parameters))
    for name, total, error in zip(found.names, found.total, found.total_error, strict=True):
        cells = [f"{a:7.2f} ± {b:.2f}" for a, b in zip(total, error, strict=True)]
        print(f"{name:20}" + " ".join(cells))


def draw_indices(run: Run, found: "SobolIndices") -> None:
    """Draw first-order and total indices as colours."""
    from matplotlib.figure import Figure

    from jaxtwin import plotting

    rows, columns = len(found.names), len(found.parameters)
    figure = Figure(figsize=(3 + 1.1 * columns, 1 + 0.3 * rows), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for ax, values, title in ((left, found.first, "first order"), (right, found.total, "total")):
        plotting.shares(ax, values, rows=found.names, columns=found.parameters)
        ax.set_title(title, fontsize="medium")
    run.figure("sensitivity", figure)


if __name__ == "__main__":
    main("sensitivity", PRESETS, experiment, __doc__)
