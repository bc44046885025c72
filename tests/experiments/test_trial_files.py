"""Trials from files: valid and invalid files, and both experiments end to end."""

import json

import numpy as np
import pytest

from experiments.trial import PRESETS
from jaxtwin.commands.tables import read_table, write_table
from jaxtwin.commands.trial import learnt_cohort, read_cohort
from jaxtwin.models.left_heart import SEVEN, LeftHeart, LeftHeartParameters
from jaxtwin.models.lvad import LVAD
from jaxtwin.treatments import BelowSuction, FlatteningFlow, Inotrope, Pump
from jaxtwin.treatments.trial_file import create, read_arms, read_trial


def written(folder, text):
    path = folder / "trial.toml"
    path.write_text(text)
    return path


def test_the_example_says_what_it_does():
    described = read_trial(PRESETS["default"].config)
    arms = read_arms(described)
    assert len(arms) == 5 and described["analysis"]["control"] in arms
    system, p = arms["inotrope"](LeftHeart(), LeftHeartParameters())
    assert isinstance(system, LeftHeart)
    np.testing.assert_allclose(p.E_max, 3.0, rtol=1e-6)  # half of the maximum effect of 1
    system, p = arms["pump at 9,000 rpm"](LeftHeart(), LeftHeartParameters())
    assert isinstance(system, LVAD) and system.speed == 9_000
    first, second = arms["pump 10% below suction, vasodilator"].parts
    assert first.effect == -0.25 and second.speed.margin == 0.1


def test_every_way_to_write_a_dose():
    assert create("inotrope", {"effect": 0.5}) == Inotrope(0.5)
    assert isinstance(create("pump", {"speed": 9000}), Pump)
    assert isinstance(create("pump", {"speed": {"law": "flattening_flow"}}).speed, FlatteningFlow)
    assert isinstance(create("pump", {"speed": {"below_suction": 0.2}}).speed, BelowSuction)
    assert create("mitral_repair", {}).resistance == 0.005


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("pill", {}, "no intervention 'pill': there are inotrope"),
        ("inotrope", {}, "with at least effect"),
        ("inotrope", 0.5, "expected { effect = ... }"),
        ("inotrope", {"dose": 1}, "expected { effect = ... }"),
        ("inotrope", {"effect": "much"}, "effect = much: expected a number"),
        ("inotrope", {"effect": {"dose": 1}}, "{ dose, maximum, half }"),
        ("pump", {"speed": {"law": "best"}}, "flattening_flow"),
        ("inotrope", {"effect": {"below_suction": 0.1}}, "expected a number"),
        ("pump", {"speed": -9000}, "speed = -9000: expected at least 0"),
        ("inotrope", {"effect": -3.0}, "effect = -3.0: expected at least -0.95"),
        ("pump", {"speed": {"below_suction": 1.5}}, "at least 0 and at most 0.9"),
        (
            "vasodilator",
            {"effect": {"dose": 1000, "maximum": -2, "half": 1}},
            "effect = -1.998",
        ),
        ("inotrope", {"effect": {"dose": 1, "maximum": 1, "half": 0}}, "half = 0"),
    ],
)
def test_what_is_not_understood_is_said(name, settings, words):
    with pytest.raises(ValueError) as error:
        create(name, settings)
    assert words in str(error.value)


def test_a_broken_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.toml"):
        read_trial(tmp_path / "nothing.toml")
    with pytest.raises(ValueError, match="at least two"):
        read_trial(written(tmp_path, "[arms.a]"))
    with pytest.raises(ValueError, match=r"trial\.toml is no TOML file: "):
        read_trial(written(tmp_path, "arms = ["))
    with pytest.raises(ValueError, match=r"\[cohort\] has size"):
        read_cohort({"cohort": {"size": 3}}, tmp_path, None, 0)


def test_twins_come_from_a_table(tmp_path):
    theta = SEVEN.sample(6, seed=1)
    write_table(tmp_path / "predictions.csv", dict(zip(SEVEN.names, theta.T, strict=True)))
    cohort = read_cohort({"cohort": {"twins": "predictions.csv"}}, tmp_path, 4, 0)
    np.testing.assert_allclose(cohort.theta, theta[:4])
    write_table(tmp_path / "other.csv", {"T_c": [1.0, 2.0]})
    with pytest.raises(ValueError, match="has no column V_0"):
        learnt_cohort(tmp_path / "other.csv")
    with pytest.raises(ValueError, match="no table of patients"):
        learnt_cohort(tmp_path / "nothing.csv")


@pytest.mark.slow
def test_both_experiments_from_the_command_line(tmp_path, run_in_one):
    code, output = run_in_one(
        "lvad", "--preset=tiny", "--patients=8", "--out", str(tmp_path / "lvad")
    )
    assert code == 0, output
    results = json.loads((tmp_path / "lvad" / "results.json").read_text())
    assert results["events"]["no pump"]["failed"] == 0
    assert 6_000 < results["patient"]["suction_speed"] < 18_000
    for name in ("patient", "cohort", "effects"):
        assert (tmp_path / "lvad" / f"{name}.png").stat().st_size > 10_000
    patients = read_table(tmp_path / "lvad" / "patients.csv")
    assert len(patients["arm"]) == 4 * 8

    text = """
[cohort]
patients = 8
[arms.before]
[arms."more fluid"]
fluid = { volume = 200 }
"""
    path = str(written(tmp_path, text))
    code, output = run_in_one("trial", "--config", path, "--out", str(tmp_path / "trial"))
    assert code == 0 and "| output [L/min] | more fluid | all | 8 (0) |" in output, output
    effects = read_table(tmp_path / "trial" / "effects.csv")
    of = (effects["endpoint"] == "output") & (effects["group"] == "all")
    assert effects["difference"][of] > 0
    path = str(written(tmp_path, text.replace("fluid =", "pill =")))
    code, output = run_in_one("trial", "--config", path, "--out", str(tmp_path / "other"))
    assert code == 1 and "no intervention 'pill'" in output, output
