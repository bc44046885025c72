"""Growth: the chain of compartments by which it is measured, its costs, and their figure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.first_answer import count
from benchmarks.growth.chain import ChainParameters, chain
from benchmarks.growth.figure import draw
from benchmarks.growth.measure import SIZES, Series, seconds
from jaxtwin.parameters import Box
from jaxtwin.physics.beat import BeatMap
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.sdirk import SDIRK2

BOX = Box.of(ChainParameters, ("T", "R", "C"))


@pytest.mark.parametrize("n", [1, 5])
def test_mean_pressure_is_that_of_the_mean_flow(n):
    """All n resistances lie between the first compartment and the veins."""
    p = ChainParameters(T=0.8, R=1.2, C=0.7)
    orbit = periodic_orbit(chain(n), p)
    mean = jnp.trapezoid(orbit.states[0], orbit.times) / 0.8
    np.testing.assert_allclose(mean, 5 + 1.2 * 200 / np.pi, rtol=1e-3)


def test_work_grows_linearly_with_the_states():
    def operations(n):
        p = jax.tree.map(jnp.asarray, ChainParameters())
        beats = BeatMap(chain(n), p, SDIRK2(), 240)
        steps = beats.steps()
        x = jax.tree.map(lambda leaf: leaf[0], steps.xs)
        y = beats.initial_state()
        return count(jax.make_jaxpr(lambda y: steps.step(steps.constants, y, x))(y).jaxpr)

    assert operations(32) < 2.1 * operations(16)


def test_an_orbit_that_is_not_found_is_no_measurement():
    with pytest.raises(RuntimeError, match="2 of 2 orbits were not found"):
        seconds(chain(1), BOX, 2, 1, 1)


def test_costs_and_figure():
    """On the axes of the figure, twice the size for twice the time is a line of 45 degrees."""
    doubled = [Series(kind, (1, 2, 4), (8, 8, 8), (0.1, 0.2, 0.4)) for kind in SIZES]
    rows = {series.kind: series.rows() for series in doubled}
    assert [row["µs per beat and state"] for row in rows["states"]] == pytest.approx([12_500.0] * 3)
    assert [row["beats/s"] for row in rows["patients"]] == pytest.approx([80.0, 40.0, 20.0])
    figure = draw(doubled)
    figure.draw_without_rendering()
    for ax, series in zip(figure.axes, doubled, strict=True):
        measured, expected = ax.get_lines()
        (x, y) = ax.transData.transform(measured.get_xydata())[[0, -1]].T
        assert y[1] - y[0] == pytest.approx(x[1] - x[0])
        values = [0.1] * 3 if series.kind == "devices" else series.seconds
        np.testing.assert_allclose(np.asarray(expected.get_ydata()), values)
    assert {ax.get_xlabel() for ax in figure.axes} == {size.name for size in SIZES.values()}
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(legend) == 3 and legend[0] == "measured"


def test_few_steps_are_measured_however_inaccurate():
    """Four steps are off by 80%, beyond what `record` takes for success."""
    assert seconds(chain(1), BOX, 2, 4, 1) > 0
