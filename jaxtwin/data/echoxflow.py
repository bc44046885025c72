"""EchoXFlow: echocardiography in beam space, with contours and meshes of the left ventricle.

Stenhede et al., "EchoXFlow: A Beamspace Echocardiography Dataset for Cardiac Motion, Flow, and
Function", arXiv 2605.05447, 2026. `croissant.json` lists the recordings, each a Zarr store; some
are analyses of others, see `echoxflow_store`. The data set names examinations and no patients, so
its splits are by examination.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jaxtwin.data.base import UnreadableClipError
from jaxtwin.data.echonet import Record, Skipped, check_split
from jaxtwin.data.echoxflow_contours import Contours, read_contours
from jaxtwin.data.echoxflow_list import FOLDS, LIST, Listed, read_exam_splits, read_list
from jaxtwin.data.echoxflow_store import MESH, PICTURE, MeshVolumes, Store, read_volumes
from jaxtwin.models.ejection import ejection_fraction

VIEWS = ("2ch", "4ch")
STRAIN = "2d_left_ventricular_strain"


@dataclasses.dataclass(frozen=True)
class EchoXFlowClip:
    """What the data set tells about a clip beyond its record.

    Attributes:
        exam: The examination.
        view: "2ch", "3ch" or "4ch".
        analysis: Zarr store with the contours.
    """

    exam: str
    view: str
    analysis: Path


@dataclasses.dataclass(frozen=True)
class EchoXFlow:
    """The data set's list, and what its analyses say, without decoded pictures.

    Attributes:
        records: One record for each picture that was traced. EDV, ESV and EF are those of the
            meshes of the same examination, averaged if there are several, and NaN if there are
            none.
        skipped: Analyses that cannot be used.
        clips: Additional information about each record, by record name.
        curves: Volume curves of the meshes, by the name of the recording that has them.
        recordings: Everything in the list, by name, of any kind.
        exams: The split of each examination.
    """

    records: tuple[Record, ...]
    skipped: tuple[Skipped, ...]
    clips: dict[str, EchoXFlowClip]
    curves: dict[str, MeshVolumes]
    recordings: Mapping[str, Listed]
    exams: dict[str, str]

    def split(self, name: str) -> tuple[Record, ...]:
        """Return the records of a split: TRAIN, VAL or TEST, in upper or lower case."""
        name = check_split(name)
        return tuple(record for record in self.records if record.split == name)


def read_echoxflow(
    folder: str | Path,
    *,
    views: Iterable[str] = VIEWS,
    folds: Mapping[int, str] = FOLDS,
    seed: int = 0,
) -> EchoXFlow:
    """Read the list of recordings, the meshes, and which pictures were traced.

    Args:
        folder: Folder that contains `croissant.json`.
        views: Views to make records of: some of 2ch, 3ch and 4ch.
        folds: Split of each fold, if the data set's table of folds (`splits.csv`) lies there.
        seed: Seed of the split if it does not: a random tenth of the examinations is used for
            testing and another tenth for validation.

    Raises:
        FileNotFoundError: If the list is missing.
        ValueError: If it cannot be read or names a store outside the folder, an examination has no
            fold, or there is neither a usable picture nor a usable mesh.
    """
    recordings, views = read_list(folder), tuple(views)
    exams = read_exam_splits(Path(folder), recordings, folds, seed)
    curves: dict[str, MeshVolumes] = {}
    skipped: list[Skipped] = []
    for listed in recordings.values():
        if any(name.startswith(f"data/{MESH}") for name in listed.arrays):
            try:
                curves[listed.name] = read_volumes(listed.path)
            except UnreadableClipError as error:
                skipped.append(Skipped(listed.name, error.reason))
    clips: dict[str, EchoXFlowClip] = {}
    records: list[Record] = []
    for listed in recordings.values():
        if STRAIN not in listed.contents:
            continue
        try:
            traced = read_contours(listed.path)
        except UnreadableClipError as error:
            skipped.append(Skipped(listed.name, error.reason))
            continue
        for contours in traced:
            if contours.view not in views:
                continue
            try:
                if contours.recording in clips:
                    raise UnreadableClipError("traced before: expected one analysis of a picture")
                record = _record(contours, listed.exam, recordings, exams, curves)
            except UnreadableClipError as error:
                skipped.append(Skipped(f"{listed.name} {contours.view}", error.reason))
                continue
            records.append(record)
            clips[record.name] = EchoXFlowClip(listed.exam, contours.view, listed.path)
    if not records and not curves:
        first = f"; the first: {skipped[0].name}: {skipped[0].reason}" if skipped else ""
        raise ValueError(
            f"{Path(folder) / LIST} lists no usable mesh and no picture traced in "
            f"{', '.join(views)}{first}"
        )
    return EchoXFlow(tuple(records), tuple(skipped), clips, curves, recordings, exams)


def find_contours(path: str | Path) -> tuple[Contours, Path]:
    """Return the contours of a picture, and the analysis that they are from.

    The data set's list is looked for in the folders above the picture.

    Args:
        path: Zarr store of the picture.

    Raises:
        UnreadableClipError: If there is no list, or no analysis of the same examination traced this
            picture.
    """
    path = Path(path).resolve()
    above = next((place for place in path.parents if (place / LIST).is_file()), None)
    if above is None:
        raise UnreadableClipError(f"no {LIST} in the folders above: expected EchoXFlow's folder")
    recordings = read_list(above)
    own = [listed for listed in recordings.values() if listed.path.resolve() == path]
    wrong = ""
    for listed in recordings.values():
        if not own or listed.exam != own[0].exam or STRAIN not in listed.contents:
            continue
        try:
            traced = read_contours(listed.path)
        except UnreadableClipError as error:
            wrong += f"; {listed.name}: {error.reason}"
            continue
        for contours in traced:
            if contours.recording == own[0].name:
                return contours, listed.path
    raise UnreadableClipError(f"no analysis in {above / LIST} traced this picture{wrong}")


def contour_maps(path: str | Path) -> tuple[dict[int, UInt8[np.ndarray, "height width"]], Path]:
    """Return the label map of each traced frame of a picture, and the analysis they are from.

    Args:
        path: Zarr store of the picture.

    Raises:
        UnreadableClipError: If it was not traced, or the contours do not fit it.
    """
    contours, analysis = find_contours(path)
    store = Store(path)
    sector, times = store.sector(), store.picture_times()
    maps = {
        int(frame): contours.label_map(k, sector)
        for k, frame in enumerate(contours.frames(times))
        if frame >= 0
    }
    if not maps:
        raise UnreadableClipError(
            f"contours at {contours.times[0]:.4g} to {contours.times[-1]:.4g} s, frames at "
            f"{times[0]:.4g} to {times[-1]:.4g} s: expected contours of these frames"
        )
    return maps, analysis


def _record(
    contours: Contours,
    exam: str,
    recordings: Mapping[str, Listed],
    exams: Mapping[str, str],
    curves: Mapping[str, MeshVolumes],
) -> Record:
    """Return the record of a traced picture."""
    listed = recordings.get(contours.recording)
    if listed is None or f"data/{PICTURE}" not in listed.arrays:
        raise UnreadableClipError(
            f"traced in {contours.recording or 'a recording without a name'}, of which the list "
            "has no two-dimensional picture"
        )
    if listed.exam != exam:
        raise UnreadableClipError(f"traced in {listed.name} of another examination, {listed.exam}")
    store = Store(listed.path)
    store.sector()
    times = store.picture_times()
    if len(times) < 2 or (contours.frames(times) < 0).all():
        raise UnreadableClipError(f"no contour belongs to one of the {len(times)} frames")
    own = [curve.volumes for name, curve in curves.items() if recordings[name].exam == exam]
    edv = float(np.mean([volumes.max() for volumes in own])) if own else math.nan
    esv = float(np.mean([volumes.min() for volumes in own])) if own else math.nan
    fps = (len(times) - 1) / float(times[-1] - times[0])
    ef = ejection_fraction(edv, esv)
    return Record(listed.name, listed.path, edv, esv, ef, fps, len(times), exams[listed.exam])
