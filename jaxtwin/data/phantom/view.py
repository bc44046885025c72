"""The view of one phantom clip: the patient's build, the probe's position, the scanner's settings.

These are nuisance parameters, to which an encoder should be invariant. Their distributions are one
schedule, from textbook views to views as varied as a clinic's pictures.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxtwin.data.phantom.heart import Heart, PhantomBeat, end_diastolic_size

# Frame rates and lengths as in EchoNet-Dynamic: mostly 50 frames/s, 18 to 138.
COMMON_FRAME_RATE = 50.0
FRAME_RATES = (18.0, 138.0)
DURATIONS = (0.7, 6.0)
# The image starts at the probe's face, an arc at this distance from the point where the beams
# would meet. It is 2 cm wide, the aperture of a cardiac phased array.
PROBE_RADIUS = 1.5  # [cm]
OVERLAYS = 4  # orientation marker, depth marks, text, ECG strip
SHADOWS = 3  # maximum number of shadows of ribs and lung edges in one view
SYSTOLE = 0.45  # part of a beat of typical length that an irregular rhythm leaves as it is
SHORTEST_BEAT = 0.6  # relative to the period
BEATS = 24  # with a given length; a clip of 6 s at 180 beats a minute has 19


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
        top: Row of the image at which the beams would meet.
        face: Distance of the image's upper arc from there.
        zoom: Size of a pixel relative to the one at which the sector fills the frame.
        off_axis: Fraction of the chambers' width lost because the plane misses the long axis.
        mirrored: Whether left and right are exchanged, as some laboratories display them.
        rejection: Fraction of the grey scale below which echoes are shown as black.
        papillary: Level of the papillary muscles, whose blood pool lies within the cavity.
        papillary_level: Height of their bodies along the long axis, relative to its length.
        trabeculae: Amplitude of the endocardium's roughness.
        edge: How far inside the cavity the wall still looks like wall, in widths of the soft edge
            (1 to 2 mm); negative where blood seems to reach into the wall.
        grain: Standard deviation of a grain that differs from pixel to pixel and frame to frame, as
            where pictures were made smaller without averaging.
        tendon, tendon_level, tendon_slope: Level, height (relative to the length) and slope of a
            false tendon across the cavity.
        outflow: Width of the outflow tract that opens beside the septum's base, relative to the
            annulus' radius; 0 if the plane misses it.
        rhythm: Length of each beat relative to the period; only its diastole differs.
        overlay: What is burnt into the picture: marker, depth marks, text, ECG strip; each is shown
            where its number is below `overlays`.
        overlays: Probability of each.
        quantiser: JPEG quantiser of the stored clip, 2 (best) to 31.
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
    top: Float[Array, ""]
    face: Float[Array, ""]
    zoom: Float[Array, ""]
    off_axis: Float[Array, ""]
    mirrored: Bool[Array, ""]
    rejection: Float[Array, ""]
    papillary: Float[Array, ""]
    papillary_level: Float[Array, ""]
    trabeculae: Float[Array, ""]
    edge: Float[Array, ""]
    grain: Float[Array, ""]
    tendon: Float[Array, ""]
    tendon_level: Float[Array, ""]
    tendon_slope: Float[Array, ""]
    outflow: Float[Array, ""]
    rhythm: Float[Array, " beat"]
    overlay: Float[Array, " item"]
    overlays: Float[Array, ""]
    quantiser: Float[Array, ""]


class Normal(NamedTuple):
    """A normal distribution, truncated at 2.5 standard deviations."""

    mean: float
    spread: float


class Uniform(NamedTuple):
    """A uniform distribution."""

    low: float
    high: float


SCHEDULE: dict[str, tuple[Normal | Uniform, Normal | Uniform]] = {
    # The patient's build. Lengths are in cm, or relative to a typical heart of the same volume.
    "sphericity": (Normal(0.0, 0.07), Normal(0.0, 0.16)),  # logarithm
    "wall": (Normal(0.9, 0.12), Normal(1.0, 0.24)),
    "atrium_length": (Normal(0.42, 0.05), Normal(0.48, 0.11)),
    "atrium_bulge": (Uniform(1.2, 3.2), Uniform(0.8, 4.0)),
    "right_width": (Normal(1.15, 0.15), Normal(1.1, 0.3)),
    # In three real clips the length goes with the 0.22nd to 0.26th power of the volume, and the
    # apex has a quarter to a half of the shortening.
    "longitudinal": (Uniform(0.2, 0.2), Uniform(0.2, 0.36)),
    "apical": (Uniform(0.0, 0.0), Uniform(0.1, 1.0)),
    "taper": (Uniform(0.0, 0.0), Uniform(0.0, 0.8)),
    # The probe's position.
    "apex_y": (Normal(3.2, 0.3), Normal(2.7, 0.6)),
    "depth": (Normal(0.0, 0.4), Normal(0.0, 1.6)),
    "adaptation": (Uniform(0.5, 0.5), Uniform(0.5, 1.1)),  # of the depth to the heart's extent
    "half_angle": (Uniform(0.62, 0.78), Uniform(0.5, 0.84)),
    "aspect": (Normal(1.0, 0.02), Normal(1.0, 0.05)),
    "apex_x": (Normal(0.9, 0.35), Normal(0.5, 0.6)),
    "tilt": (Normal(-0.02, 0.08), Normal(-0.02, 0.16)),
    "bend": (Normal(0.15, 0.12), Normal(0.12, 0.2)),
    "foreshortening": (Normal(0.0, 0.03), Normal(0.0, 0.06)),  # absolute value
    "off_axis": (Normal(0.0, 0.0), Normal(0.0, 0.05)),  # absolute value
    "drift": (Uniform(0.0, 0.4), Uniform(0.0, 0.6)),
    # The scanner's settings, in dB.
    "gain": (Normal(0.0, 3.0), Normal(10.0, 8.0)),
    "dynamic_range": (Uniform(54.0, 66.0), Uniform(50.0, 74.0)),
    "attenuation": (Normal(2.0, 4.0), Normal(2.0, 7.0)),
    "lateral_loss": (Uniform(6.0, 24.0), Uniform(0.0, 26.0)),
    "drop_out": (Uniform(5.0, 20.0), Uniform(0.0, 30.0)),
    "leaflets": (Normal(-17.0, 3.5), Normal(-18.0, 6.0)),
    "haze": (Normal(-32.0, 4.0), Normal(-33.0, 8.0)),
    "haze_reach": (Uniform(2.5, 5.0), Uniform(1.0, 6.0)),
    "clutter": (Normal(-53.0, 3.5), Normal(-51.0, 5.0)),
    "noise": (Normal(-60.0, 3.0), Normal(-54.0, 7.0)),
    "contrast": (Uniform(1.4, 2.1), Uniform(0.9, 2.2)),
    "rejection": (Uniform(0.0, 0.0), Uniform(-0.2, 0.25)),  # nothing below 0
    "grain": (Uniform(0.0, 0.0), Uniform(0.0, 7.0)),
    "shadow_angle": (Uniform(-0.75, 0.75), Uniform(-0.75, 0.75)),
    "shadow_width": (Uniform(0.05, 0.13), Uniform(0.04, 0.18)),
    "shadow_loss": (Uniform(-12.0, 18.0), Uniform(-14.0, 26.0)),  # no shadow below 0
    # The display.
    "top": (Uniform(-5.0, -5.0), Uniform(-8.0, 12.0)),  # row
    "face": (Uniform(1.5, 1.5), Uniform(0.3, 1.5)),
    "zoom": (Uniform(1.0, 1.0), Uniform(0.85, 1.1)),
    "overlays": (Uniform(0.0, 0.0), Uniform(0.4, 0.4)),
    "quantiser": (Uniform(3.0, 3.0), Uniform(2.0, 12.0)),
    # What lies in the cavity, in dB and relative to its size. None is seen at textbook levels.
    "papillary": (Uniform(-90.0, -90.0), Uniform(-70.0, -26.0)),
    "papillary_level": (Uniform(0.4, 0.5), Uniform(0.3, 0.6)),
    "trabeculae": (Uniform(0.04, 0.04), Uniform(0.04, 0.25)),
    "edge": (Uniform(1.0, 1.0), Uniform(-1.75, 0.75)),
    "tendon": (Uniform(-120.0, -120.0), Uniform(-110.0, -20.0)),
    "tendon_level": (Uniform(0.2, 0.4), Uniform(0.12, 0.5)),
    "tendon_slope": (Normal(0.0, 0.3), Normal(0.0, 0.3)),
    "outflow": (Uniform(0.0, 0.0), Uniform(-2.0, 0.8)),  # no outflow tract below 0
    # Relative spread of the beats' lengths; below 0 the rhythm is regular.
    "irregularity": (Uniform(0.0, 0.0), Uniform(-0.5, 0.2)),
}
"""Distribution of every nuisance at `variety` 0 (textbook views) and 1 (as varied as a clinic's
pictures); in between, both numbers are interpolated. The widths at 1 were set by eye against three
public clips of EchoNet-Dynamic and the apical clip of pydicom."""


class _Draws:
    """Float32 draws from the schedule, taken one after the other from a single call."""

    def __init__(self, key: PRNGKeyArray, variety: Float[Array, ""]):
        first = jax.random.uniform(key, (64,), jnp.float32)
        further = jax.random.uniform(jax.random.fold_in(key, 1), (96,), jnp.float32)
        # Textbook views need 40 numbers and keep them, whatever is added to the schedule.
        self._stock = jnp.concatenate([first[:40], further])
        # Truncated at 2.5 standard deviations, so that no clip is implausible.
        tail = 0.0062
        self._normals = jax.scipy.special.ndtri(tail + (1 - 2 * tail) * self._stock)
        self._used = 0
        self.variety = variety

    def _next(self) -> int:
        self._used += 1
        return self._used - 1

    def uniform(
        self, low: float | Float[Array, ""], high: float | Float[Array, ""]
    ) -> Float[Array, ""]:
        return low + (high - low) * self._stock[self._next()]

    def normal(
        self, mean: float | Float[Array, ""], spread: float | Float[Array, ""]
    ) -> Float[Array, ""]:
        return mean + spread * self._normals[self._next()]

    def __call__(self, name: str) -> Float[Array, ""]:
        plain, varied = SCHEDULE[name]
        a, b = (x + (y - x) * self.variety for x, y in zip(plain, varied, strict=True))
        return self.normal(a, b) if isinstance(plain, Normal) else self.uniform(a, b)


@jax.jit
def draw_view(
    key: PRNGKeyArray, beat: PhantomBeat, variety: float | Float[Array, ""] = 0.0
) -> View:
    """Draw one clip's nuisance parameters from `SCHEDULE`.

    Image depth is adapted to the size of the heart, as a sonographer would do, but only in part:
    the cavity's length and width in pixels still determine most of its volume, and wall thickness
    and speckle size show the scale.

    Args:
        key: Random key.
        beat: The beat, whose largest volume sets the size of the heart.
        variety: Place in the schedule, from textbook views (0) to a clinic's (1).
    """
    beat = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), beat)
    draw = _Draws(key, jnp.asarray(variety, jnp.float32))
    further = _Draws(jax.random.fold_in(key, 2), draw.variety)
    volume = jnp.max(beat.V_lv)
    # Dilated ventricles are rounder: radius/length increases by a tenth when the volume doubles.
    sphericity = 0.285 * (volume / 100.0) ** 0.14 * jnp.exp(draw("sphericity"))
    length, radius = end_diastolic_size(volume, sphericity)
    heart = Heart(
        length=length,
        radius=radius,
        wall=draw("wall"),
        atrium_length=length * draw("atrium_length"),
        atrium_bulge=draw("atrium_bulge"),
        right_width=radius * draw("right_width"),
        longitudinal=further("longitudinal"),
        apical=further("apical"),
        taper=further("taper"),
    )
    apex_y = draw("apex_y")
    extent = apex_y + length + heart.atrium_length
    depth = 16.8 + further("adaptation") * (extent - 15.2) + draw("depth")
    depth = jnp.clip(depth, 12.0 - 3.0 * draw.variety, 22.0)
    other_rate = jnp.exp(draw.uniform(*np.log(FRAME_RATES).tolist()))
    is_common = draw.uniform(0.0, 1.0) < 0.7
    frame_rate = jnp.where(is_common, COMMON_FRAME_RATE, jnp.clip(other_rate, *FRAME_RATES))
    duration = jnp.clip(2.5 * jnp.exp(draw.normal(0.0, 0.4)), *DURATIONS)
    view = {
        "heart": heart,
        "depth": depth,
        "half_angle": draw("half_angle"),
        "aspect": draw("aspect"),
        "apex_x": draw("apex_x"),
        "apex_y": apex_y,
        "tilt": draw("tilt"),
        "bend": draw("bend"),
        "foreshortening": jnp.abs(draw("foreshortening")),
        "frame_rate": jnp.round(frame_rate * 100) / 100,
        # A human reader needs one whole beat to find end diastole and end systole.
        "duration": jnp.minimum(jnp.maximum(duration, 1.05 * beat.period), DURATIONS[1]),
        "start_phase": draw.uniform(0.0, 1.0),
        "drift": draw("drift"),
        "drift_period": draw.uniform(3.0, 6.0),
        "drift_phase": draw.uniform(0.0, 1.0),
        **{name: draw(name) for name in _SETTINGS},
        **{
            name: jnp.stack([draw(name) for _ in range(SHADOWS)])
            for name in ("shadow_angle", "shadow_width", "shadow_loss")
        },
        **{name: draw(name) for name in _FURTHER},
        "off_axis": jnp.abs(draw("off_axis")),
        "edge": further("edge"),
        "grain": further("grain"),
        "mirrored": draw.uniform(0.0, 1.0) < 0.15 * draw.variety,
        "overlay": jnp.stack([draw.uniform(0.0, 1.0) for _ in range(OVERLAYS)]),
    }
    spread = jnp.maximum(draw("irregularity"), 0.0)
    beats = jnp.stack([draw.normal(1.0, spread) for _ in range(BEATS)])
    return View(**view, rhythm=jnp.maximum(beats, SHORTEST_BEAT))


_SETTINGS = (
    *("gain", "dynamic_range", "attenuation", "lateral_loss", "drop_out", "leaflets", "haze"),
    *("haze_reach", "clutter", "noise", "contrast"),
)
_FURTHER = (
    *("top", "face", "zoom", "rejection", "papillary", "papillary_level", "trabeculae", "tendon"),
    *("tendon_level", "tendon_slope", "outflow", "overlays", "quantiser"),
)
