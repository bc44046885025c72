"""Simulation of one patient under one intervention."""

import warnings
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxtwin.models.intervention import AbstractIntervention, apply, check_intervention
from jaxtwin.parameters import AbstractParameters
from jaxtwin.physics.base import AbstractRecordedSystem
from jaxtwin.physics.record import record
from jaxtwin.physics.solution import Reading


class Outcome(eqx.Module):
    """Outcome of an intervention, for use under jit and vmap.

    Attributes:
        readings: Readings of the treated patient, by name, in their units.
        solved: Whether the recording was found; if not, the readings are meaningless.
        feasible: Whether the recording is physically possible, as the treated system defines it.
        parameters: All parameters that have bounds, after the intervention, by name.
    """

    readings: dict[str, Float[Array | np.ndarray, "*patient"]]
    solved: Bool[Array | np.ndarray, "*patient"]
    feasible: Bool[Array | np.ndarray, "*patient"]
    parameters: dict[str, Float[Array | np.ndarray, "*patient"]]

    @property
    def success(self) -> Bool[Array | np.ndarray, "*patient"]:
        """Whether the readings can be used."""
        return self.solved & self.feasible


def treat(
    system: AbstractRecordedSystem,
    p: Any,
    intervention: AbstractIntervention,
    *,
    endpoints: Mapping[str, Reading] | None = None,
    steps: int | None = None,
) -> Outcome:
    """Simulate one patient under an intervention; works under `jax.vmap` and `jax.grad`.

    Args:
        system: The untreated patient's system.
        p: All parameters of the patient.
        intervention: The intervention.
        endpoints: Endpoints by name; by default the readings of the treated system.
        steps: Number of solver steps; by default the `steps` of the treated system.

    Raises:
        ValueError: If there are no endpoints, an endpoint needs an output that the treated system
            does not have, or the intervention does not apply to the system or does not return
            system and parameters.
    """
    check_intervention(intervention, "`intervention`")
    treated, after = apply(intervention, system, p)
    endpoints = treated.readings() if endpoints is None else endpoints
    if not endpoints:
        raise ValueError(
            f"{type(treated).__name__} has no readings: add them to the class, or pass `endpoints`"
        )
    solution = record(treated, after, steps=steps)
    recording = solution.recording()
    values = {}
    for name, reading in endpoints.items():
        try:
            values[name] = jnp.asarray(reading.function(recording))
        except AttributeError as error:
            raise ValueError(
                f"the endpoint {name!r} cannot be read off {type(treated).__name__}: {error}"
            ) from error
    bounded = [name for name, spec in type(after).specs().items() if spec.bounds is not None]
    return Outcome(
        values,
        solution.success,
        treated.feasible(recording),
        {name: jnp.asarray(getattr(after, name)) for name in bounded},
    )


def warn_of_bounds(
    where: str,
    before: AbstractParameters,
    after: Mapping[str, Any],
    *,
    wider: Mapping[str, tuple[float, float]] | None = None,
    rows: str = "patients",
    stacklevel: int = 3,
) -> bool:
    """Warn about parameters that an intervention moves beyond their declared bounds, if any.

    Args:
        where: Source of the change in the message, such as "arm 'drug' (Inotrope)".
        before: All parameters without the intervention, [*patient] on every leaf.
        after: Parameters with the intervention, by name, [*patient].
        wider: Bounds that replace the declared ones if they are wider, such as those of a box.
        rows: What there is one value of each, for the message.
        stacklevel: Level of the caller whom the warning is for, as in `warnings.warn`.
    """
    found = []
    for name, spec in type(before).specs().items():
        if spec.bounds is None or name not in after:
            continue
        sides = (spec.bounds, (wider or {}).get(name, spec.bounds))
        values = np.atleast_1d(np.asarray(after[name]))
        low = values.dtype.type(min(side[0] for side in sides))
        high = values.dtype.type(max(side[1] for side in sides))
        moved = values != np.asarray(getattr(before, name), values.dtype)
        beyond = values[moved & ((values < low) | (values > high))]
        if len(beyond):
            furthest = beyond[np.argmax(np.abs(beyond - (low + high) / 2))]
            found.append(
                f"{name} of {len(beyond)} of {len(values)} {rows}, reaching {furthest:.4g} "
                f"{spec.unit} for declared bounds of {low:g} to {high:g}"
            )
    if found:
        warnings.warn(
            f"{where} takes parameters beyond their bounds: {'; '.join(found)}. Choose a smaller "
            "dose, or declare wider bounds if the model holds there",
            stacklevel=stacklevel,
        )
    return bool(found)
