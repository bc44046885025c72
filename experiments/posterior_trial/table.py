"""Tables of `experiments.posterior_trial`."""

from collections.abc import Mapping, Sequence
from typing import Any


def markdown(
    effects: Sequence[Mapping[str, Any]],
    events: Mapping[str, Any],
    doses: Mapping[str, Mapping[str, Any]],
    treatable: int,
) -> str:
    """Return effects, events and doses as Markdown."""
    twins = list(effects[0]["twins"])
    heads = [
        "change of",
        "arm",
        "true mean",
        "posteriors",
        *twins,
        "90% intervals of patients hold [%]",
        "error per patient: posterior mean effect",
        *(f"of {name}" for name in twins),
        "patients",
    ]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in effects:
        cells = [
            f"{row['endpoint']} [{row['unit']}]",
            row["arm"],
            f"{row['true']['mean']:+.3g}",
            _interval(row["posterior"]),
            *(_interval(row["twins"][name]) for name in twins),
            f"{100 * row['coverage90']:.0f}",
            f"{row['error']:.2g}",
            *(f"{row['twins'][name]['error']:.2g}" for name in twins),
            _counted(row),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    of_twins = ", ".join(f"{name} {count}" for name, count in events["twins"].items())
    shared = next(iter(doses.values()))["shared"]
    lines += [
        "",
        "Means over patients, with 95% intervals; that of the posteriors contains patients and "
        "draws, those of point twins only patients. Errors are mean absolute ones.",
        "",
        f"Patients with suction by the {events['arm']}: truth {events['true']}, expected by the "
        f"posteriors {events['posterior']:.1f}, {of_twins}.",
        "",
        "| pump speed chosen | no dose (of these, treatable) | chosen | unsafe in truth [%] "
        f"| of the {shared} to whom all give one | output lost where safe [L/min] | [%] |",
        "|---" * 7 + "|",
    ]
    for name, row in doses.items():
        unsafe = f"{100 * row['unsafe'] / row['given']:.0f}" if row["given"] else "–"
        cells = [
            name,
            f"{row['no_dose']} ({row['no_dose_though_treatable']})",
            str(row["given"]),
            f"{unsafe} ({row['unsafe']})",
            str(row["unsafe_of_shared"]),
            _shown(row["lost"], ".2f"),
            _shown(row["lost_percent"], ".1f"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    patients = next(iter(doses.values()))["patients"]
    lines += ["", f"Of {patients} patients, {treatable} have a safe speed in truth."]
    return "\n".join(lines)


def _interval(found: Mapping[str, Any]) -> str:
    failed = f", {found['failed']} failed" if found.get("failed") else ""
    return f"{found['mean']:+.3g} [{found['low']:+.3g}, {found['high']:+.3g}{failed}]"


def _counted(row: Mapping[str, Any]) -> str:
    if not row["failed"] and not row["failed_draws"]:
        return str(row["patients"])
    return (
        f"{row['patients']} ({row['failed']} failed, "
        f"{100 * row['failed_draws']:.1f}% of the others' draws)"
    )


def _shown(value: float | None, digits: str) -> str:
    return "–" if value is None else f"{value:{digits}}"
