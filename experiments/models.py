"""One road for every model: emulator, P-SSL on a curve, recovery of θ against the truth.

    python -m experiments.models --system lung [--preset tiny|default|full] [--out DIR]

Simulates the model over its box, trains an emulator and measures it; measures one curve with noise
on a cohort of simulated patients; learns an encoder through the frozen emulator from those curves
alone; and asks it for the parameters of unseen patients. Beside it stand a fit of the simulator to
each curve and the middle of the box. Everything is judged against the truth, re-simulated at the
parameters found: the measured curve, hidden outputs, what is read off them, and θ itself as a share
of the box. The figure shows three patients (best, median and worst by the re-simulated curve) and
every parameter as learnt against the truth.

`--system all` does one after the other, and ends with one table; models that are finished are kept
when it goes on with `--resume`. A model takes one to ten minutes on two CPU cores with the default
preset; tiny takes about one, and only shows that everything runs. After Kuang et al., NeurIPS 2024,
whose appendix lists other circuits and whose outlook names other organs.
"""

import dataclasses
import json
import time
from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from experiments.command import Run, RunConfig, main, origin
from experiments.tables import write_table
from jaxtwin import plotting
from jaxtwin.analysis.metrics import score_curves
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.draw import draw_splits
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.forward.learning import EMULATOR_TRAINING, learn_emulator
from jaxtwin.methods.base import AbstractCurveMethod, Curves, CurveTask, Estimate
from jaxtwin.methods.curves import CURVE_TRAINING
from jaxtwin.methods.least_squares import LeastSquares
from jaxtwin.methods.prior import BoxMiddle
from jaxtwin.methods.pssl import CurvePSSL
from jaxtwin.models.bjordalsbakke import SYSTEMIC, Bjordalsbakke
from jaxtwin.models.ferreira import NINE, Ferreira
from jaxtwin.models.four_chambers import BOTH_SIDES, FourChambers
from jaxtwin.models.glucose import TWIN, GlucoseTest
from jaxtwin.models.her import REGURGITANT, Her
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.models.lung import AIRWAY, Lung
from jaxtwin.models.stergiopulos import COUPLING, Stergiopulos
from jaxtwin.models.two_lungs import COMPARTMENTS, TwoLungs
from jaxtwin.models.windkessel import THREE_ELEMENTS, Windkessel
from jaxtwin.physics.check import check_system
from jaxtwin.training.loop import TrainingConfig

SystemName = Literal[
    "windkessel",
    "stergiopulos",
    "ferreira",
    "her",
    "bjordalsbakke",
    "left_heart",
    "four_chambers",
    "lung",
    "two_lungs",
    "glucose",
]
HEART = {"V_lv": "V_lv [mL]", "P_lv": "hidden P_lv [mmHg]", "P_ao": "hidden P_ao [mmHg]"}


@dataclasses.dataclass(frozen=True)
class Study:
    """What is measured of a model, and what is asked for.

    Attributes:
        task: The measurement.
        labels: Of the task's channels, for axes, with units.
        horizontal: Label of the time axis.
    """

    task: CurveTask
    labels: dict[str, str]
    horizontal: str = "phase of the beat"


def heart(system: Any, box: Any) -> Study:
    """A ventricle's volume curve with a noise of 3 mL; the heart period is known."""
    task = CurveTask(system, box, "V_lv", 0.2, ("P_lv", "P_ao"), known=("T_c",), noise=3.0)
    return Study(task, HEART)


