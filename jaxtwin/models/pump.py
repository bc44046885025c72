"""Treatment with a pump at a given speed, below suction, or at a speed chosen by a controller."""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxtwin.models.intervention import AbstractIntervention, check_dose
from jaxtwin.models.lvad import LVAD, PumpParameters, Speed
from jaxtwin.models.ventricle import AbstractVentricle
from jaxtwin.parameters import Scalar
from jaxtwin.physics.beat import BeatMap
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.sdirk import SDIRK2

SPEEDS = (6_000.0, 18_000.0)
"""Range of pump speeds searched [rpm]."""


class AbstractSpeedLaw(eqx.Module):
    """Rule that chooses the pump speed for each patient."""

    @abc.abstractmethod
    def choose(self, heart: AbstractVentricle, p: Any, pump: PumpParameters) -> Scalar:
        """Return the speed for one patient [rpm], or NaN if the law finds none."""


class Pump(AbstractIntervention):
    """A left-ventricular assist device.

    Attributes:
        speed: Pump speed [rpm] as a number or a function of the phase of the beat, or a law that
            chooses a number for each patient.
        pump: Parameters of the pump.
    """

    speed: Speed | AbstractSpeedLaw
    pump: PumpParameters = PumpParameters()

    def __check_init__(self):
        if isinstance(self.speed, type):
            raise ValueError(
                f"Pump: speed is the class {self.speed.__name__}: expected an object, "
                f"{self.speed.__name__}()"
            )
        check_dose("Pump: speed", self.speed, above=0.0)

    def __call__(self, system, p):
        """Return the patient with a pump."""
        if not isinstance(system, AbstractVentricle):
            raise ValueError(
                f"a pump needs a ventricle and an aorta: expected an AbstractVentricle, got "
                f"{type(system).__name__}; a patient can have one pump"
            )
        speed = self.speed
        if isinstance(speed, AbstractSpeedLaw):
            speed = speed.choose(system, p, self.pump)
        return LVAD(system, speed, self.pump), p


class Suction(NamedTuple):
    """Speed at which a pump starts to suck in the ventricular wall.

    Attributes:
        speed: Speed at which the smallest pump flow of the beat stops rising with speed [rpm]; NaN
            if it rises over the whole range or a simulation failed.
        found: Whether such a speed was found.
    """

    speed: Float[Array, ""]
    found: Bool[Array, ""]


def suction_speed(
    heart: AbstractVentricle,
    p: Any,
    pump: PumpParameters | None = None,
    *,
    speeds: tuple[float, float] = SPEEDS,
    spacing: float = 500.0,
    tolerance: float = 50.0,
) -> Suction:
    """Find the speed at which the smallest pump flow of a beat stops rising with speed.

    The smallest flow rises until the wall is sucked in, and then falls. Beats at equidistant speeds
    bracket the first maximum and a golden-section search refines it. Brief suction at the end of
    ejection may occur at lower speeds: the endpoint `suction` of a trial gives the share of the
    beat with suction. Use `jax.vmap` for several patients.

    Args:
        heart: The circuit without a pump.
        p: Parameters of the circuit.
        pump: Parameters of the pump.
        speeds: Range of speeds to search [rpm].
        spacing: Spacing of the first, coarse search [rpm]; suction confined to a narrower range of
            speeds is missed.
        tolerance: Tolerance on the speed [rpm].

    Raises:
        ValueError: If the tolerance is not positive, exceeds the spacing, or fewer than two
            spacings fit between the speeds.
    """
    low, high = speeds
    if not (0 < tolerance <= spacing <= (high - low) / 2):
        raise ValueError(
            f"speeds {speeds}, spacing {spacing}, tolerance {tolerance}: expected a positive "
            "tolerance, no larger than the spacing, and at least two spacings between the speeds"
        )
    device = PumpParameters() if pump is None else pump

    def flow_min(speed):
        orbit = periodic_orbit(LVAD(heart, speed, device), p, throw=False)
        return jnp.where(orbit.success, jnp.min(orbit.outputs.Q_p), jnp.nan)

    dtype = jnp.result_type(*jax.tree.leaves(p), jnp.float32)
    grid = jnp.arange(low, high + spacing / 2, spacing, dtype)
    flows = jax.lax.map(flow_min, grid)
    fell = flows[1:] < flows[:-1]
    # If the flow falls between k and k + 1, the maximum is between k − 1 and k + 1.
    first = jnp.argmax(fell)
    a, b = grid[jnp.maximum(first - 1, 0)], grid[first + 1]
    golden = (5**0.5 - 1) / 2

    def narrow(_, carry):
        a, b, left, right = carry
        x, y = b - golden * (b - a), a + golden * (b - a)
        rises = left < right
        a, b = jnp.where(rises, x, a), jnp.where(rises, b, y)
        new = jnp.where(rises, a + golden * (b - a), b - golden * (b - a))
        value = flow_min(new)
        return a, b, jnp.where(rises, right, value), jnp.where(rises, value, left)

    number, width = 0, 2 * spacing
    while width > tolerance:
        number, width = number + 1, width * golden
    start = (a, b, flow_min(b - golden * (b - a)), flow_min(a + golden * (b - a)))
    a, b, left, right = jax.lax.fori_loop(0, number, narrow, start)
    # Far beyond suction the pump may empty the heart, so that no beat is found.
    needed = jnp.isfinite(flows) | (jnp.arange(len(flows)) > first + 1)
    known = needed.all() & jnp.isfinite(left) & jnp.isfinite(right)
    found = jnp.any(fell) & known
    return Suction(jnp.where(found, (a + b) / 2, jnp.nan), found)


