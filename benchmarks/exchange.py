"""Models of others: which files are read, and whether they are solved as their authors say.

    pip install "jaxtwin[sbml,cellml]"
    python -m benchmarks.exchange --sbml DIR                  # two minutes
    python -m benchmarks.exchange --cellml DIR [--json FILE]  # some minutes

- --sbml: a checkout of the SBML test suite (github.com/sbmlteam/sbml-test-suite), or its folder
  `cases/semantic`. Of every case the document of the highest level and version is read. Its
  equations are integrated by LSODA (SciPy, 1e-10, float64), so that the errors are those of
  reading, and compared with the case's results at its times: an error of 1 is its tolerance,
  absolute plus relative.
- --cellml: a folder with CellML files, such as those of the Physiome repository. There are no
  results to compare with: `finite` says whether the rates at the beginning are numbers.

What is declined is counted by construct.
"""

import argparse
import csv
import json
import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import odeint

from benchmarks.markdown import table
from jaxtwin.commands.run import origin
from jaxtwin.exchange.equations import python_names
from jaxtwin.exchange.errors import Declined, ModelFileError, UnsupportedModelError
from jaxtwin.exchange.load import load_model

LEVELS = ("l3v2", "l3v1", "l2v5", "l2v4", "l2v3", "l2v2", "l2v1", "l1v2")


