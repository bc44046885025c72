"""Table of `experiments.calibration`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxtwin.inference.calibration import c2st
from jaxtwin.models.left_heart import SEVEN

METHODS = {
    "flow": "neural posterior",
    "importance": "neural posterior, reweighted",
    "variational": "P-SSL with a posterior",
    "variational_importance": "P-SSL with a posterior, reweighted",
    "laplace": "Laplace approximation",
    "nuts": "NUTS",
}
REFERENCE = "nuts"


def summarise(results: Mapping[str, Any], place: Path) -> list[dict[str, Any]]:
    """Return one row per case.

    Args:
        results: What was found in each case, by name.
        place: Folder of the cases' folders.
    """
    reference = [name for name, told in results.items() if told["case"]["method"] == REFERENCE]
    return [_row(told, place / name, place, reference) for name, told in results.items()]


def _row(
    told: Mapping[str, Any], folder: Path, place: Path, reference: Sequence[str]
) -> dict[str, Any]:
    case, calibration = told["case"], told["calibration"]
    coverage = {name: 100 * one["coverage90"] for name, one in calibration.items()}
    worst = max(coverage, key=lambda name: abs(coverage[name] - 90))
    smallest = min(calibration, key=lambda name: calibration[name]["rank_test_p"])
    parameters = [name for name in calibration if name in SEVEN.names]
    row = {
        "method": METHODS[case["method"]],
        "noise": case["noise"],
        "period": "known" if case["known"] else "unknown",
        "missing_percent": round(100 * case["missing"]),
        "patients": told["patients"],
        "without_posterior": told["without_posterior"],
        "coverage90_low": min(coverage.values()),
        "coverage90_high": max(coverage.values()),
        "worst": worst,
        "rank_test_p_smallest": calibration[smallest]["rank_test_p"],
        "numbers": len(calibration),
        "tarp_p": told["tarp_p"],
        "log_score": told["log_score"],
        "width_percent": 100
        * float(np.mean([calibration[name]["narrowing90"] for name in parameters])),
        "learning_seconds": told["seconds"]["learning"],
        "drawing_seconds": told["seconds"]["drawing"],
        "median_off": None,
        "width_off_percent": None,
        "c2st": None,
    }
    same = not case["missing"] and case["known"] and case["method"] != REFERENCE
    if reference and same and told["case"]["noise"] == _noise(reference[0]):
        off, width, told_apart = distance(folder / "draws.npz", place / reference[0] / "draws.npz")
        row |= {"median_off": off, "width_off_percent": width, "c2st": told_apart}
    return row


def _noise(name: str) -> float:
    return float(name.split("-noise")[1].split("-")[0])


def distance(own: Path, other: Path) -> tuple[float, float, float]:
    """Return how far marginals are from the reference's, the worst of all parameters.

    Args:
        own: Draws of a method.
        other: Draws of the reference, of the same patients.

    Returns:
        The mean distance of the medians in standard deviations of the reference, the mean
        difference of the widths of central 90% intervals in percent of the reference's, and the
        mean accuracy of a classifier that tells their draws apart, see `c2st`.
    """
    with np.load(own) as a, np.load(other) as b:
        good = a["success"] & b["success"]
        mine, theirs = a["theta"][good], b["theta"][good]
    free = np.ptp(theirs, axis=1).min(axis=0) > 0  # Known parameters are the same in all draws.
    spread = theirs.std(axis=1)
    quantiles = [np.quantile(x[..., free], (0.05, 0.5, 0.95), axis=1) for x in (mine, theirs)]
    off = np.abs(quantiles[0][1] - quantiles[1][1]) / spread[:, free]
    widths = [q[2] - q[0] for q in quantiles]
    n = min(mine.shape[1], theirs.shape[1])
    apart = [c2st(a[:n, free], b[:n, free]) for a, b in zip(mine, theirs, strict=True)]
    return (
        float(off.mean(axis=0).max()),
        float(100 * np.abs(widths[0] / widths[1] - 1).mean(axis=0).max()),
        float(np.mean(apart)),
    )


def markdown(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables as Markdown: one row per case, then one row per number."""
    lines = [
        "| method | noise [mL] | period | missing | 90% intervals hold | farthest | smallest "
        "rank-test p | TARP p | log score [nat] | width of θ [% of the prior's] | median off NUTS "
        "[SD] | width off NUTS | C2ST against NUTS | learning [s] | draws [s] | patients |",
        "|---" * 16 + "|",
    ]
    for row in rows:
        cells = [
            row["method"],
            f"{row['noise']:g}",
            row["period"],
            f"{row['missing_percent']}%",
            f"{row['coverage90_low']:.1f} – {row['coverage90_high']:.1f}%",
            row["worst"],
            f"{row['rank_test_p_smallest']:.2g} of {row['numbers']}",
            f"{row['tarp_p']:.2g}",
            _shown(row["log_score"], ".2f"),
            f"{row['width_percent']:.1f}",
            _shown(row["median_off"], ".2f"),
            _shown(row["width_off_percent"], ".0f", "%"),
            _shown(row["c2st"], ".2f"),
            f"{row['learning_seconds']:.0f}",
            f"{row['drawing_seconds']:.0f}",
            f"{row['patients']}"
            + (f" ({row['without_posterior']} without)" if row["without_posterior"] else ""),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    names = list(dict.fromkeys(n for told in results.values() for n in told["calibration"]))
    lines += ["", "Share of the truths within central 90% intervals [%]:", ""]
    lines += [f"| case | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for name, told in results.items():
        held = told["calibration"]
        cells = [f"{100 * held[one]['coverage90']:.1f}" if one in held else "–" for one in names]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "Of NAME(t), over all phases of the hidden waveform. Distances from NUTS are means over "
        "patients, of the parameter in which they are largest. Seconds include compilation.",
    ]
    return "\n".join(lines)


def _shown(value: float | None, digits: str, unit: str = "") -> str:
    return "–" if value is None else f"{value:{digits}}{unit}"
