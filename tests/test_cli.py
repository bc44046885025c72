"""The command `jaxtwin`: messages, exit statuses, and help without heavy imports."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from jaxtwin.cli import main, parse
from jaxtwin.commands.check import load_system
from jaxtwin.commands.settings import PSSL_PRESETS, PSSLConfig, TwinConfig
from jaxtwin.commands.twin import read_vitals
from jaxtwin.models.windkessel import Windkessel

HEAVY = ("jax", "scipy", "matplotlib", "equinox", "av", "pydicom", "grain", "orbax", "pandas")
COMMANDS = ("train", "twin", "trial", "check", "phantoms")


def ends(*arguments: str) -> int:
    """The exit status."""
    try:
        main(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def one_line(capsys):
    """Run what must fail; its message."""

    def run(*arguments: str) -> str:
        assert ends(*arguments) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1, said
        return said

    return run


def test_help_imports_nothing_heavy():
    """In one fresh process: help of the command, and of each of its commands."""
    code = f"""
import contextlib, io, sys
from jaxtwin.cli import main
for arguments in (["--help"], *([name, "--help"] for name in {COMMANDS!r})):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main(arguments)
    assert "usage: jaxtwin" in said.getvalue(), said.getvalue()
print(*[name for name in {HEAVY!r} if name in sys.modules])
"""
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert got.stdout.split() == []


def test_help_of_experiments_imports_nothing_heavy():
    root = Path(__file__).parents[1]
    found = {p.stem for p in (root / "experiments").glob("[a-z]*.py")}
    found |= {p.parent.name for p in (root / "experiments").glob("*/__main__.py")}
    names = sorted(found - {"command", "report"})
    assert {"pssl", "methods", "lvad", "parameters"} <= set(names)
    code = f"""
import contextlib, io, runpy, sys
sys.argv = ["x", "--help"]
for name in {names!r}:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        runpy.run_module("experiments." + name, run_name="__main__", alter_sys=True)
    assert "usage: python -m experiments." + name in said.getvalue(), said.getvalue()
print(*[name for name in {HEAVY!r} if name in sys.modules])
"""
    got = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert got.stdout.split() == []


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory for modules of one's own; none of them stays imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


MODEL = """
from jaxtwin.models.windkessel import Windkessel
class Sound(Windkessel):
    pass
class Broken(Windkessel):
    def vector_field(self, t, state, p):
        return state if state.P > 0 else Windkessel.vector_field(self, t, state, p)
class Slip(Windkessel):
    def vector_field(self, t, state, p):
        return state.Q
class Unmade(Windkessel):
    def __check_init__(self):
        self.parameters(C_qm=1.0)
class Sized(Windkessel):
    size: int