def settings(path: Path) -> dict[str, str]:
    """Return the settings of a case."""
    pairs = (line.partition(":") for line in path.read_text().splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def listed(text: str) -> list[str]:
    """Return the names in a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def solved(system: Any, times: np.ndarray) -> dict[str, np.ndarray]:
    """Return outputs and constants of a system at some times, by name."""
    p = system.parameters()
    start, tree = jax.tree.flatten(system.initial_state(p))

    @jax.jit
    def rates(t: Any, y: Any) -> Any:
        state = jax.tree.unflatten(tree, list(y))
        return jnp.stack(jax.tree.leaves(system.vector_field(t, state, p)))

    end = times[-1]
    jumps = sorted({float(t) for t in system.discontinuities(p) if 0 < t < end})
    y, begins = np.array([float(leaf) for leaf in start]), 0.0
    states = {}
    for ends in (*jumps, end):
        grid = np.unique([begins, *times[(times >= begins) & (times <= ends)], ends])
        inside = 1e-13 * max(ends, 1)

        def of(
            t: float, y: np.ndarray, a: float = begins + inside, b: float = ends - inside
        ) -> Any:
            return np.asarray(rates(min(max(t, a), b), y))

        if ends > begins:
            found = odeint(of, y, grid, tfirst=True, rtol=1e-10, atol=1e-14, mxstep=100_000)
        else:
            found = y[None]
        states |= dict(zip(grid, found, strict=True))
        y, begins = found[-1], ends
    table_of = jnp.asarray([states[t] for t in times])
    outputs = jax.vmap(lambda t, y: system.outputs(t, jax.tree.unflatten(tree, list(y)), p))
    constant = {
        name: np.full(len(times), float(value)) for name, value in system.constants(p).items()
    }
    return constant | {n: np.asarray(x) for n, x in outputs(times, table_of)._asdict().items()}


def worst_error(folder: Path, document: Path) -> float:
    """Return the largest error of a case, in tolerances."""
    import libsbml

    told = settings(next(folder.glob("*-settings.txt")))
    with next(folder.glob("*-results.csv")).open() as file:
        head, *rows = (row for row in csv.reader(file) if row)
    expected = np.array(rows, float)
    names = [name.strip() for name in head][1:]
    system = load_model(document, duration=float(told["duration"] or 0) or 1.0)
    found = solved(system, expected[:, 0])
    model = libsbml.readSBMLFromFile(str(document)).getModel()
    worst = 0.0
    for variable in listed(told["variables"]):
        right = expected[:, 1 + names.index(variable)]
        # A parameter whose value is not a number is none of the system's.
        got = found.get(python_names([variable])[variable], np.full(len(right), np.nan))
        species = model.getSpecies(variable)
        if species is not None:
            compartment = model.getCompartment(species.getCompartment())
            volume = found.get(compartment.getId(), 1.0)
            amount = species.getHasOnlySubstanceUnits() or compartment.getSpatialDimensions() == 0
            if variable in listed(told["amount"]) and not amount:
                got = got * volume
            elif variable in listed(told["concentration"]) and amount:
                got = got / volume
        allowed = float(told["absolute"]) + float(told["relative"]) * np.abs(right)
        same = (got == right) | (np.isnan(got) & np.isnan(right))
        error = np.where(same, 0.0, np.abs(got - right) / allowed)
        worst = max(worst, float(np.nan_to_num(error, nan=np.inf).max()))
    return worst


def construct(one: Declined) -> str:
    """Return what is declined, without names of the model."""
    if one.construct == "event":
        _, _, rest = one.reason.partition(" ")
        return f"event: {one.reason if one.reason.startswith(('its', 'has')) else rest}"
    if one.construct == "model":  # What libCellML says; names are in quotation marks.
        return "model: " + re.sub(r"'[^']*'", "…", one.reason)[:80]
    where = one.where if one.construct == "function" else ""
    return f"{one.construct} {where}".strip()


def sbml(folder: Path) -> list[dict[str, Any]]:
    """Return a row for every case of the suite."""
    if (folder / "cases" / "semantic").is_dir():
        folder = folder / "cases" / "semantic"
    rows = []
    for case in sorted(path for path in folder.iterdir() if path.is_dir()):
        documents = [case / f"{case.name}-sbml-{level}.xml" for level in LEVELS]
        document = next((path for path in documents if path.exists()), None)
        if document is None:
            continue
        row: dict[str, Any] = {"file": document.name, "loaded": True, "declined": [], "error": None}
        try:
            row["error"] = worst_error(case, document)
        except UnsupportedModelError as error:
            row |= {"loaded": False, "declined": [str(one) for one in error.declined]}
            row["constructs"] = sorted({construct(one) for one in error.declined})
        except ModelFileError as error:
            row |= {"loaded": False, "declined": [str(error)], "constructs": ["damaged file"]}
        rows.append(row)
    if not rows:
        raise ValueError(f"no case of the SBML test suite in {folder}")
    return rows


def cellml(folder: Path) -> list[dict[str, Any]]:
    """Return a row for every CellML file in a folder and those in it."""
    rows = []
    for path in sorted(folder.rglob("*.cellml")):
        row: dict[str, Any] = {
            "file": str(path.relative_to(folder)),
            "loaded": True,
            "declined": [],
        }
        try:
            system = load_model(path, duration=1.0)
            p = system.parameters()
            rates = system.vector_field(jnp.zeros(()), system.initial_state(p), p)
            row["finite"] = bool(np.isfinite(np.array(jax.tree.leaves(rates), float)).all())
        except UnsupportedModelError as error:
            row |= {"loaded": False, "declined": [str(one) for one in error.declined]}
            row["constructs"] = sorted({construct(one) for one in error.declined})
        except ModelFileError as error:
            what = "import that is not beside it" if "beside" in str(error) else "damaged file"
            row |= {"loaded": False, "declined": [str(error)], "constructs": [what]}
        rows.append(row)
    if not rows:
        raise ValueError(f"no CellML file in {folder}")
    return rows


def said(rows: list[dict[str, Any]]) -> str:
    """Return a table of what was declined."""
    counts = Counter(one for row in rows for one in row.get("constructs", ()))
    some = [{"construct": what, "files": n} for what, n in counts.most_common(25)]
    return table(some) if some else "nothing was declined"


def main() -> None:
    """Read every file and print the counts."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.exchange",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sbml", type=Path, help="folder of the SBML test suite")
    parser.add_argument("--cellml", type=Path, help="folder with CellML files")
    parser.add_argument("--json", type=Path, help="also write a row for each file")
    given = parser.parse_args()
    if not (given.sbml or given.cellml):
        parser.error("expected --sbml DIR, --cellml DIR or both")
    jax.config.update("jax_enable_x64", True)
    warnings.simplefilter("ignore")
    found: dict[str, Any] = {}
    print(json.dumps(origin()))
    if given.sbml:
        rows = found["sbml"] = sbml(given.sbml)
        loaded = [row for row in rows if row["loaded"]]
        right = [row for row in loaded if row["error"] <= 1]
        print(
            f"{len(rows)} cases, {len(loaded)} loaded, {len(right)} of these within their tolerance"
        )
        for row in loaded:
            if row["error"] > 1:
                print(f"  {row['file']}: {row['error']:.3g} tolerances")
        print("", said(rows), sep="\n")
    if given.cellml:
        rows = found["cellml"] = cellml(given.cellml)
        loaded = [row for row in rows if row["loaded"]]
        finite = [row for row in loaded if row["finite"]]
        print(
            f"{len(rows)} CellML files, {len(loaded)} loaded, {len(finite)} of these with rates "
            "that are finite"
        )
        print("", said(rows), sep="\n")
    if given.json:
        given.json.write_text(json.dumps({**found, **origin()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
