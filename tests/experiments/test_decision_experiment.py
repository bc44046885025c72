"""experiments.decisions: scores of answers that are known, and a run end to end."""

import functools
import json

import numpy as np
import pytest

from experiments.decisions import scores
from experiments.decisions.cells import Answers, Case, ClinicObservation, limits
from experiments.decisions.scores import (
    STRATEGIES,
    THRESHOLDS,
    areas,
    benefits,
    cost_rows,
    reliability_rows,
)
from experiments.decisions.settings import Config
from experiments.decisions.table import markdown
from experiments.detection.curves import curve_task
from experiments.detection.scores import MARKED
from jaxtwin.analysis.reliability import shift_prevalence
from jaxtwin.cohorts.diseases import beyond_health
from jaxtwin.commands.tables import read_table

BEFORE = 0.8


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    """Intervals are tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "RESAMPLES", 20)
        patch.setattr(scores, "auroc", functools.partial(scores.auroc, resamples=20))
        yield


@pytest.fixture(scope="module")
def case():
    """Probabilities that are right for a prior of which 80% are ill, and a clinic of 10%."""
    random = np.random.default_rng(0)

    def told(ill):
        """Return Bayes' rule for a normal number that is 1.5 higher in the ill."""
        x = random.normal(size=ill.shape) + 1.5 * ill
        odds = BEFORE / (1 - BEFORE) * np.exp(1.5 * x - 1.5**2 / 2)
        return x, odds / (1 + odds)

    n = len(MARKED)
    own = random.uniform(size=(n, 4_000)) < BEFORE
    ill = random.uniform(size=(n, 5_000)) < 0.1
    answers = []
    for _ in range(2):
        x, chance = told(ill)
        chance[:, -3:] = np.nan
        informed = shift_prevalence(chance.ravel(), BEFORE, 0.1).reshape(chance.shape)
        answers.append(Answers(x, x, chance, informed, told(own)[1]))
    return Case(ill, 1_000, own, (BEFORE,) * n, (0.75,) * n, answers)


def test_limits_are_those_of_health():
    found = dict(zip((disease.name for disease in MARKED), limits(), strict=True))
    assert found["mitral stenosis"] == 0.012 and found["reduced contractility"] == -1.8


def test_probabilities_hold_for_their_own_prior_and_elsewhere_once_corrected(case):
    rows = {
        (row["disease"], row["probability"]): row for row in reliability_rows({"some curve": case})
    }
    for disease in MARKED:
        own, raw, shifted, informed = (
            rows[disease.name, kind] for kind in ("own", "chance", "shifted", "informed")
        )
        assert own["calibration_error"] < 0.03 and own["bins_within"] > 0.7 * own["bins"]
        assert raw["calibration_error"] > 0.2 and raw["mean"] > 0.3 > raw["share"]
        assert shifted["calibration_error"] < 0.03 and shifted["brier"] < shifted["brier_of_share"]
        assert shifted["brier"] == pytest.approx(informed["brier"])
        assert (own["without"], raw["without"]) == (0, 3) and raw["patients"] == 3_997


def test_what_decisions_cost(case):
    costs = {
        (row["disease"], row["k"], row["strategy"]): row
        for row in cost_rows({"some curve": case}, (1.0, 5.0, 20.0))
    }
    for i, disease in enumerate(MARKED):
        share = case.beyond[i, 1_000:-3].mean()
        for k in (1.0, 5.0, 20.0):
            row = {name: costs[disease.name, k, name] for name in STRATEGIES}
            assert row["none"]["cost"] == pytest.approx(k * share) and row["none"]["missed"] == 1
            assert row["all"]["cost"] == pytest.approx(1 - share) and row["all"]["alarms"] == 1
            assert row["threshold"]["less"] == 0
            # Bayes' rule is the best there is; a threshold on the number comes near, the
            # probabilities of another prior and the middle between the groups do not.
            best = row["shifted"]["cost"]
            assert best == pytest.approx(row["threshold"]["cost"], rel=0.15)
            assert best < min(row["none"]["cost"], row["all"]["cost"]) + 0.01
            assert best < row["chance"]["cost"] - 0.04
        assert (
            costs[disease.name, 20.0, "limit"]["cost"]
            > 1.05 * costs[disease.name, 20.0, "shifted"]["cost"]
        )


def test_areas_and_net_benefit(case):
    for row in areas({"some curve": case}):
        # Of two normal distributions 1.5 apart: Φ(1.5/√2).
        assert row["AUROC"] == pytest.approx(0.856, abs=0.03) and row["without"] == 3
    found = benefits(case, 0)
    assert (found["none"] == 0).all()
    assert (found["shifted"] >= np.maximum(found["all"], 0) - 0.05).all()
    k = (1 - THRESHOLDS[9]) / THRESHOLDS[9]
    (row,) = (
        r
        for r in cost_rows({"x": case._replace(answers=case.answers[:1])}, (k,))
        if (r["disease"], r["strategy"]) == (MARKED[0].name, "shifted")
    )
    share = case.beyond[0, 1_000:-3].mean()
    assert found["shifted"][9] * share == pytest.approx(share - row["cost"] / k)


def test_without_an_informed_posterior_there_are_no_rows_of_it(case):
    blank = [a._replace(informed=np.full(a.informed.shape, np.nan)) for a in case.answers]
    some = {"some curve": case._replace(answers=blank)}
    tables = areas(some), reliability_rows(some), cost_rows(some, (5.0,))
    assert not any("informed" in row.values() for table in tables for row in table)
    text = markdown(*tables)
    assert "nan" not in text and "3 more without a posterior" in text and "(3 without)" in text


def test_the_informed_prior_is_the_clinic():
    task = curve_task("exact curve", 6.0)
    theta = ClinicObservation().patients(task, 100, seed=0)
    for disease in MARKED:
        assert beyond_health(disease, task.box, theta).sum() == 10


def test_settings_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 40 of each"):
        Config(patients=(2_000, 10, 500))
    with pytest.raises(ValueError, match="expected positive costs"):
        Config(costs=(1.0, 0.0))
    with pytest.raises(ValueError, match="--seeds 0"):
        Config(seeds=0)
    with pytest.raises(ValueError, match="no networks there"):
        Config(run=tmp_path).check_inputs()


@pytest.mark.slow
def test_a_tiny_run(tmp_path, run_in_one):
    code, said = run_in_one("decisions", "--preset=tiny", f"--out={tmp_path / 'a'}")
    assert code == 0, said
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    cases = {"exact curve", "exact curve, turned"}
    assert set(results["reliability_diagrams"]) == cases
    shares = results["prior_share"]["exact curve"]
    # Of the uniform box: (0.25 − 0.01)/(0.25 − 0.0001).
    assert shares["aortic stenosis"] == pytest.approx(0.96, abs=0.01)
    table = read_table(tmp_path / "a" / "decisions.csv")
    assert set(table["strategy"]) == set(STRATEGIES) and set(table["case"]) == cases
    assert np.isfinite(table["cost"]).all()
    for name in ("reliability_exact_curve", "net_benefit_exact_curve_turned"):
        assert (tmp_path / "a" / f"{name}.png").stat().st_size > 10_000
    kept = (tmp_path / "a" / "decisions.md").read_text()
    code, said = run_in_one("decisions", "--preset=tiny", f"--out={tmp_path / 'a'}", "--resume")
    assert code == 0, said
    assert (tmp_path / "a" / "decisions.md").read_text() == kept
