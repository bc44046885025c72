"""What may be done to a patient: an intervention changes the parameters or the system.

    treated, p = combine(Pump(9_000.0), Vasodilator(-0.2))(LeftHeart(), p)

An intervention is a function of one patient, inside jit and vmap, so its doses can be batched and
differentiated. One of your own is a class of a few lines:

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

from jaxtwin.models.lvad import LVAD, PumpParameters, Speed
from jaxtwin.models.ventricle import AbstractVentricle
from jaxtwin.parameters import AbstractParameters, Scalar
from jaxtwin.physics.base import AbstractPeriodicSystem, AbstractRecordedSystem
from jaxtwin.treatments.speed_laws import AbstractSpeedLaw

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


def _require(name: str, value: Any, *, above: float) -> None:
    """Refuse a dose that is a plain number and means nothing; arrays may be traced."""
    if isinstance(value, int | float) and not above < value < float("inf"):
        raise ValueError(f"{name} = {value}: expected a number above {above:g}")


class Nothing(AbstractIntervention):
    """The control."""

    def __call__(self, system, p):
        """The patient as before."""
        return system, p


class Combination(AbstractIntervention):
    """Several interventions, one after the other.

    Attributes:
        parts: In their order.
    """

    parts: tuple[AbstractIntervention, ...]

    def __call__(self, system, p):
        """The patient after all of them."""
        for part in self.parts:
            system, p = part(system, p)
        return system, p


def combine(*parts: AbstractIntervention) -> Combination:
    """Several interventions as one; the later see what the earlier have made of the patient."""
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
        values: By name of the parameter.
    """

    values: Mapping[str, Dose]

    def __call__(self, system, p):
        """The patient under these settings."""
        by = {name: lambda old, new=new: new + 0 * old for name, new in self.values.items()}
        return system, change(p, **by)


class Effect(AbstractIntervention):
    """A drug that changes parameters by shares of what they were.

        Effect({"R": -0.3})  # a bronchodilator: airways a third less tight

    Attributes:
        shares: By name of the parameter, its relative change: 0.5 for half as much again.
    """

    shares: Mapping[str, Dose]

    def __check_init__(self):
        for name, share in self.shares.items():
            _require(f"Effect: {name}", share, above=-1.0)

    def __call__(self, system, p):
        """The patient under the drug."""
        by = {
            name: lambda old, share=share: old * (1 + share) for name, share in self.shares.items()
        }
        return system, change(p, **by)


class Inotrope(AbstractIntervention):
    """A drug that changes contractility.

    Attributes:
        effect: Relative change of the peak elastance E_max: 0.5 for half as much again.
    """

    effect: Dose

    def __check_init__(self):
        _require("Inotrope: effect", self.effect, above=-1.0)

    def __call__(self, system, p):
        """The patient with another E_max."""
        return system, change(p, E_max=lambda E_max: E_max * (1 + self.effect))


class Vasodilator(AbstractIntervention):
    """A drug that changes systemic resistance; a vasopressor has a positive effect.

    Attributes:
        effect: Relative change of R_s: -0.3 for a third less.
    """

    effect: Dose

    def __check_init__(self):
        _require("Vasodilator: effect", self.effect, above=-1.0)

    def __call__(self, system, p):
        """The patient with another R_s."""
        return system, change(p, R_s=lambda R_s: R_s * (1 + self.effect))


class Fluid(AbstractIntervention):
    """Blood or fluid given, or taken where it is negative, all of which adds to stressed volume.

    Attributes:
        volume: How much [mL].
    """

    volume: Dose

    def __call__(self, system, p):
        """The patient with another V_0: what the circuit is filled with is linear in it."""
        if not isinstance(system, AbstractPeriodicSystem):
            raise ValueError(f"{type(system).__name__} conserves no volume that fluid could add to")

        def stressed(V_0):
            filled = change(p, V_0=lambda _: V_0)
            (volume,) = system.conserved(system.initial_state(filled), filled)
            return volume

        def more(V_0):
            return V_0 + self.volume / jax.grad(stressed)(jnp.asarray(V_0, float))

        return system, change(p, V_0=more)


class RateControl(AbstractIntervention):
    """Pacing, or a drug that sets the heart rate.

    Attributes:
        rate: Beats a minute.
    """

    rate: Dose

    def __check_init__(self):
        _require("RateControl: rate", self.rate, above=0.0)

    def __call__(self, system, p):
        """The patient with another heart period."""
        return system, change(p, T_c=lambda T_c: 60 / self.rate + 0 * T_c)


class MitralRepair(AbstractIntervention):
    """Relief of a mitral stenosis.

    Attributes:
        resistance: Of the valve afterwards, if it was higher [mmHg·s/mL].
    """

    resistance: Dose = 0.005

    def __call__(self, system, p):
        """The patient with a mitral valve no tighter than that."""
        return system, change(p, R_m=lambda R_m: jnp.minimum(R_m, self.resistance))


class AorticRepair(AbstractIntervention):
    """Relief of an aortic stenosis, by repair or a new valve.

    Attributes:
        resistance: Of the valve afterwards, if it was higher [mmHg·s/mL].
    """

    resistance: Dose = 0.001

    def __call__(self, system, p):
        """The patient with an aortic valve no tighter than that."""
        return system, change(p, R_a=lambda R_a: jnp.minimum(R_a, self.resistance))


class Pump(AbstractIntervention):
    """A left-ventricular assist device.

    Attributes:
        speed: A number or a function of the phase of the beat [rpm], or a law that chooses the
            number for each patient.
        pump: The device.
    """

    speed: Speed | AbstractSpeedLaw
    pump: PumpParameters = PumpParameters()

    def __check_init__(self):
        _require("Pump: speed", self.speed, above=0.0)

    def __call__(self, system, p):
        """The patient with a pump."""
        if not isinstance(system, AbstractVentricle):
            raise ValueError(
                f"a pump needs a ventricle and an aorta: expected an AbstractVentricle, got "
                f"{type(system).__name__}; a patient can have one pump"
            )
        speed = self.speed
        if isinstance(speed, AbstractSpeedLaw):
            speed = speed.choose(system, p, self.pump)
        return LVAD(system, speed, self.pump), p
