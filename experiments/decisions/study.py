"""Study of `experiments.decisions`."""

import time
from typing import Any

import numpy as np

from experiments.decisions.cells import Case, of_clips, of_curves
from experiments.decisions.figures import draw_figures
from experiments.decisions.scores import areas, cost_rows, reliabilities, reliability_rows
from experiments.decisions.settings import Config
from experiments.decisions.table import markdown
from experiments.detection.curves import EXACT
from experiments.detection.scores import MARKED
from jaxtwin.analysis.reliability import Reliability
from jaxtwin.commands.emulator import obtain_emulator
from jaxtwin.commands.run import Run
from jaxtwin.commands.tables import write_table
from jaxtwin.models.left_heart import EIGHT


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Learn twins and posteriors, and write tables and figures."""
    began = time.monotonic()
    emulator, errors = obtain_emulator(run.folder, EIGHT, config.emulator, seed=config.seed)
    cases: dict[str, Case] = {}
    for variant in EXACT:
        cases[variant] = of_curves(run, variant, emulator, config)
    if config.run is not None:
        cases["segmented curve"] = of_clips(run, config)
    tables = {
        "areas": areas(cases),
        "reliability": reliability_rows(cases),
        "decisions": cost_rows(cases, config.costs),
    }
    for name, rows in tables.items():
        write_table(run.folder / f"{name}.csv", {key: [r[key] for r in rows] for key in rows[0]})
        run.written.append(run.folder / f"{name}.csv")
    text = markdown(tables["areas"], tables["reliability"], tables["decisions"])
    (run.folder / "decisions.md").write_text(text + "\n")
    run.written.append(run.folder / "decisions.md")
    draw_figures(run, cases)
    print(text)
    return {
        "emulator": errors,
        **tables,
        "reliability_diagrams": {
            name: {
                disease.name: {
                    kind: [_told(one) for one in found]
                    for kind, found in reliabilities(case, i).items()
                }
                for i, disease in enumerate(MARKED)
            }
            for name, case in cases.items()
        },
        "prior_share": {
            name: dict(zip((d.name for d in MARKED), case.before, strict=True))
            for name, case in cases.items()
        },
        "seconds_since_last_start": time.monotonic() - began,
    }


def _told(found: Reliability) -> dict[str, Any]:
    """Return a diagram as a JSON value, with None in empty bins."""
    told: dict[str, Any] = {}
    for name, value in found._asdict().items():
        if isinstance(value, np.ndarray):
            value = [None if x != x else x for x in value.tolist()]
        told[name] = value
    return told