ready = Sized(3)
"""


def test_a_system_is_checked(here, capsys):
    (here / "my_model.py").write_text(MODEL)
    assert ends("check", "jaxtwin.models.windkessel:Windkessel") == 0
    assert capsys.readouterr().out.startswith("Windkessel: no problems")
    assert ends("check", "my_model:Sound") == 0
    assert ends("check", "my_model.py:Broken") == 1
    assert "✗" in capsys.readouterr().out
    assert ends("check", "my_model:Slip") == 1
    assert (
        "'WindkesselState' object has no attribute 'Q' (my_model.py:10)" in capsys.readouterr().out
    )
    assert isinstance(load_system("my_model:ready"), Windkessel)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("Windkessel", "expected MODULE:CLASS"),
        ("nowhere_at_all:X", "no module 'nowhere_at_all': expected an installed one, or nowhere"),
        ("nothing.py:X", "nothing.py: no such file"),
        ("my_model:Sond", "no Sond in my_model: expected a subclass of AbstractSystem, and the"),
        ("my_model:Sond", "defines Sound, Broken, Slip, Unmade, Sized"),
        ("my_model:Sized", "Sized needs size"),
        ("pathlib:Path", "Path of pathlib is no system"),
        ("broken:X", "importing broken raised ZeroDivisionError: division by zero (broken.py:2)"),
        ("my_model:Unmade", "has no parameter 'C_qm'"),
        ("my_model:Unmade", "(my_model.py:13)"),
        ("needy:X", "importing needy raised ModuleNotFoundError: No module named 'absent'"),
    ],
)
def test_what_cannot_be_checked_is_said(here, place, words, one_line):
    (here / "my_model.py").write_text(MODEL)
    (here / "broken.py").write_text("\n1 / 0")
    (here / "needy.py").write_text("import absent")
    assert words in one_line("check", place)


def test_phantoms_do_not_overwrite(tmp_path, one_line):
    (tmp_path / "FileList.csv").touch()
    assert "already holds a data set" in one_line("phantoms", "--out", str(tmp_path))
    assert "is a file" in one_line("phantoms", "--out", str(tmp_path / "FileList.csv"))


def test_flags_start_from_the_preset():
    config = parse(["train", "--preset", "tiny", "--training.steps", "5", "--clips", "9", "1", "1"])
    assert isinstance(config, PSSLConfig)
    assert config.emulator == PSSL_PRESETS["tiny"].emulator
    assert (config.training.steps, config.clips.counts) == (5, (9, 1, 1))
    config = parse(["twin", "a.avi", "b.dcm", "--run", "x", "--period", "0.8"])
    assert isinstance(config, TwinConfig)
    assert [path.name for path in config.clips] == ["a.avi", "b.dcm"] and config.period == 0.8


def test_devices_divide_every_batch(monkeypatch):
    monkeypatch.setattr("jaxtwin.devices.first_devices", lambda number: None)
    for preset in PSSL_PRESETS:
        parse(["train", "--preset", preset, "--devices", "2"]).check_inputs()
    with pytest.raises(ValueError, match=r"--devices 3 and --emulator\.batch-size 128"):
        parse(["train", "--preset", "tiny", "--devices", "3"]).check_inputs()


def test_slips_end_in_one_line(tmp_path, one_line):
    out = str(tmp_path / "out")
    (tmp_path / "unfinished").mkdir()
    assert "holds no finished training run" in one_line(
        "twin", "a.avi", "--run", str(tmp_path / "unfinished"), "--out", str(tmp_path / "late")
    )
    none = str(tmp_path / "none")
    assert f"no folder {none}: give" in one_line("twin", "a.avi", "--run", none, "--out", out)
    assert "no recording: give one or more files, or `example`" in one_line("twin", "--out", out)
    assert "there is no run in" in one_line("train", "--resume", "--out", str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    missing = tmp_path / "trial.toml"
    assert f"no file {missing}: expected" in one_line("trial", str(missing), "--out", out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    assert "holds no run of pssl" in one_line("train", "--out", str(tmp_path / "mine"))
    data = str(tmp_path / "no")
    assert f"no folder {data}" in one_line("train", "--data", data, "--out", out)
    assert "99 devices: expected 1 to" in one_line("train", "--devices", "99", "--out", out)
    assert "--simulations -5: expected at least 1" in one_line(
        "train", "--simulations", "-5", "--out", out
    )
    # What is wrong about the inputs is said before there is a folder.
    assert not Path(out).exists()
    assert ends("train", "--prset", "tiny") == ends("nonsense") == 2


def test_a_folder_with_other_settings_is_told_in_one_line(tmp_path, one_line):
    (tmp_path / "config.json").write_text(json.dumps({"config": {"experiment": "pssl", "seed": 1}}))
    (tmp_path / "metrics.jsonl").touch()
    said = one_line("train", "--out", str(tmp_path), "--resume")
    assert "holds a run with other settings" in said and "seed: was 1, now 0" in said


def test_vitals_are_those_that_the_model_needs(capsys):
    needs = ("period", "systolic")
    vitals = read_vitals(TwinConfig(period=0.8, systolic=120.0), needs)
    assert vitals[:2] == (0.8, 120) and math.isnan(vitals.diastolic)
    with pytest.raises(ValueError, match="needs --systolic"):
        read_vitals(TwinConfig(period=0.8), needs)
    with pytest.raises(ValueError, match=r"--period 800: expected 0\.2 to 3"):
        read_vitals(TwinConfig(period=800.0, systolic=120.0), needs)
    assert capsys.readouterr().out == ""
    assert all(map(math.isnan, read_vitals(TwinConfig(diastolic=80.0), ())))
    assert "--diastolic makes no difference" in capsys.readouterr().out
    with pytest.raises(ValueError, match="a systolic pressure above"):
        read_vitals(TwinConfig(systolic=80.0, diastolic=120.0), (), ("systolic", "diastolic"))
    taken = read_vitals(TwinConfig(period=0.8, systolic=120.0), (), ("systolic", "diastolic"))
    assert taken.systolic == 120 and all(map(math.isnan, (taken.period, taken.diastolic)))
    assert capsys.readouterr().out.startswith("--period makes no difference")
