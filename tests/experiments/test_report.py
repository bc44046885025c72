"""The README's tables match the saved results."""

import csv
import json

import pytest

from experiments.decisions.scores import STRATEGIES
from experiments.models.studies import STUDIES
from experiments.models.table import markdown, table
from experiments.report import README, RESULTS, decision_table, keep, model_table, rewritten
from jaxtwin.commands.tables import write_table

CLIPS = {
    "data": ["phantom", "phantom"],
    "method": ["P-SSL (emulator)", "predicting the median"],
    "seeds": [3, 1],
    "clips_seen": [16_000, 0],
    **{
        f"{name}{end}": [value, None if name == "EF_resimulated" else 2 * value]
        for name in ("EF", "EF_resimulated", "EDV", "ESV")
        for end, value in (("", 3.456), ("_low", 3.0), ("_high", 4.0))
    },
    "EF_seeds": [0.25, None],
    "EF_beside": [0.5, None],
    "EF_beside_low": [0.25, None],
    "EF_beside_high": [0.75, None],
}
PLACES = "a <!-- table_ef: begin -->old<!-- table_ef: end --> z"


def finished(folder):
    folder.mkdir()
    write_table(folder / "table_ef.csv", CLIPS)
    (folder / "table_ef.md").write_text("| the whole table |")
    (folder / "results.json").write_text("{}")
    made = {
        "config": {"run": "/home/me/runs/pssl", "seed": 0},
        "commit": "0123456789",
        "machine": "a machine",
    }
    (folder / "config.json").write_text(json.dumps(made))
    for cell, commit in (("pssl-0", {}), ("pssl-1", {"commit": "abcdef0123-dirty"})):
        (folder / "cells" / "phantom" / cell).mkdir(parents=True)
        (folder / "cells" / "phantom" / cell / "result.json").write_text(json.dumps(commit))
        write_table(folder / "cells" / "phantom" / cell / "predictions.csv", {"EF": [50.0]})


def test_the_readme_is_what_the_saved_results_make_of_it():
    assert (RESULTS / "table_ef.csv").exists()
    assert rewritten(README.read_text()) == README.read_text()


def test_a_table_is_written_into_its_place(tmp_path):
    finished(tmp_path / "run")
    keep("table_ef", tmp_path / "run", tmp_path / "results")
    text = rewritten(PLACES, tmp_path / "results")
    assert text.startswith("a <!-- table_ef: begin -->") and text.endswith("end --> z")
    assert "old" not in text and "commit `0123456`, `abcdef0-dirty`, a machine" in text
    row = "| phantom | P-SSL (emulator) | 3.46 ± 0.25 [3.00, 4.00] | 0.50 [0.25, 0.75] | 3.46 |"
    assert row in text
    assert "| phantom | predicting the median | 6.91 [6.00, 8.00] | – | – |" in text
    told = json.loads((tmp_path / "results" / "table_ef.json").read_text())
    assert told["config"] == {"run": "pssl", "seed": 0}
    kept = tmp_path / "results" / "table_ef" / "cells" / "phantom"
    assert (kept / "pssl-1" / "predictions.csv").read_text().split() == ["EF", "50.0"]
    stale = kept / "pssl-9"
    stale.mkdir()
    keep("table_ef", tmp_path / "run", tmp_path / "results")
    assert not stale.exists() and (kept / "pssl-0" / "result.json").exists()
    assert rewritten(text, tmp_path / "results") == text
    with pytest.raises(ValueError, match="no place for table_ef"):
        rewritten("nothing", tmp_path / "results")


def test_an_unfinished_run_is_not_kept(tmp_path):
    with pytest.raises(ValueError, match=r"no finished run of experiments\.table_ef"):
        keep("table_ef", tmp_path, tmp_path / "results")
    finished(tmp_path / "run")
    made = json.loads((tmp_path / "run" / "config.json").read_text())
    made["config"]["preset"] = "tiny"
    (tmp_path / "run" / "config.json").write_text(json.dumps(made))
    with pytest.raises(ValueError, match="is a tiny run"):
        keep("table_ef", tmp_path / "run", tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_models_are_told_side_by_side(tmp_path):
    row = {f"{channel}_resimulated": 0.01 for channel in STUDIES["lung"].labels}
    row |= {"theta": 0.02, "failed": 0, "patients": 50, "seconds": 7.0}
    rows = {"P-SSL (emulator)": row, "the middle of the box": row | {"theta": 0.25, "failed": 3}}
    results = [{"system": "lung", "rows": rows}]
    write_table(tmp_path / "models.csv", table(results))
    with (tmp_path / "models.csv").open(newline="") as file:
        lines = model_table(list(csv.DictReader(file)))
    assert lines[2:] == ["| lung | q [L/s]: 0.01 / 0.01 | P_alv [cmH₂O]: 0.01 / 0.01 | 2 / 25 |"]
    assert "| lung | the middle of the box | q [L/s]: 0.01 | P_alv" in markdown(results)


def test_decisions_are_told_for_curves_of_unknown_start(tmp_path):
    names, cases = ["none", "threshold", "shifted"], ["exact curve", "exact curve, turned"]
    rows = [
        {"case": case, "disease": "gout", "k": k, "strategy": name, "cost": k * i / 100}
        for case in cases
        for k in (1.0, 5.0)
        for i, name in enumerate(names)
    ]
    write_table(tmp_path / "decisions.csv", {key: [row[key] for row in rows] for key in rows[0]})
    with (tmp_path / "decisions.csv").open(newline="") as file:
        lines = decision_table(list(csv.DictReader(file)))
    assert lines[0] == f"| disease | k | {' | '.join(STRATEGIES[name] for name in names)} |"
    assert lines[2] == "| gout | 1 | 0.000 | 0.010 | 0.020 |"
    assert lines[3] == "| gout | 5 | 0.000 | 0.050 | 0.100 |" and len(lines) == 4


def test_every_model_has_a_study_with_labels():
    for study in STUDIES.values():
        assert tuple(study.labels) == study.task.channels
        assert study.task.system.readings()
