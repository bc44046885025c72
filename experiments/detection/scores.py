"""Scores of disease detection from twins and from other sources of information."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats
from sklearn.decomposition import PCA

from jaxtwin.analysis.detection import (
    auroc,
    auroc_difference,
    memberships,
    outlyingness,
    probabilities,
)
from jaxtwin.analysis.metrics import Interval
from jaxtwin.cohorts.diseases import DISEASES
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.data.vitals import Vitals
from jaxtwin.models.left_heart import EIGHT, LeftHeart

MARKED = tuple(disease for disease in DISEASES if disease.marker is not None)
"""Diseases that a parameter defines."""
MARKERS = {disease.name: disease.marker for disease in MARKED}
MEASURED_MARKERS = {"reduced contractility": ("EF", -1), "hypertension": ("systolic", 1)}
# Number of principal components of features and curves used to find outliers and groups.
COMPONENTS = 8
# Sources with which the areas of the others are compared, patient by patient.
BESIDE = ("EF", "measured")
SCORES = ("its parameter", "outlier", "group", "told")
TITLES = {
    "EF": "EF, exact",
    "volumes": "EDV and ESV, exact",
    "measured": "EDV and ESV, exact; period, cuff",
    "features volumes": "encoder's features, from volumes",
    "features vitals": "encoder's features; period, cuff",
    "twin volumes": "twin from volumes",
    "twin vitals": "twin from volumes, period, cuff",
    "twin exact curve": "twin from the exact curve with noise; period",
    "twin exact curve, turned": "twin from it, its start unknown; period",
    "twin segmented curve": "twin from the curve and period of the segmented clip",
    "twin exact curve, posterior": "posterior from the exact curve with noise; period",
    "twin exact curve, turned, posterior": "posterior from it, its start unknown; period",
    "twin segmented curve, posterior": "posterior from the curve and period of the segmented clip",
    "curve": "true volume curve",
    "truth": "true parameters",
}
EVERYONE = "everyone else"


class Seen(NamedTuple):
    """Measurements and diagnoses of the patients, one entry per clip.

    Attributes:
        split: TRAIN, VAL or TEST.
        diagnosis: Diagnosis, or "" if there is none.
        healthy: Diagnosis of the healthy patients.
        volumes: Measured EDV and ESV [mL] and EF [%].
        vitals: Measured vital signs, the fields of `Vitals`.
    """

    split: np.ndarray
    diagnosis: np.ndarray
    healthy: str
    volumes: Float[np.ndarray, "clip 3"]
    vitals: Float[np.ndarray, "clip 3"]

    @property
    def tested(self) -> np.ndarray:
        """Mask of the clips that are scored."""
        return (self.split == "TEST") & (self.diagnosis != "")

    @property
    def diseases(self) -> list[str]:
        """Diseases among the clips that are scored."""
        return sorted(set(self.diagnosis[self.tested]) - {self.healthy})


class Answers(NamedTuple):
    """Predictions of one encoder, one entry per clip.

    Attributes:
        theta: The eight parameters.
        features: The features of an encoder of clips; none of one of curves.
        volumes: EDV and ESV [mL] and EF [%], emulated at θ.
        vitals: The vital signs used by the model, emulated at θ.
        chance: For a posterior, the probability that the parameter that a disease changes is
            beyond its healthy range, by disease.
    """

    theta: Float[np.ndarray, "clip free"]
    features: Float[np.ndarray, "clip feature"]
    volumes: Float[np.ndarray, "clip 3"]
    vitals: Float[np.ndarray, "clip vital"]
    chance: Mapping[str, Float[np.ndarray, " clip"]] | None = None


class Source(NamedTuple):
    """Values of every clip from which disease is detected.

    Attributes:
        values: One table per seed.
        columns: Names of the tables' columns.
        whole: The complete values, if `values` are only their principal components.
        chances: Probability that the parameter of a disease is beyond health, by disease, for each
            seed.
    """

    values: list[Float[np.ndarray, "clip value"]]
    columns: tuple[str, ...]
    whole: list[Float[np.ndarray, "clip whole"]] | None = None
    chances: list[Mapping[str, Float[np.ndarray, " clip"]]] | None = None

    def of_parameter(self, disease: str) -> list[Float[np.ndarray, " clip"]] | None:
        """Return each seed's score by the parameter that the disease changes, or None.

        It is the parameter, with the sign of its change, or the probability that it is beyond
        health, if the source has one.
        """
        if self.chances is not None and disease in self.chances[0]:
            return [one[disease] for one in self.chances]
        marker = self.marker(disease)
        if marker is None:
            return None
        column, sign = self.columns.index(marker[0]), marker[1]
        return [sign * values[:, column] for values in self.values]

    def marker(self, disease: str) -> tuple[str, int] | None:
        """Return the column that the disease changes and the sign of the change, or None."""
        for markers in (MARKERS, MEASURED_MARKERS):
            marker = markers.get(disease)
            if marker is not None and marker[0] in self.columns:
                return marker
        return None


def _components(table: np.ndarray, seen: Seen) -> np.ndarray:
    """Return the leading principal components of a wide table, fitted to training clips."""
    training = table[seen.split == "TRAIN"]
    return PCA(min(COMPONENTS, len(training) - 1), random_state=0).fit(training).transform(table)


def sources(
    seen: Seen, learnt: Mapping[str, Sequence[Answers]], truth: np.ndarray | None
) -> dict[str, Source]:
    """Return all sources from which disease is detected, by name."""
    found = {
        "EF": Source([seen.volumes[:, 2:]], ("EF",)),
        "volumes": Source([seen.volumes[:, :2]], ("EDV", "ESV")),
    }
    if "vitals" in learnt:
        both = np.concatenate([seen.volumes[:, :2], seen.vitals], axis=1)
        found["measured"] = Source([both], ("EDV", "ESV", *Vitals._fields))
    for variant, cells in learnt.items():
        if not cells[0].features.shape[1]:
            continue
        whole = [one.features.astype(float) for one in cells]
        if variant == "vitals":  # The inputs of the encoder's head.
            whole = [np.concatenate([w, seen.vitals], axis=1) for w in whole]
        found[f"features {variant}"] = Source([_components(w, seen) for w in whole], (), whole)
    for variant, cells in learnt.items():
        theta = [one.theta.astype(float) for one in cells]
        chances = [one.chance for one in cells if one.chance is not None] or None
        found[f"twin {variant}"] = Source(theta, EIGHT.names, chances=chances)
    if truth is not None:
        curve = simulate_cohort(LeftHeart(), EIGHT, truth).recording.waveforms.V_lv
        period = truth[:, EIGHT.names.index("T_c"), None]
        values = np.concatenate([_components(curve.astype(float), seen), period], axis=1)
        found["curve"] = Source([values], ())
        found["truth"] = Source([truth.astype(float)], EIGHT.names)
    return found


def _told(source: Source, seen: Seen) -> list[dict[str, np.ndarray]]:
    """Return each seed's probabilities of every diagnosis, from a classifier.

    The classifier is trained on TRAIN and VAL clips and evaluated on the tested clips.
    """
    labelled = (seen.split != "TEST") & (seen.diagnosis != "")
    diagnosis = seen.diagnosis[labelled].tolist()
    if len(set(diagnosis)) < 2:
        return []
    tables = source.values if source.whole is None else source.whole
    return [probabilities(v[seen.tested], v[labelled], diagnosis) for v in tables]


def _named(groups: list[np.ndarray], seen: Seen, disease: str) -> np.ndarray | None:
    """Return each seed's membership in the group that best matches a disease.

    The group is chosen by the diagnoses of TRAIN and VAL clips. If none of them has the disease,
    the result is None.
    """
    named = (seen.split != "TEST") & (seen.diagnosis != "")
    ill = seen.diagnosis == disease
    if not np.any(named & ill) or np.all(ill[named]):
        return None
    chosen = []
    for likely in groups:
        areas = [auroc(g[None, named], ill[named], resamples=1).mean for g in likely.T]
        chosen.append(likely[seen.tested, int(np.argmax(areas))])
    return np.stack(chosen)


def score(
    seen: Seen, learnt: Mapping[str, Sequence[Answers]], truth: np.ndarray | None
) -> list[dict[str, Any]]:
    """Score the detection of each disease from each source; return table rows.

    Bulk and groups are fitted to TRAIN clips without labels. Groups are matched to diseases by the
    diagnoses of TRAIN and VAL clips, on which the classifier ("told") is also trained. TEST clips
    are scored.
    """
    training = seen.split == "TRAIN"
    diagnosis = seen.diagnosis[seen.tested]
    found: dict[tuple[str, str, str], np.ndarray] = {}
    all_sources = sources(seen, learnt, truth)
    for name, source in all_sources.items():
        outlier = np.stack([outlyingness(v[seen.tested], v[training]) for v in source.values])
        groups = [memberships(v, v[training]) for v in source.values]
        told = _told(source, seen)
        for disease in seen.diseases:
            own = source.of_parameter(disease)
            if own is not None:
                found[name, disease, "its parameter"] = np.stack([v[seen.tested] for v in own])
            found[name, disease, "outlier"] = outlier
            named = _named(groups, seen, disease)
            if named is not None:
                found[name, disease, "group"] = named
            if told and disease in told[0]:
                found[name, disease, "told"] = np.stack([t[disease] for t in told])
    rows = []
    for (name, disease, kind), scores in found.items():
        for against in (seen.healthy, EVERYONE):
            ill = diagnosis == disease
            among = ill | (diagnosis == against) | (against == EVERYONE)
            area = auroc(scores[:, among], ill[among])
            row = {
                "source": name,
                "disease": disease,
                "score": kind,
                "against": against,
                "AUROC": area.mean,
                "low": area.low,
                "high": area.high,
                "ill": int(ill.sum()),
                "others": int(among.sum() - ill.sum()),
                "seeds": len(scores),
            }
            for beside in BESIDE:
                other = found.get((beside, disease, kind))
                less = Interval(np.nan, np.nan, np.nan)
                if other is not None and name != beside:
                    less = auroc_difference(scores[:, among], other[:, among], ill[among])
                row |= zip(
                    (f"less_{beside}", f"less_{beside}_low", f"less_{beside}_high"),
                    less,
                    strict=True,
                )
            rows.append(row)
    return rows


def _against(kind: str, healthy: str) -> str:
    """Return the group that patients with a disease are compared with.

    Outlier scores do not distinguish diseases, so they are compared with the healthy only.
    """
    return healthy if kind == "outlier" else EVERYONE


def areas_shown(
    rows: Sequence[Mapping[str, Any]], healthy: str
) -> dict[tuple[str, str, str], Interval]:
    """Return the areas that are shown, by disease, source and score."""
    return {
        (row["disease"], row["source"], row["score"]): Interval(
            row["AUROC"], row["low"], row["high"]
        )
        for row in rows
        if row["against"] == _against(row["score"], healthy)
    }


def recovery(
    seen: Seen, learnt: Mapping[str, Sequence[Answers]], truth: np.ndarray | None
) -> dict[str, Any]:
    """Return the errors of measured values on TEST clips, and rank correlations of parameters.

    Rank correlations need the true parameters.
    """
    test = seen.split == "TEST"
    found: dict[str, Any] = {}
    for variant, cells in learnt.items():
        names = ["EDV", "ESV", "EF"]
        got, true = np.stack([c.volumes for c in cells]), seen.volumes
        if cells[0].vitals.shape[1]:
            names += Vitals._fields
            got = np.concatenate([got, np.stack([c.vitals for c in cells])], axis=2)
            true = np.concatenate([true, seen.vitals], axis=1)
        errors = np.abs(got - true)[:, test].mean(axis=(0, 1))
        entry: dict[str, Any] = {
            f"{name}_error": float(error) for name, error in zip(names, errors, strict=True)
        }
        if truth is not None:
            entry["rank_correlation"] = {
                name: float(
                    np.mean([_rank_correlation(c.theta[test, i], truth[test, i]) for c in cells])
                )
                for i, name in enumerate(EIGHT.names)
            }
        found[variant] = entry
    return found


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1])
