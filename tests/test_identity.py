"""Fingerprints differ whenever what they identify differs."""

import dataclasses
import functools
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.identity import differences, fingerprint
from jaxtwin.models.intervention import Drug, Settings
from jaxtwin.models.left_heart import SEVEN, LeftHeart, LeftHeartParameters
from jaxtwin.models.lvad import LVAD, PumpParameters
from jaxtwin.parameters import Box

PUMPED = LVAD(LeftHeart(), 6_000.0)
RANDOM = np.random.default_rng(0).normal(size=(40, 7))


def pulse(phase):
    return 9_000 + 1_000 * jnp.sin(2 * jnp.pi * phase)


def ramp(phase):
    return 9_000 + 1_000 * phase


class Doubled(LeftHeart):
    """Differs from its parent in the number of steps alone."""

    steps = 480


DIFFERENT = [
    fingerprint(PUMPED, SEVEN),
    fingerprint(LVAD(LeftHeart(), 12_000.0), SEVEN),
    fingerprint(LVAD(LeftHeart(), pulse), SEVEN),
    fingerprint(LVAD(LeftHeart(), ramp), SEVEN),
    fingerprint(LVAD(LeftHeart(), 6_000.0, PumpParameters(P_s=2.0)), SEVEN),
    fingerprint(LeftHeart(), SEVEN),
    fingerprint(Doubled(), SEVEN),
    fingerprint(LeftHeart(), SEVEN, steps=960),
    fingerprint(LeftHeart(), SEVEN, phases=80),
    fingerprint(LeftHeart(), SEVEN, phases=60),
    fingerprint(LeftHeart()),
    fingerprint(LeftHeart(), Box.of(LeftHeartParameters, SEVEN.names[::-1])),
    fingerprint(LeftHeart(), Box.of(LeftHeartParameters, SEVEN.names, {"T_c": (0.5, 1.5)})),
    fingerprint(LeftHeart(), Box.of(LeftHeartParameters, SEVEN.names, fixed={"R_s": 1.2})),
    fingerprint(LeftHeart(), SEVEN, arm=Drug({"R_s": -0.5})),
    fingerprint(LeftHeart(), SEVEN, arm=Drug({"R_s": -0.4})),
    fingerprint(LeftHeart(), SEVEN, arm=Settings({"R_s": -0.5})),
    fingerprint(LeftHeart(), SEVEN, theta=RANDOM),
    fingerprint(LeftHeart(), SEVEN, theta=RANDOM.astype(np.float32)),
    fingerprint(LeftHeart(), SEVEN, theta=np.nextafter(RANDOM, 9)),
    fingerprint(LeftHeart(), SEVEN, f=functools.partial(pulse, 0.5)),
    fingerprint(LeftHeart(), SEVEN, f=functools.partial(pulse, 0.25)),
    fingerprint(LeftHeart(), SEVEN, f=LeftHeart().period),
    fingerprint(LeftHeart(), SEVEN, f=float("nan")),
    fingerprint(LeftHeart(), SEVEN, key=jax.random.key(0)),
    fingerprint(LeftHeart(), SEVEN, key=jax.random.key(1)),
]


def test_all_that_differs_has_another_key():
    assert len({mark.key for mark in DIFFERENT}) == len(DIFFERENT)
    assert all(len(mark.key) == 16 and int(mark.key, 16) for mark in DIFFERENT)


def test_defaults_belong_to_it():
    class Changed(LeftHeartParameters):
        pass

    # As if the class had been edited.
    Changed.__name__, Changed.__qualname__ = "LeftHeartParameters", "LeftHeartParameters"
    Changed.__module__ = LeftHeartParameters.__module__
    before = fingerprint(LeftHeart(), Box.of(Changed, SEVEN.names))
    assert before == fingerprint(LeftHeart(), SEVEN)
    field = next(f for f in dataclasses.fields(Changed) if f.name == "C_r")
    spec = field.metadata["spec"]
    field.metadata = {**field.metadata, "spec": functools.partial(spec, default=9.0)}
    try:
        after = fingerprint(LeftHeart(), Box.of(Changed, SEVEN.names))
    finally:
        field.metadata = {**field.metadata, "spec": spec}
    assert after.key != before.key
    assert differences(before.description, after.description) == ["fixed.C_r is 4.4, not 9"]


@pytest.mark.parametrize(
    "same",
    [
        fingerprint(LVAD(LeftHeart(), np.float64(6_000)), SEVEN),
        fingerprint(LVAD(LeftHeart(), jnp.asarray(6_000.0)), SEVEN),
        fingerprint(
            LVAD(LeftHeart(), jnp.float32(6_000)), Box.of(LeftHeartParameters, SEVEN.names)
        ),
    ],
)
def test_equal_content_is_equal(same):
    assert same == DIFFERENT[0]
    kept = json.loads(json.dumps(same.description))
    assert differences(kept, DIFFERENT[0].description) == []


def test_differences_are_named():
    lines = differences(DIFFERENT[0].description, DIFFERENT[1].description)
    assert lines == ["system.speed is 6000, not 12000"]
    lines = differences(fingerprint(LeftHeart()).description, DIFFERENT[8].description)
    assert any(line.startswith("phases is missing, not 80") for line in lines)


def test_another_process_finds_the_same():
    code = (
        "from jaxtwin.identity import fingerprint as f; from jaxtwin.models.lvad import LVAD;"
        "from jaxtwin.models.left_heart import LeftHeart, SEVEN;"
        "print(f(LVAD(LeftHeart(), 6000.0), SEVEN).key)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "JAX_PLATFORMS": "cpu"}
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert out.stdout.strip() == DIFFERENT[0].key


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda phase: 9_000.0, r"arm is <function <lambda>.*define it with `def`"),
        ([{"speed": lambda phase: 1.0}], r"arm\[0\].speed is <function"),
        (object(), "arm is <object.*expected numbers, strings"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(value, message):
    with pytest.raises(ValueError, match=message):
        fingerprint(LeftHeart(), SEVEN, arm=value)


def test_traced_values_are_refused():
    with pytest.raises(ValueError, match="theta is a traced value"):
        jax.jit(lambda theta: fingerprint(LeftHeart(), SEVEN, theta=theta).key)(jnp.ones(7))
