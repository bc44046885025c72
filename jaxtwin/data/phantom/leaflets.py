"""The mitral and tricuspid leaflets of the phantom."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtwin.data.phantom.heart import Motion, cavity_radius
from jaxtwin.data.phantom.speckle import decibels_to_amplitude
from jaxtwin.data.phantom.view import View

LEAFLET_WIDTH = 0.17  # [cm] at the hinge, blurred by the beam; the tip is half as thick
LEAFLET_SPECULAR = 0.7  # fraction of a leaflet's power lost when it opens along the beam


def _leaflet(
    x: Float[Array, " pixel"],
    z: Float[Array, " pixel"],
    hinge_x: Float[Array, ""],
    hinge_z: Float[Array, ""],
    direction: float,
    angle: Float[Array, ""],
    length: Float[Array, ""],
    bow: Float[Array, ""],
) -> Float[Array, " pixel"]:
    """Return the power [0, 1] of one leaflet: a bowed line from its hinge, blurred by the beam.

    The leaflet becomes thinner and fainter towards its tip, and fainter as it opens along the
    beam.

    `direction` is the side towards which the closed leaflet points (1: lateral), `angle` its
    opening towards the apex [rad], `length` its chord and `bow` its sag towards the atrium [cm].
    """
    cosine, sine = direction * jnp.cos(angle), -jnp.sin(angle)
    along = ((x - hinge_x) * cosine + (z - hinge_z) * sine) / length
    aside = direction * ((z - hinge_z) * cosine - (x - hinge_x) * sine)
    aside = (aside - bow * 4 * along * (1 - along)) * ((1 + along) / LEAFLET_WIDTH)
    ends = jnp.clip(5 * (along + 0.1), 0.0, 1.0) * jnp.clip(1.5 * (1.0 - along), 0.0, 1.0)
    seen = 1 - LEAFLET_SPECULAR * sine * sine
    return seen * ends * ends / (1 + aside * aside) ** 3


def leaflet_power(
    view: View, motion: Motion, x: Float[Array, " pixel"], z: Float[Array, " pixel"]
) -> Float[Array, " pixel"]:
    """Return the power of the mitral and the (dimmer) tricuspid leaflets."""
    heart = view.heart
    annulus = cavity_radius(heart, motion, motion.length)
    bow = 0.15 * motion.ejecting - 0.1
    # The long anterior leaflet meets the short posterior one below the annulus, off centre.
    opened = 1.1 * motion.opening
    anterior = _leaflet(x, z, -annulus, motion.length, 1.0, 0.16 + opened, 1.30 * annulus, bow)
    posterior = _leaflet(x, z, annulus, motion.length, -1.0, 0.28 + opened, 0.78 * annulus, bow)
    septal_x = -annulus - 0.9 * heart.wall
    width = heart.right_width / (1 + 0.2 * motion.emptied)
    tricuspid = motion.length - 0.5
    septal = _leaflet(x, z, septal_x, tricuspid, -1.0, 0.3 + opened, 0.45 * width, bow)
    lateral = _leaflet(x, z, septal_x - width, tricuspid, 1.0, 0.3 + opened, 0.62 * width, bow)
    mitral = anterior + 0.12 * posterior
    return decibels_to_amplitude(view.leaflets) ** 2 * (mitral + 0.08 * (septal + lateral))
