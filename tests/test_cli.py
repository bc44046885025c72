"""The command `jaxtwin`: what it says, how it ends, and that help needs nothing heavy."""

import subprocess
import sys

import pytest

from jaxtwin.cli import main
from jaxtwin.commands.check import load_system
from jaxtwin.models.windkessel import Windkessel

HEAVY = ("jax", "scipy", "matplotlib", "equinox", "av", "pydicom", "grain", "orbax", "pandas")
COMMANDS = ("check", "phantoms")


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
    assert isinstance(load_system("my_model:ready"), Windkessel)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("Windkessel", "expected MODULE:CLASS"),
        ("nowhere_at_all:X", "no module 'nowhere_at_all': expected an installed one, or nowhere"),
        ("nothing.py:X", "nothing.py: no such file"),
        ("my_model:Sond", "no Sond in my_model: expected a subclass of AbstractSystem, and the"),
        ("my_model:Sond", "defines Sound, Broken, Slip, Sized"),
        ("my_model:Sized", "Sized needs size"),
        ("pathlib:Path", "Path of pathlib is no system"),
        ("broken:X", "importing broken raised ZeroDivisionError: division by zero (broken.py:2)"),
        ("my_model:Slip", "my_model:Slip raised AttributeError: 'WindkesselState' object has no"),
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
