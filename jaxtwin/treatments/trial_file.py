"""Trial files (TOML), which describe the cohort, the arms and the analysis of a trial."""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtwin.treatments import (
    AbstractIntervention,
    AorticRepair,
    BelowSuction,
    DoseResponse,
    FlatteningFlow,
    Fluid,
    Inotrope,
    MitralRepair,
    Pump,
    RateControl,
    Vasodilator,
    combine,
)

# Interventions by their names in a trial file.
INTERVENTIONS: dict[str, type[AbstractIntervention]] = {
    "inotrope": Inotrope,
    "vasodilator": Vasodilator,
    "fluid": Fluid,
    "rate_control": RateControl,
    "mitral_repair": MitralRepair,
    "aortic_repair": AorticRepair,
    "pump": Pump,
}


def read_trial(path: str | Path) -> dict[str, Any]:
    """Read the description of a trial.

    Raises:
        ValueError: If the file cannot be read or is not a valid trial file.
    """
    path = Path(path)
    try:
        described = tomllib.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path} is no TOML file: {error}") from error
    unknown = described.keys() - {"cohort", "arms", "analysis"}
    if unknown or len(described.get("arms", {})) < 2:
        raise ValueError(
            f"{path} has [{'], ['.join(described)}]: expected [cohort], [analysis] and at least "
            "two [arms.NAME], including the control"
        )
    return described


def create(name: str, settings: Any) -> AbstractIntervention:
    """Create an intervention from its name and settings in the file.

    Raises:
        ValueError: If there is no such intervention, or it has no such setting.
    """
    if name not in INTERVENTIONS:
        raise ValueError(f"no intervention {name!r}: there are {', '.join(INTERVENTIONS)}")
    kind = INTERVENTIONS[name]
    known = [field.name for field in dataclasses.fields(kind) if field.name != "pump"]
    required = [
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.name in known
    ]
    if (
        not isinstance(settings, dict)
        or settings.keys() - set(known)
        or set(required) - settings.keys()
    ):
        raise ValueError(
            f"{name} = {settings}: expected {{ {', '.join(f'{n} = ...' for n in known)} }}, with "
            f"at least {', '.join(required) or 'nothing'}"
        )
    return kind(**{key: _value(name, key, value) for key, value in settings.items()})


# Lower limits of the settings.
LOWEST = {"effect": -0.95, "speed": 0.0, "rate": 20.0, "resistance": 0.0, "below_suction": 0.0}
LOWEST |= {"half": 1e-9, "dose": 0.0}
HIGHEST = {"below_suction": 0.9}


def _value(name: str, key: str, value: Any) -> Any:
    """Read a setting: a number, a dose with its response, or a speed law."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not LOWEST.get(key, -float("inf")) <= value <= HIGHEST.get(key, float("inf")):
            most = f" and at most {HIGHEST[key]:g}" if key in HIGHEST else ""
            raise ValueError(f"{name}: {key} = {value}: expected at least {LOWEST[key]:g}{most}")
        return float(value)
    if isinstance(value, dict):
        if key == "speed" and value.keys() == {"below_suction"}:
            return BelowSuction(_value(name, "below_suction", value["below_suction"]))
        if key == "speed" and value == {"law": "flattening_flow"}:
            return FlatteningFlow()
        if {"dose", "maximum", "half"} <= value.keys() <= {"dose", "maximum", "half", "exponent"}:
            numbers = {k: float(_value(name, k, v)) for k, v in value.items()}
            response = DoseResponse(**{k: v for k, v in numbers.items() if k != "dose"})
            return _value(name, key, float(response(numbers["dose"])))
    raise ValueError(
        f"{name}: {key} = {value}: expected a number, {{ dose, maximum, half }}, or for a speed "
        "{ below_suction = share } or { law = 'flattening_flow' }"
    )


def read_arms(described: Mapping[str, Any]) -> dict[str, AbstractIntervention]:
    """Read the arms; the interventions of an arm are applied in the order of the file."""
    arms = {}
    for arm, parts in described["arms"].items():
        try:
            arms[arm] = combine(*(create(name, settings) for name, settings in parts.items()))
        except ValueError as error:
            raise ValueError(f"arm {arm!r}: {error}") from error
    return arms
