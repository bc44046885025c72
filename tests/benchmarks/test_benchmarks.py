"""The simulator's benchmark: all solvers solve the same problem, and rows have the right form."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import methods
from benchmarks.markdown import table
from benchmarks.models import lines_of, speed
from benchmarks.rivals import RIVALS, Missing
from benchmarks.simulate import HEADER, Series, measure
from jaxtwin.models.lung import AIRWAY, Lung

REFERENCE = json.loads(
    (Path(__file__).parents[1] / "references" / "left_heart_radau.json").read_text()
)


def volumes(name, n):
    try:
        solve = RIVALS[name]()
    except Missing as missing:
        pytest.skip(str(missing))
    values, failed = solve(np.array(REFERENCE["theta"][:n]))
    assert values.shape == (n, 2) and failed.shape == (n,)
    return values, failed


# The paper's settings and Tsit5 on a stiff heart take minutes.
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(RIVALS) - {"SciPy LSODA, as in the paper"}))
def test_rivals_solve_the_same_problem(name):
    n = 1 if "Tsit5" in name or "dopri5" in name else 4
    values, failed = volumes(name, n)
    assert not failed.any()
    expected = np.stack([REFERENCE["values"]["EDV"], REFERENCE["values"]["ESV"]], axis=1)[:n]
    np.testing.assert_allclose(values, expected, rtol=0, atol=0.05)


def test_a_missing_rival_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "numba", None)
    for name, advice in (("torchdiffeq dopri5, 1e-6", "bench"), ("numbalsoda, 1e-6", "Fortran")):
        with pytest.raises(Missing, match=advice):
            RIVALS[name]()


@pytest.mark.slow
def test_rows_of_our_own(capsys):
    with jax.enable_x64(False):  # As in the process that measures.
        measure(Series("jaxtwin", "float32", ("forward", "gradient")), (3,), 1.0)
    rows = json.loads(capsys.readouterr().out)
    assert [row["mode"] for row in rows] == ["forward", "gradient"]
    for row in rows:
        assert tuple(row) == HEADER
        assert row["batch"] == 3 and row["failures"] == 0 and row["per_second"] > 0
        assert 0 < row["median_error_mL"] < 0.05 and row["worst_error_mL"] < 0.1


@pytest.mark.slow
def test_the_command_and_its_file(tmp_path):
    command = [sys.executable, "-m", "benchmarks.simulate", "--json", str(tmp_path / "rows.json")]
    done = subprocess.run(
        [*command, "--only", "SciPy LSODA, 1e-6", "--batches", "1", "16", "1000000"],
        capture_output=True,
        text=True,
        check=True,
        timeout=1800,
    )
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["batch"] for row in rows] == [1, 16]
    assert all(tuple(row) == HEADER and row["worst_error_mL"] < 0.1 for row in rows)
    assert "at this rate a batch of 1,000,000 would take" in done.stdout
    assert all(name in done.stdout for name in HEADER)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::jaxtwin.methods.tasks.OutOfModelWarning")  # a few steps only
def test_what_methods_cost(monkeypatch):
    row = methods.cost("least_squares", 2, None)
    assert tuple(row) == methods.HEADER and row["patients"] == 2 and row["step_ms"] is None
    assert row["all_twins_s"] > 0 and row["new_patient_ms"] > 0 and row["peak_MB"] > 100
    assert "| least_squares | 2 |" in table([row])

    # By the clock of a loaded machine, more steps may take less time: the durations are given.
    def durations(*values):
        left = iter(values)

        def timed(function):
            jax.block_until_ready(function())
            return next(left)

        monkeypatch.setattr(methods, "timed", timed)

    # `STEPS` steps: the first and second estimate, and one patient's; then three times as many.
    durations(9.0, 2.0, 1.0, 9.0, 3.0, 1.5)
    row = methods.cost("neural_ode", 2, 1)
    later = row["steps"] - methods.STEPS
    assert row["depth"] == 1 and row["step_ms"] == pytest.approx(1e3 / (2 * methods.STEPS))
    assert row["all_twins_s"] == pytest.approx(2 + later / (2 * methods.STEPS))
    assert row["new_patient_ms"] == pytest.approx(1e3 * (1 + 0.5 * later / (2 * methods.STEPS)))
    durations(9.0, 3.0, 1.0, 9.0, 2.0, 1.5)
    with pytest.raises(RuntimeError, match=rf"{3 * methods.STEPS} steps took 2 s .* repeat"):
        methods.cost("neural_ode", 2, 1)


def test_an_encoders_step_changes_it():
    step = methods.encoder_step("tubelet", batch=1)
    first, second = ([np.asarray(leaf) for leaf in step()] for _ in range(2))
    assert any(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_lines_of_code_are_counted():
    source = '''"""A module."""

import os


class Thing:
    """Said in
    two lines."""

    size: int = 1
    """In metres."""

    def area(self):
        # Why.
        return (
            self.size
            * self.size
        )
'''
    assert lines_of(source) == (18, 8)


def test_a_models_speed():
    rate, first, failed = speed(Lung(), AIRWAY, 64, 1)
    assert rate > 0 and np.isfinite(first) and failed == 0
