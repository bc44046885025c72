"""The code on every page runs from top to bottom, and the first page stays short."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGES = (
    "index",
    "concepts",
    "results",
    "add_a_model",
    "add_a_measurement",
    "add_a_method",
    "add_an_encoder",
    "add_an_intervention",
    "add_a_data_set",
)


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", (DOCS / f"{page}.md").read_text(), re.M | re.S)


@pytest.mark.parametrize(
    "page",
    [p if p == "add_a_model" else pytest.param(p, marks=pytest.mark.slow) for p in PAGES],
)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": page}
    for block in blocks(page):
        exec(compile(block, f"docs/{page}.md", "exec"), namespace)
    if page == "add_a_model":
        scores = namespace["scores"]
        assert scores["theta_R_o"].mean() < 0.05 and scores["theta_k"].mean() < 0.18  # nobody: 0.25
        assert scores["P_resimulated"].mean() < 0.5  # of the noise
        assert namespace["trial"].effects("ICP", control="none")[0].difference.high < -1.0


# Cohorts small enough for a test; nothing else is changed.
SMALLER = {"1_000_000": "2_000", "theta[:500]": "theta[:40]", "sample(4096": "sample(1024"}


@pytest.mark.slow
def test_the_code_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (DOCS.parent / "README.md").read_text()
    namespace = {"__name__": "readme"}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S):
        for large, small in SMALLER.items():
            block = block.replace(large, small)
        exec(compile(block, "README.md", "exec"), namespace)


def test_pages_with_code_are_all_run():
    assert {page.stem for page in DOCS.glob("*.md") if blocks(page.stem)} == set(PAGES)


def test_the_reference_is_of_modules_that_are_there():
    names = [
        name
        for page in (DOCS / "api").glob("*.md")
        for name in re.findall(r"^::: (\S+)", page.read_text(), re.M)
    ]
    assert len(names) > 40 and len(set(names)) == len(names)
    assert [name for name in names if find_spec(name) is None] == []


def test_from_a_class_to_twins_in_sixty_lines():
    code = "\n".join(blocks("add_a_model")[:4])
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith("#")]
    assert 40 < len(lines) < 60, len(lines)
