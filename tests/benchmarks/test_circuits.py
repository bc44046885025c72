"""svZeroDSolver's circuit: jaxtwin's equations are its own, and rows are compared rightly."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.circuits import measure, solvers, svzerodsolver
from benchmarks.circuits.loop import BOX, LoopParameters, LoopState, TwoHillLoop
from benchmarks.markdown import table
from benchmarks.rivals import Missing

# By svzerod 3.2 with the published figures: the last of 60 beats of 2,752 steps each.
SETTLED = [
    [78.8129, 114.1467, 104.203, 160.5663, 104.2575, 20.0006, 103.5549, 18.3802],
    [35.1217, 40.7113, 59.6382, 87.9241, 6.349, 1.939, 53.5454, 14.0454],
]


def published():
    """The θ of the test case."""
    p = LoopParameters()
    return np.array([[getattr(p, name) for name in BOX.names]], float)


@pytest.mark.slow
def test_the_settled_beat_is_that_of_svzerod():
    found = solvers.jaxtwin("settled", 480, "float64")(published())
    assert measure.error(found, np.array([SETTLED])) < 0.2


def test_the_volume_of_the_loop_is_conserved():
    system, p = TwoHillLoop(), LoopParameters()
    state = LoopState(*np.random.default_rng(0).uniform(1.0, 90.0, 12))
    (rate,) = system.conserved(system.vector_field(jnp.array(0.3), state, p), p)
    assert abs(rate) < 1e-9
    # In the published state the heart holds 346 mL.
    start = system.initial_state(p)
    assert sum(map(float, start[:4])) == pytest.approx(345.5, abs=0.1)


def test_the_circuit_goes_round():
    case = svzerodsolver.case(3, 100)
    assert case["simulation_parameters"]["number_of_time_pts_per_cardiac_cycle"] == 101
    follows = {j["inlet_blocks"][0]: j["outlet_blocks"][0] for j in case["junctions"]}
    follows |= {
        v["params"]["upstream_block"]: v["params"]["downstream_block"] for v in case["valves"]
    }
    place, seen = "LA", []
    while place not in seen:
        seen.append(place)
        place = follows[place]
    assert place == "LA" and len(seen) == 8
    start = case["initial_condition"]
    assert all(np.isfinite(list(start.values()))) and len(start) == 4 + 2 * 16
    assert start["pressure:VEN_PUL:J3"] == start["pressure:LA:MV"] > start["pressure:MV:LV"]
    assert start["flow:MV:LV"] > 0 > start["flow:LV:AV"]


def test_an_error_is_the_largest_in_percent():
    true = np.full((2, 2, 3), 10.0)
    found = true.copy()
    found[1, 0, 2] += 0.1
    assert measure.error(found, true) == pytest.approx(1.0)
    found[0] = np.nan
    assert measure.error(found, true) == np.inf


def test_the_fastest_row_within_each_error():
    def row(solver, speed, error):
        kind = {"task": "settled", "solver": solver, "dtype": "float64", "batch": 1}
        return {**kind, "per_second": speed, "error_percent": error}

    rows = [row("a", 9.0, 3.0), row("a", 5.0, 0.4), row("a", 6.0, 0.5), row("b", 100.0, 0.7)]
    first, second = measure.equal_error(rows, (1.0, 0.5))
    assert first["within 1%"] == first["within 0.5%"] == 6.0
    assert second["within 1%"] == 100.0 and second["within 0.5%"] is None
    assert "| settled | b | float64 | 1 | 100 | – |" in table([first, second])


def test_without_svzerod_the_row_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "svzerod", None)
    with pytest.raises(Missing, match="pip install svzerod"):
        svzerodsolver.svzerod(1, 86)
    with jax.enable_x64(True):
        said = measure.part("third", 0, 1, np.ones((1, 2, 8)))
    assert "not installed: svzerod" in said


@pytest.mark.slow
def test_rows_of_both():
    pytest.importorskip("svzerod")
    series = measure.Series("svZeroDSolver", "float64", (1,), ((40, 688),))
    theta = np.asarray(BOX.sample(1, seed=0), float)
    fine = solvers.jaxtwin("settled", 960, "float64")(theta)
    (row,) = measure.rows_of("settled", series, 1, fine)
    assert row["error_percent"] < 0.2 and row["per_second"] > 0
    ours = dataclasses.replace(series, solver="jaxtwin", ladder=((0, 480),))
    (row,) = measure.rows_of("settled", ours, 1, fine)
    assert row["error_percent"] < 0.2 and row["beats"] is None
