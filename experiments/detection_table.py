"""The tables and figures of `experiments.detection`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats
from sklearn.decomposition import PCA

from experiments.command import Run
from experiments.tables import write_table
from jaxtwin import plotting
from jaxtwin.analysis.detection import (
    FEWEST,
    auroc,
    auroc_difference,
    memberships,
    outlyingness,
    probabilities,
)
from jaxtwin.analysis.metrics import Interval
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.diseases import DISEASES, HEALTHY
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.data.vitals import Vitals
from jaxtwin.models.left_heart import EIGHT, LeftHeart

MARKERS = {disease.name: disease.marker for disease in DISEASES if disease.marker is not None}
MEASURED_MARKERS = {"reduced contractility": ("EF", -1), "hypertension": ("systolic", 1)}
# Bulk and groups of features and curves are sought in so many principal components.
COMPONENTS = 8
# What the others' areas are compared with, patient by patient.
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
    "curve": "true volume curve",
    "truth": "true parameters",
}
EVERYONE = "everyone else"


class Seen(NamedTuple):
    """What is known of the patients, clip by clip.

    Attributes:
        split: TRAIN, VAL or TEST.
        diagnosis: "" where nobody made one.
        healthy: What the healthy are called.
        volumes: EDV and ESV [mL], EF [%], as read.
        vitals: The fields of `Vitals`, as measured.
    """

    split: np.ndarray
    diagnosis: np.ndarray
    healthy: str
    volumes: Float[np.ndarray, "clip 3"]
    vitals: Float[np.ndarray, "clip 3"]

    @property
    def tested(self) -> np.ndarray:
        """Clips that are scored."""
        return (self.split == "TEST") & (self.diagnosis != "")

    @property
    def diseases(self) -> list[str]:
        """Of the clips that are scored."""
        return sorted(set(self.diagnosis[self.tested]) - {self.healthy})


class Learnt(NamedTuple):
    """What one encoder says, clip by clip.

    Attributes:
        theta: The eight parameters.
        features: Of the clip.
        volumes: EDV and ESV [mL], EF [%], emulated at θ.
        vitals: Those of the model, likewise.
    """

    theta: Float[np.ndarray, "clip free"]
    features: Float[np.ndarray, "clip feature"]
    volumes: Float[np.ndarray, "clip 3"]
    vitals: Float[np.ndarray, "clip vital"]


class Source(NamedTuple):
    """Numbers of every clip in which disease is sought.

    Attributes:
        values: One table a seed.
        columns: Their names.
        whole: All that there is, where values are only principal components of it.
    """

    values: list[Float[np.ndarray, "clip value"]]
    columns: tuple[str, ...]
    whole: list[Float[np.ndarray, "clip whole"]] | None = None

    def marker(self, disease: str) -> tuple[str, int] | None:
        """The column that the disease moves, and where to."""
        for markers in (MARKERS, MEASURED_MARKERS):
            marker = markers.get(disease)
            if marker is not None and marker[0] in self.columns:
                return marker
        return None


def _components(table: np.ndarray, seen: Seen) -> np.ndarray:
    """The leading principal components of a wide table, found on training clips."""
    training = table[seen.split == "TRAIN"]
    return PCA(min(COMPONENTS, len(training) - 1), random_state=0).fit(training).transform(table)


def sources(
    seen: Seen, learnt: Mapping[str, Sequence[Learnt]], truth: np.ndarray | None
) -> dict[str, Source]:
    """Everything in which disease is sought, by name."""
    found = {
        "EF": Source([seen.volumes[:, 2:]], ("EF",)),
        "volumes": Source([seen.volumes[:, :2]], ("EDV", "ESV")),
    }
    if "vitals" in learnt:
        both = np.concatenate([seen.volumes[:, :2], seen.vitals], axis=1)
        found["measured"] = Source([both], ("EDV", "ESV", *Vitals._fields))
    for variant, cells in learnt.items():
        whole = [one.features.astype(float) for one in cells]
        if variant == "vitals":  # As the encoder's head sees them.
            whole = [np.concatenate([w, seen.vitals], axis=1) for w in whole]
        found[f"features {variant}"] = Source([_components(w, seen) for w in whole], (), whole)
    for variant, cells in learnt.items():
        theta = [one.theta.astype(float) for one in cells]
        found[f"twin {variant}"] = Source(theta, EIGHT.names)
    if truth is not None:
        curve = simulate_cohort(LeftHeart(), EIGHT, truth).recording.waveforms.V_lv
        period = truth[:, EIGHT.names.index("T_c"), None]
        values = np.concatenate([_components(curve.astype(float), seen), period], axis=1)
        found["curve"] = Source([values], ())
        found["truth"] = Source([truth.astype(float)], EIGHT.names)
    return found


def _told(source: Source, seen: Seen) -> list[dict[str, np.ndarray]]:
    """Of each seed, how likely tested clips have each diagnosis, told those of TRAIN and VAL."""
    labelled = (seen.split != "TEST") & (seen.diagnosis != "")
    diagnosis = seen.diagnosis[labelled].tolist()
    if len(set(diagnosis)) < 2:
        return []
    tables = source.values if source.whole is None else source.whole
    return [probabilities(v[seen.tested], v[labelled], diagnosis) for v in tables]


def _named(groups: list[np.ndarray], seen: Seen, disease: str) -> np.ndarray | None:
    """Of each seed, the group that holds the disease most clearly among the other splits' labels.

    None where nobody there has it.
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
    seen: Seen, learnt: Mapping[str, Sequence[Learnt]], truth: np.ndarray | None
) -> list[dict[str, Any]]:
    """How well each disease is found in each source, as rows of a table.

    Bulk and groups are fitted to TRAIN clips without labels; groups are named by the diagnoses of
    TRAIN and VAL clips, which the told classifier learns from; TEST clips are scored.
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
            marker = source.marker(disease)
            if marker is not None:
                column, sign = source.columns.index(marker[0]), marker[1]
                own = np.stack([sign * v[seen.tested, column] for v in source.values])
                found[name, disease, "its parameter"] = own
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
    """Being unlike the bulk does not say what is wrong: the outliers' others are the healthy."""
    return healthy if kind == "outlier" else EVERYONE


