"""Systems written as SBML are solved by another simulator as by jaxtwin."""

import jax.numpy as jnp
import numpy as np
import pytest
import roadrunner

import jaxtwin as jt
from jaxtwin.exchange.errors import UnsupportedModelError
from jaxtwin.exchange.sbml_writing import save_sbml
from jaxtwin.exchange.traced import equations_of
from jaxtwin.models.glucose import GlucoseTest
from jaxtwin.models.left_heart import LeftHeart
from jaxtwin.models.lung import Lung
from jaxtwin.models.windkessel import Windkessel

END = {LeftHeart: 3.0, GlucoseTest: 180.0, Lung: 8.0, Windkessel: 3.0}


@pytest.mark.parametrize("kind", END)
def test_as_another_simulator(kind, tmp_path):
    system, path = kind(), tmp_path / "written.xml"
    p = system.parameters()
    save_sbml(path, system, p)
    names = list(system.initial_state(p)._fields)
    other = roadrunner.RoadRunner(str(path))
    other.setIntegratorSetting("cvode", "relative_tolerance", 1e-10)
    other.setIntegratorSetting("cvode", "absolute_tolerance", 1e-12)
    other.setIntegratorSetting("cvode", "maximum_time_step", END[kind] / 3_000)
    found = other.simulate(0, END[kind], 61, ["time", *names])
    mine = jt.simulate(system, p, jnp.asarray(found[:, 0])).states
    for i, name in enumerate(names):
        right, scale = np.asarray(getattr(mine, name)), np.abs(getattr(mine, name)).max()
        np.testing.assert_allclose(found[:, i + 1], right, atol=1e-4 * float(scale), err_msg=name)


@pytest.mark.parametrize("kind", END)
def test_what_is_written_is_read_as_the_same_system(kind, tmp_path):
    system, path = kind(), tmp_path / "written.xml"
    p = system.parameters()
    save_sbml(path, system, p)
    again = jt.load_model(path, duration=END[kind])
    q = again.parameters()
    state = system.initial_state(p)
    np.testing.assert_allclose(again.initial_state(q), state, rtol=1e-12)
    for t in (0.0, 0.11, 0.37, 0.83):
        moved = type(state)(*(1.03 * x + 0.01 for x in state))
        rates = system.vector_field(jnp.asarray(t), moved, p)
        read = again.vector_field(jnp.asarray(t), again.states(*moved), q)
        np.testing.assert_allclose(read, rates, rtol=1e-9, atol=1e-9)


def test_what_no_file_can_say_is_named():
    class Looping(Windkessel):
        def vector_field(self, t, state, p):
            rates = super().vector_field(t, state, p)
            return type(rates)(*(jnp.sum(jnp.linspace(0.0, x, 3)) for x in rates))

    with pytest.raises(UnsupportedModelError, match="operation"):
        equations_of(Looping())
