"""experiments.detection: scores, comparison groups, labels, and a run end to end."""

import csv
import json

import numpy as np
import pytest

from experiments.detection import scores
from experiments.detection.cohort import describe_cohort, make_diseased_phantoms, read_diagnoses
from experiments.detection.scores import EVERYONE, Answers, Seen, Source, recovery, score
from experiments.detection.settings import LEAST_TRAINING, Config
from experiments.detection.table import markdown
from jaxtwin.analysis.detection import MOST_GROUPS
from jaxtwin.cohorts.diseases import DISEASES, HEALTHY
from jaxtwin.commands.settings import ClipConfig
from jaxtwin.commands.tables import read_table
from jaxtwin.commands.trial import learnt_cohort
from jaxtwin.data.echonet import Record, read_echonet, read_theta
from jaxtwin.models.left_heart import EIGHT


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    """Intervals are tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("auroc", "auroc_difference"):
            keep = getattr(scores, name)
            patch.setattr(
                scores, name, lambda *a, keep=keep, **k: keep(*a, **k | {"resamples": 100})
            )
        yield


@pytest.fixture(scope="module")
def seen():
    """Healthy, stenosed and weak hearts; labels of a few test clips are missing."""
    random = np.random.default_rng(0)
    diagnosis = random.choice(
        ["healthy", "mitral stenosis", "reduced contractility"], 600, p=[0.6, 0.2, 0.2]
    )
    EDV = random.normal(120, 10, 600)
    EF = np.where(diagnosis == "reduced contractility", 30, 60) + random.normal(0, 2, 600)
    split = np.repeat(["TRAIN", "VAL", "TEST"], [300, 60, 240])
    diagnosis[-10:] = ""
    volumes = np.stack([EDV, EDV * (1 - EF / 100), EF], axis=1)
    vitals = random.normal([0.9, 120, 80], [0.1, 5, 5], (600, 3))
    return Seen(split, diagnosis, "healthy", volumes, vitals)


def twins(seen, random, knows_valve):
    """θ that follows EF, and the valve only where it is known."""
    theta = EIGHT.sample(600, seed=3)
    middle = np.array([sum(HEALTHY.ranges[name]) / 2 for name in EIGHT.names])
    theta = middle + 0.02 * (theta - middle)
    names = EIGHT.names.index
    theta[:, names("E_max")] = seen.volumes[:, 2] / 25 + random.normal(0, 0.05, 600)
    if knows_valve:
        stenosis = seen.diagnosis == "mitral stenosis"
        theta[:, names("R_m")] = np.where(stenosis, 0.06, 0.01) + random.normal(0, 0.002, 600)
    features = random.normal(size=(600, 20))
    return Answers(theta.astype(np.float32), features, seen.volumes + 1.0, seen.vitals - 2.0)


@pytest.fixture(scope="module")
def rows(seen):
    random = np.random.default_rng(1)
    learnt = {
        "volumes": [twins(seen, random, False)],
        "vitals": [twins(seen, random, True)],
    }
    return learnt, score(seen, learnt, None)


def area(rows, source, disease, kind, against=EVERYONE):
    (row,) = [
        r
        for r in rows
        if (r["source"], r["disease"], r["score"], r["against"]) == (source, disease, kind, against)
    ]
    return row["AUROC"]


@pytest.mark.slow
def test_a_disease_is_found_where_it_shows_and_nowhere_else(rows):
    _, rows = rows
    stenosis, weak = "mitral stenosis", "reduced contractility"
    for kind in ("its parameter", "group", "told"):
        assert area(rows, "twin vitals", stenosis, kind) > 0.97, kind
        assert 0.3 < area(rows, "twin volumes", stenosis, kind) < 0.7, kind
    for source in ("EF", "twin volumes", "twin vitals"):
        assert area(rows, source, weak, "its parameter") > 0.99  # −EF, −E_max
        assert area(rows, source, weak, "told") > 0.99
    assert area(rows, "twin vitals", stenosis, "outlier", "healthy") > 0.99
    assert 0.3 < area(rows, "features volumes", weak, "told") < 0.7
    # Beside EF and beside what was measured, on the same patients.
    (row,) = [
        r
        for r in rows
        if (r["source"], r["disease"], r["score"], r["against"])
        == ("twin vitals", stenosis, "told", EVERYONE)
    ]
    for beside in ("EF", "measured"):
        difference = area(rows, "twin vitals", stenosis, "told") - area(
            rows, beside, stenosis, "told"
        )
        assert row[f"less_{beside}"] == pytest.approx(difference)
        assert row[f"less_{beside}_low"] > 0.2


def test_a_posterior_is_scored_by_its_probability(seen):
    """Its values rank nobody, its probability everybody."""
    theta = np.tile(EIGHT.sample(1, seed=0), (600, 1))
    chance = np.where(seen.diagnosis == "mitral stenosis", 0.9, 0.2)
    source = Source([theta], EIGHT.names, chances=[{"mitral stenosis": chance}])
    found, weak = map(source.of_parameter, ("mitral stenosis", "reduced contractility"))
    assert found is not None and weak is not None
    np.testing.assert_array_equal(found[0], chance)
    np.testing.assert_array_equal(weak[0], -theta[:, EIGHT.names.index("E_max")])
    assert source.of_parameter("gout") is None


def test_only_labelled_test_clips_are_scored_and_counted(rows, seen):
    _, rows = rows
    tested = seen.diagnosis[-240:-10]
    for row in rows:
        assert row["ill"] == np.sum(tested == row["disease"])
        others = tested == "healthy" if row["against"] == "healthy" else tested != row["disease"]
        assert row["others"] == np.sum(others)
        assert row["low"] <= row["AUROC"] + 1e-9 and row["AUROC"] <= row["high"] + 1e-9
        assert row["ill"] >= 10


@pytest.mark.slow
def test_test_diagnoses_teach_nothing(rows, seen, monkeypatch):
    """Whoever is told, and whatever names a group, sees the other splits' diagnoses alone."""
    learnt, _ = rows
    calls = {"probabilities": [], "memberships": [], "outlyingness": []}
    for name, seen_by in calls.items():
        keep = getattr(scores, name)
        monkeypatch.setattr(
            scores,
            name,
            lambda values, reference, *labels, keep=keep, seen_by=seen_by: (
                seen_by.append((values.sum(), reference.sum(), len(reference), *labels))
                or keep(values, reference, *labels)
            ),
        )
    before = score(seen, learnt, None)
    first = {name: list(seen_by) for name, seen_by in calls.items()}
    changed = seen.diagnosis.copy()
    test = (seen.split == "TEST") & (seen.diagnosis != "")
    changed[test] = np.random.default_rng(2).permutation(changed[test])
    for seen_by in calls.values():
        seen_by.clear()
    after = score(seen._replace(diagnosis=changed), learnt, None)
    assert calls == first and {n for _, _, n, *_ in calls["probabilities"]} == {360}
    assert {n for _, _, n in calls["memberships"] + calls["outlyingness"]} == {300}
    # Diagnoses that mean nothing are not found.
    assert any(row["AUROC"] > 0.95 for row in before)
    assert all(0.3 < row["AUROC"] < 0.7 for row in after)


