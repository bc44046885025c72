"""The wheel is complete: built, installed in a fresh environment, and used for training."""

import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.experiments.commands import SMALL

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from the clone, as `pip install` of it would."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT]
    subprocess.run(build, check=True)
    (built,) = folder.glob("jaxtwin-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A fresh environment with the wheel in it, which borrows the dependencies of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"]
    subprocess.run([*install, wheel], check=True)
    # A path in a .pth file comes last, and .pth files there, an editable jaxtwin's, are not read.
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder


@pytest.fixture(scope="module")
def run(installed, tmp_path_factory):
    """Run a command of the environment, away from the clone."""
    away = tmp_path_factory.mktemp("away")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    cache = Path(tempfile.gettempdir()) / "jaxtwin-tests-experiments"
    environment = {
        **kept,
        # As of the tests of experiments, one of which trains alike.
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

    def run(command: str, *arguments: str, status: int = 0) -> str:
        got = subprocess.run(
            [installed / "bin" / command, *arguments],
            cwd=away,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert got.returncode == status, got.stdout + got.stderr
        return got.stdout + got.stderr

    return run


@pytest.mark.slow
def test_what_is_in_it(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "jaxtwin/py.typed" in names
    assert all(name.split("/")[0] in ("jaxtwin", wheel.name[:13] + ".dist-info") for name in names)
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "jaxtwin").rglob("*.py")}
    assert modules <= set(names)


@pytest.mark.slow
def test_trained_and_twins_built_away_from_the_clone(run, installed):
    place = run("python", "-c", "import jaxtwin; print(jaxtwin.__file__)")
    assert Path(place.strip()).is_relative_to(installed), place
    assert "no problems" in run("jaxtwin", "check", "jaxtwin.models.windkessel:Windkessel")
    code = "from pydicom import examples; print(examples.get_path('ybr_color'))"
    clip = run("python", "-c", code).strip()
    run("jaxtwin", "train", *SMALL, "--out", "trained")
    output = run("jaxtwin", "twin", clip, "--run", "trained", "--out", "twins")
    assert "twin_examples_ybr_color.json" in output
    # It shows less than two beats.
    assert "refused: no heartbeat is found" in output
    # A folder that is no run, and a clip that is not there.
    said = run("jaxtwin", "twin", clip, "--run", "twins", "--out", "no", status=2)
    assert "error: twins holds no finished training run" in said and "Traceback" not in said
    said = run("jaxtwin", "twin", "x.avi", "--run", "trained", "--out", "unread", status=2)
    assert "error: x.avi: no such file" in said and "Traceback" not in said
