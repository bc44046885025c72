"""The phantom's heart: shape and motion of its chambers in the four-chamber plane.

All coordinates are in the heart's own plane, in cm: z runs along the long axis of the left
ventricle from the apex (z = 0 at end diastole) through the mitral annulus (z = length) to the roof
of the left atrium; x points from the septum (x < 0) to the lateral wall (x > 0).

The tissue is drawn once, at end diastole (`tissue_level`, in *material* coordinates). For every
other frame, `to_material` maps each point to the position of its tissue at end diastole, so that
speckle moves with the tissue. Outside the cavity the map conserves the volume of every ring
around the long axis, so walls thicken correctly when the cavity empties.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

# The ventricle's profile is an ellipse truncated at the annulus and widest at this fraction c of
# the length: radius² = R² u (2c − u) / c², u = z / length.
WIDEST_LEVEL = 0.62
# Fraction of the squeeze that is lost at the annulus: the base narrows less than the rest, because
# the annulus is a fibrous ring.
BASAL_STIFFNESS = 0.5
# Fraction of the stroke volume that fills the atrium while the mitral valve is closed; the rest
# flows straight from the veins to the ventricle (conduit flow).
RESERVOIR_FRACTION = 0.7
# The right ventricle's width decreases by about this fraction of the left ventricle's emptying.
RIGHT_SHORTENING = 0.35
# Mitral flow at which the leaflets are 63% open [mL/s]; early filling peaks at several hundred.
OPENING_FLOW = 90.0


class PhantomBeat(NamedTuple):
    """One cycle of the left heart on a uniform grid of phases [0, 1); phase 0 is end diastole.

    Functions take one beat; the beats of a cohort have a leading clip axis.

    Attributes:
        V_lv: Volume of the left ventricle [mL].
        mitral_flow: Flow through the mitral valve [mL/s]; positive while the valve is open.
        aortic_flow: Flow through the aortic valve [mL/s].
        period: Length of the cycle [s].
    """

    V_lv: Float[Array | np.ndarray, "*clip phase"]
    mitral_flow: Float[Array | np.ndarray, "*clip phase"]
    aortic_flow: Float[Array | np.ndarray, "*clip phase"]
    period: Float[Array | np.ndarray, "*clip"]


class Heart(NamedTuple):
    """A patient's heart at end diastole, the reference shape for all motion.

    Attributes:
        length: Long axis of the left ventricle, apex to annulus [cm].
        radius: Largest radius of its cavity [cm].
        wall: Thickness of its wall [cm].
        atrium_length: Distance from the annulus to the roof of the left atrium [cm].
        atrium_bulge: Widening of the atrium beyond the annulus, in squared annulus radii.
        right_width: Width of the right ventricle at its base [cm].
        longitudinal: Power of the volume with which the long axis scales. At 0.2 and EF 60% it
            shortens by 17%, a mitral excursion of 1.4 cm, as in healthy adults.
        apical: Fraction of the shortening by which the cavity's apex moves down, because the wall
            thickens there too; the rest moves the annulus up.
        taper: Additional squeeze of the apex, relative to that of the middle: the cavity becomes
            conical as it empties.
    """

    length: Float[Array, ""]
    radius: Float[Array, ""]
    wall: Float[Array, ""]
    atrium_length: Float[Array, ""]
    atrium_bulge: Float[Array, ""]
    right_width: Float[Array, ""]
    longitudinal: Float[Array, ""]
    apical: Float[Array, ""]
    taper: Float[Array, ""]

    @property
    def annulus_radius(self) -> Float[Array, ""]:
        """Radius of the mitral annulus [cm]."""
        return self.radius * float(np.sqrt((2 * WIDEST_LEVEL - 1) / WIDEST_LEVEL**2))


class Motion(NamedTuple):
    """The heart's configuration at one instant.

    Attributes:
        apex: Height of the cavity's apex [cm]; 0 at end diastole.
        length: Height of the mitral annulus [cm].
        squeeze: Relative loss of radius near the middle; the base loses less, the apex more.
        atrium_scale: Radius of the left atrium relative to end diastole.
        emptied: Fraction of the end-diastolic volume that has left the left ventricle.
        opening: Opening of the mitral and tricuspid leaflets, 0 to 1.
        ejecting: Aortic flow relative to its peak, 0 to 1 (closed leaflets bulge with it).
    """

    apex: Float[Array, "*time"]
    length: Float[Array, "*time"]
    squeeze: Float[Array, "*time"]
    atrium_scale: Float[Array, "*time"]
    emptied: Float[Array, "*time"]
    opening: Float[Array, "*time"]
    ejecting: Float[Array, "*time"]


def _squeeze_profile(level, taper):
    """Return the fraction of the squeeze that acts at a level (0 apex, 1 annulus)."""
    return 1.0 - BASAL_STIFFNESS * level**3 + taper * (1.0 - level) ** 2


def _profile_moments() -> tuple[float, tuple[float, float], tuple[float, float, float]]:
    """Return the integrals over the long axis of f², f² g and f² g².

    f is the ventricle's profile and g the squeeze profile; the last two are polynomials in the
    taper, whose coefficients are given from the constant term on.
    """
    nodes, weights = np.polynomial.legendre.leggauss(8)  # exact: the integrands have degree 8
    level, weights = (nodes + 1) / 2, weights / 2
    f2 = level * (2 * WIDEST_LEVEL - level) / WIDEST_LEVEL**2
    g, h = _squeeze_profile(level, 0.0), (1.0 - level) ** 2
    first = float(weights @ (f2 * g)), float(weights @ (f2 * h))
    second = (f2 * g * g, 2 * f2 * g * h, f2 * h * h)
    constant, linear, square = (float(weights @ values) for values in second)
    return float(weights @ f2), first, (constant, linear, square)


_MOMENT_0, _MOMENT_1, _MOMENT_2 = _profile_moments()


def end_diastolic_size(
    volume: Float[Array, ""], sphericity: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return length and radius [cm] of a ventricle from its volume [mL] and radius / length."""
    length = jnp.cbrt(volume / (np.pi * _MOMENT_0 * sphericity**2))
    return length, sphericity * length


