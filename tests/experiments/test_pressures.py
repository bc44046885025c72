"""experiments.pressures: who is measured and how, scores, and a tiny run."""

import json
import warnings

import numpy as np
import pytest

from experiments.pressures.answers import Answer, reserve, together
from experiments.pressures.patients import (
    CUFF,
    NOISE,
    OTHERS,
    curve_task,
    draw_laboratory,
    draw_other,
    measure,
    prior_of,
    true_numbers,
    without_curve,
)
from experiments.pressures.settings import CIRCUITS, PRESETS, Config
from experiments.pressures.table import in_silico_table, main_table, score, summarise
from jaxtwin.models.left_heart import NINE

E_MAX, T_C = (NINE.names.index(name) for name in ("E_max", "T_c"))
NOTHING = np.full(4, np.nan)


@pytest.fixture(scope="module")
def laboratory():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of few points, which are enough here
        return draw_laboratory(40, 1_024, 0)


def test_dobutamine_raises_contractility_and_rate_within_the_box(laboratory):
    rest, stress = (np.asarray(part.theta) for part in laboratory)
    factor = stress[:, E_MAX] / rest[:, E_MAX]
    assert (factor >= 1 - 1e-6).all() and (factor <= 2.5).all() and factor.max() > 1.5
    assert (stress[:, T_C] <= rest[:, T_C]).all()
    others = [k for k in range(len(NINE.names)) if k not in (E_MAX, T_C)]
    np.testing.assert_array_equal(rest[:, others], stress[:, others])
    EF = [part.read(["EF"])["EF"] for part in laboratory]
    # A stronger heart empties better, though a fast one has less time to fill.
    assert np.median(EF[1] - EF[0]) > 0


def test_measurements_are_the_tasks_for_any_circuit(laboratory):
    prior = prior_of(laboratory)
    with_cuff, without = (curve_task(prior, cuff) for cuff in (True, False))
    for name in CIRCUITS[:1]:
        patients, told = draw_other(OTHERS[name], 3, 0)
        assert told["kept"] >= len(patients) == 3
        a, b = (measure(task, patients, 5) for task in (with_cuff, without))
        np.testing.assert_array_equal(a.values, b.values)
        assert b.beside is None and set(a.beside) == {"systolic", "diastolic"}
        with_cuff.check(a)
        off = a.values - patients.recording.waveforms.V_lv
        assert abs(off.std() - NOISE) < 0.2 * NOISE
        off = a.beside["systolic"].values[:, 0] - patients.read(["systolic"])["systolic"]
        assert np.abs(off).max() < 5 * CUFF[0].noise
    more = measure(without_curve(with_cuff), laboratory.rest, 6)
    assert set(more.beside) == {"systolic", "diastolic", "EF"}
    both = together(*(measure(with_cuff, part, 7) for part in laboratory))
    assert len(both.values) == len(both.known) == 2 * len(laboratory.rest)
    assert np.isnan(true_numbers(laboratory.rest, elastance=False)["E_max"]).all()


def test_scores_of_what_is_known():
    true, got = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 3.0, 4.0, np.nan])
    found = score(true, got, np.array([0.0, 2.5, 2.0, np.nan]), np.array([3.0, 3.5, 5.0, np.nan]))
    assert (found["patients"], found["failed"]) == (4, 1)
    assert found["mae"] == found["bias"] == 1 and found["sd"] == pytest.approx(0)
    assert found["mae_percent"] == 50 and found["rmse_range_percent"] == 50
    assert found["r"] == pytest.approx(1) and found["hold90_percent"] == pytest.approx(200 / 3)
    flat = score(true, np.full(4, 2.5), NOTHING, NOTHING)
    assert flat["r"] is None and flat["hold90_percent"] is None and flat["mae"] == 1
    assert score(true, NOTHING, NOTHING, NOTHING)["mae"] is None


def test_a_reserve_is_the_ratio_of_independent_estimates():
    rest, stress = (Answer({"E_max": np.array([x])}, {}, {}) for x in (2.0, 3.0))
    assert reserve(rest, stress).values["reserve"] == [1.5]
    draws = np.linspace(1.9, 2.1, 101)[None]
    rest, stress = rest._replace(E_max=draws), stress._replace(E_max=np.full((1, 101), 4.0))
    found = reserve(rest, stress)
    assert found.values["reserve"] == pytest.approx([2.0], rel=0.01)
    assert found.low["reserve"] < 2 < found.high["reserve"]


def test_tables_name_what_is_missing():
    table = {
        "group": np.array(["rest"] * 4 + ["four_chambers"] * 4),
        "number": np.array(["E_max"] * 8),
        "true": np.array([1.0, 2, 3, 4, *NOTHING]),
        "value": np.array([1.5, 2, 3, 4, *NOTHING]),
        **{name: np.full(8, np.nan) for name in ("low", "high")},
    }
    (row,) = summarise({("template", "cuff"): table})  # Where E_max means something else: no row.
    assert row["group"] == "rest" and row["hold90_percent"] is None
    assert "| – | 0 of 4 |" in main_table([row])
    rows, text = in_silico_table({"cuff, period": {k: x[:4] for k, x in table.items()}})
    assert rows[0]["number"] == "E_max" and "17%, r 0.37" in text and rows[1]["mae"] is None


def test_settings_name_what_is_wrong():
    with pytest.raises(ValueError, match="--circuits hers: expected names out of bjordalsbakke"):
        Config(circuits=("hers",))
    with pytest.raises(ValueError, match="--others 1 --draws 200: expected at least 6"):
        Config(others=1)
    assert {name: config.preset for name, config in PRESETS.items()} == {n: n for n in PRESETS}


@pytest.mark.slow
def test_tiny(tmp_path, run_in_one):
    out = tmp_path / "run"
    code, output = run_in_one("pressures", "--preset", "tiny", "--out", str(out))
    assert code == 0, output
    results = json.loads((out / "results.json").read_text())
    rows = {(r["group"], r["number"], r["method"], r["cuff"]): r for r in results["rows"]}
    template = rows["rest", "stroke_work", "template", "cuff"]
    assert template["failed"] == 0 and template["mae"] > 0
    assert rows["rest", "E_max", "posterior", "cuff"]["hold90_percent"] is not None
    assert ("bjordalsbakke", "stroke_work", "fit", "cuff") in rows
    assert len(results["in_silico"]) == 8
    for name in ("pressures.md", "in_silico.md", "left_out.md", "pressures.png"):
        assert (out / name).stat().st_size > 100
    # Cells that exist are not filled again.
    before = (out / "cells" / "fit-cuff.csv").stat().st_mtime_ns
    code, output = run_in_one("pressures", "--preset", "tiny", "--out", str(out), "--resume")
    assert code == 0, output
    assert (out / "cells" / "fit-cuff.csv").stat().st_mtime_ns == before
    assert json.loads((out / "results.json").read_text()) == results
