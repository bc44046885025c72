"""The cohort's clips and diagnoses."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.detection.scores import Seen
from experiments.detection.settings import LEAST_ILL, LEAST_TRAINING
from jaxtwin.cohorts.diseases import draw_diseased
from jaxtwin.data.echonet import Record
from jaxtwin.data.phantom.cohort import write_phantoms
from jaxtwin.data.vitals import simulate_vitals
from jaxtwin.models.ejection import ejection_fraction
from jaxtwin.models.left_heart import EIGHT, LeftHeart


def make_diseased_phantoms(folder: Path, clips: tuple[int, int, int], *, seed: int) -> None:
    """Draw a cohort with diseases, simulate measurements, render clips, and write everything.

    Args:
        folder: Output folder, in EchoNet-Dynamic's layout. An existing complete cohort is kept.
        clips: Number of clips for training, validation and test.
        seed: Seed for patients, measurement errors, views and noise.
    """
    if (folder / "FileList.csv").exists():
        return
    patients = draw_diseased(LeftHeart(), EIGHT, sum(clips), seed=seed)
    beats = patients.cohort
    period = np.asarray(beats.theta[:, EIGHT.names.index("T_c")])
    vitals = simulate_vitals(
        period, beats.recording.maximum.P_ao, beats.recording.minimum.P_ao, seed=seed
    )
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "Diagnosis.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["patient", "diagnosis"])
        table.writerows((f"PHANTOM{i:06d}", d) for i, d in enumerate(patients.diagnosis))
    write_phantoms(folder, beats, EIGHT, clips, seed=seed, vitals=vitals)


def read_diagnoses(path: Path) -> dict[str, str]:
    """Read each patient's diagnosis from a CSV file with the columns patient and diagnosis.

    Raises:
        ValueError: If there is no such file, it lacks a column, or a patient has two diagnoses.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            columns = table.fieldnames or []
            rows = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"--labels {path}: {error}") from error
    if not {"patient", "diagnosis"} <= set(columns):
        raise ValueError(
            f"--labels {path} has the columns {', '.join(columns) or 'none'}: expected patient, "
            "the clip's name, and diagnosis"
        )
    found: dict[str, str] = {}
    for row in rows:
        name, diagnosis = (str(row[key] or "").strip() for key in ("patient", "diagnosis"))
        name = name[:-4] if name.lower().endswith(".avi") else name
        if found.get(name, diagnosis) != diagnosis:
            raise ValueError(
                f"--labels {path}: {name} is listed as {found[name]} and as {diagnosis}; keep only "
                "the diagnosis to be detected"
            )
        found[name] = diagnosis
    unknown = {"", "na", "nan", "none", "unknown"}
    return {name: d for name, d in found.items() if name and d.lower() not in unknown}


def describe_cohort(records: Sequence[Record], diagnoses: dict[str, str], healthy: str) -> Seen:
    """Collect the measurements and diagnoses of the clips' patients.

    Raises:
        ValueError: If there are too few training clips, or the test clips have no healthy or no
            ill patients.
    """
    diagnosis = np.array([diagnoses.get(record.name, "") for record in records])
    split = np.array([record.split for record in records])
    if np.sum(split == "TRAIN") < LEAST_TRAINING:
        raise ValueError(
            f"{np.sum(split == 'TRAIN')} TRAIN clips: bulk and groups of patients need at least "
            f"{LEAST_TRAINING}"
        )
    tested = sorted(set(diagnosis[split == "TEST"]) - {""})
    few = {name for name in tested if np.sum(diagnosis[split == "TEST"] == name) < LEAST_ILL}
    for name in sorted(few):
        print(f"{name}: fewer than {LEAST_ILL} TEST clips, too few to evaluate; left out")
    diagnosis[np.isin(diagnosis, list(few))] = ""
    tested = [name for name in tested if name not in few]
    if healthy not in tested or len(tested) < 2:
        raise ValueError(
            f"diagnoses of the TEST clips: {', '.join(tested) or 'none'}; expected {healthy!r} "
            "(set another name with --healthy) and at least one disease, each with at least "
            f"{LEAST_ILL} clips; patients in the labels file are clip names in FileList.csv"
        )
    numbers = np.array([(r.edv, r.esv, ejection_fraction(r.edv, r.esv)) for r in records])
    return Seen(
        split=split,
        diagnosis=diagnosis,
        healthy=healthy,
        volumes=numbers,
        vitals=np.array([record.vitals for record in records], float),
    )
