"""The code on every page runs from top to bottom, and the first page stays short."""

import json
import re
import runpy
from importlib.util import find_spec
from pathlib import Path

import pytest

import jaxtwin as jt
from jaxtwin.cli import parse
from jaxtwin.treatments.trial_file import read_arms, read_trial

DOCS = Path(__file__).parent.parent / "docs"
PAGES = (
    "index",
    "concepts",
    "results",
    "how_sure",
    "scale",
    "add_a_model",
    "add_a_measurement",
    "add_a_method",
    "add_an_encoder",
    "add_an_intervention",
    "add_a_data_set",
    "bring_a_published_model",
)


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", (DOCS / f"{page}.md").read_text(), re.M | re.S)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": page}
    for block in blocks(page):
        exec(compile(block, f"docs/{page}.md", "exec"), namespace)
    if page == "add_a_model":
        assert namespace["report"].problems == []
        scores = namespace["scores"]
        assert scores["theta_R_o"].mean() < 0.05 and scores["theta_k"].mean() < 0.18  # nobody: 0.25
        assert scores["P_resimulated"].mean() < 0.5  # of the noise
        assert namespace["trial"].effects("ICP", control="none")[0].difference.high < -1.0
    if page == "how_sure":
        told = namespace["told"]
        assert dict(zip(told.names, told.bits, strict=True))["S_I"] > 1.5
        assert namespace["effect"].difference.high < 0 and namespace["effect"].failed == 0
        assert namespace["choice"].safe is not None
    if page == "bring_a_published_model":
        scores = namespace["scores"]
        assert scores["theta_k_a"].mean() < 0.08 and scores["theta_CL"].mean() < 0.03


# Cohorts small enough for a test; nothing else is changed.
SMALLER = {"1_000_000": "2_000", "heart, box, 500": "heart, box, 40", "sample(4096": "sample(1024"}


@pytest.mark.slow
def test_the_code_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (DOCS.parent / "README.md").read_text()
    namespace = {"__name__": "readme"}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S):
        for large, small in SMALLER.items():
            block = block.replace(large, small)
        exec(compile(block, "README.md", "exec"), namespace)
    assert all(large in text for large in SMALLER)


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


def test_every_public_name_is_in_the_reference():
    hooks = runpy.run_path(str(DOCS / "hooks.py"))
    modules = {
        name
        for page in (DOCS / "api").glob("*.md")
        for name in re.findall(r"^::: (\S+)", page.read_text(), re.M)
    }
    shown = {}
    for package, (folder, _) in hooks["PACKAGES"].items():
        found = list(hooks["public_names"](folder))
        shown[package] = {name.name for name in found}
        assert [name.name for name in found if name.module and name.module not in modules] == []
        assert [name.name for name in found if not name.meaning] == []
    for package, names in shown.items():
        module = jt if package == "jt" else getattr(jt, package.removeprefix("jt."))
        assert names == set(vars(module)["__all__"])
    assert hooks["MARKER"] in (DOCS / "api" / "names.md").read_text()


# Pages for those who use jaxtwin; the others are for those who extend it.
FOR_USERS = (
    "README.md",
    *(f"docs/{page}.md" for page in ("index", "concepts", "models", "results", "command_line")),
    "docs/add_a_model.md",
    "docs/add_a_measurement.md",
    "docs/add_a_data_set.md",
    "docs/add_an_intervention.md",
    *(f"docs/tutorials/{path.name}" for path in (DOCS / "tutorials").glob("*.ipynb")),
)


@pytest.mark.parametrize("page", FOR_USERS)
def test_pages_for_users_need_no_deep_import(page):
    text = (DOCS.parent / page).read_text()
    if page.endswith(".ipynb"):
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert re.findall(r"^\s*(?:from jaxtwin\b.*|import jaxtwin\.\w.*)", text, re.M) == []


def test_a_first_beat_is_four_lines():
    for page in (DOCS / "index.md", DOCS.parent / "README.md"):
        first = re.search(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
        assert first is not None
        lines = [line for line in first[1].splitlines() if line.strip()]
        assert len(lines) <= 4 and lines[0] == "import jaxtwin as jt"


def test_from_a_class_to_twins_in_sixty_lines():
    model, _, _, cohorts, learning = blocks("add_a_model")[:5]
    code = "\n".join((model, cohorts, learning))
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith("#")]
    assert 40 < len(lines) <= 60, len(lines)


def commands(start):
    """The commands in the README and the pages that begin with these words."""
    pages = [DOCS.parent / "README.md", *DOCS.glob("*.md")]
    text = "\n".join(page.read_text() for page in pages)
    found = re.findall(rf"(?:^|`|&& ){start} ([^`#\n]+)", text, re.M)
    return sorted({line.strip() for line in found})


def test_commands_of_the_pages_are_understood():
    known = {"train", "twin", "trial", "check", "phantoms"}
    lines = [line for line in commands("jaxtwin") if line.split()[0] in known]
    assert {line.split()[0] for line in lines} == known
    for line in lines:
        parse(line.split())


def test_experiments_of_the_pages_are_there():
    modules = {line.split()[0] for line in commands("python -m")} - {"experiments.NAME"}
    assert len(modules) > 10
    assert [module for module in modules if find_spec(module) is None] == []


def test_the_trial_of_the_command_line_page_can_be_read(tmp_path):
    (described,) = re.findall(
        r"^```toml\n(.*?)^```", (DOCS / "command_line.md").read_text(), re.M | re.S
    )
    (tmp_path / "trial.toml").write_text(described)
    trial = read_trial(tmp_path / "trial.toml")
    assert set(read_arms(trial)) == {"no pump", "9,000 rpm", "vasodilator, 9,000 rpm"}
    assert trial["analysis"]["control"] == "no pump"
