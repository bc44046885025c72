"""Trial, sweep and figures of `experiments.lvad`."""

import functools
import time
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.lvad.settings import Config
from jaxtwin import plotting
from jaxtwin.cohorts.batching import map_patients
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.commands.run import Run
from jaxtwin.commands.trial import drawn_cohort, learnt_cohort, write_report
from jaxtwin.models.left_heart import LeftHeart
from jaxtwin.models.lvad import LVAD, PumpParameters
from jaxtwin.parameters import Box
from jaxtwin.physics.base import read
from jaxtwin.physics.record import record
from jaxtwin.training.progress import progress_bar
from jaxtwin.treatments import (
    AbstractIntervention,
    BelowSuction,
    FlatteningFlow,
    Nothing,
    Pump,
    Trial,
    ef_level,
    run_trial,
    suction_speed,
)

ENDPOINTS = ("output", "P_ao_mean", "EF", "stroke_work", "pulse_pressure", "valve_open")
SWEEP = np.arange(6_000.0, 18_001.0, 100.0)


def arm_at(speed: float) -> str:
    """Return the name of the arm with the pump at a given speed."""
    return f"{speed:,.0f} rpm"


class Loop(NamedTuple):
    """One patient's loop at equidistant phases."""

    V_lv: np.ndarray
    P_lv: np.ndarray


def beat(
    box: Box, intervention: AbstractIntervention, theta: Any
) -> tuple[Loop, dict[str, Any], Any]:
    """Return a patient's loop, endpoints, and whether the simulation succeeded."""
    treated, p = intervention(LeftHeart(), box.complete(theta))
    orbit = record(treated, p, steps=LVAD.steps)
    out = orbit.outputs
    return Loop(out.V_lv[:-1:2], out.P_lv[:-1:2]), read(treated, orbit), orbit.success


def one_of_reduced_ef(trial: Trial, law: str) -> int:
    """Return the patient with the median EF of those with reduced EF and a suction speed.

    Raises:
        ValueError: If there is no such patient.
    """
    EF = trial.arm("no pump")["EF"]
    reduced = np.flatnonzero((EF <= 40) & np.isfinite(trial.arm(law)["EF"]))
    if not len(reduced):
        raise ValueError(
            "no patient has an EF of 40% or less and suction at any speed: draw more patients, or "
            "use other twins"
        )
    return int(reduced[np.argsort(EF[reduced])[len(reduced) // 2]])


def draw_patient(cohort: Cohort, patient: int, margin: float) -> tuple[Figure, dict[str, Any]]:
    """Draw one patient's loops with and without the pump, and the sweep of the speed."""
    theta = np.asarray(cohort.theta[patient], np.float32)
    p = cohort.box.complete(jnp.asarray(theta))
    find = jax.jit(lambda p: suction_speed(LeftHeart(), p))
    law = jax.jit(lambda p: FlatteningFlow().choose(LeftHeart(), p, PumpParameters()))
    suction, controller = float(find(p).speed), float(law(p))
    rows = np.concatenate([SWEEP[:, None], np.repeat(theta[None], len(SWEEP), 0)], axis=1)

    def at(row):
        return beat(cohort.box, Pump(row[0]), row[1:])

    loops, found, converged = map_patients(at, rows.astype(np.float32))
    found = {name: np.where(converged, values, np.nan) for name, values in found.items()}
    bare = eqx.Partial(beat, cohort.box, Nothing())
    without, before, _ = jax.tree.map(lambda leaf: leaf[0], map_patients(bare, theta[None]))

    figure = Figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplots(2, 2)
    shown = {"no pump": without} | {
        arm_at(speed): jax.tree.map(lambda leaf, i=i: leaf[i], loops)
        for i, speed in enumerate(SWEEP)
        if speed in (8_000, 10_000, 12_000, 14_000)
    }
    plotting.loops(axes[0, 0], {name: tuple(loop) for name, loop in shown.items()})
    axes[0, 0].set_title(f"one patient, EF {before['EF']:.0f}% without the pump")
    for ax, names, label in (
        (axes[0, 1], ("output", "pump_flow", "pump_flow_min"), "flow [L/min]"),
        (axes[1, 0], ("P_ao_mean", "pulse_pressure", "P_la_mean"), "pressure [mmHg]"),
        (axes[1, 1], ("EF", "valve_open"), "EF [%], aortic valve open [% of the beat]"),
    ):
        lines = {n: found[n] * (100 if n == "valve_open" else 1) for n in names}
        marks = {
            "suction": suction,
            "chosen by the controller": controller,
            f"{100 * margin:.0f}% below suction": (1 - margin) * suction,
        }
        plotting.sweep(ax, SWEEP, lines, marks=marks, label=label)
    return figure, {"suction_speed": suction, "controller_speed": controller, "EF": before["EF"]}


def draw_cohort_figure(trial: Trial, speed: float) -> Figure:
    """Draw EF before and after by EF level, and each level's mean loops with and without pump."""
    arm = arm_at(speed)
    cohort, before, after = trial.cohort, trial.arm("no pump"), trial.arm(arm)
    level = np.asarray(ef_level(before))
    names = [name for name in ("reduced", "mildly reduced", "preserved") if np.any(level == name)]
    loops = {
        title: map_patients(
            eqx.Partial(beat, cohort.box, intervention),
            np.asarray(cohort.theta, np.float32),
        )
        for title, intervention in (("no pump", Nothing()), (arm, Pump(jnp.float32(speed))))
    }
    figure = Figure(figsize=(4 * (1 + len(names)), 4), layout="constrained")
    axes = figure.subplots(1, 1 + len(names))
    groups = {}
    for name in names:
        for words, values in (("no pump", before["EF"]), (arm, after["EF"])):
            chosen = values[level == name]
            groups[f"{name}, {words}"] = chosen[np.isfinite(chosen)]
    plotting.boxes(axes[0], groups, label="EF [%]", log=False)
    for ax, name in zip(axes[1:], names, strict=True):
        mean = {}
        for title, (loop, _, converged) in loops.items():
            inside = (level == name) & converged
            mean[title] = (loop.V_lv[inside].mean(axis=0), loop.P_lv[inside].mean(axis=0))
        plotting.loops(ax, mean)
        ax.set_title(f"EF {name}: mean loop of {np.sum(level == name)}", fontsize="medium")
    return figure


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Run the trial and draw the figures."""
    cohort = (
        drawn_cohort(config.patients, config.seed)
        if config.twins is None
        else learnt_cohort(config.twins)
    )
    law = f"{100 * config.margin:g}% below suction"
    arms: dict[str, AbstractIntervention] = {"no pump": Nothing()}
    arms |= {arm_at(speed): Pump(speed) for speed in config.speeds}
    arms[law] = Pump(BelowSuction(config.margin))
    began = time.monotonic()
    trial = run_trial(
        cohort,
        arms,
        folder=run.folder / "arms",
        progress=lambda arm: functools.partial(progress_bar, desc=arm, unit="chunk"),
    )
    seconds = time.monotonic() - began
    print(f"\n{write_report(run, trial, ENDPOINTS, 'no pump', config.seed)}")
    patient = one_of_reduced_ef(trial, law)
    figure, found = draw_patient(cohort, patient, config.margin)
    run.figure("patient", figure)
    run.figure("cohort", draw_cohort_figure(trial, config.speeds[len(config.speeds) // 2]))
    return {
        "source": cohort.source,
        "events": trial.events(),
        "trial_seconds_since_last_start": seconds,
        "patient": {name: float(value) for name, value in found.items()},
    }
