"""What may be done to a patient: an intervention changes the parameters or the system.

    treated, p = combine(Settings({"P_i": 20.0}), Drug({"R": -0.3}))(Lung(), p)

An intervention is a function of one patient, inside jit and vmap, so its doses can be batched and
differentiated. `therapies` and `pump` have those of hearts. One of your own is a class of a few
lines:

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
import jax.numpy as jnp

from jaxtwin.parameters import AbstractParameters, Scalar
from jaxtwin.physics.base import AbstractRecordedSystem

Dose: TypeAlias = Scalar | float
"""A number, or an array where it is batched or differentiated."""


class AbstractIntervention(eqx.Module):
    """A change of one patient."""

    @abc.abstractmethod
    def __call__(
        self, system: AbstractRecordedSystem, p: AbstractParameters
    ) -> tuple[AbstractRecordedSystem, Any]:
        """The patient's system and parameters after it."""


def change(p: AbstractParameters, **by: Callable[[Scalar], Any]) -> Any:
    """The parameters with some of them put through a function.

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
    return dataclasses.replace(p, **{name: f(getattr(p, name)) for name, f in by.items()})


def check_dose(name: str, value: Any, *, above: float) -> None:
    """Raise a ValueError for a plain number that is no dose; arrays may be traced."""
    if isinstance(value, int | float) and not above < value < float("inf"):
        raise ValueError(f"{name} = {value}: expected a number above {above:g}")


def check_intervention(value: Any, where: str) -> None:
    """Raise a ValueError that says what to write if a value is no intervention.

    Args:
        value: What was given.
        where: What it was given as, such as "arm 'pump'".
    """
    if isinstance(value, type):
        doses = ", ".join(f"{field.name}=..." for field in dataclasses.fields(value))
        raise ValueError(
            f"{where} is the class {value.__name__}: expected an object, {value.__name__}({doses})"
        )
    if not isinstance(value, AbstractIntervention):
        raise ValueError(
            f"{where} is {value!r}: expected an intervention, such as Nothing() or "
            'Drug({"R_s": -0.2}); one of your own is a subclass of AbstractIntervention'
        )


class Nothing(AbstractIntervention):
    """The control."""

    def __call__(self, system, p):
        """The patient as before."""
        return system, p


class Combination(AbstractIntervention):
    """Several interventions, one after the other.

    Attributes:
        parts: The interventions, in their order.
    """

    parts: tuple[AbstractIntervention, ...]

    def __check_init__(self):
        for i, part in enumerate(self.parts, 1):
            check_intervention(part, f"part {i} of a combination")

    def __call__(self, system, p):
        """The patient after all of them."""
        for part in self.parts:
            system, p = part(system, p)
        return system, p


def combine(*parts: AbstractIntervention) -> Combination:
    """Combine interventions into one; each sees what the earlier ones made of the patient."""
    return Combination(parts)


class DoseResponse(eqx.Module):
    """The effect of a drug over its dose, d ↦ maximum · dⁿ/(halfⁿ + dⁿ).

    The Hill or E_max model of pharmacology; Goutelle et al., "The Hill equation: a review of its
    capabilities in pharmacological modelling", Fundamental & Clinical Pharmacology 22(6), 2008.

    Attributes:
        maximum: Effect of a very large dose, such as 1 for a parameter that doubles.
        half: Dose of half the effect, in the dose's unit.
        exponent: Steepness n.
    """

    maximum: Dose
    half: Dose
    exponent: Dose = 1.0

    def __call__(self, dose: Dose) -> Scalar:
        """The effect of a dose."""
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

    def __call__(self, system, p):
        """The patient under these settings."""
        by = {name: lambda old, new=new: new + 0 * old for name, new in self.values.items()}
        return system, change(p, **by)


class Drug(AbstractIntervention):
    """A drug that changes parameters by shares of what they were.

        Drug({"R": -0.3})  # a bronchodilator: airways a third less tight

    Attributes:
        shares: Relative change of each parameter, by name: 0.5 for half as much again.
    """

    shares: Mapping[str, Dose]

    def __check_init__(self):
        for name, share in self.shares.items():
            check_dose(f"Drug: {name}", share, above=-1.0)

    def __call__(self, system, p):
        """The patient under the drug."""
        by = {
            name: lambda old, share=share: old * (1 + share) for name, share in self.shares.items()
        }
        return system, change(p, **by)