def test_the_table_and_the_recovery(rows, seen):
    learnt, rows = rows
    table = markdown(rows, seen)
    assert "| mitral stenosis (n = " in table and "on 230 unseen clips" in table
    assert "less EF's" in table and "nan" not in table
    found = recovery(seen, learnt, None)
    assert found["volumes"]["EDV_error"] == pytest.approx(1.0)
    assert found["vitals"]["systolic_error"] == pytest.approx(2.0)


def test_without_labels_to_learn_from_nothing_is_told(rows, seen):
    learnt, _ = rows
    diagnosis = np.where(seen.split == "TEST", seen.diagnosis, "")
    some = score(seen._replace(diagnosis=diagnosis), learnt, None)
    assert {row["score"] for row in some} == {"its parameter", "outlier"}


def test_a_cohort_that_cannot_be_scored_is_refused_at_once(tmp_path, capsys):
    def records(*splits):
        return [
            Record(f"c{i}", tmp_path, 100.0, 40.0, 60.0, 50.0, 9, s) for i, s in enumerate(splits)
        ]

    with pytest.raises(ValueError, match="3 TRAIN clips: bulk and groups"):
        describe_cohort(records("TRAIN", "TRAIN", "TRAIN", "TEST"), {"c3": "healthy"}, "healthy")
    many = records(*["TRAIN"] * 32, "TEST", "TEST")
    with pytest.raises(ValueError, match="none; expected 'healthy'"):
        describe_cohort(many, {}, "healthy")
    with pytest.raises(ValueError, match="and at least one disease"):
        describe_cohort(many, {"c32": "healthy"}, "healthy")
    with pytest.raises(ValueError, match="expected at least 32 to train on and 40 to test"):
        Config(clips=ClipConfig(counts=(20, 4, 40)))
    with pytest.raises(ValueError, match="expected volumes, vitals or curves"):
        Config(learn_from=())
    with pytest.raises(ValueError, match="with --data not curves alone"):
        Config(data=tmp_path, labels=tmp_path / "x.csv", learn_from=("curves",))
    assert LEAST_TRAINING == 4 * MOST_GROUPS
    many = records(*["TRAIN"] * 32, *["TEST"] * 7)
    diagnoses = {f"c{i}": "healthy" if i < 35 else "flu" for i in range(32, 38)} | {"c38": "gout"}
    seen = describe_cohort(many, diagnoses, "healthy")
    assert seen.diseases == ["flu"] and seen.diagnosis[38] == ""
    assert "gout: fewer than 3 TEST clips" in capsys.readouterr().out


