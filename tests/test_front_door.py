"""The public names: few, typed, loaded when first used."""

import importlib.metadata
import subprocess
import sys

import pytest

import jaxtwin as jt


def run(code):
    """Run Python in a process of its own; its output."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", [jt, jt.models, jt.data, jt.treatments])
def test_every_public_name_is_there(module):
    assert module.__all__ and sorted(module.__all__) == sorted(set(module.__all__))
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="no_such_name"):
        module.no_such_name  # noqa: B018


def test_a_name_of_a_module_beside_is_pointed_to():
    with pytest.raises(AttributeError, match=r"no LeftHeart: write jaxtwin.models.LeftHeart"):
        jt.LeftHeart  # noqa: B018  # pyright: ignore


def test_the_front_door_is_small():
    assert 30 <= len(jt.__all__) <= 60


def test_the_version_is_the_installed_one():
    assert jt.__version__ == importlib.metadata.version("jaxtwin")


def test_an_orbit_needs_no_heavy_library():
    """Each takes as long to import as the orbit to compute."""
    heavy = ("diffrax", "optimistix", "scipy.stats", "matplotlib", "pandas", "av")
    code = (
        "import sys, jaxtwin as jt; jt.periodic_orbit; jt.read; jt.record; jt.models.LeftHeart(); "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    assert run(code).strip() == "[]"


def test_importing_loads_nothing_heavy():
    heavy = ("jax", "equinox", "diffrax", "scipy", "matplotlib", "av", "pydicom", "orbax", "grain")
    code = f"import sys, jaxtwin; print([m for m in {heavy} if m in sys.modules])"
    assert run(code).strip() == "[]"


def test_a_method_of_curves_loads_no_reader_of_clips():
    readers = ("av", "pydicom", "imageio", "PIL", "SimpleITK", "matplotlib", "grain")
    code = (
        "import sys, jaxtwin as jt; jt.LeastSquares, jt.PINN, jt.CurvePSSL; "
        f"print([m for m in {readers} if m in sys.modules])"
    )
    assert run(code).strip() == "[]"