STUDIES: dict[SystemName, Study] = {
    # Pressure scales with stroke volume: without a flow measured as well, R and C stay open.
    "windkessel": Study(
        CurveTask(
            Windkessel(),
            THREE_ELEMENTS,
            "P_ao",
            0.1,
            ("q_s",),
            known=("T_c", "T_e", "SV"),
            noise=1.0,
        ),
        {"P_ao": "P_ao [mmHg]", "q_s": "hidden q_s [mL/s]"},
    ),
    "stergiopulos": heart(Stergiopulos(), COUPLING),
    "ferreira": heart(Ferreira(), NINE),
    "her": heart(Her(), REGURGITANT),
    "bjordalsbakke": heart(Bjordalsbakke(), SYSTEMIC),
    "left_heart": heart(LeftHeart(), SEVEN),
    # An echo of the right ventricle; what a catheter would find is hidden.
    "four_chambers": Study(
        CurveTask(
            FourChambers(),
            BOTH_SIDES,
            "V_rv",
            0.2,
            ("P_pa", "P_rv", "V_lv"),
            known=("T_c",),
            noise=3.0,
        ),
        {
            "V_rv": "V_rv [mL]",
            "P_pa": "hidden P_pa [mmHg]",
            "P_rv": "hidden P_rv [mmHg]",
            "V_lv": "hidden V_lv [mL]",
        },
    ),
    "lung": Study(
        CurveTask(Lung(), AIRWAY, "q", 0.004, ("P_alv",), noise=0.02),
        {"q": "flow at the mouth [L/s]", "P_alv": "hidden P_alv [cmH2O]"},
        "phase of the breath",
    ),
    "two_lungs": Study(
        CurveTask(TwoLungs(), COMPARTMENTS, "q", 0.004, ("V_2", "P_2"), noise=0.02),
        {
            "q": "flow at the mouth [L/s]",
            "V_2": "hidden V_2 [L]",
            "P_2": "hidden P_2 [cmH2O]",
        },
        "phase of the breath",
    ),
    # A sample every six minutes; fasting values are measured before the test.
    "glucose": Study(
        CurveTask(
            GlucoseTest(), TWIN, "G", 0.5, ("I", "X"), samples=30, known=("G_b", "I_b"), noise=3.0
        ),
        {"G": "G [mg/dL]", "I": "hidden I [µU/mL]", "X": "hidden X [1/min]"},
        "share of the test's 180 min",
    ),
}
assert set(STUDIES) == set(get_args(SystemName))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Learn twins of any model from one of its curves.

    Attributes:
        system: Which model, or all of them.
        simulations: Simulated patients that the emulator learns from.
        unseen: Simulated patients that it is measured on.
        emulator: How the emulator is trained.
        cohort: Patients to learn from, to select by, and to be judged on.
        training: Of the encoder.
        starts: Of the fit through the simulator.
    """

    system: Literal[SystemName, "all"] = "left_heart"
    simulations: int = 16_384
    unseen: int = 4_096
    emulator: TrainingConfig = EMULATOR_TRAINING
    cohort: tuple[int, int, int] = (1_000, 100, 50)
    training: TrainingConfig = CURVE_TRAINING
    starts: int = 4

    def __post_init__(self):
        super().__post_init__()
        if min(self.cohort) < 3:
            raise ValueError(f"--cohort {self.cohort}: expected at least 3 patients for each part")


PRESETS = {
    "tiny": Config(
        preset="tiny",
        simulations=512,
        unseen=128,
        emulator=TrainingConfig(steps=100, batch_size=128, learning_rate=4e-3, evaluate_every=50),
        cohort=(32, 8, 4),
        training=TrainingConfig(steps=20, batch_size=16, learning_rate=5e-3, evaluate_every=10),
        starts=2,
    ),
    "default": Config(),
    "full": Config(preset="full", simulations=65_536, cohort=(10_000, 500, 500)),
}


def study(name: SystemName, config: Config, run: Run) -> dict[str, Any]:
    """All of it for one model; returns what goes into results.json."""
    task = STUDIES[name].task
    report = check_system(task.system)
    print(f"\n{report}")
    if report.problems:
        raise ValueError(f"{name}: mend what the report says first")
    emulator, errors = learn_emulator(
        run.folder,
        task.system,
        task.box,
        task.channels,
        phases=task.samples,
        simulations=config.simulations,
        unseen=config.unseen,
        training=config.emulator,
        seed=config.seed,
    )
    parts = draw_splits(
        task.system, task.box, config.cohort, seed=2**24 + config.seed, phases=task.samples
    )
    random = np.random.default_rng((config.seed, 1))
    training, validation, test = (task.measure(part, random) for part in parts)
    methods: dict[str, AbstractCurveMethod] = {
        "P-SSL (emulator)": CurvePSSL(emulator, config.training),
        "fit through the simulator": LeastSquares(starts=config.starts),
        "the middle of the box": BoxMiddle(),
    }
    rows = {}
    for title, method in methods.items():
        began = time.monotonic()
        learnt = method.learn(task, training, validation, folder=run.folder, seed=config.seed)
        estimate = learnt.estimate(test)
        seconds = time.monotonic() - began
        scores = score_curves(task, estimate, parts[2])
        rows[title] = {name: float(np.nanmean(values)) for name, values in scores.items()}
        rows[title] |= {
            "failed": int((~estimate.success).sum()),
            "patients": len(estimate.success),
            "seconds": seconds,
        }
        if isinstance(method, CurvePSSL):
            run.figure("twins", draw(STUDIES[name], estimate, test, parts[2]))
            rows[title]["rank_correlation"] = correlations(task, estimate, parts[2])
    return {"system": name, "rows": rows, "emulator": errors, "report": report.facts}


def correlations(task: CurveTask, estimate: Estimate, truth: Cohort) -> dict[str, float]:
    """Rank correlation of each learnt parameter with the truth."""
    theta, found = np.asarray(estimate.theta), {}
    for i, name in enumerate(task.box.names):
        if name not in task.known:
            found[name], _ = stats.spearmanr(theta[:, i], truth.theta[:, i])
    return {name: float(value) for name, value in found.items()}


def draw(study: Study, estimate: Estimate, test: Curves, truth: Cohort) -> Figure:
    """Three twins beside the patients they are of, and every parameter against the truth."""
    task = study.task
    theta = np.asarray(estimate.theta, np.float32)
    again = simulate_cohort(task.system, task.box, theta, phases=task.samples)
    true = getattr(truth.recording.waveforms, task.channel)
    error = np.sqrt(np.mean((getattr(again.recording.waveforms, task.channel) - true) ** 2, axis=1))
    order = np.argsort(np.where(again.success, error, np.inf))
    shown = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    free = [i for i, name in enumerate(task.box.names) if name not in task.known]
    rows = len(task.channels) + -(-len(free) // 3)
    figure = Figure(figsize=(11, 2.4 * rows), layout="constrained")
    axes = figure.subplots(rows, 3, squeeze=False)
    for column, (title, patient) in enumerate(shown.items()):
        for row, channel in enumerate(task.channels):
            ax = axes[row, column]
            plotting.curves(
                ax,
                np.arange(task.samples) / task.samples,
                {
                    "emulated": estimate.recording.waveforms[channel][patient],
                    "re-simulated": getattr(again.recording.waveforms, channel)[patient],
                },
                truth=getattr(truth.recording.waveforms, channel)[patient],
                dots=np.asarray(test.values)[patient] if row == 0 else None,
                label=study.labels[channel] if column == 0 else "",
            )
            ax.set_ylim(auto=True)
            ax.relim()
            ax.autoscale(axis="y")
        axes[0, column].set_title(f"{title} of {len(true)} unseen patients", fontsize="medium")
        axes[len(task.channels) - 1, column].set_xlabel(study.horizontal)
    axes[0, 0].legend(frameon=False, fontsize="small")
    places = list(axes[len(task.channels) :].flat)
    for ax, i in zip(places, free, strict=False):
        plotting.recovery(ax, task.box.specs[i], np.asarray(truth.theta)[:, i], theta[:, i])
    for ax in places[len(free) :]:
        ax.axis("off")
    return figure


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """One row a model and method: what is measured, hidden and asked for, re-simulated."""
    lines = [
        "| model | method | measured curve | hidden curves | θ [% of the box] | failed | s |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        study = STUDIES[result["system"]]
        for title, row in result["rows"].items():
            measured, *hidden = (
                f"{label.removeprefix('hidden ')}: {row[f'{channel}_resimulated']:.3g}"
                for channel, label in study.labels.items()
            )
            lines.append(
                f"| {result['system']} | {title} | {measured} | {', '.join(hidden)} "
                f"| {100 * row['theta']:.0f} | {row['failed']} | {row['seconds']:.0f} |"
            )
    lines += [
        "",
        "Means over unseen patients: root-mean-square error of each curve, re-simulated at the "
        "parameters found, against the truth without noise; θ over the parameters that are not "
        "known. Seconds: of training and all unseen patients, with compilation; the emulator's own "
        "come on top, once.",
    ]
    return "\n".join(lines)


def table(results: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """One row a model and method, by column."""
    columns: dict[str, list[Any]] = {}
    for result in results:
        task = STUDIES[result["system"]].task
        labels = STUDIES[result["system"]].labels
        for method, row in result["rows"].items():
            for name, value in {
                "system": result["system"],
                "method": method,
                "channel": labels[task.channel],
                "curve": row[f"{task.channel}_resimulated"],
                "hidden_channel": labels[task.hidden[0]].removeprefix("hidden "),
                "hidden": row[f"{task.hidden[0]}_resimulated"],
                "theta": 100 * row["theta"],
                "failed": row["failed"],
                "patients": row["patients"],
                "seconds": row["seconds"],
            }.items():
                columns.setdefault(name, []).append(value)
    return columns


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """One model, or all of them; those that an earlier call finished are kept."""
    names: tuple[SystemName, ...] = (
        get_args(SystemName) if config.system == "all" else (config.system,)
    )
    results = []
    for name in names:
        part = Run(run.folder / "cells" / name)
        part.folder.mkdir(parents=True, exist_ok=True)
        if not (part.folder / "result.json").exists():
            part.json("result", study(name, config, part) | origin())
            # Compiled programs pile up otherwise, until the system has no more memory maps to give.
            jax.clear_caches()
        results.append(json.loads((part.folder / "result.json").read_text()))
        run.written.append(part.folder / "twins.png")
    write_table(run.folder / "models.csv", table(results))
    shown = markdown(results)
    (run.folder / "models.md").write_text(shown + "\n")
    run.written += [run.folder / "models.csv", run.folder / "models.md"]
    print(f"\n{shown}")
    return {"models": [result["system"] for result in results]}


if __name__ == "__main__":
    main("models", PRESETS, experiment, __doc__)