class BelowSuction(AbstractSpeedLaw):
    """Speed a fixed margin below the onset of suction.

    Attributes:
        margin: Margin as a share of the speed at which suction starts.
    """

    margin: Scalar | float = 0.1

    def choose(self, heart: AbstractVentricle, p: Any, pump: PumpParameters) -> Scalar:
        """Return the speed [rpm], or NaN if `suction_speed` finds no suction."""
        return (1 - self.margin) * suction_speed(heart, p, pump).speed


class FlatteningFlow(AbstractSpeedLaw):
    """Controller that raises the speed until the envelope of the smallest pump flow flattens.

    It works like the controllers of Simaan et al. 2009 and Kuang et al. 2024, which follow a
    patient in time. The circulation does not settle while the speed rises, so the controller stops
    at a different speed than `suction_speed`, which compares settled beats.

    Attributes:
        start: Speed of the first beat [rpm].
        rise: Increase of the speed from one beat to the next [rpm].
        window: Number of beats over which the envelope is compared: it has flattened when the
            smallest flow is no larger than this many beats earlier.
        most: Highest speed tried [rpm].
    """

    start: float = eqx.field(static=True, default=SPEEDS[0])
    rise: float = eqx.field(static=True, default=50.0)
    window: int = eqx.field(static=True, default=4)
    most: float = eqx.field(static=True, default=SPEEDS[1])

    def choose(self, heart: AbstractVentricle, p: Any, pump: PumpParameters) -> Scalar:
        """Return the speed at which the envelope flattened [rpm], or NaN if it never did."""

        def beat(carry, speed):
            state, last, stopped_at = carry
            system = LVAD(heart, speed, pump)
            done = BeatMap(system, p, SDIRK2(), system.steps).steps()(state, record=True)
            flow = jnp.min(done.states.Q_p)
            flat = flow <= last[0]
            stopped_at = jnp.where(jnp.isnan(stopped_at) & flat, speed, stopped_at)
            return (done.end, jnp.append(last[1:], flow), stopped_at), None

        dtype = jnp.result_type(*jax.tree.leaves(p), jnp.float32)
        speeds = jnp.arange(self.start, self.most, self.rise, dtype)
        # Start from the settled beat with the pump, so that the initial transient is left out.
        first = periodic_orbit(LVAD(heart, speeds[0], pump), p, throw=False)
        state = jax.tree.map(lambda leaf: leaf[-1], first.states)
        last = jnp.full(self.window, -jnp.inf, dtype)
        (_, _, speed), _ = jax.lax.scan(beat, (state, last, jnp.asarray(jnp.nan, dtype)), speeds)
        return speed