def test_diagnoses_are_read_from_a_file(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("patient,diagnosis,note\nA.AVI,healthy,x\nB,amyloid,\nC,,\nD,NA,\nA,healthy,\n")
    assert read_diagnoses(path) == {"A": "healthy", "B": "amyloid"}
    path.write_text("patient,diagnosis\nA,healthy\nA,amyloid\n")
    with pytest.raises(ValueError, match="A is listed as healthy and as amyloid"):
        read_diagnoses(path)
    path.write_text("FileName,label\nA,healthy\n")
    with pytest.raises(ValueError, match="expected patient, the clip's name, and diagnosis"):
        read_diagnoses(path)
    with pytest.raises(ValueError, match="No such file"):
        read_diagnoses(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="expected both or neither"):
        Config(labels=path)


@pytest.mark.slow
def test_phantoms_and_the_same_clips_as_if_they_were_real(tmp_path, run_in_one):
    """On phantoms, then on the same folder as a data set of somebody else's."""
    sizes = ["--preset=tiny", "--seeds=1", "--clips", "40", "8", "40"]
    code, said = run_in_one("detection", *sizes, f"--out={tmp_path / 'a'}")
    assert code == 0, said
    folder = tmp_path / "a" / "phantom"
    diagnoses = read_diagnoses(folder / "Diagnosis.csv")
    assert len(diagnoses) == 88 and set(diagnoses.values()) == {d.name for d in DISEASES}
    truth = read_theta(folder)
    for record in read_echonet(folder).records:
        assert abs(record.vitals.period - truth[record.name]["T_c"]) < 0.05
        R_m = truth[record.name]["R_m"]
        assert (R_m > 0.03) == (diagnoses[record.name] == "mitral stenosis")
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    exact = ("exact curve", "exact curve, turned")
    curves = {f"{name}{kind}" for name in exact for kind in ("", ", posterior")}
    assert set(results["recovery"]) == {"volumes", "vitals"} | curves
    made = {"detection.csv", "detection.md", "detection.png", "parameters.png", "loops.png"}
    assert made <= {path.name for path in (tmp_path / "a").iterdir()}
    table = read_table(tmp_path / "a" / "detection.csv")
    ceiling = table["AUROC"][(table["source"] == "truth") & (table["score"] == "its parameter")]
    assert np.all(ceiling == 1)  # Ranges of health and disease do not meet.
    told = (table["source"] == "twin exact curve, posterior") & (table["score"] == "its parameter")
    assert set(table["disease"][told]) == set(table["disease"])

    code, said = run_in_one(
        "detection", *sizes, "--learn-from", "curves", f"--out={tmp_path / 'by_curves'}"
    )
    assert code == 0, said
    assert (
        set(json.loads((tmp_path / "by_curves" / "results.json").read_text())["recovery"]) == curves
    )

    cohort = learnt_cohort(tmp_path / "a" / "cells" / "vitals-0" / "predictions.csv")
    assert cohort.box == EIGHT and len(cohort.theta) == 40

    # A twin by a cell's encoder, which needs vitals, and by the emulator of the whole run.
    cell = str(tmp_path / "a" / "cells" / "vitals-0")
    code, said = run_in_one("twin", "--run", cell, "--period=0.9", f"--out={tmp_path / 'none'}")
    assert code == 1 and "needs --systolic" in said
    measured = ["--period=0.9", "--systolic=120", "--diastolic=80"]
    code, said = run_in_one("twin", "--run", cell, *measured, f"--out={tmp_path / 'twin'}")
    assert code == 0, said

    # No θ, no vitals, other names of diagnoses.
    (folder / "Theta.csv").unlink()
    with (folder / "FileList.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "FileList.csv").open("w", newline="") as file:
        kept = [name for name in rows[0] if "Pressure" not in name and name != "HeartPeriod"]
        written = csv.DictWriter(file, kept, extrasaction="ignore")
        written.writeheader()
        written.writerows(rows)
    with (folder / "labels.csv").open("w") as file:
        file.write("patient,diagnosis\n")
        for name, diagnosis in diagnoses.items():
            file.write(f"{name},{'normal' if diagnosis == 'healthy' else 'amyloid'}\n")
    arguments = [f"--data={folder}", f"--labels={folder / 'labels.csv'}", "--healthy=normal"]
    code, said = run_in_one("detection", *sizes, *arguments, f"--out={tmp_path / 'b'}")
    assert code == 0, said
    assert "not every clip has period, systolic, diastolic" in said
    table = read_table(tmp_path / "b" / "detection.csv")
    assert set(table["disease"]) == {"amyloid"}
    assert set(table["source"]) == {"EF", "volumes", "features volumes", "twin volumes"}
    assert set(table["score"]) == {"outlier", "group", "told"}
    code, said = run_in_one("detection", *sizes, *arguments[:2], f"--out={tmp_path / 'c'}")
    assert code == 1 and "expected 'healthy'" in said


def test_a_cohort_that_is_there_is_kept(tmp_path):
    (tmp_path / "FileList.csv").write_text("")
    make_diseased_phantoms(tmp_path, (4, 1, 1), seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["FileList.csv"]
