"""Units and meanings of outputs."""

from typing import Annotated, ClassVar, NamedTuple

import jax.numpy as jnp
import pytest

from jaxtwin.models.left_heart import LeftHeart
from jaxtwin.models.lvad import LVAD
from jaxtwin.parameters import AbstractParameters, Scalar, parameter
from jaxtwin.physics.base import AbstractPeriodicSystem, AbstractRecordedSystem
from jaxtwin.physics.channels import Channels, by_name
from jaxtwin.physics.check import check_system
from jaxtwin.physics.quantity import Quantity, output_quantities
from tests.models.test_boundaries import systems


class Rate(AbstractParameters):
    k: Scalar = parameter(1.0, (0.5, 2.0), "1/s", "rate")


class Level(NamedTuple):
    x: Scalar


class Seen(NamedTuple):
    x: Annotated[Scalar, 3, "mL", "level"]
    y: Annotated[Scalar, "mL/s"]
    z: Scalar


class Decay(AbstractRecordedSystem[Level, Rate, Seen]):
    parameters: ClassVar = Rate

    def vector_field(self, t, state, p):
        return Level(-p.k * state.x)

    def initial_state(self, p):
        return Level(p.k)

    def outputs(self, t, state, p):
        return Seen(state.x, p.k * state.x, state.x)

    def duration(self, p):
        return 2.0 / p.k


def test_units_and_meanings_are_those_declared():
    assert output_quantities(Decay()) == {
        "x": Quantity("mL", "level"),
        "y": Quantity("mL/s"),
        "z": Quantity(),
    }


def test_outputs_of_the_heart_are_found_beside_those_of_its_pump():
    known = output_quantities(LVAD(LeftHeart(), 9_000.0))
    assert (
        known["V_lv"]
        == output_quantities(LeftHeart())["V_lv"]
        == (
            "mL",
            "left-ventricular volume",
        )
    )
    assert known["Q_p"].unit == "mL/s" and "heart" not in known


def test_the_check_says_which_outputs_have_no_unit():
    assert check_system(Decay()).facts["outputs without a unit"] == "z"


def test_channels_go_by_the_same_names():
    assert by_name(Channels(("y", "x"), (1, 2))) == {"y": 1, "x": 2}
    x, y, z = (jnp.asarray(float(i)) for i in range(3))
    assert by_name(Seen(x, y, z)) == {"x": x, "y": y, "z": z}


@pytest.mark.parametrize("kind", systems(AbstractRecordedSystem), ids=lambda kind: kind.__name__)
def test_every_output_of_every_model_has_a_unit_and_a_meaning(kind):
    system = LVAD(LeftHeart(), 9_000.0) if kind is LVAD else kind()
    known = output_quantities(system)
    assert known and all(unit and meaning for unit, meaning in known.values()), known
    assert system.time_unit in ("s", "min")
    if issubclass(kind, AbstractPeriodicSystem):
        assert system.time_unit == "s"