def _cells(rows: Sequence[Mapping[str, Any]], healthy: str) -> dict[tuple[str, str, str], Interval]:
    return {
        (row["disease"], row["source"], row["score"]): Interval(
            row["AUROC"], row["low"], row["high"]
        )
        for row in rows
        if row["against"] == _against(row["score"], healthy)
    }


def markdown(rows: Sequence[Mapping[str, Any]], seen: Seen) -> str:
    """The table as Markdown."""
    cells = _cells(rows, seen.healthy)
    less = {
        (row["disease"], row["source"]): Interval(
            row["less_EF"], row["less_EF_low"], row["less_EF_high"]
        )
        for row in rows
        if row["score"] == "told" and row["against"] == EVERYONE
    }
    lines = [
        f"| disease | seen in | {' | '.join(SCORES)} | told, less EF's |",
        "|---|---|---|---|---|---|---|",
    ]
    names = list(dict.fromkeys(row["source"] for row in rows))
    for disease in seen.diseases:
        ill = int(np.sum(seen.diagnosis[seen.tested] == disease))
        for name in names:
            texts = [_cell(cells.get((disease, name, kind))) for kind in SCORES]
            texts.append(_cell(less.get((disease, name)), sign="+"))
            lines.append(f"| {disease} (n = {ill}) | {TITLES[name]} | {' | '.join(texts)} |")
    n = int(np.sum(seen.tested))
    lines += [
        "",
        f"AUROC on {n} unseen clips with 95% bootstrap intervals over patients and seeds; 0.5 is "
        "chance. *Its parameter*: the number that the disease moves, where there is one: the "
        "circuit's parameter, EF, or the cuff's systolic pressure. *Outlier*: distance from the "
        "bulk, the ill against the healthy. *Group*: found without labels, named by other "
        "patients' diagnoses. *Told*: a classifier that learnt from other patients' diagnoses, "
        "and its area less that of EF's on the same patients. All but the outliers against "
        f"everyone else. Of fewer than {FEWEST} ill no interval is given.",
    ]
    return "\n".join(lines)


def _cell(area: Interval | None, *, sign: str = "") -> str:
    if area is None or not np.isfinite(area.mean):
        return "–"
    mean, low, high = np.round(area, 2) + 0.0  # No minus before a zero.
    bounds = f" [{low:{sign}.2f}, {high:{sign}.2f}]" if np.isfinite(low) else ""
    return f"{mean:{sign}.2f}{bounds}"


def write_scores(run: Run, rows: Sequence[Mapping[str, Any]], seen: Seen) -> str:
    """CSV and Markdown; returns the latter."""
    write_table(run.folder / "detection.csv", {k: [row[k] for row in rows] for k in rows[0]})
    table = markdown(rows, seen)
    (run.folder / "detection.md").write_text(table + "\n")
    run.written += [run.folder / "detection.csv", run.folder / "detection.md"]
    return table


def recovery(
    seen: Seen, learnt: Mapping[str, Sequence[Learnt]], truth: np.ndarray | None
) -> dict[str, Any]:
    """Errors of the measured numbers on TEST clips, and ranks of the parameters where known."""
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


