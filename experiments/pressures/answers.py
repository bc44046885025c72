"""Methods of `experiments.pressures`: how each learns, and the numbers that it gives."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from experiments.pressures.patients import Laboratory, measure, without_curve
from experiments.pressures.settings import Config
from jaxtwin.forward.base import AbstractForward
from jaxtwin.inference.neural import NeuralPosterior
from jaxtwin.inference.observing import AbstractObservation, TaskObservation, observe
from jaxtwin.methods.base import Learnt
from jaxtwin.methods.least_squares import LeastSquares
from jaxtwin.methods.measured import Curves
from jaxtwin.methods.pressure_template import PressureTemplate, cuff_elastance
from jaxtwin.methods.pssl_curves import CurvePSSL
from jaxtwin.methods.tasks import CurveTask, OutOfModelWarning

METHODS = {
    "template": "template scaled by the cuff",
    "fit": "fit through the simulator",
    "pssl": "P-SSL (emulator)",
    "posterior": "neural posterior, median",
}
READINGS = ("stroke_work", "P_lv_max", "output")
QUANTILES = (0.05, 0.5, 0.95)

Numbers = Mapping[str, Float[np.ndarray, " patient"]]


class Answer(NamedTuple):
    """Estimates of some patients.

    Attributes:
        values: Estimate of each number, by name; NaN where there is none.
        low: Lower end of the central 90%, of methods that give a distribution.
        high: Upper end of the central 90%.
        E_max: Draws of E_max, of methods that give a distribution, [patient, draw].
    """

    values: Numbers
    low: Numbers
    high: Numbers
    E_max: Float[np.ndarray, "patient draw"] | None = None

    def take(self, index: Any) -> "Answer":
        """Select patients by an index array, a slice or a mask."""

        def some(numbers: Numbers) -> Numbers:
            return {name: x[index] for name, x in numbers.items()}

        E_max = None if self.E_max is None else self.E_max[index]
        return Answer(some(self.values), some(self.low), some(self.high), E_max)


class WithoutCurve(AbstractObservation):
    """Patients of the task's prior, whose curve is never measured."""

    def patients(self, task: CurveTask, n: int, *, seed: int) -> Float[np.ndarray, "patient free"]:
        """See `TaskObservation`."""
        return TaskObservation().patients(task, n, seed=seed)

    def __call__(self, task: CurveTask, exact: Any, known: Any, key: Any) -> tuple[Any, Any]:
        """Return what is measured beside the curve, as the task says."""
        return observe(task, exact, key).at[: task.samples].set(jnp.nan), known


def learn(
    name: str,
    task: CurveTask,
    patients: tuple[Laboratory, Laboratory],
    config: Config,
    folder: Path,
    emulator: Callable[[], AbstractForward],
) -> Learnt[CurveTask, Curves]:
    """Learn a task from patients at rest and under dobutamine.

    Args:
        name: Key of `METHODS`, or "without curve".
        task: The task.
        patients: Patients to learn from, and to select by.
        config: Settings.
        folder: Folder for checkpoints.
        emulator: Function that gives the emulator.
    """
    training = validation = None
    if name == "template":
        method: Any = PressureTemplate(patients=config.bank)
    elif name == "posterior":
        method = NeuralPosterior(config=config.posterior, patients=config.bank + 2_048)
    elif name == "without curve":
        task = without_curve(task)
        method = NeuralPosterior(
            config=config.posterior, patients=config.bank + 2_048, observation=WithoutCurve()
        )
    elif name == "fit":
        method = LeastSquares(starts=config.starts, iterations=config.iterations)
    else:
        method = CurvePSSL(emulator(), config.training)
        training, validation = (
            together(*(measure(task, one, config.seed + 10 * k + j) for j, one in enumerate(part)))
            for k, part in enumerate(patients, start=1)
        )
    return method.learn(task, training, validation, seed=config.seed, folder=folder, resume=True)


def together(*parts: Curves) -> Curves:
    """Return the measurements of several groups of patients as one."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def answer(learnt: Learnt[CurveTask, Curves], curves: Curves, config: Config) -> Answer:
    """Estimate the numbers of some patients."""
    method, task = learnt.method, learnt.task
    if isinstance(method, NeuralPosterior):
        return _distributions(learnt, curves, config)
    with warnings.catch_warnings():
        # The tables show how far off the estimates are.
        warnings.simplefilter("ignore", OutOfModelWarning)
        found = learnt.estimate(curves)
    values = {name: found.readings[name] for name in READINGS if name in found.readings}
    if isinstance(method, PressureTemplate):
        checked = task.check(curves, sees=method.sees)
        systolic = method.scales(learnt.knowledge, checked)
        values["E_max"] = cuff_elastance(systolic, np.asarray(found.readings["ESV"], float))
    elif found.theta is not None:
        values["E_max"] = found.theta[:, task.box.names.index("E_max")]
    kept = {name: np.where(found.success, x, np.nan) for name, x in values.items()}
    return Answer(kept, {}, {})


def _distributions(learnt: Learnt[CurveTask, Curves], curves: Curves, config: Config) -> Answer:
    """Return medians and central 90% of a posterior's draws."""
    posterior = learnt.posterior(curves, draws=config.draws, seed=config.seed)
    predicted = posterior.simulate(READINGS, phases=learnt.task.samples)
    E_max = posterior.parameters()["E_max"]
    failed = ~(posterior.success & predicted.success.any(axis=1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of patients without any draw
        quantiles = {
            name: np.nanquantile(np.where(failed[:, None], np.nan, draws), QUANTILES, axis=1)
            for name, draws in {**predicted.readings, "E_max": E_max}.items()
        }
    low, middle, high = ({name: q[k] for name, q in quantiles.items()} for k in range(3))
    return Answer(middle, low, high, E_max)


def reserve(rest: Answer, stress: Answer) -> Answer:
    """Return the contractile reserve: E_max under dobutamine divided by E_max at rest.

    Draws of the two posteriors are independent, as the errors of the two measurements are.
    """
    ratio = {"reserve": stress.values["E_max"] / rest.values["E_max"]}
    if rest.E_max is None or stress.E_max is None:
        return Answer(ratio, {}, {})
    low, middle, high = np.quantile(stress.E_max / rest.E_max, QUANTILES, axis=1)
    return Answer({"reserve": middle}, {"reserve": low}, {"reserve": high})
