"""Treatments of a heart that change its circuit's parameters: drugs, fluid, pacing, valves."""

import jax
import jax.numpy as jnp

from jaxtwin.models.intervention import AbstractIntervention, Dose, change, check_dose
from jaxtwin.physics.base import AbstractPeriodicSystem


class Inotrope(AbstractIntervention):
    """A drug that changes contractility.

    Attributes:
        effect: Relative change of the peak elastance E_max: 0.5 for half as much again.
    """

    effect: Dose

    def __check_init__(self):
        check_dose("Inotrope: effect", self.effect, above=-1.0)

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
        check_dose("Vasodilator: effect", self.effect, above=-1.0)

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
        check_dose("RateControl: rate", self.rate, above=0.0)

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