def draw_figures(
    run: Run,
    rows: Sequence[Mapping[str, Any]],
    seen: Seen,
    learnt: Mapping[str, Sequence[Learnt]],
    truth: np.ndarray | None,
) -> None:
    """AUROCs by source, what each disease moves, and loops of mitral stenosis."""
    run.figure("detection", draw_areas(rows, seen))
    tables = {TITLES[f"twin {name}"]: cells[0].theta for name, cells in learnt.items()}
    if truth is not None:
        tables[TITLES["truth"]] = truth
    run.figure("parameters", draw_moves(seen, tables))
    if "mitral stenosis" in seen.diseases:
        run.figure("loops", draw_loops(seen, tables))


def draw_areas(rows: Sequence[Mapping[str, Any]], seen: Seen) -> Figure:
    """A panel a disease, a line a source."""
    cells = _cells(rows, seen.healthy)
    names = list(dict.fromkeys(row["source"] for row in rows))
    figure = Figure(figsize=(3 + 3.2 * len(seen.diseases), 5.5), layout="constrained")
    axes = figure.subplots(1, len(seen.diseases), sharey=True, squeeze=False)[0]
    nothing = Interval(np.nan, np.nan, np.nan)
    for ax, disease in zip(axes, seen.diseases, strict=True):
        groups = {
            kind: [cells.get((disease, name, kind), nothing) for name in names] for kind in SCORES
        }
        plotting.forest(ax, [TITLES[n] for n in names], groups, label="AUROC", reference=0.5)
        ax.set(title=disease, xlim=(-0.03, 1.03))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def draw_moves(seen: Seen, tables: Mapping[str, np.ndarray]) -> Figure:
    """How far each parameter of the ill lies above (red) or below (blue) that of the healthy."""
    figure = Figure(figsize=(1.5 + 4.2 * len(tables), 2.8), layout="constrained")
    axes = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
    healthy = seen.tested & (seen.diagnosis == seen.healthy)
    for ax, (title, theta) in zip(axes, tables.items(), strict=True):
        areas = np.zeros((len(seen.diseases), len(EIGHT.names)))
        for i, disease in enumerate(seen.diseases):
            ill = seen.tested & (seen.diagnosis == disease)
            among = ill | healthy
            for j in range(len(EIGHT.names)):
                column = theta[among, j].astype(float)
                areas[i, j] = auroc(column[None], ill[among], resamples=1).mean
        plotting.matrix(
            ax, areas, rows=seen.diseases, columns=[f"${spec.symbol}$" for spec in EIGHT.specs]
        )
        ax.set_title(title, fontsize="medium")
    return figure


def draw_loops(seen: Seen, tables: Mapping[str, np.ndarray]) -> Figure:
    """Mean loops with and without mitral stenosis, and what theory says of one heart."""
    figure = Figure(figsize=(4.2 * (1 + len(tables)), 4), layout="constrained")
    axes: list[Axes] = list(figure.subplots(1, 1 + len(tables), sharex=True, sharey=True))
    for ax, (title, theta) in zip(axes, tables.items(), strict=False):
        lines = {}
        for name in (seen.healthy, "mitral stenosis"):
            chosen = seen.tested & (seen.diagnosis == name)
            lines[name] = simulate_cohort(LeftHeart(), EIGHT, theta[chosen])
        _loops(ax, lines)
        ax.set_title(f"{title}, mean loop", fontsize="medium")
    middle = {name: (low + high) / 2 for name, (low, high) in HEALTHY.ranges.items()}
    stenosis = next(d for d in DISEASES if d.name == "mitral stenosis").ranges
    narrow = middle | {name: (low + high) / 2 for name, (low, high) in stenosis.items()}
    lines = {
        name: simulate_cohort(
            LeftHeart(), EIGHT, np.array([[heart[n] for n in EIGHT.names]], np.float32)
        )
        for name, heart in ((seen.healthy, middle), ("mitral stenosis", narrow))
    }
    _loops(axes[-1], lines)
    axes[-1].set_title("theory: one heart, its valve narrowed", fontsize="medium")
    lines = [line for ax in axes for line in ax.lines]
    right = max(float(np.max(line.get_xdata())) for line in lines)
    top = max(float(np.max(line.get_ydata())) for line in lines)
    axes[0].set(xlim=(0, 1.08 * right), ylim=(0, 1.3 * top))  # room for the legends
    return figure


def _loops(ax: Axes, groups: Mapping[str, Cohort]) -> None:
    lines = {}
    for name, beats in groups.items():
        beats = beats.take(beats.success)
        V_lv, P_lv, P_la = (
            np.asarray(getattr(beats.recording.waveforms, channel))
            for channel in ("V_lv", "P_lv", "P_la")
        )
        label = f"{name}, left atrium {P_la.mean():.0f} mmHg"
        lines[label] = (V_lv.mean(axis=0), P_lv.mean(axis=0))
    plotting.loops(ax, lines)
