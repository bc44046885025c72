"""The experiments' command lines."""

import json
import signal
import time
from pathlib import Path

import pydicom
import pytest
from pydicom import examples

from experiments import pssl, twin
from experiments.command import parse
from jaxtwin.commands.run import Run, open_run
from jaxtwin.commands.twin import names_of
from tests.experiments.commands import run, start

MICRO = [
    "--preset=tiny",
    "--learn-from=volumes",
    "--simulations=256",
    "--unseen=64",
    "--emulator.steps=60",
    "--emulator.evaluate-every=20",
    *("--clips", "12", "4", "4"),
    "--training.steps=8",
    "--training.evaluate-every=2",
    "--training.batch-size=4",
]


def test_flags_start_from_the_preset():
    config = parse(
        "pssl", pssl.PRESETS, "", ["--preset", "tiny", "--training.steps", "5", "--seed", "7"]
    )
    assert config.clips == pssl.PRESETS["tiny"].clips
    assert (config.training.steps, config.seed) == (5, 7)


def test_an_unknown_preset_is_refused_with_the_choices(capsys):
    with pytest.raises(SystemExit):
        parse("pssl", pssl.PRESETS, "", ["--preset", "huge"])
    assert "tiny" in capsys.readouterr().err


def test_presets_carry_their_own_names():
    for presets in (pssl.PRESETS, twin.PRESETS):
        assert {name: config.preset for name, config in presets.items()} == {
            name: name for name in ("tiny", "default", "full")
        }


def test_a_folder_is_used_once_unless_resumed(tmp_path):
    config = parse("pssl", pssl.PRESETS, "", ["--out", str(tmp_path / "run")])
    open_run("pssl", config)
    open_run("pssl", config)  # nothing was made yet
    (tmp_path / "run" / "metrics.jsonl").touch()
    with pytest.raises(ValueError, match="not empty: add --resume"):
        open_run("pssl", config)
    again = parse("pssl", pssl.PRESETS, "", ["--out", str(tmp_path / "run"), "--resume"])
    open_run("pssl", again)
    other = parse(
        "pssl", pssl.PRESETS, "", ["--out", str(tmp_path / "run"), "--resume", "--seed", "1"]
    )
    with pytest.raises(ValueError, match="seed: was 0, now 1"):
        open_run("pssl", other)
    with pytest.raises(ValueError, match="experiment: was pssl, now twin"):
        open_run(
            "twin", parse("twin", twin.PRESETS, "", ["--out", str(tmp_path / "run"), "--resume"])
        )


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("chapter 1")
    config = parse("pssl", pssl.PRESETS, "", ["--out", str(tmp_path), "--resume"])
    with pytest.raises(ValueError, match="holds no run"):
        open_run("pssl", config)


def test_the_configuration_is_kept_with_versions_and_commit(tmp_path):
    open_run("pssl", parse("pssl", pssl.PRESETS, "", ["--out", str(tmp_path / "run")]))
    kept = json.loads((tmp_path / "run" / "config.json").read_text())
    assert kept["config"]["training"]["steps"] == pssl.PRESETS["default"].training.steps
    assert {"jax", "equinox", "diffrax"} <= kept["versions"].keys()
    assert kept["commit"] and kept["machine"]


def test_missing_data_and_missing_run_end_with_a_message(tmp_path):
    code, output = run("twin", "--run", str(tmp_path / "none"), "--out", str(tmp_path / "out"))
    assert code == 1
    assert "error: " in output and "no folder" in output
    assert "Traceback" not in output


def test_results_are_written_whole(tmp_path, monkeypatch):
    where = Run(tmp_path)
    where.json("results", {"a": 1})

    def full_disk(self, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="No space"):
        where.json("results", {"a": 2})
    assert json.loads((tmp_path / "results.json").read_text()) == {"a": 1}


def without_times(folder: Path) -> dict:
    def strip(node):
        if isinstance(node, dict):
            return {k: strip(v) for k, v in node.items() if "seconds" not in k}
        return node

    return strip(json.loads((folder / "results.json").read_text()))


@pytest.mark.slow
def test_killed_and_resumed_equals_unbroken_and_twins_tell_no_identity(tmp_path, run_in_one):
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    code, output = run_in_one("pssl", *MICRO, "--out", str(unbroken))
    assert code == 0, output
    for name in ("contact_sheet", "scatter", "learning", "parameters", "twin_real_clip"):
        assert (unbroken / f"{name}.png").stat().st_size > 10_000

    # Killed first in the middle of rendering, then of the encoder's training.
    for milestone in ("phantom/Videos/PHANTOM000003.avi", "encoder_state"):
        arguments = [*MICRO, "--out", str(killed), *(["--resume"] if killed.exists() else [])]
        process = start("pssl", *arguments)
        while not (killed / milestone).exists():
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (killed / "results.json").exists()
    code, output = run_in_one("pssl", *MICRO, "--out", str(killed), "--resume")
    assert code == 0, output
    assert without_times(killed) == without_times(unbroken)
    assert (killed / "metrics.jsonl").read_text() == (unbroken / "metrics.jsonl").read_text()

    secret = pydicom.dcmread(examples.get_path("ybr_color"))
    secret.PatientName, secret.PatientID = "Zebedee^Quentin", "ZQ-4711"
    secret.InstitutionName, secret.PatientBirthDate = "Zebedee Hospital", "19010203"
    path = tmp_path / "scan.dcm"
    secret.save_as(path)
    text = tmp_path / "not_a_video.avi"
    text.write_text("hello")
    out = tmp_path / "twin"
    code, output = run_in_one(
        "twin", str(path), str(text), "--run", str(unbroken), "--out", str(out)
    )
    assert code == 0, output
    assert "skipped not_a_video.avi" in output
    results = json.loads((out / "results.json").read_text())
    assert list(results["twins"]) == ["twin_scan"] and len(results["unreadable"]) == 1
    assert (out / "twin_scan.png").exists() and (out / "twin_scan.json").exists()
    everything = output.encode() + b"".join(
        file.read_bytes() for file in out.rglob("*") if file.is_file()
    )
    for tag in (b"Zebedee", b"Quentin", b"ZQ-4711", b"19010203"):
        assert tag not in everything


def test_recordings_of_one_name_and_of_a_run_s_own_files():
    paths = [Path(p) for p in ("a/x.avi", "b/x.avi", "x_1.avi", "A/X.avi", "config.avi")]
    names = names_of(paths)
    assert len({name.lower() for name in names}) == len(paths)
    assert all(name.startswith("twin_") for name in names)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--seed", "-1"], "--seed -1: expected 0"),
        (["--training.evaluate-every", "0"], "evaluate_every is 0: expected a positive"),
        (["--format.rate", "0"], "rate=0.0"),
    ],
    ids=["seed", "training", "format"],
)
def test_impossible_settings_are_refused_at_once(flags, words, capsys):
    with pytest.raises(SystemExit):
        parse("pssl", pssl.PRESETS, "", flags)
    assert words in capsys.readouterr().err
