"""Rendering of simulated patients to phantom clips on disk."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.draw import draw_cohort
from jaxtwin.cohorts.population import Population, draw_population
from jaxtwin.data.phantom.files import PhantomBeat, write_cohort
from jaxtwin.data.vitals import VitalName
from jaxtwin.parameters import Box
from jaxtwin.physics.base import AbstractRecordedSystem
from jaxtwin.training.progress import progress_bar

# Grid points per beat from which clips are rendered.
PHASES = 80


def make_phantoms(
    folder: str | Path,
    system: AbstractRecordedSystem,
    box: Box,
    counts: tuple[int, int, int],
    *,
    seed: int,
    population: Population | None = None,
    variety: float = 0.0,
) -> None:
    """Draw a cohort, render it, and write it in EchoNet-Dynamic's layout.

    Args:
        folder: Output folder. If it already contains a complete cohort, nothing is done.
        system: The patients' model, with outputs V_lv, q_m and q_a.
        box: Box from which the patients' parameters are drawn.
        counts: Number of patients for training, validation and test.
        seed: Seed for patients, views and noise.
        population: Distribution of the patients' readings; by default they are drawn uniformly
            over the box, within the system's limits.
        variety: How far views and pictures vary, see `write_cohort`.
    """
    folder = Path(folder)
    if (folder / "FileList.csv").exists():
        return
    n, drawn = sum(counts), 3 * seed + 2**20
    if population is None:
        patients = draw_cohort(system, box, n, seed=drawn, phases=PHASES)
    else:
        patients = draw_population(system, box, population, n, seed=drawn, phases=PHASES)
    write_phantoms(folder, patients, box, counts, seed=seed, variety=variety)


def write_phantoms(
    folder: Path,
    patients: Cohort,
    box: Box,
    counts: tuple[int, int, int],
    *,
    seed: int,
    vitals: Mapping[VitalName, np.ndarray] | None = None,
    variety: float = 0.0,
) -> None:
    """Render simulated patients and write them in EchoNet-Dynamic's layout.

    Args:
        folder: Output folder.
        patients: Simulated patients, in the order training, validation, test.
        box: The box of their θ; it contains the period T_c.
        counts: Number of patients for training, validation and test.
        seed: Seed for views and noise.
        vitals: Vital signs measured with the clips, by name, one value per patient.
        variety: How far views and pictures vary, see `write_cohort`.
    """
    waveforms = patients.recording.waveforms
    period = patients.theta[:, box.names.index("T_c")]
    names = ("TRAIN", "VAL", "TEST")
    write_cohort(
        folder,
        PhantomBeat(waveforms.V_lv, waveforms.q_m, waveforms.q_a, period),
        dict(zip(box.names, patients.theta.T, strict=True)),
        [name for name, n in zip(names, counts, strict=True) for _ in range(n)],
        seed,
        vitals=vitals,
        variety=variety,
        progress=lambda clips: progress_bar(
            clips, total=len(period), desc="rendering", unit="clip"
        ),
    )
