"""What was found in a recording, as a JSON value and as a table for the terminal."""

from typing import Any

import numpy as np

from jaxtwin.imaging.calibration import VolumeCurve
from jaxtwin.inference.information import OpenDirections, trade_offs
from jaxtwin.methods.posterior import Posterior
from jaxtwin.twin.echo import EchoTwin
from jaxtwin.twin.twin import describe, summary

UNITS = {"EDV": "mL", "ESV": "mL", "EF": "%", "period": "s"}


def describe_echo_twin(found: EchoTwin) -> dict[str, Any]:
    """Describe what was found in a recording as a JSON value, every number with its unit.

    Without a twin, the entries of `describe` are missing.
    """
    curve, seen, verdict = found.curve, found.measured, found.verdict
    told: dict[str, Any] = {
        "verdict": verdict.kind,
        "reasons": list(verdict.reasons),
        "signs": {name: _number(value) for name, value in verdict.signs.items()},
        "measured": None if curve is None else _measured(curve),
        "cuff": {name: {"value": x, "unit": "mmHg"} for name, x in found.cuff.items()},
        "pixel_mm": None if seen.pixel is None else list(seen.pixel),
        "frames": {
            "time": _numbers(seen.times),
            "volume": _numbers(seen.shape.volume),
            "volume_unit": "1000 cubic pixels" if seen.pixel is None else "mL",
            "quality": _numbers(seen.shape.quality),
        },
        "beats": {
            "end_systole": _numbers(seen.beats.end_systole),
            "irregular": [bool(x) for x in seen.beats.irregular],
        },
    }
    if curve is not None:
        told["curve"] = {
            "volume": _numbers(curve.volume),
            "error": _numbers(curve.error),
            "unit": "mL",
        }
    if found.twin is None:
        return told | {"note": "Research use only."}
    if found.posterior is not None and found.open_directions is not None:
        told |= _left_open(found.posterior, found.open_directions)
    return describe(found.twin) | told


def _left_open(posterior: Posterior, opened: OpenDirections) -> dict[str, Any]:
    """Describe the directions that a measurement leaves open, and pairs that it cannot separate."""
    draws = {name: x[0] for name, x in posterior.parameters().items()}
    return {
        "open_directions": [
            {
                "spread": float(spread),
                "unit": "standard deviation of the prior",
                "along": dict(zip(opened.names, direction.tolist(), strict=True)),
            }
            for spread, direction in zip(opened.spread, opened.directions, strict=True)
        ],
        "trade_offs": [
            {"parameters": list(pair), "rank_correlation": r}
            for pair, r in trade_offs(draws).items()
        ],
    }


def summary_of_echo(found: EchoTwin) -> str:
    """Format what was found in a recording as a short table for the terminal."""
    lines = [": ".join([found.verdict.kind, *found.verdict.reasons[:1]])]
    lines += [f"  also: {reason}" for reason in found.verdict.reasons[1:]]
    if found.curve is not None:
        lines += [
            f"measured {name:8}{entry['value']:9.3g} ± {entry['error']:.2g} {entry['unit']}"
            for name, entry in _measured(found.curve).items()
        ]
        if found.measured.pixel is None:
            lines.append("The file does not state the size of a pixel: volumes in mL are inferred.")
    lines += [f"given {name:12}{value:7.3g} mmHg" for name, value in found.cuff.items()]
    if found.twin is not None:
        lines.append(summary(found.twin))
    if found.open_directions is not None:
        lines += ["", "What the recording leaves open, in standard deviations of the prior:"]
        lines.append(str(found.open_directions))
    return "\n".join(lines)


def _measured(curve: VolumeCurve) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "value": getattr(curve, name),
            "error": _number(getattr(curve, f"{name}_error")),
            "unit": unit,
        }
        for name, unit in UNITS.items()
    }


def _numbers(values: np.ndarray) -> list[float | None]:
    return [_number(value) for value in values.tolist()]


def _number(value: float) -> float | None:
    """Return a number that JSON can hold: None if it is not finite."""
    return float(value) if np.isfinite(value) else None