def motion_of(beat: PhantomBeat, heart: Heart) -> Motion:
    """Return the heart's motion through a beat; every leaf is on the beat's phase grid.

    The squeeze solves volume = π length R² ∫ f² (1 − squeeze · g)² du exactly, so the drawn cavity
    has the circuit's volume.
    """
    end_diastolic_volume = np.pi * _MOMENT_0 * heart.radius**2 * heart.length
    filled = jnp.asarray(beat.V_lv) / end_diastolic_volume
    axis = heart.length * filled**heart.longitudinal
    apex = heart.apical * (heart.length - axis)
    length = apex + axis
    moment = _MOMENT_0 * filled ** (1 - heart.longitudinal)
    first = _MOMENT_1[0] + heart.taper * _MOMENT_1[1]
    second = _MOMENT_2[0] + heart.taper * (_MOMENT_2[1] + heart.taper * _MOMENT_2[2])
    discriminant = first**2 - second * (_MOMENT_0 - moment)
    squeeze = (first - jnp.sqrt(jnp.maximum(discriminant, 0.0))) / second

    # Venous inflow to the atrium is constant, while its outflow follows the mitral valve.
    step = beat.period / beat.V_lv.shape[0]
    swelling = jnp.cumsum(jnp.mean(beat.mitral_flow) - beat.mitral_flow) * step
    swelling = RESERVOIR_FRACTION * (swelling - swelling[0])
    annulus2 = heart.annulus_radius**2
    atrium_volume = np.pi * heart.atrium_length * annulus2 * (1 / 2 + heart.atrium_bulge / 6)
    stretch = 1 + (heart.length - length) / heart.atrium_length  # the roof stays where it is
    atrium_scale = jnp.sqrt(jnp.maximum(1 + swelling / atrium_volume, 0.3) / stretch)
    peak_ejection = jnp.maximum(jnp.max(beat.aortic_flow), 1.0)
    return Motion(
        apex=apex,
        length=length,
        squeeze=squeeze,
        atrium_scale=atrium_scale,
        emptied=1 - filled,
        opening=1 - jnp.exp(-jnp.maximum(beat.mitral_flow, 0.0) / OPENING_FLOW),
        ejecting=jnp.clip(beat.aortic_flow / peak_ejection, 0.0, 1.0),
    )


