"""The tutorials: notebooks that run from top to bottom, and are committed without outputs."""

import re
from pathlib import Path

import jax
import nbformat
import pytest

import jaxtwin as jt

FOLDER = Path(__file__).parent.parent / "docs" / "tutorials"
NAMES = ("first_twin", "how_sure", "your_own_model", "trial")
# Readers are shown warnings, here each is an error. ipykernel has one of its own.
STRICT = """
import warnings

warnings.simplefilter("error")
warnings.simplefilter("ignore", PendingDeprecationWarning)
"""


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code(name):
    return "\n".join(cell.source for cell in read(name).cells if cell.cell_type == "code")


def test_all_tutorials_are_tested():
    assert {path.stem for path in FOLDER.iterdir() if path.suffix} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_tutorial_is_committed_without_outputs(name):
    notebook = read(name)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.metadata, cell.source
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, cell.source


@pytest.mark.parametrize("name", NAMES)
def test_a_tutorial_speaks_of_no_machine(name):
    text = (FOLDER / f"{name}.ipynb").read_text()
    assert not re.findall(r"(?:[\s\"'=(]|file:/*)/[a-z]+/|[A-Z]:\\\\|/(?:home|Users|tmp)/", text)
    assert set(read(name).metadata) == {"kernelspec", "language_info"}


@pytest.mark.parametrize("name", NAMES)
def test_a_tutorial_uses_public_names_alone(name):
    text = code(name)
    assert re.findall(r"^ *(?:from|import) jaxtwin.*", text, re.M) == ["import jaxtwin as jt"]
    used = re.findall(r"\bjt\.(\w+)(?:\.(\w+))?", text)
    assert len(used) > 10
    for first, second in used:
        found = getattr(jt, first)
        if first in ("data", "inference", "methods", "models", "plotting", "treatments"):
            assert hasattr(found, second), f"jt.{first}.{second}"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_tutorial_runs(name, tmp_path, monkeypatch):
    from nbclient import NotebookClient

    cache = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", cache)
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    notebook = read(name)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(STRICT))
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=1800, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    figures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(figures) >= 3
    said = "".join(output.text for output in outputs if output.get("name") == "stderr")
    assert "Warning" not in said, said
