"""Treatments that change the parameters of a heart's circuit: drugs, fluid, pacing, valves."""

import jax
import jax.numpy as jnp

from jaxtwin.models.intervention import AbstractIntervention, Dose, change, check_dose
from jaxtwin.physics.base import AbstractPeriodicSystem


class Inotrope(AbstractIntervention):
    """A drug that changes contractility.

    Attributes:
        effect: Relative change of the peak elastance E_max: 0.5 increases it by half.
    """

    effect: Dose

    def __check_init__(self):
        check_dose("Inotrope: effect", self.effect, above=-1.0)

    def __call__(self, system, p):
        """Return the patient with a changed E_max."""
        return system, change(p, E_max=lambda E_max: E_max * (1 + self.effect))


class Vasodilator(AbstractIntervention):
    """A drug that changes systemic resistance; a vasopressor has a positive effect.

    Attributes:
        effect: Relative change of R_s: -0.3 lowers it by 30%.
    """

    effect: Dose

    def __check_init__(self):
        check_dose("Vasodilator: effect", self.effect, above=-1.0)

    def __call__(self, system, p):
        """Return the patient with a changed R_s."""
        return system, change(p, R_s=lambda R_s: R_s * (1 + self.effect))


class Fluid(AbstractIntervention):
    """Blood or fluid given, all of which adds to the stressed volume.

    Attributes:
        volume: Volume given [mL]; negative for volume withdrawn.
    """

    volume: Dose

    def __call__(self, system, p):
        """Return the patient with a changed V_0, in which the stressed volume is linear."""
        if not isinstance(system, AbstractPeriodicSystem):
            raise ValueError(
                f"{type(system).__name__} has no conserved volume that Fluid could change"
            )

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
        rate: Heart rate [beats per minute].
    """

    rate: Dose

    def __check_init__(self):
        check_dose("RateControl: rate", self.rate, above=0.0)

    def __call__(self, system, p):
        """Return the patient with a changed heart period."""
        return system, change(p, T_c=lambda T_c: 60 / self.rate + 0 * T_c)


class MitralRepair(AbstractIntervention):
    """Relief of a mitral stenosis.

    Attributes:
        resistance: Upper limit of the valve's resistance after the repair [mmHg·s/mL].
    """

    resistance: Dose = 0.005

    def __call__(self, system, p):
        """Return the patient with a mitral-valve resistance of at most `resistance`."""
        return system, change(p, R_m=lambda R_m: jnp.minimum(R_m, self.resistance))


class AorticRepair(AbstractIntervention):
    """Relief of an aortic stenosis, by repair or valve replacement.

    Attributes:
        resistance: Upper limit of the valve's resistance after the repair [mmHg·s/mL].
    """

    resistance: Dose = 0.001

    def __call__(self, system, p):
        """Return the patient with an aortic-valve resistance of at most `resistance`."""
        return system, change(p, R_a=lambda R_a: jnp.minimum(R_a, self.resistance))