def cavity_radius(
    heart: Heart, motion: Motion, z: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Return the radius [cm] of the left ventricle's cavity at heights from apex to annulus."""
    level = (z - motion.apex) / (motion.length - motion.apex)
    profile = jnp.sqrt(jnp.maximum(level * (2 * WIDEST_LEVEL - level), 0.0)) / WIDEST_LEVEL
    return heart.radius * profile * (1 - motion.squeeze * _squeeze_profile(level, heart.taper))


def _radius_squared(heart: Heart, z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the squared radius of left ventricle and atrium at end diastole.

    It is negative beyond both ends.
    """
    level = z / heart.length
    ventricle = heart.radius**2 * level * (2 * WIDEST_LEVEL - level) / WIDEST_LEVEL**2
    depth = (z - heart.length) / heart.atrium_length
    atrium = heart.annulus_radius**2 * (1 - depth) * (1 + heart.atrium_bulge * depth)
    return jnp.where(z < heart.length, ventricle, atrium)


def _radius_squared_slope(heart: Heart, z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the derivative of `_radius_squared` along z [cm]."""
    level = z / heart.length
    ventricle = heart.radius**2 * 2 * (WIDEST_LEVEL - level) / WIDEST_LEVEL**2 / heart.length
    depth = (z - heart.length) / heart.atrium_length
    bulge = heart.atrium_bulge
    atrium = heart.annulus_radius**2 * (bulge - 1 - 2 * bulge * depth) / heart.atrium_length
    return jnp.where(z < heart.length, ventricle, atrium)


def _smoothstep(value: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    value = jnp.clip(value, 0.0, 1.0)
    return value * value * (3 - 2 * value)


def to_material(
    heart: Heart, motion: Motion, x: Float[Array, "*shape"], z: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Return the position at end diastole [cm] of the tissue that is now at (x, z).

    Along the axis the ventricle shortens uniformly, the atrium stretches so that its roof stays in
    place, and the chest wall above the apex is at rest. Across the axis, squared distances from
    the cavity's border scale with the shortening, which conserves the volume of every ring of
    wall.
    """
    shortening = (motion.length - motion.apex) / heart.length
    roof = heart.length + heart.atrium_length
    from_roof = (roof - z) * (heart.atrium_length / (roof - motion.length))
    z_below = jnp.where(z < roof, roof - from_roof, z)
    # The apical wall fills the space that the cavity leaves.
    above = jnp.where(
        z > -heart.wall, (z - motion.apex) * heart.wall / (heart.wall + motion.apex), z
    )
    inside = (z - motion.apex) / shortening
    z_m = jnp.where(z < motion.length, jnp.where(z > motion.apex, inside, above), z_below)

    level = jnp.clip(z_m / heart.length, 0.0, 1.0)
    ventricle_scale = 1 - motion.squeeze * _squeeze_profile(level, heart.taper)
    into_atrium = _smoothstep((z_m - heart.length) / (0.6 * heart.atrium_length))
    scale = ventricle_scale + (motion.atrium_scale - ventricle_scale) * into_atrium
    stretch = jnp.where(z < motion.length, shortening, 1.0)
    # Smooth the jump of `stretch` between chest wall and ventricle over a centimetre.
    stretch = 1 + (stretch - 1) * _smoothstep(z - motion.apex + 0.5)

    border2 = _radius_squared(heart, z_m)
    beyond = x * x - jnp.where(border2 > 0, scale * scale, 1.0) * border2
    radius = jnp.abs(x)
    rested = jnp.sqrt(jnp.maximum(border2 + stretch * beyond, 1e-6))
    radius_m = jnp.where(beyond > 0, rested, radius / scale)
    # Motion decays beyond the wall: lung, chest wall and spine are at rest.
    away = jnp.maximum(radius_m - jnp.sqrt(jnp.maximum(border2, 0.0)) - 1.5 * heart.wall, 0.0)
    rest = away * away
    rest = rest / (rest + 4.0)
    radius_m = radius_m + (radius - radius_m) * rest
    # The right heart lies beyond the septum: its ventricle narrows, its atrium widens.
    towards_base = 1 - 2 * _smoothstep((z_m - heart.length + 1.0) / 2.0)
    narrowing = 1 + RIGHT_SHORTENING * motion.emptied * towards_base
    radius_m = jnp.where(x < 0, radius_m + away * (narrowing - 1), radius_m)
    return jnp.sign(x) * radius_m, z_m


class Outline(NamedTuple):
    """Position of material points relative to the chambers.

    Attributes:
        left: Distance to the border of the left ventricle or atrium [cm], negative inside.
        right: Distance to the border of the right ventricle or atrium [cm], negative inside.
        normal_x, normal_z: Outward normal of the left chambers' border.
    """

    left: Float[Array, "*shape"]
    right: Float[Array, "*shape"]
    normal_x: Float[Array, "*shape"]
    normal_z: Float[Array, "*shape"]


def _is_beside(heart: Heart, z: Float[Array, "*shape"]) -> Bool[Array, "*shape"]:
    """Return whether the left chambers' border runs along the axis, not across it, at a height."""
    return (z > 0.3 * heart.length) & (z < heart.length + 0.6 * heart.atrium_length)


def outline(heart: Heart, x: Float[Array, "*shape"], z: Float[Array, "*shape"]) -> Outline:
    """Return the distances to the chambers at end diastole, to first order near the borders."""
    slope = _radius_squared_slope(heart, z)
    gradient = jnp.sqrt(4 * x * x + slope * slope) + 1e-3
    left = (x * x - _radius_squared(heart, z)) / gradient
    # Far from the border the first-order distance is too small; the radial distance is not.
    radial = jnp.abs(x) - jnp.sqrt(jnp.maximum(_radius_squared(heart, z), 0.0))
    left = jnp.where(_is_beside(heart, z) & (left > 0), radial, left)

    # The right ventricle widens from its apex, well below the left one, towards the tricuspid
    # annulus, which is half a centimetre closer to the apex than the mitral one.
    tricuspid = heart.length - 0.5
    level = jnp.clip((z / tricuspid - 0.24) / 0.76, 0.0, 1.2)
    width = heart.right_width * jnp.sqrt(level * (1.45 - 0.45 * level))
    septum = jnp.sqrt(jnp.maximum(_radius_squared(heart, jnp.minimum(z, heart.length)), 0.0))
    from_septum = -x - septum - heart.wall
    ventricle = jnp.maximum(jnp.maximum(-from_septum, from_septum - width), z - tricuspid - 0.1)
    # Right atrium: an ellipse beside the left one, the atrial septum between them.
    half_width = 0.52 * heart.right_width + 0.3
    half_length = 0.55 * heart.atrium_length + 0.2
    centre_x = -(1.12 * heart.annulus_radius + 0.6 + half_width)
    centre_z = tricuspid + 0.8 * half_length
    u, v = (x - centre_x) / half_width, (z - centre_z) / half_length
    distance = jnp.sqrt(u * u + v * v)
    atrium = (distance - 1) * 0.5 * (half_width + half_length)
    right = jnp.minimum(ventricle, atrium)
    return Outline(left, right, 2 * x / gradient, -slope / gradient)


def is_within(
    heart: Heart,
    x: Float[Array, "*shape"],
    z: Float[Array, "*shape"],
    margin: float | Float[Array, ""],
) -> Bool[Array, "*shape"]:
    """Return whether points are in the left chambers or less than a margin >= 0 [cm] outside.

    The result is `outline(heart, x, z).left < margin`, at a third of the cost.
    """
    border2, slope = _radius_squared(heart, z), _radius_squared_slope(heart, z)
    beside = jnp.abs(x) - jnp.sqrt(jnp.maximum(border2, 0.0)) < margin
    gradient = jnp.sqrt(4 * x * x + slope * slope) + 1e-3
    return jnp.where(_is_beside(heart, z), beside, x * x - border2 < margin * gradient)
