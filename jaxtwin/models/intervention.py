"""Interventions: functions that change a patient's parameters or system.

    treated, p = combine(Settings({"P_i": 20.0}), Drug({"R": -0.3}))(Lung(), p)

An intervention is a function of one patient that works under jit and vmap, so its doses can be
batched and differentiated. `therapies` and `pump` define those for hearts. To write your own,
subclass `AbstractIntervention`:

    class Exercise(AbstractIntervention):
        effort: Scalar

        def __call__(self, system, p):
            return system, change(p, R_s=lambda R_s: R_s * (1 - 0.5 * self.effort))
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp

from jaxtwin.parameters import AbstractParameters, Scalar
from jaxtwin.physics.base import AbstractRecordedSystem

Dose: TypeAlias = Scalar | float
"""Dose of an intervention: a number, or an array if it is batched or differentiated."""


class AbstractIntervention(eqx.Module):
    """Base class of interventions: a function from one patient to the treated patient."""

    @abc.abstractmethod
    def __call__(
        self, system: AbstractRecordedSystem, p: AbstractParameters
    ) -> tuple[AbstractRecordedSystem, Any]:
        """Return the patient's system and parameters after the intervention."""


def change(p: AbstractParameters, **by: Callable[[Scalar], Any] | Dose) -> Any:
    """Return the parameters with some of them changed.

    Args:
        p: All parameters of the patient.
        by: New value of each changed parameter, by name, or a function from the old value to it.

    Raises:
        ValueError: If the model has no such parameter.
    """
    known = type(p).specs()
    missing = [name for name in by if name not in known]
    if missing:
        raise ValueError(
            f"{type(p).__name__} has no {', '.join(missing)}, which the intervention changes; it "
            f"has {', '.join(known)}"
        )
    old = {name: getattr(p, name) for name in by}
    # The sum gives a number the shape of a batch of patients.
    return dataclasses.replace(
        p, **{name: f(old[name]) if callable(f) else f + 0 * old[name] for name, f in by.items()}
    )


def check_dose(name: str, value: Any, *, above: float) -> None:
    """Raise a ValueError if a dose is no number or not above a bound; arrays may be traced."""
    if value is None or isinstance(value, str | Mapping):
        raise ValueError(f"{name} = {value!r}: expected a number")
    if isinstance(value, int | float) and not above < value < float("inf"):
        raise ValueError(f"{name} = {value}: expected a number above {above:g}")


def check_intervention(value: Any, where: str) -> None:
    """Raise a ValueError if a value is not an intervention.

    Args:
        value: Value to check.
        where: Role of the value in the message, such as "arm 'pump'".
    """
    if isinstance(value, type):
        doses = ", ".join(f"{field.name}=..." for field in dataclasses.fields(value))
        raise ValueError(
            f"{where} is the class {value.__name__}: expected an object, {value.__name__}({doses})"
        )
    if not isinstance(value, AbstractIntervention):
        raise ValueError(
            f"{where} is {value!r}: expected an intervention, such as Nothing() or "
            'Drug({"R_s": -0.2}), or a subclass of AbstractIntervention'
        )


def apply(
    intervention: AbstractIntervention, system: AbstractRecordedSystem, p: Any
) -> tuple[AbstractRecordedSystem, Any]:
    """Return an intervention's system and parameters.

    Raises:
        ValueError: If the intervention returns anything else, or decides by a Python `if`.
    """
    try:
        found = intervention(system, p)
    except jax.errors.TracerBoolConversionError as error:
        raise ValueError(
            f"{type(intervention).__name__}.__call__ tests a patient's value by a Python `if`, "
            "`and` or `while`, and all patients are computed at once: write jnp.where(condition, "
            "a, b)"
        ) from error
    match found:
        case (AbstractRecordedSystem() as treated, AbstractParameters() as after):
            return treated, after
        case other:
            raise ValueError(
                f"{type(intervention).__name__}.__call__ returns {type(other).__name__}: expected "
                "system and parameters, such as `return system, change(p, R_s=...)`"
            )


class Nothing(AbstractIntervention):
    """No treatment, for the control arm."""

    def __call__(self, system, p):
        """Return the patient unchanged."""
        return system, p


class Combination(AbstractIntervention):
    """Several interventions in sequence.

    Attributes:
        parts: Interventions in the order in which they are applied.
    """

    parts: tuple[AbstractIntervention, ...]

    def __check_init__(self):
        for i, part in enumerate(self.parts, 1):
            check_intervention(part, f"part {i} of a combination")

    def __call__(self, system, p):
        """Return the patient after all interventions."""
        for part in self.parts:
            system, p = apply(part, system, p)
        return system, p


def combine(*parts: AbstractIntervention) -> Combination:
    """Combine interventions into one that applies them in order."""
    return Combination(parts)


class DoseResponse(eqx.Module):
    """Effect of a drug as a function of its dose, d ↦ maximum · dⁿ/(halfⁿ + dⁿ).

    The Hill or E_max model of pharmacology; Goutelle et al., "The Hill equation: a review of its
    capabilities in pharmacological modelling", Fundamental & Clinical Pharmacology 22(6), 2008.

    Attributes:
        maximum: Limit of the effect for large doses; a relative effect of 1 doubles a parameter.
        half: Dose with half the maximal effect, in the unit of the dose.
        exponent: Steepness n.
    """

    maximum: Dose
    half: Dose
    exponent: Dose = 1.0

    def __call__(self, dose: Dose) -> Scalar:
        """Return the effect of a dose."""
        # A power with a real exponent differentiates through a logarithm, which is -inf at 0.
        ratio = jnp.maximum(dose / self.half, 1e-12) ** self.exponent
        return self.maximum * ratio / (1 + ratio)


class Settings(AbstractIntervention):
    """Parameters set to new values, such as a ventilator's pressures or a drug's dose.

        Settings({"P_i": 20.0, "PEEP": 8.0})

    Attributes:
        values: New value of each parameter, by name.
    """

    values: Mapping[str, Dose]

    def __check_init__(self):
        for name, value in self.values.items():
            check_dose(f"Settings: {name}", value, above=float("-inf"))

    def __call__(self, system, p):
        """Return the patient with these settings."""
        return system, change(p, **self.values)


class Drug(AbstractIntervention):
    """A drug that changes parameters by a relative amount.

        Drug({"R": -0.3})  # a bronchodilator lowers airway resistance by 30%

    Attributes:
        shares: Relative change of each parameter, by name: 0.5 increases it by half.
    """

    shares: Mapping[str, Dose]

    def __check_init__(self):
        for name, share in self.shares.items():
            check_dose(f"Drug: {name}", share, above=-1.0)

    def __call__(self, system, p):
        """Return the patient under the drug."""
        by = {
            name: lambda old, share=share: old * (1 + share) for name, share in self.shares.items()
        }
        return system, change(p, **by)
