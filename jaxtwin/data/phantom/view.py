"""The view of one phantom clip: the patient's build, the probe's position, the scanner's settings.

These are nuisance parameters, to which an encoder should be invariant.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxtwin.data.phantom.heart import Heart, PhantomBeat, end_diastolic_size

# Frame rates and lengths as in EchoNet-Dynamic: mostly 50 frames/s, 18 to 138.
COMMON_FRAME_RATE = 50.0
FRAME_RATES = (18.0, 138.0)
DURATIONS = (0.7, 6.0)
# The image starts at the probe's face, an arc at this distance from the point where the beams
# would meet. It is 2 cm wide, the aperture of a cardiac phased array.
PROBE_RADIUS = 1.5  # [cm]
SHADOWS = 3  # maximum number of shadows of ribs and lung edges in one view


class View(NamedTuple):
    """All nuisance parameters of one clip.

    Lengths are in cm, angles in rad, levels in dB and times in s.

    Attributes:
        heart: The patient's heart at end diastole.
        depth: Image depth, from the point where the beams meet to the lower arc.
        half_angle: Half of the sector's opening angle.
        aspect: Ratio of a pixel's width to its height.
        apex_x, apex_y: Position of the ventricle's apex, relative to where the beams meet.
        tilt: Angle between the ventricle's long axis and the image's vertical.
        bend: Sideways bow of the long axis at its middle.
        foreshortening: Fraction of the long axis lost because the plane misses the apex.
        frame_rate: Frame rate [1/s], a multiple of 0.01.
        duration: Duration of the clip.
        start_phase: Phase of the cycle at which the clip starts, 0 to 1.
        drift, drift_period, drift_phase: Amplitude, period and initial phase (0 to 1) of the
            heart's displacement by breathing.
        gain: Gain added to every echo.
        dynamic_range: Range of levels between black and white.
        attenuation: Error of the depth compensation at full depth.
        lateral_loss: Loss at the sector's edges.
        drop_out: Loss of walls that run along the beam.
        leaflets: Level of the mitral leaflets.
        haze, haze_reach: Level and reach of the reverberations in the near field.
        clutter: Level of the side lobes and reverberations that fill the cavities.
        noise: Level of the thermal noise at full depth.
        contrast: Exponent of the grey map; above 1, dim echoes are darker.
        shadow_angle, shadow_width, shadow_loss: Angle, angular width and loss of the shadows of
            ribs and lung.
    """

    heart: Heart
    depth: Float[Array, ""]
    half_angle: Float[Array, ""]
    aspect: Float[Array, ""]
    apex_x: Float[Array, ""]
    apex_y: Float[Array, ""]
    tilt: Float[Array, ""]
    bend: Float[Array, ""]
    foreshortening: Float[Array, ""]
    frame_rate: Float[Array, ""]
    duration: Float[Array, ""]
    start_phase: Float[Array, ""]
    drift: Float[Array, ""]
    drift_period: Float[Array, ""]
    drift_phase: Float[Array, ""]
    gain: Float[Array, ""]
    dynamic_range: Float[Array, ""]
    attenuation: Float[Array, ""]
    lateral_loss: Float[Array, ""]
    drop_out: Float[Array, ""]
    leaflets: Float[Array, ""]
    haze: Float[Array, ""]
    haze_reach: Float[Array, ""]
    clutter: Float[Array, ""]
    noise: Float[Array, ""]
    contrast: Float[Array, ""]
    shadow_angle: Float[Array, " shadow"]
    shadow_width: Float[Array, " shadow"]
    shadow_loss: Float[Array, " shadow"]


class _Draws:
    """Float32 draws, taken one after the other from a single call to the generator."""

    def __init__(self, key: PRNGKeyArray):
        self._stock = jax.random.uniform(key, (64,), jnp.float32)
        # Truncated at 2.5 standard deviations, so that no clip is implausible.
        tail = 0.0062
        self._normals = jax.scipy.special.ndtri(tail + (1 - 2 * tail) * self._stock)
        self._used = 0

    def _next(self) -> int:
        self._used += 1
        return self._used - 1

    def uniform(self, low: float, high: float) -> Float[Array, ""]:
        return low + (high - low) * self._stock[self._next()]

    def normal(self, mean: float, spread: float) -> Float[Array, ""]:
        return mean + spread * self._normals[self._next()]


@jax.jit
def draw_view(key: PRNGKeyArray, beat: PhantomBeat) -> View:
    """Draw one clip's nuisance parameters.

    Image depth is adapted to the size of the heart, as a sonographer would do, but only in part:
    the cavity's length and width in pixels still determine most of its volume, and wall thickness
    and speckle size show the scale.
    """
    beat = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), beat)
    draw = _Draws(key)
    volume = jnp.max(beat.V_lv)
    # Dilated ventricles are rounder: radius/length increases by a tenth when the volume doubles.
    sphericity = 0.285 * (volume / 100.0) ** 0.14 * jnp.exp(draw.normal(0.0, 0.07))
    length, radius = end_diastolic_size(volume, sphericity)
    heart = Heart(
        length=length,
        radius=radius,
        wall=draw.normal(0.9, 0.12),
        atrium_length=length * draw.normal(0.42, 0.05),
        atrium_bulge=draw.uniform(1.2, 3.2),
        right_width=radius * draw.normal(1.15, 0.15),
    )
    apex_y = draw.normal(3.2, 0.3)
    extent = apex_y + length + heart.atrium_length
    depth = jnp.clip(16.8 + 0.5 * (extent - 15.2) + draw.normal(0.0, 0.4), 12.0, 22.0)
    other_rate = jnp.exp(draw.uniform(*np.log(FRAME_RATES).tolist()))
    is_common = draw.uniform(0.0, 1.0) < 0.7
    frame_rate = jnp.where(is_common, COMMON_FRAME_RATE, jnp.clip(other_rate, *FRAME_RATES))
    duration = jnp.clip(2.5 * jnp.exp(draw.normal(0.0, 0.4)), *DURATIONS)
    return View(
        heart=heart,
        depth=depth,
        half_angle=draw.uniform(0.62, 0.78),
        aspect=draw.normal(1.0, 0.02),
        apex_x=draw.normal(0.9, 0.35),
        apex_y=apex_y,
        tilt=draw.normal(-0.02, 0.08),
        bend=draw.normal(0.15, 0.12),
        foreshortening=jnp.abs(draw.normal(0.0, 0.03)),
        frame_rate=jnp.round(frame_rate * 100) / 100,
        # A human reader needs one whole beat to find end diastole and end systole.
        duration=jnp.minimum(jnp.maximum(duration, 1.05 * beat.period), DURATIONS[1]),
        start_phase=draw.uniform(0.0, 1.0),
        drift=draw.uniform(0.0, 0.4),
        drift_period=draw.uniform(3.0, 6.0),
        drift_phase=draw.uniform(0.0, 1.0),
        gain=draw.normal(0.0, 3.0),
        dynamic_range=draw.uniform(54.0, 66.0),
        attenuation=draw.normal(2.0, 4.0),
        lateral_loss=draw.uniform(6.0, 24.0),
        drop_out=draw.uniform(5.0, 20.0),
        leaflets=draw.normal(-17.0, 3.5),
        haze=draw.normal(-32.0, 4.0),
        haze_reach=draw.uniform(2.5, 5.0),
        clutter=draw.normal(-53.0, 3.5),
        noise=draw.normal(-60.0, 3.0),
        contrast=draw.uniform(1.4, 2.1),
        shadow_angle=jnp.stack([draw.uniform(-0.75, 0.75) for _ in range(SHADOWS)]),
        shadow_width=jnp.stack([draw.uniform(0.05, 0.13) for _ in range(SHADOWS)]),
        shadow_loss=jnp.stack([draw.uniform(-12.0, 18.0) for _ in range(SHADOWS)]),
    )
